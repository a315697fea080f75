//! The gate's own promises: what it refuses, what it says then, and what outlives the process.

use std::path::Path;
use std::process::Command;

use nexus_abi::{
    Binding, BindingKey, Circuit, NEVER_EXPIRES, OUTCOME_COUNT, Outcome, Profile, map,
};
use nexus_sidecar::fastpath::{AttachMode, FastPath, FastPathError, detach};
use nexus_testkit::command;
use nexus_testkit::packet::{Frame, clients::relay_information};

use crate::home::{
    Home, POOL, address, binding, by_mac, config, discover, interface, mac, offered, pool,
};

/// Far from the kernel's limit of a million, so that other kernels' verifiers take it too.
const MOST_INSTRUCTIONS: u32 = 400_000;

const LINE: BindingKey = BindingKey::Line {
    interface: 7,
    outer_vid: 200,
    inner_vid: 30,
    mac: [2, 0, 0, 0, 0, 1],
};

fn circuit(interface: u8, id: &[u8]) -> BindingKey {
    BindingKey::Circuit {
        interface,
        circuit: Circuit::new(id, b"").unwrap(),
    }
}

#[test]
#[ignore = "needs root and the kernel"]
fn the_verifier_is_done_within_its_budget_with_everything_switched_on() {
    let home = Home::new("budget");
    let mut fast_path = home.open(16);
    let everything = nexus_sidecar::fastpath::InterfaceConfig {
        identity: vec![4, 3, 1, 2],
        remote_id: true,
        ..interface(0, "lo", AttachMode::Generic)
    };
    fast_path.load_only(&everything).unwrap();
    for traced in [&[][..], &[mac(1); 4]] {
        let events = !traced.is_empty();
        fast_path.set_switches(0, events, traced).unwrap();
        let count = fast_path.verified_instructions(0).unwrap().unwrap();
        assert!(count > 1000, "{count} is not believable");
        assert!(
            count <= MOST_INSTRUCTIONS,
            "{count} instructions, {MOST_INSTRUCTIONS} are the budget"
        );
    }
}

#[test]
#[ignore = "needs root and the kernel"]
fn bindings_of_every_kind_and_profiles_outlive_the_process_and_keep_their_last_seen_time() {
    let home = Home::new("outlive");
    let keys = [
        LINE,
        by_mac(7, 2),
        BindingKey::Vlan {
            interface: 7,
            outer_vid: 201,
            inner_vid: 0,
        },
        circuit(7, b"olt 1/3"),
    ];
    let seen = |number| Binding {
        last_seen_jiffies: 77 + number,
        ..binding(number)
    };
    let mut first = home.with_pool(16);
    for (number, key) in (1..).zip(&keys) {
        first.put_binding(key, &seen(number)).unwrap();
    }
    drop(first);

    let mut second = home.open(16);
    assert_eq!(second.bindings().len(), keys.len());
    for (number, key) in (1..).zip(&keys) {
        assert_eq!(second.binding(key), Some(seen(number)));
    }
    assert_eq!(second.profile(POOL).unwrap(), pool(3600));
    assert_eq!(second.profile(4).unwrap().present, 0);
    let other = Binding {
        profile: 9,
        ..binding(8)
    };
    for (number, key) in (1..).zip(&keys) {
        second.put_binding(key, &other).unwrap();
        let now = second.binding(key).unwrap();
        assert_eq!(now.address, other.address);
        assert_eq!(now.last_seen_jiffies, seen(number).last_seen_jiffies);
        second.remove_binding(key);
        assert_eq!(second.binding(key), None);
        second.remove_binding(key);
    }
    assert_eq!(second.bindings(), []);
}

#[test]
#[ignore = "needs root and the kernel"]
fn a_full_table_says_so_and_still_takes_what_it_holds() {
    let home = Home::new("full");
    let mut fast_path = home.open(300);
    let mut put = |number| fast_path.put_binding(&by_mac(7, number), &binding(number));
    let refused = (1..=1000).find_map(|last| put(last).err().map(|error| (last, error)));
    let (last, error) = refused.unwrap();
    assert!(matches!(error, FastPathError::Full(_)), "{error}");
    assert!(
        error.to_string().contains("fast_path.max_bindings"),
        "{error}"
    );
    assert_eq!(last, 301);
    put(1).unwrap();
    assert_eq!(fast_path.bindings().len(), 300);
}

