//! Faults that such systems are known for, each by its name.

use super::*;

#[test]
fn a_write_is_visible_everywhere_within_a_few_ticks() {
    let mut net = Net::new(3);
    net.put(1, "k", "v");
    let took = net.run_until("visible", Duration::from_secs(1), |net| {
        (0..3).all(|host| net.value(host, "k").is_some())
    });
    assert!(
        took <= Duration::from_millis(40),
        "{took:?} of simulated time"
    );
    net.run_until("in sync", Duration::from_secs(10), Net::converged);
}

#[test]
fn nothing_is_published_before_it_is_durable() {
    let mut net = Net::new(2);
    let before = net.hosts[0].published;
    let now = at(net.now, 0);
    let change = net.hosts[0]
        .replica
        .put(b"k", b"v", Fence::NONE, now.wall)
        .unwrap();
    net.run(Duration::from_secs(20));
    assert_eq!(net.hosts[0].published, before);
    assert!(
        net.hosts[1]
            .sync
            .acknowledged_by(NodeId(1))
            .upto(net.hosts[0].replica.origin())
            == 0
    );
    net.queue_write(0, change);
    net.run_until("visible", Duration::from_secs(1), |net| {
        net.value(1, "k").is_some()
    });
}

#[test]
fn in_sync_is_not_said_without_comparing_roots() {
    let mut net = Net::new(2);
    net.put(0, "a", "1");
    net.put(0, "b", "2");
    net.run_until("in sync", Duration::from_secs(30), Net::converged);
    // An entry vanishes from the disk of the second host; its version vector does not know.
    let mut rows = net.hosts[1].rows.clone();
    damage(&mut rows, b"a");
    net.restart(1);
    let compared = |net: &Net| {
        net.hosts[1].sync.report().peers[&NodeId(1)]
            .compared
            .is_some()
    };
    net.run_until("compared", Duration::from_secs(30), compared);
    let report = net.hosts[1].sync.report();
    assert_eq!(
        report.peers[&NodeId(1)].ahead,
        0,
        "counters know of nothing"
    );
    assert!(
        !report.peers[&NodeId(1)].in_sync && !report.converged,
        "{report:?}"
    );
    // And it is found and repaired.
    net.run_until("repaired", Duration::from_secs(120), Net::converged);
    assert_eq!(net.value(1, "a").unwrap(), "1");
    assert!(
        net.hosts[0]
            .notices
            .contains(&Notice::RootsDiffer { peer: NodeId(2) })
    );
}

/// Removes an entry and its dot behind the replica's back.
fn damage(rows: &mut MemoryRows, key: &[u8]) {
    let bytes = crate::Rows::get(rows, RowKind::Entry, key)
        .unwrap()
        .unwrap();
    let entry = crate::Entry::decode(&bytes).unwrap();
    let dot = [
        &entry.version.origin.node.0.to_be_bytes()[..],
        &entry.version.origin.incarnation.0.to_be_bytes(),
        &entry.seq.to_be_bytes(),
    ];
    let gone = |kind, key: Vec<u8>| crate::RowWrite {
        kind,
        key,
        value: None,
    };
    rows.apply(&[
        gone(RowKind::Entry, key.to_vec()),
        gone(RowKind::Dot, dot.concat()),
    ]);
}

#[test]
fn the_root_is_recomputed_after_a_concurrent_merge() {
    let mut net = Net::new(3);
    for round in 0..20 {
        // All write the same key at once, and another one of their own.
        for host in 0..3 {
            net.put(host, "same", &format!("{host} {round}"));
            net.put(host, &format!("own/{host}/{round}"), "v");
            if round % 3 == 0 {
                net.delete(host, "same");
            }
        }
        net.run(Duration::from_millis(10 * (round % 4)));
        net.check_summaries();
    }
    net.run_until("in sync", Duration::from_secs(30), Net::converged);
    net.check_summaries();
    let roots: BTreeSet<_> = net
        .hosts
        .iter()
        .map(|h| h.replica.fingerprint().sum)
        .collect();
    assert_eq!(roots.len(), 1);
}

