//! Subscribers that come up on another host: the new address first, then the end of the old one; and pinned addresses,
//! which move with their subscribers.

use serde_json::json;

use super::world::{World, users, wait};

#[test]
#[ignore = "needs root and radclient (Debian freeradius-utils)"]
fn a_subscriber_on_another_host_has_an_address_there_at_once_and_the_old_one_rests() {
    let pools = [json!({"id": "v4", "type": "ipv4", "cidr": "100.64.0.0/24", "shard_size": 29})];
    let mut world = World::start("roam", 600, &pools);
    let others: Vec<String> = (0..8).map(|n| format!("other{n}")).collect();
    let mut names: Vec<&str> = others.iter().map(String::as_str).collect();
    names.push("alice");
    let names = users(&names, "");
    let a = world.add_ready("olt-a", &names, &["v4"]);
    let b = world.add_ready("olt-b", &names, &["v4"]);
    let old = world.address(a, "alice");
    world.synced(a);
    let new = world.address(b, "alice");
    assert_ne!(new, old);
    wait("the first host has released it", || {
        world.bound(a, "alice").is_empty()
    });
    world.synced(a);
    let on_b = [("ipv4".to_owned(), new.clone(), "olt-b".to_owned())];
    wait("on record at the second host only", || {
        world.recorded("alice") == on_b
    });
    assert_eq!(world.bound(b, "alice"), [("ipv4".to_owned(), new)]);
    for other in &others {
        let answer = world.answer(a, other);
        assert_ne!(
            answer.get("Framed-IP-Address"),
            Some(old.as_str()),
            "it rests"
        );
    }
    // And back again: it may have the one that rests for it.
    let back = world.address(a, "alice");
    wait("the second host has released it", || {
        world.bound(b, "alice").is_empty()
    });
    let on_a = [("ipv4".to_owned(), back, "olt-a".to_owned())];
    wait("on record at the first host only", || {
        world.recorded("alice") == on_a
    });
}

#[test]
#[ignore = "needs root and radclient (Debian freeradius-utils)"]
fn a_pinned_address_is_asked_for_and_moves_with_its_subscriber() {
    let pools = [
        json!({"id": "v4", "type": "ipv4", "cidr": "100.64.0.0/16"}),
        json!({"id": "fixed", "type": "ipv4", "cidr": "192.0.2.0/28", "pinned": true,
               "static": [{"subscriber": "alice", "resource": "192.0.2.9"}]}),
    ];
    let mut world = World::start("pin", 600, &pools);
    let names = users(&["alice", "bob"], ", pool: fixed");
    let a = world.add_ready("olt-a", &names, &["v4"]);
    let b = world.add_ready("olt-b", &names, &["v4"]);
    assert_eq!(world.address(a, "alice"), "192.0.2.9");
    assert_eq!(world.address(a, "alice"), "192.0.2.9");
    let bob = world.address(a, "bob");
    assert!(bob.starts_with("192.0.2.") && bob != "192.0.2.9", "{bob}");
    // Never on two hosts: the second one has it once the first one has released it.
    wait("on the second host", || {
        let answer = world.login(b, "alice");
        answer.get("Framed-IP-Address") == Some("192.0.2.9")
    });
    assert_eq!(world.bound(a, "alice"), []);
    // Cut off, only the centre could say.
    world.cut(b, true);
    world.until(b, "cut off", |status| status["mode"] == "cut-off");
    let answer = world.login(b, "bob");
    assert_eq!(answer.kind, "", "{}", answer.output);
    assert_eq!(world.address(b, "alice"), "192.0.2.9");
    world.cut(b, false);
}
