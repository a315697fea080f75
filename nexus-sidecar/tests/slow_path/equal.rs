//! The slow path sends what the kernel would have sent, byte for byte, however the frame came to it (promise P4).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::Command;

use nexus_abi::Outcome;
use nexus_testkit::access_node::{Line, OLT_INTERFACE};
use nexus_testkit::command;
use nexus_testkit::dhcp_client::{DhcpClient, Kind};
use nexus_testkit::packet::clients::{Client, Says, relay_information};
use nexus_testkit::packet::{ETH_P_QINQ1, Frame, Mac, Tag};

use crate::bench::{Bench, LIMIT, POOL, SERVER, WRONG};
use crate::subscriber::Subscriber;

const VLAN: Line = Line::Vlan(100);
const QINQ: Line = Line::QinQ {
    s_vlan: 200,
    c_vlan: 30,
};
const RELAY: Ipv4Addr = Ipv4Addr::new(100, 64, 9, 9);
const RELAY_MAC: Mac = [2, 0, 0, 0, 0, 0x99];

/// A request and what it is answered with.
struct Case {
    name: String,
    frame: Frame,
    message_type: u8,
}

/// A frame by the name of its case.
type Replies = BTreeMap<String, Vec<u8>>;

/// More than any reply is longer than its request.
const ROOM: usize = 256;

const OFFER: u8 = 2;
const ACK: u8 = 5;
const NAK: u8 = 6;

/// The tags of a subscriber's line as different equipment writes them.
fn taggings(subscriber: &Subscriber) -> Vec<Vec<Tag>> {
    let old = |vid: u16| Tag {
        protocol: ETH_P_QINQ1,
        tci: vid,
    };
    // Drop eligible, and priority 7.
    let marked = |tag: Tag| Tag {
        tci: tag.tci | 0xf000,
        ..tag
    };
    match subscriber.line {
        // Known by its MAC alone: on any line.
        Line::Untagged => vec![
            vec![],
            vec![Tag::c_vlan(0).priority(6)],
            vec![Tag::s_vlan(7).priority(1), Tag::c_vlan(8)],
        ],
        Line::Vlan(vid) => vec![
            vec![Tag::c_vlan(vid)],
            vec![marked(Tag::c_vlan(vid))],
            vec![Tag::s_vlan(vid).priority(3)],
            vec![old(vid).priority(2)],
        ],
        Line::QinQ { s_vlan, c_vlan } => vec![
            vec![Tag::s_vlan(s_vlan), Tag::c_vlan(c_vlan)],
            vec![Tag::s_vlan(s_vlan).priority(3), marked(Tag::c_vlan(c_vlan))],
            vec![Tag::c_vlan(s_vlan).priority(5), Tag::c_vlan(c_vlan)],
            vec![old(s_vlan), Tag::c_vlan(c_vlan).priority(4)],
        ],
    }
}

/// What one subscriber may say in each state of RFC 2131 4.3.2, as each of the clients.
fn cases(bench: &Bench, subscriber: &Subscriber, address: Ipv4Addr) -> Vec<Case> {
    let mut cases = Vec::new();
    let taggings = taggings(subscriber);
    let to_server = |frame: Frame| frame.unicast(bench.gateway, SERVER);
    for (number, client) in Client::ALL.into_iter().enumerate() {
        let says = [
            (Says::Discover, OFFER),
            (Says::Select(address, SERVER), ACK),
            (Says::Select(WRONG, SERVER), NAK),
            (Says::Reboot(address), ACK),
            (Says::Reboot(WRONG), NAK),
            (Says::Renew(address), ACK),
            (Says::Renew(WRONG), NAK),
            (Says::Rebind(address), ACK),
        ];
        for (at, (says, message_type)) in says.into_iter().enumerate() {
            let mut frame = client.frame(subscriber.mac, 0x3903_0000, says);
            if matches!(says, Says::Renew(_)) {
                frame = to_server(frame);
            }
            // Each client in each state, on another tagging in turn.
            frame.tags = taggings[(number + at) % taggings.len()].clone();
            cases.push(Case {
                name: format!("{client:?} {says:?} on {:x?}", frame.tags),
                frame,
                message_type,
            });
        }
    }
    let tags = subscriber.tags();
    for (says, message_type) in [
        (Says::Discover, OFFER),
        (Says::Select(address, SERVER), ACK),
        (Says::Reboot(WRONG), NAK),
    ] {
        let mut asks_broadcast = Client::Networkd.message(subscriber.mac, 0x3904_0000, says);
        asks_broadcast.flags = 0x8000;
        // Options 61 and 82, the latter in front of all others.
        let mut in_front = Client::Udhcpc.message(subscriber.mac, 0x3905_0000, says);
        let relay = relay_information(b"olt1 eth 0/1/5/33", b"onu-78");
        in_front.options.insert(0, (82, relay.clone()));
        let relayed = Client::Udhcpc.message(subscriber.mac, 0x3906_0000, says);
        let relayed = relayed.relay(RELAY).option(82, &relay);
        let mut relayed = to_server(Frame::from_client(&relayed));
        (relayed.source, relayed.source_ip, relayed.source_port) = (RELAY_MAC, RELAY, 67);
        let mut unsummed = Client::Dhclient.frame(subscriber.mac, 0x3907_0000, says);
        unsummed.udp_checksum = false;
        for (name, mut frame) in [
            ("broadcast flag", Frame::from_client(&asks_broadcast)),
            ("options 82 and 61", Frame::from_client(&in_front)),
            ("relayed", relayed),
            ("no UDP checksum", unsummed),
        ] {
            frame.tags.clone_from(&tags);
            cases.push(Case {
                name: format!("{name} {says:?} on {:x?}", frame.tags),
                frame,
                message_type,
            });
        }
    }
    cases
}

