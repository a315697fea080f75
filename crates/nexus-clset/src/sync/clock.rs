//! Watching the own wall clock: peers say theirs, and who is alone with his time is wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::sync::Now;
use crate::sync::report::ClockReport;
use crate::version::NodeId;

/// A clock that is off by more is told of.
const TELL: i64 = 500;

/// A node whose clock is off by more is not written to.
const REFUSE: i64 = 2000;

/// What a peer said about its clock counts for so long.
const FRESH: Duration = Duration::from_secs(120);

/// An answer that took longer says too little about a clock: it may be wrong by half of this.
const MAX_ROUND_TRIP: Duration = Duration::from_millis(600);

/// A clock that ran ahead is told of again after so long.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// What peers said about the time.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// Of each peer: its wall clock less our boot clock in milliseconds, and when that was.
    samples: BTreeMap<NodeId, (i64, Duration)>,
    /// Stamps that were not followed, and by whom the last one came.
    refused_stamps: u64,
    farthest: Option<(NodeId, Duration)>,
    told_stamps: Option<Duration>,
    /// What was told last.
    told: Option<bool>,
}

/// Why a node must not be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WritesRefused {
    /// By how many milliseconds the wall clock is ahead of that of most peers; below 0 if it is behind.
    pub ahead_millis: i64,
}

impl fmt::Display for WritesRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.ahead_millis < 0 {
            "behind"
        } else {
            "ahead of"
        };
        write!(
            f,
            "this node's wall clock is {} ms {side} that of most other members: writes are refused here until it is right again; look after time synchronisation (NTP), or write to another node",
            self.ahead_millis.unsigned_abs()
        )
    }
}

/// Something about clocks that an operator wants to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockNotice {
    /// The own clock is off by this many milliseconds (ahead, or behind if below 0); whether writes are
    /// refused because of it.
    Off {
        /// By how much.
        ahead_millis: i64,
        /// Whether writes are refused.
        refused: bool,
    },
    /// It is right again.
    RightAgain,
    /// Stamps came that lie far ahead of the own clock: one of the two is wrong. They count, but are not
    /// followed.
    FarAhead {
        /// From whom.
        from: NodeId,
        /// By how much.
        lead: Duration,
    },
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Guard {
    /// A peer was asked at `asked` and said its wall clock.
    pub(super) fn sample(&mut self, peer: NodeId, asked: Now, now: Now, wall: crate::UnixMillis) {
        let round_trip = now.boot.saturating_sub(asked.boot);
        if round_trip > MAX_ROUND_TRIP {
            return;
        }
        let middle = asked.boot.saturating_add(round_trip / 2);
        let wall = i64::try_from(wall.0).unwrap_or(i64::MAX);
        let offset = wall.saturating_sub(millis(middle));
        self.samples.insert(peer, (offset, now.boot));
    }

    pub(super) fn refused_stamp(&mut self, from: NodeId, lead: Duration) {
        self.refused_stamps = self.refused_stamps.saturating_add(1);
        if self.farthest.is_none_or(|(_, farthest)| farthest < lead) {
            self.farthest = Some((from, lead));
        }
    }

    pub(super) fn forget(&mut self, peer: NodeId) {
        self.samples.remove(&peer);
    }

    /// How far ahead of each peer that spoke lately this clock is, in order.
    fn leads(&self, now: Now) -> Vec<i64> {
        let wall = i64::try_from(now.wall.0).unwrap_or(i64::MAX);
        let own = wall.saturating_sub(millis(now.boot));
        let fresh = |at: &Duration| now.boot.saturating_sub(*at) <= FRESH;
        let mut leads: Vec<i64> = self
            .samples
            .values()
            .filter(|(_, at)| fresh(at))
            .map(|(offset, _)| own.saturating_sub(*offset))
            .collect();
        leads.sort_unstable();
        leads
    }

    /// By how much this clock is ahead of the median of its peers'.
    fn ahead(&self, now: Now) -> Option<i64> {
        let leads = self.leads(now);
        middle(&leads)
    }

    /// As [`ahead`](Self::ahead), this clock being one of those that are asked: of two that differ nobody
    /// can say which is wrong, so writes are refused only where at least two agree against it.
    fn outvoted_by(&self, now: Now) -> i64 {
        let mut leads = self.leads(now);
        leads.push(0);
        leads.sort_unstable();
        middle(&leads).unwrap_or(0)
    }

    pub(super) fn refused(&self, now: Now) -> Option<WritesRefused> {
        let ahead_millis = self.outvoted_by(now);
        (ahead_millis.saturating_abs() > REFUSE).then_some(WritesRefused { ahead_millis })
    }

    /// What is new since this was asked last.
    pub(super) fn notices(&mut self, now: Now) -> Vec<ClockNotice> {
        let mut out = Vec::new();
        let ahead_millis = self.ahead(now).unwrap_or(0);
        let off = ahead_millis.saturating_abs() > TELL;
        let refused = self.refused(now).is_some();
        let state = off.then_some(refused);
        if state != self.told {
            out.push(match state {
                Some(refused) => ClockNotice::Off {
                    ahead_millis,
                    refused,
                },
                None => ClockNotice::RightAgain,
            });
            self.told = state;
        }
        let rested = self
            .told_stamps
            .is_none_or(|at| now.boot.saturating_sub(at) >= TELL_AGAIN);
        if rested && let Some((from, lead)) = self.farthest.take() {
            self.told_stamps = Some(now.boot);
            out.push(ClockNotice::FarAhead { from, lead });
        }
        out
    }

    pub(super) fn report(&self, now: Now) -> ClockReport {
        ClockReport {
            ahead_millis: self.ahead(now),
            refused_stamps: self.refused_stamps,
            writes_refused: self.refused(now),
        }
    }
}

/// The middle one of some numbers in order; of two, the one closer to 0.
fn middle(sorted: &[i64]) -> Option<i64> {
    let upper = sorted.get(sorted.len() / 2).copied()?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = sorted
        .get((sorted.len() / 2).saturating_sub(1))
        .copied()
        .unwrap_or(upper);
    let closer = lower.saturating_abs() <= upper.saturating_abs();
    Some(if closer { lower } else { upper })
}
