//! Codec and cryptography on any input.

use proptest::prelude::*;

use super::{attributes, secret};
use crate::attributes::{MAX_ATTRIBUTES_LEN, MalformedAttributes};
use crate::authenticator::{
    EmptySecret, MessageAuthenticator, check_message_authenticator, check_response_authenticator,
    sign_reply, sign_request,
};
use crate::password::{Credentials, CredentialsError, hide, next_hop_attributes, reveal};
use crate::{AttributeError, AttributeId, Attributes, Code, DecodeError, Packet, Secret};

fn any_attributes() -> impl Strategy<Value = Attributes> {
    let one = (any::<u8>(), prop::collection::vec(any::<u8>(), 0..=253));
    prop::collection::vec(one, 0..15).prop_map(|rows| {
        let mut attributes = Attributes::new();
        for (number, value) in rows {
            attributes.push(AttributeId::Ietf(number), &value).unwrap();
        }
        attributes
    })
}

prop_compose! {
    fn any_packet()(code: u8, identifier: u8, authenticator: [u8; 16], attributes in any_attributes())
        -> Packet {
        Packet { code: Code(code), identifier, authenticator, attributes }
    }
}

proptest! {
    #[test]
    fn decode_of_any_octets_never_panics_and_what_it_takes_it_gives_back(
        octets in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        if let Ok(packet) = Packet::decode(&octets) {
            let encoded = packet.encode();
            prop_assert_eq!(&octets[..encoded.len()], &encoded[..]);
        }
    }

    #[test]
    fn decode_of_a_damaged_packet_never_panics(
        packet in any_packet(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut octets = packet.encode();
        for (at, value) in damage {
            let at = at.index(octets.len());
            octets[at] = value;
        }
        if let Ok(packet) = Packet::decode(&octets) {
            for name in AttributeId::names() {
                let _ = packet.attributes.text(AttributeId::by_name(name).unwrap());
            }
            let _ = Credentials::read(&packet, &secret("s"));
            let _ = next_hop_attributes(&packet);
        }
    }

    #[test]
    fn decode_is_the_inverse_of_encode_and_padding_is_ignored(
        packet in any_packet(), padding in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut octets = packet.encode();
        octets.extend(padding);
        prop_assert_eq!(Packet::decode(&octets), Ok(packet));
    }

    #[test]
    fn a_packet_cut_short_at_any_length_is_refused(packet in any_packet()) {
        let octets = packet.encode();
        for len in 0..octets.len() {
            let refused = Packet::decode(&octets[..len]);
            let expected = if len < 20 {
                DecodeError::TooShort { len }
            } else {
                DecodeError::Truncated { length: octets.len() as u16, len }
            };
            prop_assert_eq!(refused, Err(expected));
        }
    }

    #[test]
    fn a_shortened_length_field_cuts_between_attributes_or_is_refused(packet in any_packet()) {
        let whole = packet.encode();
        for length in 0..whole.len() as u16 {
            let mut octets = whole.clone();
            octets[2..4].copy_from_slice(&length.to_be_bytes());
            match Packet::decode(&octets) {
                Ok(short) => prop_assert_eq!(short.encode(), &octets[..usize::from(length)]),
                Err(DecodeError::Length { .. }) => prop_assert!(length < 20),
                Err(DecodeError::Attributes(MalformedAttributes::PastEnd { .. })) => {}
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }

    #[test]
    fn a_signed_packet_is_valid_and_any_changed_octet_makes_it_invalid(
        packet in any_packet(), key in prop::collection::vec(any::<u8>(), 1..100),
        at in any::<prop::sample::Index>(), change in 1..=255u8,
    ) {
        let secret = Secret::new(key).unwrap();
        let asked = packet.authenticator;
        let signed = sign_reply(packet.code, packet.identifier, &asked, &packet.attributes, &secret);
        let mut octets = signed.unwrap();
        prop_assert_eq!(&octets[20..22], &[80, 18], "Message-Authenticator is the first attribute");
        let reply = Packet::decode(&octets).unwrap();
        prop_assert!(check_response_authenticator(&reply, &asked, &secret));
        prop_assert_eq!(
            check_message_authenticator(&reply, &asked, &secret), MessageAuthenticator::Valid);
        let at = at.index(octets.len());
        octets[at] ^= change;
        if let Ok(forged) = Packet::decode(&octets) {
            prop_assert!(!check_response_authenticator(&forged, &asked, &secret));
            // The Message-Authenticator does not cover the Response Authenticator.
            if !(4..20).contains(&at) {
                prop_assert_ne!(
                    check_message_authenticator(&forged, &asked, &secret),
                    MessageAuthenticator::Valid);
            }
        }
    }

    #[test]
    fn a_password_survives_hiding(
        password in "[^\0]{0,31}", authenticator: [u8; 16], key in "[ -~]{1,70}",
    ) {
        let secret = Secret::new(key).unwrap();
        let hidden = hide(password.as_bytes(), &authenticator, &secret).unwrap();
        prop_assert!(hidden.len() >= 16 && hidden.len().is_multiple_of(16));
        prop_assert_eq!(reveal(&hidden, &authenticator, &secret).unwrap(), password.as_bytes());
    }
}

#[test]
fn the_length_field_must_be_in_20_to_4096() {
    let mut octets = vec![0; 5000];
    octets[0] = 1;
    for (length, fits) in [
        (0u16, false),
        (19, false),
        (20, true),
        (4097, false),
        (65535, false),
    ] {
        octets[2..4].copy_from_slice(&length.to_be_bytes());
        let decoded = Packet::decode(&octets);
        assert_eq!(decoded.is_ok(), fits, "{length}: {decoded:?}");
    }
    octets[2..4].copy_from_slice(&4096u16.to_be_bytes());
    let all_lengths_zero = DecodeError::Attributes(MalformedAttributes::Length {
        offset: 0,
        length: 0,
    });
    assert_eq!(Packet::decode(&octets), Err(all_lengths_zero));
}

#[test]
fn attributes_never_outgrow_a_packet() {
    let mut all = Attributes::new();
    while all.push(AttributeId::CLASS, &[7; 253]).is_ok() {}
    let left = MAX_ATTRIBUTES_LEN - all.as_octets().len();
    all.push(AttributeId::CLASS, &vec![7; left - 2]).unwrap();
    let full = Packet {
        code: Code(1),
        identifier: 0,
        authenticator: [0; 16],
        attributes: all,
    };
    assert_eq!(full.encode().len(), 4096);
    assert_eq!(Packet::decode(&full.encode()).as_ref(), Ok(&full));
    let none_left = AttributeError::PacketFull { number: 25 };
    let signed = sign_request(Code(1), 0, [0; 16], &full.attributes, &secret("s"));
    assert_eq!(signed, Err(none_left));
}

#[test]
fn a_value_too_long_is_refused_and_text_is_cut_at_a_character() {
    let mut all = Attributes::new();
    let refused = all.push(AttributeId::CLASS, &[0; 254]);
    assert_eq!(
        refused,
        Err(AttributeError::ValueTooLong {
            number: 25,
            len: 254
        })
    );
    let refused = all.push(AttributeId::AGENT_CIRCUIT_ID, &[0; 248]);
    assert_eq!(
        refused,
        Err(AttributeError::ValueTooLong {
            number: 26,
            len: 254
        })
    );
    assert_eq!(all, Attributes::new());
    all.push(AttributeId::AGENT_CIRCUIT_ID, &[b'x'; 247])
        .unwrap();
    assert_eq!(all.get(AttributeId::AGENT_CIRCUIT_ID).unwrap().len(), 247);
    all.push_text(AttributeId::REPLY_MESSAGE, &format!("{}é", "x".repeat(252)))
        .unwrap();
    assert_eq!(
        all.text(AttributeId::REPLY_MESSAGE),
        Some(&*"x".repeat(252))
    );
}

#[test]
fn vendor_attributes_are_found_alone_and_side_by_side() {
    let mut all = Attributes::new();
    let mut shared = 3561u32.to_be_bytes().to_vec();
    shared.extend(b"\x02\x06re-1\x01\x06ci-1");
    all.push(AttributeId::VENDOR_SPECIFIC, &[0, 0, 13]).unwrap();
    all.push(
        AttributeId::VENDOR_SPECIFIC,
        &[0, 0, 0x0d, 0xe9, 1, 9, b'x'],
    )
    .unwrap();
    all.push(AttributeId::Vendor(9, 1), b"another vendor")
        .unwrap();
    all.push(AttributeId::VENDOR_SPECIFIC, &shared).unwrap();
    all.push(AttributeId::AGENT_CIRCUIT_ID, b"ci-2").unwrap();
    let found: Vec<_> = all.all(AttributeId::AGENT_CIRCUIT_ID).collect();
    assert_eq!(found, [b"ci-1", b"ci-2"]);
    assert_eq!(all.text(AttributeId::AGENT_REMOTE_ID), Some("re-1"));
    assert_eq!(all.all(AttributeId::VENDOR_SPECIFIC).count(), 5);
}

#[test]
fn several_message_authenticators_or_one_of_a_wrong_length_are_invalid() {
    let key = secret("s");
    let authenticator = [9; 16];
    let signed = sign_request(Code(1), 0, authenticator, &Attributes::new(), &key).unwrap();
    let mut packet = Packet::decode(&signed).unwrap();
    let check = |packet: &Packet| check_message_authenticator(packet, &authenticator, &key);
    assert_eq!(check(&packet), MessageAuthenticator::Valid);
    let right = packet
        .attributes
        .get(AttributeId::MESSAGE_AUTHENTICATOR)
        .unwrap()
        .to_vec();
    packet
        .attributes
        .push(AttributeId::MESSAGE_AUTHENTICATOR, &right)
        .unwrap();
    assert_eq!(check(&packet), MessageAuthenticator::Invalid);
    packet.attributes = attributes(&[(AttributeId::MESSAGE_AUTHENTICATOR, &right[..15])]);
    assert_eq!(check(&packet), MessageAuthenticator::Invalid);
    packet.attributes = Attributes::new();
    assert_eq!(check(&packet), MessageAuthenticator::Absent);
}

/// RFC 2202 section 2, test cases 1, 2 and 6: HMAC-MD5 with keys of 16, 4 and 80 octets.
#[test]
fn hmac_md5_agrees_with_rfc_2202() {
    use hmac::Mac as _;
    let cases: [(&[u8], &[u8], &str); 3] = [
        (&[0x0b; 16], b"Hi There", "9294727a3638bb1c13f48ef8158bfc9d"),
        (
            b"Jefe",
            b"what do ya want for nothing?",
            "750c783e6ab0b503eaa86e310a5db738",
        ),
        (
            &[0xaa; 80],
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd",
        ),
    ];
    for (key, data, digest) in cases {
        let mut mac = Secret::new(key).unwrap().hmac();
        mac.update(data);
        assert_eq!(hex::encode(mac.finalize().into_bytes()), digest);
    }
}

#[test]
fn an_empty_secret_is_refused_and_a_secret_is_never_printed() {
    assert_eq!(Secret::new(""), Err(EmptySecret));
    assert!(!format!("{:?}", secret("hush")).contains("hush"));
}

#[test]
fn credentials_of_impossible_shape_are_refused() {
    let read = |rows: &[(AttributeId, &[u8])]| {
        let attributes = attributes(rows);
        let request = Packet {
            code: Code(1),
            identifier: 0,
            authenticator: [0; 16],
            attributes,
        };
        Credentials::read(&request, &secret("s"))
    };
    let (pap, chap) = (AttributeId::USER_PASSWORD, AttributeId::CHAP_PASSWORD);
    for len in [0, 1, 15, 17, 129, 144] {
        assert_eq!(
            read(&[(pap, &vec![1; len])]),
            Err(CredentialsError::PapLength(len))
        );
    }
    for len in [0, 1, 16, 18] {
        assert_eq!(
            read(&[(chap, &vec![1; len])]),
            Err(CredentialsError::ChapLength(len))
        );
    }
    let (sixteen, seventeen) = ([1; 16], [1; 17]);
    assert_eq!(
        read(&[(pap, &sixteen), (chap, &seventeen)]),
        Err(CredentialsError::Several)
    );
    assert_eq!(
        read(&[(pap, &sixteen), (pap, &sixteen)]),
        Err(CredentialsError::Several)
    );
    assert_eq!(
        read(&[(chap, &seventeen), (chap, &seventeen)]),
        Err(CredentialsError::Several)
    );
    assert_eq!(read(&[]), Ok(Credentials::None));
    assert!(!Credentials::None.prove(b""));
    assert_eq!(
        hide(&[1; 129], &[0; 16], &secret("s")),
        Err(CredentialsError::TooLong(129))
    );
}
