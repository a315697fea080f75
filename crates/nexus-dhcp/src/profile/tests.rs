//! Templates: what a pool says, in the order and the limits of the wire.

use std::string::ToString as _;
use std::vec::Vec;

use super::*;
use crate::testing::{GATEWAY_MAC, LEASE, SERVER, parts};

/// The options of a template behind its head, as (code, value).
fn own_options(profile: &Profile) -> Vec<(u8, Vec<u8>)> {
    let bytes = profile.options.as_bytes();
    let mut rest = &bytes[OPTIONS_HEAD..usize::from(profile.options_len)];
    let mut found = Vec::new();
    while let [code, len, behind @ ..] = rest {
        let (value, next) = behind.split_at(usize::from(*len));
        found.push((*code, value.to_vec()));
        rest = next;
    }
    assert!(rest.is_empty());
    found
}

#[test]
fn a_template_has_its_head_its_options_by_code_and_zeros_behind() {
    let profile = encode(&parts()).unwrap();
    assert_eq!((profile.present, profile.lease_secs), (1, LEASE));
    assert_eq!(profile.server_id, SERVER.octets());
    assert_eq!(profile.gateway_mac, GATEWAY_MAC);
    let bytes = profile.options.as_bytes();
    let head = [
        53, 1, 0, 54, 4, 100, 64, 0, 1, 51, 4, 0, 0, 0, 0, 58, 4, 0, 0, 0, 0, 59, 4, 0, 0, 0, 0,
    ];
    assert_eq!(bytes[..OPTIONS_HEAD], head);
    assert_eq!(
        own_options(&profile),
        [
            (1, [255, 192, 0, 0].to_vec()),
            (3, [100, 64, 0, 1].to_vec()),
            (6, [9, 9, 9, 9, 149, 112, 112, 112].to_vec()),
        ]
    );
    assert!(
        bytes[usize::from(profile.options_len)..]
            .iter()
            .all(|byte| *byte == 0)
    );
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
    for code in [0, 50, 51, 52, 53, 54, 55, 57, 58, 59, 61, 82, 255] {
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
    let full = with(free).unwrap();
    assert_eq!(usize::from(full.options_len), OPTIONS_CAPACITY);
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
