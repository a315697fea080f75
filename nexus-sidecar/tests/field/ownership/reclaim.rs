//! An OLT that is cut off for longer than its lease and `reclaim_after`: when what it had is given to others.

use serde_json::json;

use super::world::{World, users, wait, wait_for};

/// Seconds. What is acknowledged is the host's own for more than another lease after that.
const LEASE: u64 = 20;
const RECLAIM_AFTER: u64 = 25;

/// One address that can be given to anybody, in the one shard that an OLT can own; leases and rests are short.
fn one_address() -> serde_json::Value {
    json!({
        "id": "v4",
        "type": "ipv4",
        "cidr": "100.64.0.0/27",
        "shard_size": 28,
        "exclusions": ["100.64.0.3-100.64.0.15"],
        "cool_down": "1s",
        "dhcp": {"lease_time": "1m"}
    })
}

#[test]
#[ignore = "needs root and radclient (Debian freeradius-utils)"]
fn the_address_on_a_dead_olt_is_anothers_only_when_its_own_kernel_has_ended_it() {
    let more = format!("reclaim_after: {RECLAIM_AFTER}s");
    let mut world = World::start_with("reclaim", LEASE, &more, &[one_address()]);
    let names = users(&["alice", "bob"], "");
    let dead = world.add_ready("olt-a", &names, &["v4"]);
    let address = world.address(dead, "alice");
    world.synced(dead);
    // It says under which rule it counts with a heartbeat after it has heard of it.
    wait("an end that is known", || {
        let node = world.centre.get("/api/v1/nodes/olt-a").unwrap();
        node.body["reclaim_in_secs"].is_u64()
    });
    world.cut(dead, true);
    // It is there when the shard is free.
    let other = world.add("olt-b", &names);
    world.until(dead, "without a lease", |status| {
        status["mode"] == "lease-ended"
    });
    let kept = world.login(dead, "alice");
    let status = world.until(dead, "a status", |_| true);
    if status["unread"] == false {
        let given = kept.get("Framed-IP-Address");
        assert_eq!(given, Some(address.as_str()), "{}", kept.output);
    }

    // The shard goes to another OLT with the end of the lease, and the address in it does not.
    world.until(other, "the shard", |status| {
        let shards = status["shards"].as_array().unwrap();
        shards.iter().any(|shard| shard["pool"] == "v4")
    });
    let given = wait_for("the address for bob", || {
        let given = world.login(other, "bob");
        let accepted = given.kind == "Access-Accept";
        accepted.then(|| given.get("Framed-IP-Address").unwrap().to_owned())
    });
    assert_eq!(given, address);
    // By then the host that is cut off had ended it: an entry that has ended is an absent one for the kernel.
    let status = world.until(dead, "a status", |_| true);
    assert_eq!(
        (&status["unread"], &status["kept_left_secs"]),
        (&json!(true), &json!(0))
    );
    assert_eq!(world.lasting_entries(dead), 0);
    assert_eq!(world.recorded("alice"), []);
    let node = world.centre.get("/api/v1/nodes/olt-a").unwrap();
    assert_eq!(node.body["reclaimed"], true, "{}", node.body);

    // It comes back, and learns what it has lost.
    world.cut(dead, false);
    world.until(dead, "taken in and read", |status| {
        status["mode"] == "connected" && status["unread"] == false && status["acked"] == 0
    });
}
