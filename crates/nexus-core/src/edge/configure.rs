//! Taking over a configuration: which pools there are and which shards this host owns.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Edge, Effects, Note, PoolState, Rest, Row, RowKey, ShardRow, Who};
use crate::allocator::Allocator;
use crate::id::{Epoch, PoolId, ShardId};
use crate::pool::{Pool, PoolSpec};
use crate::time::BootTime;

/// What an OLT works with.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeConfig {
    /// Revision; an older one than that in use is ignored.
    pub revision: u64,
    /// All pools in which the host owns shards.
    pub pools: Vec<PoolGrant>,
}

/// A pool and what the host owns of it.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolGrant {
    /// The pool.
    pub spec: PoolSpec,
    /// The host's shards.
    pub shards: Vec<ShardGrant>,
}

/// Ownership of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardGrant {
    /// Index of the shard.
    pub shard: ShardId,
    /// Epoch of the ownership.
    pub epoch: Epoch,
    /// The centre wants it back.
    pub draining: bool,
}

impl Edge {
    /// Takes over a newer configuration; one that is not newer is ignored.
    pub fn configure(&mut self, now: BootTime, config: EdgeConfig, fx: &mut Effects) {
        if config.revision > self.revision {
            self.apply(now, config, fx);
        }
    }

    /// Takes over a configuration whatever its revision.
    pub(super) fn apply(&mut self, now: BootTime, config: EdgeConfig, fx: &mut Effects) {
        self.settle(now, fx);
        let mut owned = BTreeMap::new();
        let mut configured = BTreeSet::new();
        for grant in config.pools {
            let id = grant.spec.id.clone();
            match self.take_pool(now, grant.spec, fx) {
                Ok(()) => {
                    configured.insert(id.clone());
                    for shard in grant.shards {
                        owned.insert((id.clone(), shard.shard), shard);
                    }
                }
                Err(why) => fx.note(Note::BadPool { pool: id, why }),
            }
        }
        for (place, row) in self.shards.clone() {
            if owned
                .get(&place)
                .is_none_or(|grant| grant.epoch != row.epoch)
            {
                self.lose(&place, fx);
            }
        }
        for ((pool, _), grant) in owned {
            self.own(pool, grant, fx);
        }
        self.drop_pools(&configured, fx);
        self.revision = config.revision;
        self.configured_at = now;
        if let Some((lease, keeping, needed)) = self.waiting
            && needed <= self.revision
        {
            self.count_from(now, lease, keeping, fx);
        }
        self.save(fx);
        if self.shards.values().any(|row| !row.synced) {
            fx.act(Action::PullRecords);
        }
        self.give_back(fx);
    }

    /// Ends and forgets what lies in shards that the pool will not have any more. The centre has asked for what was
    /// held there before, so there is nothing but what it does not know of.
    fn forget_withdrawn(&mut self, now: BootTime, new: &Pool, fx: &mut Effects) {
        let held: Vec<Who> = self
            .bindings
            .iter()
            .filter(|(who, held)| who.pool == *new.id() && new.locate(&held.resource).is_none())
            .map(|(who, _)| who.clone())
            .collect();
        for who in held {
            self.release(now, &who, "pool-changed", Rest::Unheard, fx);
        }
        let reserved: Vec<_> = self
            .reserved
            .iter()
            .filter(|((pool, resource), _)| pool == new.id() && new.locate(resource).is_none())
            .map(|(unit, _)| unit.clone())
            .collect();
        for (pool, resource) in reserved {
            self.unreserve(now, &pool, resource, fx);
        }
        let Some(state) = self.pools.get(new.id()) else {
            return;
        };
        let gone: Vec<ShardId> = state.allocator.pool().shards().collect();
        for shard in gone
            .into_iter()
            .filter(|shard| shard.0 >= new.shard_count())
        {
            self.lose(&(new.id().clone(), shard), fx);
        }
    }

    fn take_pool(&mut self, now: BootTime, spec: PoolSpec, fx: &mut Effects) -> Result<(), String> {
        let known = self.pools.get_mut(&spec.id);
        if let Some(state) = &known
            && *state.allocator.pool().spec() == spec
            && state.configured
        {
            return Ok(());
        }
        let pool = Pool::new(spec.clone()).map_err(|error| error.to_string())?;
        match known {
            Some(state) if state.allocator.pool().change_to(&pool).is_ok() => {
                self.forget_withdrawn(now, &pool, fx);
                if let Some(state) = self.pools.get_mut(&spec.id) {
                    state.allocator.set_pool(pool);
                    state.configured = true;
                }
            }
            Some(state) if !state.allocator.holds_nothing() => {
                let why = state.allocator.pool().change_to(&pool).err();
                let why = why.map_or_else(String::new, |why| why.to_string());
                return Err(format!(
                    "subscribers of this host hold resources of it, which have to be released first: {why}"
                ));
            }
            _ => {
                // Nothing of an older pool of this name may be taken for the new one's.
                self.forget_pool_rows(&spec.id, fx);
                let state = PoolState {
                    allocator: Allocator::new(pool),
                    configured: true,
                };
                self.pools.insert(spec.id.clone(), state);
            }
        }
        fx.put(Row::Pool(spec));
        Ok(())
    }

