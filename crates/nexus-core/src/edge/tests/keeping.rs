//! How long acknowledged bindings outlive the lease.

use super::*;
use crate::edge::Clocks;
use crate::lease::{Keeping, Terms, holder_end};

const DAY: u64 = 86_400;

fn terms(after: Option<u64>, rule: u64) -> Terms {
    Terms {
        lease: Duration::from_secs(DAY),
        keeping: Keeping {
            after: after.map(Duration::from_secs),
            rule,
        },
    }
}

/// When what was promised with a lease sent at `sent` ends.
fn end(sent: u64, after: u64) -> BootTime {
    let lease = holder_end(at(sent), Duration::from_secs(DAY));
    holder_end(lease, Duration::from_secs(after))
}

/// A registered edge that was told rule 1, a week, at second 100, with one acknowledged binding.
fn kept(shell: &mut Shell) -> Edge {
    let mut edge = shell.restart(at(100), "boot-a");
    let mut fx = Effects::new();
    let config = config(1, &[(0, 1), (1, 1)]);
    edge.registered(at(100), at(100), terms(Some(7 * DAY), 1), config, &mut fx);
    edge.snapshot_begin();
    edge.snapshot_end(at(100), &mut fx);
    shell.run(fx);
    authorize(&mut edge, shell, 200, 1, 1).unwrap();
    acked(&mut edge, shell, 1);
    shell.take();
    edge
}

fn renewed(edge: &mut Edge, shell: &mut Shell, now: u64, terms: Terms) {
    let mut fx = Effects::new();
    edge.renewed(at(now), at(now), terms, 1, &mut fx);
    shell.run(fx);
}

fn tick(edge: &mut Edge, shell: &mut Shell, now: BootTime) {
    let mut fx = Effects::new();
    edge.tick(now, &mut fx);
    shell.run(fx);
}

/// Ends of the entries that were written since, in order.
fn written(shell: &mut Shell) -> Vec<Option<BootTime>> {
    let ends = shell.take().into_iter().filter_map(|action| match action {
        Action::PutBinding(entry) => Some(entry.valid_until),
        _ => None,
    });
    ends.collect()
}

fn own_record(edge: &Edge) -> Record {
    let held = edge.bindings(None).next().unwrap();
    Record {
        pool: held.pool.clone(),
        resource: held.resource,
        shard: ShardId(0),
        subscriber: held.row.subscriber.clone(),
        olt: edge.olt().clone(),
        session: Some(edge.session().clone()),
        epoch: held.row.epoch,
        seq: held.row.seq,
    }
}

/// Reads the records, one or none.
fn read(edge: &mut Edge, shell: &mut Shell, now: u64, record: Option<&Record>) {
    let mut fx = Effects::new();
    edge.snapshot_begin();
    if let Some(record) = record {
        edge.record(at(now), RecordKind::Put, record, &mut fx);
    }
    edge.snapshot_end(at(now), &mut fx);
    shell.run(fx);
}

#[test]
fn what_is_acknowledged_ends_in_the_map_a_week_behind_the_lease() {
    let mut shell = Shell::default();
    let edge = kept(&mut shell);
    let ends: Vec<_> = edge.map_entries().map(|entry| entry.valid_until).collect();
    assert_eq!(ends, [Some(end(100, 7 * DAY))]);
    assert_eq!(edge.view(at(200)).kept.until, Some(end(100, 7 * DAY)));
}

#[test]
fn an_entry_is_written_anew_only_when_half_of_its_time_is_over() {
    let mut shell = Shell::default();
    let mut edge = kept(&mut shell);
    let (mut writes, mut last) = (0, end(100, 7 * DAY));
    for now in (1000..30 * DAY).step_by(1000) {
        renewed(&mut edge, &mut shell, now, terms(Some(7 * DAY), 1));
        tick(&mut edge, &mut shell, at(now));
        for until in written(&mut shell).into_iter().flatten() {
            assert!(until > last && until == end(now, 7 * DAY));
            last = until;
            writes += 1;
        }
        // A process that hangs from now on leaves the kernel at least half of the time.
        assert!(last.since(at(now)) >= Duration::from_secs(4 * DAY - 8000));
    }
    assert_eq!(writes, 7, "every four days");
}

#[test]
fn the_last_end_is_in_the_map_when_it_matters_and_stays_there() {
    let mut shell = Shell::default();
    let mut edge = kept(&mut shell);
    let cut = 3 * DAY;
    renewed(&mut edge, &mut shell, cut, terms(Some(7 * DAY), 1));
    let mut last = Some(end(100, 7 * DAY));
    let over = end(cut, 7 * DAY);
    let mut now = at(cut);
    while now < over {
        tick(&mut edge, &mut shell, now);
        last = written(&mut shell).pop().unwrap_or(last);
        assert!(last > Some(now), "it is served without a gap");
        now = now + Duration::from_secs(1000);
    }
    assert_eq!(last, Some(over));
    tick(&mut edge, &mut shell, now);
    assert_eq!(written(&mut shell), [], "nothing moves it on");
}