#[test]
fn the_clock_advances_on_receive_and_over_a_restart() {
    let mut net = Net::apart(2);
    // The second host's clock is behind by less than what is followed.
    net.hosts[1].clock = -400;
    net.connect_all();
    net.run_until("in sync", Duration::from_secs(60), Net::converged);
    net.put(0, "k", "from ahead");
    net.run_until("visible", Duration::from_secs(1), |net| {
        net.value(1, "k").is_some()
    });
    let stamp = |net: &Net, host: usize, key: &[u8]| {
        net.hosts[host]
            .replica
            .get_entry(key)
            .unwrap()
            .unwrap()
            .version
            .hlc
    };
    let received = stamp(&net, 1, b"k");
    net.put(1, "other", "later");
    assert!(stamp(&net, 1, b"other") > received);
    // What was received is remembered as well, so time does not run backwards over a restart.
    net.put(0, "again", "from ahead");
    net.run_until("visible", Duration::from_secs(1), |net| {
        net.value(1, "again").is_some()
    });
    net.run(TICK);
    let received = stamp(&net, 1, b"again");
    net.restart(1);
    net.put(1, "other", "after the restart");
    assert!(stamp(&net, 1, b"other") > received);
}

#[test]
fn a_reopened_writer_never_uses_a_stamp_again() {
    let mut net = Net::new(2);
    let mut stamps = BTreeSet::new();
    for boot in 0..5 {
        // The clock is set back an hour each time, and the last writes never reach the disk.
        net.hosts[0].clock -= 3_600_000;
        for n in 0..10 {
            let now = at(net.now, net.hosts[0].clock);
            let value = format!("{boot} {n}");
            let host = &mut net.hosts[0];
            let change = host
                .replica
                .put(b"k", value.as_bytes(), Fence::NONE, now.wall)
                .unwrap();
            let delta = change.delta.as_ref().unwrap();
            let entry = &delta.entries[0].1;
            assert!(
                stamps.insert((entry.version.origin, entry.seq)),
                "{entry:?} again"
            );
            if n < 7 {
                net.queue_write(0, change);
                net.run(TICK);
            }
        }
        net.restart(0);
        net.run(Duration::from_millis(300));
    }
    net.hosts[0].clock = 0;
    net.run_until("in sync", Duration::from_secs(60), Net::converged);
    assert_eq!(net.value(1, "k"), net.value(0, "k"));
}

#[test]
fn lost_publications_are_pulled() {
    let mut net = Net::new(3);
    net.loses = 2;
    for n in 0..200 {
        net.put(n % 3, &format!("k{n}"), "v");
        net.run(TICK);
    }
    net.loses = 0;
    net.run_until("in sync", Duration::from_secs(30), Net::converged);
    assert!(
        net.hosts
            .iter()
            .all(|h| h.replica.fingerprint().count == 200)
    );
    let pulled: u64 = net
        .hosts
        .iter()
        .map(|h| h.sync.report().traffic.pulled_entries)
        .sum();
    assert!(pulled > 0);
}

#[test]
fn a_partition_heals_and_each_side_gets_what_the_other_wrote_once() {
    let mut net = Net::new(3);
    net.isolate(2);
    for n in 0..2000 {
        net.put(n % 2, &format!("majority/{n}"), &"x".repeat(60));
        net.put(2, &format!("minority/{n}"), &"y".repeat(60));
    }
    net.run(Duration::from_secs(20));
    assert!(!net.hosts[0].sync.report().converged);
    net.bytes = 0;
    net.reunite(2);
    net.run_until("in sync", Duration::from_secs(60), Net::converged);
    let entry = 60 + 14 + 57 + 8;
    // The lonely one pulls 2000, the two others 2000 each.
    let least = 3 * 2000 * entry;
    assert!(
        net.bytes < least * 13 / 10,
        "{} bytes, {least} at least",
        net.bytes
    );
}

