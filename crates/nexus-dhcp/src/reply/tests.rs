//! Replies, byte by byte: where they go, what they carry, what stands behind them.

use std::net::Ipv4Addr;

use nexus_abi::Outcome;
use nexus_testkit::packet::clients::{Client, Says};
use nexus_testkit::packet::{Bootp, Frame, MAC_BROADCAST, Tag};

use crate::profile::{ProfileParts, encode};
use crate::testing::{
    ADDRESS, CLIENT, GATEWAY_MAC, OTHER_ADDRESS, RELAY, RELAY_MAC, SERVER, assert_checksums, codes,
    exchange, parts, reboot, relayed, reply_from, reply_to,
};

mod length;
mod property;

const XID: u32 = 0xdead_beef;
const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

fn discover() -> Bootp {
    Bootp::discover(CLIENT, XID)
}

// Addressing: RFC 2131 4.1.

#[test]
fn without_relay_address_and_flag_a_reply_goes_to_the_hardware_and_the_new_address() {
    for message in [discover(), reboot(ADDRESS)] {
        let (_, frame, _) = reply_to(&Frame::from_client(&message));
        assert_eq!((frame.destination, frame.source), (CLIENT, GATEWAY_MAC));
        assert_eq!((frame.source_ip, frame.destination_ip), (SERVER, ADDRESS));
        assert_eq!((frame.source_port, frame.destination_port), (67, 68));
    }
}

#[test]
fn with_the_broadcast_flag_a_reply_goes_to_all() {
    for message in [discover(), reboot(ADDRESS)] {
        let (_, frame, reply) = reply_to(&Frame::from_client(&message.broadcast()));
        assert_eq!(frame.destination, MAC_BROADCAST);
        assert_eq!(frame.destination_ip, Ipv4Addr::BROADCAST);
        assert_eq!(frame.destination_port, 68);
        assert_eq!(reply.flags, 0x8000);
    }
}

#[test]
fn with_an_address_in_use_an_ack_goes_there_whatever_the_flag() {
    let renew = Bootp::renew(CLIENT, XID, ADDRESS);
    for message in [renew.clone(), renew.broadcast()] {
        let (outcome, frame, reply) = reply_to(&Frame::from_client(&message));
        assert_eq!(outcome, Outcome::Ack);
        assert_eq!((frame.destination, frame.destination_ip), (CLIENT, ADDRESS));
        assert_eq!(frame.destination_port, 68);
        assert_eq!((reply.ciaddr, reply.yiaddr), (ADDRESS, ADDRESS));
        assert_eq!(reply.flags, message.flags);
    }
}

#[test]
fn through_a_relay_a_reply_goes_to_the_relay_and_its_server_port_whatever_else_is_set() {
    for message in [
        discover(),
        discover().broadcast(),
        reboot(ADDRESS),
        reboot(OTHER_ADDRESS),
        Bootp::renew(CLIENT, XID, ADDRESS),
    ] {
        let (_, frame, reply) = reply_to(&relayed(&message));
        assert_eq!(
            (frame.destination, frame.destination_ip),
            (RELAY_MAC, RELAY)
        );
        assert_eq!((frame.source_port, frame.destination_port), (67, 67));
        assert_eq!((reply.giaddr, reply.hops), (RELAY, 0));
    }
}

#[test]
fn a_nak_without_relay_is_broadcast_and_keeps_the_flags() {
    let renew = Bootp::renew(CLIENT, XID, OTHER_ADDRESS);
    for message in [reboot(OTHER_ADDRESS), renew.clone(), renew.broadcast()] {
        let (outcome, frame, reply) = reply_to(&Frame::from_client(&message));
        assert_eq!(outcome, Outcome::Nak);
        assert_eq!(frame.destination, MAC_BROADCAST);
        assert_eq!(frame.destination_ip, Ipv4Addr::BROADCAST);
        assert_eq!(frame.destination_port, 68);
        assert_eq!(reply.flags, message.flags);
    }
}

/// RFC 2131 4.3.2: only so does the relay hand it to a client without an address.
#[test]
fn a_nak_through_a_relay_sets_the_broadcast_flag() {
    let (outcome, _, reply) = reply_to(&relayed(&reboot(OTHER_ADDRESS)));
    assert_eq!((outcome, reply.flags), (Outcome::Nak, 0x8000));
    let (outcome, _, reply) = reply_to(&relayed(&reboot(ADDRESS)));
    assert_eq!((outcome, reply.flags), (Outcome::Ack, 0));
}

