//! Every subcommand against the real server program.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

mod cluster;
mod harness;

use serde_json::json;

use crate::harness::{Server, nexusctl};

#[test]
fn an_operator_can_do_everything_from_the_command_line() {
    let server = Server::start();
    let pools = server.file(
        "pools.yaml",
        "pools:\n  - {id: residential, type: ipv4, cidr: 100.64.0.0/10, exclusions: [100.64.0.0/24]}\n  - {id: vlans, type: vlan, range: 1000-2000}\n",
    );
    let made = server.text(&["pools", "create", "-f", &pools]);
    assert!(made.contains("residential  ipv4  100.64.0.0/10"), "{made}");
    assert_eq!(
        server.json(&["pools", "list"])["pools"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let shown = server.text(&["pools", "get", "vlans"]);
    assert!(shown.contains("1000-2000"), "{shown}");
    let etag = shown
        .lines()
        .last()
        .unwrap()
        .trim_start_matches("etag")
        .trim()
        .to_owned();
    let change = server.file(
        "vlans.json",
        "{\"type\": \"vlan\", \"range\": \"1000-2000\", \"cool_down\": \"5m\"}",
    );
    server.text(&[
        "pools",
        "update",
        "vlans",
        "-f",
        &change,
        "--if-match",
        &etag,
    ]);
    let late = server.refusal(&[
        "pools",
        "update",
        "vlans",
        "-f",
        &change,
        "--if-match",
        &etag,
    ]);
    assert!(late.contains("412") && late.contains("If-Match"), "{late}");

    let made = server.text(&[
        "allocate",
        "sub-1",
        "--pool",
        "residential",
        "--metadata",
        "mac=aa:bb:cc:dd:ee:ff",
    ]);
    assert!(made.contains("mac=aa:bb:cc:dd:ee:ff"), "{made}");
    server.text(&["allocate", "sub-2", "--pool", "residential"]);
    let list = server.text(&["allocations", "list", "--pool", "residential"]);
    assert_eq!(list.lines().count(), 3, "{list}");
    assert_eq!(
        server
            .text(&["allocations", "list", "--limit", "1"])
            .lines()
            .count(),
        2
    );
    let held = server.json(&["allocations", "get", "sub-1"]);
    assert_eq!(held["allocations"][0]["pool_id"], "residential");
    let busy = server.refusal(&["pools", "delete", "residential"]);
    assert!(busy.contains("2 allocations"), "{busy}");
    assert_eq!(
        server.json(&["pools", "stats", "residential"])["allocated"],
        2
    );
    assert!(
        server
            .text(&["deallocate", "sub-1"])
            .starts_with("released:")
    );
    assert!(
        server
            .text(&["deallocate", "sub-2", "--pool", "residential"])
            .contains("sub-2")
    );
    let nothing = server.refusal(&["allocations", "get", "sub-1"]);
    assert!(nothing.contains("sub-1 holds nothing"), "{nothing}");

    let enrolled = json!({"id": "olt-1", "region": "east", "capacity": 2000}).to_string();
    let agent = ureq::Agent::new_with_defaults();
    let bootstrap = format!("{}/api/v1/bootstrap", server.url);
    agent
        .post(bootstrap)
        .header("content-type", "application/json")
        .send(enrolled)
        .unwrap();
    assert!(
        server
            .text(&["nodes", "list"])
            .contains("olt-1  bootstrapping  east")
    );
    assert!(
        server
            .refusal(&["nodes", "delete", "olt-1"])
            .contains("drain it first")
    );
    assert!(
        server
            .text(&["nodes", "drain", "olt-1"])
            .contains("draining")
    );
    assert_eq!(server.json(&["nodes", "get", "olt-1"])["state"], "draining");
    shards_and_nodes(&server);
    let status = server.text(&["status"]);
    assert!(
        status.contains("ready, version") && status.contains("0 duplicate allocations"),
        "{status}"
    );
    assert!(
        status.contains("olt-1") && status.contains("residential"),
        "{status}"
    );
    let removed = server.text(&["pools", "delete", "residential"]);
    assert!(
        removed.contains("goes as soon as"),
        "what was released still cools down: {removed}"
    );
}

/// `olt-1` is drained and owns shards of `residential` and `vlans`.
fn shards_and_nodes(server: &Server) {
    let waited = server.run(&["nodes", "drain", "olt-1", "--wait", "0.1"]);
    let told = String::from_utf8(waited.stderr).unwrap();
    assert_eq!(waited.status.code(), Some(2), "{told}");
    assert!(told.contains("shards and 0 allocations left"), "{told}");
    let back = server.text(&["nodes", "activate", "olt-1"]);
    assert!(back.contains("bootstrapping"), "{back}");
    let kept = server.text(&["shard", "list", "--olt", "nexus"]);
    assert_eq!(kept.lines().count(), 3, "{kept}");
    let plan = server.text(&[
        "shard",
        "plan",
        "--join",
        "olt-2:2000:east",
        "--leave",
        "olt-1",
    ]);
    assert!(
        plan.contains("pool residential") && plan.contains("olt-2"),
        "{plan}"
    );
    let nothing = server.run(&["shard", "plan"]);
    assert_eq!(nothing.status.code(), Some(2), "nothing to plan");
    let longer = server.file(
        "longer.json",
        "{\"type\": \"vlan\", \"range\": \"1000-2999\", \"shard_size\": 100}",
    );
    let tried = server.text(&["pools", "update", "vlans", "-f", &longer, "--dry-run"]);
    assert!(
        tried.contains("grown") && tried.contains("nothing was changed"),
        "{tried}"
    );
    let removal = server.text(&["pools", "delete", "residential", "--dry-run"]);
    assert!(removal.contains("removed"), "{removal}");
    let stats = server.text(&["pools", "stats", "residential"]);
    assert!(
        stats.contains("reserved") && stats.contains("UTILIZATION"),
        "{stats}"
    );
    let unsure = server.refusal(&["nodes", "fence", "olt-1", "--reason", "dead"]);
    assert!(unsure.contains("--yes"), "{unsure}");
    let fenced = server.text(&["nodes", "fence", "olt-1", "--reason", "dead", "--yes"]);
    assert!(fenced.contains("fenced              true"), "{fenced}");
}

#[test]
fn mistakes_end_with_one_clear_line_and_a_code() {
    let server = Server::start();
    let unknown = server.refusal(&["pools", "get", "none"]);
    assert!(unknown.contains("Unknown pool (404)"), "{unknown}");
    assert_eq!(unknown.lines().count(), 1);
    let bad = server.file(
        "bad.yaml",
        "{id: a, type: ipv4, cidr: 10.0.0.0/16, colour: red}",
    );
    let refused = server.refusal(&["pools", "create", "-f", &bad]);
    assert!(
        refused.contains("pool a was not created") && refused.contains("colour"),
        "{refused}"
    );
    let missing = server.refusal(&["pools", "create", "-f", "/nowhere/x.yaml"]);
    assert!(missing.contains("/nowhere/x.yaml"), "{missing}");
    assert!(
        server
            .refusal(&["allocate", "s", "--pool", "p", "--metadata", "x"])
            .contains("name=value")
    );
    let silent = nexusctl("http://127.0.0.1:1", &["status"]);
    assert_eq!(silent.status.code(), Some(3));
    assert!(
        String::from_utf8(silent.stderr)
            .unwrap()
            .contains("is nexus-server running there")
    );
    let no_url = nexusctl("localhost", &["status"]);
    assert_eq!(no_url.status.code(), Some(1));
    assert_eq!(nexusctl(&server.url, &["dance"]).status.code(), Some(2));
}
