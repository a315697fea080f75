//! Tests of placement: who gets what, how much moves, and that it comes to rest.

use proptest::prelude::*;

use super::*;
use crate::pool::{PoolSpec, Share};
use crate::resource::ResourceType;

fn pool(cidr: &str, shard_size: u32) -> Pool {
    let mut spec = PoolSpec::minimal("p".parse().unwrap(), ResourceType::Ipv4, cidr);
    spec.shard_size = Some(shard_size);
    spec.sharding_factor = 20;
    Pool::new(spec).unwrap()
}

fn member(name: &str, capacity: u32) -> Member {
    Member {
        id: OltId::new(name).unwrap(),
        region: "east".into(),
        capacity,
        in_use: 0,
        online: true,
        draining: false,
    }
}

/// Carries moves out; a drained shard is empty and comes back at once if `give_back`.
fn carry_out(moves: &[Move], held: &mut BTreeMap<ShardId, Held>, give_back: bool) {
    for step in moves {
        match step {
            Move::Grant { shard, to } => {
                let owner = to.clone();
                let before = held.insert(
                    *shard,
                    Held {
                        owner,
                        state: ShardState::Owned,
                        idle: false,
                    },
                );
                assert_eq!(before, None, "granted while held");
            }
            Move::Drain { shard, from } => {
                let before = held.remove(shard).unwrap();
                assert_eq!((&before.owner, before.state), (from, ShardState::Owned));
                if !give_back {
                    held.insert(
                        *shard,
                        Held {
                            state: ShardState::Draining,
                            ..before
                        },
                    );
                }
            }
        }
    }
}

fn settle(pool: &Pool, members: &[Member], held: &mut BTreeMap<ShardId, Held>) -> usize {
    let mut total = 0;
    for _ in 0..500 {
        let moves = place(pool, members, held);
        if moves.is_empty() {
            return total;
        }
        total += moves.len();
        carry_out(&moves, held, true);
    }
    panic!(
        "placement does not come to rest: {:?}",
        place(pool, members, held)
    );
}

fn count(held: &BTreeMap<ShardId, Held>, name: &str) -> usize {
    held.values().filter(|h| h.owner.as_str() == name).count()
}

#[test]
fn the_first_olt_gets_the_lowest_shards_that_it_needs_and_no_more() {
    let pool = pool("100.64.0.0/16", 22);
    let mut held = BTreeMap::new();
    settle(&pool, &[member("a", 2000)], &mut held);
    // 2500 addresses in shards of 1024, of which the first lacks network and router address.
    let of_a: Vec<u32> = held
        .iter()
        .filter(|(_, h)| h.owner.as_str() == "a")
        .map(|(s, _)| s.0)
        .collect();
    assert_eq!(of_a, [0, 1, 2]);
    assert_eq!(held[&ShardId(63)].owner, OltId::cluster());
    assert_eq!(held.len(), 4);
}

#[test]
fn a_pool_of_one_region_is_placed_only_there() {
    let mut spec = PoolSpec::minimal("p".parse().unwrap(), ResourceType::Ipv4, "10.0.0.0/16");
    spec.metadata.insert("region".into(), "west".into());
    let pool = Pool::new(spec).unwrap();
    let mut held = BTreeMap::new();
    let mut west = member("w", 100);
    west.region = "west".into();
    settle(&pool, &[member("e", 100), west.clone()], &mut held);
    assert_eq!(count(&held, "e"), 0);
    assert!(count(&held, "w") > 0);
    // An OLT that moves to another region is asked for its shards.
    west.region = "east".into();
    let moves = place(&pool, &[west], &held);
    assert!(matches!(moves[..], [Move::Drain { .. }]), "{moves:?}");
}

