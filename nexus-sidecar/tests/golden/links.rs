//! Attaching to interfaces: native or not at all, replaced in place, removed only if it is ours.

use std::process::Command;

use anyhow::Result;
use nexus_abi::Outcome;
use nexus_sidecar::fastpath::{AttachMode, Attached, FastPath, FastPathError, detach};
use nexus_testkit::command;
use nexus_testkit::link::{self, End};
use nexus_testkit::netns::{Namespace, unique_prefix};

use crate::world::Pins;

const INTERFACE: &str = "access0";

/// An OLT host with a native XDP interface, and pins of its own.
struct Bench {
    pins: Pins,
    olt: Namespace,
    line: Namespace,
}

impl Bench {
    fn new(test: &str) -> Self {
        let prefix = unique_prefix(test);
        let olt = Namespace::create(&prefix, "olt").unwrap();
        let line = Namespace::create(&prefix, "line").unwrap();
        link::veth(End::new(&olt, INTERFACE), End::new(&line, "eth0")).unwrap();
        Self {
            pins: Pins::new(test),
            olt,
            line,
        }
    }

    fn attach(
        &self,
        fast_path: &mut FastPath,
        interface: &str,
        mode: AttachMode,
    ) -> Result<Attached, FastPathError> {
        self.olt
            .enter(|| fast_path.attach(interface, mode))
            .unwrap()
    }

    fn native(&self, fast_path: &mut FastPath) -> Attached {
        self.attach(fast_path, INTERFACE, AttachMode::Native)
            .unwrap()
    }

    /// (mode, program id) of the program on an interface, as `ip` shows it.
    fn program(&self, interface: &str) -> Option<(u64, u64)> {
        let arguments = ["-json", "-details", "link", "show", "dev", interface];
        let text = self.olt.run("ip", &arguments).unwrap();
        let shown: serde_json::Value = serde_json::from_str(&text).unwrap();
        let xdp = shown.get(0)?.get("xdp")?;
        let number = |value: Option<&serde_json::Value>| value.and_then(serde_json::Value::as_u64);
        number(xdp.get("mode")).zip(number(xdp.get("prog")?.get("id")))
    }
}

/// `ip`'s numbers of where a program runs.
const IN_DRIVER: u64 = 1;
const GENERIC: u64 = 2;

#[test]
#[ignore = "needs root and the kernel"]
fn an_interface_that_is_not_there_is_refused_by_name() {
    let bench = Bench::new("absent");
    let mut fast_path = bench.pins.open(16);
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
    let mut fast_path = bench.pins.open(16);
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
    let mut fast_path = bench.pins.open(16);
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
    let mut first = bench.pins.open(16);
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

    let mut second = bench.pins.open(16);
    assert_eq!(
        bench.native(&mut second),
        Attached {
            ifindex,
            replaced: true
        }
    );
    let (mode, new) = bench.program(INTERFACE).unwrap();
    assert_eq!(mode, IN_DRIVER);
    assert_ne!(old, new);
    // Once more, by the same process: nothing changes.
    assert_eq!(
        bench.native(&mut second),
        Attached {
            ifindex,
            replaced: true
        }
    );
    assert_eq!(bench.program(INTERFACE), Some((IN_DRIVER, new)));
    drop(second);
    assert_eq!(bench.program(INTERFACE), Some((IN_DRIVER, new)));
}

#[test]
#[ignore = "needs root and the kernel"]
fn both_programs_of_a_replacement_count_into_the_same_maps() {
    let bench = Bench::new("maps");
    let count = |fast_path: &FastPath| {
        let counters = fast_path.counters().unwrap();
        counters
            .into_iter()
            .find(|(outcome, _)| *outcome == Outcome::UnknownClient)
            .unwrap()
            .1
    };
    let stranger = nexus_testkit::packet::Bootp::discover([2, 0, 0, 0, 0, 0x66], 1);
    let frame = nexus_testkit::packet::Frame::from_client(&stranger).build();
    let mut first = bench.pins.open(16);
    let mut second = bench.pins.open(16);
    first.run_once(&frame).unwrap();
    second.run_once(&frame).unwrap();
    assert_eq!((count(&first), count(&second)), (2, 2));
}

#[test]
#[ignore = "needs root and the kernel"]
fn an_interface_that_came_back_under_its_old_name_and_index_is_attached_anew() {
    let bench = Bench::new("again");
    let mut fast_path = bench.pins.open(16);
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

    let mut fast_path = bench.pins.open(16);
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
    let stranger = Pins::new("stranger");
    let mut theirs = stranger.open(16);
    bench.native(&mut theirs);
    let before = bench.program(INTERFACE);
    let mut ours = bench.pins.open(16);
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
    let stranger = Pins::new("stranger");
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
    let mut ours = bench.pins.open(16);
    let error = bench
        .attach(&mut ours, INTERFACE, AttachMode::Native)
        .unwrap_err();
    assert!(matches!(error, FastPathError::Busy { .. }), "{error}");
    assert_eq!(bench.program(INTERFACE), before);
}

#[test]
#[ignore = "needs root and the kernel"]
fn detaching_frees_our_interface_and_leaves_a_neighbours_program() {
    let bench = Bench::new("detach");
    link::veth(
        End::new(&bench.olt, "access1"),
        End::new(&bench.line, "eth1"),
    )
    .unwrap();
    let neighbour = Pins::new("neighbour");
    let mut theirs = neighbour.open(16);
    bench
        .attach(&mut theirs, "access1", AttachMode::Native)
        .unwrap();
    let mut ours = bench.pins.open(16);
    let Attached { ifindex, .. } = bench.native(&mut ours);
    let pins = ours.pins().to_owned();
    drop(ours);

    let removed = detach(bench.pins.root()).unwrap();
    assert_eq!(
        removed.first(),
        Some(&pins.join(format!("link-{INTERFACE}-{ifindex}")))
    );
    assert_eq!(removed.len(), 4);
    assert!(!bench.pins.root().exists());
    assert_eq!(bench.program(INTERFACE), None);
    assert!(bench.program("access1").is_some());
}
