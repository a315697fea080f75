//! All five types of resource, from a pool over REST to the Access-Accept, the record, and the end of the session.

use nexus_testkit::radclient::Answer;
use serde_json::json;

use super::world::{World, users, wait};

#[test]
#[ignore = "needs root, radclient (Debian freeradius-utils) and curl"]
fn five_pools_over_rest_are_in_the_accept_and_on_record_and_end_together() {
    let pools = [
        json!({"id": "v4", "type": "ipv4", "cidr": "100.64.0.0/16"}),
        json!({"id": "v6", "type": "ipv6", "cidr": "2001:db8::/36"}),
        json!({"id": "customer", "type": "vlan", "range": "1000-1999"}),
        json!({"id": "service", "type": "svlan", "range": "2000-2999"}),
        json!({"id": "cgnat", "type": "port", "range": "1024-65535", "block_size": 512,
               "addresses": "203.0.113.0/26"}),
    ];
    let mut world = World::start("five", 600, &pools);
    let named = users(&["alice", "bob"], ", pools: [customer, service, cgnat]");
    let ids = ["v4", "v6", "customer", "service", "cgnat"];
    let host = world.add_ready("olt-a", &named, &ids);
    let answer = world.answer(host, "alice");
    assert_eq!(answer.kind, "Access-Accept", "{}", answer.output);
    let get = |name: &str| {
        let value = answer.get(name);
        value
            .unwrap_or_else(|| panic!("no {name} in {}", answer.output))
            .to_owned()
    };
    let port = format!(
        "{}:{}-{}",
        get("IP-Port-Range-Ext-IPv4-Addr"),
        get("IP-Port-Range-Range-Start"),
        get("IP-Port-Range-Range-End")
    );
    assert_eq!(get("Tunnel-Type:1"), "VLAN");
    // 0x31: the frames of the S-VLAN leave with a tag.
    let service: u32 = get("Egress-VLANID").parse().unwrap();
    assert_eq!(service >> 24, 0x31);
    let service = (service & 0xfff).to_string();
    let mut expected: Vec<(String, String)> = [
        ("ipv4", get("Framed-IP-Address")),
        ("ipv6", get("Delegated-IPv6-Prefix")),
        ("port", port),
        ("svlan", service),
        ("vlan", get("Tunnel-Private-Group-Id:1")),
    ]
    .into_iter()
    .map(|(kind, resource)| (kind.to_owned(), resource))
    .collect();
    world.synced(host);
    let recorded: Vec<_> = world
        .recorded("alice")
        .into_iter()
        .map(|(kind, resource, _)| (kind, resource))
        .collect();
    assert_eq!(recorded, expected);
    let mut bound = world.bound(host, "alice");
    bound.sort();
    expected.sort();
    assert_eq!(bound, expected);
    // Again the same, and somebody else gets something else of each.
    let again = world.answer(host, "alice");
    // Signed anew each time.
    let unsigned = |answer: &Answer| {
        let mut attributes = answer.attributes.clone();
        attributes.retain(|(name, _)| name != "Message-Authenticator");
        attributes
    };
    assert_eq!(unsigned(&again), unsigned(&answer));
    world.answer(host, "bob");
    let others = world.bound(host, "bob");
    assert_eq!(others.len(), 5);
    assert!(
        others.iter().all(|one| !expected.contains(one)),
        "{others:?}"
    );
    world.synced(host);
    world.release("alice");
    wait("all of alice's released", || {
        world.bound(host, "alice").is_empty()
    });
    wait("the record knows", || world.recorded("alice").is_empty());
    assert_eq!(world.recorded("bob").len(), 5);
}
