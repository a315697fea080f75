//! Templates: what a pool says, in the order and the limits of the wire.

use std::string::ToString as _;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::testing::{GATEWAY_MAC, LEASE, SERVER, parts, plain_sum};

/// The bytes of a template that are in use.
fn bytes_of(template: &Template) -> &[u8] {
    &template.options.as_bytes()[..usize::from(template.len)]
}

/// The options of a template behind its head, as (code, value).
fn own_options(template: &Template) -> Vec<(u8, Vec<u8>)> {
    let mut rest = &bytes_of(template)[OPTIONS_HEAD..];
    let mut found = Vec::new();
    while let [code, len, behind @ ..] = rest {
        let (value, next) = behind.split_at(usize::from(*len));
        found.push((*code, value.to_vec()));
        rest = next;
    }
    assert!(rest.is_empty());
    found
}

/// The one's complement sum of bytes at an even offset, in memory order.
fn slow_sum(bytes: &[u8]) -> u32 {
    u32::from((plain_sum(bytes) as u16).swap_bytes())
}

/// Zeros behind the options, and both sums as a plain sum has them.
fn assert_whole(template: &Template) {
    let len = usize::from(template.len);
    assert!(
        template.options.as_bytes()[len..]
            .iter()
            .all(|byte| *byte == 0)
    );
    assert_eq!((template.reserved, template.reserved_too), (0, 0));
    assert_eq!(template.sum, slow_sum(bytes_of(template)));
    let mut tail = std::vec![0; SERVER_HEAD];
    tail.extend(&bytes_of(template)[OPTIONS_HEAD..]);
    assert_eq!(template.tail_sum, slow_sum(&tail));
}

#[test]
fn a_template_has_its_head_its_options_by_code_and_zeros_behind() {
    let (profile, template) = encode(&parts()).unwrap();
    assert_eq!((profile.present, profile.lease_secs), (1, LEASE));
    assert_eq!(profile.server_id, SERVER.octets());
    assert_eq!(profile.gateway_mac, GATEWAY_MAC);
    assert_eq!(profile.rapid_commit, 0);
    let head = [
        53, 1, 0, 54, 4, 100, 64, 0, 1, 51, 4, 0, 0, 0, 0, 58, 4, 0, 0, 0, 0, 59, 4, 0, 0, 0, 0,
    ];
    assert_eq!(bytes_of(&template)[..OPTIONS_HEAD], head);
    assert_eq!(
        own_options(&template),
        [
            (1, [255, 192, 0, 0].to_vec()),
            (3, [100, 64, 0, 1].to_vec()),
            (6, [9, 9, 9, 9, 149, 112, 112, 112].to_vec()),
        ]
    );
    assert_whole(&template);
}

#[test]
fn a_profile_knows_the_bit_of_each_of_its_options_and_has_one_template() {
    let (profile, _) = encode(&parts()).unwrap();
    assert_eq!((profile.all, profile.variants), (0b111, 1));
    assert_eq!(profile.sets[0], 0b111);
    assert!(profile.sets[1..].iter().all(|set| *set == 0));
    for code in 0..=255 {
        let bit = match code {
            1 => 0,
            3 => 1,
            6 => 2,
            _ => 31,
        };
        assert_eq!(profile.bits[code], bit, "option {code}");
    }
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
    let (profile, template) = with(&custom).unwrap();
    assert_eq!(profile.all, u32::MAX >> 1);
    assert_eq!(own_options(&template).len(), OPTION_BITS);
    let alone = select(&profile, &template, 1 << 30);
    assert_eq!(own_options(&alone), [(127, b"abc".to_vec())]);
    let error = with(&many(29)).unwrap_err();
    assert_eq!(error, ProfileError::TooMany { count: 32 });
    assert!(
        error
            .to_string()
            .contains("32 DHCP options, 31 are the most")
    );
    // Far too many, and far too long.
    assert_eq!(
        with(&many(140)).unwrap_err(),
        ProfileError::TooMany { count: 143 }
    );
}

