//! The clocks of this host: boot time, which boot it is, and the wall clock for what people read.

use std::time::Duration;

use nexus_core::time::BootTime;
use nix::time::{ClockId, clock_gettime};

/// Where the kernel says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// What the first hardware clock shows (`Documentation/admin-guide/rtc.rst` of Linux).
const HARDWARE: &str = "/sys/class/rtc/rtc0/since_epoch";

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

/// The battery-backed hardware clock, seconds since 1970; `None`: there is none, or it has lost its time and says so.
#[must_use]
pub fn hardware_secs() -> Option<u64> {
    std::fs::read_to_string(HARDWARE).ok()?.trim().parse().ok()
}

/// The wall clock, milliseconds since 1970.
#[must_use]
pub fn wall_millis() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// How far the wall clock may run ahead of the boot clock on top of 1%: it is set by steps and slews.
const AHEAD: Duration = Duration::from_secs(2);

/// Compares the boot clock with the wall clock since the lease was renewed. A machine that was paused as a whole (a
/// virtual one, or its image) has a boot clock that stood still, and so would the lease on it; once somebody sets
/// its wall clock, that shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    since: Option<(BootTime, i64)>,
}

impl Watch {
    /// The lease was renewed.
    pub const fn renewed(&mut self, now: BootTime, wall_millis: i64) {
        self.since = Some((now, wall_millis));
    }

    /// How far the wall clock has run ahead, if that is more than clocks do. Said once, until the next renewal.
    pub fn ran_ahead(&mut self, now: BootTime, wall_millis: i64) -> Option<Duration> {
        let (since, then) = self.since?;
        let boot = now.since(since);
        let wall = Duration::from_millis(u64::try_from(wall_millis.saturating_sub(then)).ok()?);
        let ahead = wall.checked_sub(boot)?;
        if ahead <= boot / 100 + AHEAD {
            return None;
        }
        self.since = None;
        Some(ahead)
    }
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
    fn a_wall_clock_that_runs_ahead_of_the_boot_clock_is_noticed_once() {
        let at = |secs: u64| BootTime::ZERO + Duration::from_secs(secs);
        let mut watch = Watch::default();
        assert_eq!(
            watch.ran_ahead(at(1), 99_000_000),
            None,
            "nothing to compare"
        );
        watch.renewed(at(100), 1_000_000);
        for (boot, wall) in [(100, 1_002_000), (200, 1_103_000), (1100, 2_011_900)] {
            assert_eq!(watch.ran_ahead(at(boot), wall), None, "{boot}");
        }
        // Set back: nothing was missed.
        assert_eq!(watch.ran_ahead(at(1200), 500_000), None);
        let ahead = watch.ran_ahead(at(200), 1_200_000);
        assert_eq!(ahead, Some(Duration::from_secs(100)));
        assert_eq!(watch.ran_ahead(at(201), 1_201_000), None);
    }

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