// Content: RFC 2131 4.3.1, table 3.

#[test]
fn an_offer_has_every_field_of_table_3() {
    let mut message = discover();
    message.secs = 9;
    message.hops = 3;
    message.sname = [7; 64];
    message.file = [7; 128];
    message.chaddr[6..].fill(0xcc);
    let (outcome, _, reply) = reply_to(&Frame::from_client(&message));
    assert_eq!(outcome, Outcome::Offer);
    let mut expected = Bootp::request(CLIENT, XID)
        .option(53, &[2])
        .option(54, &SERVER.octets())
        .option(51, &3600_u32.to_be_bytes())
        .option(58, &1800_u32.to_be_bytes())
        .option(59, &3150_u32.to_be_bytes())
        .option(1, &[255, 192, 0, 0])
        .option(3, &SERVER.octets())
        .option(6, &[9, 9, 9, 9, 149, 112, 112, 112]);
    expected.op = 2;
    expected.yiaddr = ADDRESS;
    expected.chaddr = message.chaddr;
    assert_eq!(reply, expected);
}

#[test]
fn a_nak_carries_who_sent_it_and_nothing_of_a_lease() {
    let message = Bootp::renew(CLIENT, XID, OTHER_ADDRESS).option(61, &[1, 2, 3]);
    let (_, _, reply) = reply_to(&Frame::from_client(&message));
    assert_eq!(
        (reply.ciaddr, reply.yiaddr, reply.siaddr),
        (NOBODY, NOBODY, NOBODY)
    );
    assert_eq!(
        reply.options,
        [
            (53, [6].to_vec()),
            (54, SERVER.octets().to_vec()),
            (61, [1, 2, 3].to_vec()),
        ]
    );
}

#[test]
fn the_next_server_stands_in_every_reply_but_a_nak() {
    let pool = encode(&ProfileParts {
        next_server: [10, 0, 0, 9],
        ..parts()
    })
    .unwrap();
    for (message, siaddr) in [
        (discover(), Ipv4Addr::new(10, 0, 0, 9)),
        (reboot(ADDRESS), Ipv4Addr::new(10, 0, 0, 9)),
        (reboot(OTHER_ADDRESS), NOBODY),
    ] {
        let (_, _, reply) = reply_from(&pool, &Frame::from_client(&message));
        assert_eq!(reply.siaddr, siaddr);
    }
}

fn informs() -> Bootp {
    let mut message = Bootp::request(CLIENT, XID).option(53, &[8]);
    message.ciaddr = ADDRESS;
    message
}

#[test]
fn an_answer_to_an_inform_has_the_options_of_the_pool_and_no_lease() {
    for message in [informs(), informs().broadcast()] {
        let (outcome, frame, reply) = reply_to(&Frame::from_client(&message.option(61, &[9, 9])));
        assert_eq!(outcome, Outcome::InformAck);
        assert_eq!((frame.destination, frame.destination_ip), (CLIENT, ADDRESS));
        assert_eq!(frame.destination_port, 68);
        assert_eq!((reply.ciaddr, reply.yiaddr), (ADDRESS, NOBODY));
        assert_eq!(codes(&reply), [53, 54, 1, 3, 6, 61]);
        assert_eq!(reply.message_type(), Some(5));
        assert_eq!(reply.address(54), Some(SERVER));
        assert_eq!(reply.get(6), Some(&[9, 9, 9, 9, 149, 112, 112, 112][..]));
    }
}

#[test]
fn an_answer_to_an_inform_has_what_was_asked_for() {
    let message = informs().option(55, &[6, 252]).option(82, &[1, 1, 9]);
    let (_, _, reply) = reply_to(&Frame::from_client(&message));
    assert_eq!(codes(&reply), [53, 54, 6, 82]);
    let message = informs().option(55, &[252]);
    let (_, _, reply) = reply_to(&Frame::from_client(&message));
    assert_eq!(codes(&reply), [53, 54]);
}

/// RFC 2131 4.3.5: whoever informs has an address and is reached there.
#[test]
fn an_answer_to_an_inform_goes_to_the_client_even_through_a_relay() {
    let (_, frame, _) = reply_to(&relayed(&informs()));
    assert_eq!(
        (frame.destination, frame.destination_ip),
        (RELAY_MAC, ADDRESS)
    );
    assert_eq!((frame.source_port, frame.destination_port), (67, 68));
}

