//! The units of one shard: who holds which, which rest, and which have come back and wait for the next holder.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{ShardId, SubscriberId};
use crate::pool::Pool;
use crate::time::BootTime;

/// Most returned units of a shard that are remembered one by one. Beyond that returned units are given
/// again before fresh ones, and the oldest are found by a sweep.
pub const IDLE_LIMIT: usize = 4096;

/// A unit that nobody may get yet.
#[derive(Clone, Debug)]
pub(super) struct Rest {
    pub(super) until: BootTime,
    /// Who may have it back before; nobody in quarantine.
    pub(super) former: Option<SubscriberId>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct ShardUnits {
    pub(super) open: bool,
    /// Lowest unit that was never given.
    pub(super) fresh: u64,
    pub(super) holders: BTreeMap<u64, SubscriberId>,
    pub(super) resting: BTreeMap<u64, Rest>,
    rest_ends: BTreeSet<(BootTime, u64)>,
    /// Rested units by order of return, and the other way round with their former holders.
    idle: BTreeMap<u64, u64>,
    idle_units: BTreeMap<u64, (u64, Option<SubscriberId>)>,
    /// Where the next sweep begins.
    swept: u64,
}

impl ShardUnits {
    /// Makes `subscriber` the holder; returns who held the unit before or sat on it last.
    pub(super) fn take(&mut self, unit: u64, subscriber: &SubscriberId) -> Option<SubscriberId> {
        let rested = self.resting.remove(&unit).and_then(|rest| {
            self.rest_ends.remove(&(rest.until, unit));
            rest.former
        });
        let idle = self.drop_idle(unit);
        self.holders
            .insert(unit, subscriber.clone())
            .or(rested)
            .or(idle)
    }

    pub(super) fn put_to_rest(&mut self, unit: u64, rest: Rest) {
        self.drop_idle(unit);
        self.rest_ends.insert((rest.until, unit));
        if let Some(before) = self.resting.insert(unit, rest)
            && self.resting.get(&unit).map(|rest| rest.until) != Some(before.until)
        {
            self.rest_ends.remove(&(before.until, unit));
        }
    }

    /// Ends rests. With each unit comes the former holder that is forgotten for it because the list
    /// of idle units is full, and that holder's unit.
    pub(super) fn settle(
        &mut self,
        now: BootTime,
        returns: &mut u64,
    ) -> Vec<(u64, Option<(SubscriberId, u64)>)> {
        let mut rested = Vec::new();
        while let Some(&(until, unit)) = self.rest_ends.first() {
            if until > now {
                break;
            }
            self.rest_ends.pop_first();
            let Some(rest) = self.resting.remove(&unit) else {
                continue;
            };
            *returns = returns.saturating_add(1);
            self.idle.insert(*returns, unit);
            self.idle_units.insert(unit, (*returns, rest.former));
            let mut forgotten = None;
            if self.idle.len() > IDLE_LIMIT
                && let Some((_, oldest)) = self.idle.pop_first()
                && let Some((_, former)) = self.idle_units.remove(&oldest)
            {
                forgotten = former.map(|who| (who, oldest));
            }
            rested.push((unit, forgotten));
        }
        rested
    }

    /// Whether nobody but `subscriber` has had the unit since it came back.
    pub(super) fn was_last(&self, unit: u64, subscriber: &SubscriberId) -> bool {
        let resting = self
            .resting
            .get(&unit)
            .and_then(|rest| rest.former.as_ref());
        let idle = self
            .idle_units
            .get(&unit)
            .and_then(|(_, former)| former.as_ref());
        !self.holders.contains_key(&unit) && resting.or(idle) == Some(subscriber)
    }

    pub(super) fn idle_is_full(&self) -> bool {
        self.idle.len() >= IDLE_LIMIT
    }

    /// The lowest unit that was never given and may be.
    pub(super) fn next_fresh(&mut self, pool: &Pool, shard: ShardId) -> Option<u64> {
        let end = pool.units(shard);
        while self.fresh < end {
            let unit = self.fresh;
            self.fresh = self.fresh.saturating_add(1);
            if self.is_untouched(unit) && pool.is_allocatable_unit(shard, unit) {
                return Some(unit);
            }
        }
        None
    }

    /// The unit that has been back for the longest time, and its place in the order of returns.
    pub(super) fn oldest_idle(&mut self, pool: &Pool, shard: ShardId) -> Option<(u64, u64)> {
        while let Some((&order, &unit)) = self.idle.first_key_value() {
            if pool.is_allocatable_unit(shard, unit) {
                return Some((order, unit));
            }
            // Excluded since it was given.
            self.drop_idle(unit);
        }
        None
    }

    /// A unit that was given once, before this process or too long ago to be in the list.
    pub(super) fn sweep(&mut self, pool: &Pool, shard: ShardId) -> Option<u64> {
        if self.available(pool, shard) == 0 {
            return None;
        }
        let end = self.fresh.min(pool.units(shard));
        let candidates = (self.swept..end).chain(0..self.swept.min(end));
        let found = candidates
            .into_iter()
            .find(|unit| self.is_untouched(*unit) && pool.is_allocatable_unit(shard, *unit))?;
        self.swept = found.saturating_add(1);
        Some(found)
    }

    /// Units that could be given now.
    pub(super) fn available(&self, pool: &Pool, shard: ShardId) -> u64 {
        let taken = self
            .holders
            .keys()
            .chain(self.resting.keys())
            .filter(|unit| pool.is_allocatable_unit(shard, **unit))
            .count();
        pool.allocatable_units(shard)
            .saturating_sub(super::count(taken))
    }

    pub(super) fn abandon(&mut self) -> Vec<u64> {
        self.open = false;
        self.fresh = 0;
        self.swept = 0;
        self.rest_ends.clear();
        self.idle.clear();
        self.idle_units.clear();
        std::mem::take(&mut self.resting).into_keys().collect()
    }

    fn is_untouched(&self, unit: u64) -> bool {
        !self.holders.contains_key(&unit)
            && !self.resting.contains_key(&unit)
            && !self.idle_units.contains_key(&unit)
    }

    fn drop_idle(&mut self, unit: u64) -> Option<SubscriberId> {
        let (order, former) = self.idle_units.remove(&unit)?;
        self.idle.remove(&order);
        former
    }
}
