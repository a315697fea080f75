//! Clocks that run apart: found when it is certain, and only then.

use super::super::resting::RESTS_ANEW;
use super::*;

const LEASE: Duration = Duration::from_secs(24 * 3600);
/// The longest window.
const WINDOW: u64 = 600;

/// True time in milliseconds, and clocks that run at so many thousandths of it.
struct Clocks {
    host: u64,
    server: u64,
    mark: &'static str,
    /// Added to what the server's clock shows, in seconds.
    ahead: u64,
    cluster: u64,
}

const RIGHT: Clocks = Clocks {
    host: 1000,
    server: 1000,
    mark: "n1-a",
    ahead: 77,
    cluster: 1000,
};

impl Clocks {
    fn here(&self, true_ms: u64) -> BootTime {
        BootTime::from_nanos(true_ms * 1000 * self.host)
    }

    /// A question that takes so long to the server and back, in milliseconds.
    fn ask(&self, edge: &mut Edge, at_ms: u64, there: u64, back: u64) {
        let mut fx = Effects::new();
        let shown = at_ms + there;
        let reading = ClockReading {
            sent_at: self.here(at_ms),
            received_at: self.here(at_ms + there + back),
            server: self.mark[..2].to_owned(),
            mark: self.mark.to_owned(),
            boot: at(self.ahead) + Duration::from_nanos(shown * 1000 * self.server),
            cluster: ClusterTime::from_nanos(shown * 1000 * self.cluster),
        };
        edge.hear_clock(&reading, LEASE, &mut fx);
        edge.renewed(
            reading.received_at,
            reading.sent_at,
            LEASE,
            edge.revision(),
            &mut fx,
        );
    }

    /// A heartbeat every 30 s, from `from` to `to` seconds of true time.
    fn beat(&self, edge: &mut Edge, from: u64, to: u64) {
        for secs in (from..=to).step_by(30) {
            self.ask(edge, secs * 1000, 20, 20);
        }
    }
}

fn fresh() -> Edge {
    let mut fx = Effects::new();
    let mut edge = Edge::restore(BootTime::ZERO, start("b"), [], &mut fx);
    edge.registered(at(1), at(1), LEASE, config(1, &[(0, 1)]), &mut fx);
    edge.snapshot_begin();
    edge.snapshot_end(at(1), &mut fx);
    edge
}

fn stops(edge: &Edge) -> bool {
    edge.clocks_apart().is_some_and(|apart| apart.stops)
}

#[test]
fn clocks_at_the_limits_of_what_is_allowed_are_no_alarm() {
    for (host, server) in [(990, 1010), (1010, 990), (1000, 1000), (990, 990)] {
        let mut edge = fresh();
        let clocks = Clocks {
            host,
            server,
            cluster: server,
            ..RIGHT
        };
        clocks.beat(&mut edge, 30, 86_400);
        assert_eq!(edge.clocks_apart(), None, "{host} {server}");
    }
}

#[test]
fn a_host_whose_clock_is_slow_stops_after_the_first_window_and_says_which_clocks() {
    let mut edge = fresh();
    let clocks = Clocks { host: 970, ..RIGHT };
    let mut fx = Effects::new();
    let held = edge.authorize(at(2), &request(1, 0), &mut fx).unwrap();
    let seq = edge.last_seq();
    edge.acked(at(3), seq, &mut fx);
    edge.authorize(at(4), &request(2, 1), &mut fx).unwrap();
    clocks.beat(&mut edge, 30, WINDOW - 30);
    assert!(!stops(&edge), "nothing is said of less than a window");
    let end = 2 * WINDOW;
    clocks.beat(&mut edge, WINDOW, end);
    let apart = edge.clocks_apart().unwrap();
    assert!(apart.stops, "{apart:?}");
    assert!(
        apart
            .what
            .contains("slow against the clock of server n1 by at least 2.9%"),
        "{apart:?}"
    );
    // As after the end of a lease.
    let now = clocks.here(end * 1000 + 100);
    let view = edge.view(now);
    assert_eq!((view.lease_until, view.connected), (None, true));
    assert_eq!((view.acked, view.suspended), (1, 1));
    let denied = edge.authorize(now, &request(3, 2), &mut Effects::new());
    assert_eq!(denied, Err(Denied::LeaseEnded));
    let again = edge.authorize(now, &request(1, 0), &mut Effects::new());
    assert_eq!(again.unwrap().ipv4.resource, held.ipv4.resource);
    let said = edge.heartbeat(now);
    assert_eq!((said.clocks_stop(), said.lease_alive), (true, false));
    assert_eq!(said.clocks_apart, Some(apart));
}

