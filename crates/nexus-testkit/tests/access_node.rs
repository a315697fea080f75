//! The access node on its own: frames are tagged towards the OLT and come back to the right port.

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::Result;
use nexus_testkit::access_node::{
    AccessNetwork, Line, OLT_INTERFACE, SUBSCRIBER_INTERFACE, Subscriber, object_path,
};
use nexus_testkit::bpf::{Pinned, ensure_bpffs};
use nexus_testkit::capture::Capture;
use nexus_testkit::interrupt::wait_until;
use nexus_testkit::netns::{Namespace, unique_prefix};
use nexus_testkit::packet::{Frame, Tag};
use nexus_testkit::process::Process;
use nexus_testkit::{command, link, netns};

const OLT_MAC: &str = "02:00:00:00:00:fe";
const TIMEOUT: Duration = Duration::from_secs(20);
const QINQ: Line = Line::QinQ {
    s_vlan: 200,
    c_vlan: 30,
};

/// Frames of the test: UDP to port 4000, told apart by their payload.
fn test_frames(capture: &Capture) -> Result<Vec<Frame>> {
    let frames = capture.frames()?;
    let parsed = frames
        .iter()
        .filter_map(|frame| Frame::parse(&frame.bytes).ok());
    Ok(parsed
        .filter(|frame| frame.destination_port == 4000)
        .collect())
}