#[test]
fn a_reserve_stays_free_until_somebody_has_nothing_or_is_nearly_full() {
    let pool = pool("10.0.0.0/20", 24);
    let mut members = vec![member("a", 100_000)];
    let mut held = BTreeMap::new();
    settle(&pool, &members, &mut held);
    // 16 shards: one for the cluster, one in reserve.
    assert_eq!((count(&held, "a"), held.len()), (14, 15));
    members[0].in_use = 14 * 256;
    settle(&pool, &members, &mut held);
    assert_eq!(count(&held, "a"), 15);
}

#[test]
fn a_newcomer_is_helped_by_the_largest_holder_down_to_its_bound() {
    let pool = pool("10.0.0.0/20", 24);
    let mut members = vec![member("a", 100_000)];
    let mut held = BTreeMap::new();
    settle(&pool, &members, &mut held);
    members.push(member("b", 100_000));
    let first = place(&pool, &members, &held);
    carry_out(&first, &mut held, false);
    // The reserve helps at once; nothing is asked twice while it is on its way.
    assert_eq!(count(&held, "b"), 1);
    assert!(place(&pool, &members, &held).is_empty());
    held.retain(|_, h| h.state != ShardState::Draining);
    settle(&pool, &members, &mut held);
    // 14 to share: fair are 7, bound are 9.
    assert!(
        (7..=9).contains(&count(&held, "a")),
        "{}",
        count(&held, "a")
    );
    assert!(count(&held, "b") >= 5, "{}", count(&held, "b"));
}

#[test]
fn an_olt_that_is_offline_keeps_what_it_has_and_gets_nothing() {
    let pool = pool("10.0.0.0/20", 24);
    let mut held = BTreeMap::new();
    let mut members = vec![member("a", 500), member("b", 500)];
    members[1].online = false;
    settle(&pool, &members, &mut held);
    assert_eq!(count(&held, "b"), 0);
    members.reverse();
    members[0].online = true;
    members[1].online = false;
    let before = count(&held, "a");
    settle(&pool, &members, &mut held);
    assert_eq!(count(&held, "a"), before);
    assert!(count(&held, "b") > 0);
}

/// A pool of 64 shards of 256 addresses, with marks.
fn marked(low: u16, high: u16) -> Pool {
    let mut spec = PoolSpec::minimal("p".parse().unwrap(), ResourceType::Ipv4, "10.0.0.0/18");
    spec.shard_size = Some(24);
    spec.low_water = Share::from_per_mille(low);
    spec.high_water = Share::from_per_mille(high);
    Pool::new(spec).unwrap()
}

#[test]
fn between_the_marks_nothing_moves_below_and_above_them_shards_come_and_go() {
    let pool = marked(100, 500);
    let mut members = vec![member("a", 2000)];
    let mut held = BTreeMap::new();
    settle(&pool, &members, &mut held);
    assert_eq!(count(&held, "a"), 1, "by use, not by capacity");
    for (in_use, shards) in [
        (200, 1),
        (240, 2),
        (600, 3),
        (1500, 7),
        (1000, 7),
        (700, 5),
        (690, 5),
        (0, 1),
    ] {
        members[0].in_use = in_use;
        settle(&pool, &members, &mut held);
        assert_eq!(count(&held, "a"), shards, "with {in_use} in use");
    }
}

#[test]
fn shards_without_any_use_are_given_back_first() {
    let pool = marked(100, 500);
    let mut members = vec![member("a", 2000)];
    let mut held = BTreeMap::new();
    members[0].in_use = 1500;
    settle(&pool, &members, &mut held);
    members[0].in_use = 750;
    for shard in [1, 3] {
        held.get_mut(&ShardId(shard)).unwrap().idle = true;
    }
    let moves = place(&pool, &members, &held);
    let asked: Vec<u32> = moves
        .iter()
        .map(|step| match step {
            Move::Drain { shard, .. } => shard.0,
            Move::Grant { .. } => panic!("{moves:?}"),
        })
        .collect();
    assert_eq!(asked, [3, 1]);
}

