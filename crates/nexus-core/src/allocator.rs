//! Hands out the units of one pool from the shards that this host owns, with memory bounded by what is in use.
//!
//! A unit is given in this order: the one the subscriber has or had; units that were never given, lowest
//! first; units that came back, oldest first, after their rest. What that costs grows with the logarithm
//! of what is held, and with nothing else: not with how full a shard is, nor with how many there are. An
//! open shard takes a bit for each of its units besides.

mod bitmap;
mod index;
mod shard;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::id::{ShardId, SubscriberId};
use crate::pool::Pool;
use crate::time::BootTime;
use index::{Entry, Index};
pub use shard::IDLE_LIMIT;
use shard::{Rest, ShardUnits};

/// A unit of a pool: its shard and its number in the shard.
pub type Unit = (ShardId, u64);

/// How full a shard is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardUsage {
    /// Units with a holder.
    pub held: u64,
    /// Units that rest: they cool down or are in quarantine.
    pub resting: u64,
    /// Units that could be given now.
    pub available: u64,
}

/// The allocator of one pool on one host.
#[derive(Clone, Debug)]
pub struct Allocator {
    pool: Pool,
    shards: BTreeMap<ShardId, ShardUnits>,
    /// Where each subscriber sits, or sat last as long as that is remembered there.
    seats: BTreeMap<Arc<SubscriberId>, Unit>,
    /// Numbers the returns of units over all shards, so that the oldest can be told.
    returns: u64,
    index: Index,
    /// Most returned units of a shard that are remembered.
    idle_limit: usize,
}

