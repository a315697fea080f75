//! Replies, byte by byte: where they go, what they carry, what stands behind them.

use std::net::Ipv4Addr;
use std::vec::Vec;

use nexus_abi::Outcome;
use nexus_testkit::packet::clients::{Client, Says};
use nexus_testkit::packet::{Bootp, Frame, MAC_BROADCAST, Mac, Tag};

use super::*;
use crate::profile::{ProfileParts, encode};
use crate::testing::{
    ADDRESS, CLIENT, GATEWAY_MAC, NOW, OTHER_ADDRESS, RELAY, SERVER, binding, exchange,
    exchange_into, outcome_of, parts, profile, read, reboot, reply_to,
};
use crate::{Bytes, inform};

mod property;

const XID: u32 = 0xdead_beef;
const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const RELAY_MAC: Mac = [2, 0, 0, 0, 0, 0x99];

fn discover() -> Bootp {
    Bootp::discover(CLIENT, XID)
}

/// `message` as the relay forwards it.
fn relayed(message: &Bootp) -> Frame {
    let mut frame = Frame::from_client(&message.clone().relay(RELAY)).unicast(GATEWAY_MAC, SERVER);
    frame.source = RELAY_MAC;
    frame.source_ip = RELAY;
    frame.source_port = 67;
    frame
}

