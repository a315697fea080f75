//! How long replies are, what is left out to make them fit, and what stands behind their last option.

use std::vec::Vec;

use nexus_abi::Outcome;
use nexus_testkit::packet::{Bootp, Frame, Tag};

use super::{XID, discover};
use crate::decision::decide;
use crate::packet::Bytes;
use crate::profile::{ProfileParts, encode};
use crate::reply::Shape;
use crate::selection::wanted;
use crate::testing::{
    ADDRESS, CLIENT, NOW, OTHER_ADDRESS, assert_checksums, binding, codes, exchange, exchange_of,
    outcome_of, parts, plain_sum, profile, read, reboot, relayed, reply_from, reply_to,
};

/// Ethernet, IPv4 and UDP.
const HEAD: usize = 14 + 28;
/// Bytes of a reply of the plain pool up to where 61 and 82 stand, IP and UDP included.
const PLAIN: usize = 28 + 240 + 27 + 22;
/// END, and the zeros that always follow it.
const END: usize = 8;

/// A DISCOVER whose options 61 and 82 have `len` bytes together, codes and lengths included.
fn echoing(len: usize) -> Bootp {
    let (id, relay) = ((len - 4) / 2, (len - 4).div_ceil(2));
    discover()
        .option(61, &[7; 255][..id])
        .option(82, &[8; 255][..relay])
}

#[test]
fn a_reply_has_three_hundred_bytes_of_bootp_at_least() {
    let (_, nak) = exchange(&Frame::from_client(&reboot(OTHER_ADDRESS)).build()).unwrap();
    assert_eq!(nak.len(), HEAD + 300);
    let mut short = discover();
    short.min_len = 0;
    let (_, offer) = exchange(&Frame::from_client(&short).build()).unwrap();
    assert_eq!(offer.len(), HEAD + 300);
    // 240 to the cookie, 49 of the pool and 8 of END: three are free.
    for (id, len) in [(1, 300), (2, 301), (3, 302), (100, 399)] {
        let frame = Frame::from_client(&discover().option(61, &[7; 255][..id]));
        assert_eq!(exchange(&frame.build()).unwrap().1.len(), HEAD + len);
    }
}

#[test]
fn a_reply_is_as_long_as_its_request_if_the_client_takes_that() {
    let lengths = |min_len: usize, size: Option<u16>| {
        let with = |mut message: Bootp| {
            message.min_len = min_len;
            let message = match size {
                Some(size) => message.option(57, &size.to_be_bytes()),
                None => message,
            };
            let (_, frame, reply) = reply_to(&Frame::from_client(&message));
            assert!(reply.end && reply.trailer.is_empty());
            frame.payload.len()
        };
        let mut lens = [discover(), reboot(ADDRESS), reboot(OTHER_ADDRESS)].map(with);
        lens.sort_unstable();
        assert_eq!(lens[0], lens[2]);
        lens[0]
    };
    assert_eq!(lengths(300, None), 300);
    assert_eq!(lengths(301, None), 301);
    assert_eq!(lengths(548, None), 548);
    assert_eq!(lengths(549, None), 548);
    assert_eq!(lengths(1472, None), 548);
    assert_eq!(lengths(1472, Some(300)), 548);
    assert_eq!(lengths(1472, Some(1000)), 972);
    assert_eq!(lengths(1472, Some(1499)), 1471);
    assert_eq!(lengths(1472, Some(1500)), 1472);
    assert_eq!(lengths(1472, Some(u16::MAX)), 1472);
}

#[test]
fn padding_of_the_frame_makes_no_reply_longer() {
    for tags in [Vec::new(), [Tag::s_vlan(1), Tag::c_vlan(2)].to_vec()] {
        let mut frame = Frame::from_client(&discover());
        frame.tags = tags;
        let expected = exchange(&frame.build()).unwrap();
        for behind in [1, 2, 46, 1000] {
            let mut padded = frame.build();
            padded.resize(padded.len() + behind, 0xee);
            assert_eq!(exchange(&padded).unwrap(), expected);
        }
    }
}

/// RFC 2132 9.10: it counts the headers and is at least 576.
#[test]
fn a_reply_beyond_option_57_has_no_shape() {
    let shape = |echoed: usize, size: Option<u16>| {
        let mut message = echoing(echoed);
        if let Some(size) = size {
            message = message.option(57, &size.to_be_bytes());
        }
        let frame = Frame::from_client(&message).build();
        let request = read(&frame).unwrap();
        let (packet, profile) = (Bytes(&frame), profile());
        let answer = decide(&request, &binding(), &profile, NOW).unwrap();
        let set = wanted(&packet, &request, &answer, &profile).unwrap();
        Shape::of(&packet, &request, &answer, &profile, set).map(|shape| shape.len - 14)
    };
    for small in [None, Some(0), Some(300), Some(575), Some(576)] {
        assert_eq!(shape(576 - PLAIN - END, small), Ok(576), "{small:?}");
        let over = shape(577 - PLAIN - END, small);
        assert_eq!(over, Err(Outcome::Unsupported), "{small:?}");
    }
    assert_eq!(shape(577 - PLAIN - END, Some(577)), Ok(577));
    assert_eq!(shape(700 - PLAIN - END, Some(700)), Ok(700));
    let over = shape(701 - PLAIN - END, Some(700));
    assert_eq!(over, Err(Outcome::Unsupported));
    assert_eq!(shape(514, Some(1500)), Ok(PLAIN + 514 + END));
}

