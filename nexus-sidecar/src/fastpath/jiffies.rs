//! The kernel's jiffies, in which it says when a client was last seen.

use aya::Ebpf;
use aya::programs::{TestRun as _, TestRunOptions};
use nexus_abi::CLOCK_PROGRAM;
use nix::time::{ClockId, clock_getres};

use super::instance::named;
use super::{FastPath, FastPathError};

/// What the kernel counts time in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jiffies {
    /// Their low 32 bits now.
    pub now: u32,
    /// How many there are in a second.
    pub per_sec: u32,
}

/// Jiffies per second: the resolution of the coarse clock is one of them.
pub(super) fn per_sec() -> Result<u32, FastPathError> {
    let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map_err(FastPathError::Clock)?;
    let nanos = u64::try_from(tick.tv_nsec()).unwrap_or(0).max(1);
    Ok(u32::try_from((1_000_000_000 + nanos / 2) / nanos).unwrap_or(u32::MAX))
}

impl FastPath {
    /// The kernel's jiffies now.
    ///
    /// # Errors
    /// If the kernel does not run the program that reads them.
    pub fn jiffies(&mut self) -> Result<Jiffies, FastPathError> {
        let per_sec = self.hz;
        let now = read(self.clock()?)?;
        Ok(Jiffies { now, per_sec })
    }
}

pub(super) fn load(object: &mut Ebpf) -> Result<(), FastPathError> {
    named(object, CLOCK_PROGRAM)?
        .load()
        .map_err(FastPathError::verifying)
}

fn read(object: &mut Ebpf) -> Result<u32, FastPathError> {
    let mut after = [0; 64];
    named(object, CLOCK_PROGRAM)?
        .test_run(TestRunOptions {
            data_in: Some(&[0; 64]),
            data_out: Some(&mut after),
            ..TestRunOptions::default()
        })
        .map_err(FastPathError::verifying)?;
    let [a, b, c, d, ..] = after;
    Ok(u32::from_le_bytes([a, b, c, d]))
}
