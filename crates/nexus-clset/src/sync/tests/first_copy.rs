//! The first copy of a new member: it goes on whatever happens on the way, and says how far it is.

use super::*;

fn filled(entries: usize) -> Net {
    let mut net = Net::apart(3);
    net.connect(0, 1);
    for n in 0..entries {
        // Some are written again, so that there are gaps in what is sent.
        net.put(
            n % 2 * usize::from(n > 200),
            &format!("k{:05}", n - n % 3 / 2),
            &"x".repeat(80),
        );
        if n % 100 == 0 {
            net.run(Duration::from_millis(20));
        }
    }
    let two = |net: &Net| {
        net.hosts[0].replica.is_complete()
            && net.hosts[1].replica.is_complete()
            && net.hosts[0].replica.fingerprint() == net.hosts[1].replica.fingerprint()
    };
    net.run_until("two are alike", Duration::from_secs(60), two);
    net
}

#[test]
fn a_fresh_peers_first_sync_is_not_stuck_when_its_source_hangs() {
    let mut net = filled(3000);
    // It starts with the first one, which goes silent in the middle: no answer, no failure.
    net.options.page_bytes = 8 * 1024;
    for host in [0, 1] {
        net.restart(host);
    }
    net.reunite(2);
    let some = |net: &Net| net.hosts[2].replica.fingerprint().count > 300;
    net.run_until("some are there", Duration::from_secs(60), some);
    let source = net.hosts[2]
        .sync
        .report()
        .bootstrap
        .unwrap()
        .source
        .unwrap();
    let hanging = (source.0 - 1) as usize;
    net.hosts[hanging].hangs = true;
    let before = net.hosts[2].replica.fingerprint().count;
    net.run_until("complete", Duration::from_secs(60), |net| {
        net.hosts[2].replica.is_complete()
    });
    assert!(before < 2000);
    net.hosts[hanging].hangs = false;
    net.run_until("in sync", Duration::from_secs(60), Net::converged);
}

#[test]
fn a_fresh_peers_first_sync_is_not_stuck_when_answers_are_refused_at_first() {
    let mut net = filled(500);
    // The others have not heard yet that it was admitted.
    net.epoch += 1;
    let all = net.members.clone();
    let without: Vec<_> = all[..2].to_vec();
    for host in [0, 1] {
        net.input(
            host,
            Input::Members {
                epoch: net.epoch,
                members: &without,
            },
        );
    }
    net.reunite(2);
    net.run(Duration::from_secs(10));
    assert!(!net.hosts[2].replica.is_complete());
    assert!(net.hosts[2].sync.report().peers[&NodeId(1)].refuses_us);
    net.epoch += 1;
    net.tell_members();
    net.run_until("in sync", Duration::from_secs(60), Net::converged);
}

#[test]
fn a_first_copy_goes_on_while_others_write() {
    let mut net = filled(1500);
    net.options.page_bytes = 4 * 1024;
    for host in [0, 1] {
        net.restart(host);
    }
    net.reunite(2);
    for n in 0..3000 {
        net.put(n % 2, &format!("k{:05}", n % 700), "while it goes on");
        if n % 2 == 0 {
            net.tick();
        }
        if net.hosts[2].replica.is_complete() {
            break;
        }
    }
    net.run_until("in sync", Duration::from_secs(60), Net::converged);
    net.check_summaries();
}

