//! Attaching to interfaces: native or not at all, replaced in place, removed only if it is ours.

use std::process::Command;
use std::time::Duration;

use nexus_abi::Outcome;
use nexus_sidecar::fastpath::{AttachMode, Attached, FastPath, FastPathError, detach};
use nexus_testkit::command;
use nexus_testkit::interrupt::wait_until;
use nexus_testkit::link;

use crate::bench::{Bench, GENERIC, IN_DRIVER, INTERFACE};
use crate::home::{Home, address, binding, by_mac, discover, interface, mac};

/// Only a failing test takes it.
const LIMIT: Duration = Duration::from_secs(60);

/// Waits until no program is on the interface: a pin's own hold on its link ends when the kernel is done with the
/// inode, some time after the file is gone.
fn left_alone(bench: &Bench) {
    let gone = || Ok(bench.program(INTERFACE).is_none().then_some(()));
    wait_until("the program leaves the interface", LIMIT, gone).unwrap();
}

#[test]
#[ignore = "needs root and the kernel"]
fn an_interface_that_is_not_there_is_refused_by_name() {
    let bench = Bench::new("absent");
    let mut fast_path = bench.home.open(16);
    for name in [
        "access1",
        "",
        "a\0b",
        "a-name-that-is-much-too-long-for-linux",
    ] {
        let error = bench
            .attach(&mut fast_path, name, AttachMode::Native)
            .unwrap_err();
        let refused =
            matches!(&error, FastPathError::NoInterface { interface } if interface == name);
        assert!(refused, "{error}");
        assert!(error.to_string().contains("ip link"), "{error}");
    }
}

#[test]
#[ignore = "needs root and the kernel"]
fn a_driver_without_native_xdp_is_refused_and_generic_mode_taken_only_when_asked_for() {
    let bench = Bench::new("lo");
    let mut fast_path = bench.home.open(16);
    let error = bench
        .attach(&mut fast_path, "lo", AttachMode::Native)
        .unwrap_err();
    assert!(
        matches!(&error, FastPathError::NoNativeXdp { interface } if interface == "lo"),
        "{error}"
    );
    assert!(error.to_string().contains("mode: generic"), "{error}");
    assert_eq!(bench.program("lo"), None);
    let attached = bench
        .attach(&mut fast_path, "lo", AttachMode::Generic)
        .unwrap();
    assert!(!attached.replaced);
    assert_eq!(bench.program("lo").unwrap().0, GENERIC);
}

/// A native interface takes no frames larger than a page; that is not a lack of native XDP.
#[test]
#[ignore = "needs root and the kernel"]
fn what_the_driver_objects_to_is_told() {
    let bench = Bench::new("mtu");
    let mut fast_path = bench.home.open(16);
    for (end, name) in [(&bench.olt, INTERFACE), (&bench.line, "eth0")] {
        end.run("ip", &["link", "set", "dev", name, "mtu", "9000"])
            .unwrap();
    }
    let error = bench
        .attach(&mut fast_path, INTERFACE, AttachMode::Native)
        .unwrap_err();
    assert!(matches!(error, FastPathError::Attach { .. }), "{error}");
    // ERANGE.
    assert!(error.to_string().contains("os error 34"), "{error}");
}

#[test]
#[ignore = "needs root and the kernel"]
fn a_program_outlives_its_process_and_the_next_one_takes_its_place() {
    let bench = Bench::new("replace");
    let mut first = bench.home.open(16);
    let attached = bench.native(&mut first);
    let ifindex = link::index(&bench.olt, INTERFACE).unwrap();
    assert_eq!(
        attached,
        Attached {
            ifindex,
            replaced: false
        }
    );
    let (mode, old) = bench.program(INTERFACE).unwrap();
    assert_eq!(mode, IN_DRIVER);
    drop(first);
    assert_eq!(bench.program(INTERFACE), Some((IN_DRIVER, old)));

    let mut second = bench.home.open(16);
    let replaced = Attached {
        ifindex,
        replaced: true,
    };
    assert_eq!(bench.native(&mut second), replaced);
    let (mode, new) = bench.program(INTERFACE).unwrap();
    assert_eq!(mode, IN_DRIVER);
    assert_ne!(old, new);
    // Once more, by the same process.
    assert_eq!(bench.native(&mut second), replaced);
    let (mode, newest) = bench.program(INTERFACE).unwrap();
    assert_eq!(mode, IN_DRIVER);
    drop(second);
    assert_eq!(bench.program(INTERFACE), Some((IN_DRIVER, newest)));
}

