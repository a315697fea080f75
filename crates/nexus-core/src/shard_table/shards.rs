//! How shards change hands: the passing of time, the end of leases, placement.

use std::collections::BTreeMap;

use super::command::{MoveReason, OwnerChange};
use super::row::{Owner, ShardRow};
use super::{PoolEntry, ShardTable, Touched};
use crate::id::{Epoch, OltId, PoolId, ShardId};
use crate::lease::LeaseRule;
use crate::placement::{self, Held, Member, Move};
use crate::shard::{ShardKey, ShardState};

impl ShardTable {
    pub(super) fn tick(&mut self, t: &mut Touched) {
        let ended: Vec<Owner> = self
            .leases
            .iter()
            .filter(|(_, until)| self.now >= **until)
            .map(|(owner, _)| owner.clone())
            .collect();
        for owner in ended {
            self.end_lease(t, &owner, MoveReason::LeaseEnded);
        }
        let offline_after = self.rule.offline_after();
        for (id, entry) in &mut self.olts {
            if entry.online && self.now.since(entry.heard) >= offline_after {
                entry.online = false;
                t.went_offline.push(id.clone());
            }
        }
        if !t.went_offline.is_empty() {
            self.unsettle();
        }
        t.place = true;
    }

    /// Placement is to look at every pool.
    pub(super) fn unsettle(&mut self) {
        self.pools
            .values_mut()
            .for_each(|entry| entry.unsettled = true);
    }

    /// Leases that were granted keep their ends.
    pub(super) fn set_rule(&mut self, rule: LeaseRule) {
        self.rule = rule;
    }

    /// Everything that a session owns is free from now on.
    pub(super) fn end_lease(&mut self, t: &mut Touched, owner: &Owner, reason: MoveReason) {
        self.leases.remove(owner);
        for key in self.keys_of(owner) {
            self.free(t, &key, reason);
            t.bereft.insert(owner.olt.clone());
        }
    }

    pub(super) fn free(&mut self, t: &mut Touched, key: &ShardKey, reason: MoveReason) {
        let Some(row) = self.shard_mut(key) else {
            return;
        };
        row.state = ShardState::Free;
        let from = row.owner.take().map(|owner| owner.olt);
        let epoch = row.epoch;
        t.reconfigured.extend(from.clone());
        t.moves.push(OwnerChange {
            key: key.clone(),
            from,
            to: None,
            epoch,
            reason,
        });
        if let Some(entry) = self.pools.get_mut(&key.pool) {
            entry.unsettled = true;
        }
        t.place = true;
    }

    /// Carries out what placement says, for each pool in which something may have changed. It looks at
    /// nothing but the table, so that what gave nothing to do gives nothing until something changes.
    pub(super) fn place(&mut self, t: &mut Touched) {
        let pools: Vec<PoolId> = self.pools.keys().cloned().collect();
        for id in pools {
            let looked_at = |entry: &&PoolEntry| entry.unsettled && !entry.removing;
            let Some(entry) = self.pools.get(&id).filter(looked_at) else {
                continue;
            };
            let steps = placement::place(&entry.pool, &self.members(&id), &entry.held());
            if let Some(entry) = self.pools.get_mut(&id) {
                entry.unsettled = !steps.is_empty();
            }
            for step in steps {
                match step {
                    Move::Grant { shard, to } => self.grant(t, &id, shard, &to),
                    Move::Drain { shard, .. } => self.start_drain(t, &id, shard),
                }
            }
        }
    }

    pub(super) fn members(&self, pool: &PoolId) -> Vec<Member> {
        let member = |(id, entry): (&OltId, &super::OltEntry)| Member {
            id: id.clone(),
            region: entry.row.region.clone(),
            capacity: entry.row.capacity,
            in_use: entry.in_use.get(pool).copied().unwrap_or(0),
            online: entry.online && !entry.row.fenced,
            draining: entry.row.draining,
        };
        self.olts.iter().map(member).collect()
    }

    fn grant(&mut self, t: &mut Touched, pool: &PoolId, shard: ShardId, to: &OltId) {
        let owner = if to.is_cluster() {
            Owner::cluster()
        } else {
            self.olts.get(to).map(|entry| entry.row.owner())
        };
        let floor = self.counters.epoch_floor;
        let (Some(owner), Some(entry)) = (owner, self.pools.get_mut(pool)) else {
            return;
        };
        let key = ShardKey {
            pool: pool.clone(),
            shard,
        };
        let row = entry.shards.entry(shard).or_insert_with(|| ShardRow {
            key: key.clone(),
            epoch: floor,
            state: ShardState::Free,
            owner: None,
        });
        row.epoch = row.epoch.next();
        row.state = ShardState::Owned;
        row.owner = Some(owner);
        let epoch: Epoch = row.epoch;
        if !to.is_cluster() {
            t.reconfigured.insert(to.clone());
        }
        let reason = MoveReason::Placed;
        t.moves.push(OwnerChange {
            key: key.clone(),
            from: None,
            to: Some(to.clone()),
            epoch,
            reason,
        });
    }

    fn start_drain(&mut self, t: &mut Touched, pool: &PoolId, shard: ShardId) {
        let key = ShardKey {
            pool: pool.clone(),
            shard,
        };
        if let Some(row) = self.shard_mut(&key) {
            row.state = ShardState::Draining;
            let owner = row.owner.as_ref().map(|owner| owner.olt.clone());
            t.reconfigured.extend(owner);
        }
    }

    /// All shards of one session, in order.
    pub(super) fn keys_of(&self, owner: &Owner) -> Vec<ShardKey> {
        self.pools
            .values()
            .flat_map(|entry| entry.shards.values())
            .filter(|row| row.owner.as_ref() == Some(owner))
            .map(|row| row.key.clone())
            .collect()
    }

    pub(super) fn shard_mut(&mut self, key: &ShardKey) -> Option<&mut ShardRow> {
        self.pools.get_mut(&key.pool)?.shards.get_mut(&key.shard)
    }
}

impl PoolEntry {
    pub(super) fn held(&self) -> BTreeMap<ShardId, Held> {
        let held = |row: &ShardRow| {
            let owner = row.owner.as_ref()?.olt.clone();
            Some((
                row.key.shard,
                Held {
                    owner,
                    state: row.state,
                },
            ))
        };
        self.shards.values().filter_map(held).collect()
    }
}
