//! `kill -9` in the middle of fifty Access-Requests: what was accepted stays, and nobody shares an address (P1, P3).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use nexus_abi::BindingKey;
use nexus_core::time::BootTime;
use nexus_sidecar::clock::boot_now;
use nexus_testkit::access_node::Line;

use crate::bench::{Bench, POOL};
use crate::subscriber::Subscriber;

/// Requests that are on their way together.
const AT_ONCE: usize = 50;
/// Subscribers of one round: with each answer the next one asks, so that there are always so many.
const IN_ROUND: usize = 100;
/// How many have been accepted when the kill comes, in each round.
const ROUNDS: [usize; 4] = [1, 7, 23, 50];

type Addresses = BTreeMap<String, Ipv4Addr>;

fn subscribers() -> Vec<Vec<Subscriber>> {
    let line = |number: u16| Line::QinQ {
        s_vlan: 200 + number % 3,
        c_vlan: number,
    };
    let all = (1..).take(IN_ROUND * ROUNDS.len());
    let all: Vec<_> = all
        .map(|number| Subscriber::new(number, line(number), POOL))
        .collect();
    all.chunks(IN_ROUND).map(<[Subscriber]>::to_vec).collect()
}

/// Many ask at once; after so many Access-Accepts `crash` happens. Returns who was accepted by then, those
/// included whose Access-Accept was on its way.
fn storm(
    bench: &mut Bench,
    subscribers: &[Subscriber],
    accepts: usize,
    crash: impl Fn(&mut Bench),
) -> Addresses {
    let mut accepted = Addresses::new();
    let (at_once, mut waiting) = subscribers.split_at(AT_ONCE);
    bench.nas.begin();
    bench.nas.send(0, at_once);
    while accepted.len() < accepts {
        let (number, address) = bench.nas.next().expect("no answer to fifty requests");
        accepted.insert(subscribers[number].name.clone(), address.unwrap());
        let next = u8::try_from(subscribers.len() - waiting.len()).unwrap();
        let (one, others) = waiting.split_at(1);
        bench.nas.send(next, one);
        waiting = others;
    }
    crash(bench);
    for (number, address) in bench.nas.rest() {
        accepted.insert(subscribers[number].name.clone(), address.unwrap());
    }
    accepted
}

/// Everybody who was accepted is in the kernel's map, and the kernel answers them by itself.
fn assert_served_by_the_kernel(bench: &Bench, subscribers: &[Subscriber], accepted: &Addresses) {
    let kernel = bench.kernel();
    for subscriber in subscribers {
        let Some(address) = accepted.get(&subscriber.name) else {
            continue;
        };
        let binding = kernel.get(&subscriber.key());
        let bound = binding.map(|binding| Ipv4Addr::from(binding.address));
        assert_eq!(bound, Some(*address), "{}", subscriber.name);
        let offer = bench.ask_and_read(&subscriber.discover(0x0ff0));
        assert_eq!(offer.message.yiaddr, *address);
    }
}

