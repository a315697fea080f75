//! How much each OLT holds of one pool, how much it needs and how much it may have.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use super::{Held, Member, cluster_shard, reserve};
use crate::id::{OltId, ShardId};
use crate::pool::Pool;
use crate::shard::ShardState;

struct Account<'a> {
    olt: &'a OltId,
    online: bool,
    /// Shards it holds and may allocate from.
    shards: u64,
    /// Resources in them that may be handed out.
    units: u64,
    /// Resources it should have.
    need: u64,
    in_use: u64,
    /// Its fair share of shards, rounded down.
    fair: u64,
    /// Shards that it should have at least where there are too few: four fifths of the fair share.
    least: u64,
    /// Shards it may have at most.
    bound: u64,
    /// Thousandths of its units below which too little is free.
    low: u64,
    /// Thousandths of its units above which too much is free.
    high: Option<u64>,
}

/// How badly an OLT is off; the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// It holds nothing.
    Nothing,
    /// Nearly everything that it holds is in use.
    NearlyFull,
    /// It has less than four fifths of its fair share.
    FarBelowFair,
    /// It has less than its fair share.
    BelowFair,
    /// It has its fair share and could use more.
    Short,
}

impl Account<'_> {
    /// Holds nothing, or not more than the low-water mark is free: may draw on the reserve.
    fn is_urgent(&self) -> bool {
        self.shards == 0 || self.is_urgent_without(0)
    }

    fn is_urgent_without(&self, units: u64) -> bool {
        !self.is_freer_than(self.low, self.units.saturating_sub(units))
    }

    /// Whether of so many units more than these thousandths would be free.
    fn is_freer_than(&self, per_mille: u64, units: u64) -> bool {
        let used = u128::from(self.in_use).saturating_mul(1000);
        used < u128::from(units).saturating_mul(u128::from(1000_u64.saturating_sub(per_mille)))
    }

    /// Whether it has more than the high-water mark free, and with these units less still more than half way
    /// from the low one: so that what it gives back it does not need again at once.
    fn has_too_much(&self, units: u64) -> bool {
        self.high.is_some_and(|high| {
            let middle = self.low.saturating_add(high) / 2;
            self.online
                && self.shards > 1
                && self.is_freer_than(high, self.units)
                && self.is_freer_than(middle, self.units.saturating_sub(units))
        })
    }

    /// At most half full without these resources.
    fn is_idle_without(&self, units: u64) -> bool {
        self.in_use.saturating_mul(2) <= self.units.saturating_sub(units)
    }

    fn is_short(&self) -> bool {
        self.online && self.units < self.need && (self.shards < self.bound || self.is_urgent())
    }

    fn class(&self) -> Class {
        if self.shards == 0 {
            Class::Nothing
        } else if self.is_urgent() {
            Class::NearlyFull
        } else if self.shards < self.least {
            Class::FarBelowFair
        } else if self.shards < self.fair {
            Class::BelowFair
        } else {
            Class::Short
        }
    }

    /// Shards that others are asked for on its behalf, as long as its class stays what it is.
    fn wanted(&self) -> u64 {
        match self.class() {
            Class::Nothing | Class::NearlyFull => 1,
            Class::FarBelowFair => self.least.saturating_sub(self.shards),
            Class::BelowFair => self.fair.saturating_sub(self.shards),
            Class::Short => 0,
        }
    }

    /// Whether it gives a shard of `units` resources to somebody of that class. Nobody is made to need
    /// help of the same kind by helping.
    fn helps(&self, class: Class, units: u64) -> bool {
        match class {
            Class::Nothing => self.shards > 1,
            Class::NearlyFull => self.shards > 1 && self.is_idle_without(units),
            Class::FarBelowFair => self.shards > self.fair && !self.is_urgent_without(units),
            Class::BelowFair => self.shards > self.bound && !self.is_urgent_without(units),
            Class::Short => false,
        }
    }
}

pub(super) struct Demand<'a> {
    accounts: Vec<Account<'a>>,
    /// Place of each OLT in `accounts`.
    places: BTreeMap<&'a OltId, usize>,
}

