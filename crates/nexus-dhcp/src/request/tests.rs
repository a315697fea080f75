//! Who a message is from: its keys, on every kind of line.

use std::net::Ipv4Addr;

use nexus_testkit::packet::{Bootp, Frame, Tag};

use super::*;
use crate::testing::{CLIENT, GATEWAY_MAC, OTHER_SERVER, RELAY, SERVER, read};

fn request(tags: &[Tag]) -> Request {
    let mut frame = Frame::from_client(&Bootp::discover(CLIENT, 7));
    frame.tags = tags.to_vec();
    read(&frame.build()).unwrap()
}

#[test]
fn a_line_is_its_vlan_ids_without_types_priorities_and_drop_eligibility() {
    let eligible = Tag {
        protocol: 0x9100,
        tci: 0xf000 | 4094,
    };
    for (tags, line) in [
        (&[][..], (0, 0)),
        (&[Tag::c_vlan(100)], (100, 0)),
        (&[Tag::s_vlan(100).priority(7)], (100, 0)),
        (&[Tag::c_vlan(0).priority(5)], (0, 0)),
        (
            &[Tag::s_vlan(200).priority(1), Tag::c_vlan(30).priority(7)],
            (200, 30),
        ),
        (&[eligible, eligible], (4094, 4094)),
        (&[Tag::c_vlan(0), Tag::c_vlan(30)], (0, 30)),
    ] {
        let request = request(tags);
        assert_eq!((request.link.outer_vid(), request.link.inner_vid()), line);
        let (outer_vid, inner_vid) = line;
        let with_mac = BindingKey::Line {
            interface: 9,
            outer_vid,
            inner_vid,
            mac: CLIENT,
        };
        let alone = BindingKey::Vlan {
            interface: 9,
            outer_vid,
            inner_vid,
        };
        let key = |kind| request.key(kind, 9, None);
        assert_eq!(key(BindingKey::KIND_LINE), Some(with_mac), "{tags:?}");
        assert_eq!(key(BindingKey::KIND_VLAN), Some(alone), "{tags:?}");
    }
}

#[test]
fn a_key_of_every_kind_says_its_kind_interface_and_mac() {
    let request = request(&[Tag::c_vlan(100)]);
    let circuit = Circuit::new(b"port 7", b"cabinet-12").unwrap();
    for kind in 1..=4 {
        let key = request.key(kind, 63, Some(circuit)).unwrap();
        assert_eq!((key.kind(), key.interface()), (kind, 63));
        assert_eq!(key.mac(), (kind <= 2).then_some(CLIENT));
    }
    let mac = BindingKey::Mac {
        interface: 63,
        mac: CLIENT,
    };
    assert_eq!(request.key(BindingKey::KIND_MAC, 63, None), Some(mac));
    let on_circuit = BindingKey::Circuit {
        interface: 63,
        circuit,
    };
    let found = request.key(BindingKey::KIND_CIRCUIT, 63, Some(circuit));
    assert_eq!(found, Some(on_circuit));
}

#[test]
fn there_is_no_key_without_a_circuit_or_of_an_unknown_kind() {
    let request = request(&[]);
    assert_eq!(request.key(BindingKey::KIND_CIRCUIT, 0, None), None);
    for kind in [0, 5, 255] {
        assert_eq!(request.key(kind, 0, None), None);
    }
}

/// RFC 2131 2: `chaddr` has 16 bytes, of which an Ethernet client uses six.
#[test]
fn the_mac_is_the_first_six_bytes_of_chaddr_whatever_stands_behind_them() {
    let mut message = Bootp::discover(CLIENT, 7);
    message.chaddr[6..].fill(0xcc);
    let request = read(&Frame::from_client(&message).build()).unwrap();
    assert_eq!(request.mac(), CLIENT);
    assert_eq!(
        request.mac_word().to_ne_bytes(),
        [2, 0, 0, 0, 0, 0x21, 0, 0]
    );
}

#[test]
fn a_message_is_for_us_if_it_was_sent_to_all_or_to_us_or_came_through_a_relay() {
    let to = |address, giaddr: Option<Ipv4Addr>| {
        let mut message = Bootp::discover(CLIENT, 7);
        message.giaddr = giaddr.unwrap_or(Ipv4Addr::UNSPECIFIED);
        let frame = Frame::from_client(&message).unicast(GATEWAY_MAC, address);
        read(&frame.build()).unwrap().is_for(SERVER.octets())
    };
    assert!(to(Ipv4Addr::BROADCAST, None));
    assert!(to(SERVER, None));
    assert!(!to(OTHER_SERVER, None));
    assert!(to(OTHER_SERVER, Some(RELAY)));
}