/// Kernel, sidecar and centre say the same of everybody, and no address is anybody else's too.
fn assert_agreed(bench: &Bench, everybody: &[Subscriber], addresses: &Addresses) {
    let distinct: BTreeSet<&Ipv4Addr> = addresses.values().collect();
    assert_eq!(addresses.len(), everybody.len());
    assert_eq!(distinct.len(), everybody.len(), "no address twice");

    let day_from_now = boot_now().unwrap() + Duration::from_secs(86_400);
    let kernel: BTreeMap<BindingKey, Ipv4Addr> = bench
        .kernel()
        .into_iter()
        // What the centre has not acknowledged would end within ten minutes.
        .inspect(|(_, binding)| {
            let until = Duration::from_secs(binding.valid_until_secs.into());
            assert!(BootTime::ZERO + until > day_from_now, "{binding:?}");
        })
        .map(|(key, binding)| (key, binding.address.into()))
        .collect();
    let expected = everybody
        .iter()
        .map(|one| (one.key(), addresses[&one.name]));
    assert_eq!(kernel, expected.collect(), "the kernel's map");

    let held = bench.host.bindings().unwrap();
    let held: Vec<(String, Ipv4Addr)> = held
        .iter()
        .map(|binding| {
            let text = |name: &str| binding[name].as_str().unwrap().to_owned();
            assert_eq!(binding["acked"], true, "{binding}");
            (text("subscriber"), text("address").parse().unwrap())
        })
        .collect();
    let mut records = bench.records("state=active");
    assert!(bench.records("state=releasing").is_empty());
    records.sort_unstable();
    let expected: Vec<(String, Ipv4Addr)> = addresses.clone().into_iter().collect();
    assert_eq!(held, expected, "the sidecar's bindings");
    let recorded: Vec<_> = records
        .into_iter()
        .map(|(name, address, _)| (name, address))
        .collect();
    assert_eq!(recorded, expected, "the centre's record");
    let audit = bench.centre.get("/api/v1/audit").unwrap();
    assert_eq!(
        audit.body["duplicates"],
        serde_json::json!([]),
        "{}",
        audit.body
    );
}

/// Plays all rounds: `crash`, which came in the middle if `open` says so for the number of requests that
/// were not answered; `recover` afterwards, then everybody asks again.
fn play(
    name: &str,
    crash: impl Fn(&mut Bench),
    open: impl Fn(&Bench, usize) -> bool,
    recover: impl Fn(&mut Bench, &[Subscriber]),
) {
    let rounds = subscribers();
    let mut bench = Bench::start(name, &[], &rounds.concat());
    let mut everybody: Vec<Subscriber> = Vec::new();
    let mut addresses = Addresses::new();
    let mut in_the_middle = 0;
    for (subscribers, accepts) in rounds.iter().zip(ROUNDS) {
        let accepted = storm(&mut bench, subscribers, accepts, &crash);

        let asked = AT_ONCE + accepts;
        in_the_middle += usize::from(open(&bench, asked - accepted.len()));
        everybody.extend_from_slice(subscribers);
        addresses.extend(accepted);
        assert_served_by_the_kernel(&bench, &everybody, &addresses);
        recover(&mut bench, subscribers);
        assert_served_by_the_kernel(&bench, &everybody, &addresses);

        // Those without an answer ask again, and the others too: they keep what they were told.
        let now = bench.nas.accepted(&everybody);
        for (name, address) in &addresses {
            assert_eq!(now.get(name), Some(address), "{name} was told another");
        }
        addresses = now;
        bench.wait_synced();
        assert_agreed(&bench, &everybody, &addresses);
    }
    assert!(in_the_middle > 0, "every kill came too late");
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn kill_9_of_the_sidecar_loses_nobody_who_was_accepted() {
    play(
        "crash-edge",
        |bench| bench.host.kill().unwrap(),
        |_, unanswered| unanswered > 0,
        |bench, _| bench.start_sidecar(),
    );
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn kill_9_of_the_server_stops_nobody_and_its_record_is_whole_afterwards() {
    play(
        "crash-centre",
        |bench| bench.centre.kill().unwrap(),
        |bench, _| bench.host.status().unwrap()["unacked"] != 0,
        |bench, subscribers| {
            // The edge does not need the centre.
            let accepted = bench.nas.accepted(subscribers);
            assert_served_by_the_kernel(bench, subscribers, &accepted);
            bench.centre.start().unwrap();
        },
    );
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn kill_9_of_both_loses_nobody_who_was_accepted() {
    play(
        "crash-both",
        |bench| {
            bench.host.kill().unwrap();
            bench.centre.kill().unwrap();
        },
        |_, unanswered| unanswered > 0,
        |bench, _| {
            // The edge comes back on its own, with everything it has said.
            let back = |status: &serde_json::Value| status["mode"] == "cut-off";
            bench.host.start("back without a centre", back).unwrap();
            bench.centre.start().unwrap();
        },
    );
}
