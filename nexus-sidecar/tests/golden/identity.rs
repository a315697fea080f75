//! Who a client is on each interface: by line, circuit, VLAN pair or MAC, in the configured order.

use std::net::Ipv4Addr;

use nexus_abi::{BindingKey, Circuit, Outcome};
use nexus_testkit::packet::clients::relay_information;
use nexus_testkit::packet::{Bootp, Frame, Mac, Tag};

use crate::world::{
    CIRCUITS, ENDED, Fate, LINES, PLAIN, PORT, QINQ, REMOTES, RICH_QINQ, SERVER, STRANGER, TAGGED,
    TWICE, UNTAGGED, VLANS, World, address_of, binding,
};

const XID: u32 = 0x1d1d;

fn discover(mac: Mac) -> Bootp {
    Bootp::request(mac, XID).option(53, &[1])
}

fn on(vids: (u16, u16), message: &Bootp) -> Vec<u8> {
    let mut frame = Frame::from_client(message);
    for vid in [vids.0, vids.1].into_iter().filter(|vid| *vid != 0) {
        frame = frame.tag(Tag::c_vlan(vid));
    }
    frame.build()
}

/// The address that the client is told, or why it is not.
fn told(world: &mut World, interface: u8, frame: &[u8]) -> Result<Ipv4Addr, Outcome> {
    match world.run_on(interface, frame) {
        Fate::Reply(Outcome::Offer, reply) => {
            let reply = Frame::parse(&reply).unwrap().bootp().unwrap();
            // RFC 3046 2.2: as it came.
            let request = Frame::parse(frame).unwrap().bootp().unwrap();
            assert_eq!(reply.get(82), request.get(82));
            Ok(reply.yiaddr)
        }
        fate => Err(fate.outcome()),
    }
}

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

#[test]
#[ignore = "needs root and the kernel"]
fn a_circuit_id_is_an_identity_wherever_it_stands_and_whatever_else_does() {
    let mut world = World::new("circuit");
    let subs: [(u8, &[u8]); 4] = [(1, PORT), (2, b"onu-77"), (5, &[9, 9, 9, 9]), (151, b"")];
    for first in 0..4 {
        for at in 0..3 {
            let mut subs = subs;
            subs.rotate_left(first);
            let value: Vec<u8> = subs
                .iter()
                .flat_map(|(code, value)| [&[*code, value.len() as u8], *value].concat())
                .collect();
            let mut message = discover(QINQ).option(61, &[1, 2]).option(12, b"cpe");
            message.options.insert(at, (82, value));
            // The lines say nothing: another subscriber's VLAN pair, and none.
            for vids in [(200, 30), (0, 0), (7, 8)] {
                let frame = on(vids, &message);
                assert_eq!(told(&mut world, CIRCUITS, &frame), Ok(ip("100.64.4.1")));
                assert_eq!(told(&mut world, REMOTES, &frame), Ok(ip("100.64.5.1")));
            }
        }
    }
}

#[test]
#[ignore = "needs root and the kernel"]
fn a_remote_id_tells_circuits_apart_where_it_counts_and_only_there() {
    let mut world = World::new("remote");
    let with = |mac, remote: &[u8]| {
        let message = discover(mac).option(82, &relay_information(PORT, remote));
        on((0, 0), &message)
    };
    let mut case = |interface, mac, remote: &[u8]| told(&mut world, interface, &with(mac, remote));
    assert_eq!(case(REMOTES, QINQ, b"onu-77"), Ok(ip("100.64.5.1")));
    assert_eq!(case(REMOTES, UNTAGGED, b"onu-78"), Ok(ip("100.64.5.2")));
    for (mac, remote) in [(QINQ, &b"onu-78"[..]), (UNTAGGED, b"onu-77")] {
        assert_eq!(case(REMOTES, mac, remote), Err(Outcome::MacMismatch));
    }
    // Known by MAC, then: nobody has such a circuit.
    assert_eq!(case(REMOTES, QINQ, b"onu-7"), Ok(ip("100.64.5.11")));
    assert_eq!(case(REMOTES, QINQ, b""), Ok(ip("100.64.5.11")));
    assert_eq!(case(REMOTES, UNTAGGED, b""), Err(Outcome::UnknownClient));
    for remote in [&b"onu-77"[..], b"onu-78", b""] {
        assert_eq!(case(CIRCUITS, QINQ, remote), Ok(ip("100.64.4.1")));
        assert_eq!(case(CIRCUITS, UNTAGGED, remote), Err(Outcome::MacMismatch));
    }
}

