//! Shards that are granted, drained and lost, as a BGP neighbour of the host sees them.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use nexus_testkit::access_node::Line;
use nexus_testkit::command;
use nexus_testkit::interrupt::wait_until;
use nexus_testkit::olt_host::OLT_ID;
use serde_json::{Value, json};

use crate::daemons::{Neighbour, bird_on, frr_on};
use crate::world::{Account, LIMIT, World, pool};

const HOME: &str = "home";

fn account(number: u8) -> Account {
    Account {
        name: format!("sub-{number}"),
        mac: [2, 0, 0, 0, 9, number],
        line: Line::Vlan(100 + u16::from(number)),
        pool: HOME,
    }
}

/// A real server and a real sidecar with one pool, and IPv6 where the sidecar runs.
fn start(name: &str, accounts: &[Account]) -> World {
    let lines: Vec<Line> = accounts.iter().map(|account| account.line).collect();
    let home = pool(HOME, Ipv4Addr::new(100, 64, 0, 1), 3600, "cool-down");
    let world = World::start(name, &[home], &lines, accounts);
    let olt = &world.host.network.olt;
    for one in ["all", "default", "lo"] {
        let file = format!("/proc/sys/net/ipv6/conf/{one}/disable_ipv6");
        olt.enter(|| std::fs::write(&file, "0")).unwrap().unwrap();
    }
    world
}

/// Ranges of the host's shards in pools whose name begins so.
fn shards(world: &World, pool: &str) -> BTreeSet<String> {
    let status = world.host.status().unwrap();
    let all = status["shards"].as_array().unwrap();
    all.iter()
        .filter(|shard| shard["pool"].as_str().unwrap().starts_with(pool))
        .map(|shard| shard["range"].as_str().unwrap().to_owned())
        .collect()
}

/// Adds a pool and waits until the host has shards of it, which are returned.
fn granted(world: &World, spec: &Value) -> BTreeSet<String> {
    let answer = world.centre.post("/api/v1/pools", spec).unwrap();
    assert_eq!(answer.status, 201, "{}", answer.body);
    let id = spec["id"].as_str().unwrap();
    wait_until("shards of the new pool", LIMIT, || {
        let all = shards(world, id);
        // Placement gives what the capacity asks for over several rounds.
        std::thread::sleep(std::time::Duration::from_secs(2));
        Ok((!all.is_empty() && all == shards(world, id)).then_some(all))
    })
    .unwrap()
}

/// All of table 179 of one family, as `ip` shows it.
fn table(world: &World, family: &str) -> String {
    let mut ip = world.host.network.olt.command("ip");
    ip.args([family, "route", "show", "table", "179"]);
    // Without a table `ip` fails, and there is nothing in it.
    command::output(&mut ip).unwrap_or_default()
}

fn drain(world: &World) {
    let path = format!("/api/v1/nodes/{OLT_ID}/drain");
    let answer = world.centre.post(&path, &json!({})).unwrap();
    assert!(answer.status < 300, "{}", answer.body);
}

#[test]
#[ignore = "needs root: real nexus-server, nexus-sidecar and FRR in network namespaces"]
fn frr_announces_what_is_granted_and_withdraws_what_is_drained() {
    let accounts = [account(1), account(2)];
    let mut world = start("frr", &accounts);
    let folder = world.directory.path().to_owned();
    let neighbour = Neighbour::start(&world.prefix, &world.host.network.olt, &folder);
    let _frr = frr_on(&world.host.network.olt, &folder);
    let mut expected = shards(&world, HOME);
    assert!(!expected.is_empty());
    neighbour.wait_for("ipv4", &expected);

    // Another pool: its shards come, the others stay.
    let other = json!({"id": "more", "type": "ipv4", "cidr": "10.20.0.0/16"});
    let more = granted(&world, &other);
    expected.extend(more);
    neighbour.wait_for("ipv4", &expected);

    // An address of the cluster's own shards has a host route here once its subscriber is here.
    let central = json!({"pool_id": HOME, "subscriber_id": "sub-2", "olt_id": OLT_ID});
    let answer = world.centre.post("/api/v1/allocate", &central).unwrap();
    assert_eq!(answer.status, 201, "{}", answer.body);
    let given = answer.body["allocation"]["resource"]
        .as_str()
        .unwrap()
        .to_owned();
    let addresses = world.connect(&accounts);
    assert_eq!(addresses["sub-2"].to_string(), given);
    expected.insert(format!("{given}/32"));
    neighbour.wait_for("ipv4", &expected);

    // kill -9 and a new start: nothing moves.
    world.host.kill().unwrap();
    let before = table(&world, "-4");
    neighbour.wait_for("ipv4", &expected);
    world.start_sidecar();
    assert_eq!(table(&world, "-4"), before);
    neighbour.wait_for("ipv4", &expected);

    // Drained: what is empty is withdrawn, what is in use stays announced.
    drain(&world);
    let in_use = accounts_shard(&world, &addresses["sub-1"].to_string());
    let left = BTreeSet::from([in_use, format!("{given}/32")]);
    neighbour.wait_for("ipv4", &left);

    // Stopped, the routes stay; detached, they are gone.
    world.host.kill().unwrap();
    neighbour.wait_for("ipv4", &left);
    let config = folder.join("sidecar.yaml");
    let config = config.to_str().unwrap();
    let program = nexus_testkit::programs::path("nexus-sidecar").unwrap();
    let olt = &world.host.network.olt;
    olt.run(&program, &["detach", "--config", config]).unwrap();
    assert_eq!(table(&world, "-4"), "");
    neighbour.wait_for("ipv4", &BTreeSet::new());
}

/// The range of the shard that an address is of.
fn accounts_shard(world: &World, address: &str) -> String {
    let bindings = world.host.bindings().unwrap();
    let binding = bindings
        .iter()
        .find(|one| one.to_string().contains(&format!("\"{address}\"")));
    let shard = &binding.unwrap()["shard"];
    let status = world.host.status().unwrap();
    let all = status["shards"].as_array().unwrap();
    let own = all
        .iter()
        .find(|one| one["pool"] == HOME && one["shard"] == *shard);
    own.unwrap()["range"].as_str().unwrap().to_owned()
}

#[test]
#[ignore = "needs root: real nexus-server, nexus-sidecar, BIRD and FRR in network namespaces"]
fn bird_announces_both_families_and_leaves_the_main_table_alone() {
    let world = start("bird", &[account(1)]);
    let folder = world.directory.path().to_owned();
    let olt = &world.host.network.olt;
    let neighbour = Neighbour::start(&world.prefix, olt, &folder);
    let main = olt.run("ip", &["route", "show", "table", "main"]).unwrap();
    let prefixes =
        json!({"id": "prefixes", "type": "ipv6", "cidr": "2001:db8::/32", "delegated_length": 56});
    let v6 = granted(&world, &prefixes);
    let _bird = bird_on(olt, &folder);
    neighbour.wait_for("ipv4", &shards(&world, HOME));
    neighbour.wait_for("ipv6", &v6);
    assert_eq!(
        olt.run("ip", &["route", "show", "table", "main"]).unwrap(),
        main
    );

    drain(&world);
    neighbour.wait_for("ipv4", &BTreeSet::new());
    neighbour.wait_for("ipv6", &BTreeSet::new());
}
