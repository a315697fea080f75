//! After a power cut: thousands of clients that nobody knows, all at once.

use std::collections::BTreeSet;

use nexus_testkit::access_node::{Line, UPLINK};
use nexus_testkit::load::{self, Pace, Plan};
use nexus_testkit::packet::mac_text;

use crate::bench::{Bench, POOL};
use crate::subscriber::Subscriber;
use crate::support::{asking, held, results};

const CLIENTS: u16 = 2000;

#[test]
#[ignore = "needs root: makes network namespaces"]
fn two_thousand_clients_at_once_all_get_addresses_of_their_own() {
    let line = Line::Untagged;
    let first_mac = [2, 0, 0, 1, 0, 0];
    let window = Pace::Closed {
        window: u32::from(CLIENTS),
    };
    let plan = Plan {
        tags: 2,
        once: true,
        retry: true,
        seconds: 120.0,
        ..Plan::new(UPLINK, first_mac, u32::from(CLIENTS), window)
    };
    let accounts: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let mut subscriber = Subscriber::new(number, line, POOL);
            subscriber.name = mac_text(plan.mac(u32::from(number)));
            subscriber
        })
        .collect();
    let bench = Bench::start_with("ipoest", &[line], &accounts, |text, _| {
        let room = "max_bindings: 1024";
        assert!(text.contains(room), "{text}");
        asking(&text, "{mac}").replace(room, "max_bindings: 4096")
    });
    let node = bench.host.network.node();
    let report = node.enter(|| load::run(&plan)).unwrap().unwrap();
    let counts = report.counts;
    let metrics = bench.metrics();
    let all = u64::from(CLIENTS);
    assert_eq!(counts.completed, all, "{report:?}\n{metrics}");
    assert_eq!((counts.wrong, counts.refused, counts.lost), (0, 0, 0));
    assert_eq!(results(&bench, "accept"), u64::from(CLIENTS));
    let bindings = bench.host.bindings().unwrap();
    let addresses: BTreeSet<_> = bindings
        .iter()
        .map(|binding| binding["address"].as_str().unwrap())
        .collect();
    assert_eq!(addresses.len(), usize::from(CLIENTS));
    assert_eq!(held(&bench, &accounts[7].name).len(), 1);
    // In the kernel, under a line each.
    assert_eq!(bench.kernel().len(), usize::from(CLIENTS));
    bench.wait_synced();
    assert_eq!(bench.host.status().unwrap()["acked"], CLIENTS);
}
