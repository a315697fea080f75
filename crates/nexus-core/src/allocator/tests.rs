//! Properties of the allocator against a plain model of who has what.

mod reference;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::id::PoolId;
use crate::pool::PoolSpec;
use crate::resource::ResourceType;

fn pool(exclusions: &[&str]) -> Pool {
    let mut spec = PoolSpec::minimal(PoolId::new("p").unwrap(), ResourceType::Ipv4, "10.0.0.0/24");
    spec.shard_size = Some(28);
    spec.exclusions = exclusions.iter().map(|text| (*text).to_owned()).collect();
    Pool::new(spec).unwrap()
}

fn subscriber(n: u32) -> SubscriberId {
    SubscriberId::new(format!("sub-{n}")).unwrap()
}

fn at(secs: u64) -> BootTime {
    BootTime::ZERO + Duration::from_secs(secs)
}

#[test]
fn fresh_units_come_lowest_first_and_returned_ones_oldest_first_after_their_rest() {
    let mut allocator = Allocator::new(pool(&[]));
    allocator.open(ShardId(1), 0);
    let given: Vec<_> = (0..16)
        .map(|n| allocator.allocate(at(0), &subscriber(n)).unwrap())
        .collect();
    assert_eq!(given, (0..16).map(|n| (ShardId(1), n)).collect::<Vec<_>>());
    assert_eq!(allocator.allocate(at(0), &subscriber(99)), None);
    allocator.release((ShardId(1), 7), at(10));
    allocator.release((ShardId(1), 3), at(11));
    assert_eq!(allocator.allocate(at(9), &subscriber(99)), None);
    assert_eq!(
        allocator.allocate(at(12), &subscriber(99)),
        Some((ShardId(1), 7))
    );
    assert_eq!(
        allocator.allocate(at(12), &subscriber(98)),
        Some((ShardId(1), 3))
    );
}

#[test]
fn a_subscriber_gets_its_own_unit_back_even_during_the_rest_but_not_out_of_quarantine() {
    let mut allocator = Allocator::new(pool(&[]));
    allocator.open(ShardId(1), 0);
    let unit = allocator.allocate(at(0), &subscriber(1)).unwrap();
    allocator.release(unit, at(600));
    assert_eq!(allocator.allocate(at(1), &subscriber(1)), Some(unit));
    allocator.quarantine(unit, at(600));
    let other = allocator.allocate(at(2), &subscriber(1)).unwrap();
    assert_ne!(other, unit);
}

#[test]
fn a_released_unit_waits_for_its_former_holder_while_fresh_ones_last() {
    let mut allocator = Allocator::new(pool(&[]));
    allocator.open(ShardId(1), 0);
    let unit = allocator.allocate(at(0), &subscriber(1)).unwrap();
    allocator.release(unit, at(10));
    for n in 2..8 {
        assert_ne!(allocator.allocate(at(20), &subscriber(n)), Some(unit));
    }
    assert_eq!(allocator.allocate(at(21), &subscriber(1)), Some(unit));
}

#[test]
fn after_a_restart_units_below_the_fresh_mark_are_found_again() {
    let mut allocator = Allocator::new(pool(&[]));
    allocator.open(ShardId(1), 16);
    assert!(allocator.hold((ShardId(1), 0), &subscriber(0)));
    let given: BTreeSet<_> = (1..16)
        .map(|n| allocator.allocate(at(0), &subscriber(n)).unwrap())
        .collect();
    assert_eq!(given.len(), 15);
    assert!(!given.contains(&(ShardId(1), 0)));
    assert_eq!(allocator.allocate(at(0), &subscriber(99)), None);
}

#[test]
fn an_abandoned_shard_keeps_its_holders_and_nothing_else() {
    let mut allocator = Allocator::new(pool(&[]));
    allocator.open(ShardId(1), 0);
    let kept = allocator.allocate(at(0), &subscriber(1)).unwrap();
    let gone = allocator.allocate(at(0), &subscriber(2)).unwrap();
    allocator.release(gone, at(600));
    assert_eq!(allocator.abandon(ShardId(1)), vec![gone.1]);
    assert_eq!(allocator.holder(kept), Some(&subscriber(1)));
    assert_eq!(allocator.allocate(at(0), &subscriber(2)), None);
}

#[test]
fn memory_stays_bounded_however_many_units_come_and_go() {
    let spec = PoolSpec::minimal(PoolId::new("p").unwrap(), ResourceType::Ipv4, "10.0.0.0/16");
    let pool = Pool::new(PoolSpec {
        shard_size: Some(16),
        ..spec
    })
    .unwrap();
    let mut allocator = Allocator::new(pool);
    allocator.open(ShardId(0), 0);
    for n in 0..20_000_u32 {
        let unit = allocator
            .allocate(at(u64::from(n)), &subscriber(n))
            .unwrap();
        allocator.release(unit, at(u64::from(n) + 1));
    }
    assert!(allocator.seats.len() <= IDLE_LIMIT + 2);
    assert!(allocator.fresh(ShardId(0)) <= 4096 + 16);
}

