//! Going on from less than all that was decided: nothing changes hands before every lease has ended, and an
//! OLT keeps exactly what cannot have moved.

use super::*;

/// As another server's log would have it: the table before what was lost, and after.
struct Lost {
    /// What is left.
    table: ShardTable,
    /// What was decided in the end.
    truth: ShardTable,
}

fn vouch(table: &ShardTable, id: &str, of: &str, lease_alive: bool) -> Command {
    Command::Vouch(Vouch {
        olt: olt(id),
        session: session(of),
        config_revision: table.olt(&olt(id)).unwrap().row.config_revision,
        lease_alive,
    })
}

/// `a` and `b` own shards. Then `b` gives one back, which `a` gets: that is lost.
fn lost_move() -> (Lost, ShardRef) {
    let mut table = table_with(vlans("v", 8));
    let _ = table
        .drive(at(1), Command::Register(register("b", "t1")))
        .unwrap();
    let mut truth = table.clone();
    let moved = refs(&truth, "b", "v").pop().unwrap();
    let mut beat = renew(&truth, "b", "t1");
    beat.released = vec![moved.clone()];
    let _ = truth.apply(at(10), Command::Renew(beat)).unwrap();
    let steps = vec![Step::Grant {
        shard: moved.key(),
        to: olt("a"),
    }];
    let _ = truth.apply(at(11), Command::Place { steps }).unwrap();
    assert!(
        refs(&truth, "a", "v")
            .iter()
            .any(|of| of.shard == moved.shard)
    );
    table.recover();
    (Lost { table, truth }, moved)
}

#[test]
fn an_olt_that_knows_nothing_newer_keeps_its_shards_and_one_that_does_gets_them_anew() {
    let mut table = table_with(vlans("v", 8));
    let _ = table
        .drive(at(1), Command::Register(register("b", "t1")))
        .unwrap();
    let (of_a, of_b) = (refs(&table, "a", "v"), refs(&table, "b", "v"));
    assert!(!of_a.is_empty() && !of_b.is_empty());
    table.recover();
    for id in [("a", "s1"), ("b", "t1")] {
        let beat = Command::Renew(renew(&table, id.0, id.1));
        let error = table.drive(at(20), beat).unwrap_err();
        assert!(error.to_string().contains("register again"), "{error}");
    }
    let yes = vouch(&table, "a", "s1", true);
    let no = vouch(&table, "b", "t1", false);
    for command in [
        yes,
        no,
        Command::Register(register("a", "s1")),
        Command::Register(register("b", "t1")),
    ] {
        let _ = table.drive(at(20), command).unwrap();
    }
    assert_eq!(refs(&table, "a", "v"), of_a);
    assert_eq!(refs(&table, "b", "v"), []);
    let beat = Command::Renew(renew(&table, "a", "s1"));
    let _ = table.drive(at(21), beat).unwrap();

    // What `b` had goes to nobody, however it is asked for, until every lease has ended.
    for second in [22, LEASE_END - 1] {
        let _ = table.drive(at(second), Command::Tick).unwrap();
        let to = olt("a");
        let steps = of_b.iter().map(|of| Step::Grant {
            shard: of.key(),
            to: to.clone(),
        });
        let steps = steps.collect();
        let _ = table.apply(at(second), Command::Place { steps }).unwrap();
        assert_eq!(refs(&table, "a", "v"), of_a, "at {second}");
        assert_eq!(refs(&table, "b", "v"), [], "at {second}");
    }
    assert!(table.recovering().is_some());
    let _ = table
        .drive(at(LEASE_END), Command::Renew(renew(&table, "a", "s1")))
        .unwrap();
    let _ = table
        .drive(at(LEASE_END), Command::Register(register("b", "t1")))
        .unwrap();
    let _ = table.drive(at(LEASE_END + 1), Command::Tick).unwrap();
    assert_eq!(table.recovering(), None);
    let highest = of_a.iter().chain(&of_b).map(|of| of.epoch).max().unwrap();
    let anew = refs(&table, "b", "v");
    assert!(!anew.is_empty());
    for of in anew {
        assert!(of.epoch.0 > highest.0 + 1_000_000, "epochs are far above");
    }
}

