//! Shards that come, go and are asked back, and the centre's records of them.

use super::*;

#[test]
fn a_draining_shard_is_given_back_once_it_is_empty_and_the_centre_knows() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    acked(&mut edge, &mut shell, 1);
    let mut draining = config(2, &[(0, 1), (1, 1)]);
    draining.pools[0].shards[0].draining = true;
    let mut fx = Effects::new();
    edge.configure(at(201), draining, &mut fx);
    shell.run(fx);
    let other = authorize(&mut edge, &mut shell, 202, 2, 2).unwrap();
    assert_eq!(
        other.resource,
        address("10.0.0.16"),
        "not from a draining shard"
    );
    let mut fx = Effects::new();
    edge.end_session(at(203), &subscriber(1), "session-stop", &mut fx);
    edge.tick(at(204), &mut fx);
    assert!(edge.heartbeat(at(100)).released.is_empty(), "it cools down");
    edge.tick(at(203 + 3672), &mut fx);
    assert!(
        edge.heartbeat(at(100)).released.is_empty(),
        "the centre does not know of the release"
    );
    edge.acked(at(200), Seq(3), &mut fx);
    edge.tick(at(204 + 3672), &mut fx);
    shell.run(fx);
    assert_eq!(edge.heartbeat(at(100)).released.len(), 1);
    let edge = shell.restart(at(3900), "boot-a");
    assert_eq!(
        edge.heartbeat(at(100)).released.len(),
        1,
        "given back is given back"
    );
}

#[test]
fn a_lost_shard_suspends_what_the_centre_has_not_acknowledged_and_keeps_the_rest() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    authorize(&mut edge, &mut shell, 200, 2, 2).unwrap();
    acked(&mut edge, &mut shell, 1);
    let mut fx = Effects::new();
    edge.configure(at(201), config(2, &[(1, 1)]), &mut fx);
    shell.run(fx);
    assert_eq!(edge.map_entries().count(), 1);
    let mut fx = Effects::new();
    edge.refused(at(202), Seq(2), Refusal::Stale, "stale epoch", &mut fx);
    shell.run(fx);
    let granted = authorize(&mut edge, &mut shell, 203, 2, 2).unwrap();
    assert_eq!(granted.resource, address("10.0.0.16"));
    let edge = shell.restart(at(204), "boot-a");
    assert_eq!(edge.map_entries().count(), 2);
}

#[test]
fn a_new_session_keeps_only_what_the_record_confirms() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    for n in 1..=3 {
        authorize(&mut edge, &mut shell, 200, n, n as u16).unwrap();
        acked(&mut edge, &mut shell, u64::from(n));
    }
    let mut fx = Effects::new();
    edge.new_session(SessionId::new("s2").unwrap(), &mut fx);
    assert_eq!(
        edge.map_entries().count(),
        3,
        "nothing blinks before the record is read"
    );
    let lease = Duration::from_secs(60);
    edge.registered(at(210), at(210), lease, config(9, &[(0, 2)]), &mut fx);
    edge.snapshot_begin();
    let record = |sub: u32, resource: &str| record_on("olt-1", sub, address(resource), 1);
    edge.record(at(210), RecordKind::Put, &record(1, "10.0.0.2"), &mut fx);
    edge.record(at(210), RecordKind::Put, &record(7, "10.0.0.3"), &mut fx);
    edge.snapshot_end(at(210), &mut fx);
    shell.run(fx);
    let left: Vec<_> = edge
        .bindings(None)
        .map(|b| b.row.subscriber.clone())
        .collect();
    assert_eq!(left, [subscriber(1)]);
    let other = authorize(&mut edge, &mut shell, 211, 7, 7).unwrap();
    assert_eq!(other.resource, address("10.0.0.3"));
    assert_eq!(other.valid_until, None, "it is on record for this host");
}

