//! `nexus-sidecar trace` and `events`: packets live, in words, while the program answers as before.

use std::process::Command;
use std::time::Duration;

use nexus_testkit::access_node::{Line, OLT_INTERFACE};
use nexus_testkit::command;
use nexus_testkit::interrupt::wait_until;

use crate::bench::{Bench, LIMIT, POOL};
use crate::subscriber::Subscriber;

/// The program that is attached now.
fn attached(bench: &Bench) -> String {
    let mut show = Command::new("nsenter");
    show.arg(format!("--net={}", bench.host.network.olt.path().display()));
    show.args(["ip", "-details", "link", "show", OLT_INTERFACE]);
    let text = command::output(&mut show).unwrap();
    let id = text.split("prog/xdp id ").nth(1).unwrap();
    id.split_whitespace().next().unwrap().to_owned()
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_trace_shows_a_subscribers_packets_in_words_and_nobody_elses_and_leaves_nothing_behind() {
    let subscribers = [
        Subscriber::new(1, Line::Untagged, POOL),
        Subscriber::new(2, Line::Vlan(100), POOL),
    ];
    let [traced, other] = &subscribers;
    let mut bench = Bench::start("trace", &[], &subscribers);
    let addresses = bench.connect(&subscribers);
    let before = attached(&bench);

    let mut trace = bench
        .host
        .watch(&["trace", "--subscriber", &traced.name])
        .unwrap();
    trace.wait_for_line("watching sub-1", LIMIT).unwrap();
    assert_ne!(attached(&bench), before, "another program is attached");
    bench.ask_and_read(&other.discover(0xbeef));
    bench.ask_and_read(&traced.discover(0xcafe));
    let asked = trace.wait_for_line("<- DISCOVER", LIMIT).unwrap();
    assert!(
        asked.contains("from 02:00:00:00:00:01 on untagged, xid 0000cafe"),
        "{asked}"
    );
    let answered = trace.wait_for_line("->", LIMIT).unwrap();
    let offered = format!("OFFER {} for 3600 s", addresses[&traced.name]);
    // Without room for a longer reply it is the slow path that answers.
    assert!(
        answered.contains(&offered)
            || answered.contains("to the slow path: the driver gave no room"),
        "{answered}"
    );
    assert!(!trace.log().contains("beef"), "{}", trace.log());

    let mut events = bench.host.watch(&["events"]).unwrap();
    events
        .wait_for_line("watching all interfaces", LIMIT)
        .unwrap();
    let stranger = Subscriber::new(77, Line::Vlan(100), POOL);
    bench
        .uplink
        .send(&stranger.discover(0xfeed).build())
        .unwrap();
    let seen = events.wait_for_line("!! DISCOVER", LIMIT).unwrap();
    assert!(seen.contains("02:00:00:00:00:4d on VLAN 100"), "{seen}");
    assert!(seen.contains("nobody is bound"), "{seen}");

    // With the last watcher the program is what it was: as short, and without a word about packets.
    let watched = attached(&bench);
    events.terminate(Duration::from_secs(10)).unwrap();
    trace.terminate(Duration::from_secs(10)).unwrap();
    wait_until("another program without events", LIMIT, || {
        Ok((attached(&bench) != watched).then_some(()))
    })
    .unwrap();
    bench.ask_and_read(&traced.discover(0xcaff));
}
