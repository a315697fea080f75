//! How shards change hands: the passing of time and the end of leases.

use std::collections::BTreeMap;

use super::command::{MoveReason, OwnerChange};
use super::row::{Owner, ShardRow};
use super::{PoolEntry, ShardTable, Touched, Unsettled};
use crate::id::{OltId, PoolId, ShardId};
use crate::lease::LeaseRule;
use crate::placement::{Held, Member};
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
        self.recovered(t);
        self.reclaim(t);
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
    }

    /// Placement is to look at every pool.
    pub(super) fn unsettle(&mut self) {
        self.pools
            .values_mut()
            .for_each(|entry| entry.unsettled = Unsettled(true));
    }

    /// Leases that were granted keep their ends.
    pub(super) fn set_rule(&mut self, rule: LeaseRule) {
        if rule != self.rule {
            self.rule = rule;
            self.counters.rule = self.counters.rule.saturating_add(1);
        }
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
            entry.unsettled = Unsettled(true);
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

impl ShardTable {
    /// The shards of a pool that are not free, as placement sees them.
    pub(super) fn held(&self, entry: &PoolEntry) -> BTreeMap<ShardId, Held> {
        let pool = entry.pool.id();
        let held = |row: &ShardRow| {
            let owner = row.owner.as_ref()?.olt.clone();
            let idle = self.olts.get(&owner).and_then(|olt| olt.idle.get(pool));
            let held = Held {
                idle: idle.is_some_and(|idle| idle.contains(&row.key.shard)),
                state: row.state,
                owner,
            };
            Some((row.key.shard, held))
        };
        entry.shards.values().filter_map(held).collect()
    }
}
