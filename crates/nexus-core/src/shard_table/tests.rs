//! Tests of the shard table: what each command does, and what it refuses.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::id::{Epoch, Seq, SessionId};
use crate::pool::PoolSpec;
use crate::resource::ResourceType;
use crate::shard::{ShardRef, ShardState};

pub(super) fn pool_id(id: &str) -> PoolId {
    PoolId::new(id).unwrap()
}

pub(super) fn olt(id: &str) -> OltId {
    OltId::new(id).unwrap()
}

pub(super) fn session(id: &str) -> SessionId {
    SessionId::new(id).unwrap()
}

fn at(secs: u64) -> ClusterTime {
    ClusterTime::ZERO + Duration::from_secs(1_000_000 + secs)
}

fn residential() -> Box<PoolSpec> {
    let mut spec = PoolSpec::minimal(
        pool_id("residential-ipv4"),
        ResourceType::Ipv4,
        "100.64.0.0/10",
    );
    spec.exclusions.push("100.64.0.0/24".into());
    Box::new(spec)
}

pub(super) fn register(id: &str, of: &str) -> Register {
    Register {
        olt: olt(id),
        name: String::new(),
        region: "east".into(),
        address: String::new(),
        capacity: 2000,
        session: session(of),
        last_seq: Seq(0),
        recorded_seq: Seq(0),
        acked_below: Seq(0),
    }
}