#[test]
fn one_that_is_nearly_full_is_helped_by_one_that_is_nearly_empty_when_nothing_is_free() {
    let pool = pool("10.0.0.0/20", 24);
    let mut members = vec![member("a", 2000), member("b", 2000)];
    let mut held = BTreeMap::new();
    settle(&pool, &members, &mut held);
    members[0].in_use = 250 * count(&held, "a") as u64;
    settle(&pool, &members, &mut held);
    let (had, others) = (count(&held, "a"), count(&held, "b"));
    members[0].in_use = 250 * had as u64;
    settle(&pool, &members, &mut held);
    assert_eq!(
        (count(&held, "a"), count(&held, "b")),
        (had + 1, others - 1)
    );
}

#[test]
fn a_shard_that_is_excluded_as_a_whole_is_given_to_nobody() {
    let mut spec = PoolSpec::minimal("p".parse().unwrap(), ResourceType::Ipv4, "10.0.0.0/22");
    spec.shard_size = Some(24);
    spec.exclusions.push("10.0.0.0/24".into());
    let pool = Pool::new(spec).unwrap();
    let mut held = BTreeMap::new();
    let mut greedy = member("a", 2000);
    greedy.in_use = 2000;
    settle(&pool, &[greedy], &mut held);
    assert_eq!(
        held.keys().map(|shard| shard.0).collect::<Vec<_>>(),
        [1, 2, 3]
    );
}

/// Shards that had an owner before and have another one, or none, now.
fn moved(before: &BTreeMap<ShardId, Held>, after: &BTreeMap<ShardId, Held>) -> usize {
    let other = |(shard, was): &(&ShardId, &Held)| after.get(shard) != Some(*was);
    before.iter().filter(other).count()
}

