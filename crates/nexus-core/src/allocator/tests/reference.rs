//! The allocator against a reference that keeps plain lists and looks through all of them each time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::{at, pool, subscriber};
use crate::allocator::{Allocator, ShardUsage, Unit};
use crate::id::{ShardId, SubscriberId};
use crate::pool::Pool;
use crate::time::BootTime;

const LIMIT: usize = 3;

#[derive(Clone, Debug, PartialEq)]
enum State {
    Held(SubscriberId),
    Resting(BootTime, Option<SubscriberId>),
    /// Place in the order of returns.
    Idle(u64, Option<SubscriberId>),
}

struct Plain {
    pool: Pool,
    open: BTreeMap<ShardId, bool>,
    fresh: BTreeMap<ShardId, u64>,
    swept: BTreeMap<ShardId, u64>,
    units: BTreeMap<Unit, State>,
    seats: BTreeMap<SubscriberId, Unit>,
    returns: u64,
}

impl Plain {
    fn idle(&self, shard: ShardId) -> Vec<(u64, Unit)> {
        let in_shard = self.units.iter().filter(|(unit, _)| unit.0 == shard);
        let mut idle: Vec<_> = in_shard
            .filter_map(|(unit, state)| match state {
                State::Idle(order, _) => Some((*order, *unit)),
                _ => None,
            })
            .collect();
        idle.sort_unstable();
        idle
    }

    fn untouched(&self, shard: ShardId) -> Vec<u64> {
        (0..self.pool.units(shard))
            .filter(|unit| self.pool.is_allocatable_unit(shard, *unit))
            .filter(|unit| !self.units.contains_key(&(shard, *unit)))
            .collect()
    }

    fn forget(&mut self, unit: Unit) {
        self.seats.retain(|_, seat| *seat != unit);
        self.units.remove(&unit);
    }

    fn settle(&mut self, now: BootTime) {
        let mut ended: Vec<(BootTime, Unit)> = Vec::new();
        for (unit, state) in &self.units {
            if let State::Resting(until, _) = state
                && *until <= now
            {
                ended.push((*until, *unit));
            }
        }
        ended.sort_unstable();
        for (_, unit) in ended {
            let Some(State::Resting(_, former)) = self.units.get(&unit).cloned() else {
                panic!();
            };
            self.returns += 1;
            if !self.pool.is_allocatable_unit(unit.0, unit.1) {
                self.forget(unit);
                continue;
            }
            self.units.insert(unit, State::Idle(self.returns, former));
            let idle = self.idle(unit.0);
            if idle.len() > LIMIT {
                self.forget(idle[0].1);
            }
        }
    }

    fn is_open(&self, shard: ShardId) -> bool {
        self.open.get(&shard) == Some(&true)
    }

    fn allocate(&mut self, now: BootTime, who: &SubscriberId) -> Option<Unit> {
        self.settle(now);
        let unit = self.choose(who)?;
        if let Some(before) = self.units.get(&unit).cloned() {
            let former = match before {
                State::Held(former) => Some(former),
                State::Resting(_, former) | State::Idle(_, former) => former,
            };
            if let Some(former) = former
                && former != *who
                && self.seats.get(&former) == Some(&unit)
            {
                self.seats.remove(&former);
            }
        }
        self.units.insert(unit, State::Held(who.clone()));
        self.seats.insert(who.clone(), unit);
        Some(unit)
    }