#[test]
fn a_grown_pool_gives_what_is_new_and_a_shrunk_one_nothing_of_what_is_gone() {
    let vlans = |range: &str| {
        let mut spec = PoolSpec::minimal(PoolId::new("p").unwrap(), ResourceType::Vlan, range);
        spec.shard_size = Some(10);
        Pool::new(spec).unwrap()
    };
    let mut allocator = Allocator::new(vlans("1-15"));
    allocator.open(ShardId(1), 0);
    let old: Vec<_> = (0..5)
        .map(|n| allocator.allocate(at(0), &subscriber(n)).unwrap())
        .collect();
    assert_eq!(allocator.allocate(at(0), &subscriber(9)), None);
    allocator.set_pool(vlans("1-40"));
    allocator.open(ShardId(2), 0);
    let more: Vec<_> = (10..25)
        .map(|n| allocator.allocate(at(0), &subscriber(n)).unwrap())
        .collect();
    assert_eq!(
        more[..5],
        (5..10).map(|n| (ShardId(1), n)).collect::<Vec<_>>()
    );
    assert_eq!(allocator.allocate(at(0), &subscriber(99)), None);
    allocator.release(old[4], at(1));
    allocator.release(old[0], at(1));
    allocator.set_pool(vlans("1-13"));
    assert_eq!(
        allocator.holder(more[14]),
        Some(&subscriber(24)),
        "held stays held"
    );
    assert_eq!(allocator.usage(ShardId(1)).available, 0);
    assert_eq!(allocator.settle(at(2)).len(), 2);
    assert_eq!(allocator.usage(ShardId(1)).available, 1);
    assert_eq!(
        allocator.allocate(at(2), &subscriber(4)),
        Some(old[0]),
        "its own is gone"
    );
    assert_eq!(allocator.allocate(at(2), &subscriber(98)), None);
}

#[derive(Clone, Debug)]
enum Step {
    Allocate(u32),
    Release(u32),
    Quarantine(u32),
    Wait(u64),
    Open(u32),
    Close(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..40_u32).prop_map(Step::Allocate),
        3 => (0..40_u32).prop_map(Step::Release),
        1 => (0..40_u32).prop_map(Step::Quarantine),
        2 => (1..30_u64).prop_map(Step::Wait),
        1 => (0..4_u32).prop_map(Step::Open),
        1 => (0..4_u32).prop_map(Step::Close),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_unit_has_two_holders_and_none_is_excluded_resting_or_of_a_closed_shard(
        steps in prop::collection::vec(step(), 1..300)
    ) {
        let pool = pool(&["10.0.0.4/30", "10.0.0.20/32"]);
        let mut allocator = Allocator::new(pool.clone());
        let mut open = BTreeSet::new();
        let mut held: BTreeMap<SubscriberId, Unit> = BTreeMap::new();
        let mut resting: BTreeMap<Unit, (BootTime, Option<SubscriberId>)> = BTreeMap::new();
        let mut now = at(0);
        for step in steps {
            match step {
                Step::Allocate(n) => {
                    let who = subscriber(n);
                    let got = allocator.allocate(now, &who);
                    let Some(unit) = got else {
                        let free = pool.shards().filter(|s| open.contains(s)).any(|shard| {
                            (0..pool.units(shard)).any(|u| pool.is_allocatable_unit(shard, u)
                                && !held.values().any(|h| *h == (shard, u))
                                && resting.get(&(shard, u)).is_none_or(|(until, _)| *until <= now))
                        });
                        prop_assert!(!free || held.contains_key(&who), "a free unit was not given");
                        continue;
                    };
                    if let Some(mine) = held.get(&who) {
                        if open.contains(&mine.0) {
                            prop_assert_eq!(unit, *mine, "not sticky");
                            continue;
                        }
                        // The caller ends a binding of a closed shard before it asks for another.
                        held.remove(&who);
                    }
                    prop_assert!(open.contains(&unit.0), "of a closed shard");
                    prop_assert!(pool.is_allocatable_unit(unit.0, unit.1), "excluded");
                    prop_assert!(!held.values().any(|h| *h == unit), "given twice");
                    if let Some((until, former)) = resting.get(&unit) {
                        prop_assert!(*until <= now || former.as_ref() == Some(&who), "resting");
                    }
                    resting.remove(&unit);
                    held.insert(who, unit);
                }
                Step::Release(n) | Step::Quarantine(n) => {
                    let who = subscriber(n);
                    if let Some(unit) = held.remove(&who) {
                        let until = now + Duration::from_secs(20);
                        let former = matches!(step, Step::Release(_)).then_some(who);
                        if former.is_some() {
                            allocator.release(unit, until);
                        } else {
                            allocator.quarantine(unit, until);
                        }
                        resting.insert(unit, (until, former));
                    }
                }
                Step::Wait(secs) => now = now + Duration::from_secs(secs),
                Step::Open(n) => {
                    allocator.open(ShardId(n), 0);
                    open.insert(ShardId(n));
                }
                Step::Close(n) => {
                    let shard = ShardId(n);
                    // Holders of a closed shard would be asked for another unit; let them go first.
                    held.retain(|_, unit| {
                        if unit.0 == shard {
                            allocator.quarantine(*unit, BootTime::ZERO);
                        }
                        unit.0 != shard
                    });
                    allocator.close(shard);
                    open.remove(&shard);
                }
            }
        }
    }
}