/// RFC 4039 3.1: the option says that no REQUEST is to follow.
#[test]
fn an_ack_to_a_discover_carries_rapid_commit_behind_the_pools_options() {
    let rapid = encode(&ProfileParts {
        rapid_commit: true,
        ..parts()
    })
    .unwrap();
    // The pool's options end at an odd offset: once with the option at it, once with the rest.
    for list in [&[1, 3, 6][..], &[1]] {
        let message = Bootp::request(CLIENT, XID).option(80, &[]).option(53, &[1]);
        let message = message.option(55, list).option(61, &[1, 2, 3]);
        let message = message.option(82, &[1, 2, 3, 4]);
        let (outcome, frame, reply) = reply_from(&rapid, &Frame::from_client(&message));
        assert_eq!((outcome, reply.message_type()), (Outcome::Ack, Some(5)));
        let expected = [&[53, 54, 51, 58, 59], list, &[80, 61, 82]].concat();
        assert_eq!(codes(&reply), expected);
        assert_eq!((reply.get(80), reply.yiaddr), (Some(&[][..]), ADDRESS));
        assert_eq!(frame.destination_ip, ADDRESS);
        let (outcome, _, reply) = reply_to(&Frame::from_client(&message));
        assert_eq!((outcome, reply.get(80)), (Outcome::Offer, None));
    }
    let (_, _, reply) = reply_from(
        &rapid,
        &Frame::from_client(&reboot(ADDRESS).option(80, &[])),
    );
    assert_eq!((reply.message_type(), reply.get(80)), (Some(5), None));
}

/// RFC 6842 and RFC 3046 2.2.
#[test]
fn options_61_and_82_are_echoed_with_82_last_wherever_they_stood() {
    let (id, relay) = ([1, 2, 3, 4, 5].to_vec(), [1, 3, 7, 8, 9, 2, 1, 4].to_vec());
    for message in [discover(), reboot(ADDRESS), reboot(OTHER_ADDRESS)] {
        for id_at in 0..=message.options.len() {
            for relay_at in 0..=message.options.len() + 1 {
                let mut message = message.clone();
                message.options.insert(id_at, (61, id.clone()));
                message.options.insert(relay_at, (82, relay.clone()));
                for frame in [Frame::from_client(&message), relayed(&message)] {
                    let (_, _, reply) = reply_to(&frame);
                    let last = &reply.options[reply.options.len() - 2..];
                    assert_eq!(last, [(61, id.clone()), (82, relay.clone())]);
                    assert!(reply.end && reply.trailer.is_empty());
                }
            }
        }
    }
}

#[test]
fn nothing_is_echoed_that_was_not_sent() {
    let (_, _, reply) = reply_to(&Frame::from_client(&discover()));
    assert_eq!((reply.get(61), reply.get(82)), (None, None));
}

#[test]
fn tags_are_kept_with_type_priority_and_drop_eligibility() {
    let eligible = Tag {
        protocol: 0x88a8,
        tci: 0xb000 | 200,
    };
    let old = Tag {
        protocol: 0x9100,
        tci: 0x2000 | 200,
    };
    for tags in [
        [].to_vec(),
        [Tag::c_vlan(100).priority(7)].to_vec(),
        [Tag::c_vlan(0).priority(3)].to_vec(),
        [eligible, Tag::c_vlan(30).priority(1)].to_vec(),
        [old, Tag::c_vlan(4094)].to_vec(),
    ] {
        for message in [discover(), discover().broadcast(), reboot(OTHER_ADDRESS)] {
            let mut frame = Frame::from_client(&message);
            frame.tags = tags.clone();
            let (_, bytes) = exchange(&frame.build()).unwrap();
            assert_checksums(&bytes, tags.len());
            let reply = Frame::parse(&bytes).unwrap();
            assert_eq!(reply.tags, tags);
            assert_eq!((reply.ttl, reply.fragment), (64, 0x4000));
        }
    }
}

#[test]
fn every_real_client_is_answered_in_every_state() {
    for client in Client::ALL {
        for (says, kind) in [
            (Says::Discover, 2),
            (Says::Select(ADDRESS, SERVER), 5),
            (Says::Reboot(ADDRESS), 5),
            (Says::Renew(ADDRESS), 5),
            (Says::Rebind(ADDRESS), 5),
            (Says::Reboot(OTHER_ADDRESS), 6),
        ] {
            let (_, _, reply) = reply_to(&client.frame(CLIENT, XID, says));
            assert_eq!(reply.message_type(), Some(kind), "{client:?} {says:?}");
            assert_eq!((reply.xid, reply.mac()), (XID, CLIENT));
        }
    }
}
