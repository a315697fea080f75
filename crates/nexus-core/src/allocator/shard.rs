//! The units of one shard: who holds which, which rest, and which have come back and wait for the next holder.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::bitmap::Bitmap;
use super::count;
use super::index::Entry;
use crate::id::{ShardId, SubscriberId};
use crate::pool::Pool;
use crate::time::BootTime;

/// Most returned units of a shard that are remembered one by one. Beyond that returned units are given
/// again before fresh ones, and those that are not remembered come last, in the order of their numbers.
pub const IDLE_LIMIT: usize = 4096;

/// A unit that nobody may get yet.
#[derive(Clone, Debug)]
pub(super) struct Rest {
    pub(super) until: BootTime,
    /// Who may have it back before; nobody in quarantine.
    pub(super) former: Option<Arc<SubscriberId>>,
}

/// A unit whose rest has ended.
pub(super) struct Rested {
    pub(super) unit: u64,
    /// Who is not remembered any more because of it, and where that one sat.
    pub(super) forgotten: Option<(Arc<SubscriberId>, u64)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct ShardUnits {
    pub(super) open: bool,
    /// Lowest unit that was never given.
    pub(super) fresh: u64,
    pub(super) holders: BTreeMap<u64, Arc<SubscriberId>>,
    pub(super) resting: BTreeMap<u64, Rest>,
    rest_ends: BTreeSet<(BootTime, u64)>,
    /// Rested units by order of return, and the other way round with their former holders. All of them may
    /// be handed out.
    idle: BTreeMap<u64, u64>,
    idle_units: BTreeMap<u64, (u64, Option<Arc<SubscriberId>>)>,
    /// Where the next search for a loose unit begins.
    swept: u64,
    /// Units that are held, rest, are idle, or are never handed out. There is none before the shard was
    /// opened.
    blocked: Option<Bitmap>,
    /// What the index says of this shard.
    pub(super) listed: Entry,
}

impl ShardUnits {
    /// Lets units be given.
    pub(super) fn open(&mut self, pool: &Pool, shard: ShardId, fresh: u64) {
        self.open = true;
        self.fresh = self.fresh.max(fresh);
        if self.blocked.is_none() {
            self.block(pool, shard);
        }
    }

    /// Takes over another specification of the pool. Returns who is not remembered any more, and where that
    /// one sat.
    pub(super) fn set_pool(
        &mut self,
        pool: &Pool,
        shard: ShardId,
    ) -> Vec<(Arc<SubscriberId>, u64)> {
        let withdrawn: Vec<u64> = self
            .idle_units
            .keys()
            .copied()
            .filter(|unit| !pool.is_allocatable_unit(shard, *unit))
            .collect();
        let forgotten = withdrawn
            .into_iter()
            .filter_map(|unit| Some((self.drop_idle(unit)?, unit)))
            .collect();
        if self.blocked.is_some() {
            self.block(pool, shard);
        }
        forgotten
    }

    fn block(&mut self, pool: &Pool, shard: ShardId) {
        let mut blocked = Bitmap::new(pool.units(shard), pool.withheld_units(shard));
        let taken = self.holders.keys().chain(self.resting.keys());
        taken
            .chain(self.idle_units.keys())
            .for_each(|unit| blocked.set(*unit));
        self.blocked = Some(blocked);
    }

    /// Makes `subscriber` the holder; returns who held the unit before or sat on it last.
    pub(super) fn take(
        &mut self,
        unit: u64,
        subscriber: Arc<SubscriberId>,
    ) -> Option<Arc<SubscriberId>> {
        let rested = self.resting.remove(&unit).and_then(|rest| {
            self.rest_ends.remove(&(rest.until, unit));
            rest.former
        });
        let idle = self.drop_idle(unit);
        self.set(unit);
        self.holders.insert(unit, subscriber).or(rested).or(idle)
    }

    pub(super) fn put_to_rest(&mut self, unit: u64, rest: Rest) {
        self.drop_idle(unit);
        self.set(unit);
        self.rest_ends.insert((rest.until, unit));
        if let Some(before) = self.resting.insert(unit, rest)
            && self.resting.get(&unit).map(|rest| rest.until) != Some(before.until)
        {
            self.rest_ends.remove(&(before.until, unit));
        }
    }