#[test]
fn the_first_olt_of_the_demo_gets_shard_0_and_the_cluster_keeps_the_highest() {
    let mut table = ShardTable::new(LeaseRule::default());
    let added = table
        .apply(
            at(0),
            Command::AddPool {
                spec: residential(),
            },
        )
        .unwrap();
    assert_eq!(added.moves.len(), 1);
    let applied = table
        .apply(at(1), Command::Register(register("olt-east-01", "s1")))
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

/// A pool of `shards` shards of ten VLANs, one of which the cluster keeps.
fn vlans(name: &str, shards: u16) -> Box<PoolSpec> {
    let range = format!("1-{}", shards * 10);
    let mut spec = PoolSpec::minimal(pool_id(name), ResourceType::Vlan, &range);
    spec.shard_size = Some(10);
    spec.vrf = name.into();
    Box::new(spec)
}

/// A table with one pool and one OLT `a` in session `s1`, registered at second 0.
fn table_with(spec: Box<PoolSpec>) -> ShardTable {
    let mut table = ShardTable::new(LeaseRule::default());
    let _ = table.apply(at(0), Command::AddPool { spec }).unwrap();
    let _ = table
        .apply(at(0), Command::Register(register("a", "s1")))
        .unwrap();
    table
}

fn renew(table: &ShardTable, id: &str, of: &str) -> Renew {
    Renew {
        olt: olt(id),
        session: session(of),
        config_revision: table
            .olt(&olt(id))
            .map_or(0, |view| view.row.config_revision),
        last_seq: Seq(0),
        in_use: BTreeMap::new(),
        released: Vec::new(),
        acked_below: Seq(0),
    }
}

fn refs(table: &ShardTable, id: &str, pool: &str) -> Vec<ShardRef> {
    let of_pool = table
        .shards_of(&olt(id))
        .remove(&pool_id(pool))
        .unwrap_or_default();
    let to_ref = |s: OwnedShard| ShardRef {
        pool: pool_id(pool),
        shard: s.shard,
        epoch: s.epoch,
    };
    of_pool.into_iter().map(to_ref).collect()
}

/// First second at which the shards of an OLT heard at second 0 may move: 24 h, 1% and 5 s later.
const LEASE_END: u64 = 86_400 + 864 + 5;

#[test]
fn shards_of_a_dead_olt_move_at_the_end_of_its_lease_and_not_a_moment_sooner() {
    let mut table = table_with(vlans("v", 3));
    let before = refs(&table, "a", "v");
    assert_eq!(before.len(), 2);
    let late = ClusterTime::from_nanos(at(LEASE_END).as_nanos() - 1);
    let _ = table
        .apply(at(LEASE_END - 10), Command::Register(register("b", "s1")))
        .unwrap();
    let applied = table.apply(late, Command::Tick).unwrap();
    assert_eq!(applied.went_offline, [olt("a")]);
    assert!(applied.moves.is_empty());
    assert_eq!(table.next_deadline(), Some(at(LEASE_END)));

    let applied = table.apply(at(LEASE_END), Command::Tick).unwrap();
    assert_eq!(applied.reconfigured, BTreeSet::from([olt("a"), olt("b")]));
    let ended = applied
        .moves
        .iter()
        .filter(|m| m.reason == MoveReason::LeaseEnded);
    assert_eq!(ended.count(), 2);
    assert!(refs(&table, "a", "v").is_empty());
    for shard in refs(&table, "b", "v") {
        assert_eq!(shard.epoch, Epoch(2), "a change of owner adds one");
    }
    for old in before {
        let error = table
            .check_owner(&olt("a"), &session("s1"), &old)
            .unwrap_err();
        assert!(matches!(error, Refusal::NotOwner { .. }));
    }
}

#[test]
fn a_renewal_moves_the_end_of_the_lease() {
    let mut table = table_with(vlans("v", 3));
    let command = Command::Renew(renew(&table, "a", "s1"));
    let applied = table.apply(at(50_000), command).unwrap();
    assert!(
        applied.changes.is_empty(),
        "a heartbeat without news writes nothing"
    );
    let _ = table.apply(at(LEASE_END + 49_999), Command::Tick).unwrap();
    assert_eq!(refs(&table, "a", "v").len(), 2);
    let _ = table.apply(at(LEASE_END + 50_000), Command::Tick).unwrap();
    assert!(refs(&table, "a", "v").is_empty());
}

#[test]
fn an_olt_that_lost_shards_is_not_renewed_before_it_knows() {
    let mut table = table_with(vlans("v", 3));
    let stale = renew(&table, "a", "s1");
    let _ = table.apply(at(LEASE_END), Command::Tick).unwrap();
    let error = table
        .apply(at(LEASE_END + 1), Command::Renew(stale.clone()))
        .unwrap_err();
    assert!(
        matches!(error, Refusal::StaleConfiguration { .. }),
        "{error}"
    );
    // Either way of learning it will do.
    let mut by_registering = table.clone();
    let again = Command::Register(register("a", "s1"));
    let _ = by_registering.apply(at(LEASE_END + 2), again).unwrap();
    let mut fresh = stale;
    fresh.config_revision = table.olt(&olt("a")).unwrap().row.config_revision;
    let _ = table
        .apply(at(LEASE_END + 2), Command::Renew(fresh))
        .unwrap();
    for table in [table, by_registering] {
        assert_eq!(refs(&table, "a", "v").len(), 2);
        assert!(
            refs(&table, "a", "v")
                .iter()
                .all(|shard| shard.epoch == Epoch(2))
        );
    }
}

#[test]
fn another_session_is_refused_while_the_first_is_alive_and_then_gets_other_shards() {
    let mut table = table_with(vlans("v", 8));
    let old = refs(&table, "a", "v");
    let other = || Command::Register(register("a", "s2"));
    let error = table.apply(at(89), other()).unwrap_err();
    assert!(matches!(error, Refusal::AlreadyAlive { .. }), "{error}");
    assert!(error.to_string().contains("wait 1s"), "{error}");
    let _ = table.apply(at(90), other()).unwrap();
    for shard in &old {
        let row = table.shard(&shard.key()).unwrap();
        assert_eq!((row.state, row.epoch), (ShardState::Frozen, shard.epoch));
        assert!(table.check_owner(&olt("a"), &session("s1"), shard).is_err());
    }
    for shard in refs(&table, "a", "v") {
        assert!(old.iter().all(|old| old.shard != shard.shard));
    }
    for dead in [
        Command::Renew(renew(&table, "a", "s1")),
        Command::Register(register("a", "s1")),
    ] {
        let error = table.apply(at(91), dead).unwrap_err();
        assert!(matches!(error, Refusal::Superseded { .. }), "{error}");
    }
    let _ = table
        .apply(at(LEASE_END - 1), Command::Renew(renew(&table, "a", "s2")))
        .unwrap();
    let _ = table.apply(at(LEASE_END), Command::Tick).unwrap();
    assert!(
        table
            .shards(&pool_id("v"))
            .all(|row| row.state != ShardState::Frozen)
    );
}

#[test]
fn a_store_that_was_rolled_back_must_start_a_new_session() {
    let mut table = table_with(vlans("v", 3));
    let mut beat = renew(&table, "a", "s1");
    beat.last_seq = Seq(7);
    let applied = table.apply(at(1), Command::Renew(beat)).unwrap();
    assert!(applied.changes.contains_key(&RowKey::Olt(olt("a"))));
    let with = |last, recorded| {
        let (last_seq, recorded_seq) = (Seq(last), Seq(recorded));
        Command::Register(Register {
            last_seq,
            recorded_seq,
            ..register("a", "s1")
        })
    };
    for (last, recorded) in [(6, 0), (7, 8)] {
        let error = table.apply(at(2), with(last, recorded)).unwrap_err();
        assert!(error.to_string().contains("start a new session"), "{error}");
    }
    let _ = table.apply(at(2), with(7, 7)).unwrap();
}

#[test]
fn only_the_owner_gives_back_and_only_under_the_right_epoch() {
    let mut table = table_with(vlans("v", 8));
    let owned = refs(&table, "a", "v");
    let mut wrong = owned.clone();
    wrong.iter_mut().for_each(|shard| shard.epoch = Epoch(9));
    wrong.push(ShardRef {
        pool: pool_id("nowhere"),
        shard: ShardId(0),
        epoch: Epoch(1),
    });
    let give = |id: &str, shards: Vec<ShardRef>| Command::GiveBack {
        olt: olt(id),
        session: session("s1"),
        shards,
    };
    assert!(
        table
            .apply(at(1), give("a", wrong))
            .unwrap()
            .moves
            .is_empty()
    );
    let _ = table
        .apply(at(1), Command::Register(register("b", "s1")))
        .unwrap();
    let theirs = give("b", owned.clone());
    assert!(table.apply(at(2), theirs).unwrap().moves.is_empty());
    let applied = table.apply(at(3), give("a", owned.clone())).unwrap();
    let given = applied
        .moves
        .iter()
        .filter(|m| m.reason == MoveReason::GivenBack)
        .count();
    assert_eq!(given, owned.len());
    // The same message again, late: whatever was granted meanwhile has another epoch.
    assert!(
        table
            .apply(at(4), give("a", owned))
            .unwrap()
            .moves
            .is_empty()
    );
}

#[test]
fn a_drained_olt_gives_everything_back_and_can_then_be_forgotten() {
    let mut table = table_with(vlans("v", 3));
    let error = table
        .apply(at(1), Command::Deregister { olt: olt("a") })
        .unwrap_err();
    assert!(
        matches!(error, Refusal::NotDrained { shards: 2, .. }),
        "{error}"
    );
    let applied = table
        .apply(at(1), Command::Drain { olt: olt("a") })
        .unwrap();
    assert_eq!(applied.reconfigured, BTreeSet::from([olt("a")]));
    assert_eq!(table.olt(&olt("a")).unwrap().state, OltState::Draining);
    let all_draining = table.shards_of(&olt("a"))[&pool_id("v")]
        .iter()
        .all(|shard| shard.state == ShardState::Draining);
    assert!(all_draining);
    let mut beat = renew(&table, "a", "s1");
    beat.released = refs(&table, "a", "v");
    let _ = table.apply(at(2), Command::Renew(beat)).unwrap();
    assert!(refs(&table, "a", "v").is_empty(), "it gets nothing new");
    let applied = table
        .apply(at(3), Command::Deregister { olt: olt("a") })
        .unwrap();
    assert_eq!(applied.changes[&RowKey::Olt(olt("a"))], None);
    assert!(table.olt(&olt("a")).is_none());
}

#[test]
fn shards_of_a_forgotten_dead_olt_stay_frozen_until_its_lease_has_ended() {
    let mut table = table_with(vlans("v", 3));
    let _ = table
        .apply(at(100), Command::Deregister { olt: olt("a") })
        .unwrap();
    let frozen = |table: &ShardTable| {
        table
            .shards(&pool_id("v"))
            .filter(|row| row.state == ShardState::Frozen)
            .count()
    };
    assert_eq!(frozen(&table), 2);
    let error = table
        .apply(at(101), Command::Register(register("a", "s1")))
        .unwrap_err();
    assert!(matches!(error, Refusal::Superseded { .. }), "{error}");
    let _ = table.apply(at(LEASE_END), Command::Tick).unwrap();
    assert_eq!(frozen(&table), 0);
}

#[test]
fn fencing_needs_a_reason_frees_at_once_and_ends_the_session_until_it_registers() {
    let mut table = table_with(vlans("v", 3));
    let fence = |reason: &str| Command::Fence {
        olt: olt("a"),
        reason: reason.into(),
    };
    assert!(matches!(
        table.apply(at(1), fence(" ")),
        Err(Refusal::ReasonMissing(_))
    ));
    let applied = table.apply(at(1), fence("power cut at the site")).unwrap();
    assert_eq!(
        applied
            .moves
            .iter()
            .filter(|m| m.reason == MoveReason::Fenced)
            .count(),
        2
    );
    assert_eq!(table.olt(&olt("a")).unwrap().state, OltState::Offline);
    let error = table
        .apply(at(2), Command::Renew(renew(&table, "a", "s1")))
        .unwrap_err();
    assert!(
        matches!(error, Refusal::NotCurrentSession { .. }),
        "{error}"
    );
    let _ = table
        .apply(at(3), Command::Register(register("a", "s1")))
        .unwrap();
    assert!(
        refs(&table, "a", "v")
            .iter()
            .all(|shard| shard.epoch == Epoch(2))
    );
}

#[test]
fn pools_that_cannot_be_are_refused_and_name_the_other() {
    let mut table = table_with(residential());
    let exists = table
        .apply(
            at(1),
            Command::AddPool {
                spec: residential(),
            },
        )
        .unwrap_err();
    assert!(matches!(exists, Refusal::PoolExists(_)));
    let spec = PoolSpec::minimal(pool_id("lab"), ResourceType::Ipv4, "100.100.0.0/16");
    let overlap = table
        .apply(at(1), Command::AddPool { spec: spec.into() })
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
        .apply(at(1), Command::AddPool { spec: bad })
        .unwrap_err();
    assert!(error.to_string().contains("host bits"), "{error}");
    let mut other_cut = residential();
    other_cut.shard_size = Some(20);
    let error = table
        .apply(at(1), Command::UpdatePool { spec: other_cut })
        .unwrap_err();
    assert!(matches!(error, Refusal::GeometryChanged(_)));
    let error = table
        .apply(
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
    let applied = table.apply(at(1), update()).unwrap();
    assert_eq!(applied.reconfigured, BTreeSet::from([olt("a")]));
    assert!(table.olt(&olt("a")).unwrap().row.config_revision > before);
    assert_eq!(table.apply(at(2), update()).unwrap(), Applied::default());
}

#[test]
fn a_removed_pool_goes_with_its_last_shard_and_its_epochs_never_come_back() {
    let mut table = table_with(vlans("v", 3));
    let remove = || Command::RemovePool { pool: pool_id("v") };
    let applied = table.apply(at(1), remove()).unwrap();
    assert!(applied.removed_pools.is_empty());
    assert!(table.is_being_removed(&pool_id("v")));
    let error = table
        .apply(
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
    let applied = table.apply(at(2), give).unwrap();
    assert_eq!(applied.removed_pools, [pool_id("v")]);
    assert_eq!(applied.changes[&RowKey::Pool(pool_id("v"))], None);
    assert!(
        applied
            .changes
            .iter()
            .filter(|(key, _)| matches!(key, RowKey::Shard(_)))
            .all(|(_, row)| row.is_none())
    );
    let _ = table
        .apply(
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

#[test]
fn the_clusters_name_and_endless_texts_are_refused() {
    let mut table = ShardTable::new(LeaseRule::default());
    let error = table
        .apply(at(0), Command::Register(register("nexus", "s")))
        .unwrap_err();
    assert!(matches!(error, Refusal::ReservedId(_)));
    let long = Register {
        address: "x".repeat(257),
        ..register("a", "s")
    };
    let error = table.apply(at(0), Command::Register(long)).unwrap_err();
    assert!(
        error.to_string().contains("address of OLT a has 257 bytes"),
        "{error}"
    );
    for unknown in [
        Command::Renew(renew(&table, "a", "s")),
        Command::Drain { olt: olt("a") },
        Command::Deregister { olt: olt("a") },
        Command::Fence {
            olt: olt("a"),
            reason: "gone".into(),
        },
    ] {
        assert_eq!(
            table.apply(at(0), unknown),
            Err(Refusal::UnknownOlt(olt("a")))
        );
    }
}

#[test]
fn after_a_restart_every_lease_is_counted_from_the_restart() {
    let table = table_with(vlans("v", 3));
    // The machine was rebooted as well: its clock starts again.
    let restart = ClusterTime::from_nanos(40_000_000_000);
    let mut again = ShardTable::restore(*table.rule(), table.snapshot(), restart).unwrap();
    assert_eq!(again.snapshot(), table.snapshot());
    let end = restart + Duration::from_secs(LEASE_END);
    let _ = again
        .apply(end.saturating_sub(Duration::from_nanos(1)), Command::Tick)
        .unwrap();
    assert_eq!(refs(&again, "a", "v").len(), 2);
    let _ = again.apply(end, Command::Tick).unwrap();
    assert!(refs(&again, "a", "v").is_empty());
}

#[test]
fn rows_that_do_not_fit_together_are_not_restored() {
    let table = table_with(vlans("v", 3));
    let rows = table
        .snapshot()
        .into_iter()
        .filter(|row| !matches!(row, Row::Pool(_)));
    let error = ShardTable::restore(*table.rule(), rows, at(0)).unwrap_err();
    assert!(matches!(error, RestoreError::StrayShard(_)), "{error}");
}

fn any_command() -> impl Strategy<Value = Command> {
    let olt_and_session = (0u8..3, 0u8..3);
    prop_oneof![
        4 => olt_and_session.clone().prop_map(|(o, s)| {
            Command::Register(register(&format!("olt-{o}"), &format!("s-{s}")))
        }),
        6 => (olt_and_session.clone(), 0u64..40, 0u32..4, 0u64..4).prop_map(|((o, s), rev, shard, epoch)| {
            Command::Renew(Renew {
                olt: olt(&format!("olt-{o}")),
                session: session(&format!("s-{s}")),
                config_revision: rev,
                last_seq: Seq(rev),
                in_use: BTreeMap::from([(pool_id("v"), rev)]),
                released: vec![ShardRef { pool: pool_id("v"), shard: ShardId(shard), epoch: Epoch(epoch) }],
                acked_below: Seq(rev / 2),
            })
        }),
        1 => (0u8..3).prop_map(|o| Command::Drain { olt: olt(&format!("olt-{o}")) }),
        1 => (0u8..3).prop_map(|o| Command::Deregister { olt: olt(&format!("olt-{o}")) }),
        1 => (0u8..3).prop_map(|o| Command::Fence { olt: olt(&format!("olt-{o}")), reason: "test".into() }),
        2 => Just(Command::AddPool { spec: vlans("v", 5) }),
        1 => Just(Command::RemovePool { pool: pool_id("v") }),
        4 => Just(Command::Tick),
    ]
}

proptest! {
    #[test]
    fn what_is_handed_out_to_persist_is_the_whole_table_and_epochs_only_grow(
        commands in proptest::collection::vec((any_command(), 0u64..60_000), 1..80),
    ) {
        let mut table = ShardTable::new(LeaseRule::default());
        let mut store: BTreeMap<String, Row> = BTreeMap::new();
        let mut epochs: BTreeMap<ShardKey, Epoch> = BTreeMap::new();
        let mut secs = 0;
        for (command, wait) in commands {
            secs += wait;
            let before = table.clone();
            let json = serde_json::to_string(&command).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Command>(&json).unwrap(), &command);
            match table.apply(at(secs), command) {
                Err(_) => prop_assert_eq!(before.snapshot(), table.snapshot()),
                Ok(applied) => {
                    for (key, row) in applied.changes {
                        match row {
                            Some(row) => store.insert(key.to_string(), row),
                            None => store.remove(&key.to_string()),
                        };
                    }
                    for step in &applied.moves {
                        let last = epochs.insert(step.key.clone(), step.epoch).unwrap_or_default();
                        let grown = if step.to.is_some() { step.epoch > last } else { step.epoch >= last };
                        prop_assert!(grown, "{:?} after epoch {}", step, last);
                    }
                }
            }
            let rows = store.values().map(|row| {
                serde_json::from_str::<Row>(&serde_json::to_string(row).unwrap()).unwrap()
            });
            let restored = ShardTable::restore(*table.rule(), rows, at(secs)).unwrap();
            prop_assert_eq!(restored.snapshot(), table.snapshot());
        }
    }
}

/// A day-long lease is granted; the grantor comes back with leases of a minute.
fn restarted_with_leases_of_a_minute() -> ShardTable {
    let table = table_with(vlans("v", 3));
    let short = LeaseRule::new(Duration::from_secs(60), Duration::from_secs(10)).unwrap();
    ShardTable::restore(short, table.snapshot(), at(10)).unwrap()
}

#[test]
fn a_grantor_that_restarts_with_a_shorter_lease_waits_for_the_longer_ones_it_granted() {
    let mut table = restarted_with_leases_of_a_minute();
    let applied = table.apply(at(10 + LEASE_END - 1), Command::Tick).unwrap();
    assert!(applied.moves.is_empty(), "{:?}", applied.moves);
    let applied = table.apply(at(10 + LEASE_END), Command::Tick).unwrap();
    assert_eq!(applied.moves[0].reason, MoveReason::LeaseEnded);
}

#[test]
fn a_shorter_renewal_whose_answer_may_be_lost_does_not_end_the_longer_lease() {
    let mut table = restarted_with_leases_of_a_minute();
    let heartbeat = renew(&table, "a", "s1");
    let _ = table.apply(at(20), Command::Renew(heartbeat)).unwrap();
    let applied = table.apply(at(1000), Command::Tick).unwrap();
    assert!(applied.moves.is_empty(), "{:?}", applied.moves);
}

#[test]
fn a_length_that_no_lease_has_any_more_is_forgotten() {
    let mut table = restarted_with_leases_of_a_minute();
    for secs in [10 + LEASE_END - 1, 10 + LEASE_END] {
        let _ = table.apply(at(secs), Command::Tick).unwrap();
    }
    let again = *table.rule();
    let _ = table
        .apply(at(90_000), Command::Register(register("a", "s1")))
        .unwrap();
    let mut table = ShardTable::restore(again, table.snapshot(), at(90_010)).unwrap();
    let applied = table.apply(at(90_100), Command::Tick).unwrap();
    assert!(!applied.moves.is_empty(), "a minute is over");
}
