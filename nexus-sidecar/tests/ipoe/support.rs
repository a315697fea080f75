//! A host whose interface asks about first contacts, and what it has counted.

use std::net::Ipv4Addr;

use nexus_testkit::access_node::Line;
use nexus_testkit::capture::Seen;
use nexus_testkit::interrupt::wait_until;
use nexus_testkit::packet::{Mac, mac_text};

use crate::bench::{Bench, LIMIT, POOL};
use crate::subscriber::{PASSWORD, Subscriber};

/// Number of DHCPDISCOVER and DHCPOFFER (RFC 2132 9.6).
pub const DISCOVER: u8 = 1;
pub const OFFER: u8 = 2;

/// The usual configuration, with first contacts under the User-Name `username`.
pub fn asking(text: &str, username: &str) -> String {
    let mode = "    mode: native\n";
    assert_eq!(text.matches(mode).count(), 1, "{text}");
    let ipoe = format!(
        "{mode}    ipoe:\n      username: \"{username}\"\n      password: {PASSWORD}\n      reject_for: 1h\n"
    );
    text.replace(mode, &ipoe)
}

/// The same with an AAA server of this port in place of the users file.
pub fn upstream(text: &str, port: u16, timeout: &str) -> String {
    let users = text
        .lines()
        .find(|line| line.trim_start().starts_with("users_file:"))
        .unwrap();
    let servers = format!(
        "  upstream:\n    servers: [{{address: '127.0.0.1:{port}', secret: {}}}]\n    timeout: {timeout}\n    retries: 0\n",
        crate::aaa::SECRET
    );
    text.replace(&format!("{users}\n"), &servers)
}

/// A subscriber whose account has the name that `{mac}` gives.
pub fn by_mac(number: u16, line: Line) -> Subscriber {
    let mut subscriber = Subscriber::new(number, line, POOL);
    subscriber.name = mac_text(subscriber.mac);
    subscriber
}

/// Packets of clients without a binding with that result so far.
pub fn results(bench: &Bench, result: &str) -> u64 {
    let row = format!("nexus_sidecar_ipoe_packets_total{{result=\"{result}\"}} ");
    let metrics = bench.metrics();
    let count = metrics.lines().find_map(|line| line.strip_prefix(&row));
    count.map_or(0, |count| count.parse().unwrap())
}

/// Waits until so many packets have had that result.
#[track_caller]
pub fn wait_for(bench: &Bench, result: &str, count: u64) {
    let what = format!("{count} of {result}");
    let seen = wait_until(&what, LIMIT, || {
        Ok((results(bench, result) == count).then_some(()))
    });
    assert!(seen.is_ok(), "no {what}: {}", bench.metrics());
}

/// Replies of any kind to this client so far.
pub fn replies_to(bench: &Bench, mac: Mac) -> Vec<Seen> {
    let seen = bench.capture.dhcp().unwrap().into_iter();
    seen.filter(|one| one.message.op == 2 && one.message.mac() == mac)
        .collect()
}

/// The address of a subscriber as the sidecar itself has it.
pub fn held(bench: &Bench, subscriber: &str) -> Vec<Ipv4Addr> {
    let bindings = bench.host.bindings().unwrap().into_iter();
    bindings
        .filter(|binding| binding["subscriber"] == subscriber)
        .map(|binding| binding["address"].as_str().unwrap().parse().unwrap())
        .collect()
}
