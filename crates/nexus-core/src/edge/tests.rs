//! The edge machine, rule by rule; whole histories against a model centre are in `history`.

mod history;
mod lifecycle;
mod policy;

use super::*;
use crate::id::Epoch;
use crate::pool::PoolSpec;

pub(super) fn at(secs: u64) -> BootTime {
    BootTime::ZERO + Duration::from_secs(secs)
}

pub(super) fn pool_id() -> PoolId {
    PoolId::new("p").unwrap()
}

/// Four shards of 16 addresses; the first and the last address are not given, nor the router .1.
pub(super) fn spec() -> PoolSpec {
    let mut spec = PoolSpec::minimal(pool_id(), ResourceType::Ipv4, "10.0.0.0/26");
    spec.shard_size = Some(28);
    spec
}

pub(super) fn config(revision: u64, shards: &[(u32, u64)]) -> EdgeConfig {
    let shards = shards
        .iter()
        .map(|&(shard, epoch)| ShardGrant {
            shard: ShardId(shard),
            epoch: Epoch(epoch),
            draining: false,
        })
        .collect();
    EdgeConfig {
        revision,
        pools: vec![PoolGrant {
            spec: spec(),
            shards,
        }],
    }
}

pub(super) fn start(boot: &str) -> Start {
    Start {
        olt: OltId::new("olt-1").unwrap(),
        boot_id: boot.to_owned(),
        new_session: SessionId::new("s1").unwrap(),
    }
}

pub(super) fn subscriber(n: u32) -> SubscriberId {
    SubscriberId::new(format!("sub-{n}")).unwrap()
}

/// 0 to 4: lines that may be shared; 5 and 6, 7 and 8: two MACs on a VLAN pair and on a circuit of one subscriber;
/// 9: a MAC alone.
pub(super) fn line(n: u16) -> LineKey {
    let vlans = |inner| Vlans { outer: 100, inner };
    let circuit = Circuit {
        circuit_id: b"0/1/5".to_vec(),
        remote_id: vec![0],
    };
    let (at, mac) = match n {
        5 | 6 => (At::Vlan(vlans(6)), n - 4),
        7 | 8 => (At::Circuit(circuit), n - 6),
        9 => (At::Mac, 1),
        _ => (At::Line(vlans(n + 1)), 1),
    };
    LineKey {
        interface: "eth1".to_owned(),
        at,
        mac: [2, 0, 0, 0, 0, u8::try_from(mac).unwrap()],
    }
}

pub(super) fn request(sub: u32, on: u16) -> Authorized {
    Authorized {
        subscriber: subscriber(sub),
        kind: ResourceType::Ipv4,
        pool: None,
        key: line(on),
        metadata: BTreeMap::new(),
        timestamp: "2026-11-22T08:00:00Z".to_owned(),
        policies: Policies::default(),
    }
}

fn address(text: &str) -> Resource {
    Resource::parse(ResourceType::Ipv4, text).unwrap()
}

/// A disk and what was done since.
#[derive(Default)]
struct Shell {
    rows: BTreeMap<RowKey, Row>,
    actions: Vec<Action>,
}

impl Shell {
    fn run(&mut self, fx: Effects) {
        apply(&mut self.rows, fx.changes);
        self.actions.extend(fx.actions);
    }

    fn take(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    fn sent(&mut self) -> Vec<Outgoing> {
        self.take()
            .into_iter()
            .filter_map(|action| match action {
                Action::Send(outgoing) => Some(outgoing),
                _ => None,
            })
            .collect()
    }

    fn restart(&mut self, now: BootTime, boot: &str) -> Edge {
        let mut fx = Effects::new();
        let edge = Edge::restore(now, start(boot), self.rows.values().cloned(), &mut fx);
        self.run(fx);
        edge
    }
}

pub(super) fn apply(rows: &mut BTreeMap<RowKey, Row>, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::Put(row) => {
                // As it goes to disk and comes back.
                let json = serde_json::to_string(&row).unwrap();
                assert_eq!(serde_json::from_str::<Row>(&json).unwrap(), *row);
                rows.insert(row.key(), *row)
            }
            Change::Forget(key) => rows.remove(&key),
        };
    }
}

