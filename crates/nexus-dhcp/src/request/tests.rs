//! Who a message is from: its keys, on every kind of line.

use nexus_testkit::packet::{Bootp, Frame, Tag};

use super::*;
use crate::testing::{CLIENT, read};

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
        let key = BindingKey::line(9, line.0, line.1, CLIENT);
        assert_eq!(request(tags).line_key(9), key, "{tags:?}");
        assert_eq!(request(tags).mac_key(9), BindingKey::mac(9, CLIENT));
    }
}

#[test]
fn the_keys_of_a_line_and_of_a_mac_are_never_the_same() {
    assert_ne!(request(&[]).line_key(9), request(&[]).mac_key(9));
    assert_ne!(request(&[]).line_key(9), request(&[]).line_key(8));
}