#[test]
#[ignore = "needs root and the kernel"]
fn the_longest_circuits_are_known_and_longer_ones_are_left_to_the_slow_path() {
    let mut world = World::new("longest");
    let mut case = |interface, mac, circuit: &[u8], remote: &[u8]| {
        let message = discover(mac).option(82, &relay_information(circuit, remote));
        told(&mut world, interface, &on((0, 0), &message))
    };
    let found = case(CIRCUITS, TAGGED, &[7; 126], b"any");
    assert_eq!(found, Ok(ip("100.96.4.3")));
    let found = case(CIRCUITS, TAGGED, &[7; 125], b"any");
    assert_eq!(found, Err(Outcome::UnknownClient));
    let found = case(CIRCUITS, TAGGED, &[7; 127], b"");
    assert_eq!(found, Err(Outcome::Unsupported));
    let found = case(REMOTES, RICH_QINQ, &[9; 100], &[8; 26]);
    assert_eq!(found, Ok(ip("100.96.5.4")));
    let found = case(REMOTES, RICH_QINQ, &[9; 100], &[8; 27]);
    assert_eq!(found, Err(Outcome::Unsupported));
}

#[test]
#[ignore = "needs root and the kernel"]
fn odd_sub_options_are_left_to_the_slow_path() {
    let mut world = World::new("odd");
    let twice = [relay_information(PORT, b""), relay_information(PORT, b"")].concat();
    let many: Vec<u8> = (3..20).flat_map(|code| [code, 0]).collect();
    for (value, outcome) in [
        (vec![1, 9, 1], Outcome::Malformed),
        (vec![1], Outcome::Malformed),
        (twice, Outcome::Unsupported),
        (many, Outcome::Unsupported),
    ] {
        let frame = on((0, 0), &discover(QINQ).option(82, &value));
        for interface in [CIRCUITS, REMOTES] {
            assert_eq!(
                told(&mut world, interface, &frame),
                Err(outcome),
                "{value:?}"
            );
        }
        // Where nobody is known by circuit it is only echoed, whatever it is.
        let message = discover(QINQ).option(82, &value);
        let found = told(&mut world, LINES, &on((200, 30), &message));
        assert_eq!(found, Ok(address_of(QINQ)));
    }
}

#[test]
#[ignore = "needs root and the kernel"]
fn a_vlan_pair_is_an_identity_and_another_mac_on_it_is_not_allowed() {
    let mut world = World::new("vlan");
    let mut case = |interface, mac, vids| told(&mut world, interface, &on(vids, &discover(mac)));
    assert_eq!(case(CIRCUITS, TAGGED, (200, 30)), Ok(ip("100.64.4.10")));
    assert_eq!(case(CIRCUITS, TAGGED, (100, 0)), Ok(ip("100.64.4.11")));
    for vids in [(100, 30), (30, 200), (200, 0), (0, 0)] {
        assert_eq!(case(CIRCUITS, TAGGED, vids), Err(Outcome::UnknownClient));
    }
    for mac in [QINQ, STRANGER, TWICE] {
        for vids in [(200, 30), (100, 0)] {
            assert_eq!(case(CIRCUITS, mac, vids), Err(Outcome::MacMismatch));
        }
        // An ended binding is as good as none, and keeps nobody away.
        assert_eq!(case(CIRCUITS, mac, (102, 0)), Err(Outcome::UnknownClient));
    }
    assert_eq!(case(CIRCUITS, ENDED, (102, 0)), Err(Outcome::UnknownClient));
}

