//! Time since boot, which all processes of a machine share and nobody can step.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_BOOTTIME`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// Later than everything.
    pub const NEVER: Self = Self(u64::MAX);

    /// Now.
    #[must_use]
    pub fn now() -> Self {
        // The kernel has had this clock since 2.6.39, and it cannot fail where it exists.
        let time = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from);
        Self::of(time.unwrap_or_default())
    }

    /// So long after boot.
    #[must_use]
    pub fn of(time: Duration) -> Self {
        Self(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The beginning of that second.
    #[must_use]
    pub const fn second(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// Time since `earlier`; zero if that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// So much later.
    #[must_use]
    pub fn plus(self, time: Duration) -> Self {
        Self(self.0.saturating_add(Self::of(time).0))
    }

    /// So much earlier.
    #[must_use]
    pub fn minus(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(Self::of(time).0))
    }
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if *self == Self::NEVER {
            return f.write_str("the end");
        }
        write!(f, "{:.3}", Duration::from_nanos(self.0).as_secs_f64())
    }
}