    fn choose(&mut self, who: &SubscriberId) -> Option<Unit> {
        let open: Vec<ShardId> = self
            .open
            .keys()
            .copied()
            .filter(|shard| self.is_open(*shard))
            .collect();
        if let Some(seat) = self
            .seats
            .get(who)
            .copied()
            .filter(|seat| open.contains(&seat.0))
        {
            let allowed = self.pool.is_allocatable_unit(seat.0, seat.1);
            match &self.units[&seat] {
                State::Held(holder) if holder == who => return Some(seat),
                State::Resting(_, former) | State::Idle(_, former)
                    if allowed && former.as_ref() == Some(who) =>
                {
                    return Some(seat);
                }
                _ => {}
            }
        }
        for shard in &open {
            let fresh = self.fresh.get(shard).copied().unwrap_or(0);
            let next = self
                .untouched(*shard)
                .into_iter()
                .find(|unit| *unit >= fresh);
            if let Some(unit) = next.filter(|_| self.idle(*shard).len() < LIMIT) {
                self.fresh.insert(*shard, unit + 1);
                return Some((*shard, unit));
            }
        }
        let oldest = open
            .iter()
            .filter_map(|shard| self.idle(*shard).first().copied())
            .min();
        if let Some((_, unit)) = oldest {
            return Some(unit);
        }
        for shard in open {
            let from = self.swept.get(&shard).copied().unwrap_or(0);
            let untouched = self.untouched(shard);
            let behind = untouched.iter().find(|unit| **unit >= from);
            if let Some(unit) = behind.or(untouched.first()).copied() {
                self.swept.insert(shard, unit + 1);
                return Some((shard, unit));
            }
        }
        None
    }

    fn rest(&mut self, unit: Unit, until: BootTime, keep: bool) {
        let holder = match self.units.get(&unit) {
            Some(State::Held(holder)) => Some(holder.clone()),
            _ => None,
        };
        if !keep {
            self.seats
                .retain(|who, seat| Some(who) != holder.as_ref() || *seat != unit);
        }
        self.units
            .insert(unit, State::Resting(until, holder.filter(|_| keep)));
    }

    fn abandon(&mut self, shard: ShardId) {
        let left: Vec<Unit> = self
            .units
            .iter()
            .filter(|(unit, state)| unit.0 == shard && !matches!(state, State::Held(_)))
            .map(|(unit, _)| *unit)
            .collect();
        left.into_iter().for_each(|unit| self.forget(unit));
        self.open.remove(&shard);
        self.fresh.remove(&shard);
        self.swept.remove(&shard);
    }

    fn set_pool(&mut self, pool: Pool) {
        self.pool = pool;
        let idle: Vec<Unit> = self
            .units
            .iter()
            .filter(|(unit, state)| {
                matches!(state, State::Idle(..)) && !self.pool.is_allocatable_unit(unit.0, unit.1)
            })
            .map(|(unit, _)| *unit)
            .collect();
        idle.into_iter().for_each(|unit| self.forget(unit));
    }

