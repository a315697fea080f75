//! A sidecar that stands still for longer than its lease, and a second host with the same OLT id.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use super::world::{World, users, wait, wait_for};

/// Seconds. 99% of this, counted by the host, on any machine that does not stand still for longer.
const LEASE: u64 = 20;

#[test]
#[ignore = "needs root and radclient (Debian freeradius-utils)"]
fn a_sidecar_that_stood_still_for_longer_than_its_lease_gives_nothing_before_it_is_renewed() {
    let pools = [json!({"id": "v4", "type": "ipv4", "cidr": "100.64.0.0/16"})];
    let mut world = World::start("still", LEASE, &pools);
    let host = world.add_ready("olt-a", &users(&["alice", "bob"], ""), &["v4"]);
    let address = accepted(&world, host, "alice");
    world.synced(host);
    world.hosts[host].sidecar.signal(Signal::SIGSTOP).unwrap();
    let stopped = Instant::now();
    world.cut(host, true);
    // It waits in the socket meanwhile; radclient gives up.
    let answer = world.login(host, "bob");
    assert_eq!(answer.kind, "", "{}", answer.output);
    while stopped.elapsed() < Duration::from_secs(LEASE + 1) {
        std::thread::sleep(Duration::from_millis(50));
    }
    world.hosts[host].sidecar.signal(Signal::SIGCONT).unwrap();
    let answer = world.login(host, "bob");
    assert_ne!(answer.kind, "Access-Accept", "{}", answer.output);
    assert_eq!(world.bound(host, "bob"), []);
    // Acknowledged before: it goes on without end.
    assert_eq!(world.address(host, "alice"), address);
    world.until(host, "without a lease", |status| {
        status["mode"] == "lease-ended"
    });
    world.cut(host, false);
    assert_ne!(accepted(&world, host, "bob"), address);
    assert_eq!(world.address(host, "alice"), address);
    world.synced(host);
}

/// The address of somebody who asks until it is accepted: not before the lease is renewed.
fn accepted(world: &World, host: usize, name: &str) -> String {
    let answer = wait_for("an Access-Accept", || {
        Some(world.login(host, name)).filter(|answer| answer.kind == "Access-Accept")
    });
    answer.get("Framed-IP-Address").unwrap().to_owned()
}

#[test]
#[ignore = "needs root and radclient (Debian freeradius-utils)"]
fn the_second_host_with_an_olt_id_gives_nothing_and_both_are_told() {
    let pools = [json!({"id": "v4", "type": "ipv4", "cidr": "100.64.0.0/16"})];
    let mut world = World::start("twice", 600, &pools);
    let names = users(&["alice", "bob"], "");
    let first = world.add_ready("olt-a", &names, &["v4"]);
    let second = world.add("olt-a", &names);
    let status = world.until(second, "refused", |status| !status["second_host"].is_null());
    let why = status["cannot_allocate"].as_str().unwrap();
    assert!(why.contains("another host with this olt.id"), "{why}");
    let answer = world.login(second, "bob");
    assert_ne!(answer.kind, "Access-Accept", "{}", answer.output);
    world.until(first, "told of the other", |status| {
        !status["other_host"].is_null()
    });
    world.address(first, "alice");
    wait("on record", || world.recorded("alice").len() == 1);
}