impl Allocator {
    /// An allocator that owns nothing yet.
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        Self {
            pool,
            shards: BTreeMap::new(),
            seats: BTreeMap::new(),
            returns: 0,
            index: Index::default(),
            idle_limit: IDLE_LIMIT,
        }
    }

    /// The pool.
    #[must_use]
    pub const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Takes over another specification, one that [`Pool::change_to`] allows. Units that are held stay held;
    /// one that is excluded or gone is never given again.
    pub fn set_pool(&mut self, pool: Pool) {
        self.pool = pool;
        for (shard, units) in &mut self.shards {
            for (who, unit) in units.set_pool(&self.pool, *shard) {
                forget_seat(&mut self.seats, &who, (*shard, unit));
            }
        }
        let shards: Vec<ShardId> = self.shards.keys().copied().collect();
        shards.into_iter().for_each(|shard| self.relist(shard));
    }

    /// Lets units of `shard` be given, the never given ones from `fresh` on.
    pub fn open(&mut self, shard: ShardId, fresh: u64) {
        let units = self.shards.entry(shard).or_default();
        units.open(&self.pool, shard, fresh);
        self.relist(shard);
    }

    /// Gives nothing more from `shard`. What is held stays held.
    pub fn close(&mut self, shard: ShardId) {
        if let Some(units) = self.shards.get_mut(&shard) {
            units.open = false;
            self.relist(shard);
        }
    }

    /// Forgets what rests in a closed shard and where its fresh units begin: it belongs to somebody
    /// else now. Returns the units that rested. Holders stay.
    pub fn abandon(&mut self, shard: ShardId) -> Vec<u64> {
        let Some(units) = self.shards.get_mut(&shard) else {
            return Vec::new();
        };
        let (resting, formers) = units.abandon();
        for (who, unit) in formers {
            forget_seat(&mut self.seats, &who, (shard, unit));
        }
        self.relist(shard);
        if self
            .shards
            .get(&shard)
            .is_some_and(|units| units.holders.is_empty())
        {
            self.shards.remove(&shard);
        }
        resting
    }

    /// Whether units of `shard` may be given.
    #[must_use]
    pub fn is_open(&self, shard: ShardId) -> bool {
        self.shards.get(&shard).is_some_and(|units| units.open)
    }

    /// Whether any shard is open.
    #[must_use]
    pub fn has_open_shard(&self) -> bool {
        self.shards.values().any(|units| units.open)
    }

    /// Lowest unit of `shard` that was never given; all from it on never were.
    #[must_use]
    pub fn fresh(&self, shard: ShardId) -> u64 {
        self.shards.get(&shard).map_or(0, |units| units.fresh)
    }

    /// Who holds a unit.
    #[must_use]
    pub fn holder(&self, unit: Unit) -> Option<&SubscriberId> {
        let holders = &self.shards.get(&unit.0)?.holders;
        holders.get(&unit.1).map(|holder| &**holder)
    }

    /// Whether a unit rests.
    #[must_use]
    pub fn is_resting(&self, unit: Unit) -> bool {
        self.shards
            .get(&unit.0)
            .is_some_and(|units| units.resting.contains_key(&unit.1))
    }

    /// Whether any unit of `shard` rests.
    #[must_use]
    pub fn is_resting_in(&self, shard: ShardId) -> bool {
        self.shards
            .get(&shard)
            .is_some_and(|units| !units.resting.is_empty())
    }

    /// Whether nothing is held in any shard.
    #[must_use]
    pub fn holds_nothing(&self) -> bool {
        self.shards.values().all(|units| units.holders.is_empty())
    }

    /// Gives `subscriber` a unit of an open shard; `None` if there is none. The unit that it holds
    /// already is given again.
    pub fn allocate(&mut self, now: BootTime, subscriber: &SubscriberId) -> Option<Unit> {
        self.settle(now);
        let unit = self
            .own_seat(subscriber)
            .or_else(|| self.fresh_unit())
            .or_else(|| self.oldest_idle())
            .or_else(|| self.loose_unit())?;
        self.seat(unit, subscriber);
        Some(unit)
    }

    /// As [`Allocator::allocate`], but nothing that anybody else has held.
    pub fn allocate_unused(&mut self, now: BootTime, subscriber: &SubscriberId) -> Option<Unit> {
        self.settle(now);
        let unit = self.own_seat(subscriber).or_else(|| self.fresh_unit())?;
        self.seat(unit, subscriber);
        Some(unit)
    }

    /// Notes that `subscriber` holds `unit`, as rows or the centre's record say. `false`: somebody
    /// else does, nothing has changed.
    pub fn hold(&mut self, unit: Unit, subscriber: &SubscriberId) -> bool {
        if self.holder(unit).is_some_and(|holder| holder != subscriber) {
            return false;
        }
        self.seat(unit, subscriber);
        true
    }

    /// Notes that a unit is taken, on behalf of `subscriber`, but not here: it is not given to the
    /// subscriber either. `false`: somebody else holds it, nothing has changed.
    pub fn hold_apart(&mut self, unit: Unit, subscriber: &SubscriberId) -> bool {
        if self.holder(unit).is_some_and(|holder| holder != subscriber) {
            return false;
        }
        let seat = self.seats.get(subscriber).copied();
        self.seat(unit, subscriber);
        match seat {
            Some(seat) if seat != unit => {
                self.seats.insert(Arc::new(subscriber.clone()), seat);
            }
            _ => {
                self.seats.remove(subscriber);
            }
        }
        true
    }

    /// Takes a unit back; until `until` only its former holder may get it again.
    pub fn release(&mut self, unit: Unit, until: BootTime) {
        self.rest(unit, until, true);
    }

    /// Takes a unit back; until `until` nobody gets it.
    pub fn quarantine(&mut self, unit: Unit, until: BootTime) {
        self.rest(unit, until, false);
    }

    /// Restores a unit that cools down, formerly held by `former`.
    pub fn restore_rest(&mut self, unit: Unit, until: BootTime, former: Option<&SubscriberId>) {
        if self.holder(unit).is_some() {
            return;
        }
        self.shards.entry(unit.0).or_default();
        if let Some(former) = former {
            self.seat(unit, former);
        }
        self.rest(unit, until, former.is_some());
    }

    /// Ends the rest of units whose time has come and returns them, in the order in which they ended.
    pub fn settle(&mut self, now: BootTime) -> Vec<Unit> {
        let mut rested = Vec::new();
        while let Some(shard) = self.index.rested(now) {
            self.returns = self.returns.saturating_add(1);
            let ended = self
                .shards
                .get_mut(&shard)
                .and_then(|units| units.end_rest(&self.pool, shard, self.returns, self.idle_limit));
            self.relist(shard);
            let Some(ended) = ended else {
                continue;
            };
            rested.push((shard, ended.unit));
            if let Some((who, unit)) = ended.forgotten {
                forget_seat(&mut self.seats, &who, (shard, unit));
            }
        }
        rested
    }

    /// How full `shard` is; nothing of a shard that was never opened and has no holder.
    #[must_use]
    pub fn usage(&self, shard: ShardId) -> ShardUsage {
        let Some(units) = self.shards.get(&shard) else {
            return ShardUsage {
                held: 0,
                resting: 0,
                available: 0,
            };
        };
        let held = count(units.holders.len());
        let resting = count(units.resting.len());
        let available = if units.open { units.available() } else { 0 };
        ShardUsage {
            held,
            resting,
            available,
        }
    }

    /// The subscriber's own unit, if it may be given: it holds it, or it cools down from it, or
    /// nobody has got it since.
    fn own_seat(&self, subscriber: &SubscriberId) -> Option<Unit> {
        let seat = *self.seats.get(subscriber)?;
        let units = self.shards.get(&seat.0)?;
        if units.holders.get(&seat.1).map(|who| &**who) == Some(subscriber) {
            return units.open.then_some(seat);
        }
        let free = units.open
            && self.pool.is_allocatable_unit(seat.0, seat.1)
            && units.was_last(seat.1, subscriber);
        free.then_some(seat)
    }

    fn fresh_unit(&mut self) -> Option<Unit> {
        let shard = self.index.fresh()?;
        let unit = self.shards.get_mut(&shard)?.next_fresh()?;
        Some((shard, unit))
    }

    fn oldest_idle(&self) -> Option<Unit> {
        let shard = self.index.oldest_idle()?;
        Some((shard, self.shards.get(&shard)?.oldest_idle()?))
    }

    fn loose_unit(&mut self) -> Option<Unit> {
        let shard = self.index.loose()?;
        let unit = self.shards.get_mut(&shard)?.sweep()?;
        Some((shard, unit))
    }

    /// Tells the index what has become of a shard; to be called after every change of it.
    fn relist(&mut self, shard: ShardId) {
        if let Some(units) = self.shards.get_mut(&shard) {
            let entry = units.entry(self.idle_limit);
            let before: Entry = std::mem::replace(&mut units.listed, entry);
            self.index.replace(shard, before, entry);
        }
    }

    /// The name of a subscriber as it is kept already, or a new one.
    fn kept(&self, subscriber: &SubscriberId) -> Arc<SubscriberId> {
        match self.seats.get_key_value(subscriber) {
            Some((kept, _)) => Arc::clone(kept),
            None => Arc::new(subscriber.clone()),
        }
    }

    /// Makes `subscriber` the holder and ends every other claim on the unit.
    fn seat(&mut self, unit: Unit, subscriber: &SubscriberId) {
        let subscriber = self.kept(subscriber);
        let units = self.shards.entry(unit.0).or_default();
        if let Some(former) = units.take(unit.1, Arc::clone(&subscriber))
            && former != subscriber
        {
            forget_seat(&mut self.seats, &former, unit);
        }
        self.seats.insert(subscriber, unit);
        self.relist(unit.0);
    }

    fn rest(&mut self, unit: Unit, until: BootTime, keep_former: bool) {
        let Some(units) = self.shards.get_mut(&unit.0) else {
            return;
        };
        // In quarantine without a holder nobody is remembered.
        let holder = units.holders.remove(&unit.1);
        let former = holder.clone().filter(|_| keep_former);
        units.put_to_rest(unit.1, Rest { until, former });
        if let Some(holder) = holder.filter(|_| !keep_former) {
            forget_seat(&mut self.seats, &holder, unit);
        }
        self.relist(unit.0);
    }
}

/// Forgets that `who` sits or sat on `unit`, if that is what is kept.
fn forget_seat(seats: &mut BTreeMap<Arc<SubscriberId>, Unit>, who: &SubscriberId, unit: Unit) {
    if seats.get(who) == Some(&unit) {
        seats.remove(who);
    }
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
