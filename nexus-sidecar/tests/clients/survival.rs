//! Two hundred bound subscribers ask without a pause while the programs in user space are killed, replaced
//! and stopped: every request is answered by the kernel, and nobody notices.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use nexus_testkit::access_node::OLT_INTERFACE;
use nexus_testkit::programs;
use serde_json::Value;

use crate::traffic::{Asker, LEASE_SECS, Traffic, accounts, sent_by_olt};
use crate::world::{LIMIT, SERVER, World, pool};

const POOL: &str = "residential-ipv4";
const SUBSCRIBERS: u16 = 200;
const KILLS: u64 = 10;
const UPGRADES: u32 = 3;
/// With nothing and nobody there; the traffic goes on meanwhile.
const A_WHILE: Duration = Duration::from_secs(1);

fn start(name: &str) -> (World, Vec<Asker>) {
    let pools = [pool(POOL, SERVER, LEASE_SECS, "cool-down")];
    let accounts = accounts(SUBSCRIBERS, POOL);
    let world = World::start(name, &pools, &[], &accounts);
    let addresses = world.connect(&accounts);
    let askers = Asker::all(&world, &accounts, &addresses);
    (world, askers)
}

/// The kernel's id of the program on the OLT's interface.
fn program_id(world: &World) -> u64 {
    let olt = &world.host.network.olt;
    let shown = olt.run("ip", &["-json", "link", "show", "dev", OLT_INTERFACE]);
    let shown: Value = serde_json::from_str(&shown.unwrap()).unwrap();
    shown[0]["xdp"]["prog"]["id"].as_u64().unwrap()
}

/// A program file of its own, as an update of the package brings it: another file, which does the same.
fn new_binary(world: &World, number: u32) -> PathBuf {
    let path = world
        .directory
        .path()
        .join(format!("nexus-sidecar-{number}"));
    fs::copy(programs::path("nexus-sidecar").unwrap(), &path).unwrap();
    let mut file = fs::File::options().append(true).open(&path).unwrap();
    write!(file, "update {number}").unwrap();
    path
}

/// Returns how many requests were answered.
fn assert_answered_and_nothing_else(traffic: Traffic, world: &World) -> u32 {
    let answered = traffic.assert_answered(world);
    assert_eq!(
        sent_by_olt(world),
        answered as usize,
        "nothing else was sent"
    );
    answered
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn ten_kills_of_the_sidecar_leave_no_request_of_a_bound_subscriber_unanswered() {
    let (mut world, askers) = start("kills");
    let traffic = Traffic::start(&world, &askers);
    for kill in 0..KILLS {
        world.host.kill().unwrap();
        std::thread::sleep(Duration::from_millis(50 * kill));
        world.start_sidecar();
    }
    let answered = assert_answered_and_nothing_else(traffic, &world);
    eprintln!("{answered} requests during {KILLS} kills");
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn upgrades_replace_the_program_in_place_and_leave_no_request_unanswered() {
    let (mut world, askers) = start("upgrade");
    let traffic = Traffic::start(&world, &askers);
    let mut id = program_id(&world);
    for number in 0..UPGRADES {
        let binary = new_binary(&world, number);
        let mut old = world.host.sidecar.take().unwrap();
        let ended = old.terminate(LIMIT).unwrap();
        assert!(ended.success(), "{ended}");
        world.host.install(&binary);
        world.start_sidecar();
        let now = program_id(&world);
        assert_ne!(now, id, "the new one has brought its own program");
        id = now;
    }
    let answered = assert_answered_and_nothing_else(traffic, &world);
    eprintln!("{answered} requests during {UPGRADES} upgrades");
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn without_the_centre_and_without_anything_in_user_space_every_request_is_answered() {
    let (mut world, askers) = start("alone");
    let traffic = Traffic::start(&world, &askers);
    world.centre.stop().unwrap();
    std::thread::sleep(A_WHILE);
    // The edge comes back without a centre too.
    world.host.kill().unwrap();
    std::thread::sleep(A_WHILE);
    let back = |status: &Value| status["mode"] == "cut-off";
    world.host.start("back without a centre", back).unwrap();
    world.centre.start().unwrap();
    world.wait_synced();
    world.centre.kill().unwrap();
    std::thread::sleep(A_WHILE);
    world.centre.start().unwrap();
    world.wait_synced();
    let answered = assert_answered_and_nothing_else(traffic, &world);
    eprintln!("{answered} requests, the centre stopped and killed");
}
