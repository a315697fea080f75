//! Units of pinned pools: on one OLT at a time, and on another only after that one's word.

use super::*;
use crate::id::SubscriberId;

fn pinned() -> Box<PoolSpec> {
    let mut spec = vlans("v", 3);
    spec.pinned = true;
    spec.fixed = vec![crate::pool::StaticEntry {
        subscriber: SubscriberId::new("fixed").unwrap(),
        resource: "10".into(),
    }];
    spec
}

fn table() -> ShardTable {
    let mut table = table_with(pinned());
    let _ = table
        .drive(at(0), Command::Register(register("b", "s2")))
        .unwrap();
    table
}

fn shard(index: u32) -> ShardKey {
    ShardKey {
        pool: pool_id("v"),
        shard: ShardId(index),
    }
}

fn pin(table: &mut ShardTable, unit: u64, holder: &str, on: Option<&str>) -> Result<Seq, Refusal> {
    let command = Command::PinUnit(PinUnit {
        shard: shard(0),
        unit,
        holder: SubscriberId::new(holder).unwrap(),
        server: 7,
        at: on.map(|id| Pin {
            olt: olt(id),
            session: None,
            after: Seq(0),
        }),
    });
    Ok(table.drive(at(1), command)?.unit.unwrap().seq)
}

fn leave(table: &mut ShardTable, unit: u64, seq: Seq) {
    let shard = shard(0);
    let _ = table
        .drive(at(2), Command::LeaveUnit { shard, unit, seq })
        .unwrap();
}

#[test]
fn all_shards_of_a_pinned_pool_are_the_clusters_and_every_olt_of_the_region_is_told() {
    let mut table = table();
    let kept = table.shards_of(&OltId::cluster());
    assert_eq!(kept[&pool_id("v")].len(), 3);
    assert!(table.shards_of(&olt("a")).is_empty());
    let step = Step::Grant {
        shard: shard(0),
        to: olt("a"),
    };
    let before = table.clone();
    let _ = table
        .apply(at(3), Command::Place { steps: vec![step] })
        .unwrap();
    assert_eq!(table.shards_of(&olt("a")), before.shards_of(&olt("a")));
    let mut elsewhere = register("w", "s3");
    elsewhere.region = "west".into();
    let _ = table.drive(at(3), Command::Register(elsewhere)).unwrap();
    let mut spec = pinned();
    spec.metadata.insert("region".into(), "east".into());
    let applied = table.drive(at(4), Command::UpdatePool { spec }).unwrap();
    assert_eq!(applied.reconfigured, BTreeSet::from([olt("a"), olt("b")]));
}

#[test]
fn a_unit_is_on_another_olt_only_after_the_first_has_released_it() {
    let mut table = table();
    let first = pin(&mut table, 4, "sub-1", Some("a")).unwrap();
    let error = pin(&mut table, 4, "sub-1", Some("b")).unwrap_err();
    assert!(error.to_string().contains("still on OLT a"), "{error}");
    assert!(pin(&mut table, 4, "sub-1", None).is_err(), "nor nowhere");
    assert!(
        pin(&mut table, 4, "sub-2", Some("a")).is_err(),
        "nor anybody else's"
    );
    let again = pin(&mut table, 4, "sub-1", Some("a")).unwrap();
    leave(&mut table, 4, first);
    assert!(
        pin(&mut table, 4, "sub-1", Some("b")).is_err(),
        "an old release"
    );
    leave(&mut table, 4, again);
    assert!(pin(&mut table, 4, "sub-2", Some("b")).is_err(), "it rests");
    let moved = pin(&mut table, 4, "sub-1", Some("b")).unwrap();
    assert!(moved > again);
    let there = table.taken_unit(&shard(0), 4).unwrap();
    assert_eq!(there.at.map(|at| &at.olt), Some(&olt("b")));
    let _ = table
        .drive(
            at(3),
            Command::FreeUnit {
                shard: shard(0),
                unit: 4,
                seq: moved,
            },
        )
        .unwrap();
    assert!(pin(&mut table, 4, "sub-2", Some("a")).is_ok());
}

#[test]
fn silence_and_the_end_of_the_lease_free_no_unit_but_a_fence_does_until_the_host_is_back() {
    let mut table = table();
    let _ = pin(&mut table, 4, "sub-1", Some("a")).unwrap();
    let _ = table.drive(at(LEASE_END + 10), Command::Tick).unwrap();
    assert!(
        pin(&mut table, 4, "sub-1", Some("b")).is_err(),
        "the lease has ended"
    );
    let error = table
        .drive(at(LEASE_END + 10), Command::Deregister { olt: olt("a") })
        .unwrap_err();
    assert!(error.to_string().contains("1 units"), "{error}");
    let fence = Command::Fence {
        olt: olt("a"),
        reason: "unplugged".into(),
    };
    let _ = table.drive(at(LEASE_END + 11), fence.clone()).unwrap();
    assert!(
        pin(&mut table, 5, "sub-2", Some("a")).is_err(),
        "nothing goes there"
    );
    let mut back = table.clone();
    let _ = back
        .drive(at(LEASE_END + 12), Command::Register(register("a", "s1")))
        .unwrap();
    assert!(
        pin(&mut back, 4, "sub-1", Some("b")).is_err(),
        "the host is back"
    );
    assert!(pin(&mut table, 4, "sub-1", Some("b")).is_ok());
    let _ = table
        .drive(at(LEASE_END + 12), Command::Deregister { olt: olt("a") })
        .unwrap();
}

#[test]
fn a_unit_that_is_kept_for_somebody_is_nobody_elses_and_pinned_pools_have_no_other_units() {
    let mut table = table();
    let error = pin(&mut table, 9, "sub-1", Some("a")).unwrap_err();
    assert!(error.to_string().contains("taken by fixed"), "{error}");
    assert!(pin(&mut table, 9, "fixed", Some("a")).is_ok());
    let take = Command::TakeUnit {
        shard: shard(0),
        unit: 3,
        holder: SubscriberId::new("sub-1").unwrap(),
        server: 7,
    };
    assert!(matches!(table.drive(at(1), take), Err(Refusal::NotKept(_))));
    let mut plain = table_with(vlans("v", 3));
    assert!(matches!(
        pin(&mut plain, 3, "sub-1", None),
        Err(Refusal::NotKept(_))
    ));
}

#[test]
fn a_release_that_was_sent_before_the_unit_was_given_again_is_known_by_its_number() {
    let pin = Pin {
        olt: olt("a"),
        session: Some(session("s1")),
        after: Seq(7),
    };
    assert!(pin.is_later_than(&session("s1"), Seq(7)));
    assert!(!pin.is_later_than(&session("s1"), Seq(8)));
    assert!(
        !pin.is_later_than(&session("s2"), Seq(7)),
        "of another life"
    );
}

#[test]
fn where_units_are_comes_back_from_a_snapshot() {
    let mut table = table();
    let _ = pin(&mut table, 4, "sub-1", Some("a")).unwrap();
    let _ = pin(&mut table, 5, "sub-2", None).unwrap();
    let bytes = rmp_serde::to_vec_named(&table.image()).unwrap();
    let back = ShardTable::from_image(rmp_serde::from_slice(&bytes).unwrap()).unwrap();
    assert_eq!(back, table);
}
