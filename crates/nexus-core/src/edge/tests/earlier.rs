//! A host that has lost its store: what its earlier session may have given on is left alone for a while.

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn first() -> Resource {
    address("10.0.0.2")
}

/// The centre has the first address of shard 0 on record for subscriber 1, by the session before this one.
fn record_of(edge: &Edge, session: &str) -> Record {
    Record {
        session: Some(SessionId::new(session).unwrap()),
        ..record_on(edge.olt().as_str(), 1, first(), 7)
    }
}

fn register(edge: &mut Edge, shell: &mut Shell, now: u64, revision: u64, shards: &[(u32, u64)]) {
    let mut fx = Effects::new();
    let config = config(revision, shards);
    edge.registered(at(now), at(now), DAY, config, &mut fx);
    shell.run(fx);
}

fn read(edge: &mut Edge, shell: &mut Shell, now: u64, record: &Record) {
    let mut fx = Effects::new();
    edge.snapshot_begin();
    edge.record(at(now), RecordKind::Put, record, &mut fx);
    edge.snapshot_end(at(now), &mut fx);
    shell.run(fx);
}

fn has_row(shell: &Shell, earlier: Earlier) -> bool {
    let rows = shell.rows.values();
    rows.into_iter()
        .any(|row| matches!(row, Row::Edge(row) if row.earlier == earlier))
}

#[test]
fn a_record_of_an_earlier_session_is_given_to_nobody_as_long_as_that_one_may_have_given_it_on() {
    let mut shell = Shell::default();
    let mut edge = shell.restart(at(100), "boot-a");
    register(&mut edge, &mut shell, 100, 1, &[(1, 1)]);
    let record = record_of(&edge, "s0");
    read(&mut edge, &mut shell, 101, &record);
    // Its subscriber gets another address at once.
    let other = authorize(&mut edge, &mut shell, 102, 1, 1).unwrap();
    assert_ne!(other.resource, first());
    acked_at(&mut edge, &mut shell, 102, 8);
    // It is asked for: the host that never served it says that nobody has it.
    let mut fx = Effects::new();
    edge.record(at(103), RecordKind::ReleaseRequested, &record, &mut fx);
    shell.run(fx);
    let sent = shell.sent();
    let released = |out: &Outgoing| {
        out.command.resource == first() && matches!(out.command.what, What::Deallocate { .. })
    };
    assert!(sent.iter().any(released), "{sent:?}");
}

#[test]
fn what_an_earlier_session_had_in_a_pool_of_which_nothing_is_here_is_given_back_once_when_it_is_asked_for()
 {
    let mut shell = Shell::default();
    let mut edge = shell.restart(at(100), "boot-a");
    register(&mut edge, &mut shell, 100, 1, &[(1, 1)]);
    let record = Record {
        pool: PoolId::new("elsewhere").unwrap(),
        shard: ShardId(3),
        ..record_of(&edge, "s0")
    };
    for now in [101, 102] {
        let mut fx = Effects::new();
        edge.record(at(now), RecordKind::ReleaseRequested, &record, &mut fx);
        shell.run(fx);
    }
    let sent = shell.sent();
    let [released] = sent.as_slice() else {
        panic!("{sent:?}");
    };
    assert!(matches!(released.command.what, What::Deallocate { .. }));
    let told = (
        &released.command.pool,
        released.command.shard,
        released.command.epoch,
    );
    assert_eq!(told, (&record.pool, record.shard, record.epoch));
    assert_eq!(released.command.subscriber, record.subscriber);
    // What another host has is its own business.
    let mut fx = Effects::new();
    let other = Record {
        olt: OltId::new("olt-2").unwrap(),
        resource: address("10.0.0.9"),
        ..record
    };
    edge.record(at(103), RecordKind::ReleaseRequested, &other, &mut fx);
    shell.run(fx);
    assert_eq!(edge.view(at(103)).pending, 1);
}

#[test]
fn where_there_is_no_other_address_the_subscriber_is_told_to_wait_and_has_its_own_again_after_ten_minutes()
 {
    let mut shell = Shell::default();
    let mut edge = shell.restart(at(100), "boot-a");
    register(&mut edge, &mut shell, 100, 1, &[]);
    let mut fx = Effects::new();
    // The pool is known and nothing of it is owned.
    edge.configure(at(100), config(2, &[]), &mut fx);
    shell.run(fx);
    let record = record_of(&edge, "s0");
    read(&mut edge, &mut shell, 101, &record);
    for now in [102, 699] {
        let denied = authorize(&mut edge, &mut shell, now, 1, 1).unwrap_err();
        assert!(
            matches!(denied, Denied::NotReady(why) if why.contains("earlier session")),
            "{denied}"
        );
        // A restart does not shorten it.
        edge = shell.restart(at(now), "boot-a");
        register(&mut edge, &mut shell, now, 2, &[]);
    }
    let granted = authorize(&mut edge, &mut shell, 700, 1, 1).unwrap();
    assert_eq!((granted.resource, granted.valid_until), (first(), None));
    assert!(has_row(&shell, Earlier::Over));
}