#[test]
fn a_host_goes_on_by_itself_once_a_later_window_is_right() {
    let mut edge = fresh();
    Clocks { host: 970, ..RIGHT }.beat(&mut edge, 30, 1200);
    assert!(stops(&edge));
    // Its clock runs right from here on; what it shows goes on from where it was.
    let mut fx = Effects::new();
    let mut beat = |secs: u64| {
        let reading = ClockReading {
            sent_at: BootTime::from_nanos(1200 * 970_000_000 + (secs - 1200) * 1_000_000_000),
            received_at: BootTime::from_nanos(
                1200 * 970_000_000 + (secs - 1200) * 1_000_000_000 + 40_000_000,
            ),
            server: "n1".to_owned(),
            mark: "n1-a".to_owned(),
            boot: at(77 + secs),
            cluster: ClusterTime::from_nanos(secs * 1_000_000_000),
        };
        edge.hear_clock(&reading, LEASE, &mut fx);
        let revision = edge.revision();
        edge.renewed(
            reading.received_at,
            reading.sent_at,
            LEASE,
            revision,
            &mut fx,
        );
        (edge.view(reading.received_at).lease_until, stops(&edge))
    };
    let went_on = (1230..=4000)
        .step_by(30)
        .find(|secs| !beat(*secs).1)
        .unwrap();
    assert!(
        (1200 + WINDOW..=1200 + 2 * WINDOW + 60).contains(&went_on),
        "{went_on}"
    );
    assert!(beat(went_on + 30).0.is_some());
}

#[test]
fn a_slow_network_and_a_machine_that_stood_still_with_an_answer_are_no_alarm() {
    let mut edge = fresh();
    for round in 1..2000_u64 {
        let (there, back) = [(20, 9000), (9000, 20), (15, 15), (5000, 5000)][(round % 4) as usize];
        RIGHT.ask(&mut edge, round * 30_000, there, back);
    }
    assert_eq!(edge.clocks_apart(), None);
    // An answer that lay an hour in a queue.
    RIGHT.ask(&mut edge, 2000 * 30_000, 20, 3_600_000);
    RIGHT.beat(&mut edge, 63_700, 70_000);
    assert_eq!(edge.clocks_apart(), None);
}

#[test]
fn another_server_another_process_and_answers_out_of_order_are_no_alarm() {
    let mut edge = fresh();
    let marks = [
        "n1-a", "n2-a", "n1-b", "n3-a", "n3-b", "n4-a", "n5-a", "n6-a", "n7-a", "n8-a",
    ];
    for (round, mark) in (1..).zip(marks.iter().cycle().take(500)) {
        let there = Clocks {
            mark,
            ahead: u64::from(mark.as_bytes()[1]) * 100_000 + u64::from(mark.as_bytes()[3]),
            ..RIGHT
        };
        there.beat(&mut edge, round * 1000, round * 1000 + 700);
        // One from before arrives late.
        there.ask(&mut edge, round * 1000 + 30_000, 10, 10);
        assert_eq!(edge.clocks_apart(), None, "{mark}");
    }
    assert!(edge.drift.clocks.len() <= 8);
}

#[test]
fn a_server_that_was_paused_once_stops_nobody_and_one_whose_clock_is_slow_does() {
    let mut edge = fresh();
    RIGHT.beat(&mut edge, 30, 1200);
    // Its clock has missed two minutes: here that looks as if this one were fast.
    let after = Clocks {
        ahead: 77 - 60,
        ..RIGHT
    };
    after.beat(&mut edge, 1230, 1320);
    let apart = edge.clocks_apart().unwrap();
    assert!(!apart.stops && apart.what.contains("fast"), "{apart:?}");
    after.beat(&mut edge, 1350, 3300);
    assert_eq!(edge.clocks_apart(), None);
    let slow = Clocks {
        server: 900,
        ahead: 77 + 1000,
        ..RIGHT
    };
    slow.beat(&mut edge, 4000, 4000 + 3 * WINDOW);
    assert!(stops(&edge));
}

#[test]
fn a_virtual_machine_that_was_paused_is_found_at_its_first_contact() {
    let mut edge = fresh();
    RIGHT.beat(&mut edge, 30, 1200);
    // For two hours its boot-time clock stood still.
    let resumed = Clocks {
        ahead: 77 + 7200,
        ..RIGHT
    };
    resumed.ask(&mut edge, 1_230_000, 20, 20);
    let apart = edge.clocks_apart().unwrap();
    assert!(apart.stops && apart.what.contains("slow"), "{apart:?}");
    assert_eq!(edge.view(at(1231)).lease_until, None);
    // It goes on once a window has shown that the clock runs again.
    resumed.beat(&mut edge, 1260, 1260 + WINDOW);
    assert_eq!(edge.clocks_apart(), None);
    assert!(edge.view(at(1270 + WINDOW)).lease_until.is_some());
}

