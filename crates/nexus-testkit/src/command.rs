//! Running a program to its end, with a time limit.

use std::io::{Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::interrupt;

/// Enough for any short command on a busy machine, also on an emulated processor that gets a small part of a real one.
pub const SHORT: Duration = Duration::from_secs(120);

/// A program that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// Runs a command to its end, whatever its exit status.
///
/// # Errors
/// If it cannot be started or does not end within `timeout` (it is killed then).
pub fn run(command: &mut Command, timeout: Duration) -> Result<Finished> {
    run_with_input(command, "", timeout)
}

/// Like [`run`], with `input` on standard input.
///
/// # Errors
/// As [`run`].
pub fn run_with_input(command: &mut Command, input: &str, timeout: Duration) -> Result<Finished> {
    let line = text(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own: Ctrl-C is for us, and we end our children ourselves.
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input may have closed it.
        let _ = stdin.write_all(input.as_bytes());
    }
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);
    let deadline = Instant::now() + timeout;
    let status = loop {
        if let Some(status) = child
            .try_wait()
            .with_context(|| format!("waiting for `{line}`"))?
        {
            break status;
        }
        if interrupt::requested() || Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            interrupt::check()?;
            bail!("`{line}` did not end within {} s", timeout.as_secs_f32());
        }
        thread::sleep(Duration::from_millis(2));
    };
    Ok(Finished {
        status,
        stdout: collected(stdout),
        stderr: collected(stderr),
    })
}

/// Runs a command that must succeed and returns what it wrote to standard output.
///
/// # Errors
/// As [`run`], and if it fails: the error shows the command and what it wrote.
pub fn output(command: &mut Command) -> Result<String> {
    let line = text(command);
    let finished = run(command, SHORT)?;
    if !finished.status.success() {
        bail!(
            "`{line}` failed ({}): {}{}",
            finished.status,
            finished.stderr.trim(),
            finished.stdout.trim()
        );
    }
    Ok(finished.stdout)
}

/// A command as one would type it.
#[must_use]
pub fn text(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// What a reader has collected; a grandchild that keeps the pipe open is not waited for.
fn collected(reader: Option<JoinHandle<String>>) -> String {
    let Some(reader) = reader else {
        return String::new();
    };
    let deadline = Instant::now() + Duration::from_secs(2);
    while !reader.is_finished() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
    if reader.is_finished() {
        reader.join().unwrap_or_default()
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_reported_with_its_words_and_its_complaint() {
        let error = output(Command::new("sh").args(["-c", "echo no such thing >&2; exit 3"]));
        let text = error.unwrap_err().to_string();
        assert!(
            text.contains("sh -c") && text.contains("no such thing"),
            "{text}"
        );
    }

    #[test]
    fn a_command_that_hangs_is_killed() {
        let error = run(Command::new("sleep").arg("600"), Duration::from_millis(50)).unwrap_err();
        assert!(
            error.to_string().contains("`sleep 600` did not end"),
            "{error}"
        );
    }

    #[test]
    fn input_reaches_the_program() {
        let done = run_with_input(&mut Command::new("cat"), "over there", SHORT).unwrap();
        assert_eq!(done.stdout, "over there");
    }
}
