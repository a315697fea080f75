//! The record of all allocations in memory, with the indexes that are derived from it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use nexus_core::id::{OltId, PoolId, ShardId, SubscriberId};
use nexus_core::resource::Resource;
use nexus_core::time::BootTime;

use crate::allocation::{Allocation, AllocationState, Place};

/// Every allocation by its resource; by subscriber, OLT and end of cool-down as derived indexes.
#[derive(Debug, Default)]
pub struct Record {
    by_place: BTreeMap<Place, Entry>,
    by_subscriber: BTreeMap<SubscriberId, BTreeSet<(PoolId, Place)>>,
    by_olt: BTreeMap<OltId, BTreeSet<Place>>,
    cooling: BTreeSet<(BootTime, Place)>,
    counts: BTreeMap<PoolId, Counts>,
    olt_counts: BTreeMap<OltId, Counts>,
    shard_counts: BTreeMap<(PoolId, ShardId), Counts>,
}

#[derive(Debug)]
struct Entry {
    allocation: Allocation,
    cool_until: Option<BootTime>,
}

/// How many allocations of a pool are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Held and not asked back.
    pub active: u64,
    /// Held, and the OLT was asked to release them.
    pub releasing: u64,
    /// Released and cooling down.
    pub released: u64,
}

impl Counts {
    /// Allocations that a subscriber holds.
    #[must_use]
    pub const fn held(&self) -> u64 {
        self.active.saturating_add(self.releasing)
    }

    /// All allocations in the record.
    #[must_use]
    pub const fn all(&self) -> u64 {
        self.held().saturating_add(self.released)
    }

    fn of(&mut self, state: AllocationState) -> &mut u64 {
        match state {
            AllocationState::Active => &mut self.active,
            AllocationState::Releasing => &mut self.releasing,
            AllocationState::Released => &mut self.released,
        }
    }
}

impl Record {
    /// Number of allocations in any state.
    #[must_use]
    pub fn count(&self) -> usize {
        self.by_place.len()
    }