#[test]
#[ignore = "needs root and the kernel"]
fn keys_are_looked_up_in_the_order_of_the_interface() {
    let mut world = World::new("order");
    // By MAC first, then by VLAN pair.
    let mut case =
        |interface, message: &Bootp, vids| told(&mut world, interface, &on(vids, message));
    assert_eq!(
        case(VLANS, &discover(TWICE), (200, 30)),
        Ok(ip("100.64.6.1"))
    );
    assert_eq!(case(VLANS, &discover(TWICE), (9, 9)), Ok(ip("100.64.6.1")));
    assert_eq!(
        case(VLANS, &discover(TAGGED), (100, 0)),
        Ok(ip("100.64.6.3"))
    );
    let stranger = case(VLANS, &discover(STRANGER), (100, 0));
    assert_eq!(stranger, Err(Outcome::MacMismatch));
    // By line, then circuit, then MAC.
    let circuit = relay_information(PORT, b"onu-77");
    let all = discover(QINQ).option(82, &circuit);
    assert_eq!(case(REMOTES, &all, (100, 0)), Ok(ip("100.64.5.10")));
    assert_eq!(case(REMOTES, &all, (101, 0)), Ok(ip("100.64.5.1")));
    assert_eq!(
        case(REMOTES, &discover(QINQ), (101, 0)),
        Ok(ip("100.64.5.11"))
    );
    // Somebody else's circuit ends the search: a MAC of one's own does not help.
    let foreign = discover(TAGGED).option(82, &circuit);
    assert_eq!(case(REMOTES, &foreign, (101, 0)), Err(Outcome::MacMismatch));
    assert_eq!(
        case(REMOTES, &discover(TAGGED), (101, 0)),
        Ok(ip("100.64.5.12"))
    );
    // By circuit, then by VLAN pair.
    let elsewhere = discover(TAGGED).option(82, &relay_information(b"port 1", b""));
    assert_eq!(case(CIRCUITS, &elsewhere, (200, 30)), Ok(ip("100.64.4.10")));
    assert_eq!(
        case(CIRCUITS, &foreign, (200, 30)),
        Err(Outcome::MacMismatch)
    );
    // A circuit whose binding has ended is none: the VLAN pair is asked.
    let ended = discover(TAGGED).option(82, &relay_information(b"port 9", b""));
    assert_eq!(case(CIRCUITS, &ended, (100, 0)), Ok(ip("100.64.4.11")));
}

#[test]
#[ignore = "needs root and the kernel"]
fn nobody_is_known_on_an_interface_that_he_is_not_bound_on() {
    let mut world = World::new("interfaces");
    for interface in [CIRCUITS, REMOTES, VLANS] {
        let found = told(&mut world, interface, &on((0, 0), &discover(UNTAGGED)));
        assert_eq!(found, Err(Outcome::UnknownClient));
    }
    let found = told(&mut world, LINES, &on((0, 0), &discover(UNTAGGED)));
    assert_eq!(found, Ok(address_of(UNTAGGED)));
}

/// In a table that is full enough for keys to stand away from home and next to others.
#[test]
#[ignore = "needs root and the kernel"]
fn a_thousand_circuits_lines_and_macs_are_all_told_their_own_address() {
    let mut world = World::new("thousand");
    let named = |number: u32| format!("olt1 eth 0/1/{}/{}:{number}", number / 64, number % 64);
    let mac = |number: u32| [2, 1, 0, 0, (number >> 8) as u8, number as u8];
    let address = |number| Ipv4Addr::from(u32::from(SERVER) + 10_000 + number);
    let everybody = 0..900_u32;
    for number in everybody.clone() {
        let circuit = Circuit::new(named(number).as_bytes(), b"").unwrap();
        let (vlan, line) = ((number / 60) as u16 + 1, (number % 60) as u16 + 1);
        let key = match number % 3 {
            0 => BindingKey::Circuit {
                interface: CIRCUITS,
                circuit,
            },
            1 => BindingKey::Vlan {
                interface: CIRCUITS,
                outer_vid: vlan,
                inner_vid: line,
            },
            _ => BindingKey::Mac {
                interface: VLANS,
                mac: mac(number),
            },
        };
        world.bind(key, binding(mac(number), address(number), PLAIN));
    }
    for number in everybody {
        let (vlan, line) = ((number / 60) as u16 + 1, (number % 60) as u16 + 1);
        let (interface, message) = match number % 3 {
            0 => {
                let option = relay_information(named(number).as_bytes(), b"x");
                (CIRCUITS, discover(mac(number)).option(82, &option))
            }
            1 => (CIRCUITS, discover(mac(number))),
            _ => (VLANS, discover(mac(number))),
        };
        let vids = if number % 3 == 1 {
            (vlan, line)
        } else {
            (4000, 1)
        };
        let found = told(&mut world, interface, &on(vids, &message));
        assert_eq!(found, Ok(address(number)), "{number}");
    }
}
