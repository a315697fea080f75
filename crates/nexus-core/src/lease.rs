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
/// How long acknowledged allocations stay reserved behind the end of the lease, if the configuration does
/// not say.
pub const DEFAULT_RECLAIM_AFTER: Duration = Duration::from_secs(7 * 86_400);
/// Shortest and longest such time, if there is an end.
pub const RECLAIM_BOUNDS: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(3650 * 86_400));
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

/// How long what the centre has acknowledged outlives the lease: a promise to the host, counted by the host as
/// [`holder_end`] from the end of the lease as the host counts it, by the centre as [`grantor_end`] from the
/// end as the centre counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keeping {
    /// `None`: without an end.
    pub after: Option<Duration>,
    /// Number of the rule that says so, from 1; 0: nothing is said. A host that repeats the newest number counts
    /// under that rule, and never again under an older one that keeps for longer.
    pub rule: u64,
}

impl Keeping {
    /// What a host counts under that is told this next. A rule that is older than the one before, in an answer that was
    /// overtaken, may only make it shorter.
    #[must_use]
    pub fn followed_by(self, next: Self) -> Self {
        if next.rule >= self.rule {
            return next;
        }
        let after = match (self.after, next.after) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        Self { after, ..next }
    }

    /// Until when a host keeps what is acknowledged; `None`: without an end.
    #[must_use]
    pub fn holder_end(self, lease_until: BootTime) -> Option<BootTime> {
        self.after.map(|after| holder_end(lease_until, after))
    }
}

/// What the centre grants a host with each answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Length of the lease.
    pub lease: Duration,
    /// What outlives it.
    pub keeping: Keeping,
}

impl From<Duration> for Terms {
    /// A lease behind which nothing is said to end.
    fn from(lease: Duration) -> Self {
        Self {
            lease,
            keeping: Keeping::default(),
        }
    }
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
    /// What is acknowledged ends too soon or too late after the lease.
    #[error(
        "reclaim_after of {0:?} is out of bounds: choose 1s to 3650d (7d is the default), or `never`"
    )]
    Reclaim(Duration),
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
    reclaim_after: Option<Duration>,
}

/// A rule as it is written, not checked yet.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Lengths {
    length: Duration,
    heartbeat: Duration,
    #[serde(default = "default_reclaim_after")]
    reclaim_after: Option<Duration>,
}

// As serde wants it.
#[allow(clippy::unnecessary_wraps)]
const fn default_reclaim_after() -> Option<Duration> {
    Some(DEFAULT_RECLAIM_AFTER)
}

impl TryFrom<Lengths> for LeaseRule {
    type Error = LeaseError;

    fn try_from(lengths: Lengths) -> Result<Self, LeaseError> {
        Self::new(lengths.length, lengths.heartbeat)?.reclaiming_after(lengths.reclaim_after)
    }
}

impl From<LeaseRule> for Lengths {
    fn from(rule: LeaseRule) -> Self {
        Self {
            length: rule.length,
            heartbeat: rule.heartbeat,
            reclaim_after: rule.reclaim_after,
        }
    }
}

impl Default for LeaseRule {
    fn default() -> Self {
        Self {
            length: DEFAULT_LEASE,
            heartbeat: DEFAULT_HEARTBEAT,
            reclaim_after: Some(DEFAULT_RECLAIM_AFTER),
        }
    }
}

impl LeaseRule {
    /// Checks that a lease of `length` goes with a heartbeat every `heartbeat`; what is acknowledged outlives it by
    /// [`DEFAULT_RECLAIM_AFTER`].
    ///
    /// # Errors
    /// Why not.
    pub fn new(length: Duration, heartbeat: Duration) -> Result<Self, LeaseError> {
        let (shortest, longest) = LEASE_BOUNDS;
        if length < shortest || length > longest {
            return Err(LeaseError::Length(length));
        }
        if heartbeat < Duration::from_millis(10) {
            return Err(LeaseError::Heartbeat);
        }
        let rule = Self {
            length,
            heartbeat,
            reclaim_after: Some(DEFAULT_RECLAIM_AFTER),
        };
        if holder_end(BootTime::ZERO, length) <= BootTime::ZERO + rule.offline_after() {
            return Err(LeaseError::TooShort {
                lease: length,
                heartbeat,
            });
        }
        Ok(rule)
    }

