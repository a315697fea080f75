//! How long acknowledged bindings are served once the centre is not heard any more.
//!
//! The lease says what may be given anew. What the centre has acknowledged outlives it by `reclaim_after`
//! ([`Keeping`]), so that a host that is cut off goes on for days; then it is over, because the centre gives it to others. The
//! end stands in each entry of the kernel's map, so that it holds for a process that hangs as well. It moves on with every
//! renewal, but the entries are many: an entry is written anew only when half of its time has passed, and a slice of them is
//! looked at with each tick.
//!
//! | | acknowledged bindings |
//! |---|---|
//! | up to the end | are served, with and without a lease |
//! | the end has come | are not served, and nobody gets them, until a renewal came and the centre's records were read after it |
//! | this host was booted | go on to the end, if the hardware clock says for how long it was off; else it counts as come |
//! | no end was said (`never`, or a server of an older version) | are served |

use std::ops::Bound;
use std::time::Duration;

use super::holding::NEVER;
use super::{Action, Edge, Effects, Kind, LeaseRow, Note, Validity, Who};
use crate::lease::Keeping;
use crate::time::BootTime;

/// Entries that one tick looks at at least.
const SLICE: usize = 4096;
/// A round through all entries takes no longer than this part of the time that is left.
const ROUND_PART: u64 = 8;

/// How often the hardware clock is looked at, at most.
const LOOK_AFTER: Duration = Duration::from_secs(60);
/// What the time between two looks at the hardware clock may be longer than it says, beside 1%.
const AWAY_MARGIN: Duration = Duration::from_secs(120);

/// What the clocks of a host show when a process starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// The boot-time clock.
    pub boot: BootTime,
    /// The battery-backed hardware clock, in seconds since 1970, if there is one. Not the wall clock: without a battery
    /// that one goes on from where it was when the host went off.
    pub hardware: Option<u64>,
}

impl From<BootTime> for Clocks {
    fn from(boot: BootTime) -> Self {
        let hardware = None;
        Self { boot, hardware }
    }
}

/// What the hardware clock showed, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Seen {
    /// Seconds since 1970.
    pub hardware: u64,
    /// By the boot-time clock, just after it was read.
    pub at: BootTime,
}

impl Seen {
    /// How much time has passed since, at most. `None`: there is no such clock now, or it has lost its time.
    fn passed(self, now: Clocks) -> Option<Duration> {
        let passed = Duration::from_secs(now.hardware?.checked_sub(self.hardware)?);
        let margin = (passed / 100).saturating_add(AWAY_MARGIN);
        Some(passed.saturating_add(margin))
    }
}

/// What was promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Kept {
    /// The rule that it is counted under.
    pub keeping: Keeping,
    /// End, by this host's clock; `None`: no end.
    pub until: Option<BootTime>,
    /// The hardware clock, as it was read last.
    #[serde(default)]
    pub seen: Option<Seen>,
}

impl Kept {
    fn promised(self, lease: LeaseRow, next: Keeping) -> Self {
        let keeping = self.keeping.followed_by(next);
        let until = keeping.holder_end(lease.until);
        Self {
            keeping,
            until,
            ..self
        }
    }

    /// After a reboot. A hardware clock that is behind what it showed before has lost its time, and nothing says for how
    /// long this host was off.
    pub(super) fn rebooted(self, now: Clocks) -> Self {
        let left = || {
            let (until, seen) = (self.until?, self.seen?);
            until.since(seen.at).checked_sub(seen.passed(now)?)
        };
        let end = left().map_or(BootTime::ZERO, |left| now.boot + left);
        Self {
            until: self.until.map(|_| end),
            seen: now.hardware.map(|hardware| Seen {
                hardware,
                at: now.boot,
            }),
            ..self
        }
    }