    /// Ends the rest that ends first. The unit waits for its next holder, unless it may not be handed out any
    /// more; if too many wait, the oldest is not remembered any more.
    pub(super) fn end_rest(
        &mut self,
        pool: &Pool,
        shard: ShardId,
        order: u64,
        limit: usize,
    ) -> Option<Rested> {
        let (_, unit) = self.rest_ends.pop_first()?;
        let former = self.resting.remove(&unit)?.former;
        if !pool.is_allocatable_unit(shard, unit) {
            let forgotten = former.map(|who| (who, unit));
            return Some(Rested { unit, forgotten });
        }
        self.idle.insert(order, unit);
        self.idle_units.insert(unit, (order, former));
        let mut forgotten = None;
        if self.idle.len() > limit
            && let Some((_, oldest)) = self.idle.pop_first()
            && let Some((_, former)) = self.idle_units.remove(&oldest)
        {
            if let Some(blocked) = &mut self.blocked {
                blocked.clear(oldest);
            }
            forgotten = former.map(|who| (who, oldest));
        }
        Some(Rested { unit, forgotten })
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
        !self.holders.contains_key(&unit)
            && resting.or(idle).is_some_and(|who| **who == *subscriber)
    }

    /// The lowest unit that was never given and may be.
    pub(super) fn next_fresh(&mut self) -> Option<u64> {
        let unit = self.blocked.as_ref()?.next_zero(self.fresh)?;
        self.fresh = unit.saturating_add(1);
        Some(unit)
    }

    /// The unit that has been back for the longest time.
    pub(super) fn oldest_idle(&self) -> Option<u64> {
        self.idle.first_key_value().map(|(_, unit)| *unit)
    }

    /// A unit that was given once, before this process or too long ago to be remembered.
    pub(super) fn sweep(&mut self) -> Option<u64> {
        let blocked = self.blocked.as_ref()?;
        let behind = blocked.next_zero(self.swept);
        let found = behind.or_else(|| blocked.next_zero(0))?;
        self.swept = found.saturating_add(1);
        self.fresh = self.fresh.max(self.swept);
        Some(found)
    }

    /// Units that could be given now.
    pub(super) fn available(&self) -> u64 {
        let loose = self.blocked.as_ref().map_or(0, Bitmap::zeros);
        loose.saturating_add(count(self.idle.len()))
    }

    /// What the index has to say.
    pub(super) fn entry(&self, limit: usize) -> Entry {
        let rest = self.rest_ends.first().map(|(until, _)| *until);
        let blocked = self.blocked.as_ref().filter(|_| self.open);
        Entry {
            fresh: self.idle.len() < limit
                && blocked.is_some_and(|blocked| blocked.next_zero(self.fresh).is_some()),
            idle: blocked.and_then(|_| self.idle.keys().next().copied()),
            loose: blocked.is_some_and(|blocked| blocked.zeros() > 0),
            rest,
        }
    }

    /// Forgets all but the holders. Returns the units that rested, and who is not remembered any more with
    /// the unit where that one sat.
    pub(super) fn abandon(&mut self) -> (Vec<u64>, Vec<(Arc<SubscriberId>, u64)>) {
        self.open = false;
        self.fresh = 0;
        self.swept = 0;
        self.blocked = None;
        self.rest_ends.clear();
        self.idle.clear();
        let resting = std::mem::take(&mut self.resting);
        let idle = std::mem::take(&mut self.idle_units);
        let units = resting.keys().copied().collect();
        let resting = resting.into_iter().map(|(unit, rest)| (rest.former, unit));
        let idle = idle.into_iter().map(|(unit, (_, former))| (former, unit));
        let formers = resting
            .chain(idle)
            .filter_map(|(former, unit)| Some((former?, unit)));
        (units, formers.collect())
    }

    fn set(&mut self, unit: u64) {
        if let Some(blocked) = &mut self.blocked {
            blocked.set(unit);
        }
    }

    /// Forgets that a unit is idle; it stays blocked.
    fn drop_idle(&mut self, unit: u64) -> Option<Arc<SubscriberId>> {
        let (order, former) = self.idle_units.remove(&unit)?;
        self.idle.remove(&order);
        former
    }
}