    /// The same with another time for which what is acknowledged outlives the lease; `None`: it has no end.
    ///
    /// # Errors
    /// [`LeaseError::Reclaim`].
    pub fn reclaiming_after(self, reclaim_after: Option<Duration>) -> Result<Self, LeaseError> {
        let (shortest, longest) = RECLAIM_BOUNDS;
        match reclaim_after {
            Some(after) if after < shortest || after > longest => Err(LeaseError::Reclaim(after)),
            reclaim_after => Ok(Self {
                reclaim_after,
                ..self
            }),
        }
    }

    /// How long what is acknowledged outlives the lease; `None`: it has no end.
    #[must_use]
    pub const fn reclaim_after(&self) -> Option<Duration> {
        self.reclaim_after
    }

    /// When what is acknowledged may be given to others if a lease surely ends at `lease_end`.
    #[must_use]
    pub fn reclaim_end(&self, lease_end: ClusterTime) -> Option<ClusterTime> {
        self.reclaim_after
            .map(|after| grantor_end(lease_end, after))
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

    #[test]
    fn an_older_rule_may_only_make_what_is_kept_shorter() {
        let keeping = |after: Option<u64>, rule| Keeping {
            after: after.map(Duration::from_secs),
            rule,
        };
        let newer = keeping(Some(5), 2);
        assert_eq!(newer.followed_by(keeping(None, 3)), keeping(None, 3));
        assert_eq!(newer.followed_by(keeping(Some(9), 1)), keeping(Some(5), 1));
        assert_eq!(newer.followed_by(keeping(None, 1)), keeping(Some(5), 1));
        assert_eq!(
            keeping(None, 2).followed_by(keeping(Some(9), 1)),
            keeping(Some(9), 1)
        );
    }

    #[test]
    fn what_is_acknowledged_outlives_the_lease_for_seven_days_unless_the_rule_says_otherwise() {
        let s = Duration::from_secs;
        let rule = LeaseRule::new(s(100), s(1)).unwrap();
        assert_eq!(rule.reclaim_after(), Some(s(7 * 86_400)));
        let never = rule.reclaiming_after(None).unwrap();
        assert_eq!(never.reclaim_end(ClusterTime::ZERO), None);
        let short = rule.reclaiming_after(Some(s(1000))).unwrap();
        let kept = short.reclaim_end(ClusterTime::ZERO).unwrap();
        assert_eq!(kept.since(ClusterTime::ZERO), s(1015));
        assert!(matches!(
            rule.reclaiming_after(Some(Duration::ZERO)),
            Err(LeaseError::Reclaim(_))
        ));
        assert_eq!(LeaseRule::try_from(Lengths::from(never)), Ok(never));
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

        /// As above, for what outlives the lease.
        #[test]
        fn in_true_time_what_is_acknowledged_ends_before_it_is_given_to_others(
            length_ms in 1u64..=90 * 86_400_000,
            after_ms in 1000u64..=3650 * 86_400_000,
            holder_rate in 990_000u128..=1_010_000,
            grantor_rate in 990_000u128..=1_010_000,
        ) {
            let (length, after) = (Duration::from_millis(length_ms), Duration::from_millis(after_ms));
            let keeping = Keeping { after: Some(after), rule: 1 };
            let held = keeping.holder_end(holder_end(BootTime::ZERO, length)).unwrap();
            let rule = LeaseRule::default().reclaiming_after(Some(after)).unwrap();
            let kept = rule.reclaim_end(grantor_end(ClusterTime::ZERO, length)).unwrap();
            let stops = held.since(BootTime::ZERO).as_nanos() * 1_000_000 / holder_rate;
            let goes_on = kept.since(ClusterTime::ZERO).as_nanos() * 1_000_000 / grantor_rate;
            prop_assert!(stops < goes_on, "{stops} {goes_on}");
        }
    }
}