#[test]
fn after_a_reboot_it_is_counted_anew_and_once_it_is_over_it_stays_over() {
    let mut shell = Shell::default();
    let mut edge = shell.restart(at(100), "boot-a");
    register(&mut edge, &mut shell, 100, 1, &[]);
    let record = record_of(&edge, "s0");
    read(&mut edge, &mut shell, 101, &record);
    let mut edge = shell.restart(at(10), "boot-b");
    assert!(has_row(&shell, Earlier::Uncounted));
    assert!(authorize(&mut edge, &mut shell, 20, 1, 1).is_err());
    register(&mut edge, &mut shell, 30, 1, &[]);
    assert!(authorize(&mut edge, &mut shell, 629, 1, 1).is_err());
    authorize(&mut edge, &mut shell, 630, 1, 1).unwrap();
    let mut edge = shell.restart(at(5), "boot-c");
    register(&mut edge, &mut shell, 6, 1, &[]);
    // Read again, it is what it serves.
    read(&mut edge, &mut shell, 7, &record);
    assert_eq!(edge.map_entries().count(), 1);
}

#[test]
fn a_binding_of_an_older_image_ends_when_the_record_says_no_more_than_the_image() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    let granted = authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    acked(&mut edge, &mut shell, 1);
    let mut fx = Effects::new();
    edge.new_session(SessionId::new("s2").unwrap(), &mut fx);
    shell.run(fx);
    assert_eq!(edge.map_entries().count(), 1, "until it has read");
    register(&mut edge, &mut shell, 300, 5, &[]);
    let record = Record {
        resource: granted.resource,
        ..record_of(&edge, "s1")
    };
    read(&mut edge, &mut shell, 301, &record);
    assert_eq!(edge.map_entries().count(), 0);
    assert!(authorize(&mut edge, &mut shell, 899, 1, 1).is_err());
    let again = authorize(&mut edge, &mut shell, 900, 1, 1).unwrap();
    assert_eq!(again.resource, granted.resource);
}

#[test]
fn what_the_centre_gave_itself_and_what_this_session_recorded_is_given_at_once() {
    for session in [None, Some("s1")] {
        let mut shell = Shell::default();
        let mut edge = shell.restart(at(100), "boot-a");
        register(&mut edge, &mut shell, 100, 1, &[(1, 1)]);
        let record = Record {
            session: session.map(|session| SessionId::new(session).unwrap()),
            ..record_of(&edge, "s0")
        };
        read(&mut edge, &mut shell, 101, &record);
        let granted = authorize(&mut edge, &mut shell, 102, 1, 1).unwrap();
        assert_eq!(granted.resource, first());
    }
}

#[test]
fn in_a_shard_that_has_come_back_it_is_claimed_anew_so_that_a_late_release_is_the_older_word() {
    let mut shell = Shell::default();
    let mut edge = shell.restart(at(100), "boot-a");
    register(&mut edge, &mut shell, 100, 1, &[(0, 2)]);
    let record = record_of(&edge, "s0");
    read(&mut edge, &mut shell, 101, &record);
    shell.take();
    let granted = authorize(&mut edge, &mut shell, 701, 1, 1).unwrap();
    assert_eq!(granted.resource, first());
    assert!(granted.valid_until.is_some(), "until it is on record");
    let sent = shell.sent();
    let claims = |out: &Outgoing| {
        matches!(out.command.what, What::Allocate { .. }) && out.command.epoch == Epoch(2)
    };
    assert!(sent.iter().any(claims), "{sent:?}");
    // The earlier session's release, which a server that was cut off had taken.
    let mut fx = Effects::new();
    let late = Record {
        seq: Seq(9),
        ..record.clone()
    };
    edge.record(at(702), RecordKind::Released, &late, &mut fx);
    shell.run(fx);
    assert_eq!(edge.map_entries().count(), 1);
}

#[test]
fn an_older_image_of_a_binding_ends_also_if_its_return_was_refused_while_the_records_were_read() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    acked(&mut edge, &mut shell, 1);
    // It has come again, and that is still to be recorded.
    authorize(&mut edge, &mut shell, 201, 1, 1).unwrap();
    let mut fx = Effects::new();
    edge.new_session(SessionId::new("s2").unwrap(), &mut fx);
    shell.run(fx);
    register(&mut edge, &mut shell, 300, 5, &[]);
    let mut fx = Effects::new();
    edge.snapshot_begin();
    edge.refused(
        at(301),
        Seq(2),
        Refusal::Stale,
        "of an older session",
        &mut fx,
    );
    edge.snapshot_end(at(302), &mut fx);
    shell.run(fx);
    assert_eq!(edge.bindings(None).count(), 0);
}