#[test]
#[ignore = "needs root and the kernel"]
fn both_programs_of_a_replacement_count_into_the_same_maps() {
    let bench = Bench::new("maps");
    let count = |fast_path: &FastPath| {
        let counters = fast_path.counters().unwrap();
        let unknown = |(outcome, _): &(Outcome, u64)| *outcome == Outcome::UnknownClient;
        counters.into_iter().find(unknown).unwrap().1
    };
    let frame = nexus_testkit::packet::Frame::from_client(&discover(66, 1)).build();
    for runs in 1..=2 {
        let mut fast_path = bench.home.open(16);
        bench.native(&mut fast_path);
        fast_path.run_once(0, &frame).unwrap();
        assert_eq!(count(&fast_path), runs);
    }
}

#[test]
#[ignore = "needs root and the kernel"]
fn an_interface_that_came_back_under_its_old_name_and_index_is_attached_anew() {
    let bench = Bench::new("again");
    let mut fast_path = bench.home.open(16);
    let Attached { ifindex, .. } = bench.native(&mut fast_path);
    drop(fast_path);
    bench
        .olt
        .run("ip", &["link", "del", "dev", INTERFACE])
        .unwrap();
    let index = ifindex.to_string();
    let mut add = vec!["link", "add", "name", INTERFACE, "index", &index];
    add.extend([
        "type",
        "veth",
        "peer",
        "name",
        "eth0",
        "netns",
        bench.line.name(),
    ]);
    bench.olt.run("ip", &add).unwrap();
    assert_eq!(bench.program(INTERFACE), None);

    let mut fast_path = bench.home.open(16);
    assert_eq!(
        bench.native(&mut fast_path),
        Attached {
            ifindex,
            replaced: false
        }
    );
    assert_eq!(bench.program(INTERFACE).unwrap().0, IN_DRIVER);
}

#[test]
#[ignore = "needs root and the kernel"]
fn another_program_on_the_interface_is_not_pushed_aside() {
    let bench = Bench::new("busy");
    let stranger = Home::new("stranger");
    let mut theirs = stranger.open(16);
    bench.native(&mut theirs);
    let before = bench.program(INTERFACE);
    let mut ours = bench.home.open(16);
    let error = bench
        .attach(&mut ours, INTERFACE, AttachMode::Native)
        .unwrap_err();
    assert!(matches!(error, FastPathError::Busy { .. }), "{error}");
    assert_eq!(bench.program(INTERFACE), before);
}

#[test]
#[ignore = "needs root and the kernel"]
fn a_program_attached_without_a_link_is_not_pushed_aside_either() {
    let bench = Bench::new("netlink");
    let stranger = Home::new("stranger");
    drop(stranger.open(16));
    let object = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bpf/nexus-ebpf");
    let program = stranger.root().join("program");
    let mut load = Command::new("bpftool");
    load.args(["prog", "load", object])
        .arg(&program)
        .args(["type", "xdp"]);
    command::output(&mut load).unwrap();
    let program = program.display().to_string();
    let attach = [
        "net", "attach", "xdpdrv", "pinned", &program, "dev", INTERFACE,
    ];
    bench.olt.run("bpftool", &attach).unwrap();
    let before = bench.program(INTERFACE);
    assert!(before.is_some());
    let mut ours = bench.home.open(16);
    let error = bench
        .attach(&mut ours, INTERFACE, AttachMode::Native)
        .unwrap_err();
    assert!(matches!(error, FastPathError::Busy { .. }), "{error}");
    assert_eq!(bench.program(INTERFACE), before);
}