#[test]
fn greetings_do_not_become_a_storm() {
    let mut net = Net::new(3);
    let before: u64 = net.hosts.iter().map(|h| h.asked).sum();
    let start = net.now;
    // Peers come and go all the time, and there is something new in every tick.
    for n in 0..1000 {
        net.put(n % 3, &format!("k{}", n % 50), "v");
        if n % 10 == 0 {
            net.disconnect(0, 1);
            net.connect(0, 1);
        }
        net.tick();
    }
    let asked = net.hosts.iter().map(|h| h.asked).sum::<u64>() - before;
    let seconds = (net.now - start).as_secs();
    // Six directed pairs, each at most two greetings a second, and few pulls.
    assert!(asked <= seconds * 6 * 3, "{asked} questions in {seconds} s");
    net.run_until("in sync", Duration::from_secs(30), Net::converged);
    // A quiet cluster hardly talks.
    let before: u64 = net.hosts.iter().map(|h| h.asked).sum();
    net.run(Duration::from_secs(20));
    let asked = net.hosts.iter().map(|h| h.asked).sum::<u64>() - before;
    assert!(
        (10..=60).contains(&asked),
        "{asked} questions in 20 quiet seconds"
    );
}

#[test]
fn many_writes_are_published_in_batches() {
    let mut net = Net::new(2);
    let before = net.hosts[0].published;
    for n in 0..5000 {
        net.put(0, &format!("k{n}"), &"x".repeat(100));
    }
    net.run_until("there", Duration::from_secs(5), |net| {
        net.hosts[1].replica.fingerprint().count == 5000
    });
    let published = net.hosts[0].published - before;
    // About 170 bytes each, 48 KB a batch.
    assert!((15..30).contains(&published), "{published} batches");
}

#[test]
fn what_was_accepted_is_confirmed_by_a_peer_before_a_shutdown() {
    let mut net = Net::new(3);
    // Pushes do not arrive at all.
    net.loses = 1;
    for n in 0..500 {
        net.put(0, &format!("k{n}"), "v");
    }
    net.run(Duration::from_millis(20));
    net.input(0, Input::Flush);
    let confirmed = |net: &Net| {
        let accepted = net.hosts[0].replica.seen();
        (2..=3).any(|peer| {
            net.hosts[0]
                .sync
                .acknowledged_by(NodeId(peer))
                .covers(accepted)
        })
    };
    assert!(!confirmed(&net));
    let took = net.run_until("confirmed", Duration::from_secs(5), confirmed);
    assert!(
        took < Duration::from_millis(1000),
        "{took:?} of simulated time"
    );
    // Confirmed means on its disk.
    let peer = (1..3).find(|host| {
        let accepted = net.hosts[0].replica.seen().clone();
        net.hosts[0]
            .sync
            .acknowledged_by(net.hosts[*host].id)
            .covers(&accepted)
    });
    assert_eq!(net.stands(peer.unwrap(), RowKind::Entry), 500);
}

#[test]
fn who_waits_for_a_write_to_be_on_other_disks_waits_little_longer_than_they_take() {
    let mut net = Net::new(3);
    net.run(Duration::from_secs(1));
    let confirmed = |net: &Net| {
        let accepted = net.hosts[0].replica.seen();
        (2..=3).all(|peer| {
            net.hosts[0]
                .sync
                .acknowledged_by(NodeId(peer))
                .covers(accepted)
        })
    };
    for n in 0..50 {
        net.put(0, &format!("k{n}"), "v");
        net.run(TICK);
        net.input(0, Input::Flush);
        let took = net.run_until("confirmed", Duration::from_secs(5), confirmed);
        assert!(
            took <= Duration::from_millis(60),
            "{took:?} of simulated time"
        );
    }
    // While one write follows the other, each is confirmed soon.
    for n in 0..200 {
        net.put(0, &format!("k{n}"), "v");
        net.input(0, Input::Flush);
        net.tick();
    }
    let unconfirmed = net.hosts[0].sync.report().peers[&NodeId(2)].behind_for;
    let lag = unconfirmed.unwrap_or_default();
    assert!(
        lag <= Duration::from_millis(80),
        "{lag:?} of simulated time"
    );
}

#[test]
fn lag_is_told_in_entries_and_in_seconds() {
    let mut net = Net::new(2);
    net.isolate(1);
    for n in 0..30 {
        net.put(0, &format!("k{n}"), "v");
    }
    net.run(Duration::from_secs(7));
    let report = net.hosts[0].sync.report();
    let peer = &report.peers[&NodeId(2)];
    assert_eq!((peer.behind, peer.ahead, peer.up), (30, 0, false));
    let lag = peer.behind_for.unwrap();
    assert!(
        (Duration::from_secs(6)..=Duration::from_secs(7)).contains(&lag),
        "{lag:?}"
    );
    assert!(!report.converged);
    net.reunite(1);
    net.run_until("in sync", Duration::from_secs(30), Net::converged);
    let report = net.hosts[0].sync.report();
    let peer = &report.peers[&NodeId(2)];
    assert_eq!((peer.behind, peer.behind_for), (0, None));
}