/// A registered edge with shards 0 and 1 read, and a lease of 24 hours from second 100 on.
fn ready(shell: &mut Shell) -> Edge {
    let mut edge = shell.restart(at(100), "boot-a");
    let mut fx = Effects::new();
    edge.registered(
        at(100),
        at(100),
        Duration::from_secs(86_400),
        config(1, &[(0, 1), (1, 1)]),
        &mut fx,
    );
    edge.snapshot_begin();
    edge.snapshot_end(at(100), &mut fx);
    shell.run(fx);
    shell.take();
    edge
}

fn authorize(
    edge: &mut Edge,
    shell: &mut Shell,
    now: u64,
    sub: u32,
    on: u16,
) -> Result<Granted, Denied> {
    let mut fx = Effects::new();
    let granted = edge.authorize(at(now), request(sub, on), &mut fx);
    shell.run(fx);
    granted
}

fn acked(edge: &mut Edge, shell: &mut Shell, seq: u64) {
    let mut fx = Effects::new();
    edge.acked(Seq(seq), &mut fx);
    shell.run(fx);
}

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
        pool: pool_id(),
        resource: address("10.0.0.2"),
        subscriber: subscriber(9),
        olt: OltId::new("olt-9").unwrap(),
        epoch: Epoch(0),
        seq: Seq(4),
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
    acked(&mut edge, &mut shell, 1);
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
fn acked_below_stays_at_the_oldest_unacknowledged_command() {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    for n in 1..=3 {
        authorize(&mut edge, &mut shell, 200, n, n as u16).unwrap();
    }
    acked(&mut edge, &mut shell, 2);
    shell.take();
    authorize(&mut edge, &mut shell, 201, 4, 4).unwrap();
    assert_eq!(shell.sent()[0].acked_below, Seq(1));
    acked(&mut edge, &mut shell, 1);
    authorize(&mut edge, &mut shell, 201, 5, 5).unwrap();
    assert_eq!(shell.sent()[0].acked_below, Seq(3));
}

#[test]
fn at_most_sixty_four_commands_are_on_their_way_and_lost_ones_are_sent_again() {
    let mut spec = spec();
    spec.cidr = Some("10.0.0.0/23".to_owned());
    spec.shard_size = Some(24);
    let mut shell = Shell::default();
    let mut edge = shell.restart(at(1), "boot-a");
    let mut fx = Effects::new();
    let mut config = config(1, &[(0, 1)]);
    config.pools[0].spec = spec;
    edge.registered(at(1), at(1), Duration::from_secs(600), config, &mut fx);
    edge.snapshot_begin();
    edge.snapshot_end(at(1), &mut fx);
    for n in 0..100 {
        edge.authorize(at(1), request(n, n as u16), &mut fx)
            .unwrap();
    }
    shell.run(fx);
    assert_eq!(shell.sent().len(), 64);
    edge.lost(at(2), Seq(7));
    let mut fx = Effects::new();
    edge.acked(Seq(1), &mut fx);
    edge.tick(at(3), &mut fx);
    assert!(!fx.actions.iter().any(|a| matches!(a, Action::Send(_))));
    edge.tick(at(4), &mut fx);
    shell.run(fx);
    let seqs: Vec<_> = shell.sent().iter().map(|out| out.seq).collect();
    assert_eq!(seqs, [Seq(7), Seq(65)]);
}

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

/// One shard whose units are all taken, with one of them ended at second 1000 by `end`.
fn full_but_one(end: impl FnOnce(&mut Edge, Resource, &mut Effects)) -> (Edge, Shell) {
    let mut shell = Shell::default();
    let mut edge = ready(&mut shell);
    let mut fx = Effects::new();
    edge.configure(at(150), config(2, &[(0, 1)]), &mut fx);
    shell.run(fx);
    let first = authorize(&mut edge, &mut shell, 200, 1, 1).unwrap();
    acked(&mut edge, &mut shell, 1);
    for n in 2..=14 {
        authorize(&mut edge, &mut shell, 200, n, n as u16).unwrap();
    }
    let mut fx = Effects::new();
    end(&mut edge, first.resource, &mut fx);
    shell.run(fx);
    (edge, shell)
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
