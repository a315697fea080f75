//! Which unit of the shards that the cluster keeps is given out next.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use nexus_core::id::{PoolId, ShardId, SubscriberId};
use nexus_core::shard::ShardKey;

use super::Centre;
use super::central::Unit;
use crate::allocation::Place;

/// Most units that one search passes because there is something on record of them, although the shard table has them
/// as free: after a pool has shrunk, or part of what was decided was lost. The next search goes on behind them.
const MAX_PASSED: u32 = 100_000;

/// Where the search for a free unit of a pool goes on.
pub(super) type Cursor = (ShardId, u64);

/// What a search has come to.
enum Search {
    Found(ShardId, u64),
    /// It has passed too much.
    GoOnAt(ShardId, u64),
    None,
}

impl Centre {
    /// Another server was faster with the unit that was found for this subscriber: the search goes on somewhere else
    /// among the kept shards. Two servers at the same place would find the same unit again and again, and the one
    /// that is further from the leader would lose each time.
    pub fn look_elsewhere(&mut self, pool: &PoolId, subscriber: &SubscriberId, losses: usize) {
        let Some(spec) = self.table().pool(pool) else {
            return;
        };
        let kept: Vec<ShardId> = self.table().kept_shards(pool, ShardId(0)).collect();
        let mut hasher = DefaultHasher::new();
        (subscriber, losses).hash(&mut hasher);
        let place = hasher.finish();
        let (high, low) = (place >> 32, place & u64::from(u32::MAX));
        let count = u64::try_from(kept.len()).unwrap_or(u64::MAX);
        let index = high.checked_rem(count).map(usize::try_from);
        let Some(shard) = index.and_then(|index| kept.get(index.ok()?).copied()) else {
            return;
        };
        let unit = low.checked_rem(spec.units(shard)).unwrap_or(0);
        self.cursors.insert(pool.clone(), (shard, unit));
    }

    /// The next free unit of the kept shards of a pool. The search goes on where the last one ended, so that what
    /// was released last comes back last.
    pub(super) fn free_unit(&mut self, pool: &PoolId) -> Option<Unit> {
        let from = self.cursors.get(pool).copied();
        let (shard, unit) = match self.search(pool, from.unwrap_or((ShardId(0), 0))) {
            Search::Found(shard, unit) => (shard, unit),
            Search::GoOnAt(shard, unit) => {
                self.cursors.insert(pool.clone(), (shard, unit));
                return None;
            }
            Search::None => return None,
        };
        let next = (shard, unit.saturating_add(1));
        self.cursors.insert(pool.clone(), next);
        let pool = pool.clone();
        Some(Unit::new(ShardKey { pool, shard }, unit))
    }

    /// Looks from the cursor to the end of the pool, and then from its start to the cursor.
    fn search(&self, id: &PoolId, (shard, unit): Cursor) -> Search {
        let Some(pool) = self.table().pool(id) else {
            return Search::None;
        };
        let behind = self.table().kept_shards(id, shard);
        let behind = behind.map(|at| (at, if at == shard { unit } else { 0 }, u64::MAX));
        let before = self.table().kept_shards(id, ShardId(0));
        let before = before.take_while(|at| *at <= shard);
        let before = before.map(|at| (at, 0, if at == shard { unit } else { u64::MAX }));
        let mut passed = 0_u32;
        for (at, from, until) in behind.chain(before) {
            let key = ShardKey {
                pool: id.clone(),
                shard: at,
            };
            let mut from = from;
            while let Some(free) = self.table().free_unit_from(&key, from) {
                if free >= until {
                    break;
                }
                let place = pool.resource(at, free).map(|resource| Place {
                    vrf: pool.vrf().to_owned(),
                    resource,
                });
                if place.is_some_and(|place| self.record.get(&place).is_none()) {
                    return Search::Found(at, free);
                }
                from = free.saturating_add(1);
                passed = passed.saturating_add(1);
                if passed >= MAX_PASSED {
                    return Search::GoOnAt(at, from);
                }
            }
        }
        Search::None
    }
}