    /// Number of allocations that are held, of all pools.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.counts.values().map(Counts::held).sum()
    }

    /// What the record says about a resource.
    #[must_use]
    pub fn get(&self, place: &Place) -> Option<&Allocation> {
        self.by_place.get(place).map(|entry| &entry.allocation)
    }

    /// Adds or replaces what is known of a resource. A released one may be forgotten from `cool_until` on.
    /// Gives back what was there before.
    pub fn put(&mut self, allocation: Allocation, cool_until: BootTime) -> Option<Allocation> {
        let before = self.remove(&allocation.place);
        let place = allocation.place.clone();
        self.by_subscriber
            .entry(allocation.subscriber.clone())
            .or_default()
            .insert((allocation.pool.clone(), place.clone()));
        self.by_olt
            .entry(allocation.olt.clone())
            .or_default()
            .insert(place.clone());
        count(&mut self.counts, &allocation.pool, allocation.state);
        count(&mut self.olt_counts, &allocation.olt, allocation.state);
        let shard = (allocation.pool.clone(), allocation.shard);
        count(&mut self.shard_counts, &shard, allocation.state);
        let cool_until = (allocation.state == AllocationState::Released).then_some(cool_until);
        if let Some(until) = cool_until {
            self.cooling.insert((until, place.clone()));
        }
        let entry = Entry {
            allocation,
            cool_until,
        };
        self.by_place.insert(place, entry);
        before
    }

    /// Forgets what is known of a resource.
    pub fn remove(&mut self, place: &Place) -> Option<Allocation> {
        let Entry {
            allocation,
            cool_until,
        } = self.by_place.remove(place)?;
        if let Some(places) = self.by_subscriber.get_mut(&allocation.subscriber) {
            places.remove(&(allocation.pool.clone(), place.clone()));
            if places.is_empty() {
                self.by_subscriber.remove(&allocation.subscriber);
            }
        }
        if let Some(places) = self.by_olt.get_mut(&allocation.olt) {
            places.remove(place);
            if places.is_empty() {
                self.by_olt.remove(&allocation.olt);
            }
        }
        if let Some(until) = cool_until {
            self.cooling.remove(&(until, place.clone()));
        }
        uncount(&mut self.counts, &allocation.pool, allocation.state);
        uncount(&mut self.olt_counts, &allocation.olt, allocation.state);
        let shard = (allocation.pool.clone(), allocation.shard);
        uncount(&mut self.shard_counts, &shard, allocation.state);
        Some(allocation)
    }

    /// Allocations of a subscriber in the order of pools, then resources.
    pub fn of_subscriber(&self, subscriber: &SubscriberId) -> impl Iterator<Item = &Allocation> {
        self.by_subscriber
            .get(subscriber)
            .into_iter()
            .flatten()
            .filter_map(|(_, place)| self.get(place))
    }

    /// The active allocation of a subscriber in a pool; there is at most one.
    #[must_use]
    pub fn active(&self, subscriber: &SubscriberId, pool: &PoolId) -> Option<&Allocation> {
        self.of_subscriber(subscriber).find(|allocation| {
            allocation.pool == *pool && allocation.state == AllocationState::Active
        })
    }

    /// Allocations of an OLT in the order of their resources, from behind `after` on.
    pub fn of_olt<'a>(
        &'a self,
        olt: &OltId,
        after: Option<&Place>,
    ) -> impl Iterator<Item = &'a Allocation> {
        let from = after.map_or(Bound::Unbounded, |place| Bound::Excluded(place.clone()));
        self.by_olt
            .get(olt)
            .into_iter()
            .flat_map(move |places| places.range((from.clone(), Bound::Unbounded)))
            .filter_map(|place| self.get(place))
    }

    /// Allocations whose resources lie between two of one type, both included.
    pub fn between<'a>(
        &'a self,
        vrf: &str,
        first: Resource,
        last: Resource,
    ) -> impl Iterator<Item = &'a Allocation> + use<'a> {
        let place = |resource| Place {
            vrf: vrf.to_owned(),
            resource,
        };
        let (first, last) = (place(first), place(last));
        // A reversed range would panic in the map; it holds nothing.
        (first <= last)
            .then(|| self.by_place.range(first..=last))
            .into_iter()
            .flatten()
            .map(|(_, entry)| &entry.allocation)
    }

    /// All allocations in the order of their resources, from behind `after` on.
    pub fn all<'a>(&'a self, after: Option<&Place>) -> impl Iterator<Item = &'a Allocation> {
        let from = after.map_or(Bound::Unbounded, |place| Bound::Excluded(place.clone()));
        self.by_place
            .range((from, Bound::Unbounded))
            .map(|(_, entry)| &entry.allocation)
    }

    /// How many allocations a pool has.
    #[must_use]
    pub fn counts(&self, pool: &PoolId) -> Counts {
        self.counts.get(pool).copied().unwrap_or_default()
    }

    /// How many allocations are on an OLT.
    #[must_use]
    pub fn olt_counts(&self, olt: &OltId) -> Counts {
        self.olt_counts.get(olt).copied().unwrap_or_default()
    }

    /// How many allocations lie in a shard of a pool.
    #[must_use]
    pub fn shard_counts(&self, pool: &PoolId, shard: ShardId) -> Counts {
        let key = (pool.clone(), shard);
        self.shard_counts.get(&key).copied().unwrap_or_default()
    }

    /// At most `limit` released allocations whose cool-down has ended, those that ended first coming first.
    #[must_use]
    pub fn cooled(&self, now: BootTime, limit: usize) -> Vec<Place> {
        self.cooling
            .iter()
            .take_while(|(until, _)| *until <= now)
            .take(limit)
            .map(|(_, place)| place.clone())
            .collect()
    }

    /// Gives a released allocation more time to cool down; never less.
    pub fn cool_longer(&mut self, place: &Place, until: BootTime) {
        if let Some(entry) = self.by_place.get_mut(place)
            && let Some(old) = entry.cool_until.filter(|old| *old < until)
        {
            entry.cool_until = Some(until);
            self.cooling.remove(&(old, place.clone()));
            self.cooling.insert((until, place.clone()));
        }
    }
}

fn count<K: Ord + Clone>(counts: &mut BTreeMap<K, Counts>, key: &K, state: AllocationState) {
    let count = counts.entry(key.clone()).or_default().of(state);
    *count = count.saturating_add(1);
}

fn uncount<K: Ord>(counts: &mut BTreeMap<K, Counts>, key: &K, state: AllocationState) {
    if let Some(of_key) = counts.get_mut(key) {
        let count = of_key.of(state);
        *count = count.saturating_sub(1);
        if *of_key == Counts::default() {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests;