/// A pool that is too small for its OLTs, which have come one after another.
fn scarce(olts: usize) -> (Pool, Vec<Member>, BTreeMap<ShardId, Held>) {
    let pool = pool("10.0.0.0/16", 24);
    let mut members = Vec::new();
    let mut held = BTreeMap::new();
    for n in 0..olts {
        members.push(member(&format!("olt-{n:02}"), 100_000));
        settle(&pool, &members, &mut held);
    }
    (pool, members, held)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_join_moves_shards_only_to_the_newcomer_and_no_more_than_its_share(olts in 1usize..40) {
        let (pool, mut members, mut held) = scarce(olts);
        let before = held.clone();
        members.push(member("newcomer", 100_000));
        settle(&pool, &members, &mut held);
        let to_share = 256 - 1 - 13;
        let share = to_share as f64 / (olts + 1) as f64;
        // The least that could move is its share; a part of it comes out of the reserve or from nobody.
        let moves = moved(&before, &held);
        prop_assert!(moves as f64 <= 1.1 * share + 1.0, "{moves} moved for a share of {share}");
        for m in &members[..olts] {
            let (had, has) = (count(&before, m.id.as_str()), count(&held, m.id.as_str()));
            prop_assert!(has <= had, "{} went from {had} to {has}", m.id);
        }
        for m in &members {
            let has = count(&held, m.id.as_str()) as f64;
            prop_assert!(has <= (1.25 * share).ceil(), "{} has {has} of {share}", m.id);
            prop_assert!(has >= (0.8 * share).floor(), "{} has {has} of {share}", m.id);
        }
    }

    #[test]
    fn with_marks_it_comes_to_rest_whatever_is_in_use(
        uses in proptest::collection::vec(0u64..3000, 1..6),
        low in 0u16..=500,
        gap in 200u16..=500,
        later in proptest::collection::vec(0u64..3000, 6),
    ) {
        let pool = marked(low, low + gap);
        let mut held = BTreeMap::new();
        let mut members: Vec<_> = (0..uses.len())
            .map(|n| member(&format!("olt-{n}"), 2000))
            .collect();
        for figures in [&uses, &later] {
            for (m, in_use) in members.iter_mut().zip(figures) {
                m.in_use = *in_use;
            }
            settle(&pool, &members, &mut held);
            prop_assert_eq!(settle(&pool, &members, &mut held), 0);
        }
    }

    #[test]
    fn a_leave_moves_what_the_leaver_had_and_nothing_else(olts in 2usize..40, leaver in 0usize..40) {
        let (pool, mut members, mut held) = scarce(olts);
        let leaver = leaver % olts;
        let before = held.clone();
        members[leaver].draining = true;
        settle(&pool, &members, &mut held);
        let theirs = count(&before, members[leaver].id.as_str());
        prop_assert_eq!(count(&held, members[leaver].id.as_str()), 0);
        prop_assert_eq!(moved(&before, &held), theirs);
    }

    #[test]
    fn what_is_given_does_not_depend_on_the_order_of_the_members(
        capacities in proptest::collection::vec((1u32..5000, any::<bool>(), 0u64..3000), 1..12),
        rotation in 0usize..12,
    ) {
        let pool = pool("10.0.0.0/18", 24);
        let mut members: Vec<_> = capacities
            .into_iter()
            .enumerate()
            .map(|(n, (capacity, online, in_use))| {
                let mut new = member(&format!("olt-{n:02}"), capacity);
                (new.online, new.in_use) = (online, in_use);
                new
            })
            .collect();
        let moves = place(&pool, &members, &BTreeMap::new());
        let rotation = rotation % members.len();
        members.rotate_left(rotation);
        prop_assert_eq!(moves, place(&pool, &members, &BTreeMap::new()));
    }

    #[test]
    fn an_absence_and_other_figures_within_the_marks_move_nothing(
        olts in 2usize..20,
        away in 0usize..20,
        fill in 0u64..89,
    ) {
        let (pool, mut members, mut held) = scarce(olts);
        let before = held.clone();
        let away = away % olts;
        members[away].online = false;
        settle(&pool, &members, &mut held);
        members[away].online = true;
        for m in &mut members {
            m.in_use = count(&held, m.id.as_str()) as u64 * 254 * fill / 100;
        }
        settle(&pool, &members, &mut held);
        prop_assert_eq!(before, held);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn it_comes_to_rest_within_its_bounds_and_then_moves_nothing(
        capacities in proptest::collection::vec((0u32..5000, any::<bool>(), 0u64..3000), 1..8),
        shard_size in 18u32..=26,
    ) {
        let pool = pool("10.0.0.0/18", shard_size);
        let mut held = BTreeMap::new();
        let mut members = Vec::new();
        for (index, (capacity, online, in_use)) in capacities.into_iter().enumerate() {
            let mut new = member(&format!("olt-{index}"), capacity);
            (new.online, new.in_use) = (online, in_use);
            members.push(new);
            settle(&pool, &members, &mut held);
        }
        let free = pool.shards().filter(|s| !held.contains_key(s)).count();
        let online: Vec<_> = members.iter().filter(|m| m.online).collect();
        for m in &online {
            // Nobody is left with nothing while there is something.
            let own = count(&held, m.id.as_str());
            prop_assert!(own > 0 || free == 0, "{} has nothing, {} free", m.id, free);
            if own == 0 {
                let largest = online.iter().map(|m| count(&held, m.id.as_str())).max();
                prop_assert!(largest <= Some(1));
            }
        }
        if let Some(kept) = cluster_shard(&pool) {
            prop_assert_eq!(&held[&kept].owner, &OltId::cluster());
        }
    }

    #[test]
    fn a_newcomer_moves_no_shard_while_there_are_free_ones(count in 1usize..20) {
        let pool = pool("10.0.0.0/12", 20);
        let mut members: Vec<_> = (0..count).map(|n| member(&format!("olt-{n}"), 2000)).collect();
        let mut held = BTreeMap::new();
        settle(&pool, &members, &mut held);
        let before = held.clone();
        members.push(member("newcomer", 2000));
        settle(&pool, &members, &mut held);
        prop_assert!(before.iter().all(|(shard, was)| held.get(shard) == Some(was)));
        prop_assert_eq!(held.len(), before.len() + 1);
    }
}
