//! Units that this server took for nothing: it stopped before it had used them, the answer of the quorum was lost, or
//! another server answered the same subscriber.

use std::time::Duration;

use nexus_core::pool::Pool;
use nexus_core::shard_table::Command;
use nexus_core::time::{BootTime, ClusterTime};

use super::Centre;
use super::upkeep::MAX_PER_TICK;
use crate::clock::Now;
use crate::refused::Refused;

/// After this time a unit that was taken should be in use, and how often that is looked at.
const UNUSED_AFTER: Duration = Duration::from_secs(60);

/// Within this time after it was asked for, a unit is used or not at all: it cannot have been freed as unused before.
const USED_WITHIN: Duration = Duration::from_secs(45);

/// When it is looked next, and what that waits for.
#[derive(Debug)]
pub(super) struct Unused {
    due: BootTime,
    /// What was taken before this is judged once this server knows what a majority had after it: by the number
    /// of the question.
    judged: Option<(u64, ClusterTime)>,
}

impl Unused {
    /// The first look is due at once.
    pub(super) const fn new(now: BootTime) -> Self {
        Self {
            due: now,
            judged: None,
        }
    }
}

/// Whether a right that was there or asked for at `since` is certain to be there still. If this process stood still since
/// then, another server may have taken the unit for the same subscriber, found it unused and freed it.
///
/// # Errors
/// [`Refused::OutcomeUnknown`] if it is not.
pub fn in_time(now: &Now, since: BootTime) -> Result<(), Refused> {
    if now.boot.since(since) < USED_WITHIN {
        return Ok(());
    }
    Err(Refused::OutcomeUnknown(
        "this server stood still before it could answer".to_owned(),
    ))
}

impl Centre {
    /// Gives the units free that this server took and has no allocation of. The subscriber may have had the right to
    /// one before, and another server have it on record: so a majority is asked first. What was answered with
    /// success is on one.
    pub(super) fn look_for_unused(&mut self, now: &Now) -> Result<(), Refused> {
        if self.unused.due <= now.boot && self.unused.judged.is_none() {
            self.unused.due = now.boot.saturating_add(UNUSED_AFTER);
            let before = self.table().now().saturating_sub(UNUSED_AFTER);
            let me = self.replica.origin().node.0;
            if self.replica.is_complete() && self.table().taken_by(me, before).next().is_some() {
                self.unused.judged = Some((self.ask_majority(), before));
            }
        }
        match self.unused.judged {
            Some((number, before)) if self.majority_known(number) => {
                self.unused.judged = None;
                self.free_unused(now, before)
            }
            _ => Ok(()),
        }
    }

    /// Those of pinned pools that were on record before are recorded as they were taken last.
    fn free_unused(&mut self, now: &Now, before: ClusterTime) -> Result<(), Refused> {
        let me = self.replica.origin().node.0;
        let unused: Vec<Command> = self
            .table()
            .taken_by(me, before)
            .filter(|taken| {
                let place = self.place_of_unit(&taken.shard, taken.unit);
                place.is_some_and(|place| self.record.get(&place).is_none())
            })
            .take(MAX_PER_TICK)
            .map(|taken| Command::FreeUnit {
                shard: taken.shard,
                unit: taken.unit,
                seq: taken.grant.seq,
            })
            .collect();
        self.effects.proposals.extend(unused);
        let taken = self.table().taken_by(me, before);
        let pinned = taken
            .filter(|taken| {
                let pool = self.table().pool(&taken.shard.pool);
                pool.is_some_and(Pool::is_pinned)
            })
            .map(|taken| (taken.shard, taken.unit))
            .collect();
        self.finish_pins(now, pinned)
    }
}
