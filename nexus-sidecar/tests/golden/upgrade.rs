//! Upgrades and restarts while clients go on asking: not one request stays unanswered, wherever it is cut off.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use nexus_sidecar::fastpath::{AttachMode, FastPath};

use crate::bench::{Bench, INTERFACE, Load, under_load};
use crate::home::{Home, POOL, address, binding, by_mac, interface, pool};
use crate::world::is_slow_machine;

/// Clients that ask all the time.
const CLIENTS: u32 = 40;

/// What the edge does between opening and attaching: all maps say what they should. `moved` is added to
/// each client's address.
fn fill(fast_path: &mut FastPath, moved: u32) {
    fast_path.put_profile(POOL, &pool(3600)).unwrap();
    for client in 1..=CLIENTS {
        let mut binding = binding(client);
        binding.address = address(client + moved).octets();
        fast_path.put_binding(&by_mac(0, client), &binding).unwrap();
    }
}

/// A whole start of a sidecar with maps of this size, and its end.
fn start(bench: &Bench, max_bindings: u32, moved: u32) {
    let mut fast_path = bench.home.open(max_bindings);
    fill(&mut fast_path, moved);
    assert!(bench.native(&mut fast_path).replaced);
    fast_path.tidy().unwrap();
}

fn folders(home: &Home) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(home.root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A host that serves, with maps of 1,000 bindings.
fn serving(test: &str) -> Bench {
    let bench = Bench::new(test);
    let mut fast_path = bench.home.open(1000);
    fill(&mut fast_path, 0);
    bench.native(&mut fast_path);
    bench
}

/// All were answered, and each with one of its own addresses.
fn all_answered(load: &Load, moved: &[u32]) {
    assert!(load.asked > 20, "only {} requests were made", load.asked);
    assert!(
        load.unanswered.is_empty(),
        "{} of {} requests were not answered, from {:?} on",
        load.unanswered.len(),
        load.asked,
        load.unanswered.first()
    );
    let right = |client: u32, offer: Ipv4Addr| moved.iter().any(|m| address(client + m) == offer);
    for (client, offer) in &load.offers {
        assert!(right(*client, *offer), "client {client}: {offer}");
    }
}

#[test]
#[ignore = "needs root and the kernel"]
fn a_restart_a_larger_and_a_smaller_table_leave_no_request_unanswered() {
    let bench = serving("sizes");
    let client = bench.client();
    let ((), load) = under_load(&client, CLIENTS, || {
        start(&bench, 1000, 0);
        start(&bench, 5000, 0);
        start(&bench, 300, 0);
        start(&bench, 1000, 0);
    });
    all_answered(&load, &[0]);
    assert_eq!(folders(&bench.home), ["v2"]);
}

#[test]
#[ignore = "needs root and the kernel"]
fn maps_of_another_version_answer_until_the_new_ones_are_full_and_are_gone_then() {
    let bench = serving("version");
    // As it stands after a run of the version before: whatever the maps are, they are not looked at.
    fs::rename(bench.home.root().join("v2"), bench.home.root().join("v1")).unwrap();
    let client = bench.client();
    let ((), load) = under_load(&client, CLIENTS, || {
        let mut fast_path = bench.home.open(1000);
        assert_eq!(fast_path.bindings(), []);
        assert_eq!(folders(&bench.home), ["v1", "v2"]);
        // Addresses show which maps an answer comes from.
        fill(&mut fast_path, 1000);
        assert!(bench.native(&mut fast_path).replaced);
        let removed = fast_path.tidy().unwrap();
        assert!(
            removed
                .iter()
                .all(|pin| pin.starts_with(bench.home.root().join("v1")))
        );
    });
    all_answered(&load, &[0, 1000]);
    assert!(load.offers.iter().any(|(c, offer)| *offer == address(*c)));
    assert!(
        load.offers
            .iter()
            .any(|(c, offer)| *offer == address(c + 1000))
    );
    assert_eq!(folders(&bench.home), ["v2"]);
}

/// The link of the interface, wherever it is pinned.
fn link_in(folder: &Path) -> std::path::PathBuf {
    let pins = fs::read_dir(folder).unwrap();
    let mut links = pins
        .map(|pin| pin.unwrap().path())
        .filter(|pin| pin.to_string_lossy().contains("/link-"));
    links.next().unwrap()
}

#[test]
#[ignore = "needs root and the kernel"]
fn an_upgrade_that_is_cut_off_anywhere_still_answers_and_is_completed_by_the_next_start() {
    let bench = serving("cut");
    let root = bench.home.root().to_owned();
    let (first, second) = (root.join("v2"), root.join("v2-1"));
    let client = bench.client();
    let mut size = 1000;
    // Each cut leaves an upgrade to another size at one point on its way.
    let cuts: [(&str, &dyn Fn(u32)); 6] = [
        ("new maps, empty", &|size| drop(bench.home.open(size))),
        ("new maps, full", &|size| {
            fill(&mut bench.home.open(size), 0);
        }),
        ("program replaced, link not moved", &|size| {
            let mut fast_path = bench.home.open(size);
            fill(&mut fast_path, 0);
            bench.native(&mut fast_path);
            let link = link_in(&second);
            fs::rename(&link, first.join(link.file_name().unwrap())).unwrap();
        }),
        ("link moved, old maps still there", &|size| {
            let mut fast_path = bench.home.open(size);
            fill(&mut fast_path, 0);
            bench.native(&mut fast_path);
        }),
        ("some of the old maps removed", &|size| {
            let mut fast_path = bench.home.open(size);
            fill(&mut fast_path, 0);
            bench.native(&mut fast_path);
            fs::remove_file(first.join("BINDINGS")).unwrap();
            fs::remove_file(first.join("CIRCUITS")).unwrap();
        }),
        ("old maps gone, folder not renamed", &|size| {
            let mut fast_path = bench.home.open(size);
            fill(&mut fast_path, 0);
            bench.native(&mut fast_path);
            drop(fast_path);
            nexus_testkit::bpf::unpin(&first).unwrap();
        }),
    ];
    let ((), load) = under_load(&client, CLIENTS, || {
        for (what, cut) in cuts {
            // The next start has the new size, or the old one again.
            for again in if is_slow_machine() {
                &[true][..]
            } else {
                &[true, false]
            } {
                let other = if size == 1000 { 5000 } else { 1000 };
                cut(other);
                if *again {
                    size = other;
                }
                start(&bench, size, 0);
                assert_eq!(folders(&bench.home), ["v2"], "{what}");
            }
        }
    });
    all_answered(&load, &[0]);
}

#[test]
#[ignore = "needs root and the kernel"]
fn with_several_interfaces_each_goes_over_by_itself() {
    let bench = Bench::new("both");
    bench.second();
    let attach = |fast_path: &mut FastPath, name: &str, number: u8| {
        let config = interface(number, name, AttachMode::Native);
        bench
            .olt
            .enter(|| fast_path.attach(&config))
            .unwrap()
            .unwrap()
            .replaced
    };
    let both = |max_bindings| {
        let mut fast_path = bench.home.open(max_bindings);
        fill(&mut fast_path, 0);
        for client in 1..=CLIENTS {
            let key = by_mac(1, client);
            fast_path.put_binding(&key, &binding(client)).unwrap();
        }
        fast_path
    };
    let mut fast_path = both(1000);
    attach(&mut fast_path, INTERFACE, 0);
    attach(&mut fast_path, "access1", 1);
    drop(fast_path);
    let client = bench.client_on("eth1");
    let ((), load) = under_load(&client, CLIENTS, || {
        // Only the first one goes over, then it is cut off; the next start has another order.
        let mut fast_path = both(5000);
        assert!(attach(&mut fast_path, INTERFACE, 0));
        drop(fast_path);
        let mut fast_path = both(5000);
        assert!(attach(&mut fast_path, "access1", 1));
        assert!(attach(&mut fast_path, INTERFACE, 0));
        fast_path.tidy().unwrap();
    });
    all_answered(&load, &[0]);
    assert_eq!(folders(&bench.home), ["v2"]);
}
