//! Who may be which OLT: sessions, rolled back stores, names.

use super::*;

#[test]
fn another_session_is_refused_while_the_first_is_alive_and_then_gets_other_shards() {
    let mut table = table_with(vlans("v", 8));
    let old = refs(&table, "a", "v");
    let other = || Command::Register(register("a", "s2"));
    let error = table.drive(at(89), other()).unwrap_err();
    assert!(matches!(error, Refusal::AlreadyAlive { .. }), "{error}");
    assert!(error.to_string().contains("wait 1s"), "{error}");
    let _ = table.drive(at(90), other()).unwrap();
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
        let error = table.drive(at(91), dead).unwrap_err();
        assert!(matches!(error, Refusal::Superseded { .. }), "{error}");
    }
    let _ = table
        .drive(at(LEASE_END - 1), Command::Renew(renew(&table, "a", "s2")))
        .unwrap();
    let _ = table.drive(at(LEASE_END), Command::Tick).unwrap();
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
    let _ = table.drive(at(1), Command::Renew(beat)).unwrap();
    assert_eq!(table.olt(&olt("a")).unwrap().row.last_seq, Seq(7));
    let with = |last, recorded| {
        let (last_seq, recorded_seq) = (Seq(last), Seq(recorded));
        Command::Register(Register {
            last_seq,
            recorded_seq,
            ..register("a", "s1")
        })
    };
    for (last, recorded) in [(6, 0), (7, 8)] {
        let error = table.drive(at(2), with(last, recorded)).unwrap_err();
        assert!(error.to_string().contains("start a new session"), "{error}");
    }
    let _ = table.drive(at(2), with(7, 7)).unwrap();
}

#[test]
fn the_clusters_name_and_endless_texts_are_refused() {
    let mut table = ShardTable::new(LeaseRule::default());
    let error = table
        .drive(at(0), Command::Register(register("nexus", "s")))
        .unwrap_err();
    assert!(matches!(error, Refusal::ReservedId(_)));
    let long = Register {
        address: "x".repeat(257),
        ..register("a", "s")
    };
    let error = table.drive(at(0), Command::Register(long)).unwrap_err();
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
            table.drive(at(0), unknown),
            Err(Refusal::UnknownOlt(olt("a")))
        );
    }
}
