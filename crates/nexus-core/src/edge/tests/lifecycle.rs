//! How bindings end: by DHCPRELEASE as the pool says, and by silence.

use super::*;
use crate::duration::HumanDuration;
use crate::pool::{DhcpSpec, Release};

/// As [`ready`], with a pool of these DHCP data.
fn ready_with(shell: &mut Shell, dhcp: DhcpSpec) -> Edge {
    let mut edge = ready(shell);
    let mut config = config(2, &[(0, 1), (1, 1)]);
    config.pools[0].spec.dhcp = dhcp;
    let mut fx = Effects::new();
    edge.configure(at(100), config, &mut fx);
    shell.run(fx);
    shell.take();
    edge
}

fn idle_after(hours: u64) -> DhcpSpec {
    DhcpSpec {
        idle_release: Some(HumanDuration::from_secs(hours * 3600)),
        ..DhcpSpec::default()
    }
}

fn tick(edge: &mut Edge, shell: &mut Shell, now: u64) {
    let mut fx = Effects::new();
    edge.tick(at(now), &mut fx);
    shell.run(fx);
}

const HOUR: u64 = 3600;

#[test]
fn a_release_keeps_the_binding_where_the_pool_says_so() {
    let keep = DhcpSpec {
        release: Release::Keep,
        ..DhcpSpec::default()
    };
    let mut shell = Shell::default();
    let mut edge = ready_with(&mut shell, keep);
    let granted = authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    let mut fx = Effects::new();
    let place = line(1).place();
    assert!(edge.dhcp_release(at(201), &place, granted.resource, &mut fx));
    assert!(!edge.dhcp_release(at(201), &place, address("10.0.0.9"), &mut fx));
    assert!(fx.is_empty(), "{fx:?}");
    assert_eq!(edge.bindings(None).count(), 1);
    let mut fx = Effects::new();
    assert!(edge.end_session(at(202), &subscriber(1), "session-stop", &mut fx));
    assert_eq!(edge.bindings(None).count(), 0);
}

#[test]
fn a_silent_binding_ends_and_a_seen_one_does_not() {
    let mut shell = Shell::default();
    let mut edge = ready_with(&mut shell, idle_after(2));
    assert!(edge.wants_seen());
    for sub in [1, 2] {
        authorize(&mut edge, &mut shell, 200, sub, u16::try_from(sub).unwrap()).unwrap();
        acked(&mut edge, &mut shell, u64::from(sub));
    }
    edge.seen(&line(2).place(), at(HOUR));
    edge.seen(&line(2).place(), at(300));
    edge.seen_all(at(200 + 2 * HOUR - 1));
    tick(&mut edge, &mut shell, 200 + 2 * HOUR);
    assert_eq!(
        edge.bindings(None).count(),
        2,
        "silent for less than two hours as far as is known"
    );
    edge.seen_all(at(200 + 2 * HOUR));
    shell.take();
    tick(&mut edge, &mut shell, 201 + 2 * HOUR);
    let left: Vec<_> = edge
        .bindings(None)
        .map(|b| b.row.subscriber.clone())
        .collect();
    assert_eq!(left, [subscriber(2)]);
    assert!(
        shell
            .actions
            .contains(&Action::RemoveBinding(line(1).place()))
    );
    let sent = shell.sent();
    let reasons = sent.iter().map(|out| &out.command.what).collect::<Vec<_>>();
    let reason = "idle".to_owned();
    assert_eq!(reasons, [&What::Deallocate { reason }]);
}

#[test]
fn an_address_that_fell_silent_rests_as_long_as_its_dhcp_lease() {
    let (mut edge, mut shell) = full_but_one(|edge, _, fx| {
        let mut config = config(3, &[(0, 1)]);
        config.pools[0].spec.dhcp = idle_after(1);
        edge.configure(at(1000), config, fx);
        edge.seen_all(at(3800));
        // What the centre has not acknowledged is suspended by now; the first one's is acknowledged.
        edge.tick(at(3800), fx);
        assert_eq!(edge.bindings(Some(&subscriber(1))).count(), 0);
    });
    let mut next = |now| authorize(&mut edge, &mut shell, now, 20, 20);
    assert_eq!(next(3800 + 3671), Err(Denied::Exhausted(pool_id())));
    assert!(next(3800 + 3672).is_ok());
}

#[test]
fn silence_counts_from_the_last_authorization_and_after_a_restart_from_there() {
    let mut shell = Shell::default();
    let mut edge = ready_with(&mut shell, idle_after(2));
    authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    acked(&mut edge, &mut shell, 1);
    authorize(&mut edge, &mut shell, HOUR, 1, 1).unwrap();
    edge.seen_all(at(2 * HOUR + 300));
    tick(&mut edge, &mut shell, 2 * HOUR + 300);
    assert_eq!(edge.bindings(None).count(), 1);
    let mut edge = shell.restart(at(2 * HOUR + 400), "boot-a");
    edge.seen_all(at(3 * HOUR + 500));
    tick(&mut edge, &mut shell, 3 * HOUR + 500);
    assert_eq!(edge.bindings(None).count(), 1);
    edge.seen_all(at(4 * HOUR + 400));
    tick(&mut edge, &mut shell, 4 * HOUR + 400);
    assert_eq!(edge.bindings(None).count(), 0);
}

#[test]
fn a_binding_that_is_not_served_is_not_silent() {
    let mut shell = Shell::default();
    let mut edge = ready_with(&mut shell, idle_after(1));
    authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    // A reboot takes the lease, and what the centre has not acknowledged waits for it.
    let mut edge_after = shell.restart(at(10), "boot-b");
    std::mem::swap(&mut edge, &mut edge_after);
    for hours in 1..=5 {
        edge.seen_all(at(hours * HOUR));
        tick(&mut edge, &mut shell, hours * HOUR);
    }
    assert_eq!(edge.bindings(None).count(), 1);
}

#[test]
fn nothing_ends_in_a_pool_without_the_rule() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    assert!(!edge.wants_seen());
    authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    acked(&mut edge, &mut shell, 1);
    edge.seen_all(at(1000 * HOUR));
    tick(&mut edge, &mut shell, 1000 * HOUR);
    assert_eq!(edge.bindings(None).count(), 1);
}

#[test]
fn each_tick_looks_at_a_slice_and_the_next_one_goes_on_behind_it() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    let mut config = config(2, &[(0, 1)]);
    let spec = &mut config.pools[0].spec;
    (spec.cidr, spec.shard_size) = (Some("10.0.0.0/17".to_owned()), Some(18));
    spec.dhcp = idle_after(1);
    let mut fx = Effects::new();
    edge.configure(at(100), config, &mut fx);
    edge.snapshot_begin();
    edge.snapshot_end(at(100), &mut fx);
    for n in 0..5000_u32 {
        let mut request = request(n, 0);
        let [.., high, low] = n.to_be_bytes();
        request.key.mac = [2, 0, 0, 0, high, low];
        edge.authorize(at(200), &request, &mut fx).unwrap();
    }
    for seq in 1..=5000 {
        edge.acked(at(200), Seq(seq), &mut fx);
    }
    edge.seen_all(at(200 + HOUR));
    for left in [5000 - 4096, 0] {
        edge.tick(at(200 + HOUR), &mut fx);
        assert_eq!(edge.bindings(None).count(), left);
    }
}
