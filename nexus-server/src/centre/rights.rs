//! Which units of the shards that the cluster keeps a subscriber has the right to: what is on record, held against what the
//! quorum has decided.

use std::sync::Arc;

use nexus_core::id::{PoolId, SubscriberId};
use nexus_core::shard::ShardKey;

use super::Centre;
use super::central::{CentralRequest, Unit};
use super::pinned::place_of;
use crate::allocation::{Allocation, Place};

impl Centre {
    /// What the subscriber has in the pool, if that can stay as it is. What the centre chose counts only under the right
    /// that it was recorded under: without it another server may have freed it since, and given it to somebody else.
    pub(super) fn held_already(&self, request: &CentralRequest) -> Option<Arc<Allocation>> {
        let held = self.record.active(&request.subscriber, &request.pool)?;
        let stays = request
            .olt
            .as_ref()
            .is_none_or(|olt| olt.is_cluster() || held.olt == *olt);
        let has_right = !held.is_central()
            || self.unit_of(held).is_some_and(|unit| {
                let taken = self.table().taken_unit(&unit.shard, unit.unit);
                taken.is_some_and(|taken| {
                    *taken.holder == held.subscriber && taken.grant.seq == held.seq
                })
            });
        (stays && has_right).then(|| Arc::new(held.clone()))
    }

    /// What the subscriber has and no OLT has claimed: it stays, or goes to the OLT as it is, under a new right, so that
    /// a release that another server makes of it at the same time does not count.
    pub(super) fn to_be_taken_again(&self, request: &CentralRequest) -> Option<Unit> {
        let held = self.record.active(&request.subscriber, &request.pool)?;
        let goes = held.olt.is_cluster()
            || request
                .olt
                .as_ref()
                .is_none_or(|olt| olt.is_cluster() || held.olt == *olt);
        if !held.is_central() || !goes {
            return None;
        }
        let unit = self.unit_of(held)?;
        let taken = self.table().taken_unit(&unit.shard, unit.unit);
        taken
            .is_none_or(|taken| *taken.holder == held.subscriber)
            .then_some(unit)
    }

    /// Where an allocation lies in its pool.
    pub(super) fn unit_of(&self, held: &Allocation) -> Option<Unit> {
        let spec = self.table().pool(&held.pool)?;
        let (shard, unit) = spec.locate(&held.place.resource)?;
        let pool = held.pool.clone();
        Some(Unit::new(ShardKey { pool, shard }, unit))
    }

    /// Whether the subscriber was given the right to another unit of the pool, of which nothing is on record here, or what
    /// it would stay with: another server may be about to answer with it. Of two servers that take a unit for the same
    /// subscriber, the one that the quorum hears later sees this here. (The numbers of the rights do not tell: one that
    /// is taken again gets a new one.)
    pub(super) fn has_another_right(&self, request: &CentralRequest, unit: &Unit) -> bool {
        if let Some(again) = self.to_be_taken_again(request) {
            return again != *unit;
        }
        let taken = self.table().units_of(&request.pool, &request.subscriber);
        taken
            .filter(|taken| (&taken.shard, taken.unit) != (&unit.shard, unit.unit))
            .any(|taken| {
                let place = self.allocatable(&taken.shard, taken.unit);
                place.is_some_and(|place| self.record.get(&place).is_none())
            })
    }

    /// The unit that the subscriber had last, if it still cools down: same subscriber, same address.
    pub(super) fn had_before(&self, subscriber: &SubscriberId, pool: &PoolId) -> Option<Unit> {
        let mut taken = self.table().units_of(pool, subscriber);
        let free = taken.find(|taken| {
            let place = self.allocatable(&taken.shard, taken.unit);
            place.is_some_and(|place| {
                let known = self.record.get(&place);
                !known.is_some_and(|known| known.state.is_held())
            })
        })?;
        Some(Unit::new(free.shard, free.unit))
    }

    /// What a unit is.
    pub(super) fn place_of_unit(&self, shard: &ShardKey, unit: u64) -> Option<Place> {
        let pool = self.table().pool(&shard.pool)?;
        Some(place_of(pool, pool.resource(shard.shard, unit)?))
    }

    /// The same, unless the unit is excluded or reserved.
    fn allocatable(&self, shard: &ShardKey, unit: u64) -> Option<Place> {
        let place = self.place_of_unit(shard, unit)?;
        let pool = self.table().pool(&shard.pool)?;
        pool.is_allocatable(&place.resource).then_some(place)
    }
}
