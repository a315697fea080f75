//! Leases: renewed, ended, given back, fenced.

use super::*;

#[test]
fn shards_of_a_dead_olt_move_at_the_end_of_its_lease_and_not_a_moment_sooner() {
    let mut table = table_with(vlans("v", 3));
    let before = refs(&table, "a", "v");
    assert_eq!(before.len(), 2);
    let late = ClusterTime::from_nanos(at(LEASE_END).as_nanos() - 1);
    let _ = table
        .drive(at(LEASE_END - 10), Command::Register(register("b", "s1")))
        .unwrap();
    let applied = table.drive(late, Command::Tick).unwrap();
    assert_eq!(applied.went_offline, [olt("a")]);
    assert!(applied.moves.is_empty());
    assert_eq!(table.next_deadline(), Some(at(LEASE_END)));

    let applied = table.drive(at(LEASE_END), Command::Tick).unwrap();
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
    let applied = table.drive(at(50_000), command).unwrap();
    assert_eq!(applied.lease, Some(Duration::from_secs(86_400)));
    assert!(applied.moves.is_empty() && applied.reconfigured.is_empty());
    let _ = table.drive(at(LEASE_END + 49_999), Command::Tick).unwrap();
    assert_eq!(refs(&table, "a", "v").len(), 2);
    let _ = table.drive(at(LEASE_END + 50_000), Command::Tick).unwrap();
    assert!(refs(&table, "a", "v").is_empty());
}

#[test]
fn an_olt_that_lost_shards_is_not_renewed_before_it_knows() {
    let mut table = table_with(vlans("v", 3));
    let stale = renew(&table, "a", "s1");
    let _ = table.drive(at(LEASE_END), Command::Tick).unwrap();
    let error = table
        .drive(at(LEASE_END + 1), Command::Renew(stale.clone()))
        .unwrap_err();
    assert!(
        matches!(error, Refusal::StaleConfiguration { .. }),
        "{error}"
    );
    // Either way of learning it will do.
    let mut by_registering = table.clone();
    let again = Command::Register(register("a", "s1"));
    let _ = by_registering.drive(at(LEASE_END + 2), again).unwrap();
    let mut fresh = stale;
    fresh.config_revision = table.olt(&olt("a")).unwrap().row.config_revision;
    let _ = table
        .drive(at(LEASE_END + 2), Command::Renew(fresh))
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
            .drive(at(1), give("a", wrong))
            .unwrap()
            .moves
            .is_empty()
    );
    let _ = table
        .drive(at(1), Command::Register(register("b", "s1")))
        .unwrap();
    let theirs = give("b", owned.clone());
    assert!(table.drive(at(2), theirs).unwrap().moves.is_empty());
    let applied = table.drive(at(3), give("a", owned.clone())).unwrap();
    let given = applied
        .moves
        .iter()
        .filter(|m| m.reason == MoveReason::GivenBack)
        .count();
    assert_eq!(given, owned.len());
    // The same message again, late: whatever was granted meanwhile has another epoch.
    assert!(
        table
            .drive(at(4), give("a", owned))
            .unwrap()
            .moves
            .is_empty()
    );
}

#[test]
fn a_drained_olt_gives_everything_back_and_can_then_be_forgotten() {
    let mut table = table_with(vlans("v", 3));
    let error = table
        .drive(at(1), Command::Deregister { olt: olt("a") })
        .unwrap_err();
    assert!(
        matches!(error, Refusal::NotDrained { shards: 2, .. }),
        "{error}"
    );
    let applied = table
        .drive(at(1), Command::Drain { olt: olt("a") })
        .unwrap();
    assert_eq!(applied.reconfigured, BTreeSet::from([olt("a")]));
    assert_eq!(table.olt(&olt("a")).unwrap().state, OltState::Draining);
    let all_draining = table.shards_of(&olt("a"))[&pool_id("v")]
        .iter()
        .all(|shard| shard.state == ShardState::Draining);
    assert!(all_draining);
    let mut beat = renew(&table, "a", "s1");
    beat.released = refs(&table, "a", "v");
    let _ = table.drive(at(2), Command::Renew(beat)).unwrap();
    assert!(refs(&table, "a", "v").is_empty(), "it gets nothing new");
    let _ = table
        .drive(at(3), Command::Deregister { olt: olt("a") })
        .unwrap();
    assert!(table.olt(&olt("a")).is_none());
}