#[test]
fn an_acknowledged_binding_that_the_record_lost_is_recorded_again() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    acked(&mut edge, &mut shell, 1);
    shell.take();
    let mut fx = Effects::new();
    edge.snapshot_begin();
    edge.snapshot_end(at(300), &mut fx);
    shell.run(fx);
    assert_eq!(shell.sent()[0].seq, Seq(2));
    assert_eq!(edge.map_entries().count(), 1);
}

#[test]
fn a_release_that_the_centre_asks_for_ends_the_binding() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    let granted = authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    acked(&mut edge, &mut shell, 1);
    shell.take();
    let record = record_on("olt-1", 1, granted.resource, 1);
    let mut fx = Effects::new();
    edge.record(at(201), RecordKind::ReleaseRequested, &record, &mut fx);
    shell.run(fx);
    assert_eq!(edge.bindings(None).count(), 0);
    assert!(matches!(
        shell.sent()[0].command.what,
        What::Deallocate { .. }
    ));
}

#[test]
fn a_login_does_not_revive_what_stood_in_a_shard_that_moved() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    let late = 100 + 86_400;
    let mut fx = Effects::new();
    edge.renewed(at(late), at(late), Duration::from_secs(60), 2, &mut fx);
    edge.configure(at(late), config(2, &[(0, 3), (1, 1)]), &mut fx);
    shell.run(fx);
    assert!(matches!(
        authorize(&mut edge, &mut shell, late, 1, 1),
        Err(Denied::NotReady(_))
    ));
    assert_eq!(edge.map_entries().count(), 0);
}

#[test]
fn what_was_released_shortly_before_a_shard_came_rests_here_too() {
    let mut shell = Shell::default();
    let mut edge = shell.restart(at(1), "boot-a");
    let mut fx = Effects::new();
    let day = Duration::from_secs(86_400);
    edge.registered(at(2), at(2), day, config(1, &[(0, 2)]), &mut fx);
    edge.snapshot_begin();
    let released = record_on("olt-9", 9, address("10.0.0.2"), 4);
    edge.record(at(2), RecordKind::Released, &released, &mut fx);
    edge.snapshot_end(at(2), &mut fx);
    shell.run(fx);
    let mut edge = shell.restart(at(3), "boot-a");
    let granted = authorize(&mut edge, &mut shell, 4, 1, 1).unwrap();
    assert_eq!(granted.resource, address("10.0.0.3"));
    let former = authorize(&mut edge, &mut shell, 4, 9, 9).unwrap();
    assert_eq!(former.resource, address("10.0.0.2"), "it may have it back");
}

#[test]
fn an_answer_about_a_shard_that_has_moved_counts_the_second_time() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    let mut fx = Effects::new();
    edge.configure(at(201), config(2, &[(1, 1)]), &mut fx);
    shell.run(fx);
    shell.take();
    acked_at(&mut edge, &mut shell, 202, 1);
    assert_eq!(
        edge.map_entries().count(),
        0,
        "it may be from before the move"
    );
    let mut fx = Effects::new();
    edge.tick(at(202) + RESEND_AFTER, &mut fx);
    shell.run(fx);
    assert_eq!(shell.sent()[0].seq, Seq(1));
    acked_at(&mut edge, &mut shell, 205, 1);
    assert_eq!(edge.map_entries().count(), 1);
}

#[test]
fn who_came_back_before_its_address_was_asked_for_keeps_it_and_the_centre_hears_of_it() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    let granted = authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    acked(&mut edge, &mut shell, 1);
    shell.take();
    // It was elsewhere meanwhile, and this host has not heard of it.
    authorize(&mut edge, &mut shell, 300, 1, 1).unwrap();
    assert_eq!(shell.sent()[0].seq, Seq(2));
    let asked = |seq| record_on("olt-1", 1, granted.resource, seq);
    let mut fx = Effects::new();
    edge.record(at(301), RecordKind::ReleaseRequested, &asked(1), &mut fx);
    shell.run(fx);
    assert_eq!(edge.bindings(None).count(), 1);
    acked_at(&mut edge, &mut shell, 302, 2);
    // The same word, longer on its way than the answer.
    let mut fx = Effects::new();
    edge.record(at(303), RecordKind::ReleaseRequested, &asked(1), &mut fx);
    shell.run(fx);
    assert_eq!(edge.bindings(None).count(), 1);
    // What the centre asks for now, it asks for knowing that.
    let mut fx = Effects::new();
    edge.record(at(304), RecordKind::ReleaseRequested, &asked(2), &mut fx);
    shell.run(fx);
    assert_eq!(edge.bindings(None).count(), 0);
}

