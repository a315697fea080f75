//! Pools: added, changed, removed, placed.

use super::*;

#[test]
fn the_first_olt_of_the_demo_gets_shard_0_and_the_cluster_keeps_the_highest() {
    let mut table = ShardTable::new(LeaseRule::default());
    let added = table
        .drive(
            at(0),
            Command::AddPool {
                spec: residential(),
            },
        )
        .unwrap();
    assert_eq!(added.moves.len(), 1);
    let applied = table
        .drive(at(1), Command::Register(register("olt-east-01", "s1")))
        .unwrap();
    assert_eq!(applied.reconfigured, BTreeSet::from([olt("olt-east-01")]));
    let shards = table.shards_of(&olt("olt-east-01"));
    let shards = &shards[&pool_id("residential-ipv4")];
    assert_eq!(shards.len(), 1);
    assert_eq!(shards[0].range.to_string(), "100.64.0.0/18");
    assert_eq!(
        (shards[0].epoch, shards[0].state),
        (Epoch(1), ShardState::Owned)
    );
    let kept = table.shards_of(&OltId::cluster());
    assert_eq!(kept[&pool_id("residential-ipv4")][0].shard, ShardId(255));
}

#[test]
fn pools_that_cannot_be_are_refused_and_name_the_other() {
    let mut table = table_with(residential());
    let exists = table
        .drive(
            at(1),
            Command::AddPool {
                spec: residential(),
            },
        )
        .unwrap_err();
    assert!(matches!(exists, Refusal::PoolExists(_)));
    let spec = PoolSpec::minimal(pool_id("lab"), ResourceType::Ipv4, "100.100.0.0/16");
    let overlap = table
        .drive(at(1), Command::AddPool { spec: spec.into() })
        .unwrap_err();
    for part in [
        "lab",
        "100.100.0.0/16",
        "residential-ipv4",
        "100.64.0.0/10",
        "vrf default",
    ] {
        assert!(overlap.to_string().contains(part), "{overlap}");
    }
    let mut bad = residential();
    bad.id = pool_id("bad");
    bad.cidr = Some("100.64.0.1/10".into());
    let error = table
        .drive(at(1), Command::AddPool { spec: bad })
        .unwrap_err();
    assert!(error.to_string().contains("host bits"), "{error}");
    let mut other_cut = residential();
    other_cut.shard_size = Some(20);
    let error = table
        .drive(at(1), Command::UpdatePool { spec: other_cut })
        .unwrap_err();
    assert!(matches!(error, Refusal::PoolChange(..)));
    let error = table
        .drive(
            at(1),
            Command::UpdatePool {
                spec: vlans("v", 3),
            },
        )
        .unwrap_err();
    assert!(matches!(error, Refusal::UnknownPool(_)));
}

#[test]
fn an_update_reaches_the_owners_of_shards_and_an_equal_one_nobody() {
    let mut table = table_with(residential());
    let before = table.olt(&olt("a")).unwrap().row.config_revision;
    let mut spec = residential();
    spec.dhcp.dns.push("192.0.2.53".into());
    let update = || Command::UpdatePool { spec: spec.clone() };
    let applied = table.drive(at(1), update()).unwrap();
    assert_eq!(applied.reconfigured, BTreeSet::from([olt("a")]));
    assert!(table.olt(&olt("a")).unwrap().row.config_revision > before);
    assert_eq!(table.drive(at(2), update()).unwrap(), Applied::default());
}