#[test]
#[ignore = "needs root and the kernel"]
fn circuits_are_found_by_the_kernel_until_they_are_removed_and_their_numbers_are_used_again() {
    let home = Home::new("circuits");
    let mut fast_path = home.with_pool(256);
    fast_path
        .load_only(&interface(2, "lo", AttachMode::Generic))
        .unwrap();
    let id = |number: u32| format!("olt 1/{number}").into_bytes();
    let ask = |fast_path: &mut FastPath, number: u32| {
        let option = relay_information(&id(number), b"");
        offered(fast_path, 2, &discover(number, 1).option(82, &option))
    };
    // Often enough that each number is used by many.
    for round in 0..4 {
        let numbers = round * 200..round * 200 + 256;
        for number in numbers.clone() {
            let key = circuit(2, &id(number));
            fast_path.put_binding(&key, &binding(number)).unwrap();
        }
        let error = fast_path.put_binding(&circuit(2, b"one more"), &binding(9));
        assert!(matches!(error, Err(FastPathError::Full(_))));
        for number in numbers.clone() {
            assert_eq!(ask(&mut fast_path, number), Some(address(number)));
        }
        for number in numbers {
            fast_path.remove_binding(&circuit(2, &id(number)));
            assert_eq!(ask(&mut fast_path, number), None);
        }
    }
}

#[test]
#[ignore = "needs root and the kernel"]
fn each_interface_has_its_own_keys_and_its_own_order_of_identities() {
    let home = Home::new("several");
    let mut fast_path = home.with_pool(256);
    let ordered = |number, identity: &[u8]| nexus_sidecar::fastpath::InterfaceConfig {
        identity: identity.to_vec(),
        ..interface(number, "lo", AttachMode::Generic)
    };
    let (line, by_mac_kind) = (BindingKey::KIND_LINE, BindingKey::KIND_MAC);
    for (number, identity) in [
        (0, &[line, by_mac_kind][..]),
        (1, &[by_mac_kind, line]),
        (2, &[line]),
        (63, &[by_mac_kind]),
    ] {
        fast_path.load_only(&ordered(number, identity)).unwrap();
        let on_line = BindingKey::Line {
            interface: number,
            outer_vid: 0,
            inner_vid: 0,
            mac: mac(1),
        };
        let bound = u32::from(number) * 10;
        fast_path
            .put_binding(&on_line, &binding(bound + 1))
            .unwrap();
        fast_path
            .put_binding(&by_mac(number, 1), &binding(bound + 2))
            .unwrap();
    }
    let mut ask = |number| offered(&mut fast_path, number, &discover(1, 1));
    assert_eq!(ask(0), Some(address(1)));
    assert_eq!(ask(1), Some(address(12)));
    assert_eq!(ask(2), Some(address(21)));
    assert_eq!(ask(63), Some(address(632)));
    let error = fast_path.run_once(3, &[0; 60]).unwrap_err();
    assert!(
        matches!(error, FastPathError::NotLoaded { number: 3 }),
        "{error}"
    );
}

#[test]
#[ignore = "needs root and the kernel"]
fn a_changed_profile_takes_the_place_of_the_old_one() {
    let home = Home::new("profile");
    let mut fast_path = home.with_pool(4);
    fast_path
        .load_only(&interface(0, "lo", AttachMode::Generic))
        .unwrap();
    fast_path.put_binding(&by_mac(0, 1), &binding(1)).unwrap();
    for lease_secs in [3600, 3600, 7200, 60] {
        fast_path.put_profile(POOL, &pool(lease_secs)).unwrap();
        assert_eq!(fast_path.profile(POOL).unwrap(), pool(lease_secs));
        let frame = Frame::from_client(&discover(1, 1)).build();
        let (_, reply) = fast_path.run_once(0, &frame).unwrap();
        let reply = Frame::parse(&reply).unwrap().bootp().unwrap();
        assert_eq!(reply.number(51), Some(lease_secs));
    }
}

#[test]
#[ignore = "needs root and the kernel"]
fn a_profile_beyond_the_last_is_refused() {
    let home = Home::new("last");
    let mut fast_path = home.open(4);
    fast_path.put_profile(255, &pool(3600)).unwrap();
    let error = fast_path.put_profile(256, &pool(3600)).unwrap_err();
    assert!(error.to_string().contains(map::PROFILES), "{error}");
}

#[test]
#[ignore = "needs root and the kernel"]
fn two_processes_cannot_write_the_same_maps() {
    let home = Home::new("two");
    let first = home.open(16);
    let error = home.try_open(16).unwrap_err();
    assert!(
        matches!(&error, FastPathError::InUse { path } if path == home.root()),
        "{error}"
    );
    assert!(error.to_string().contains("fast_path.pin_path"), "{error}");
    drop(first);
    home.open(16);
}