#[test]
#[ignore = "needs root and the kernel"]
fn a_link_of_another_mode_is_changed_to_what_is_configured() {
    let bench = Bench::new("mode");
    let mut generic = bench.home.open(16);
    bench
        .attach(&mut generic, INTERFACE, AttachMode::Generic)
        .unwrap();
    assert_eq!(bench.program(INTERFACE).unwrap().0, GENERIC);
    drop(generic);
    for (mode, expected) in [
        (AttachMode::Native, IN_DRIVER),
        (AttachMode::Generic, GENERIC),
    ] {
        let mut fast_path = bench.home.open(16);
        let attached = bench.attach(&mut fast_path, INTERFACE, mode).unwrap();
        assert!(attached.replaced);
        assert_eq!(bench.program(INTERFACE).unwrap().0, expected);
        drop(fast_path);
        assert_eq!(bench.program(INTERFACE).unwrap().0, expected);
    }
}

#[test]
#[ignore = "needs root and the kernel"]
fn a_link_stays_in_its_mode_if_the_driver_does_not_have_the_other() {
    let bench = Bench::new("nonative");
    let mut fast_path = bench.home.open(16);
    bench
        .attach(&mut fast_path, "lo", AttachMode::Generic)
        .unwrap();
    drop(fast_path);
    let mut fast_path = bench.home.open(16);
    let error = bench
        .attach(&mut fast_path, "lo", AttachMode::Native)
        .unwrap_err();
    assert!(
        matches!(error, FastPathError::NoNativeXdp { .. }),
        "{error}"
    );
    drop(fast_path);
    assert_eq!(bench.program("lo").unwrap().0, GENERIC);
}

#[test]
#[ignore = "needs root and the kernel"]
fn vlan_offload_is_switched_off_so_that_tags_stay_in_frames() {
    let bench = Bench::new("offload");
    let set = |feature: &str, value: &str| {
        bench
            .olt
            .run("ethtool", &["-K", INTERFACE, feature, value])
            .unwrap();
    };
    let features = || {
        let shown = bench.olt.run("ethtool", &["-k", INTERFACE]).unwrap();
        ["rx-vlan-offload: ", "rx-vlan-stag-hw-parse: "].map(|name| {
            let line = shown.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().to_owned()
        })
    };
    set("rxvlan", "on");
    set("rx-vlan-stag-hw-parse", "on");
    assert_eq!(features(), ["on", "on"]);
    let mut fast_path = bench.home.open(16);
    bench.native(&mut fast_path);
    assert_eq!(features(), ["off", "off"]);
}

#[test]
#[ignore = "needs root and the kernel"]
fn what_is_no_longer_configured_leaves_its_interface() {
    let bench = Bench::new("tidy");
    bench.second();
    let attach = |fast_path: &mut FastPath, name: &str, number: u8| {
        let config = interface(number, name, AttachMode::Native);
        bench
            .olt
            .enter(|| fast_path.attach(&config))
            .unwrap()
            .unwrap();
    };
    let mut both = bench.home.open(16);
    attach(&mut both, INTERFACE, 0);
    attach(&mut both, "access1", 1);
    assert!(both.tidy().unwrap().is_empty());
    drop(both);

    let mut one = bench.home.open(16);
    attach(&mut one, "access1", 1);
    assert!(bench.program(INTERFACE).is_some());
    let removed = one.tidy().unwrap();
    assert_eq!(removed.len(), 1, "{removed:?}");
    left_alone(&bench);
    assert!(bench.program("access1").is_some());
}

