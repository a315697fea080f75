//! Commands about pools: add, update, remove.

use std::collections::BTreeMap;

use super::command::{MoveReason, OwnerChange};
use super::refusal::Refusal;
use super::row::ShardRow;
use super::{PoolEntry, ShardTable, Touched, Unsettled};
use crate::id::{Epoch, OltId, PoolId};
use crate::pool::{Pool, PoolSpec};
use crate::shard::ShardState;

/// Most pools of a cluster.
pub const MAX_POOLS: usize = 1024;

impl ShardTable {
    pub(super) fn add_pool(&mut self, spec: PoolSpec) -> Result<(), Refusal> {
        let id = spec.id.clone();
        match self.pools.get(&id) {
            Some(entry) if entry.removing => return Err(Refusal::BeingRemoved(id)),
            Some(_) => return Err(Refusal::PoolExists(id)),
            None => {}
        }
        if self.pools.len() >= MAX_POOLS {
            return Err(Refusal::Full {
                what: "the number of pools".into(),
                bound: MAX_POOLS,
            });
        }
        let pool = Pool::new(spec)?;
        if let Some(other) = self.pools.values().find(|other| other.pool.overlaps(&pool)) {
            return Err(Refusal::Overlap {
                new: id,
                new_space: pool.space().to_owned(),
                existing: other.pool.id().clone(),
                existing_space: other.pool.space().to_owned(),
                vrf: pool.vrf().to_owned(),
            });
        }
        let entry = PoolEntry {
            pool,
            removing: false,
            unsettled: Unsettled(true),
            shards: BTreeMap::new(),
            taken: BTreeMap::new(),
        };
        self.pools.insert(id, entry);
        Ok(())
    }

    pub(super) fn update_pool(&mut self, t: &mut Touched, spec: PoolSpec) -> Result<(), Refusal> {
        let id = spec.id.clone();
        let entry = self
            .pools
            .get_mut(&id)
            .ok_or_else(|| Refusal::UnknownPool(id.clone()))?;
        if entry.removing {
            return Err(Refusal::BeingRemoved(id));
        }
        let pool = Pool::new(spec)?;
        if !pool.same_geometry(&entry.pool) {
            return Err(Refusal::GeometryChanged(id));
        }
        if pool == entry.pool {
            return Ok(());
        }
        entry.pool = pool;
        let users = entry
            .shards
            .values()
            .filter_map(|row| Some(row.owner.as_ref()?.olt.clone()));
        t.reconfigured.extend(users.filter(|olt| !olt.is_cluster()));
        entry.unsettled = Unsettled(true);
        Ok(())
    }

    pub(super) fn remove_pool(&mut self, t: &mut Touched, id: &PoolId) -> Result<(), Refusal> {
        let entry = self
            .pools
            .get_mut(id)
            .ok_or_else(|| Refusal::UnknownPool(id.clone()))?;
        if entry.removing {
            return Ok(());
        }
        entry.removing = true;
        for row in entry
            .shards
            .values_mut()
            .filter(|row| row.state == ShardState::Owned)
        {
            row.state = ShardState::Draining;
            if let Some(owner) = row.owner.as_ref().filter(|owner| !owner.olt.is_cluster()) {
                t.reconfigured.insert(owner.olt.clone());
            }
        }
        Ok(())
    }

    /// Forgets each pool that is being removed once no OLT has a shard of it and nobody a unit that the
    /// cluster gave out.
    pub(super) fn finish_removals(&mut self, t: &mut Touched) {
        let cluster = OltId::cluster();
        let in_use = |entry: &PoolEntry| {
            let with_olt = |r: &ShardRow| r.owner.as_ref().is_some_and(|o| o.olt != cluster);
            !entry.taken.is_empty() || entry.shards.values().any(with_olt)
        };
        let done: Vec<PoolId> = self
            .pools
            .iter()
            .filter(|(_, entry)| entry.removing && !in_use(entry))
            .map(|(id, _)| id.clone())
            .collect();
        for id in done {
            self.tell_region(t, &id);
            let Some(entry) = self.pools.remove(&id) else {
                continue;
            };
            // A later pool of the same name must not meet the old one's epochs again.
            let highest = entry
                .shards
                .values()
                .map(|row| row.epoch)
                .max()
                .unwrap_or(Epoch(0));
            self.counters.epoch_floor = self.counters.epoch_floor.max(highest);
            for row in entry.shards.into_values() {
                if let Some(owner) = row.owner {
                    t.moves.push(OwnerChange {
                        key: row.key.clone(),
                        from: Some(owner.olt),
                        to: None,
                        epoch: row.epoch,
                        reason: MoveReason::PoolRemoved,
                    });
                }
            }
            for olt in self.olts.values_mut() {
                olt.in_use.remove(&id);
            }
            t.removed_pools.push(id);
        }
    }
}
