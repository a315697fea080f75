//! Long-running children: a log that can be waited on, an end that always comes.

use std::fs::File;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{command, interrupt};

/// A child process. It is terminated by its own id when this is dropped.
#[derive(Debug)]
pub struct Process {
    label: String,
    child: Option<Child>,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; both its outputs go to the file `log`, appended.
    ///
    /// # Errors
    /// If the log cannot be opened or the program cannot be started.
    pub fn spawn(label: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let out = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot open the log {}", log.display()))?;
        let err = out
            .try_clone()
            .context("cannot duplicate the log's descriptor")?;
        let line = command::text(command);
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {label}: `{line}`"))?;
        Ok(Self {
            label: label.to_owned(),
            child: Some(child),
            log: log.to_owned(),
        })
    }

    /// What it is called in messages.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Its process id; 0 if it was left running or has been waited for.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// The file that it writes to.
    #[must_use]
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// Everything it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        read_log(&self.log)
    }

    /// The last `count` lines it has written.
    #[must_use]
    pub fn log_tail(&self, count: usize) -> String {
        last_lines(&self.log(), count)
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// If the kernel cannot tell.
    pub fn is_running(&mut self) -> Result<bool> {
        match &mut self.child {
            None => Ok(false),
            Some(child) => Ok(child
                .try_wait()
                .context("cannot ask for a child's state")?
                .is_none()),
        }
    }

    /// Waits until `ready` yields a value; fails early, with the end of the log, if the process ends.
    ///
    /// # Errors
    /// As [`interrupt::wait_until`], with the end of the log.
    pub fn wait_until<T>(
        &mut self,
        what: &str,
        timeout: Duration,
        mut ready: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let label = self.label.clone();
        let result = interrupt::wait_until(&format!("{label}: {what}"), timeout, || {
            let value = ready()?;
            if value.is_none() && !self.is_running()? {
                bail!("{label} ended before: {what}");
            }
            Ok(value)
        });
        result.map_err(|error| anyhow!("{error:#}; the end of its log:\n{}", self.log_tail(15)))
    }

    /// Waits until a line of the log contains `text`, and returns that line.
    ///
    /// # Errors
    /// As [`Process::wait_until`].
    pub fn wait_for_line(&mut self, text: &str, timeout: Duration) -> Result<String> {
        let log = self.log.clone();
        self.wait_until(&format!("a line with \"{text}\""), timeout, || {
            let written = std::fs::read(&log).unwrap_or_default();
            let written = String::from_utf8_lossy(&written);
            Ok(written
                .lines()
                .find(|line| line.contains(text))
                .map(str::to_owned))
        })
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid()).unwrap_or(0);
        if pid == 0 {
            bail!("{} does not run", self.label);
        }
        kill(Pid::from_raw(pid), signal)
            .with_context(|| format!("cannot send {signal} to {}", self.label))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it does not end within `timeout`.
    pub fn wait_exit(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let label = self.label.clone();
        interrupt::wait_until(
            &format!("the end of {label}"),
            timeout,
            || match &mut self.child {
                None => Ok(Some(ExitStatus::from_raw(0))),
                Some(child) => child.try_wait().context("cannot ask for a child's state"),
            },
        )
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// If it was gone already.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.wait_exit(command::SHORT)?;
        self.child = None;
        Ok(())
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// If it was gone already, or does not end within `timeout`.
    pub fn terminate(&mut self, timeout: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        let status = self.wait_exit(timeout)?;
        self.child = None;
        Ok(status)
    }

    /// Gives it up: it goes on running when this is dropped. Returns its process id.
    pub fn leave_running(&mut self) -> u32 {
        let pid = self.pid();
        self.child = None;
        pid
    }
}

/// All that stands in a log; nothing if there is none.
#[must_use]
pub fn read_log(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The last `count` lines of a text.
#[must_use]
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(count);
    lines.get(from..).unwrap_or_default().join("\n")
}

impl Drop for Process {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        if matches!(child.try_wait(), Ok(Some(_))) {
            return;
        }
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        let _ = kill(pid, Signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(3);
        while Instant::now() < deadline {
            if matches!(child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(script: &str) -> (Process, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        (
            Process::spawn("the script", &mut command, &dir.path().join("log")).unwrap(),
            dir,
        )
    }

    #[test]
    fn a_line_can_be_waited_for() {
        let (mut process, _dir) = start("echo one; echo two is here; exec sleep 600");
        let line = process.wait_for_line("two", command::SHORT).unwrap();
        assert_eq!(line, "two is here");
    }

    #[test]
    fn a_process_that_ends_too_early_is_reported_with_its_last_words() {
        let (mut process, _dir) = start("echo cannot open the door; exit 1");
        let error = process.wait_for_line("ready", command::SHORT).unwrap_err();
        assert!(
            format!("{error:#}").contains("cannot open the door"),
            "{error:#}"
        );
    }

    #[test]
    fn a_dropped_process_is_gone_even_if_it_ignores_sigterm() {
        let (mut process, _dir) = start("trap '' TERM; echo ready; while :; do sleep 0.1; done");
        process.wait_for_line("ready", command::SHORT).unwrap();
        let pid = Pid::from_raw(i32::try_from(process.pid()).unwrap());
        drop(process);
        assert!(kill(pid, None).is_err());
    }
}
