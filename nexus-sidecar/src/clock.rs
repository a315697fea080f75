//! The clocks of this host: boot time, which boot it is, and the wall clock for what people read.

use nexus_core::time::BootTime;
use nix::time::{ClockId, clock_gettime};

/// Where the kernel says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A clock that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// No boot-time clock.
    #[error("cannot read CLOCK_BOOTTIME: {0}")]
    Boot(#[from] nix::Error),
    /// No boot id.
    #[error("cannot read {BOOT_ID}: {0}; is /proc mounted?")]
    BootId(#[source] std::io::Error),
}

/// `CLOCK_BOOTTIME` now.
///
/// # Errors
/// If the kernel has no such clock.
pub fn boot_now() -> Result<BootTime, ClockError> {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
    let secs = u64::try_from(now.tv_sec()).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec()).unwrap_or(0);
    Ok(BootTime(
        secs.saturating_mul(1_000_000_000).saturating_add(nanos),
    ))
}

/// Which boot this is: another text after every reboot.
///
/// # Errors
/// If /proc is not there.
pub fn boot_id() -> Result<String, ClockError> {
    std::fs::read_to_string(BOOT_ID)
        .map(|text| text.trim().to_owned())
        .map_err(ClockError::BootId)
}

/// The wall clock, RFC 3339 in UTC with milliseconds.
#[must_use]
pub fn wall_now() -> String {
    let now = jiff::Timestamp::now();
    let millis = jiff::Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
    format!("{millis:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_of_this_host_can_be_read() {
        let first = boot_now().unwrap();
        assert!(first > BootTime::ZERO);
        assert!(boot_now().unwrap() >= first);
        assert_eq!(boot_id().unwrap().len(), 36);
        assert!(wall_now().ends_with('Z'));
        assert!(wall_now().parse::<jiff::Timestamp>().is_ok());
    }
}