#[test]
fn a_selection_keeps_the_head_and_the_options_of_its_set() {
    let custom = many(10);
    let (profile, all) = encode(&ProfileParts {
        custom: &custom,
        ..parts()
    })
    .unwrap();
    assert_eq!(select(&profile, &all, profile.all), all);
    let options = own_options(&all);
    for set in (0..=profile.all)
        .step_by(37)
        .chain([0, 1, profile.all >> 1])
    {
        let template = select(&profile, &all, set);
        assert_whole(&template);
        assert_eq!(
            bytes_of(&template)[..OPTIONS_HEAD],
            bytes_of(&all)[..OPTIONS_HEAD]
        );
        let expected: Vec<_> = options
            .iter()
            .enumerate()
            .filter(|(bit, _)| set >> bit & 1 == 1)
            .map(|(_, option)| option.clone())
            .collect();
        assert_eq!(own_options(&template), expected, "{set:b}");
    }
    // Bits that no option has select nothing more.
    let beyond = select(&profile, &all, u32::MAX);
    assert_eq!(beyond, all);
}

#[test]
fn rapid_commit_is_the_choice_of_a_pool() {
    let rapid = ProfileParts {
        rapid_commit: true,
        ..parts()
    };
    assert_eq!(encode(&rapid).unwrap().0.rapid_commit, 1);
}

proptest! {
    #[test]
    fn every_template_has_right_sums(
        custom in prop::collection::btree_map(70_u8..=254, prop::collection::vec(any::<u8>(), 1..20), 0..12),
        server_id in any::<[u8; 4]>(),
        set in any::<u32>(),
    ) {
        let custom: Vec<(u8, &[u8])> = custom
            .iter()
            .filter(|(code, _)| !is_reserved(**code))
            .map(|(code, value)| (*code, &value[..]))
            .collect();
        let parts = ProfileParts { server_id, custom: &custom, ..parts() };
        let (profile, all) = encode(&parts).unwrap();
        assert_whole(&all);
        assert_whole(&select(&profile, &all, set));
    }
}

/// RFC 2132 3.3: the mask comes before the routers.
#[test]
fn options_stand_by_ascending_code_wherever_they_come_from() {
    let (_, template) = encode(&ProfileParts {
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
    let options = own_options(&template);
    let codes: Vec<u8> = options.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [1, 2, 3, 6, 15, 26, 28, 42, 121]);
    assert_eq!(options[4].1, b"example.net");
    assert_eq!(options[5].1, 1492_u16.to_be_bytes());
}

#[test]
fn a_custom_option_replaces_the_field_of_its_code() {
    let (_, template) = encode(&ProfileParts {
        custom: &[(3, &[100, 64, 0, 254])],
        ..parts()
    })
    .unwrap();
    assert_eq!(own_options(&template)[1], (3, [100, 64, 0, 254].to_vec()));
}

#[test]
fn what_a_pool_does_not_say_is_left_out() {
    let (_, template) = encode(&ProfileParts {
        routers: &[],
        dns: &[],
        domain_name: Some(""),
        ..parts()
    })
    .unwrap();
    assert_eq!(own_options(&template), [(1, [255, 192, 0, 0].to_vec())]);
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
fn a_template_may_be_as_long_as_its_capacity_and_not_a_byte_longer() {
    // The head, and mask, router and two name servers.
    let used = OPTIONS_HEAD + 6 + 6 + 10;
    let free = OPTIONS_CAPACITY - used - 2;
    let value = [7; 255];
    let with = |len: usize| {
        encode(&ProfileParts {
            custom: &[(43, &value[..len])],
            ..parts()
        })
    };
    let (_, full) = with(free).unwrap();
    assert_eq!(usize::from(full.len), OPTIONS_CAPACITY);
    assert_whole(&full);
    let needed = OPTIONS_CAPACITY + 1;
    assert_eq!(with(free + 1), Err(ProfileError::TooLong { needed }));
    assert!(
        ProfileError::TooLong { needed }
            .to_string()
            .contains("289 bytes")
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
