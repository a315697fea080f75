//! Tombstones and version vectors do not grow for ever.

use super::*;

fn age(net: &mut Net) {
    net.run(Duration::from_secs(1));
    for host in &mut net.hosts {
        host.clock += crate::TOMBSTONE_AGE.as_millis() as i64 + 100_000;
    }
}

#[test]
fn tombstones_do_not_only_grow() {
    let mut net = Net::new(3);
    for round in 0..4 {
        for n in 0..300 {
            net.put(n % 3, &format!("{round}/{n}"), "v");
        }
        net.run_until("in sync", Duration::from_secs(60), Net::converged);
        for n in 0..300 {
            net.delete((n + round) % 3, &format!("{round}/{n}"));
        }
        net.run_until("in sync", Duration::from_secs(60), Net::converged);
        let tombstones = net.hosts[0].sync.report().tombstones;
        assert_eq!(tombstones, 300, "only those of this round");
        age(&mut net);
        net.run_until("collected", Duration::from_secs(60), |net| {
            net.hosts
                .iter()
                .all(|host| host.replica.fingerprint().count == 0)
        });
    }
    net.run_until("in sync", Duration::from_secs(60), Net::converged);
    for host in 0..3 {
        for kind in [RowKind::Entry, RowKind::Dot, RowKind::Tombstone] {
            assert_eq!(net.stands(host, kind), 0);
        }
    }
}

#[test]
fn a_member_that_is_away_holds_tombstones_up_until_it_is_removed() {
    let mut net = Net::new(3);
    net.put(0, "k", "v");
    net.run_until("in sync", Duration::from_secs(60), Net::converged);
    net.isolate(2);
    net.delete(0, "k");
    age(&mut net);
    net.run(Duration::from_secs(30));
    assert_eq!(net.hosts[0].replica.fingerprint().count, 1);
    let members: Vec<_> = net.members[..2].to_vec();
    for host in [0, 1] {
        net.input(
            host,
            Input::Members {
                epoch: 2,
                members: &members,
            },
        );
    }
    net.run_until("collected", Duration::from_secs(60), |net| {
        net.hosts[..2]
            .iter()
            .all(|host| host.replica.fingerprint().count == 0)
    });
}

#[test]
fn a_member_that_goes_by_an_older_list_is_waited_for() {
    let mut net = Net::new(2);
    net.put(0, "k", "v");
    net.delete(0, "k");
    net.run_until("in sync", Duration::from_secs(60), Net::converged);
    let members = net.members.clone();
    net.input(
        0,
        Input::Members {
            epoch: 2,
            members: &members,
        },
    );
    age(&mut net);
    net.run(Duration::from_secs(30));
    assert_eq!(net.hosts[0].replica.fingerprint().count, 1);
    net.input(
        1,
        Input::Members {
            epoch: 2,
            members: &members,
        },
    );
    net.run_until("collected", Duration::from_secs(60), |net| {
        net.hosts
            .iter()
            .all(|host| host.replica.fingerprint().count == 0)
    });
}

#[test]
fn version_vectors_do_not_grow_with_every_boot() {
    let mut net = Net::new(3);
    net.put(1, "for ever", "written in the first boot");
    let mut most = 0;
    for round in 0..12 {
        let host = round % 3;
        net.put(host, "superseded", &round.to_string());
        net.put(host, &format!("deleted/{round}"), "v");
        net.delete(host, &format!("deleted/{round}"));
        net.run_until("in sync", Duration::from_secs(60), Net::converged);
        age(&mut net);
        net.restart(host);
        net.run(Duration::from_secs(20));
        net.run_until("in sync", Duration::from_secs(60), Net::converged);
        most = most.max(net.hosts[0].sync.report().origins);
    }
    age(&mut net);
    net.run(Duration::from_secs(20));
    net.run_until("in sync", Duration::from_secs(60), Net::converged);
    let report = net.hosts[0].sync.report();
    // What stands: one entry of the first boot, one of the last writer.
    assert!(
        report.origins <= 3,
        "{} writers are remembered, {most} at most",
        report.origins
    );
    assert!(most <= 8, "{most}");
    assert!(report.retired <= 6, "{}", report.retired);
    for host in 0..3 {
        let rows = net.hosts[host].rows.all(RowKind::Meta);
        let vectors = rows
            .iter()
            .filter(|(key, _)| key.starts_with(b"seen/"))
            .count();
        assert_eq!(vectors, report.origins);
        assert_eq!(
            net.value(host, "for ever").unwrap(),
            "written in the first boot"
        );
        assert_eq!(net.value(host, "superseded").unwrap(), "11");
    }
    // Whoever comes anew gets all of it.
    net.wipe(2);
    net.run_until("in sync", Duration::from_secs(60), Net::converged);
    assert_eq!(
        net.value(2, "for ever").unwrap(),
        "written in the first boot"
    );
    net.check_summaries();
}

#[test]
fn a_writer_that_was_declared_gone_while_it_was_cut_off_starts_over() {
    let mut net = Net::new(3);
    net.put(2, "k", "v");
    net.delete(2, "k");
    net.run_until("in sync", Duration::from_secs(60), Net::converged);
    net.isolate(2);
    let members: Vec<_> = net.members[..2].to_vec();
    for host in [0, 1] {
        net.input(
            host,
            Input::Members {
                epoch: 2,
                members: &members,
            },
        );
    }
    age(&mut net);
    let own = net.hosts[2].replica.origin();
    net.run_until("forgotten", Duration::from_secs(60), |net| {
        net.hosts[..2]
            .iter()
            .all(|host| host.replica.retired().contains(own))
    });
    // It knows nothing of it, and is a member again as if nothing had been.
    net.put(2, "late", "v");
    let all = net.members.clone();
    for host in 0..2 {
        net.input(
            host,
            Input::Members {
                epoch: 3,
                members: &all,
            },
        );
    }
    net.reunite(2);
    net.run_until("stopped", Duration::from_secs(60), |net| {
        net.hosts[2].sync.stopped().is_some()
    });
    assert_eq!(net.value(0, "late"), None);
    net.epoch = 3;
    net.wipe(2);
    assert!(net.hosts[2].replica.origin() > own);
    net.run_until("in sync", Duration::from_secs(60), Net::converged);
}
