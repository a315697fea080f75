//! One line floods with garbage and with DISCOVERs of clients that nobody knows; other lines go on.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nexus_abi::Outcome;
use nexus_testkit::access_node::UPLINK;
use nexus_testkit::capture::Capture;
use nexus_testkit::interrupt::wait_until;
use nexus_testkit::packet::{Bootp, Frame};
use nexus_testkit::wire::Wire;

use crate::traffic::{Asker, LEASE_SECS, Traffic, accounts};
use crate::world::{Account, LIMIT, SERVER, World, pool};

const POOL: &str = "residential-ipv4";
const SUBSCRIBERS: u16 = 50;
/// How long the flood lasts.
const FLOOD: Duration = Duration::from_secs(4);
/// Frames of the flood in a row; then the processor is given up once.
const BURST: u32 = 8;
/// Between two messages for the slow path from another line.
const PACE: Duration = Duration::from_millis(50);
/// Longest that the flood goes on for INFORMs that are not answered yet.
const PATIENCE: Duration = Duration::from_secs(10);
/// Transaction ids of these.
const FIRST_INFORM: u32 = 0x5000_0000;
/// All that floods has such a source address, so that the capture can leave it out.
const NOT_THE_FLOOD: &str = "not (ether[6:4] == 0x0200ff00)";

/// A frame of the flood: every other one is garbage behind right headers, the rest are DISCOVERs, each of
/// another client.
fn flood_frame(number: u32, from: &Account) -> Vec<u8> {
    let [.., high, low] = number.to_be_bytes();
    let mac = [2, 0, 0xff, 0, high, low];
    let mut message = Bootp::discover(mac, number);
    if number.is_multiple_of(2) {
        message = Bootp::request(mac, number);
        (message.end, message.min_len) = (false, 0);
        message.trailer = vec![low; usize::from(high)];
    }
    let mut frame = Frame::from_client(&message);
    frame.tags = from.tags();
    frame.build()
}

fn flood(uplink: &Wire, from: &Account, stop: &AtomicBool) -> u32 {
    // Made before: the flood shall be as fast as the line.
    let frames: Vec<Vec<u8>> = (0..1024).map(|number| flood_frame(number, from)).collect();
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..BURST {
            // The line drops what it has no room for.
            let _ = uplink.send(&frames[sent as usize % frames.len()]);
            sent += 1;
        }
        std::thread::yield_now();
    }
    sent
}

/// DHCPINFORM, which the kernel passes to the slow path.
fn inform(asker: &Asker, xid: u32) -> Vec<u8> {
    let mut message = Bootp::request(asker.account.mac, xid)
        .option(53, &[8])
        .option(55, &[1, 3, 6]);
    message.ciaddr = asker.address;
    let mut frame = Frame::from_client(&message);
    frame.tags = asker.account.tags();
    frame.build()
}

/// How many of so many INFORMs have their ACK by now.
fn informed(world: &World, sent: u32) -> usize {
    let seen = world.capture.dhcp().unwrap();
    let ours = FIRST_INFORM..FIRST_INFORM + sent;
    let answers = seen
        .iter()
        .filter(|seen| seen.message.op == 2 && ours.contains(&seen.message.xid));
    answers.count()
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_flood_from_one_line_costs_other_lines_no_answer_of_kernel_and_slow_path_and_ends_without_a_trace()
 {
    let pools = [pool(POOL, SERVER, LEASE_SECS, "cool-down")];
    let accounts = accounts(SUBSCRIBERS, POOL);
    let [flooding, newcomer, others @ ..] = accounts.as_slice() else {
        unreachable!()
    };
    let mut world = World::start("flood", &pools, &[], &accounts);
    let directory = world.directory.path().join("without-flood");
    fs::create_dir(&directory).unwrap();
    let node = world.host.network.node();
    world.capture = Capture::start_filtered(node, UPLINK, &directory, NOT_THE_FLOOD).unwrap();
    let addresses = world.connect(others);
    let askers = Asker::all(&world, others, &addresses);

    let informing = &askers[0];
    let own = world.host.network.uplink().unwrap();
    let flooding_port = world.host.network.uplink().unwrap();
    let traffic = Traffic::start(&world, &askers);
    let stop = AtomicBool::new(false);
    let mut informs = 0;
    let (flooded, address) = std::thread::scope(|scope| {
        let flood = scope.spawn(|| flood(&flooding_port, flooding, &stop));
        let began = Instant::now();
        while began.elapsed() < FLOOD {
            own.send(&inform(informing, FIRST_INFORM + informs))
                .unwrap();
            informs += 1;
            std::thread::sleep(PACE);
        }
        // While the flood goes on.
        let all = wait_until("every INFORM answered", PATIENCE, || {
            Ok((informed(&world, informs) == informs as usize).then_some(()))
        });
        // RADIUS goes on: somebody new is connected in the middle of it.
        let address = world.connect(std::slice::from_ref(newcomer));
        stop.store(true, Ordering::Relaxed);
        let flooded = flood.join().unwrap();
        all.unwrap();
        (flooded, address)
    });
    let answered = traffic.assert_answered(&world);
    let stopped = world.kernel(Outcome::Flooded);
    eprintln!(
        "a flood of {flooded} frames, {stopped} stopped in the kernel: {answered} requests of bound subscribers on \
         other lines answered by it; {informs} INFORMs of another line answered by the slow path"
    );
    assert!(stopped > 0, "the flood was one");

    // Afterwards everything is as it was: the slow path answers, and the flood has left nothing.
    let last = FIRST_INFORM + informs;
    own.send(&inform(informing, last)).unwrap();
    wait_until("an INFORM answered after the flood", LIMIT, || {
        let seen = world.capture.dhcp()?;
        let answer = seen
            .iter()
            .find(|seen| seen.message.op == 2 && seen.message.xid == last);
        Ok(answer.map(drop))
    })
    .unwrap();
    assert_eq!(world.host.bindings().unwrap().len(), others.len() + 1);
    let newcomers = Asker::all(&world, std::slice::from_ref(newcomer), &address);
    let traffic = Traffic::start(&world, &newcomers);
    std::thread::sleep(PACE);
    traffic.assert_answered(&world);
}