#[test]
fn a_store_restored_from_a_copy_is_found_out_and_starts_over() {
    let mut net = Net::new(3);
    for n in 0..20 {
        net.put(0, &format!("k{n}"), "v");
    }
    net.run_until("in sync", Duration::from_secs(30), Net::converged);
    let copy = net.hosts[2].rows.image();
    for n in 0..20 {
        net.delete(1, &format!("k{n}"));
        net.put(2, &format!("own{n}"), "v");
    }
    net.run_until("in sync", Duration::from_secs(30), Net::converged);
    net.run(Duration::from_secs(5));
    net.replace(2, NodeId(3), copy, 0);
    net.run_until("found out", Duration::from_secs(30), |net| {
        net.hosts[2].sync.must_start_over().is_some()
    });
    let told = Notice::RolledBack { peer: NodeId(3) };
    assert!(net.hosts.iter().any(|host| host.notices.contains(&told)));
    net.wipe(2);
    net.run_until("in sync", Duration::from_secs(60), Net::converged);
    assert_eq!(net.value(0, "k3"), None);
    assert_eq!(net.value(2, "own3").unwrap(), "v");
}

#[test]
fn who_is_no_member_is_neither_heard_nor_answered() {
    let mut net = Net::new(3);
    net.put(0, "k", "v");
    net.run_until("in sync", Duration::from_secs(30), Net::converged);
    net.members.pop();
    net.epoch += 1;
    net.tell_members();
    assert!(net.hosts[2].notices.contains(&Notice::Removed));
    // It has not heard of it yet.
    let stale = net.members.iter().copied().chain([Member {
        node: NodeId(3),
        admitted: 3,
    }]);
    let stale: Vec<_> = stale.collect();
    net.restart(2);
    net.input(
        2,
        Input::Members {
            epoch: 1,
            members: &stale,
        },
    );
    net.put(2, "from outside", "v");
    net.put(0, "inside", "v");
    net.run(Duration::from_secs(20));
    assert_eq!(net.value(0, "from outside"), None);
    assert_eq!(net.value(2, "inside"), None);
    assert!(net.hosts[0].sync.report().traffic.strangers > 0);
}

#[test]
fn who_was_removed_and_comes_back_starts_over() {
    let mut net = Net::new(3);
    for n in 0..50 {
        net.put(0, &format!("k{n}"), "v");
    }
    net.run_until("in sync", Duration::from_secs(30), Net::converged);
    net.isolate(2);
    let all = net.members.clone();
    net.members.pop();
    net.epoch += 1;
    for host in [0, 1] {
        let members = net.members.clone();
        net.input(
            host,
            Input::Members {
                epoch: net.epoch,
                members: &members,
            },
        );
    }
    for n in 0..50 {
        net.delete(1, &format!("k{n}"));
    }
    for host in &mut net.hosts {
        host.clock += crate::TOMBSTONE_AGE.as_millis() as i64 + 100_000;
    }
    net.run_until("collected", Duration::from_secs(60), |net| {
        net.hosts[..2]
            .iter()
            .all(|h| h.replica.fingerprint().count == 0)
    });
    // It is admitted again without having been wiped: it still has what was deleted.
    net.members = all;
    net.members[2].admitted = 9;
    net.epoch += 1;
    net.tell_members();
    net.reunite(2);
    net.run(Duration::from_secs(5));
    assert!(net.hosts[2].sync.stopped().is_some());
    assert_eq!(net.hosts[0].replica.fingerprint().count, 0);
    net.wipe(2);
    net.run_until("in sync", Duration::from_secs(60), Net::converged);
    assert_eq!(net.hosts[2].replica.fingerprint().count, 0);
    assert_eq!(net.stands(2, RowKind::Dot), 0);
}