#[test]
fn a_first_copy_goes_on_after_restarts_and_takes_nothing_twice() {
    let mut net = filled(4000);
    net.options.page_bytes = 16 * 1024;
    for host in [0, 1] {
        net.restart(host);
    }
    let whole: u64 = {
        let rows = net.hosts[0].rows.all(RowKind::Entry);
        rows.iter()
            .map(|(key, row)| (key.len() + row.len() + 8) as u64)
            .sum()
    };
    net.reunite(2);
    let mut came = 0;
    for part in 1..5_u64 {
        let total = net.hosts[0].replica.fingerprint().count;
        net.run_until("a part is there", Duration::from_secs(60), |net| {
            net.hosts[2].replica.fingerprint().count >= total * part / 5
        });
        came += net.hosts[2].sync.report().bootstrap.unwrap().bytes;
        net.restart(2);
        let report = net.hosts[2].sync.report();
        assert!(!report.complete);
    }
    net.run_until("complete", Duration::from_secs(60), |net| {
        net.hosts[2].replica.is_complete()
    });
    came += net.hosts[2].sync.bootstrap.bytes;
    // What was on its way to the disk when it was killed comes twice, and each page says what it covers.
    assert!(came < whole * 13 / 10, "{came} bytes for {whole}");
    net.run_until("in sync", Duration::from_secs(60), Net::converged);
}

#[test]
fn a_first_copy_is_throttled_and_says_how_far_it_is() {
    let mut net = filled(4000);
    net.options.page_bytes = 8 * 1024;
    net.options.bootstrap_rate = Some(50_000);
    for host in 0..3 {
        net.restart(host);
    }
    net.reunite(2);
    net.run_until("it begins", Duration::from_secs(10), |net| {
        net.hosts[2]
            .sync
            .report()
            .bootstrap
            .is_some_and(|b| b.bytes > 100_000)
    });
    let started = net.hosts[2].sync.report().bootstrap.unwrap();
    let since = net.now;
    net.run(Duration::from_secs(4));
    let later = net.hosts[2].sync.report().bootstrap.unwrap();
    let rate = (later.bytes - started.bytes) / (net.now - since).as_secs();
    assert!((40_000..60_000).contains(&rate), "{rate} bytes a second");
    assert!(later.entries > started.entries && later.entries < later.entries_expected);
    let expected = later.bytes_expected;
    net.run_until("in sync", Duration::from_secs(60), Net::converged);
    let bytes = net.hosts[2].sync.bootstrap.bytes;
    assert!(
        expected.abs_diff(bytes) < bytes / 5,
        "{expected} expected, {bytes} came"
    );
    assert!(
        net.hosts[2]
            .notices
            .iter()
            .any(|n| matches!(n, Notice::Complete { .. }))
    );
}

#[test]
fn a_source_that_is_gone_for_good_does_not_keep_a_first_copy_from_its_end() {
    let mut net = filled(3000);
    net.options.page_bytes = 8 * 1024;
    for host in [0, 1] {
        net.restart(host);
    }
    net.reunite(2);
    let some = |net: &Net| net.hosts[2].replica.fingerprint().count > 500;
    net.run_until("some are there", Duration::from_secs(60), some);
    let source = net.hosts[2]
        .sync
        .report()
        .bootstrap
        .unwrap()
        .source
        .unwrap();
    let source = (source.0 - 1) as usize;
    // The source has writes that nobody else has, and takes them with it.
    net.disconnect(0, 1);
    for n in 0..50 {
        net.put(source, &format!("k{n:05}"), "only here");
    }
    net.run(Duration::from_millis(30));
    net.isolate(source);
    net.connect(1 - source, 2);
    net.run_until("complete", Duration::from_secs(120), |net| {
        net.hosts[2].replica.is_complete()
    });
    let other = 1 - source;
    net.run_until("alike", Duration::from_secs(60), |net| {
        net.hosts[2].sync.report().peers[&net.hosts[other].id].in_sync
    });
    // It comes back after all.
    net.reunite(source);
    net.run_until("in sync", Duration::from_secs(60), Net::converged);
    assert_eq!(net.value(2, "k00000").unwrap(), "only here");
}

#[test]
fn a_lonely_newcomer_says_that_it_waits() {
    let mut net = Net::apart(2);
    net.run(Duration::from_secs(5));
    let report = net.hosts[1].sync.report();
    assert!(!report.complete && !report.converged);
    assert_eq!(report.bootstrap.unwrap().source, None);
}
