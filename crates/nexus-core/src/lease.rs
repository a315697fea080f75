//! How long a lease lasts for the side that holds it and for the side that granted it.
//!
//! The holder measures on its boot-time clock, the grantor in cluster time, which leaders count one
//! after another on theirs; each of these clocks may run up to 1% fast or slow, and time that no
//! leader counts makes the grantor wait longer. The holder counts from the moment it *sent* the renewal and stops early; the grantor counts from
//! the moment it *accepted* it and waits longer. Sending comes before accepting, so that in true
//! time the holder has always stopped before the grantor goes on, whatever the network does.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::time::{BootTime, ClusterTime};

/// How much a clock may be wrong, in thousandths of the time measured.
pub const DRIFT_PER_MILLE: u32 = 10;
/// What the grantor waits on top of everything else.
pub const GUARD: Duration = Duration::from_secs(5);
/// Length of a lease, if the configuration does not say.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(24 * 3600);
/// Time between two heartbeats, if the configuration does not say.
pub const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(30);
/// Heartbeats that an OLT misses before it counts as offline.
pub const MISSED_HEARTBEATS: u32 = 3;
/// Shortest and longest lease.
pub const LEASE_BOUNDS: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(90 * 86_400));

/// When the right of a holder ends on the holder's clock: `sent` + 99% of `length`.
#[must_use]
pub fn holder_end(sent: BootTime, length: Duration) -> BootTime {
    sent + length.saturating_sub(margin(length))
}

/// When the grantor may give the right to another, in cluster time: `accepted` + 101% of
/// `length` + [`GUARD`].
#[must_use]
pub fn grantor_end(accepted: ClusterTime, length: Duration) -> ClusterTime {
    accepted + length + margin(length) + GUARD
}

fn margin(length: Duration) -> Duration {
    // Rounded up, because a margin that is a nanosecond short is none.
    let nanos = length
        .as_nanos()
        .saturating_mul(u128::from(DRIFT_PER_MILLE))
        .div_ceil(1000);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Why lengths of lease and heartbeat do not go together.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum LeaseError {
    /// The lease is out of [`LEASE_BOUNDS`].
    #[error("a lease of {0:?} is out of bounds: choose 1s to 90d (24h is the default)")]
    Length(Duration),
    /// The heartbeat is zero.
    #[error(
        "a heartbeat interval of zero is not possible: choose at least 10ms (30s is the default)"
    )]
    Heartbeat,
    /// An OLT would lose its lease before it counts as offline.
    #[error(
        "a lease of {lease:?} is too short for a heartbeat every {heartbeat:?}: it must last more than {MISSED_HEARTBEATS} heartbeats"
    )]
    TooShort {
        /// Length of the lease.
        lease: Duration,
        /// Time between two heartbeats.
        heartbeat: Duration,
    },
}

/// The lengths that one cluster works with, checked against each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Lengths", into = "Lengths")]
pub struct LeaseRule {
    length: Duration,
    heartbeat: Duration,
}

/// A rule as it is written, not checked yet.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Lengths {
    length: Duration,
    heartbeat: Duration,
}

impl TryFrom<Lengths> for LeaseRule {
    type Error = LeaseError;

    fn try_from(lengths: Lengths) -> Result<Self, LeaseError> {
        Self::new(lengths.length, lengths.heartbeat)
    }
}

impl From<LeaseRule> for Lengths {
    fn from(rule: LeaseRule) -> Self {
        Self {
            length: rule.length,
            heartbeat: rule.heartbeat,
        }
    }
}

impl Default for LeaseRule {
    fn default() -> Self {
        Self {
            length: DEFAULT_LEASE,
            heartbeat: DEFAULT_HEARTBEAT,
        }
    }
}

impl LeaseRule {
    /// Checks that a lease of `length` goes with a heartbeat every `heartbeat`.
    pub fn new(length: Duration, heartbeat: Duration) -> Result<Self, LeaseError> {
        let (shortest, longest) = LEASE_BOUNDS;
        if length < shortest || length > longest {
            return Err(LeaseError::Length(length));
        }
        if heartbeat < Duration::from_millis(10) {
            return Err(LeaseError::Heartbeat);
        }
        let rule = Self { length, heartbeat };
        if holder_end(BootTime::ZERO, length) <= BootTime::ZERO + rule.offline_after() {
            return Err(LeaseError::TooShort {
                lease: length,
                heartbeat,
            });
        }
        Ok(rule)
    }

    /// Length of a lease.
    #[must_use]
    pub const fn length(&self) -> Duration {
        self.length
    }

    /// Time between two heartbeats.
    #[must_use]
    pub const fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// Silence after which an OLT counts as offline.
    #[must_use]
    pub fn offline_after(&self) -> Duration {
        self.heartbeat.saturating_mul(MISSED_HEARTBEATS)
    }

    /// See [`grantor_end`].
    #[must_use]
    pub fn grantor_end(&self, accepted: ClusterTime) -> ClusterTime {
        grantor_end(accepted, self.length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_holder_stops_at_99_percent_and_the_grantor_waits_101_percent_and_the_guard() {
        let length = Duration::from_secs(100);
        let start = BootTime::from_nanos(7);
        assert_eq!(
            holder_end(start, length).since(start),
            Duration::from_secs(99)
        );
        let start = ClusterTime::from_nanos(7);
        assert_eq!(
            grantor_end(start, length).since(start),
            Duration::from_secs(106)
        );
    }

    #[test]
    fn lengths_that_do_not_go_together_are_refused() {
        let s = Duration::from_secs;
        assert!(LeaseRule::new(s(10), s(1)).is_ok());
        assert!(matches!(
            LeaseRule::new(s(3), s(1)),
            Err(LeaseError::TooShort { .. })
        ));
        assert!(matches!(
            LeaseRule::new(s(0), s(1)),
            Err(LeaseError::Length(_))
        ));
        assert!(matches!(
            LeaseRule::new(s(100 * 86_400), s(1)),
            Err(LeaseError::Length(_))
        ));
        assert!(matches!(
            LeaseRule::new(s(10), s(0)),
            Err(LeaseError::Heartbeat)
        ));
        let default = LeaseRule::default();
        assert_eq!(
            LeaseRule::new(default.length(), default.heartbeat()),
            Ok(default)
        );
    }

    proptest! {
        /// True time runs from 0; both clocks run at a constant rate of 0.99 to 1.01 of it.
        #[test]
        fn in_true_time_the_holder_stops_before_the_grantor_goes_on(
            length_ms in 1u64..=90 * 86_400_000,
            holder_rate in 990_000u128..=1_010_000,
            grantor_rate in 990_000u128..=1_010_000,
            transit_ms in 0u64..=3_600_000,
        ) {
            let length = Duration::from_millis(length_ms);
            let held = holder_end(BootTime::ZERO, length).since(BootTime::ZERO);
            let kept = grantor_end(ClusterTime::ZERO, length).since(ClusterTime::ZERO);
            let stops = held.as_nanos() * 1_000_000 / holder_rate;
            let goes_on =
                u128::from(transit_ms) * 1_000_000 + kept.as_nanos() * 1_000_000 / grantor_rate;
            prop_assert!(stops < goes_on, "{stops} {goes_on}");
        }
    }
}
