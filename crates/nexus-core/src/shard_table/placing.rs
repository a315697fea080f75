//! Placement and the table: what placement would do is a matter of judgement, found out by one node; the table
//! only checks each step and carries it out, so that nodes of different versions do the same.

use super::command::{Applied, Command, MoveReason, OwnerChange, Step};
use super::refusal::Refusal;
use super::row::{Owner, ShardRow};
use super::{ShardTable, Touched, Unsettled};
use crate::id::{Epoch, OltId, PoolId};
use crate::placement::{self, Move};
use crate::shard::{ShardKey, ShardState};
use crate::time::ClusterTime;

/// Most steps of one [`Command::Place`].
pub const MAX_STEPS: usize = 1024;

impl ShardTable {
    /// What placement would do next, for each pool in which something may have changed since it had nothing to
    /// do. To be proposed as [`Command::Place`], at most [`MAX_STEPS`] at once. Looks at nothing but the
    /// table, and changes nothing that a command depends on.
    pub fn steps(&mut self) -> Vec<Step> {
        let mut all = Vec::new();
        if self.recovering.is_some() {
            return all;
        }
        let pools: Vec<PoolId> = self.pools.keys().cloned().collect();
        for id in pools {
            let Some(entry) = self.pools.get(&id).filter(|e| e.unsettled.0 && !e.removing) else {
                continue;
            };
            let pool = entry.shrink_to.as_ref().unwrap_or(&entry.pool);
            let moves = placement::place(pool, &self.members(&id), &self.held(entry));
            if let Some(entry) = self.pools.get_mut(&id) {
                entry.unsettled = Unsettled(!moves.is_empty());
            }
            let key = |shard| ShardKey {
                pool: id.clone(),
                shard,
            };
            all.extend(moves.into_iter().map(|step| match step {
                Move::Grant { shard, to } => Step::Grant {
                    shard: key(shard),
                    to,
                },
                Move::Drain { shard, from } => Step::Drain {
                    shard: key(shard),
                    from,
                },
            }));
        }
        all
    }

    /// Carries out a command and what placement then says, once: what one node alone does.
    ///
    /// # Errors
    /// Why the command is refused; then nothing has changed but the time.
    pub fn drive(&mut self, now: ClusterTime, command: Command) -> Result<Applied, Refusal> {
        let mut applied = self.apply(now, command)?;
        let steps = self.steps();
        for steps in steps.chunks(MAX_STEPS) {
            let steps = steps.to_vec();
            applied.followed_by(self.apply(now, Command::Place { steps })?);
        }
        Ok(applied)
    }

    /// Carries out the steps that (still) hold.
    pub(super) fn carry_out(&mut self, t: &mut Touched, steps: Vec<Step>) {
        for step in steps.into_iter().take(MAX_STEPS) {
            self.carry_out_one(t, step);
        }
    }

    pub(super) fn carry_out_one(&mut self, t: &mut Touched, step: Step) {
        match step {
            Step::Grant { shard, to } if self.may_get(&shard, &to) => self.grant(t, shard, &to),
            Step::Drain { shard, from } if self.may_be_asked(&shard, &from) => {
                self.start_drain(t, &shard);
            }
            Step::Grant { .. } | Step::Drain { .. } => {}
        }
    }

    /// Whether a shard is free, and an OLT there that may have it.
    fn may_get(&self, key: &ShardKey, to: &OltId) -> bool {
        let Some(entry) = self.pools.get(&key.pool).filter(|entry| !entry.removing) else {
            return false;
        };
        if self.recovering.is_some() {
            return false;
        }
        let row = entry.shards.get(&key.shard);
        let free = row.is_none_or(|row| row.state == ShardState::Free && row.owner.is_none());
        let pool = entry.shrink_to.as_ref().unwrap_or(&entry.pool);
        if !free || pool.units(key.shard) == 0 {
            return false;
        }
        if to.is_cluster() || entry.pool.is_pinned() {
            return to.is_cluster();
        }
        self.olts.get(to).is_some_and(|olt| {
            let serves = placement::serves_region(&entry.pool, &olt.row.region);
            olt.online && !olt.row.draining && !olt.row.fenced && serves
        })
    }

    /// Whether a shard is owned by that OLT. What the cluster keeps goes with its pool, or when the pool has grown
    /// and another one is kept.
    fn may_be_asked(&self, key: &ShardKey, from: &OltId) -> bool {
        let row = self.shard(key).filter(|row| row.state == ShardState::Owned);
        let owner = row.and_then(|row| row.owner.as_ref());
        owner.is_some_and(|owner| owner.olt == *from)
            && (!from.is_cluster() || self.is_outgrown(key))
    }

    fn is_outgrown(&self, key: &ShardKey) -> bool {
        let Some(entry) = self.pools.get(&key.pool) else {
            return false;
        };
        let pool = entry.shrink_to.as_ref().unwrap_or(&entry.pool);
        let kept = placement::cluster_shard(pool).filter(|kept| *kept != key.shard);
        let has_other = kept.and_then(|kept| entry.shards.get(&kept));
        !pool.is_pinned() && has_other.is_some_and(ShardRow::is_kept)
    }

    fn grant(&mut self, t: &mut Touched, key: ShardKey, to: &OltId) {
        let owner = if to.is_cluster() {
            Owner::cluster()
        } else {
            self.olts.get(to).map(|entry| entry.row.owner())
        };
        let floor = self.counters.epoch_floor;
        let (Some(owner), Some(entry)) = (owner, self.pools.get_mut(&key.pool)) else {
            return;
        };
        let row = entry.shards.entry(key.shard).or_insert_with(|| ShardRow {
            key: key.clone(),
            epoch: floor,
            state: ShardState::Free,
            owner: None,
        });
        row.epoch = row.epoch.max(floor).next();
        row.state = ShardState::Owned;
        row.owner = Some(owner);
        let epoch: Epoch = row.epoch;
        if !to.is_cluster() {
            t.reconfigured.insert(to.clone());
        }
        entry.unsettled = Unsettled(true);
        let reason = MoveReason::Placed;
        t.moves.push(OwnerChange {
            key: key.clone(),
            from: None,
            to: Some(to.clone()),
            epoch,
            reason,
        });
    }

    fn start_drain(&mut self, t: &mut Touched, key: &ShardKey) {
        if let Some(row) = self.shard_mut(key) {
            row.state = ShardState::Draining;
            let owner = row.owner.as_ref().map(|owner| owner.olt.clone());
            t.reconfigured.extend(owner);
        }
        if let Some(entry) = self.pools.get_mut(&key.pool) {
            entry.unsettled = Unsettled(true);
        }
        self.free_if_empty(t, key);
    }

    /// Frees a shard of the cluster's own that is to go, once nobody has a unit of it. What goes with its pool, or
    /// with the end of one that shrinks, goes together with that.
    pub(super) fn free_if_empty(&mut self, t: &mut Touched, key: &ShardKey) {
        let empty = self.pools.get(&key.pool).is_some_and(|entry| {
            let row = entry.shards.get(&key.shard);
            let goes =
                row.is_some_and(|row| row.is_clusters() && row.state == ShardState::Draining);
            goes && !entry.removing && entry.shrink_to.is_none() && !entry.taken.is_used(key.shard)
        });
        if empty {
            self.free(t, key, MoveReason::GivenBack);
        }
    }
}