#[test]
fn shards_of_a_forgotten_dead_olt_stay_frozen_until_its_lease_has_ended() {
    let mut table = table_with(vlans("v", 3));
    let _ = table
        .drive(at(100), Command::Deregister { olt: olt("a") })
        .unwrap();
    let frozen = |table: &ShardTable| {
        table
            .shards(&pool_id("v"))
            .filter(|row| row.state == ShardState::Frozen)
            .count()
    };
    assert_eq!(frozen(&table), 2);
    let error = table
        .drive(at(101), Command::Register(register("a", "s1")))
        .unwrap_err();
    assert!(matches!(error, Refusal::Superseded { .. }), "{error}");
    let _ = table.drive(at(LEASE_END), Command::Tick).unwrap();
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
        table.drive(at(1), fence(" ")),
        Err(Refusal::ReasonMissing(_))
    ));
    let applied = table.drive(at(1), fence("power cut at the site")).unwrap();
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
        .drive(at(2), Command::Renew(renew(&table, "a", "s1")))
        .unwrap_err();
    assert!(
        matches!(error, Refusal::NotCurrentSession { .. }),
        "{error}"
    );
    let _ = table
        .drive(at(3), Command::Register(register("a", "s1")))
        .unwrap();
    assert!(
        refs(&table, "a", "v")
            .iter()
            .all(|shard| shard.epoch == Epoch(2))
    );
}

fn set_rule(secs: u64) -> Command {
    let rule = LeaseRule::new(Duration::from_secs(secs), Duration::from_secs(10)).unwrap();
    Command::SetRule { rule }
}

#[test]
fn a_shorter_rule_ends_no_lease_that_was_granted_under_the_longer_one() {
    let mut table = table_with(vlans("v", 3));
    let _ = table.drive(at(10), set_rule(60)).unwrap();
    let heartbeat = Command::Renew(renew(&table, "a", "s1"));
    let applied = table.drive(at(20), heartbeat).unwrap();
    assert_eq!(applied.lease, Some(Duration::from_secs(60)));
    let applied = table.drive(at(LEASE_END - 1), Command::Tick).unwrap();
    assert!(applied.moves.is_empty(), "{:?}", applied.moves);
    let applied = table.drive(at(LEASE_END), Command::Tick).unwrap();
    assert_eq!(applied.moves[0].reason, MoveReason::LeaseEnded);
}

#[test]
fn a_shorter_rule_holds_for_what_is_granted_afterwards() {
    let mut table = table_with(vlans("v", 8));
    let _ = table.drive(at(10), set_rule(60)).unwrap();
    let applied = table
        .drive(at(10), Command::Register(register("b", "s1")))
        .unwrap();
    assert_eq!(applied.lease, Some(Duration::from_secs(60)));
    let theirs = refs(&table, "b", "v");
    assert!(!theirs.is_empty());
    // 60 s, 1% and 5 s later.
    let end = at(10) + Duration::from_millis(65_600);
    let _ = table
        .drive(end.saturating_sub(Duration::from_nanos(1)), Command::Tick)
        .unwrap();
    assert_eq!(refs(&table, "b", "v"), theirs);
    let _ = table.drive(end, Command::Tick).unwrap();
    assert!(refs(&table, "b", "v").is_empty());
    assert!(!refs(&table, "a", "v").is_empty());
}