#[test]
fn an_olt_that_works_with_a_later_configuration_shows_that_something_is_missing() {
    let (Lost { mut table, truth }, moved) = lost_move();
    // Nobody has said that it recovers from anything: an old copy was simply started.
    table.recovering = None;
    table.olts.values_mut().for_each(|olt| olt.doubtful = false);
    let later = vouch(&truth, "a", "s1", true);
    let Command::Vouch(said) = &later else {
        unreachable!()
    };
    assert!(table.needs_vouching(said));
    let mut beat = renew(&table, "a", "s1");
    beat.config_revision = said.config_revision;
    let error = table.drive(at(20), Command::Renew(beat)).unwrap_err();
    assert!(error.to_string().contains("register again"), "{error}");
    assert_eq!(
        table.recovering(),
        None,
        "a refused command changes nothing"
    );

    let _ = table.drive(at(20), later).unwrap();
    assert!(table.recovering().is_some());
    let _ = table
        .drive(at(20), Command::Register(register("a", "s1")))
        .unwrap();
    assert_eq!(refs(&table, "a", "v"), [], "nobody knows what it has");
    // `b` gave the shard back, and does not get it again under the epoch that it gave it back in.
    let _ = table
        .drive(at(21), Command::Register(register("b", "t1")))
        .unwrap();
    assert!(!refs(&table, "b", "v").contains(&moved));
}

#[test]
fn a_host_that_shows_it_again_and_again_neither_lengthens_the_wait_nor_puts_others_in_doubt() {
    let (Lost { mut table, truth }, _) = lost_move();
    let left = table.recovering().unwrap();
    let certain = vouch(&table, "b", "t1", true);
    let _ = table.drive(at(20), certain).unwrap();
    let epochs = table.counters;
    for second in [30, 40, 50] {
        let later = vouch(&truth, "a", "s1", true);
        let _ = table.drive(at(second), later).unwrap();
        assert!(table.is_in_doubt(&olt("a")) && !table.is_in_doubt(&olt("b")));
    }
    assert!(table.recovering().unwrap() < left);
    assert_eq!(table.counters, epochs);
}

#[test]
fn what_an_olt_of_an_older_configuration_or_another_session_says_counts_for_nothing() {
    let mut table = table_with(vlans("v", 8));
    table.recover();
    for (of, older) in [("s1", 1), ("s2", 0)] {
        let revision = table.olt(&olt("a")).unwrap().row.config_revision - older;
        let said = Command::Vouch(Vouch {
            olt: olt("a"),
            session: session(of),
            config_revision: revision,
            lease_alive: true,
        });
        let _ = table.drive(at(5), said).unwrap();
        assert!(table.is_in_doubt(&olt("a")));
    }
}

#[test]
fn no_unit_of_the_clusters_own_is_taken_while_it_may_be_somebodys() {
    let mut table = table_with(vlans("v", 8));
    let take = |table: &mut ShardTable, second| {
        let shard = ShardKey {
            pool: pool_id("v"),
            shard: crate::placement::cluster_shard(table.pool(&pool_id("v")).unwrap()).unwrap(),
        };
        table.drive(
            at(second),
            Command::TakeUnit {
                shard,
                unit: 3,
                holder: crate::id::SubscriberId::new("sub").unwrap(),
                server: 1,
            },
        )
    };
    let before = take(&mut table, 1).unwrap().unit.unwrap();
    table.recover();
    let error = take(&mut table, 2).unwrap_err();
    assert!(
        error.to_string().contains("nothing changes hands"),
        "{error}"
    );
    let _ = table.drive(at(LEASE_END + 2), Command::Tick).unwrap();
    let after = take(&mut table, LEASE_END + 3).unwrap().unit.unwrap();
    assert!(after.seq.0 > before.seq.0 + 1_000_000);
}

#[test]
fn a_snapshot_keeps_the_doubt() {
    let (Lost { table, .. }, _) = lost_move();
    let image = rmp_serde::to_vec_named(&table.image()).unwrap();
    let image: Image = rmp_serde::from_slice(&image).unwrap();
    let again = ShardTable::from_image(image).unwrap();
    assert_eq!(again, table);
    assert!(again.is_in_doubt(&olt("a")) && again.recovering().is_some());
}
