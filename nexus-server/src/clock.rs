//! The two clocks of the centre: boot time for rights, wall time for people.

use jiff::Timestamp;
use nexus_core::time::BootTime;
use nix::time::{ClockId, clock_gettime};

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// What leases and cool-down times are measured with.
    pub boot: BootTime,
    /// What stands in records, in UTC. May jump, so that nothing is decided by it.
    pub wall: Timestamp,
}

impl Now {
    /// Reads both clocks.
    ///
    /// # Errors
    /// If the kernel has no `CLOCK_BOOTTIME` (Linux before 2.6.39).
    pub fn read() -> Result<Self, nix::Error> {
        let time = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
        let whole = u64::try_from(time.tv_sec()).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec()).unwrap_or(0);
        Ok(Self {
            boot: BootTime(whole.saturating_mul(1_000_000_000).saturating_add(nanos)),
            wall: Timestamp::now(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_does_not_go_back() {
        let first = Now::read().unwrap();
        let second = Now::read().unwrap();
        assert!(second.boot >= first.boot);
        assert!(first.boot > BootTime::ZERO);
    }
}