impl<'a> Demand<'a> {
    pub fn new(pool: &'a Pool, members: &[&'a Member], held: &BTreeMap<ShardId, Held>) -> Self {
        let kept = u32::from(cluster_shard(pool).is_some()).saturating_add(reserve(pool));
        let to_share = u64::from(pool.shard_count().saturating_sub(kept));
        let mut members = members.to_vec();
        members.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        let total: u64 = members.iter().map(|m| weight(m)).sum();
        let low = u64::from(pool.low_water().per_mille());
        let high = pool.high_water().map(|high| u64::from(high.per_mille()));
        let account = |member: &&'a Member| {
            let scaled = to_share.saturating_mul(weight(member));
            let fair = scaled.checked_div(total).unwrap_or(0);
            let bound = scaled
                .saturating_mul(5)
                .div_ceil(total.saturating_mul(4).max(1));
            Account {
                olt: &member.id,
                online: member.online,
                shards: 0,
                units: 0,
                need: need(member, low, high.is_some()),
                in_use: member.in_use,
                fair,
                least: scaled
                    .saturating_mul(4)
                    .checked_div(total.saturating_mul(5))
                    .unwrap_or(0),
                bound: bound.max(1),
                low,
                high,
            }
        };
        let accounts: Vec<_> = members.iter().map(account).collect();
        let places = (0..)
            .zip(&accounts)
            .map(|(place, account)| (account.olt, place));
        let mut demand = Self {
            places: places.collect(),
            accounts,
        };
        for (shard, held) in held.iter().filter(|(_, h)| h.state == ShardState::Owned) {
            let place = demand.places.get(&held.owner).copied();
            if let Some(place) = place {
                demand.granted(place, pool.allocatable_units(*shard));
            }
        }
        demand
    }

    /// Everybody who should get a free shard, in the order in which they should. Those that may not draw on
    /// the reserve count only if there is `plenty`.
    pub fn queue(&self, plenty: bool) -> Queue {
        let mut queue = Queue::default();
        for (place, account) in (0..).zip(&self.accounts) {
            if account.is_short() && (plenty || account.is_urgent()) {
                queue.0.push(Waiting::new(place, account));
            }
        }
        queue
    }

    /// Who should get the next free shard. Without `plenty` only those who may draw on the reserve.
    pub fn next(&self, queue: &mut Queue, plenty: bool) -> Option<usize> {
        while let Some(waiting) = queue.0.pop() {
            let account = self.accounts.get(waiting.place)?;
            if plenty || account.is_urgent() {
                return Some(waiting.place);
            }
        }
        None
    }

    /// Takes note of a shard of `units` resources that an OLT gets.
    pub fn granted(&mut self, place: usize, units: u64) {
        if let Some(account) = self.accounts.get_mut(place) {
            account.shards = account.shards.saturating_add(1);
            account.units = account.units.saturating_add(units);
        }
    }

    /// Puts an OLT that got a shard back into the queue, if it should have another one.
    pub fn wait_again(&self, queue: &mut Queue, place: usize) {
        if let Some(account) = self.accounts.get(place).filter(|a| a.is_short()) {
            queue.0.push(Waiting::new(place, account));
        }
    }

    /// Name of the OLT at a place.
    pub fn olt(&self, place: usize) -> Option<&'a OltId> {
        self.accounts.get(place).map(|account| account.olt)
    }

    /// Place of an OLT.
    pub fn place(&self, olt: &OltId) -> Option<usize> {
        self.places.get(olt).copied()
    }

    /// Shards to ask back for OLTs that are badly off, beside those that are on their way back already.
    /// Whoever is furthest above its fair share gives first, and its highest shard.
    pub fn relief(
        &mut self,
        shard_units: u64,
        mut coming: u64,
        held: &BTreeMap<ShardId, Held>,
    ) -> Vec<(usize, ShardId)> {
        let mut wanted: BTreeMap<Class, u64> = BTreeMap::new();
        for account in self.accounts.iter().filter(|account| account.is_short()) {
            let count = wanted.entry(account.class()).or_default();
            *count = count.saturating_add(account.wanted());
        }
        // What comes goes to the worst off first.
        for count in wanted.values_mut() {
            let served = coming.min(*count);
            *count = count.saturating_sub(served);
            coming = coming.saturating_sub(served);
        }
        if wanted.values().all(|count| *count == 0) {
            return Vec::new();
        }
        let mut owned = self.owned(held);
        let mut given = Vec::new();
        for (class, count) in wanted {
            self.ask(class, count, shard_units, &mut owned, &mut given);
        }
        given
    }

    /// Shards of each OLT, in the order in which it is asked for them: from the end, those in which something is
    /// in use last.
    fn owned(&self, held: &BTreeMap<ShardId, Held>) -> Vec<Vec<ShardId>> {
        let mut owned: Vec<Vec<ShardId>> = vec![Vec::new(); self.accounts.len()];
        let of = |idle: bool| {
            let state = ShardState::Owned;
            held.iter()
                .filter(move |(_, held)| held.state == state && held.idle == idle)
        };
        for (shard, held) in of(false).chain(of(true)) {
            let place = self.places.get(&held.owner);
            if let Some(shards) = place.and_then(|place| owned.get_mut(*place)) {
                shards.push(*shard);
            }
        }
        owned
    }

    /// Shards that OLTs have too many of, beside those that are `asked` for already.
    pub fn surplus(
        &mut self,
        shard_units: u64,
        held: &BTreeMap<ShardId, Held>,
        asked: &[(usize, ShardId)],
    ) -> Vec<(usize, ShardId)> {
        let rich = |account: &Account<'_>| account.has_too_much(shard_units);
        if !self.accounts.iter().any(rich) {
            return Vec::new();
        }
        let owned = self.owned(held);
        let mut given = Vec::new();
        for ((place, account), mut shards) in (0..).zip(&mut self.accounts).zip(owned) {
            shards.retain(|shard| !asked.contains(&(place, *shard)));
            while rich(account)
                && let Some(shard) = shards.pop()
            {
                account.shards = account.shards.saturating_sub(1);
                account.units = account.units.saturating_sub(shard_units);
                given.push((place, shard));
            }
        }
        given
    }

    fn ask(
        &mut self,
        class: Class,
        mut count: u64,
        shard_units: u64,
        owned: &mut [Vec<ShardId>],
        given: &mut Vec<(usize, ShardId)>,
    ) {
        let gives = |account: &Account<'_>| account.online && account.helps(class, shard_units);
        let excess = |account: &Account<'_>| {
            let above = account.shards.saturating_sub(account.fair);
            (above, account.shards)
        };
        let mut donors: BinaryHeap<_> = (0..)
            .zip(&self.accounts)
            .filter(|(_, account)| count > 0 && gives(account))
            .map(|(place, account)| (excess(account), place))
            .collect();
        while count > 0
            && let Some((_, place)) = donors.pop()
        {
            let shard = owned.get_mut(place).and_then(Vec::pop);
            let (Some(shard), Some(account)) = (shard, self.accounts.get_mut(place)) else {
                continue;
            };
            account.shards = account.shards.saturating_sub(1);
            account.units = account.units.saturating_sub(shard_units);
            given.push((place, shard));
            count = count.saturating_sub(1);
            if gives(account) {
                donors.push((excess(account), place));
            }
        }
    }
}