/// Sends one datagram to the OLT's address, whose MAC address the subscriber knows.
fn send(subscriber: &Subscriber, payload: &[u8]) -> Result<usize> {
    link::add_address(&subscriber.namespace, SUBSCRIBER_INTERFACE, "10.9.0.2/24")?;
    let neighbour = [
        "neigh",
        "add",
        "10.9.0.1",
        "lladdr",
        OLT_MAC,
        "dev",
        SUBSCRIBER_INTERFACE,
    ];
    subscriber.namespace.run("ip", &neighbour)?;
    let sent = subscriber.namespace.enter(|| {
        let socket = UdpSocket::bind("10.9.0.2:4001")?;
        socket.send_to(payload, "10.9.0.1:4000")
    });
    Ok(sent??)
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn frames_are_tagged_towards_the_olt_and_come_back_untagged_to_the_right_port() {
    let directory = tempfile::tempdir().unwrap();
    let prefix = unique_prefix("tags");
    let lines = [Line::Untagged, Line::Vlan(100), QINQ, Line::Vlan(100)];
    let network = AccessNetwork::create(&prefix, &object_path(), &lines).unwrap();

    // In the place of the OLT's program: one that sends every frame back, natively.
    let pinned = Pinned::load(&object_path(), &format!("{prefix}-olt")).unwrap();
    let reflect = pinned.program("reflect");
    let attach = [
        "net",
        "attach",
        "xdpdrv",
        "pinned",
        reflect.to_str().unwrap(),
        "dev",
    ];
    network
        .olt
        .run("bpftool", &[&attach[..], &[OLT_INTERFACE]].concat())
        .unwrap();

    let uplink = network.capture(directory.path()).unwrap();
    let at_subscribers: Vec<Capture> = network
        .subscribers
        .iter()
        .map(|one| Capture::start(&one.namespace, SUBSCRIBER_INTERFACE, directory.path()).unwrap())
        .collect();

    for (number, subscriber) in (0_u8..).zip(&network.subscribers) {
        let payload = [number; 20];
        assert_eq!(send(subscriber, &payload).unwrap(), payload.len());
        let tags = match subscriber.line {
            Line::Untagged => vec![],
            Line::Vlan(vid) => vec![Tag::c_vlan(vid)],
            Line::QinQ { s_vlan, c_vlan } => vec![Tag::s_vlan(s_vlan), Tag::c_vlan(c_vlan)],
        };
        let both = wait_until("a frame out and back on the uplink", TIMEOUT, || {
            let mut frames = test_frames(&uplink)?;
            frames.retain(|frame| frame.payload == payload);
            Ok((frames.len() == 2).then_some(frames))
        });
        let both = both.unwrap();
        assert_eq!(both[0].source, subscriber.mac);
        assert_eq!(both[0].tags, tags, "towards the OLT on {}", subscriber.line);
        assert_eq!(both[1].destination, subscriber.mac);
        assert_eq!(both[1].tags, tags, "from the OLT on {}", subscriber.line);
        wait_until("the frame at its subscriber", TIMEOUT, || {
            let frames = test_frames(&at_subscribers[usize::from(number)])?;
            let mut back = frames
                .iter()
                .filter(|frame| frame.destination == subscriber.mac);
            Ok(back
                .any(|frame| frame.tags.is_empty() && frame.payload == payload)
                .then_some(()))
        })
        .unwrap();
    }

    // Two subscribers share VLAN 100 and see each other's traffic as on a hub; the others are alone.
    let heard: Vec<Vec<u8>> = at_subscribers
        .into_iter()
        .zip(&network.subscribers)
        .map(|(capture, subscriber)| {
            let mut from: Vec<u8> = test_frames(&capture)
                .unwrap()
                .iter()
                .filter(|frame| frame.source != subscriber.mac)
                .map(|frame| frame.payload[0])
                .collect();
            from.sort_unstable();
            from
        })
        .collect();
    assert_eq!(heard, [vec![0], vec![1, 3], vec![2], vec![1, 3]]);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_dropped_network_leaves_no_namespace_and_no_pin_also_after_a_panic() {
    let prefix = unique_prefix("gone");
    let caught = std::panic::catch_unwind(|| {
        let network = AccessNetwork::create(&prefix, &object_path(), &[QINQ]).unwrap();
        assert_eq!(network.namespaces().len(), 3);
        panic!("as a failing test would");
    });
    assert!(caught.is_err());
    let left = command::output(std::process::Command::new("ip").args(["netns", "list"])).unwrap();
    assert!(!left.contains(&prefix), "{left}");
    let pins = std::fs::read_dir("/sys/fs/bpf").unwrap();
    let left: Vec<_> = pins
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(&prefix))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn bpffs_stays_visible_inside_a_namespace() {
    ensure_bpffs().unwrap();
    let namespace = Namespace::create(&unique_prefix("fs"), "one").unwrap();
    let kind = namespace
        .run("stat", &["-f", "-c", "%T", "/sys/fs/bpf"])
        .unwrap();
    assert_eq!(kind.trim(), "bpf_fs");
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_removed_namespace_takes_its_processes_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let namespace = Namespace::create(&unique_prefix("proc"), "one").unwrap();
    let mut sleep = namespace.command("sleep");
    sleep.arg("600");
    let mut process = Process::spawn("sleep", &mut sleep, &directory.path().join("log")).unwrap();
    wait_until("the process inside", TIMEOUT, || {
        Ok((namespace.pids()? == [i32::try_from(process.pid()).unwrap()]).then_some(()))
    })
    .unwrap();
    drop(namespace);
    assert!(process.wait_exit(TIMEOUT).is_ok());
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_port_inside_a_namespace_can_be_waited_for() {
    let namespace = Namespace::create(&unique_prefix("port"), "one").unwrap();
    let listener = namespace
        .enter(|| std::net::TcpListener::bind("127.0.0.1:7000"))
        .unwrap();
    let _listener = listener.unwrap();
    let loopback = std::net::Ipv4Addr::LOCALHOST.into();
    namespace.wait_for_port(loopback, 7000, TIMEOUT).unwrap();
    let nobody = namespace
        .wait_for_port(loopback, 7001, Duration::from_millis(20))
        .unwrap_err();
    assert!(nobody.to_string().contains("127.0.0.1:7001"), "{nobody}");
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn what_a_killed_test_has_left_is_swept_and_what_a_running_one_needs_is_not() {
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    let pid = gone.id();
    gone.wait().unwrap();
    let mine = Namespace::create(&unique_prefix("sweep"), "mine").unwrap();
    let mut orphan = Namespace::create(&format!("nx{pid}-0-sweep"), "orphan").unwrap();
    orphan.keep();
    ensure_bpffs().unwrap();
    let pins = format!("/sys/fs/bpf/nx{pid}-0-sweep");
    std::fs::create_dir(&pins).unwrap();

    let swept = netns::sweep();
    assert!(swept.contains(&orphan.name().to_owned()), "{swept:?}");
    assert!(!orphan.path().exists() && mine.path().exists());
    assert!(!std::path::Path::new(&pins).exists());
}