    /// The store is not this host's newest: what it says of clocks is nothing to count from.
    pub(super) fn rolled_back(self) -> Self {
        let until = self.until.map(|_| BootTime::ZERO);
        Self {
            until,
            seen: None,
            ..self
        }
    }

    fn has_ended(self, now: BootTime) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// The walk through the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Round {
    /// Number of the rule that was counted under when it began.
    rule: u64,
    /// No entry that it came by ends before.
    least: BootTime,
}

/// How far the entries of the map follow what was promised.
#[derive(Clone, Debug, Default)]
pub(super) struct Refresh {
    /// No entry ends later than the newest end under this rule, so that it may be said to the centre.
    pub said: u64,
    round: Option<Round>,
    /// Behind it the round goes on.
    cursor: Option<Who>,
    /// When the next round begins, unless the rule changes.
    next: BootTime,
}

impl Edge {
    /// How long an acknowledged binding is valid.
    pub(super) fn acked_validity(&self) -> Validity {
        self.kept.until.map_or(Validity::Endless, Validity::Until)
    }

    /// Whether the hardware clock is to be read.
    #[must_use]
    pub fn wants_hardware_clock(&self, now: BootTime) -> bool {
        let seen = self.kept.seen;
        seen.is_none_or(|seen| now.since(seen.at) >= LOOK_AFTER)
    }

    /// What the hardware clock shows, in seconds since 1970, `now` being later. It goes to disk with the next renewal.
    pub fn hardware_clock(&mut self, now: BootTime, hardware: u64) {
        self.kept.seen = Some(Seen { hardware, at: now });
    }

    /// What was promised has ended by itself.
    pub(super) fn kept_has_ended(&self, now: BootTime) -> bool {
        self.kept.has_ended(now)
    }

    /// A renewal counts: the lease, and what outlives it. If that had ended before, the records say what is left of it.
    pub(super) fn count_from(
        &mut self,
        now: BootTime,
        lease: LeaseRow,
        keeping: Keeping,
        fx: &mut Effects,
    ) {
        let had_ended = self.kept_has_ended(now);
        self.waiting = None;
        self.lease = Some(lease);
        self.kept = self.kept.promised(lease, keeping);
        if had_ended {
            self.unread = true;
            // One that is under way tells what was before.
            self.snapshot = None;
            fx.act(Action::PullRecords);
        }
        self.save(fx);
    }

    /// The wall clock has run ahead by `ahead`: either it was set, or this machine stood still and its boot-time clock
    /// did not count that. The lease counts as ended. What is acknowledged has lost what the hardware clock says that
    /// the boot-time clock did not count, as nobody sets that one; if there is none, all of `ahead`.
    pub fn ran_ahead(&mut self, clocks: impl Into<Clocks>, ahead: Duration, fx: &mut Effects) {
        let clocks = clocks.into();
        self.end_lease(fx);
        let seen = self.kept.seen;
        let lost = seen.and_then(|seen| {
            let counted = clocks.boot.since(seen.at);
            Some(seen.passed(clocks)?.saturating_sub(counted))
        });
        self.shorten(clocks.boot, lost.unwrap_or(ahead), fx);
    }

    /// The clock is wrong by more than rules allow for: half of what is left is what counts on it.
    pub(super) fn doubt_kept(&mut self, since: BootTime, fx: &mut Effects) {
        if let Some(until) = self.kept.until {
            self.shorten(since, until.since(since) / 2, fx);
        }
    }

    fn shorten(&mut self, now: BootTime, by: Duration, fx: &mut Effects) {
        if let Some(until) = self.kept.until {
            self.kept.until = Some(until.saturating_sub(by));
            self.save(fx);
            // All at once: what they say is too much, and this process may hang.
            self.refresh = Refresh::default();
            self.refresh_some(now, usize::MAX, fx);
        }
    }