/// What the slow path does then, and the kernel program does not.
#[test]
fn a_reply_that_is_too_large_goes_without_the_options_of_the_highest_codes() {
    let room = 576 - PLAIN - END;
    let list = |echoed: usize| {
        let (_, frame, reply) = reply_to(&Frame::from_client(&echoing(echoed)));
        assert!(frame.payload.len() <= 548);
        assert_eq!(
            (reply.get(61).is_some(), reply.get(82).is_some()),
            (true, true)
        );
        codes(&reply)
    };
    let head = [53, 54, 51, 58, 59];
    for (echoed, own) in [
        (room, &[1, 3, 6][..]),
        (room + 1, &[1, 3]),
        (room + 10, &[1, 3]),
        (room + 11, &[1]),
        (room + 16, &[1]),
        (room + 17, &[]),
        (room + 22, &[]),
    ] {
        let expected = [&head, own, &[61, 82]].concat();
        assert_eq!(list(echoed), expected, "{echoed} bytes");
    }
    assert_eq!(outcome_of(&echoing(room + 23)), Outcome::Unsupported);
}

#[test]
fn a_nak_that_is_too_large_is_none() {
    let nak = |echoed: usize| {
        let mut message = reboot(OTHER_ADDRESS);
        message.options.extend(echoing(echoed).options.split_off(2));
        outcome_of(&message)
    };
    let room = 576 - 28 - 240 - 9 - END;
    assert_eq!(nak(room), Outcome::Nak);
    assert_eq!(nak(room + 1), Outcome::Unsupported);
}

#[test]
fn what_is_left_out_comes_from_what_was_asked_for() {
    let wide = encode(&ProfileParts {
        custom: &[(43, &[9; 120]), (121, &[8; 100])],
        ..parts()
    })
    .unwrap();
    let list = |list: &[u8]| {
        let mut message = echoing(100);
        message.options[1] = (55, list.to_vec());
        let (_, _, reply) = reply_from(&wide, &Frame::from_client(&message));
        codes(&reply)[5..].to_vec()
    };
    assert_eq!(list(&[1, 3, 6, 43, 121]), [1, 3, 6, 43, 61, 82]);
    assert_eq!(list(&[1, 121]), [1, 121, 61, 82]);
}

/// Everything that a reply does not mean to repeat is 0xee in these requests.
#[test]
fn nothing_of_a_request_is_left_in_its_reply_but_what_is_repeated() {
    for list in [&[1, 3, 6][..], &[1], &[252]] {
        for filler in [0, 1, 17, 200, 255] {
            for min_len in [0_usize, 548, 1472] {
                for base in [
                    discover(),
                    reboot(ADDRESS),
                    reboot(OTHER_ADDRESS),
                    Bootp::renew(CLIENT, XID & 0x0fff_ffff, ADDRESS),
                ] {
                    let mut message = base.option(224, &[0xee; 255][..filler]);
                    message.options.retain(|(code, _)| *code != 55);
                    message = message.option(61, &[1, 2, 3]).option(55, list);
                    (message.xid, message.secs, message.hops) = (7, 0xeeee, 0xee);
                    (message.yiaddr, message.siaddr) = ([0xee; 4].into(), [0xee; 4].into());
                    (message.sname, message.file) = ([0xee; 64], [0xee; 128]);
                    let used = message.build().len();
                    message.trailer = std::vec![0xee; min_len.saturating_sub(used)];
                    let mut frame = Frame::from_client(&message);
                    (frame.tos, frame.id, frame.ttl) = (0xee, 0xeeee, 0xee);
                    let mut bytes = frame.build();
                    bytes.resize(bytes.len() + 9, 0xee);
                    let (_, mut reply) = exchange(&bytes).unwrap();
                    assert_checksums(&reply, 0);
                    // The two checksums may come to anything.
                    reply[24..26].fill(0);
                    reply[40..42].fill(0);
                    assert!(!reply.contains(&0xee), "{list:?} {filler} {min_len}");
                }
            }
        }
    }
}

#[test]
fn checksums_are_right_at_every_length_of_what_is_echoed() {
    let profile = profile();
    for id in 1..=255 {
        let message = discover()
            .option(57, &[5, 220])
            .option(61, &[0xa7; 255][..id]);
        for message in [message.clone(), message.option(82, &[0x5b; 200])] {
            for frame in [Frame::from_client(&message), relayed(&message)] {
                let (_, sent) = exchange_of(&frame.build(), &binding(), &profile).unwrap();
                assert_checksums(&sent, 0);
            }
        }
    }
}

/// A UDP checksum of zero would mean that there is none (RFC 768).
#[test]
fn a_udp_checksum_that_comes_to_zero_is_sent_as_all_ones() {
    let profile = profile();
    let mut met = 0;
    for xid in 0..=0xffff {
        let frame = Frame::from_client(&Bootp::discover(CLIENT, xid)).build();
        let (_, sent) = exchange_of(&frame, &binding(), &profile).unwrap();
        assert_ne!(sent[40..42], [0, 0]);
        if sent[40..42] == [0xff, 0xff] {
            met += 1;
            assert_checksums(&sent, 0);
            // It is the other zero: without the field the sum is all ones already.
            let mut covered = sent[26..34].to_vec();
            covered.extend([0, 17]);
            covered.extend(&sent[38..40]);
            covered.extend(&sent[34..40]);
            covered.extend([0, 0]);
            covered.extend(&sent[42..]);
            assert_eq!(plain_sum(&covered), 0xffff);
        }
    }
    assert!(met > 0);
}