#[test]
fn what_has_ended_is_served_again_only_after_a_renewal_and_a_reading_behind_it() {
    let mut shell = Shell::default();
    let mut edge = kept(&mut shell);
    let record = own_record(&edge);
    let over = end(100, 7 * DAY);
    let late = over.as_nanos() / 1_000_000_000 + 1;
    tick(&mut edge, &mut shell, at(late));
    let notes = shell.take();
    assert!(
        notes.contains(&Action::Note(Note::KeptEnded { bindings: 1 })),
        "{notes:?}"
    );
    assert_eq!(edge.map_entries().count(), 0);
    assert!(edge.bindings(None).all(|view| view.suspended));
    let denied = authorize(&mut edge, &mut shell, late, 1, 1).unwrap_err();
    assert!(matches!(denied, Denied::NotReady(_)), "{denied}");
    // Records that are read without a renewal say nothing.
    read(&mut edge, &mut shell, late + 1, Some(&record));
    assert_eq!(edge.map_entries().count(), 0);
    // Nor do those that were on their way when it came.
    edge.snapshot_begin();
    renewed(&mut edge, &mut shell, late + 2, terms(Some(7 * DAY), 1));
    assert!(shell.take().contains(&Action::PullRecords));
    let mut fx = Effects::new();
    edge.snapshot_end(at(late + 2), &mut fx);
    shell.run(fx);
    assert_eq!(edge.map_entries().count(), 0);
    // Not forgotten by a process that ends meanwhile.
    let mut edge = shell.restart(at(late + 3), "boot-a");
    assert_eq!(edge.map_entries().count(), 0);
    read(&mut edge, &mut shell, late + 4, Some(&record));
    assert_eq!(written(&mut shell), [Some(end(late + 2, 7 * DAY))]);
    assert!(
        authorize(&mut edge, &mut shell, late + 5, 1, 1)
            .unwrap()
            .known
    );
}

#[test]
fn what_the_centre_has_given_to_others_meanwhile_has_ended() {
    let mut shell = Shell::default();
    let mut edge = kept(&mut shell);
    let late = 9 * DAY;
    tick(&mut edge, &mut shell, at(late));
    let mut fx = Effects::new();
    let lost = config(2, &[(3, 1)]);
    edge.registered(at(late), at(late), terms(Some(7 * DAY), 1), lost, &mut fx);
    shell.run(fx);
    read(&mut edge, &mut shell, late + 1, None);
    assert_eq!(edge.bindings(None).count(), 0);
    assert_eq!(written(&mut shell), []);
}

#[test]
fn after_a_reboot_what_has_an_end_waits_for_the_centre_and_what_has_none_is_served() {
    let mut shell = Shell::default();
    let edge = kept(&mut shell);
    let record = own_record(&edge);
    let mut edge = shell.restart(at(5), "boot-b");
    assert_eq!(
        edge.map_entries().count(),
        0,
        "nobody knows for how long it was off"
    );
    let mut fx = Effects::new();
    let same = config(1, &[(0, 1), (1, 1)]);
    edge.registered(at(10), at(10), terms(Some(7 * DAY), 1), same, &mut fx);
    assert!(fx.actions.contains(&Action::PullRecords));
    shell.run(fx);
    assert_eq!(edge.map_entries().count(), 0);
    read(&mut edge, &mut shell, 11, Some(&record));
    let ends: Vec<_> = edge.map_entries().map(|entry| entry.valid_until).collect();
    assert_eq!(ends, [Some(end(10, 7 * DAY))]);

    renewed(&mut edge, &mut shell, 20, terms(None, 2));
    let edge = shell.restart(at(5), "boot-c");
    let ends: Vec<_> = edge.map_entries().map(|entry| entry.valid_until).collect();
    assert_eq!(ends, [None]);
}

#[test]
fn a_shorter_rule_is_said_to_the_centre_only_when_every_entry_says_so() {
    let mut shell = Shell::default();
    let mut edge = kept(&mut shell);
    assert_eq!(edge.heartbeat(at(200)).keeping, 0);
    tick(&mut edge, &mut shell, at(201));
    assert_eq!(edge.heartbeat(at(201)).keeping, 1);
    renewed(&mut edge, &mut shell, 300, terms(Some(DAY), 2));
    assert_eq!(edge.heartbeat(at(300)).keeping, 1);
    tick(&mut edge, &mut shell, at(301));
    assert_eq!(written(&mut shell), [Some(end(300, DAY))]);
    assert_eq!(edge.heartbeat(at(301)).keeping, 2);
    // An answer under the older rule that was overtaken makes nothing longer.
    renewed(&mut edge, &mut shell, 400, terms(Some(7 * DAY), 1));
    assert_eq!(edge.view(at(400)).kept.until, Some(end(400, DAY)));
}

