//! Profiles: what a pool says, in the order and the limits of the wire.

use std::string::ToString as _;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::testing::{GATEWAY_MAC, LEASE, SERVER, parts, plain_sum};

/// The options of a profile, as (code, value), found by their codes alone.
fn own_options(profile: &Profile) -> Vec<(u8, Vec<u8>)> {
    let mut rest = &profile.options.as_bytes()[..used(profile)];
    let mut found = Vec::new();
    while let [code, len, behind @ ..] = rest {
        let (value, next) = behind.split_at(usize::from(*len));
        found.push((*code, value.to_vec()));
        rest = next;
    }
    assert!(rest.is_empty());
    found
}

/// Bytes of all options together.
fn used(profile: &Profile) -> usize {
    let encoded = profile.encoded.iter();
    encoded.map(|one| usize::from(one.len)).sum()
}

/// Bits, places and sums are those of the options, and zeros stand behind them.
fn assert_whole(profile: &Profile) {
    let bytes = profile.options.as_bytes();
    assert!(bytes[used(profile)..].iter().all(|byte| *byte == 0));
    let options = own_options(profile);
    assert_eq!(profile.count as usize, options.len());
    assert_eq!(u64::from(profile.all), (1 << options.len()) - 1);
    assert!(options.is_sorted_by_key(|(code, _)| *code));
    let mut bits = [31; 256];
    for (bit, (code, value)) in options.iter().enumerate() {
        bits[usize::from(*code)] = bit as u8;
        let one = profile.encoded[bit];
        let (offset, len) = (usize::from(one.offset), usize::from(one.len));
        assert_eq!(
            bytes[offset..offset + len],
            [&[*code, value.len() as u8], &value[..]].concat()
        );
        // In memory order, as if it stood at an even offset.
        let sum = (plain_sum(&bytes[offset..offset + len]) as u16).swap_bytes();
        assert_eq!(one.sum, u32::from(sum), "option {code}");
    }
    assert_eq!(profile.bits, bits);
    let behind = &profile.encoded[options.len()..];
    assert!(behind.iter().all(|one| *one == Encoded::default()));
}

#[test]
fn a_profile_has_its_options_by_code_and_zeros_behind() {
    let profile = encode(&parts()).unwrap();
    assert_eq!((profile.present, profile.lease_secs), (1, LEASE));
    assert_eq!(profile.server_id, SERVER.octets());
    assert_eq!(profile.gateway_mac, GATEWAY_MAC);
    assert_eq!(
        (profile.rapid_commit, profile.count, profile.all),
        (0, 3, 0b111)
    );
    assert_eq!(
        own_options(&profile),
        [
            (1, [255, 192, 0, 0].to_vec()),
            (3, [100, 64, 0, 1].to_vec()),
            (6, [9, 9, 9, 9, 149, 112, 112, 112].to_vec()),
        ]
    );
    assert_whole(&profile);
}

/// One value for every option that a pool may carry.
fn many(count: usize) -> Vec<(u8, &'static [u8])> {
    (100..)
        .take(count)
        .map(|code| (code, &b"abc"[..]))
        .collect()
}

#[test]
fn a_pool_may_have_thirty_one_options_and_no_more() {
    let custom = many(28);
    let with = |custom: &[(u8, &[u8])]| encode(&ProfileParts { custom, ..parts() });
    let profile = with(&custom).unwrap();
    assert_eq!(profile.all, u32::MAX >> 1);
    assert_eq!(own_options(&profile).len(), OPTION_BITS);
    assert_eq!(profile.bits[127], 30);
    assert_whole(&profile);
    let error = with(&many(29)).unwrap_err();
    assert_eq!(error, ProfileError::TooMany { count: 32 });
    assert!(
        error
            .to_string()
            .contains("32 DHCP options, 31 are the most")
    );
    // Far too many, and far too long.
    let error = with(&many(140)).unwrap_err();
    assert_eq!(error, ProfileError::TooMany { count: 143 });
}

#[test]
fn rapid_commit_is_the_choice_of_a_pool() {
    let rapid = ProfileParts {
        rapid_commit: true,
        ..parts()
    };
    assert_eq!(encode(&rapid).unwrap().rapid_commit, 1);
}