#[test]
fn a_removed_pool_goes_with_its_last_shard_and_its_epochs_never_come_back() {
    let mut table = table_with(vlans("v", 3));
    let remove = || Command::RemovePool { pool: pool_id("v") };
    let applied = table.drive(at(1), remove()).unwrap();
    assert!(applied.removed_pools.is_empty());
    assert!(table.is_being_removed(&pool_id("v")));
    let error = table
        .drive(
            at(1),
            Command::AddPool {
                spec: vlans("v", 3),
            },
        )
        .unwrap_err();
    assert!(matches!(error, Refusal::BeingRemoved(_)));
    let old = refs(&table, "a", "v");
    let (id, of) = (olt("a"), session("s1"));
    let give = Command::GiveBack {
        olt: id,
        session: of,
        shards: old.clone(),
    };
    let applied = table.drive(at(2), give).unwrap();
    assert_eq!(applied.removed_pools, [pool_id("v")]);
    assert!(table.pool(&pool_id("v")).is_none());
    assert_eq!(table.shards(&pool_id("v")).count(), 0);
    let _ = table
        .drive(
            at(3),
            Command::AddPool {
                spec: vlans("v", 3),
            },
        )
        .unwrap();
    let highest = old.iter().map(|shard| shard.epoch).max().unwrap();
    assert!(
        refs(&table, "a", "v")
            .iter()
            .all(|shard| shard.epoch > highest)
    );
}

fn update(table: &mut ShardTable, secs: u64, shards: u16) -> Result<Applied, Refusal> {
    let spec = vlans("v", shards);
    table.drive(at(secs), Command::UpdatePool { spec })
}

#[test]
fn a_pool_grows_at_once_and_its_shards_keep_owner_and_epoch() {
    let mut table = table_with(vlans("v", 3));
    let before = refs(&table, "a", "v");
    let applied = update(&mut table, 1, 6).unwrap();
    assert!(applied.reconfigured.contains(&olt("a")));
    let after = refs(&table, "a", "v");
    assert!(before.iter().all(|shard| after.contains(shard)) && after.len() > before.len());
    let other = vlans("w", 20);
    let mut spec = other.clone();
    spec.vrf = "v".into();
    spec.range = Some("100-200".into());
    let _ = table.drive(at(2), Command::AddPool { spec }).unwrap();
    let error = update(&mut table, 3, 12).unwrap_err();
    assert!(matches!(error, Refusal::Overlap { .. }), "{error}");
}

#[test]
fn a_pool_shrinks_when_its_last_shards_have_come_back_and_gives_nothing_of_them_meanwhile() {
    let mut table = table_with(vlans("v", 10));
    let owned = refs(&table, "a", "v");
    let _ = update(&mut table, 1, 4).unwrap();
    assert_eq!(
        table.pool(&pool_id("v")).unwrap().shard_count(),
        10,
        "not yet"
    );
    assert_eq!(table.shrinks_to(&pool_id("v")).unwrap().shard_count(), 4);
    let draining: Vec<u32> = table.shards_of(&olt("a"))[&pool_id("v")]
        .iter()
        .filter(|shard| shard.state == ShardState::Draining)
        .map(|shard| shard.shard.0)
        .collect();
    let gone: Vec<u32> = owned
        .iter()
        .map(|s| s.shard.0)
        .filter(|s| *s >= 4)
        .collect();
    assert_eq!(draining, gone);
    let _ = table
        .drive(at(2), Command::Register(register("b", "s1")))
        .unwrap();
    assert!(refs(&table, "b", "v").iter().all(|shard| shard.shard.0 < 4));
    let shards = owned.into_iter().filter(|s| s.shard.0 >= 4).collect();
    let give = Command::GiveBack {
        olt: olt("a"),
        session: session("s1"),
        shards,
    };
    let _ = table.drive(at(3), give).unwrap();
    assert_eq!(table.pool(&pool_id("v")).unwrap().shard_count(), 4);
    assert_eq!(table.shrinks_to(&pool_id("v")), None);
    // Grown again, its shards go on above their old epochs.
    let _ = update(&mut table, 4, 10).unwrap();
    let again = refs(&table, "a", "v");
    assert!(
        again
            .iter()
            .filter(|s| s.shard.0 >= 4)
            .all(|s| s.epoch > Epoch(1)),
        "{again:?}"
    );
}

#[test]
fn a_shrink_that_is_taken_back_moves_nothing() {
    let mut table = table_with(vlans("v", 10));
    let before = refs(&table, "a", "v");
    let _ = update(&mut table, 1, 4).unwrap();
    let _ = update(&mut table, 2, 10).unwrap();
    assert_eq!(table.shrinks_to(&pool_id("v")), None);
    assert_eq!(refs(&table, "a", "v"), before);
}
