//! A test command whose output is read while the user sees it.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nexus_testkit::command;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::results::Results;
use crate::console;

/// Runs a test command; passes its output on and reads it. Returns what was read and whether the
/// command succeeded. One that takes longer than `limit` is ended, and has failed.
pub fn tee(command: &mut Command, limit: Duration) -> Result<(Results, bool)> {
    let line = command::text(command);
    eprintln!("{}", console::faint(&format!("$ {line}")));
    let mut child = command
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    let group = Pid::from_raw(i32::try_from(child.id()).context("a process id out of range")?);
    let (sender, lines) = mpsc::sync_channel(1024);
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
    }
    let deadline = Instant::now() + limit;
    let mut results = Results::default();
    loop {
        match lines.recv_timeout(Duration::from_millis(200)) {
            Ok(line) => {
                println!("{line}");
                results.read(&line);
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        let interrupted = nexus_testkit::interrupt::requested();
        if interrupted || Instant::now() > deadline {
            let _ = killpg(group, Signal::SIGTERM);
            let _ = child.wait();
            let why = if interrupted {
                "interrupted".to_owned()
            } else {
                format!("took longer than {} minutes", limit.as_secs() / 60)
            };
            results.failures.push(format!("`{line}`: {why}"));
            results.counts.failed += 1;
            return Ok((results, false));
        }
    }
    let status = child
        .wait()
        .with_context(|| format!("waiting for `{line}`"))?;
    Ok((results, status.success()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::results::Counts;

    fn run_script(script: &str) -> (Results, bool) {
        let limit = Duration::from_secs(60);
        tee(Command::new("sh").args(["-c", script]), limit).unwrap()
    }

    #[test]
    fn the_output_of_a_command_is_read_while_it_is_passed_on() {
        let (results, success) =
            run_script("echo 'test result: FAILED. 2 passed; 1 failed; 3 ignored; 0'; exit 101");
        assert_eq!(
            results.counts,
            Counts {
                passed: 2,
                failed: 1,
                skipped: 3
            }
        );
        assert!(!success);
    }
}
