//! Readings of the clocks that rights are measured with: boot time on each host, cluster time in
//! the replicated state machine. Two types, so that one is never taken for the other.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

use serde::{Deserialize, Serialize};

macro_rules! reading {
    ($(#[$doc:meta])* $name:ident, $zero:literal, $nanos:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            #[doc = $zero]
            pub const ZERO: Self = Self(0);
            /// Later than everything.
            pub const MAX: Self = Self(u64::MAX);

            #[doc = concat!("From nanoseconds ", $nanos, ".")]
            #[must_use]
            pub const fn from_nanos(nanos: u64) -> Self {
                Self(nanos)
            }

            #[doc = concat!("Nanoseconds ", $nanos, ".")]
            #[must_use]
            pub const fn as_nanos(self) -> u64 {
                self.0
            }

            /// This moment and `duration`, at most the greatest value.
            #[must_use]
            pub fn saturating_add(self, duration: Duration) -> Self {
                Self(self.0.saturating_add(nanos(duration)))
            }

            /// `duration` before this moment, at least zero.
            #[must_use]
            pub fn saturating_sub(self, duration: Duration) -> Self {
                Self(self.0.saturating_sub(nanos(duration)))
            }

            /// Time from `earlier` to this moment; zero if `earlier` is not earlier.
            #[must_use]
            pub fn since(self, earlier: Self) -> Duration {
                Duration::from_nanos(self.0.saturating_sub(earlier.0))
            }
        }

        impl Add<Duration> for $name {
            type Output = Self;

            fn add(self, duration: Duration) -> Self {
                self.saturating_add(duration)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(
                    f,
                    "{}.{:09}s",
                    self.0 / 1_000_000_000,
                    self.0 % 1_000_000_000
                )
            }
        }
    };
}

reading!(
    /// Nanoseconds of `CLOCK_BOOTTIME` on one machine.
    ///
    /// It runs on while the machine sleeps, never jumps, and means nothing on another machine or
    /// after a reboot. All arithmetic saturates.
    BootTime,
    "The moment of boot.",
    "since boot"
);
reading!(
    /// Nanoseconds of cluster time: the one clock of the replicated state machine.
    ///
    /// The leader stamps each command. On taking office it goes on from the greatest stamp applied so
    /// far, counting on its own boot-time clock; time without a leader does not count. So cluster time
    /// never runs backwards and, but for the drift of one clock, never faster than true time. It
    /// means nothing in another cluster. All arithmetic saturates.
    ClusterTime,
    "When the cluster was founded.",
    "of cluster time since the cluster was founded"
);

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let second = Duration::from_secs(1);
        assert_eq!(BootTime::MAX + second, BootTime::MAX);
        assert_eq!(BootTime::ZERO.saturating_sub(second), BootTime::ZERO);
        assert_eq!(BootTime::ZERO.since(BootTime::MAX), Duration::ZERO);
        assert_eq!(BootTime::ZERO + Duration::MAX, BootTime::MAX);
        assert_eq!(
            (BootTime::from_nanos(5) + second).since(BootTime::from_nanos(5)),
            second
        );
    }
}
