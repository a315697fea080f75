//! Before an OLT is told of a shard that it got, this server must know what the shard's earlier owners had
//! recorded, on whatever server: what a majority had when the shard moved. And before a new session is told what is on
//! record for its OLT, what a majority had of the sessions before it.

use nexus_clset::{NodeId, VersionVector};
use nexus_core::id::OltId;
use nexus_core::shard::ShardKey;

use super::Centre;
use crate::cluster::barrier::Progress;
use crate::confirm::Acks;
use crate::refused::Refused;

/// Shards that have moved, and what this server has yet to learn before it may tell their new owners.
#[derive(Debug, Default)]
pub(super) struct Barrier {
    progress: Progress,
    /// What a majority had at a moment after the moves up to that number.
    required: Option<(u64, VersionVector)>,
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
        let barrier = &mut self.barrier;
        barrier.progress.moved = barrier.progress.moved.saturating_add(1);
        barrier
            .waiting
            .push((barrier.progress.moved, olt.clone(), key));
        self.effects.barrier = Some(self.barrier.progress);
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
        self.barrier.required = Some((number, required));
        self.pass_barrier();
    }

    /// Tells the OLTs for which this server knows enough.
    pub(super) fn pass_barrier(&mut self) {
        let Some((number, _)) = self
            .barrier
            .required
            .take_if(|(_, required)| self.replica.has_seen(required))
        else {
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