    /// Ends what was promised when its time is over. The entries have ended by themselves; whatever else was handed
    /// out is not this host's any more either.
    pub(super) fn end_kept(&mut self, now: BootTime, fx: &mut Effects) {
        if self.unread || !self.kept_has_ended(now) {
            return;
        }
        self.unread = true;
        self.snapshot = None;
        self.save(fx);
        let acked = self.bindings.len().saturating_sub(self.unacked.len());
        fx.note(Note::KeptEnded {
            bindings: u64::try_from(acked).unwrap_or(u64::MAX),
        });
    }

    /// Moves the ends of entries on.
    pub(super) fn keep_on(&mut self, now: BootTime, fx: &mut Effects) {
        if self.unread {
            return;
        }
        let left = self
            .kept
            .until
            .map_or(u64::MAX, |until| until.since(now).as_secs());
        let all = u64::try_from(self.bindings.len()).unwrap_or(u64::MAX);
        let share = all
            .saturating_mul(ROUND_PART)
            .checked_div(left)
            .map_or(usize::MAX, |share| {
                usize::try_from(share).unwrap_or(usize::MAX)
            });
        self.refresh_some(now, share.saturating_add(1).max(SLICE), fx);
    }

    /// The records have been read: what is left is served again.
    pub(super) fn serve_again(&mut self, fx: &mut Effects) {
        let acked = self.acked_validity();
        for held in self.bindings.values_mut().filter(|held| held.row.acked) {
            held.validity = acked;
        }
        for who in self.bindings.keys().cloned().collect::<Vec<_>>() {
            self.put_entry(&who, fx);
        }
    }

    fn refresh_some(&mut self, now: BootTime, slice: usize, fx: &mut Effects) {
        let rule = self.kept.keeping.rule;
        if self.refresh.round.is_none() {
            if now < self.refresh.next && self.refresh.said == rule {
                return;
            }
            // What is given meanwhile ends no earlier.
            let least = self.kept.until.unwrap_or(NEVER);
            self.refresh.round = Some(Round { rule, least });
            self.refresh.cursor = None;
        }
        let Some(mut round) = self.refresh.round else {
            return;
        };
        let wanted = self.acked_validity();
        let half = self.half();
        let from = self
            .refresh
            .cursor
            .take()
            .map_or(Bound::Unbounded, Bound::Excluded);
        let (mut looked_at, mut last, mut stale) = (0_usize, None, Vec::new());
        for (who, held) in self
            .bindings
            .range_mut((from, Bound::Unbounded))
            .take(slice)
        {
            looked_at = looked_at.saturating_add(1);
            last = Some(who);
            if !held.row.acked {
                continue;
            }
            if is_stale(held.validity, wanted, now, half) {
                held.validity = wanted;
                if Kind::of(&held.resource) == Kind::Ipv4 {
                    stale.push(who.clone());
                }
            }
            if let Validity::Until(end) = held.validity {
                round.least = round.least.min(end);
            }
        }
        let is_through = looked_at < slice;
        self.refresh.cursor = last.filter(|_| !is_through).cloned();
        self.refresh.round = Some(round).filter(|_| !is_through);
        for who in stale {
            self.put_entry(&who, fx);
        }
        if is_through && round.rule == rule {
            self.refresh.said = rule;
            self.refresh.next = round.least.saturating_sub(half);
        }
    }

    fn half(&self) -> Duration {
        let (Some(until), Some(lease)) = (self.kept.until, self.lease) else {
            return self
                .kept
                .keeping
                .after
                .map_or(Duration::ZERO, |after| after / 2);
        };
        until.since(lease.sent_at) / 2
    }
}

/// Whether an entry has to be written anew: it promises too much, or half of its time is over and there is more.
fn is_stale(has: Validity, wanted: Validity, now: BootTime, half: Duration) -> bool {
    match (has, wanted) {
        (Validity::Until(has), Validity::Until(wanted)) => {
            has > wanted || (has < wanted && has.since(now) < half)
        }
        (has, wanted) => has != wanted,
    }
}