#[test]
fn what_is_acknowledged_to_a_session_only_grows_and_begins_again_with_the_next() {
    let mut table = table_with(vlans("v", 3));
    let with = |table: &ShardTable, acked| Renew {
        acked_below: Seq(acked),
        ..renew(table, "a", "s1")
    };
    for (given, known) in [(5, 5), (3, 5), (8, 8)] {
        let beat = Command::Renew(with(&table, given));
        let _ = table.drive(at(1), beat).unwrap();
        assert_eq!(table.olt(&olt("a")).unwrap().row.acked_below, Seq(known));
    }
    let again = Register {
        acked_below: Seq(9),
        ..register("a", "s1")
    };
    let _ = table.drive(at(2), Command::Register(again)).unwrap();
    assert_eq!(table.olt(&olt("a")).unwrap().row.acked_below, Seq(9));
    let other = Command::Register(register("a", "s2"));
    let _ = table.drive(at(100), other).unwrap();
    assert_eq!(table.olt(&olt("a")).unwrap().row.acked_below, Seq(0));
}

#[test]
fn an_olt_whose_neighbour_died_gets_of_the_reserve_when_it_is_nearly_full_and_not_a_lease_later() {
    let mut table = table_with(vlans("v", 40));
    let _ = table
        .drive(at(0), Command::Register(register("b", "s1")))
        .unwrap();
    for _ in 0..20 {
        let draining = table.shards_of(&olt("a"))[&pool_id("v")]
            .iter()
            .filter(|shard| shard.state == ShardState::Draining)
            .map(|shard| ShardRef {
                pool: pool_id("v"),
                shard: shard.shard,
                epoch: shard.epoch,
            })
            .collect();
        let mut beat = renew(&table, "a", "s1");
        beat.released = draining;
        let _ = table.drive(at(1), Command::Renew(beat)).unwrap();
    }
    // `b` is silent, `a` serves its subscribers too and fills up.
    let shards = refs(&table, "a", "v").len();
    let free = |table: &ShardTable| {
        let pool = pool_id("v");
        let rows = table.shards(&pool);
        40 - rows.filter(|row| row.owner.is_some()).count()
    };
    let reserve = free(&table);
    assert!(reserve >= 2, "{reserve}");
    let beat_with = |table: &ShardTable, in_use: usize| {
        let mut beat = renew(table, "a", "s1");
        beat.in_use = BTreeMap::from([(pool_id("v"), in_use as u64)]);
        Command::Renew(beat)
    };
    let command = beat_with(&table, shards * 10 * 8 / 10);
    let _ = table.drive(at(100), command).unwrap();
    let applied = table.drive(at(101), Command::Tick).unwrap();
    assert_eq!(applied.went_offline, [olt("b")]);
    assert_eq!(
        refs(&table, "a", "v").len(),
        shards,
        "four fifths are not nearly full"
    );
    let command = beat_with(&table, shards * 10 * 9 / 10);
    let _ = table.drive(at(110), command).unwrap();
    let _ = table.drive(at(111), Command::Tick).unwrap();
    assert_eq!(refs(&table, "a", "v").len(), shards + 1);
    assert_eq!(free(&table), reserve - 1);
    assert!(at(111) < at(LEASE_END), "the lease of `b` is not over");
    assert!(!refs(&table, "b", "v").is_empty());
}

#[test]
fn an_olt_that_is_activated_again_goes_on_with_what_it_has_not_given_back() {
    let mut table = table_with(vlans("v", 3));
    let owned = refs(&table, "a", "v");
    let _ = table
        .drive(at(1), Command::Drain { olt: olt("a") })
        .unwrap();
    let applied = table
        .drive(at(2), Command::Activate { olt: olt("a") })
        .unwrap();
    assert_eq!(applied.reconfigured, BTreeSet::from([olt("a")]));
    assert!(applied.moves.is_empty());
    let shards = &table.shards_of(&olt("a"))[&pool_id("v")];
    assert!(shards.iter().all(|shard| shard.state == ShardState::Owned));
    assert_eq!(refs(&table, "a", "v"), owned);
    let twice = table
        .drive(at(3), Command::Activate { olt: olt("a") })
        .unwrap();
    assert!(twice.reconfigured.is_empty());
    let unknown = table.drive(at(3), Command::Activate { olt: olt("x") });
    assert!(matches!(unknown, Err(Refusal::UnknownOlt(_))));
}