proptest! {
    #[test]
    fn every_profile_has_right_places_and_sums(
        custom in prop::collection::btree_map(70_u8..=254, prop::collection::vec(any::<u8>(), 1..20), 0..12),
    ) {
        let custom: Vec<(u8, &[u8])> = custom
            .iter()
            .filter(|(code, _)| !is_reserved(**code))
            .map(|(code, value)| (*code, &value[..]))
            .collect();
        let parts = ProfileParts { custom: &custom, ..parts() };
        match encode(&parts) {
            Ok(profile) => assert_whole(&profile),
            Err(ProfileError::TooLong { needed }) => prop_assert!(needed > OPTIONS_CAPACITY),
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        }
    }
}

/// RFC 2132 3.3: the mask comes before the routers.
#[test]
fn options_stand_by_ascending_code_wherever_they_come_from() {
    let profile = encode(&ProfileParts {
        domain_name: Some("example.net"),
        mtu: Some(1492),
        ntp: &[[10, 0, 0, 1]],
        custom: &[
            (121, &[0, 100, 64, 0, 1]),
            (2, &[0, 0, 0x0e, 0x10]),
            (28, &[100, 127, 255, 255]),
        ],
        ..parts()
    })
    .unwrap();
    let options = own_options(&profile);
    let codes: Vec<u8> = options.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [1, 2, 3, 6, 15, 26, 28, 42, 121]);
    assert_eq!(options[4].1, b"example.net");
    assert_eq!(options[5].1, 1492_u16.to_be_bytes());
}

#[test]
fn a_custom_option_replaces_the_field_of_its_code() {
    let profile = encode(&ProfileParts {
        custom: &[(3, &[100, 64, 0, 254])],
        ..parts()
    })
    .unwrap();
    assert_eq!(own_options(&profile)[1], (3, [100, 64, 0, 254].to_vec()));
}

#[test]
fn what_a_pool_does_not_say_is_left_out() {
    let profile = encode(&ProfileParts {
        routers: &[],
        dns: &[],
        domain_name: Some(""),
        ..parts()
    })
    .unwrap();
    assert_eq!(own_options(&profile), [(1, [255, 192, 0, 0].to_vec())]);
}

#[test]
fn options_that_the_server_sets_are_refused_by_name() {
    for code in [0, 50, 51, 52, 53, 54, 55, 57, 58, 59, 61, 80, 82, 255] {
        let error = encode(&ProfileParts {
            custom: &[(code, &[1])],
            ..parts()
        })
        .unwrap_err();
        assert_eq!(error, ProfileError::Reserved { code });
        assert!(error.to_string().contains(&std::format!("option {code} ")));
    }
}

#[test]
fn options_may_be_as_long_as_their_capacity_and_not_a_byte_longer() {
    // Mask, router and two name servers.
    let free = OPTIONS_CAPACITY - 6 - 6 - 10 - 2;
    let value = [7; 255];
    let with = |len: usize| {
        encode(&ProfileParts {
            custom: &[(43, &value[..len])],
            ..parts()
        })
    };
    let full = with(free).unwrap();
    assert_eq!(used(&full), OPTIONS_CAPACITY);
    assert_whole(&full);
    let needed = OPTIONS_CAPACITY + 1;
    assert_eq!(with(free + 1), Err(ProfileError::TooLong { needed }));
    assert!(
        ProfileError::TooLong { needed }
            .to_string()
            .contains("257 bytes")
    );
}

#[test]
fn values_that_no_option_can_carry_are_refused() {
    let length = |code, len| Err(ProfileError::ValueLength { code, len });
    let empty = ProfileParts {
        custom: &[(43, &[])],
        ..parts()
    };
    assert_eq!(encode(&empty), length(43, 0));
    let long = ProfileParts {
        custom: &[(43, &[0; 256])],
        ..parts()
    };
    assert_eq!(encode(&long), length(43, 256));
    let servers = [[10, 0, 0, 1]; 64];
    let many = ProfileParts {
        dns: &servers,
        ..parts()
    };
    assert_eq!(encode(&many), length(6, 256));
}

#[test]
fn a_lease_time_of_zero_is_refused() {
    let none = ProfileParts {
        lease_secs: 0,
        ..parts()
    };
    assert_eq!(encode(&none), Err(ProfileError::NoLease));
}