#[test]
fn what_is_asked_for_after_the_word_of_a_return_was_refused_is_released() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    let granted = authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    acked(&mut edge, &mut shell, 1);
    shell.take();
    authorize(&mut edge, &mut shell, 300, 1, 1).unwrap();
    let seq = shell.sent()[0].seq;
    let mut fx = Effects::new();
    edge.refused(
        at(301),
        seq,
        Refusal::Invalid,
        "it is excluded now",
        &mut fx,
    );
    shell.run(fx);
    assert_eq!(edge.bindings(None).count(), 1, "it was acknowledged before");
    let asked = record_on("olt-1", 1, granted.resource, 1);
    let mut fx = Effects::new();
    edge.record(at(302), RecordKind::ReleaseRequested, &asked, &mut fx);
    shell.run(fx);
    assert_eq!(edge.bindings(None).count(), 0);
}

#[test]
fn what_was_asked_for_while_the_word_of_a_return_was_on_its_way_is_read_again_if_that_is_refused() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    let granted = authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    acked(&mut edge, &mut shell, 1);
    shell.take();
    let asked = record_on("olt-1", 1, granted.resource, 1);
    for (passed_over, seq) in [(false, 2), (true, 3), (false, 4)] {
        authorize(&mut edge, &mut shell, 300 + seq, 1, 1).unwrap();
        if passed_over {
            let mut fx = Effects::new();
            let now = at(300 + seq);
            edge.record(now, RecordKind::ReleaseRequested, &asked, &mut fx);
            shell.run(fx);
        }
        assert_eq!(edge.bindings(None).count(), 1);
        let mut fx = Effects::new();
        edge.refused(at(310), Seq(seq), Refusal::Stale, "it has moved", &mut fx);
        let reads = fx.actions.contains(&Action::PullRecords);
        assert_eq!(reads, passed_over, "{:?}", fx.actions);
        shell.run(fx);
    }
}

#[test]
fn who_comes_back_to_a_host_without_a_lease_is_told_of_once_it_is_connected() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    acked(&mut edge, &mut shell, 1);
    shell.take();
    let late = 200_000;
    assert!(edge.view(at(late)).lease_until.is_none());
    authorize(&mut edge, &mut shell, late, 1, 1).unwrap();
    assert_eq!(edge.view(at(late)).pending, 1);
}

#[test]
fn who_comes_again_and_again_does_not_fill_the_outbox() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    for _ in 0..100 {
        authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    }
    assert!(edge.view(at(200)).pending <= 4);
}

#[test]
fn an_older_image_of_the_disk_is_gone_on_from_under_a_new_session_without_lease() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    for n in [1, 2] {
        authorize(&mut edge, &mut shell, 200, u32::from(n), n).unwrap();
    }
    acked(&mut edge, &mut shell, 1);
    let mut fx = Effects::new();
    let start = Start {
        new_session: SessionId::new("s2").unwrap(),
        rolled_back: true,
        ..start("boot-a")
    };
    let mut edge = Edge::restore(at(300), start, shell.rows.values().cloned(), &mut fx);
    shell.run(fx);
    assert_eq!(edge.session().as_str(), "s2");
    let view = edge.view(at(300));
    assert_eq!((view.lease_until, view.shards.len()), (None, 0));
    assert_eq!((view.acked, view.suspended), (1, 1));
    assert_eq!(
        authorize(&mut edge, &mut shell, 300, 3, 3),
        Err(Denied::LeaseEnded)
    );
    // The same once more after a restart that finds nothing wrong.
    let mut edge = shell.restart(at(301), "boot-a");
    assert_eq!(edge.session().as_str(), "s2");
    assert_eq!(
        authorize(&mut edge, &mut shell, 301, 3, 3),
        Err(Denied::LeaseEnded)
    );
}

