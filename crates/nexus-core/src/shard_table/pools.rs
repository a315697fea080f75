//! Commands about pools: add, update, remove.

use std::collections::BTreeMap;

use super::command::{MoveReason, OwnerChange};
use super::refusal::Refusal;
use super::row::ShardRow;
use super::taken::TakenUnits;
use super::{PoolEntry, ShardTable, Touched, Unsettled};
use crate::id::{Epoch, OltId, PoolId};
use crate::pool::{Change, Pool, PoolSpec};
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
        self.check_overlap(&pool)?;
        let entry = PoolEntry {
            pool,
            removing: false,
            unsettled: Unsettled(true),
            shards: BTreeMap::new(),
            shrink_to: None,
            taken: TakenUnits::default(),
        };
        self.pools.insert(id, entry);
        Ok(())
    }

    pub(super) fn update_pool(&mut self, t: &mut Touched, spec: PoolSpec) -> Result<(), Refusal> {
        let id = spec.id.clone();
        let entry = self
            .pools
            .get(&id)
            .ok_or_else(|| Refusal::UnknownPool(id.clone()))?;
        if entry.removing {
            return Err(Refusal::BeingRemoved(id));
        }
        let pool = Pool::new(spec)?;
        let change = entry.pool.change_to(&pool);
        let change = change.map_err(|error| Refusal::PoolChange(id.clone(), error.to_string()))?;
        if matches!(change, Change::Grown { .. }) {
            self.check_overlap(&pool)?;
        }
        let Some(entry) = self.pools.get_mut(&id) else {
            return Err(Refusal::UnknownPool(id));
        };
        if pool == entry.pool && entry.shrink_to.is_none() {
            return Ok(());
        }
        entry.unsettled = Unsettled(true);
        entry.shrink_to = None;
        let shrinks = matches!(change, Change::Shrunk { .. });
        if shrinks && !entry.can_become(&pool) {
            for row in entry.shards.values_mut() {
                let goes = pool.units(row.key.shard) < entry.pool.units(row.key.shard);
                if goes && row.state == ShardState::Owned {
                    row.state = ShardState::Draining;
                }
            }
            entry.shrink_to = Some(pool);
        } else {
            self.counters.epoch_floor = entry.become_pool(pool, self.counters.epoch_floor);
        }
        let users = entry
            .shards
            .values()
            .filter_map(|row| Some(row.owner.as_ref()?.olt.clone()));
        t.reconfigured.extend(users.filter(|olt| !olt.is_cluster()));
        Ok(())
    }

    fn check_overlap(&self, pool: &Pool) -> Result<(), Refusal> {
        let others = self
            .pools
            .values()
            .filter(|other| other.pool.id() != pool.id());
        let Some(other) = others
            .map(|other| &other.pool)
            .find(|other| other.overlaps(pool))
        else {
            return Ok(());
        };
        Err(Refusal::Overlap {
            new: pool.id().clone(),
            new_space: pool.space().to_owned(),
            existing: other.id().clone(),
            existing_space: other.space().to_owned(),
            vrf: pool.vrf().to_owned(),
        })
    }

    /// Cuts each pool short whose last shards have all come back.
    pub(super) fn finish_shrinks(&mut self, t: &mut Touched) {
        for entry in self.pools.values_mut() {
            let Some(pool) = entry.shrink_to.clone() else {
                continue;
            };
            if entry.removing || !entry.can_become(&pool) {
                continue;
            }
            entry.shrink_to = None;
            self.counters.epoch_floor = entry.become_pool(pool, self.counters.epoch_floor);
            entry.unsettled = Unsettled(true);
            let users = entry
                .shards
                .values()
                .filter_map(|row| Some(row.owner.as_ref()?.olt.clone()));
            t.reconfigured.extend(users.filter(|olt| !olt.is_cluster()));
        }
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

impl PoolEntry {
    /// Whether nobody has a shard, or a unit of the cluster's own, that a shorter pool lacks.
    fn can_become(&self, shorter: &Pool) -> bool {
        let cut = |shard| shorter.units(shard) < self.pool.units(shard);
        let with_olt = self.shards.values().any(|row| {
            let owned = row
                .owner
                .as_ref()
                .is_some_and(|owner| !owner.olt.is_cluster());
            owned && cut(row.key.shard)
        });
        let mut taken = self.taken.by_shard().filter(|(shard, _)| cut(*shard));
        !with_olt
            && taken.all(|(shard, units)| {
                let left = shorter.units(shard);
                units.keys().all(|unit| *unit < left)
            })
    }

    /// Takes over another specification. Shards that are gone were nobody's, or the cluster's; gives the
    /// epoch that none of them was beyond, for when they come again.
    fn become_pool(&mut self, pool: Pool, floor: Epoch) -> Epoch {
        let gone = self
            .shards
            .values()
            .filter(|row| pool.units(row.key.shard) == 0);
        let floor = gone.map(|row| row.epoch).fold(floor, Epoch::max);
        self.shards.retain(|shard, _| pool.units(*shard) > 0);
        for row in self.shards.values_mut() {
            // The cluster's own last shard was only cut short.
            let kept = row
                .owner
                .as_ref()
                .is_some_and(|owner| owner.olt.is_cluster());
            if kept && row.state == ShardState::Draining {
                row.state = ShardState::Owned;
            }
        }
        self.pool = pool;
        floor
    }
}