#[test]
fn a_clock_that_stood_still_takes_what_it_did_not_count() {
    let mut shell = Shell::default();
    let mut edge = kept(&mut shell);
    let mut fx = Effects::new();
    edge.ran_ahead(at(300), Duration::from_secs(DAY), &mut fx);
    shell.run(fx);
    let ends = written(&mut shell);
    let whole = end(100, 7 * DAY).since(at(100));
    let left = at(100) + whole / 2;
    assert_eq!(
        ends.last(),
        Some(&Some(left.saturating_sub(Duration::from_secs(DAY))))
    );
    let mut fx = Effects::new();
    edge.ran_ahead(at(301), Duration::from_secs(20 * DAY), &mut fx);
    edge.tick(at(301), &mut fx);
    shell.run(fx);
    assert_eq!(edge.map_entries().count(), 0, "it may be over");
}

/// A hardware clock of this morning.
const RTC: u64 = 1_795_000_000;

#[test]
fn a_wall_clock_that_is_set_takes_no_more_than_the_hardware_clock_says() {
    let mut shell = Shell::default();
    let mut edge = kept(&mut shell);
    edge.hardware_clock(at(200), RTC);
    let half = end(100, 7 * DAY).since(at(100)) / 2;
    let mut ran_ahead = |now: u64, hardware: u64| {
        let mut fx = Effects::new();
        let clocks = Clocks {
            boot: at(now),
            hardware: Some(hardware),
        };
        // To the year 2036.
        edge.ran_ahead(clocks, Duration::from_secs(3650 * DAY), &mut fx);
        shell.run(fx);
        edge.view(at(now)).kept.until.unwrap()
    };
    // Set by hand: the hardware clock agrees with the boot-time clock, but for its margin of 2 min and 1%.
    let set = ran_ahead(300, RTC + 100);
    assert_eq!(set, at(100) + half.saturating_sub(Duration::from_secs(121)));
    // Paused as a whole for a month: the hardware clock knows.
    assert!(ran_ahead(400, RTC + 200 + 30 * DAY) <= at(400));
    assert_eq!(edge.map_entries().count(), 1, "until the next tick");
    tick(&mut edge, &mut shell, at(401));
    assert_eq!(edge.map_entries().count(), 0);
}

/// Cut off since second 100, booted again after `off` seconds, at second 5 of the new boot.
fn booted_after(off: Option<i64>) -> Edge {
    let mut shell = Shell::default();
    let mut edge = kept(&mut shell);
    assert!(edge.wants_hardware_clock(at(300)));
    edge.hardware_clock(at(300), RTC);
    assert!(!edge.wants_hardware_clock(at(359)));
    renewed(&mut edge, &mut shell, 300, terms(Some(7 * DAY), 1));
    let clocks = Clocks {
        boot: at(5),
        hardware: off.map(|off| RTC.checked_add_signed(off).unwrap()),
    };
    let mut fx = Effects::new();
    let edge = Edge::restore(
        clocks,
        start("boot-b"),
        shell.rows.values().cloned(),
        &mut fx,
    );
    shell.run(fx);
    edge
}

#[test]
fn a_host_that_is_booted_while_it_is_cut_off_serves_at_once_for_as_long_as_is_left() {
    let off = 3600;
    let mut edge = booted_after(Some(i64::try_from(off).unwrap()));
    let ends: Vec<_> = edge.map_entries().map(|entry| entry.valid_until).collect();
    let passed = Duration::from_secs(off + off / 100 + 120);
    let left = end(300, 7 * DAY).since(at(300)).saturating_sub(passed);
    assert_eq!(ends, [Some(at(5) + left)]);
    let mut shell = Shell::default();
    assert!(authorize(&mut edge, &mut shell, 6, 1, 1).unwrap().known);
}

#[test]
fn a_host_that_was_off_for_longer_than_it_was_promised_serves_nothing_when_it_is_booted() {
    let edge = booted_after(Some(8 * 86_400));
    assert_eq!(edge.map_entries().count(), 0);
}

#[test]
fn a_host_whose_hardware_clock_is_lost_or_behind_serves_nothing_when_it_is_booted() {
    for off in [None, Some(-1), Some(-800_000_000)] {
        let edge = booted_after(off);
        assert_eq!(edge.map_entries().count(), 0, "{off:?}");
        assert!(edge.view(at(5)).unread);
    }
}

#[test]
fn a_host_that_is_booted_twice_counts_both_times() {
    let mut shell = Shell::default();
    let mut edge = kept(&mut shell);
    edge.hardware_clock(at(300), RTC);
    renewed(&mut edge, &mut shell, 300, terms(Some(7 * DAY), 1));
    let mut rtc = RTC;
    for (boot, served) in [("boot-b", 1), ("boot-c", 0)] {
        rtc += 5 * DAY;
        let clocks = Clocks {
            boot: at(5),
            hardware: Some(rtc),
        };
        let mut fx = Effects::new();
        let edge = Edge::restore(clocks, start(boot), shell.rows.values().cloned(), &mut fx);
        shell.run(fx);
        assert_eq!(edge.map_entries().count(), served, "{boot}");
    }
}
