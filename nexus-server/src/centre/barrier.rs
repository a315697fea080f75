//! Before an OLT is told of a shard that it got, this server must know what the shard's earlier owners had
//! recorded, on whatever server: what a majority had when the shard moved. And before a new session is told what is on
//! record for its OLT, what a majority had of the sessions before it. And before an OLT reads its records, what a majority
//! has then: whatever it was told to be recorded, at whichever server, it finds there.

use nexus_clset::{NodeId, VersionVector};
use nexus_core::id::OltId;
use nexus_core::shard::ShardKey;

use super::Centre;
use crate::cluster::barrier::Progress;
use crate::confirm::Acks;
use crate::refused::Refused;

/// Most answers of a majority that are waited for at a time; a newer one takes the place of the newest then.
const MAX_REQUIRED: usize = 16;

/// What a majority had at moments after what was asked for up to these numbers, in their order.
#[derive(Debug, Default)]
struct Required(Vec<(u64, VersionVector)>);

impl Required {
    /// The newest answer may never come to be the one that this server has all of, where much is written; and the oldest
    /// neither, if a disk is lost with what it names. So both stay.
    fn add(&mut self, number: u64, had: VersionVector) {
        if self.0.len() >= MAX_REQUIRED {
            self.0.pop();
        }
        self.0.push((number, had));
    }

    /// The highest number that this server knows enough for.
    fn passed(&mut self, has_seen: impl Fn(&VersionVector) -> bool) -> Option<u64> {
        let (number, _) = self.0.iter().rfind(|(_, had)| has_seen(had))?;
        let number = *number;
        self.0.retain(|(other, _)| *other > number);
        Some(number)
    }
}

/// Shards that have moved, and what this server has yet to learn before it may tell their new owners.
#[derive(Debug, Default)]
pub(super) struct Barrier {
    progress: Progress,
    required: Required,
    /// Number of the newest move that each OLT waits for, and the shards; none if it waits for the records of its
    /// earlier sessions.
    waiting: Vec<(u64, OltId, Option<ShardKey>)>,
}

impl Centre {
    /// A shard has come to an OLT: it is told as soon as this server knows enough.
    pub(super) fn hold_back(&mut self, olt: &OltId, key: &ShardKey) {
        if self.other_voters().is_empty() {
            self.tell_shard(olt, key);
            return;
        }
        self.wait_for_majority(olt, Some(key.clone()));
    }

    /// An OLT has a new session, which is told nothing before this server knows enough of the earlier ones. It has no
    /// store that would know better.
    pub(super) fn hold_back_session(&mut self, olt: &OltId) {
        if !self.other_voters().is_empty() {
            self.wait_for_majority(olt, None);
        }
    }

    fn wait_for_majority(&mut self, olt: &OltId, key: Option<ShardKey>) {
        let number = self.next_number();
        self.barrier.waiting.push((number, olt.clone(), key));
    }

    fn next_number(&mut self) -> u64 {
        let progress = &mut self.barrier.progress;
        progress.moved = progress.moved.saturating_add(1);
        self.effects.barrier = Some(*progress);
        progress.moved
    }

    /// A number that is passed once this server knows what a majority has now and, if an OLT waits for a move, may tell it
    /// of that; 0 if it knows all there is.
    pub fn ask_majority(&mut self) -> u64 {
        if self.other_voters().is_empty() {
            return 0;
        }
        self.next_number()
    }

    /// Whether this server knows what a majority had when it asked under this number.
    pub(super) const fn majority_known(&self, number: u64) -> bool {
        self.barrier.progress.passed >= number
    }

    /// Number of the newest move that an OLT waits for; 0 if it waits for none.
    #[must_use]
    pub fn waits_for_move(&self, olt: &OltId) -> u64 {
        let waiting = self.barrier.waiting.iter();
        let of = waiting.filter(|(_, waiting, _)| waiting == olt);
        of.map(|(number, _, _)| *number).max().unwrap_or(0)
    }

    /// What a majority had after the moves up to that number.
    pub fn majority_had(&mut self, number: u64, seen: &[VersionVector]) {
        let mut required = VersionVector::default();
        for (origin, start, end) in seen.iter().flat_map(VersionVector::runs) {
            // What is retired here is superseded or collected everywhere.
            if !self.replica.is_retired(origin) {
                required.insert_run(origin, start, end);
            }
        }
        self.barrier.required.add(number, required);
        self.pass_barrier();
    }

    /// Tells the OLTs for which this server knows enough.
    pub(super) fn pass_barrier(&mut self) {
        let has_seen = |had: &VersionVector| self.replica.has_seen(had);
        let Some(number) = self.barrier.required.passed(has_seen) else {
            return;
        };
        self.barrier.progress.passed = self.barrier.progress.passed.max(number);
        let (told, still) = std::mem::take(&mut self.barrier.waiting)
            .into_iter()
            .partition(|(waits_for, _, _)| *waits_for <= number);
        self.barrier.waiting = still;
        let told: Vec<(u64, OltId, Option<ShardKey>)> = told;
        for (_, olt, key) in &told {
            if let Some(key) = key {
                self.tell_shard(olt, key);
            }
        }
        let mut olts: Vec<&OltId> = told.iter().map(|(_, olt, _)| olt).collect();
        olts.sort();
        olts.dedup();
        for olt in olts {
            self.tell_config(olt);
        }
        self.effects.barrier = Some(self.barrier.progress);
    }

    /// Numbers of the other servers that decide.
    #[must_use]
    pub fn other_voters(&self) -> Vec<NodeId> {
        let me = self.replica.origin().node;
        let voters = self.members().wanted_voters().map(NodeId);
        voters.filter(|node| *node != me).collect()
    }

    /// What the other servers that decide have, and how many must have a write.
    #[must_use]
    pub fn acks(&self) -> Acks {
        let others = self.other_voters();
        let all = self.members().wanted_voters().count();
        let majority = all / 2 + 1;
        let me = usize::from(all > others.len());
        Acks {
            needed: if all == 0 {
                usize::MAX
            } else {
                majority.saturating_sub(me)
            },
            seen: others
                .iter()
                .map(|node| self.replica.sync().acknowledged_by(*node))
                .collect(),
        }
    }

    /// What this server has seen, for another one that asks before it tells an OLT of a shard.
    ///
    /// # Errors
    /// As long as this server fetches its first copy, it may lack what it once confirmed.
    pub fn seen(&self) -> Result<Vec<u8>, Refused> {
        if self.replica.is_complete() {
            Ok(self.replica.digest())
        } else {
            Err(Refused::NotNow("it fetches the record".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use nexus_clset::{Incarnation, Origin};

    use super::*;

    fn had(upto: u64) -> VersionVector {
        let mut had = VersionVector::default();
        let origin = Origin {
            node: NodeId(2),
            incarnation: Incarnation(1),
        };
        had.insert_run(origin, 1, upto);
        had
    }

    #[test]
    fn a_server_that_is_always_a_little_behind_comes_to_what_was_asked_for_first() {
        let mut required = Required::default();
        for number in 1..100 {
            required.add(number, had(number));
        }
        assert_eq!(required.passed(|had| *had == self::had(0)), None);
        assert_eq!(required.passed(|wanted| *wanted == had(1)), Some(1));
        // What only a lost disk had is in nobody's way.
        assert_eq!(required.passed(|wanted| *wanted == had(99)), Some(99));
        assert_eq!(required.passed(|_| true), None);
    }
}
