//! Wall clocks that are wrong: told of, not followed, and where the wrong one is known, no writes.

use super::*;
use crate::ClockNotice;

fn clock(net: &Net, host: usize) -> crate::ClockReport {
    net.hosts[host].sync.report().clock
}

#[test]
fn a_clock_half_a_second_off_is_told_of_and_two_seconds_refuse_writes_until_it_is_right() {
    let mut net = Net::new(3);
    assert!(clock(&net, 0).ahead_millis.unwrap().abs() < 20);
    net.hosts[0].clock = 700;
    net.run(TICK);
    let notice = ClockNotice::Off {
        ahead_millis: 700,
        refused: false,
    };
    let told = |net: &Net, refused: bool| {
        net.hosts[0].notices.iter().any(|notice| {
            matches!(notice, Notice::Clock(ClockNotice::Off { refused: r, .. }) if *r == refused)
        })
    };
    assert!(told(&net, false), "{notice:?} {}", net.told());
    assert_eq!(net.hosts[0].sync.writes_refused(), None);
    for off in [-30_000, 30_000] {
        net.hosts[0].clock = off;
        net.run(TICK);
        let refused = net.hosts[0].sync.writes_refused().unwrap();
        assert!(refused.ahead_millis.abs_diff(off) < 50, "{refused:?}");
        assert!(refused.to_string().contains("wall clock"));
        assert!(told(&net, true));
        net.run(Duration::from_secs(10));
        // The others are right, and go on.
        for host in 1..3 {
            assert_eq!(net.hosts[host].sync.writes_refused(), None);
        }
        net.hosts[0].clock = 0;
        net.run(TICK);
        assert_eq!(net.hosts[0].sync.writes_refused(), None);
        assert!(
            net.hosts[0]
                .notices
                .contains(&Notice::Clock(ClockNotice::RightAgain))
        );
    }
}

#[test]
fn a_clock_that_was_wrong_from_the_start_is_found_by_the_first_greetings() {
    let mut net = Net::apart(3);
    net.hosts[2].clock = 3_600_000;
    net.connect_all();
    net.run_until("found", Duration::from_secs(60), |net| {
        net.hosts[2].sync.writes_refused().is_some()
    });
    net.run(Duration::from_secs(10));
    assert!(
        net.hosts[..2]
            .iter()
            .all(|host| host.sync.writes_refused().is_none())
    );
}

#[test]
fn of_two_clocks_nobody_knows_which_is_wrong_so_both_only_tell() {
    let mut net = Net::new(2);
    net.hosts[1].clock = 60_000;
    net.run(Duration::from_secs(10));
    for host in 0..2 {
        assert_eq!(net.hosts[host].sync.writes_refused(), None);
        assert!(clock(&net, host).ahead_millis.unwrap().abs() > 50_000);
    }
}

#[test]
fn writes_from_a_clock_far_ahead_are_merged_and_told_of_but_not_followed() {
    let mut net = Net::new(3);
    net.hosts[2].clock = 3_600_000;
    net.put(2, "k", "from the future");
    net.run_until("visible", Duration::from_secs(1), |net| {
        net.value(0, "k").is_some()
    });
    net.run(TICK);
    assert!(clock(&net, 0).refused_stamps > 0);
    let told = net.hosts[0].notices.iter().any(|notice| {
        matches!(notice, Notice::Clock(ClockNotice::FarAhead { from: NodeId(3), lead }) if lead.as_secs() > 3500)
    });
    assert!(told);
    net.put(0, "other", "now");
    let stamp = net.hosts[0]
        .replica
        .get_entry(b"other")
        .unwrap()
        .unwrap()
        .version
        .hlc;
    assert!(stamp.millis().0 < START + 2_000_000);
    // Its key can be written again by anybody, and that counts.
    net.put(1, "k", "now");
    net.run_until("in sync", Duration::from_secs(60), Net::converged);
    assert_eq!(net.value(2, "k").unwrap(), "now");
}