#[test]
#[ignore = "needs root and the kernel"]
fn events_come_when_somebody_listens_and_cost_nothing_else() {
    let home = Home::new("events");
    let mut fast_path = home.open(16);
    fast_path
        .load_only(&interface(5, "lo", AttachMode::Generic))
        .unwrap();
    let mut events = fast_path.events().unwrap();
    let frame = Frame::from_client(&discover(66, 1)).build();
    fast_path.run_once(5, &frame).unwrap();
    assert!(events.next_event().is_none());
    fast_path.set_switches(5, true, &[]).unwrap();
    fast_path.run_once(5, &frame).unwrap();
    let event = events.next_event().unwrap();
    assert_eq!(event.interface, 5);
    assert_eq!(event.outcome, Outcome::UnknownClient as u32);
    assert_eq!(event.frame_len as usize, frame.len());
    assert!(event.frame.starts_with(&frame[..event.captured as usize]));
    assert!(events.next_event().is_none());
    fast_path.set_switches(5, false, &[mac(66)]).unwrap();
    fast_path.run_once(5, &frame).unwrap();
    assert!(events.next_event().is_some());
    while events.next_event().is_some() {}
    fast_path.set_switches(5, false, &[]).unwrap();
    fast_path.run_once(5, &frame).unwrap();
    assert!(events.next_event().is_none());
    let error = fast_path.set_switches(6, true, &[]).unwrap_err();
    assert!(
        matches!(error, FastPathError::NotLoaded { number: 6 }),
        "{error}"
    );
}

#[test]
#[ignore = "needs root and the kernel"]
fn the_kernel_s_jiffies_are_those_of_last_seen() {
    let home = Home::new("jiffies");
    let mut fast_path = home.with_pool(16);
    fast_path
        .load_only(&interface(0, "lo", AttachMode::Generic))
        .unwrap();
    fast_path.put_binding(&by_mac(0, 1), &binding(1)).unwrap();
    let before = fast_path.jiffies().unwrap();
    assert!((100..=1000).contains(&before.per_sec), "{before:?}");
    assert!(offered(&mut fast_path, 0, &discover(1, 1)).is_some());
    let after = fast_path.jiffies().unwrap();
    let seen = fast_path.binding(&by_mac(0, 1)).unwrap().last_seen_jiffies;
    let (since, all) = (
        seen.wrapping_sub(before.now),
        after.now.wrapping_sub(before.now),
    );
    assert!(since <= all, "{before:?} {seen} {after:?}");
    assert!(all < after.per_sec * 60, "{before:?} {after:?}");
    // The kernel starts them five minutes before they run over 32 bits.
    let uptime = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    let secs = u32::try_from(uptime.tv_sec()).unwrap().wrapping_sub(300);
    let now = secs.wrapping_mul(after.per_sec);
    let apart = now.wrapping_sub(after.now).cast_signed().unsigned_abs();
    assert!(apart < after.per_sec * 10, "{now} {after:?}");
}

/// Pins a map that `bpftool` makes; `layout` is its type, key size, value size and entries.
fn pin_map(path: &Path, layout: [&str; 4]) {
    let [kind, key, value, entries] = layout;
    let mut create = Command::new("bpftool");
    create.args(["map", "create"]).arg(path);
    create.args(["type", kind, "key", key, "value", value]);
    create.args(["entries", entries, "name", "foreign"]);
    command::output(&mut create).unwrap();
}

#[test]
#[ignore = "needs root and the kernel"]
fn a_pinned_map_of_another_shape_is_never_written_and_new_ones_take_its_place() {
    let profile = size_of::<Profile>().to_string();
    let outcomes = OUTCOME_COUNT.to_string();
    let fewer = (OUTCOME_COUNT - 1).to_string();
    for (name, layout) in [
        (map::COUNTERS, ["array", "4", "8", &outcomes]),
        (map::COUNTERS, ["percpu_array", "4", "8", &fewer]),
        (map::PROFILES, ["array", "4", "16", "256"]),
        (map::PROFILES, ["hash", "4", &profile, "256"]),
        (map::BINDINGS, ["hash", "16", "40", "64"]),
        // As it should be, but not to be mapped into memory.
        (map::BINDINGS, ["array", "4", "64", "256"]),
        (map::CIRCUITS, ["array", "4", "128", "64"]),
    ] {
        let home = Home::new("shape");
        let folder = home.root().join(format!("v{}", nexus_abi::ABI_VERSION));
        std::fs::create_dir_all(&folder).unwrap();
        pin_map(&folder.join(name), layout);
        let mut fast_path = home.open(64);
        assert_ne!(fast_path.pins(), folder, "{layout:?}");
        fast_path.put_binding(&LINE, &binding(1)).unwrap();
        assert!(folder.join(name).exists());
        let removed = fast_path.tidy().unwrap();
        assert_eq!(removed, [folder.join(name)]);
        assert_eq!(fast_path.pins(), folder);
        drop(fast_path);
        assert_eq!(home.open(64).binding(&LINE), Some(binding(1)));
    }
}

