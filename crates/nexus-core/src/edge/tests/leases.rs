//! What the lease carries: new allocations, unacknowledged bindings, restarts and reboots.

use super::*;

#[test]
fn nothing_is_allocated_before_the_records_of_the_shards_have_been_read() {
    let mut shell = Shell::default();
    let mut edge = shell.restart(at(1), "boot-a");
    assert!(matches!(
        authorize(&mut edge, &mut shell, 1, 1, 1),
        Err(Denied::NotReady(_))
    ));
    let mut fx = Effects::new();
    edge.registered(
        at(2),
        at(2),
        Duration::from_secs(60),
        config(1, &[(0, 1)]),
        &mut fx,
    );
    assert!(fx.actions.contains(&Action::PullRecords));
    assert!(matches!(
        authorize(&mut edge, &mut shell, 2, 1, 1),
        Err(Denied::NotReady(_))
    ));
    edge.snapshot_begin();
    let record = Record {
        epoch: Epoch(0),
        ..record_on("olt-9", 9, address("10.0.0.2"), 4)
    };
    edge.record(at(2), RecordKind::Put, &record, &mut fx);
    edge.snapshot_end(at(2), &mut fx);
    shell.run(fx);
    let granted = authorize(&mut edge, &mut shell, 2, 1, 1).unwrap();
    assert_eq!(
        granted.resource,
        address("10.0.0.3"),
        "10.0.0.2 is reserved"
    );
    let granted = authorize(&mut edge, &mut shell, 2, 9, 2).unwrap();
    assert_eq!(
        granted.resource,
        address("10.0.0.4"),
        "another host may still serve 10.0.0.2, even to its own subscriber"
    );
}

#[test]
fn an_unacknowledged_binding_ends_in_ten_minutes_and_an_acknowledged_one_never() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    let granted = authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    assert_eq!(granted.valid_until, Some(at(800)));
    let sent = shell.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].seq, sent[0].acked_below), (Seq(1), Seq(1)));
    acked(&mut edge, &mut shell, 1);
    let again = authorize(&mut edge, &mut shell, 300, 1, 1).unwrap();
    assert!(again.known);
    assert_eq!(again.valid_until, None);
    assert_eq!(again.resource, granted.resource);
}

#[test]
fn an_unacknowledged_binding_is_pushed_on_in_steps_and_never_past_the_lease() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    shell.take();
    let lease_end = crate::lease::holder_end(at(100), Duration::from_secs(86_400));
    let mut now = 200;
    let mut last = None;
    while at(now) < lease_end {
        now += 30;
        let mut fx = Effects::new();
        edge.tick(at(now), &mut fx);
        for action in &fx.actions {
            if let Action::PutBinding(entry) = action {
                let end = entry.valid_until.unwrap();
                assert!(end <= at(now) + UNACKED_STEP && end <= lease_end);
                assert!(Some(end) > last);
                last = Some(end);
            }
        }
        shell.run(fx);
    }
    assert_eq!(last, Some(lease_end));
    assert!(matches!(
        shell.take().last(),
        Some(Action::RemoveBinding(_))
    ));
    assert_eq!(
        authorize(&mut edge, &mut shell, now, 1, 1),
        Err(Denied::LeaseEnded)
    );
    acked_at(&mut edge, &mut shell, now, 1);
    assert_eq!(
        edge.map_entries().count(),
        0,
        "an answer that no lease carries is not believed"
    );
    let mut fx = Effects::new();
    edge.renewed(at(now), at(now), Duration::from_secs(86_400), 1, &mut fx);
    shell.run(fx);
    assert_eq!(shell.sent()[0].seq, Seq(1), "it is asked for again");
    acked_at(&mut edge, &mut shell, now, 1);
    assert_eq!(edge.map_entries().count(), 1, "acknowledged: served again");
}

#[test]
fn after_the_lease_nothing_new_is_given_and_acknowledged_bindings_go_on() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    acked(&mut edge, &mut shell, 1);
    let late = 100 + 86_400;
    assert_eq!(
        authorize(&mut edge, &mut shell, late, 2, 2),
        Err(Denied::LeaseEnded)
    );
    let granted = authorize(&mut edge, &mut shell, late, 1, 1).unwrap();
    assert_eq!((granted.known, granted.valid_until), (true, None));
}

#[test]
fn a_restart_on_the_same_boot_keeps_the_lease_and_a_reboot_does_not() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    authorize(&mut edge, &mut shell, 200, 2, 2).unwrap();
    acked(&mut edge, &mut shell, 1);
    let mut edge = shell.restart(at(300), "boot-a");
    assert_eq!(edge.map_entries().count(), 2);
    authorize(&mut edge, &mut shell, 301, 3, 3).unwrap();
    let mut edge = shell.restart(at(5), "boot-b");
    let view = edge.view(at(5));
    assert_eq!((view.acked, view.unacked, view.suspended), (1, 0, 2));
    assert_eq!(view.lease_until, None);
    assert_eq!(edge.map_entries().count(), 1);
    assert_eq!(edge.map_entries().next().unwrap().valid_until, None);
    assert_eq!(
        authorize(&mut edge, &mut shell, 6, 4, 4),
        Err(Denied::LeaseEnded)
    );
    assert_eq!(
        authorize(&mut edge, &mut shell, 6, 2, 2),
        Err(Denied::LeaseEnded)
    );
    shell.take();
    let mut fx = Effects::new();
    edge.renewed(at(7), at(6), Duration::from_secs(86_400), 1, &mut fx);
    shell.run(fx);
    let seqs: Vec<_> = shell.sent().iter().map(|out| out.seq).collect();
    assert_eq!(
        seqs,
        [Seq(2), Seq(3)],
        "what was not acknowledged is sent again"
    );
    assert_eq!(
        edge.map_entries().count(),
        1,
        "suspended until the centre answers"
    );
    acked(&mut edge, &mut shell, 2);
    assert_eq!(edge.map_entries().count(), 2);
}

#[test]
fn a_renewal_after_the_end_counts_only_with_the_configuration_it_speaks_of() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    let late = 100 + 86_400;
    let mut fx = Effects::new();
    edge.renewed(at(late), at(late), Duration::from_secs(60), 2, &mut fx);
    assert_eq!(
        authorize(&mut edge, &mut shell, late, 1, 1),
        Err(Denied::LeaseEnded)
    );
    edge.configure(at(late), config(2, &[(1, 1)]), &mut fx);
    shell.run(fx);
    let granted = authorize(&mut edge, &mut shell, late, 1, 1).unwrap();
    assert_eq!(granted.resource, address("10.0.0.16"));
}

#[test]
fn an_older_answer_does_not_change_the_lease() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    let mut fx = Effects::new();
    edge.renewed(at(500), at(400), Duration::from_secs(100), 1, &mut fx);
    edge.renewed(at(501), at(300), Duration::from_secs(86_400), 1, &mut fx);
    assert_eq!(edge.view(at(498)).lease_until, Some(at(499)));
}