#[test]
fn the_second_host_with_an_id_gives_nothing_and_serves_nothing_until_it_is_taken_in() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    for n in [1, 2] {
        authorize(&mut edge, &mut shell, 200, u32::from(n), n).unwrap();
    }
    acked(&mut edge, &mut shell, 1);
    shell.take();
    let mut fx = Effects::new();
    edge.refused_as_second("another host is alive", &mut fx);
    let gone = |action: &&Action| matches!(action, Action::RemoveBinding(_));
    assert_eq!(fx.actions.iter().filter(gone).count(), 3, "{fx:?}");
    shell.run(fx);
    assert_eq!(edge.map_entries().count(), 0);
    let view = edge.view(at(201));
    assert_eq!(view.refused.as_deref(), Some("another host is alive"));
    for sub in [1, 3] {
        let denied = authorize(&mut edge, &mut shell, 201, sub, 3).unwrap_err();
        assert!(matches!(denied, Denied::SecondHost(_)), "{denied}");
    }
    let mut fx = Effects::new();
    let config = config(2, &[(0, 1), (1, 1)]);
    edge.registered(at(300), at(300), Duration::from_secs(60), config, &mut fx);
    assert!(fx.actions.contains(&Action::PullRecords), "{fx:?}");
    shell.run(fx);
    assert_eq!(edge.view(at(300)).refused, None);
    // Taken in, it does not know yet what the other one made of its bindings.
    assert_eq!(edge.map_entries().count(), 0);
    let denied = authorize(&mut edge, &mut shell, 301, 3, 3).unwrap_err();
    assert!(matches!(denied, Denied::NotReady(_)), "{denied}");

    // Nor does its process when it starts again.
    let mut edge = shell.restart(at(301), "boot-a");
    assert_eq!(edge.map_entries().count(), 0);
    assert!(edge.bindings(None).all(|view| view.suspended));
    let denied = authorize(&mut edge, &mut shell, 301, 3, 3).unwrap_err();
    assert!(matches!(denied, Denied::NotReady(_)), "{denied}");
    let mut edge = shell.restart(at(301), "boot-b");
    assert_eq!(edge.map_entries().count(), 0);

    let acked = edge.bindings(None).find(|view| view.row.acked).unwrap();
    let record = Record {
        pool: acked.pool.clone(),
        resource: acked.resource,
        shard: ShardId(0),
        subscriber: acked.row.subscriber.clone(),
        olt: edge.olt().clone(),
        session: None,
        epoch: acked.row.epoch,
        seq: acked.row.seq,
    };
    let mut fx = Effects::new();
    edge.snapshot_begin();
    edge.record(at(302), RecordKind::Put, &record, &mut fx);
    edge.snapshot_end(at(302), &mut fx);
    let back = fx.actions.iter().filter_map(|action| match action {
        Action::PutBinding(entry) => Some(entry.valid_until),
        _ => None,
    });
    assert!(
        back.clone().any(|end| end.is_none()),
        "the acknowledged one"
    );
    shell.run(fx);
    assert!(edge.map_entries().count() > 0);
    let edge = shell.restart(at(303), "boot-b");
    assert!(edge.map_entries().count() > 0);
}

#[test]
fn what_is_read_while_another_host_is_taken_for_this_one_counts_for_nothing() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    acked(&mut edge, &mut shell, 1);
    let mut fx = Effects::new();
    edge.snapshot_begin();
    edge.refused_as_second("another host is alive", &mut fx);
    edge.snapshot_end(at(201), &mut fx);
    edge.snapshot_begin();
    edge.snapshot_end(at(202), &mut fx);
    shell.run(fx);
    assert_eq!(edge.map_entries().count(), 0);
    assert_eq!(edge.bindings(None).count(), 1);
}