    fn own(&mut self, pool: PoolId, grant: ShardGrant, fx: &mut Effects) {
        let place = (pool, grant.shard);
        let row = match self.shards.get_mut(&place) {
            Some(row) if row.draining == grant.draining => return,
            Some(row) => {
                row.draining = grant.draining;
                row.clone()
            }
            None => ShardRow {
                pool: place.0.clone(),
                shard: grant.shard,
                epoch: grant.epoch,
                draining: grant.draining,
                synced: false,
                given_back: false,
                fresh: 0,
            },
        };
        fx.put(Row::Shard(row.clone()));
        self.shards.insert(place.clone(), row);
        self.open_or_close(&place);
    }

    /// Lets units of a shard be given exactly if it is owned, read, and not wanted back.
    pub(super) fn open_or_close(&mut self, place: &(PoolId, ShardId)) {
        let Some(state) = self.pools.get_mut(&place.0) else {
            return;
        };
        match self.shards.get(place) {
            Some(row) if row.synced && !row.draining && !row.given_back => {
                state.allocator.open(place.1, row.fresh);
            }
            _ => state.allocator.close(place.1),
        }
    }

    /// A shard is not this host's any more, or is so anew under a later epoch.
    pub(super) fn lose(&mut self, place: &(PoolId, ShardId), fx: &mut Effects) {
        self.shards.remove(place);
        fx.forget(RowKey::Shard(place.0.clone(), place.1));
        let others: Vec<_> = self
            .reserved
            .iter()
            .filter(|((pool, _), reserved)| {
                *pool == place.0 && reserved.shard == place.1 && !reserved.ours
            })
            .map(|(key, _)| key.clone())
            .collect();
        for (pool, resource) in others {
            self.reserved.remove(&(pool.clone(), resource));
            if let Some(state) = self.pools.get_mut(&pool)
                && let Some(unit) = state.allocator.pool().locate(&resource)
            {
                state.allocator.quarantine(unit, BootTime::ZERO);
            }
            fx.forget(RowKey::Unit(pool, resource));
        }
        if let Some(state) = self.pools.get_mut(&place.0) {
            for unit in state.allocator.abandon(place.1) {
                if let Some(resource) = state.allocator.pool().resource(place.1, unit) {
                    fx.forget(RowKey::Unit(place.0.clone(), resource));
                }
            }
        }
        let carried: Vec<Who> = self
            .unacked
            .iter()
            .filter(|who| {
                who.pool == place.0
                    && self
                        .bindings
                        .get(*who)
                        .is_some_and(|held| held.row.shard == place.1)
            })
            .cloned()
            .collect();
        for who in carried {
            self.suspend(&who, fx);
        }
    }

    /// Drops pools that are not configured and of which nothing is held.
    fn drop_pools(&mut self, configured: &BTreeSet<PoolId>, fx: &mut Effects) {
        let mut gone = Vec::new();
        for (id, state) in &mut self.pools {
            if configured.contains(id) {
                continue;
            }
            state.configured = false;
            if state.allocator.holds_nothing() {
                gone.push(id.clone());
            }
        }
        for id in gone {
            self.forget_pool_rows(&id, fx);
            self.pools.remove(&id);
            fx.forget(RowKey::Pool(id));
        }
    }

    fn forget_pool_rows(&mut self, id: &PoolId, fx: &mut Effects) {
        let Some(state) = self.pools.get_mut(id) else {
            return;
        };
        for shard in state.allocator.pool().shards() {
            for unit in state.allocator.abandon(shard) {
                if let Some(resource) = state.allocator.pool().resource(shard, unit) {
                    fx.forget(RowKey::Unit(id.clone(), resource));
                }
            }
        }
        let shards: Vec<_> = self
            .shards
            .keys()
            .filter(|(pool, _)| pool == id)
            .cloned()
            .collect();
        for place in shards {
            self.shards.remove(&place);
            fx.forget(RowKey::Shard(place.0, place.1));
        }
    }

    /// Gives back draining shards in which nothing is held, nothing rests and nothing waits for the
    /// centre. From then on nothing is allocated from them under this epoch.
    pub(super) fn give_back(&mut self, fx: &mut Effects) {
        let empty: Vec<_> = self
            .shards
            .values()
            .filter(|row| row.draining && !row.given_back && self.is_done_with(row))
            .map(|row| (row.pool.clone(), row.shard))
            .collect();
        for place in empty {
            if let Some(row) = self.shards.get_mut(&place) {
                row.given_back = true;
                fx.put(Row::Shard(row.clone()));
            }
            self.open_or_close(&place);
        }
    }

    fn is_done_with(&self, row: &ShardRow) -> bool {
        let Some(state) = self.pools.get(&row.pool) else {
            return false;
        };
        let bound = self
            .bindings
            .iter()
            .any(|(who, held)| who.pool == row.pool && held.row.shard == row.shard);
        !bound
            && !state.allocator.is_resting_in(row.shard)
            && !self.outbox.concerns(&row.pool, row.shard)
    }
}