/// The one's complement sum over big-endian words, as RFC 1071 1 defines it: slow and plain.
fn plain_sum(bytes: &[u8]) -> u32 {
    let mut sum = 0_u32;
    for (at, byte) in bytes.iter().enumerate() {
        sum += u32::from(*byte) << if at % 2 == 0 { 8 } else { 0 };
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

/// Both checksums of a reply are there and right.
fn assert_checksums(reply: &[u8], tags: usize) {
    let ip = &reply[14 + 4 * tags..];
    assert_eq!(plain_sum(&ip[..20]), 0xffff, "IP");
    assert_ne!(ip[26..28], [0, 0], "a UDP checksum of zero means none");
    let mut covered = ip[12..20].to_vec();
    covered.extend([0, 17]);
    covered.extend(&ip[24..26]);
    covered.extend(&ip[20..]);
    assert_eq!(plain_sum(&covered), 0xffff, "UDP");
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
    let profile = encode(&ProfileParts {
        next_server: [10, 0, 0, 9],
        ..parts()
    })
    .unwrap();
    for (message, siaddr) in [
        (discover(), Ipv4Addr::new(10, 0, 0, 9)),
        (reboot(ADDRESS), Ipv4Addr::new(10, 0, 0, 9)),
        (reboot(OTHER_ADDRESS), NOBODY),
    ] {
        let frame = Frame::from_client(&message).build();
        let reply = exchange_into(&mut Reply::default(), &frame, &binding(), &profile);
        let reply = Frame::parse(&reply.unwrap().1).unwrap().bootp().unwrap();
        assert_eq!(reply.siaddr, siaddr);
    }
}

#[test]
fn an_answer_to_an_inform_has_the_options_of_the_pool_and_no_lease() {
    let mut message = Bootp::request(CLIENT, XID)
        .option(53, &[8])
        .option(61, &[9, 9]);
    message.ciaddr = ADDRESS;
    let bytes = Frame::from_client(&message).build();
    let request = read(&bytes).unwrap();
    let answer = inform(&request, &binding(), &profile(), NOW).unwrap();
    let mut reply = Reply::default();
    let span = reply
        .write(&Bytes(&bytes), &request, &answer, &profile())
        .unwrap();
    let frame = Frame::parse(reply.frame(span)).unwrap();
    assert_checksums(reply.frame(span), 0);
    assert_eq!((frame.destination, frame.destination_ip), (CLIENT, ADDRESS));
    assert_eq!(frame.destination_port, 68);
    let reply = frame.bootp().unwrap();
    assert_eq!((reply.ciaddr, reply.yiaddr), (ADDRESS, NOBODY));
    let codes: Vec<u8> = reply.options.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [53, 54, 1, 3, 6, 61]);
    assert_eq!(reply.message_type(), Some(5));
}

/// RFC 2131 4.3.5: whoever informs has an address and is reached there.
#[test]
fn an_answer_to_an_inform_goes_to_the_client_even_through_a_relay() {
    let mut message = Bootp::request(CLIENT, XID).option(53, &[8]);
    message.ciaddr = ADDRESS;
    let bytes = relayed(&message).build();
    let request = read(&bytes).unwrap();
    let answer = inform(&request, &binding(), &profile(), NOW).unwrap();
    let mut reply = Reply::default();
    let span = reply
        .write(&Bytes(&bytes), &request, &answer, &profile())
        .unwrap();
    let frame = Frame::parse(reply.frame(span)).unwrap();
    assert_eq!(
        (frame.destination, frame.destination_ip),
        (RELAY_MAC, ADDRESS)
    );
    assert_eq!((frame.source_port, frame.destination_port), (67, 68));
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

// Length.

#[test]
fn a_reply_has_three_hundred_bytes_of_bootp_at_least_and_no_padding_beyond() {
    let (_, nak) = exchange(&Frame::from_client(&reboot(OTHER_ADDRESS)).build()).unwrap();
    assert_eq!(nak.len(), 14 + 28 + 300);
    // 240 to the cookie, 49 of the pool: 11 are free, END takes one of them.
    let offer = |id: usize| {
        let message = discover().option(61, &[7; 255][..id]);
        exchange(&Frame::from_client(&message).build())
            .unwrap()
            .1
            .len()
    };
    assert_eq!(offer(8), 14 + 28 + 300);
    assert_eq!(offer(9), 14 + 28 + 301);
    assert_eq!(offer(10), 14 + 28 + 302);
}

#[test]
fn behind_end_stand_zeros_whatever_reply_the_buffer_held_before() {
    let long = Frame::from_client(&discover().option(61, &[0xff; 200]).option(57, &[5, 220]));
    let long = long.build();
    for id in 1..=40 {
        let mut reused = Reply::default();
        exchange_into(&mut reused, &long, &binding(), &profile()).unwrap();
        for message in [discover(), reboot(OTHER_ADDRESS)] {
            let frame = Frame::from_client(&message.option(61, &[0xee; 40][..id])).build();
            let again = exchange_into(&mut reused, &frame, &binding(), &profile()).unwrap();
            let fresh = exchange(&frame).unwrap();
            assert_eq!(again, fresh, "{id}");
            let reply = Frame::parse(&again.1).unwrap().bootp().unwrap();
            assert!(reply.end && reply.trailer.is_empty(), "{id}");
        }
    }
}

#[test]
fn checksums_are_right_at_every_length_in_a_buffer_that_held_the_longest_reply() {
    let longest = discover().option(57, &[5, 220]).option(61, &[0xff; 255]);
    let longest = Frame::from_client(&longest.option(82, &[0xff; 255])).build();
    let mut dirty = Reply::default();
    exchange_into(&mut dirty, &longest, &binding(), &profile()).unwrap();
    for id in 1..=255 {
        let message = discover()
            .option(57, &[5, 220])
            .option(61, &[0xa7; 255][..id]);
        for message in [message.clone(), message.option(82, &[0x5b; 200])] {
            for frame in [Frame::from_client(&message), relayed(&message)] {
                let frame = frame.build();
                let mut reply = dirty;
                let (_, sent) = exchange_into(&mut reply, &frame, &binding(), &profile()).unwrap();
                assert_checksums(&sent, 0);
                assert_eq!(sent, exchange(&frame).unwrap().1);
            }
        }
    }
}

/// A UDP checksum of zero would mean that there is none (RFC 768).
#[test]
fn a_udp_checksum_that_comes_to_zero_is_sent_as_all_ones() {
    let checksum = |xid: u32| {
        let reply = exchange(&Frame::from_client(&Bootp::discover(CLIENT, xid)).build()).unwrap();
        (reply.1[40], reply.1[41])
    };
    let met = (0..=0xffff).find(|xid| checksum(*xid) == (0xff, 0xff));
    let bytes = exchange(&Frame::from_client(&Bootp::discover(CLIENT, met.unwrap())).build());
    assert_checksums(&bytes.unwrap().1, 0);
    assert!((0..=0xffff).all(|xid| checksum(xid) != (0, 0)));
}

/// RFC 2132 9.10.
#[test]
fn option_57_counts_the_headers_and_is_at_least_576() {
    let sized = |id: usize, size: Option<u16>| {
        let mut message = discover().option(61, &[7; 255][..id / 2]);
        message = message.option(82, &[8; 255][..id - id / 2]);
        if let Some(size) = size {
            message = message.option(57, &size.to_be_bytes());
        }
        outcome_of(&message)
    };
    let base = 28 + 240 + 49 + 2 + 2 + 1;
    for small in [None, Some(0), Some(300), Some(575), Some(576)] {
        assert_eq!(sized(576 - base, small), Outcome::Offer, "{small:?}");
        assert_eq!(sized(577 - base, small), Outcome::Unsupported, "{small:?}");
    }
    assert_eq!(sized(577 - base, Some(577)), Outcome::Offer);
    assert_eq!(sized(700 - base, Some(700)), Outcome::Offer);
    assert_eq!(sized(701 - base, Some(700)), Outcome::Unsupported);
    assert_eq!(sized(510, Some(1500)), Outcome::Offer);
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