#[test]
fn an_older_server_that_does_not_say_what_its_clock_shows_is_not_compared() {
    let mut edge = fresh();
    let old = Clocks {
        host: 900,
        mark: "",
        ..RIGHT
    };
    let mut fx = Effects::new();
    for secs in (30..9000).step_by(30) {
        let reading = ClockReading {
            sent_at: old.here(secs * 1000),
            received_at: old.here(secs * 1000 + 10),
            server: String::new(),
            mark: String::new(),
            boot: BootTime::ZERO,
            cluster: ClusterTime::ZERO,
        };
        edge.hear_clock(&reading, LEASE, &mut fx);
    }
    assert_eq!(edge.clocks_apart(), None);
}

#[test]
fn a_leader_whose_clock_is_fast_is_found_by_hosts_that_talk_to_other_servers() {
    let mut edge = fresh();
    let led = Clocks {
        cluster: 1040,
        ..RIGHT
    };
    led.beat(&mut edge, 30, 2 * WINDOW);
    let apart = edge.clocks_apart().unwrap();
    assert!(
        apart.stops && apart.what.contains("cluster time"),
        "{apart:?}"
    );
    assert!(
        apart.what.contains("agrees with that of server n1"),
        "{apart:?}"
    );
}

#[test]
fn cluster_time_that_nobody_counts_for_a_while_is_no_alarm() {
    let mut edge = fresh();
    RIGHT.beat(&mut edge, 30, 1200);
    let mut fx = Effects::new();
    for secs in (1230..9000).step_by(30) {
        let reading = ClockReading {
            sent_at: at(secs),
            received_at: at(secs) + Duration::from_millis(20),
            server: "n1".to_owned(),
            mark: "n1-a".to_owned(),
            boot: at(77 + secs),
            cluster: ClusterTime::from_nanos(1200 * 1_000_000_000),
        };
        edge.hear_clock(&reading, LEASE, &mut fx);
    }
    assert_eq!(edge.clocks_apart(), None);
}

#[test]
fn another_server_that_agrees_lets_a_host_go_on() {
    let mut edge = fresh();
    let wrong = Clocks {
        server: 1050,
        ..RIGHT
    };
    wrong.beat(&mut edge, 30, 1200);
    assert!(stops(&edge));
    let other = Clocks {
        mark: "n2-a",
        ..RIGHT
    };
    other.beat(&mut edge, 1230, 1230 + WINDOW - 60);
    assert!(stops(&edge), "a window has to pass");
    other.beat(&mut edge, 1230 + WINDOW, 1230 + WINDOW + 60);
    assert_eq!(edge.clocks_apart(), None);
}

#[test]
fn what_others_held_while_the_clock_was_fast_rests_anew_once_it_is_right() {
    let mut edge = fresh();
    let mut fx = Effects::new();
    for n in 1..=13 {
        let line = u16::try_from(n).unwrap();
        edge.authorize(at(2), &request(n, line), &mut fx).unwrap();
    }
    let rest = edge.pools[&pool_id()].allocator.pool().rest().as_secs();
    edge.end_session(at(10), &subscriber(1), "stop", &mut fx);
    // Against this server's clock the one here is fast. By what it shows the rest is over meanwhile.
    let slow = Clocks {
        server: 900,
        ..RIGHT
    };
    let end = rest + 2 * WINDOW;
    slow.beat(&mut edge, 30, end);
    assert!(stops(&edge));
    let right = Clocks {
        mark: "n2-a",
        ..RIGHT
    };
    right.beat(&mut edge, end + 30, end + WINDOW + 60);
    assert!(!stops(&edge));
    let now = end + WINDOW + 61;

    let unused = edge.authorize(at(now), &request(20, 20), &mut fx);
    assert!(unused.is_ok(), "nobody has had that: {unused:?}");
    let used =
        |edge: &mut Edge, now| edge.authorize(at(now), &request(21, 21), &mut Effects::new());
    assert_eq!(used(&mut edge, now), Err(RESTS_ANEW));
    let own = edge.clone().authorize(at(now), &request(1, 1), &mut fx);
    assert!(own.is_ok(), "it is its own: {own:?}");
    // Also after a restart, with what stands in the rows.
    assert!(matches!(edge.rests, Rests::From(_)));
    assert_eq!(Rests::Uncounted.restored(at(7), true), Rests::From(at(7)));
    assert_eq!(edge.rests.restored(at(7), true), edge.rests);
    assert_eq!(edge.rests.restored(at(7), false), Rests::From(at(7)));

    assert_eq!(used(&mut edge, now + rest - 120), Err(RESTS_ANEW));
    assert!(used(&mut edge, now + rest).is_ok());
    assert_eq!(edge.rests, Rests::AsWritten);
}