#[test]
#[ignore = "needs root and the kernel"]
fn switches_change_the_program_that_is_attached() {
    let bench = Bench::new("switches");
    let mut fast_path = bench.home.with_pool(16);
    fast_path.put_binding(&by_mac(0, 1), &binding(1)).unwrap();
    bench.native(&mut fast_path);
    let plain = bench.program(INTERFACE);
    let client = bench.client();
    let mut events = fast_path.events().unwrap();
    client.send(&discover(1, 1)).unwrap();
    assert_eq!(client.offer(1).unwrap(), Some(address(1)));
    assert!(events.next_event().is_none());
    // What is as it should be is not loaded anew.
    fast_path.set_switches(0, false, &[]).unwrap();
    assert_eq!(bench.program(INTERFACE), plain);
    fast_path.set_switches(0, false, &[mac(1)]).unwrap();
    assert_ne!(bench.program(INTERFACE), plain);
    client.send(&discover(1, 2)).unwrap();
    assert_eq!(client.offer(2).unwrap(), Some(address(1)));
    assert!(events.next_event().is_some());
    while events.next_event().is_some() {}
    fast_path.set_switches(0, false, &[]).unwrap();
    drop(fast_path);
    client.send(&discover(1, 3)).unwrap();
    assert_eq!(client.offer(3).unwrap(), Some(address(1)));
    assert!(events.next_event().is_none());
}

#[test]
#[ignore = "needs root and the kernel"]
fn detaching_frees_our_interface_and_leaves_a_neighbours_program() {
    let bench = Bench::new("detach");
    bench.second();
    let neighbour = Home::new("neighbour");
    let mut theirs = neighbour.open(16);
    bench
        .attach(&mut theirs, "access1", AttachMode::Native)
        .unwrap();
    let mut ours = bench.home.open(16);
    let Attached { ifindex, .. } = bench.native(&mut ours);
    let pins = ours.pins().to_owned();
    drop(ours);

    let removed = detach(bench.home.root()).unwrap();
    assert_eq!(
        removed.first(),
        Some(&pins.join(format!("link-{INTERFACE}-{ifindex}")))
    );
    assert!(!bench.home.root().exists());
    left_alone(&bench);
    assert!(bench.program("access1").is_some());
}

/// Only where the kernel has bonds: this runs on Debian's kernels (`cargo xtask kernels`).
#[test]
#[ignore = "needs root and the kernel"]
fn on_a_bond_the_program_works_on_its_ports_and_their_vlan_offload_is_off() {
    let bench = Bench::new("bond");
    let run = |arguments: &str| {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        bench.olt.run("ip", &arguments)
    };
    if run("link add bond0 type bond mode active-backup miimon 100").is_err() {
        eprintln!("this kernel has no bonds");
        return;
    }
    bench.second();
    for port in [INTERFACE, "access1"] {
        run(&format!("link set dev {port} down")).unwrap();
        run(&format!("link set dev {port} master bond0")).unwrap();
    }
    run("link set dev bond0 up").unwrap();
    run(&format!(
        "link set dev bond0 type bond active_slave {INTERFACE}"
    ))
    .unwrap();
    for port in [INTERFACE, "access1"] {
        run(&format!("link set dev {port} up")).unwrap();
        bench
            .olt
            .run("ethtool", &["-K", port, "rxvlan", "on"])
            .unwrap();
    }
    let client = bench.client();
    for xid in 1..=2 {
        let mut fast_path = bench.home.with_pool(16);
        fast_path.put_binding(&by_mac(0, 1), &binding(1)).unwrap();
        let attached = bench
            .attach(&mut fast_path, "bond0", AttachMode::Native)
            .unwrap();
        assert_eq!(attached.replaced, xid == 2);
        fast_path.tidy().unwrap();
        drop(fast_path);
        assert_eq!(bench.program("bond0").unwrap().0, IN_DRIVER);
        for port in [INTERFACE, "access1"] {
            let shown = bench.olt.run("ethtool", &["-k", port]).unwrap();
            assert!(shown.contains("rx-vlan-offload: off"), "{port}: {shown}");
        }
        client.send(&discover(1, xid)).unwrap();
        assert_eq!(client.offer(xid).unwrap(), Some(address(1)));
    }
}
