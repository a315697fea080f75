//! A wall clock of a node's own, which can be stepped while the node runs. What counts time since boot stays right, as
//! it does when an administrator or NTP steps a real clock.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

/// Where Debian's `libfaketime` lies, for each processor that Debian calls by its name.
const LIBRARIES: &[&str] = &[
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
];

/// The clock.
#[derive(Clone, Debug)]
pub struct Clock {
    file: PathBuf,
    library: PathBuf,
}

impl Clock {
    /// A clock that is right for now.
    ///
    /// # Errors
    /// If `libfaketime` is not installed, or the file cannot be written.
    pub fn create(directory: &Path) -> Result<Self> {
        let library = LIBRARIES
            .iter()
            .map(PathBuf::from)
            .find(|library| library.is_file())
            .context("libfaketime is missing: run `cargo xtask prepare`, or install the Debian package faketime")?;
        let clock = Self {
            file: directory.join("clock"),
            library,
        };
        clock.step(0)?;
        Ok(clock)
    }

    /// From now on (within a second) the clock is so many seconds away from the real one.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn step(&self, seconds: i64) -> Result<()> {
        // Written aside and moved, so that nobody reads half of it.
        let aside = self.file.with_extension("new");
        std::fs::write(&aside, format!("{seconds:+}\n"))
            .and_then(|()| std::fs::rename(&aside, &self.file))
            .with_context(|| format!("cannot write {}", self.file.display()))
    }

    /// Makes a program that is started with `command` live by this clock.
    pub fn apply(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_CACHE_DURATION", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1");
    }

    /// Removes what the library of a process that was killed has left.
    pub fn sweep(pid: u32) {
        for name in [
            format!("/dev/shm/faketime_shm_{pid}"),
            format!("/dev/shm/sem.faketime_sem_{pid}"),
        ] {
            let _ = std::fs::remove_file(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command;

    #[test]
    #[ignore = "needs root: uses what `cargo xtask prepare` installs"]
    fn a_step_moves_the_wall_clock_of_a_program_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::create(directory.path()).unwrap();
        let date = |faked: bool| -> i64 {
            let mut date = Command::new("date");
            date.arg("+%s");
            if faked {
                clock.apply(&mut date);
            }
            command::output(&mut date).unwrap().trim().parse().unwrap()
        };
        for step in [0_i64, 3600, -3600] {
            clock.step(step).unwrap();
            let (before, faked, after) = (date(false), date(true), date(false));
            assert!(
                (before..=after).contains(&(faked - step)),
                "{step}: {faked}"
            );
        }
    }
}
