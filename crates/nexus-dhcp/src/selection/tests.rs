//! Lists of options (55): every length, every place, and what the pool does not have.

use std::vec::Vec;

use nexus_testkit::packet::{Bootp, Frame};
use proptest::prelude::*;

use super::*;
use crate::decision::decide;
use crate::packet::Bytes;
use crate::profile::{ProfileParts, encode};
use crate::testing::{CLIENT, NOW, binding, codes, exchange_of, parts, profile, read, reply_from};

/// The set that a DISCOVER with this list asks for; the list ends with the frame but for END.
fn set(list: &[u8], profile: &Profile) -> u32 {
    let mut message = Bootp::request(CLIENT, 7).option(53, &[1]).option(55, list);
    message.min_len = 0;
    let frame = Frame::from_client(&message).build();
    let request = read(&frame).unwrap();
    assert_eq!(
        request.options.parameters.offset + list.len() + 1,
        frame.len()
    );
    let answer = decide(&request, &binding(), profile, NOW).unwrap();
    wanted(&Bytes(&frame), &request, &answer, profile).unwrap()
}

fn bit(profile: &Profile, code: u8) -> u32 {
    1 << profile.bits[usize::from(code)]
}

#[test]
fn without_a_list_a_client_is_told_everything() {
    let frame = Frame::from_client(&Bootp::request(CLIENT, 7).option(53, &[1])).build();
    let request = read(&frame).unwrap();
    let answer = decide(&request, &binding(), &profile(), NOW).unwrap();
    let found = wanted(&Bytes(&frame), &request, &answer, &profile());
    assert_eq!(found, Ok(profile().all));
}

#[test]
fn a_list_gives_the_bits_of_what_the_pool_has_in_any_order() {
    let profile = profile();
    let (mask, routers, dns) = (bit(&profile, 1), bit(&profile, 3), bit(&profile, 6));
    assert_eq!(mask | routers | dns, profile.all);
    for (list, expected) in [
        (&[1, 3, 6][..], profile.all),
        (&[6, 3, 1], profile.all),
        (&[3], routers),
        (&[3, 3, 3], routers),
        (&[51, 54, 58, 59], 0),
        (&[252, 6, 0, 255, 121, 1], mask | dns),
    ] {
        assert_eq!(set(list, &profile), expected, "{list:?}");
    }
}

#[test]
fn an_option_is_found_at_every_place_of_a_list_of_every_length() {
    let profile = profile();
    for len in 1..=255 {
        let mut list = std::vec![250; len];
        assert_eq!(set(&list, &profile), 0);
        for at in [0, len / 2, len - 1] {
            list[at] = 6;
            assert_eq!(set(&list, &profile), bit(&profile, 6), "{at} of {len}");
            list[at] = 250;
        }
    }
}

#[test]
fn a_list_of_all_codes_gives_all_that_the_pool_has() {
    let codes: Vec<u8> = (1..=255).collect();
    assert_eq!(set(&codes, &profile()), profile().all);
    let many: Vec<(u8, &[u8])> = (201..=228).map(|code| (code, &b"x"[..])).collect();
    let full = ProfileParts {
        custom: &many,
        ..parts()
    };
    let full = encode(&full).unwrap();
    assert_eq!(full.all, u32::MAX >> 1);
    assert_eq!(set(&codes, &full), full.all);
    assert_eq!(set(&[228], &full), 1 << 30);
}

#[test]
fn a_refusal_carries_none_of_the_pools_options_whatever_is_asked_for() {
    for list in [None, Some(&[1, 3, 6][..])] {
        let mut message = Bootp::request(CLIENT, 7).option(53, &[3]);
        message = message.option(50, &[10, 9, 8, 7]);
        if let Some(list) = list {
            message = message.option(55, list);
        }
        let frame = Frame::from_client(&message).build();
        let request = read(&frame).unwrap();
        let answer = decide(&request, &binding(), &profile(), NOW).unwrap();
        assert_eq!(answer.outcome, Outcome::Nak);
        let found = wanted(&Bytes(&frame), &request, &answer, &profile());
        assert_eq!(found, Ok(0));
    }
}

#[test]
fn the_length_of_a_set_is_that_of_its_options() {
    let profile = profile();
    for set in 0..8_u32 {
        let lens = [6, 6, 10].into_iter().enumerate();
        let expected: usize = lens
            .filter(|(bit, _)| set >> bit & 1 == 1)
            .map(|(_, len)| len)
            .sum();
        assert_eq!(encoded_len(&profile, set), expected);
        // Bits that no option has count nothing.
        assert_eq!(encoded_len(&profile, set | 1 << 31 | 1 << 20), expected);
    }
}

// What goes on the wire.

#[test]
fn a_reply_has_the_listed_options_by_ascending_code_and_what_no_list_can_change() {
    let wide = encode(&ProfileParts {
        domain_name: Some("example.net"),
        mtu: Some(1492),
        custom: &[(121, &[0, 100, 64, 0, 1]), (43, b"vendor")],
        ..parts()
    })
    .unwrap();
    for (list, expected) in [
        (
            &[1, 3, 6, 15, 26, 43, 121][..],
            &[1, 3, 6, 15, 26, 43, 121][..],
        ),
        (&[121, 26, 1], &[1, 26, 121]),
        (&[43, 6, 6], &[6, 43]),
        (&[12, 51, 53, 82, 61], &[]),
    ] {
        let message = Bootp::request(CLIENT, 7).option(53, &[1]).option(55, list);
        let message = message.option(61, &[1, 2]).option(82, &[1, 1, 9]);
        let (_, _, reply) = reply_from(&wide, &Frame::from_client(&message));
        let expected = [&[53, 54, 51, 58, 59], expected, &[61, 82]].concat();
        assert_eq!(codes(&reply), expected, "{list:?}");
        // A NAK has none of the pool's, whatever is asked for.
        let message = Bootp::request(CLIENT, 7).option(53, &[3]);
        let message = message.option(50, &[10, 9, 8, 7]).option(55, list);
        let (_, _, nak) = reply_from(&wide, &Frame::from_client(&message));
        assert_eq!(codes(&nak), [53, 54]);
    }
}

proptest! {
    #[test]
    fn the_set_is_that_of_a_plain_search(
        list in prop::collection::vec(any::<u8>(), 1..=255),
        own in prop::collection::btree_set(60_u8..=254, 0..20),
    ) {
        let custom: Vec<(u8, &[u8])> = own
            .iter()
            .filter(|code| !crate::profile::is_reserved(**code))
            .map(|code| (*code, &b"value"[..]))
            .collect();
        let parts = ProfileParts { custom: &custom, ..parts() };
        let profile = encode(&parts).unwrap();
        let has = |code: u8| [1, 3, 6].contains(&code) || custom.iter().any(|(at, _)| *at == code);
        let mut expected: Vec<u8> = list.iter().copied().filter(|code| has(*code)).collect();
        expected.sort_unstable();
        expected.dedup();
        let mut plain = 0;
        for code in &expected {
            plain |= bit(&profile, *code);
        }
        prop_assert_eq!(set(&list, &profile), plain);
    }
}

#[test]
fn a_client_that_asks_for_nothing_that_there_is_still_gets_its_lease() {
    let message = Bootp::request(CLIENT, 7)
        .option(53, &[1])
        .option(55, &[252]);
    let frame = Frame::from_client(&message).build();
    let (_, reply) = exchange_of(&frame, &binding(), &profile()).unwrap();
    let reply = Frame::parse(&reply).unwrap().bootp().unwrap();
    assert_eq!(codes(&reply), [53, 54, 51, 58, 59]);
}
