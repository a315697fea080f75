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
    assert!(edge.heartbeat().released.is_empty(), "it cools down");
    edge.tick(at(203 + 3672), &mut fx);
    assert!(
        edge.heartbeat().released.is_empty(),
        "the centre does not know of the release"
    );
    edge.acked(Seq(3), &mut fx);
    edge.tick(at(204 + 3672), &mut fx);
    shell.run(fx);
    assert_eq!(edge.heartbeat().released.len(), 1);
    let edge = shell.restart(at(3900), "boot-a");
    assert_eq!(
        edge.heartbeat().released.len(),
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
    let record = |sub: u32, resource: &str| Record {
        pool: pool_id(),
        resource: address(resource),
        subscriber: subscriber(sub),
        olt: OltId::new("olt-1").unwrap(),
        epoch: Epoch(1),
        seq: Seq(1),
    };
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
    let record = Record {
        pool: pool_id(),
        resource: granted.resource,
        subscriber: subscriber(1),
        olt: OltId::new("olt-1").unwrap(),
        epoch: Epoch(1),
        seq: Seq(1),
    };
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
    let released = Record {
        pool: pool_id(),
        resource: address("10.0.0.2"),
        subscriber: subscriber(9),
        olt: OltId::new("olt-9").unwrap(),
        epoch: Epoch(1),
        seq: Seq(4),
    };
    edge.record(at(2), RecordKind::Released, &released, &mut fx);
    edge.snapshot_end(at(2), &mut fx);
    shell.run(fx);
    let mut edge = shell.restart(at(3), "boot-a");
    let granted = authorize(&mut edge, &mut shell, 4, 1, 1).unwrap();
    assert_eq!(granted.resource, address("10.0.0.3"));
    let former = authorize(&mut edge, &mut shell, 4, 9, 9).unwrap();
    assert_eq!(former.resource, address("10.0.0.2"), "it may have it back");
}
