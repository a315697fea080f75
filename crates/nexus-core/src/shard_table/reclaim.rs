//! How long what is acknowledged to an OLT stays its own once nothing is heard of it any more.
//!
//! A lease ends and the shards move; what was acknowledged in them stays reserved, because the host goes on serving it
//! without asking anybody. It does so for [`LeaseRule::reclaim_after`](crate::lease::LeaseRule::reclaim_after) behind
//! the end of its lease, by its own clock, and the table counts the same time, later. Then:
//!
//! | state | | ends |
//! |---|---|---|
//! | [`Kept`](Reclaim::Kept) | it is the OLT's | when its time is over ([`Command::Tick`](super::Command::Tick)) |
//! | [`Running`](Reclaim::Running) | the servers release what is on record there; the host is not taken in | [`Command::Reclaimed`](super::Command::Reclaimed): all of it is released, and a majority knows it |
//! | [`Done`](Reclaim::Done) | what comes to light later is released too | the host registers, and learns what it lost |
//!
//! **A promise is only taken back once the host has heard so.** A host is told the rule and its number with each renewal
//! and says with the next which number it counts under. As long as that is not the newest one, the longest time
//! counts that it may have been told; and for a host that says none, no time ends.

use serde::{Deserialize, Serialize};

use super::refusal::Refusal;
use super::{ShardTable, Touched};
use crate::id::OltId;
use crate::lease::Keeping;
use crate::time::ClusterTime;

/// Where an OLT stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reclaim {
    /// What is acknowledged to it is its own.
    #[default]
    Kept,
    /// It is being released.
    Running,
    /// It has been released.
    Done,
}

/// What an OLT was promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// When nothing is its own any more, however wrong clocks are within 1%; `None`: never.
    pub until: Option<ClusterTime>,
    #[serde(default)]
    pub state: Reclaim,
}

impl Kept {
    /// Something more was promised, `end`; `counts`: the host counts under the newest rule already.
    fn promised(self, end: Option<ClusterTime>, counts: bool) -> Option<ClusterTime> {
        match (self.until, end) {
            (_, end) if counts => end,
            (Some(before), Some(end)) => Some(before.max(end)),
            _ => None,
        }
    }
}

impl ShardTable {
    /// The rule that hosts are told now.
    pub(super) fn keeping(&self) -> Keeping {
        Keeping {
            after: self.rule.reclaim_after(),
            // From 1, so that a host that was told nothing never says the newest one.
            rule: self.counters.rule.saturating_add(1),
        }
    }

    /// A lease was granted to an OLT, whose host says which rule it counts under; `lease_end`: when it has
    /// surely ended. `before`: what it was promised until now, if it was known.
    pub(super) fn promise(
        &self,
        before: Option<Kept>,
        said: Option<u64>,
        lease_end: ClusterTime,
    ) -> Kept {
        let keeping = self.keeping();
        let end = self.rule.reclaim_end(lease_end);
        let until = match (said, before) {
            // A host of an older version never ends what is acknowledged to it.
            (None, _) => None,
            (Some(said), Some(before)) => before.promised(end, said == keeping.rule),
            (Some(_), None) => end,
        };
        Kept {
            until,
            state: Reclaim::Kept,
        }
    }

    /// Looks whose time is over.
    pub(super) fn reclaim(&mut self, t: &mut Touched) {
        if self.recovering.is_some() {
            return;
        }
        for (id, entry) in &mut self.olts {
            let over = entry.kept.until.is_some_and(|until| until <= self.now);
            if over && entry.kept.state == Reclaim::Kept && !entry.row.fenced {
                entry.kept.state = Reclaim::Running;
                t.reclaimed.push(id.clone());
            }
        }
        for olt in t.reclaimed.clone() {
            self.leave_units_on(&olt);
        }
    }

    /// All that was on record of an OLT is released, and a majority knows it.
    pub(super) fn reclaimed(&mut self, olt: &OltId, until: ClusterTime) {
        if let Some(entry) = self.olts.get_mut(olt)
            && entry.kept.state == Reclaim::Running
            && entry.kept.until == Some(until)
        {
            entry.kept.state = Reclaim::Done;
        }
    }

    /// Part of what was decided is missing, so that more may have been promised than is known.
    pub(super) fn promise_unknown(&mut self, lease_end: ClusterTime) {
        self.counters.rule = self.counters.rule.saturating_add(super::recover::JUMP);
        let end = self.rule.reclaim_end(lease_end);
        for entry in self.olts.values_mut() {
            entry.kept = Kept {
                until: entry.kept.promised(end, false),
                state: Reclaim::Kept,
            };
        }
    }

    /// An OLT is not taken in while what it had is being released: it would read what is about to go.
    pub(super) fn check_reclaim(&self, olt: &OltId) -> Result<(), Refusal> {
        if self.reclaim_of(olt) == Reclaim::Running {
            return Err(Refusal::BeingReclaimed(olt.clone()));
        }
        Ok(())
    }

    /// Whether what is acknowledged to an OLT is its own; so it is for one that is not known.
    #[must_use]
    pub fn reclaim_of(&self, olt: &OltId) -> Reclaim {
        self.olts
            .get(olt)
            .map_or(Reclaim::Kept, |entry| entry.kept.state)
    }

    /// When what is acknowledged to an OLT is or was reclaimed, unless it is heard again before; `None`: never.
    #[must_use]
    pub fn reclaimed_at(&self, olt: &OltId) -> Option<ClusterTime> {
        self.olts.get(olt)?.kept.until
    }

    /// OLTs of which what is on record is to be released, in order.
    pub fn reclaimed_olts(&self) -> impl Iterator<Item = &OltId> {
        let gone = |entry: &&super::OltEntry| entry.kept.state != Reclaim::Kept;
        self.olts.values().filter(gone).map(|entry| &entry.row.id)
    }

    /// Units of pinned pools that are on an OLT are nowhere from now on; their subscribers keep them.
    fn leave_units_on(&mut self, olt: &OltId) {
        for entry in self.pools.values_mut().filter(|pool| pool.pool.is_pinned()) {
            let there: Vec<_> = entry
                .taken
                .iter()
                .filter(|(_, _, taken)| taken.at.as_ref().is_some_and(|at| at.olt == *olt))
                .map(|(shard, unit, _)| (shard, unit))
                .collect();
            for (shard, unit) in there {
                entry.taken.move_to(shard, unit, None);
            }
        }
    }
}