#[test]
#[ignore = "needs root and the kernel"]
fn maps_whose_seed_is_lost_are_not_used() {
    let home = Home::new("seed");
    let mut fast_path = home.open(64);
    fast_path.put_binding(&LINE, &binding(1)).unwrap();
    let old = fast_path.pins().to_owned();
    drop(fast_path);
    std::fs::remove_file(old.join("SEED")).unwrap();
    let fast_path = home.open(64);
    assert_ne!(fast_path.pins(), old);
    assert_eq!(fast_path.bindings(), []);
}

#[test]
#[ignore = "needs root and the kernel"]
fn another_size_has_new_maps_with_all_that_the_old_ones_had() {
    let home = Home::new("size");
    let mut fast_path = home.open(1024);
    let seen = |number| Binding {
        last_seen_jiffies: 1000 + number,
        valid_until_secs: NEVER_EXPIRES - number,
        ..binding(number)
    };
    for number in 0..500 {
        let key = match number % 2 {
            0 => by_mac(2, number),
            _ => circuit(1, &number.to_be_bytes()),
        };
        fast_path.put_binding(&key, &seen(number)).unwrap();
    }
    let mut before = fast_path.bindings();
    drop(fast_path);
    let larger = home.open(5000);
    assert!(larger.pins().ends_with("v2-1"), "{:?}", larger.pins());
    let mut after = larger.bindings();
    before.sort_by_key(|(key, _)| *key);
    after.sort_by_key(|(key, _)| *key);
    assert_eq!(before, after);
    drop(larger);
    // It was not tidied: both sizes are there, and each start takes up its own.
    assert!(home.open(1024).pins().ends_with("v2"));
    let mut larger = home.open(5000);
    assert!(larger.pins().ends_with("v2-1"));
    larger.tidy().unwrap();
    assert!(larger.pins().ends_with("v2"));
    assert!(!home.root().join("v2-1").exists());
    assert_eq!(larger.bindings().len(), 500);
    drop(larger);
    let smaller = home.open(100);
    assert_eq!(smaller.bindings().len(), 100);
}

#[test]
#[ignore = "needs root and the kernel"]
fn a_folder_that_is_not_on_a_bpffs_is_refused_and_not_made() {
    let directory = tempfile::tempdir().unwrap();
    let pin_root = directory.path().join("nexus");
    let error = FastPath::open(&config(&pin_root, 16)).unwrap_err();
    assert!(
        matches!(&error, FastPathError::NotBpffs { path } if *path == pin_root),
        "{error}"
    );
    assert!(error.to_string().contains("mount -t bpf"), "{error}");
    assert!(!pin_root.exists());
}

#[test]
#[ignore = "needs root and the kernel"]
fn more_bindings_than_a_map_can_hold_are_refused() {
    let home = Home::new("toomany");
    let error = home.try_open(u32::MAX).unwrap_err();
    assert!(matches!(error, FastPathError::Size { .. }), "{error}");
    assert!(!home.root().exists());
}

#[test]
#[ignore = "needs root and the kernel"]
fn detaching_where_nothing_is_removes_nothing() {
    let home = Home::new("nothing");
    assert!(detach(home.root()).unwrap().is_empty());
}

#[test]
#[ignore = "needs root and the kernel"]
fn detaching_removes_our_maps_of_every_version_and_nothing_else() {
    let home = Home::new("ours");
    drop(home.open(16));
    let root = home.root();
    let current = root.join(format!("v{}", nexus_abi::ABI_VERSION));
    let old = root.join("v0");
    let foreign = [
        current.join("FOREIGN"),
        root.join("BINDINGS"),
        root.join("other/BINDINGS"),
    ];
    for folder in [&old, &root.join("other")] {
        std::fs::create_dir_all(folder).unwrap();
    }
    for path in foreign.iter().chain([&old.join(map::BINDINGS)]) {
        pin_map(path, ["array", "4", "8", "1"]);
    }
    let removed = detach(root).unwrap();
    let names = [
        map::BINDINGS,
        map::CIRCUITS,
        map::COUNTERS,
        map::EVENTS,
        map::KINDS,
        map::PROFILES,
        map::PUNTS,
        "SEED",
    ];
    let ours = names.map(|name| current.join(name));
    let expected: Vec<_> = std::iter::once(old.join(map::BINDINGS))
        .chain(ours)
        .collect();
    assert_eq!(removed, expected);
    assert!(foreign.iter().all(|path| path.exists()));
    assert!(!old.exists());
}