/// Asks every case and returns the replies as they were on the wire, with the name of the case.
fn replies(bench: &Bench, cases: &[Case], padding: usize) -> Replies {
    let before = bench.sent_by_olt();
    let replies: Replies = cases
        .iter()
        .map(|case| (case.name.clone(), bench.ask(&case.frame, padding)))
        .collect();
    assert_eq!(replies.len(), cases.len(), "each case has its own name");
    assert_eq!(
        bench.sent_by_olt() - before,
        cases.len(),
        "one reply for each request"
    );
    replies
}

fn assert_same(how: &str, kernel: &Replies, slow: &Replies) {
    for (name, expected) in kernel {
        let reply = &slow[name];
        assert_eq!(
            reply,
            expected,
            "{how}: {name}\nslow path: {:?}\nkernel:    {:?}",
            Frame::parse(reply).and_then(|frame| frame.bootp()),
            Frame::parse(expected).and_then(|frame| frame.bootp()),
        );
    }
}

/// The reply has the tags of its request, the right message type, the lease of the pool, and the client's
/// own options.
fn assert_is_right(case: &Case, reply: &[u8]) {
    let reply = Frame::parse(reply).unwrap();
    let (asked, message) = (case.frame.bootp().unwrap(), reply.bootp().unwrap());
    let name = &case.name;
    assert_eq!(reply.tags, case.frame.tags, "{name}");
    assert_eq!(message.message_type(), Some(case.message_type), "{name}");
    for echoed in [61, 82] {
        assert_eq!(message.get(echoed), asked.get(echoed), "{name}");
    }
    let lease = (case.message_type != NAK).then_some(3600);
    assert_eq!(message.number(51), lease, "{name}");
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn the_slow_path_sends_byte_for_byte_what_the_kernel_sends() {
    let lines = [Line::Untagged, VLAN, QINQ];
    let subscribers: Vec<_> = (1..)
        .zip(lines)
        .map(|(number, line)| Subscriber::new(number, line, POOL))
        .collect();
    let mut bench = Bench::start("equal", &lines, &subscribers);
    let addresses = bench.connect(&subscribers);
    let cases: Vec<Case> = subscribers
        .iter()
        .flat_map(|one| cases(&bench, one, addresses[&one.name]))
        .collect();
    let asked = u64::try_from(cases.len()).unwrap();

    // Behind a padded request there is room for every reply, so the kernel answers all.
    let by_kernel = replies(&bench, &cases, ROOM);
    assert_eq!(bench.counts().answers(), (asked, 0));
    for case in &cases {
        assert_is_right(case, &by_kernel[&case.name]);
    }

    // Without padding the kernel passes on what it has no room for.
    let mixed = replies(&bench, &cases, 0);
    let counts = bench.counts();
    let no_room = counts.kernel(Outcome::NoRoom);
    assert_eq!(counts.answers(), (2 * asked - no_room, no_room));
    assert_same("as it comes", &by_kernel, &mixed);

    // The kernel misses: its map has lost them, the sidecar has not.
    bench.empty_kernel();
    assert!(bench.kernel().is_empty());
    let after_miss = replies(&bench, &cases, 0);
    let counts = bench.counts();
    assert_eq!(
        counts.answers(),
        (2 * asked - no_room, no_room + asked),
        "{counts:?}"
    );
    assert_eq!(counts.kernel(Outcome::UnknownClient), asked);
    assert_same("missed by the kernel", &by_kernel, &after_miss);

    // No program on the interface.
    let link = format!("link-{OLT_INTERFACE}-{}", bench.ifindex);
    let mut detach = Command::new("bpftool");
    detach
        .args(["link", "detach", "pinned"])
        .arg(bench.host.pins.join(link));
    command::output(&mut detach).unwrap();
    let without_program = replies(&bench, &cases, 0);
    let counts = bench.counts();
    assert_eq!(
        counts.answers(),
        (2 * asked - no_room, no_room + 2 * asked),
        "{counts:?}"
    );
    assert_eq!(counts.kernel(Outcome::UnknownClient), asked);
    assert_same("no program", &by_kernel, &without_program);

    // And real clients on the three kinds of line get the same lease out of it.
    for (subscriber, kind) in subscribers
        .iter()
        .zip([Kind::Udhcpc, Kind::Dhclient, Kind::Dhclient])
    {
        let host = bench.host.network.subscribers.iter();
        let mut host = host.filter(|host| host.mac == subscriber.mac);
        let directory = bench.directory.path();
        let mut client = DhcpClient::start(kind, host.next().unwrap(), directory).unwrap();
        let lease = client.wait_for_lease(1, LIMIT).unwrap();
        assert_eq!(lease.address, addresses[&subscriber.name], "{kind:?}");
        assert_eq!((lease.seconds, lease.server), (3600, Some(SERVER)));
    }
}