/// OLTs that should get free shards.
#[derive(Default)]
pub(super) struct Queue(BinaryHeap<Waiting>);

impl Queue {
    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Greater is served first.
#[derive(PartialEq, Eq)]
struct Waiting {
    class: Class,
    units: u64,
    need: u64,
    place: usize,
}

impl Waiting {
    fn new(place: usize, account: &Account<'_>) -> Self {
        Self {
            class: account.class(),
            units: account.units,
            need: account.need,
            place,
        }
    }

    /// Which part of its need it has, compared without dividing.
    fn compare_part(&self, other: &Self) -> Ordering {
        let here = u128::from(self.units).saturating_mul(u128::from(other.need));
        let there = u128::from(other.units).saturating_mul(u128::from(self.need));
        here.cmp(&there)
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        let order = self.class.cmp(&other.class);
        let order = order.then_with(|| self.compare_part(other));
        order.then(self.place.cmp(&other.place)).reverse()
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn weight(member: &Member) -> u64 {
    u64::from(member.capacity.max(1))
}

/// Resources for all subscribers and a quarter more, or for those that there are, if OLTs give back what they do
/// not use; and always enough that more than the low-water mark is free.
fn need(member: &Member, low: u64, by_use: bool) -> u64 {
    let used = member.in_use.saturating_mul(1000);
    let above_low = used.checked_div(1000_u64.saturating_sub(low));
    let above_low = above_low.unwrap_or(u64::MAX).saturating_add(1);
    if by_use {
        return above_low;
    }
    let all = u64::from(member.capacity).max(member.in_use);
    all.saturating_mul(5).div_ceil(4).max(above_low)
}
