//! What the centre asks back: every ask leads to an answer.

use super::*;

fn tell(edge: &mut Edge, shell: &mut Shell, now: u64, kind: RecordKind, record: &Record) {
    let mut fx = Effects::new();
    edge.record(at(now), kind, record, &mut fx);
    shell.run(fx);
}

fn refuse(edge: &mut Edge, shell: &mut Shell, now: u64, seq: u64, refusal: Refusal) {
    let mut fx = Effects::new();
    edge.refused(at(now), Seq(seq), refusal, "refused", &mut fx);
    shell.run(fx);
}

fn given_back(sent: &[Outgoing], sub: u32, resource: Resource) -> bool {
    sent.iter().any(|out| {
        matches!(out.command.what, What::Deallocate { .. })
            && out.command.subscriber == subscriber(sub)
            && out.command.resource == resource
    })
}

#[test]
fn what_was_asked_back_before_the_host_heard_that_it_is_on_record_is_given_back_once_its_claims_are_refused()
 {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    let granted = authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    // It is recorded, and the answer is lost. The subscriber comes again.
    authorize(&mut edge, &mut shell, 201, 1, 1).unwrap();
    shell.take();
    let mut fx = Effects::new();
    edge.configure(at(202), config(2, &[(1, 1)]), &mut fx);
    shell.run(fx);
    let record = recorded(1, granted.resource, 1);
    tell(
        &mut edge,
        &mut shell,
        203,
        RecordKind::ReleaseRequested,
        &record,
    );
    refuse(&mut edge, &mut shell, 204, 1, Refusal::Stale);
    assert!(shell.sent().iter().all(|out| out.seq == Seq(2)));
    refuse(&mut edge, &mut shell, 205, 2, Refusal::Stale);
    assert_eq!(edge.bindings(None).count(), 0);
    let sent = shell.sent();
    assert!(given_back(&sent, 1, granted.resource), "{sent:?}");
}

#[test]
fn what_is_asked_back_from_a_former_holder_is_not_given_back_once_somebody_else_has_it() {
    let (mut edge, mut shell) = full_but_one(|edge, resource, fx| {
        let place = line(1).place();
        assert!(edge.dhcp_release(at(1000), &place, resource, fx));
    });
    acked_at(&mut edge, &mut shell, 1000, 15);
    let granted = authorize(&mut edge, &mut shell, 3000, 20, 4).unwrap();
    acked_at(&mut edge, &mut shell, 3000, 16);
    shell.take();
    let asked = recorded(1, granted.resource, 1);
    tell(
        &mut edge,
        &mut shell,
        3001,
        RecordKind::ReleaseRequested,
        &asked,
    );
    let sent = shell.sent();
    assert!(!given_back(&sent, 1, granted.resource), "{sent:?}");
    assert!(edge.bindings(Some(&subscriber(20))).next().is_some());
}

#[test]
fn a_reading_is_not_begun_anew_by_each_return_that_is_refused_but_followed_by_another_one() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    let granted = authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    acked(&mut edge, &mut shell, 1);
    authorize(&mut edge, &mut shell, 300, 1, 1).unwrap();
    edge.snapshot_begin();
    let asked = recorded(1, granted.resource, 1);
    tell(
        &mut edge,
        &mut shell,
        301,
        RecordKind::ReleaseRequested,
        &asked,
    );
    shell.take();
    refuse(&mut edge, &mut shell, 302, 2, Refusal::Stale);
    let pulls = |shell: &mut Shell| {
        let is_pull = |action: &Action| *action == Action::PullRecords;
        shell.take().into_iter().filter(is_pull).count()
    };
    assert_eq!(pulls(&mut shell), 0);
    for expected in [1, 0] {
        let mut fx = Effects::new();
        edge.snapshot_end(at(303), &mut fx);
        shell.run(fx);
        assert_eq!(pulls(&mut shell), expected);
        edge.snapshot_begin();
    }
    // One that begins anew for another reason is that other one.
    edge.read_again = true;
    edge.snapshot_begin();
    let mut fx = Effects::new();
    edge.snapshot_end(at(304), &mut fx);
    shell.run(fx);
    assert_eq!(pulls(&mut shell), 0);
}

#[test]
fn what_is_asked_for_while_its_release_is_on_its_way_is_read_again_once_that_is_answered() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    let granted = authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    acked(&mut edge, &mut shell, 1);
    for (asked, release) in [(true, 2), (false, 4)] {
        let mut fx = Effects::new();
        let place = line(1).place();
        assert!(edge.dhcp_release(at(200 + release), &place, granted.resource, &mut fx));
        shell.run(fx);
        if asked {
            // By a server that has not heard of the release.
            let record = recorded(1, granted.resource, 1);
            tell(
                &mut edge,
                &mut shell,
                201 + release,
                RecordKind::ReleaseRequested,
                &record,
            );
        }
        shell.take();
        acked(&mut edge, &mut shell, release);
        let reads = shell.take().contains(&Action::PullRecords);
        assert_eq!(reads, asked);
        // It comes again, and the next release meets no question.
        authorize(&mut edge, &mut shell, 900 + release, 1, 1).unwrap();
        acked(&mut edge, &mut shell, release + 1);
    }
}
