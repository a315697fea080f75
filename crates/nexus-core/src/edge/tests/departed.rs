//! What this host has released is not its subscriber's again because an older record says so.

use super::*;

fn tell(edge: &mut Edge, shell: &mut Shell, now: u64, kind: RecordKind, record: &Record) {
    let mut fx = Effects::new();
    // Rests that are over end.
    edge.tick(at(now), &mut fx);
    edge.record(at(now), kind, record, &mut fx);
    shell.run(fx);
}

/// Subscriber 1 had the first address under command 1 and has released it with command 2 at second 1000. From
/// second 2000 on it does not rest any more.
fn released(shell: &mut Shell) -> (Edge, Resource) {
    let mut edge = ready(shell);
    let granted = authorize(&mut edge, shell, 200, 1, 1).unwrap();
    acked(&mut edge, shell, 1);
    let mut fx = Effects::new();
    assert!(edge.dhcp_release(at(1000), &line(1).place(), granted.resource, &mut fx));
    shell.run(fx);
    (edge, granted.resource)
}

/// Whether subscriber 1 gets what it had as if it were on record for it.
fn is_believed(edge: &mut Edge, shell: &mut Shell, now: u64, resource: Resource) -> bool {
    let granted = authorize(edge, shell, now, 1, 1).unwrap();
    granted.resource == resource && granted.valid_until.is_none()
}

#[test]
fn a_record_of_before_a_release_is_not_believed_although_the_centre_has_answered_and_the_rest_is_over()
 {
    let mut shell = Shell::default();
    let (mut edge, resource) = released(&mut shell);
    let older = recorded(1, resource, 1);
    // A reading that had begun before the answer came.
    edge.snapshot_begin();
    acked_at(&mut edge, &mut shell, 1001, 2);
    tell(&mut edge, &mut shell, 2000, RecordKind::Put, &older);
    let mut fx = Effects::new();
    edge.snapshot_end(at(2001), &mut fx);
    shell.run(fx);
    // What was on its way on the stream of before.
    tell(&mut edge, &mut shell, 2002, RecordKind::Put, &older);
    assert!(!is_believed(&mut edge, &mut shell, 2003, resource));
}

#[test]
fn a_release_is_remembered_until_it_is_answered_and_the_stream_or_a_later_reading_has_told_of_it() {
    let told = |edge: &mut Edge, shell: &mut Shell, resource, seq| {
        let record = recorded(1, resource, seq);
        tell(edge, shell, 1500, RecordKind::Released, &record);
    };
    let answered = |edge: &mut Edge, shell: &mut Shell| acked_at(edge, shell, 1501, 2);
    let read = |edge: &mut Edge, shell: &mut Shell| {
        let mut fx = Effects::new();
        edge.snapshot_begin();
        edge.snapshot_end(at(1502), &mut fx);
        shell.run(fx);
    };
    for (case, remembered) in [
        ("answered", true),
        ("told", true),
        ("read", true),
        ("told of an earlier one, answered", true),
        ("told, answered", false),
        ("told, read, answered", true),
        ("answered, told", false),
        ("answered, read", false),
    ] {
        let mut shell = Shell::default();
        let (mut edge, resource) = released(&mut shell);
        for step in case.split(", ") {
            match step {
                "answered" => answered(&mut edge, &mut shell),
                "told" => told(&mut edge, &mut shell, resource, 2),
                "told of an earlier one" => told(&mut edge, &mut shell, resource, 1),
                _ => read(&mut edge, &mut shell),
            }
        }
        // The stream goes on with what is newer than all that; here with a record that could not be there otherwise.
        tell(
            &mut edge,
            &mut shell,
            9000,
            RecordKind::Put,
            &recorded(1, resource, 1),
        );
        let believed = is_believed(&mut edge, &mut shell, 9001, resource);
        assert_eq!(believed, !remembered, "{case}");
    }
}

#[test]
fn a_release_that_waits_for_its_turn_counts_also_when_the_address_was_given_on_and_released_again()
{
    let (mut edge, mut shell) = full_but_one(|edge, resource, fx| {
        assert!(edge.dhcp_release(at(1000), &line(1).place(), resource, fx));
    });
    let granted = authorize(&mut edge, &mut shell, 3000, 20, 4).unwrap();
    let mut fx = Effects::new();
    assert!(edge.end_session(at(3001), &subscriber(20), "stop", &mut fx));
    shell.run(fx);
    // Of all that nothing is on record yet.
    edge.snapshot_begin();
    let older = recorded(1, granted.resource, 1);
    tell(&mut edge, &mut shell, 20_000, RecordKind::Put, &older);
    let mut fx = Effects::new();
    edge.snapshot_end(at(20_001), &mut fx);
    shell.run(fx);
    assert!(!is_believed(
        &mut edge,
        &mut shell,
        20_002,
        granted.resource
    ));
}

#[test]
fn what_the_centre_gives_anew_after_a_release_is_believed_before_the_release_is_answered() {
    let mut shell = Shell::default();
    let mut edge = shell.restart(at(100), "boot-a");
    let mut fx = Effects::new();
    let day = Duration::from_secs(86_400);
    edge.registered(at(100), at(100), day, config(1, &[]), &mut fx);
    shell.run(fx);
    let resource = address("10.0.0.40");
    let central = |seq| Record {
        shard: ShardId(2),
        ..record_on("olt-1", 1, resource, seq)
    };
    tell(&mut edge, &mut shell, 101, RecordKind::Put, &central(7));
    assert!(is_believed(&mut edge, &mut shell, 102, resource));
    let mut fx = Effects::new();
    assert!(edge.end_session(at(103), &subscriber(1), "stop", &mut fx));
    shell.run(fx);
    tell(&mut edge, &mut shell, 104, RecordKind::Put, &central(7));
    authorize(&mut edge, &mut shell, 105, 1, 1).unwrap_err();
    tell(&mut edge, &mut shell, 106, RecordKind::Put, &central(9));
    assert!(is_believed(&mut edge, &mut shell, 107, resource));
}