    fn usage(&self, shard: ShardId) -> ShardUsage {
        let of = |wanted: fn(&State) -> bool| {
            self.units
                .iter()
                .filter(|(unit, state)| unit.0 == shard && wanted(state))
                .count() as u64
        };
        let available = self.untouched(shard).len() + self.idle(shard).len();
        ShardUsage {
            held: of(|state| matches!(state, State::Held(_))),
            resting: of(|state| matches!(state, State::Resting(..))),
            available: if self.is_open(shard) {
                available as u64
            } else {
                0
            },
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Allocate(u32),
    Hold(u32, u32, u64),
    End(u32, bool),
    Wait(u64),
    Open(u32, u64),
    Close(u32),
    Abandon(u32),
    Exclude(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..50_u32).prop_map(Step::Allocate),
        2 => (0..50_u32, 0..4_u32, 0..16_u64).prop_map(|(who, shard, unit)| Step::Hold(who, shard, unit)),
        8 => (0..50_u32, prop::bool::weighted(0.7)).prop_map(|(who, keep)| Step::End(who, keep)),
        4 => (1..30_u64).prop_map(Step::Wait),
        2 => (0..4_u32, 0..16_u64).prop_map(|(shard, fresh)| Step::Open(shard, fresh)),
        1 => (0..4_u32).prop_map(Step::Close),
        1 => (0..4_u32).prop_map(Step::Abandon),
        1 => any::<bool>().prop_map(Step::Exclude),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn the_allocator_gives_exactly_what_a_plain_reference_gives(
        steps in prop::collection::vec(step(), 1..300)
    ) {
        let pools = [pool(&["10.0.0.20/32"]), pool(&["10.0.0.16/30", "10.0.0.33-10.0.0.40"])];
        let mut allocator = Allocator::new(pools[0].clone());
        allocator.idle_limit = LIMIT;
        let mut plain = Plain {
            pool: pools[0].clone(),
            open: BTreeMap::new(),
            fresh: BTreeMap::new(),
            swept: BTreeMap::new(),
            units: BTreeMap::new(),
            seats: BTreeMap::new(),
            returns: 0,
        };
        let mut now = at(0);
        for step in steps {
            match step {
                Step::Allocate(n) => {
                    // The caller ends what a subscriber has in a closed shard before it asks for more.
                    let who = subscriber(n);
                    let seat = plain.seats.get(&who).copied();
                    let held = seat.filter(|seat| plain.units.get(seat) == Some(&State::Held(who.clone())));
                    if held.is_some_and(|unit| !plain.is_open(unit.0)) {
                        continue;
                    }
                    prop_assert_eq!(allocator.allocate(now, &who), plain.allocate(now, &who));
                }
                Step::Hold(n, shard, unit) => {
                    let (who, unit) = (subscriber(n), (ShardId(shard), unit));
                    let taken = matches!(plain.units.get(&unit), Some(State::Held(other)) if *other != who);
                    let elsewhere = plain.units.iter().any(|(at, state)| *at != unit && *state == State::Held(who.clone()));
                    if elsewhere {
                        continue;
                    }
                    prop_assert_eq!(allocator.hold(unit, &who), !taken);
                    if !taken {
                        if let Some(State::Resting(_, Some(former)) | State::Idle(_, Some(former))) = plain.units.get(&unit).cloned()
                            && former != who && plain.seats.get(&former) == Some(&unit)
                        {
                            plain.seats.remove(&former);
                        }
                        plain.units.insert(unit, State::Held(who.clone()));
                        plain.seats.insert(who, unit);
                    }
                }
                Step::End(n, keep) => {
                    let who = subscriber(n);
                    let held = plain.units.iter().find(|(_, state)| **state == State::Held(who.clone()));
                    if let Some(unit) = held.map(|(unit, _)| *unit) {
                        let until = now + Duration::from_secs(20);
                        if keep {
                            allocator.release(unit, until);
                        } else {
                            allocator.quarantine(unit, until);
                        }
                        plain.rest(unit, until, keep);
                    }
                }
                Step::Wait(secs) => now = now + Duration::from_secs(secs),
                Step::Open(shard, fresh) => {
                    allocator.open(ShardId(shard), fresh);
                    plain.open.insert(ShardId(shard), true);
                    let known = plain.fresh.entry(ShardId(shard)).or_default();
                    *known = fresh.max(*known);
                }
                Step::Close(shard) => {
                    allocator.close(ShardId(shard));
                    plain.open.entry(ShardId(shard)).and_modify(|open| *open = false);
                }
                Step::Abandon(shard) => {
                    allocator.abandon(ShardId(shard));
                    plain.abandon(ShardId(shard));
                }
                Step::Exclude(which) => {
                    allocator.set_pool(pools[usize::from(which)].clone());
                    plain.set_pool(pools[usize::from(which)].clone());
                }
            }
            for shard in (0..4).map(ShardId) {
                prop_assert_eq!(allocator.usage(shard), plain.usage(shard), "{:?}", shard);
            }
            let seats: BTreeSet<_> = allocator.seats.iter().map(|(who, unit)| ((**who).clone(), *unit)).collect();
            prop_assert_eq!(seats, plain.seats.clone().into_iter().collect::<BTreeSet<_>>());
        }
    }
}
