//! Lines: a subscriber on another one, a line that changes hands, and addresses that rest.

use super::*;

#[test]
fn a_subscriber_on_a_new_line_keeps_its_address_and_the_old_line_ends() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    let first = authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    acked(&mut edge, &mut shell, 1);
    shell.take();
    let second = authorize(&mut edge, &mut shell, 201, 1, 2).unwrap();
    assert_eq!(second.resource, first.resource);
    let actions = shell.take();
    assert!(actions.contains(&Action::RemoveBinding(line(1).place())));
    let put = |action: &Action| matches!(action, Action::PutBinding(e) if e.key == line(2) && e.valid_until.is_none());
    assert!(actions.iter().any(put));
    let sent = |action: &Action| matches!(action, Action::Send(out) if out.seq == Seq(2));
    assert!(actions.iter().any(sent), "the record learns of the line");
    assert!(edge.map_entry(&line(1).place()).is_none());
}

#[test]
fn a_line_taken_over_by_another_subscriber_has_one_binding_and_the_older_one_ends_in_an_hour() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    let first = authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    let second = authorize(&mut edge, &mut shell, 201, 2, 1).unwrap();
    assert_ne!(first.resource, second.resource);
    assert!(shell.take().iter().any(|action| matches!(
        action,
        Action::Note(Note::KeyTaken { from, .. }) if *from == subscriber(1)
    )));
    assert_eq!(edge.map_entries().count(), 1);
    let mut edge = shell.restart(at(300), "boot-a");
    assert_eq!(edge.map_entries().count(), 1);
    let mut fx = Effects::new();
    edge.tick(at(300 + 3600), &mut fx);
    shell.run(fx);
    assert_eq!(edge.bindings(None).count(), 1);
}

#[test]
fn a_declined_address_rests_and_the_subscriber_gets_another_at_once() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    let first = authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    let mut fx = Effects::new();
    let decline = |edge: &mut Edge, resource, fx: &mut Effects| {
        edge.dhcp_decline(at(201), &line(1).place(), resource, String::new(), fx)
    };
    assert!(decline(&mut edge, address("10.0.0.9"), &mut fx).is_none());
    let second = decline(&mut edge, first.resource, &mut fx)
        .unwrap()
        .unwrap();
    assert_ne!(second.resource, first.resource);
    shell.run(fx);
    // The release and the next allocation are one lane: the centre sees them in order.
    let seqs: Vec<_> = shell.sent().iter().map(|out| out.seq).collect();
    assert_eq!(seqs, [Seq(1)]);
    acked(&mut edge, &mut shell, 1);
    assert_eq!(shell.sent()[0].seq, Seq(2));
    let mut edge = shell.restart(at(300), "boot-a");
    let view = edge.view(at(300));
    assert_eq!(view.shards[0].held, 1);
    authorize(&mut edge, &mut shell, 301, 1, 1).unwrap();
}

#[test]
fn a_release_cools_down_for_others_but_not_for_the_same_subscriber_over_restarts() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    let first = authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    let mut fx = Effects::new();
    assert!(edge.dhcp_release(at(201), &line(1).place(), first.resource, &mut fx));
    assert!(!edge.dhcp_release(at(201), &line(1).place(), first.resource, &mut fx));
    shell.run(fx);
    let mut edge = shell.restart(at(202), "boot-a");
    for n in 10..24 {
        let other = authorize(&mut edge, &mut shell, 203, n, n as u16).unwrap();
        assert_ne!(other.resource, first.resource);
    }
    let again = authorize(&mut edge, &mut shell, 204, 1, 1).unwrap();
    assert_eq!(again.resource, first.resource);
    assert!(!again.known);
}

#[test]
fn an_address_whose_client_heard_nothing_rests_as_long_as_its_dhcp_lease() {
    let (mut edge, mut shell) = full_but_one(|edge, _, fx| {
        edge.end_session(at(1000), &subscriber(1), "session-stop", fx);
    });
    let mut next = |now| authorize(&mut edge, &mut shell, now, 20, 20);
    assert_eq!(next(1000 + 3671), Err(Denied::Exhausted(pool_id())));
    assert!(next(1000 + 3672).is_ok());
}

#[test]
fn an_address_that_its_client_gave_back_rests_for_the_cool_down() {
    let (mut edge, mut shell) = full_but_one(|edge, resource, fx| {
        assert!(edge.dhcp_release(at(1000), &line(1).place(), resource, fx));
    });
    let mut next = |now| authorize(&mut edge, &mut shell, now, 20, 20);
    assert_eq!(next(1000 + 599), Err(Denied::Exhausted(pool_id())));
    assert!(next(1000 + 600).is_ok());
}
