//! The client's side: identifiers, retransmission, fail-over, and which replies count.

use std::time::{Duration, Instant};

use super::{attributes, secret};
use crate::authenticator::{MessageAuthenticator, check_message_authenticator, sign_reply};
use crate::password::{Credentials, next_hop_attributes};
use crate::upstream::{
    Effect, Question, ReplyDropReason, Upstream, UpstreamError, UpstreamLimits, UpstreamServer,
};
use crate::{AttributeId, Attributes, Code, Packet};

const SECRETS: [&str; 2] = ["first secret", "second secret"];

fn upstream(limits: UpstreamLimits) -> Upstream<&'static str> {
    let server = |key| UpstreamServer {
        secret: secret(key),
        require_message_authenticator: true,
    };
    Upstream::new(SECRETS.map(server).to_vec(), limits)
}

fn limits() -> UpstreamLimits {
    UpstreamLimits {
        timeout: Duration::from_secs(2),
        retries: 1,
        ..UpstreamLimits::default()
    }
}

fn question(tag: &'static str) -> Question<&'static str> {
    let attributes = attributes(&[(AttributeId::USER_NAME, b"alice")]);
    Question {
        attributes,
        password: Some(b"wonderland".to_vec()),
        tag,
    }
}

/// Sixteen octets, other ones at each call.
fn counter() -> impl FnMut() -> [u8; 16] {
    let mut next = 0u128;
    move || {
        next += 1;
        next.to_be_bytes()
    }
}

#[track_caller]
fn sent<T: std::fmt::Debug>(effect: &Effect<T>) -> (usize, u16, Packet) {
    match effect {
        Effect::Send {
            server,
            socket,
            datagram,
        } => (*server, *socket, Packet::decode(datagram).unwrap()),
        Effect::Done { .. } => panic!("{effect:?}"),
    }
}

fn reply(code: Code, asked: &Packet, key: &str) -> Vec<u8> {
    let attributes = attributes(&[(AttributeId::CLASS, b"gold")]);
    sign_reply(
        code,
        asked.identifier,
        &asked.authenticator,
        &attributes,
        &secret(key),
    )
    .unwrap()
}

#[test]
fn the_password_is_hidden_under_the_secret_of_the_server_that_is_asked() {
    let mut upstream = upstream(limits());
    let now = Instant::now();
    let mut random = counter();
    let (server, _, asked) = sent(&upstream.submit(now, question("a"), &mut random));
    assert_eq!((server, asked.code), (0, Code::ACCESS_REQUEST));
    let key = secret(SECRETS[0]);
    let check = check_message_authenticator(&asked, &asked.authenticator, &key);
    assert_eq!(check, MessageAuthenticator::Valid);
    assert_eq!(
        asked.attributes.iter().next().map(|(number, _)| number),
        Some(80)
    );
    assert!(
        Credentials::read(&asked, &key)
            .unwrap()
            .prove(b"wonderland")
    );

    upstream.tick(now + Duration::from_secs(2), &mut random);
    let effects = upstream.tick(now + Duration::from_secs(4), &mut random);
    let (server, _, second) = sent(&effects[0]);
    assert_eq!(server, 1);
    assert_ne!(second.authenticator, asked.authenticator);
    assert!(
        Credentials::read(&second, &secret(SECRETS[1]))
            .unwrap()
            .prove(b"wonderland")
    );
}

#[test]
fn a_datagram_is_repeated_unchanged_then_the_next_server_is_asked_then_nobody() {
    let mut upstream = upstream(limits());
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut random = counter();
    let first = upstream.submit(start, question("a"), &mut random);
    assert_eq!(upstream.next_deadline(), Some(at(2)));
    assert!(upstream.tick(at(1), &mut random).is_empty());
    assert_eq!(upstream.tick(at(2), &mut random), [first]);
    let second = upstream.tick(at(4), &mut random).remove(0);
    assert_eq!(sent(&second).0, 1);
    assert_eq!(upstream.tick(at(6), &mut random), [second]);
    let end = upstream.tick(at(8), &mut random);
    assert_eq!(
        end,
        [Effect::Done {
            tag: "a",
            result: Err(UpstreamError::NoAnswer)
        }]
    );
    assert_eq!((upstream.in_flight(), upstream.next_deadline()), (0, None));
}

#[test]
fn a_silent_server_is_tried_last_until_its_time_is_over_or_it_answers() {
    let mut upstream = upstream(limits());
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut random = counter();
    upstream.submit(start, question("a"), &mut random);
    upstream.tick(at(2), &mut random);
    let failed_over = upstream.tick(at(4), &mut random);
    let (server, socket, asked) = sent(&failed_over[0]);
    upstream
        .receive(
            server,
            socket,
            &reply(Code::ACCESS_ACCEPT, &asked, SECRETS[1]),
        )
        .unwrap();

    let (server, _, _) = sent(&upstream.submit(at(5), question("b"), &mut random));
    assert_eq!(server, 1, "the first is held down");
    upstream.tick(at(7), &mut random);
    let effects = upstream.tick(at(9), &mut random);
    let (server, socket, asked) = sent(&effects[0]);
    assert_eq!(server, 0, "but tried when the second is silent too");
    upstream
        .receive(
            server,
            socket,
            &reply(Code::ACCESS_ACCEPT, &asked, SECRETS[0]),
        )
        .unwrap();
    assert_eq!(
        sent(&upstream.submit(at(10), question("c"), &mut random)).0,
        0
    );
}

#[test]
fn all_three_answers_end_a_question() {
    for code in [
        Code::ACCESS_ACCEPT,
        Code::ACCESS_REJECT,
        Code::ACCESS_CHALLENGE,
    ] {
        let mut upstream = upstream(limits());
        let effect = upstream.submit(Instant::now(), question("a"), &mut counter());
        let (server, socket, asked) = sent(&effect);
        let octets = reply(code, &asked, SECRETS[0]);
        let done = upstream.receive(server, socket, &octets).unwrap();
        let Effect::Done {
            tag: "a",
            result: Ok(answer),
        } = done
        else {
            panic!("{done:?}")
        };
        assert_eq!(answer.code, code);
        assert_eq!(
            answer.attributes.get(AttributeId::CLASS),
            Some(&b"gold"[..])
        );
        let late = upstream.receive(server, socket, &octets);
        assert_eq!(late, Err(ReplyDropReason::Unexpected));
        assert_eq!(upstream.next_deadline(), None);
    }
}

#[test]
fn a_reply_that_cannot_be_believed_is_dropped_and_the_question_goes_on_waiting() {
    let mut upstream = upstream(limits());
    let effect = upstream.submit(Instant::now(), question("a"), &mut counter());
    let (server, socket, asked) = sent(&effect);
    let good = reply(Code::ACCESS_ACCEPT, &asked, SECRETS[0]);
    let mut refuse = |server, socket, octets: &[u8], label: &str| {
        let reason = upstream.receive(server, socket, octets).unwrap_err();
        assert_eq!(reason.label(), label, "{reason}");
    };
    refuse(1, socket, &good, "unexpected");
    refuse(server, socket + 1, &good, "unexpected");
    for len in 0..good.len() {
        refuse(server, socket, &good[..len], "malformed");
    }
    let wrong_secret = reply(Code::ACCESS_ACCEPT, &asked, SECRETS[1]);
    refuse(server, socket, &wrong_secret, "bad-authenticator");
    let accounting = reply(Code(5), &asked, SECRETS[0]);
    refuse(server, socket, &accounting, "unexpected-code");

    // The attack of CVE-2024-3596: a right Response Authenticator, but nothing that is keyed.
    let key = secret(SECRETS[0]);
    let mut bare = Packet {
        code: Code::ACCESS_ACCEPT,
        attributes: Attributes::new(),
        ..asked.clone()
    };
    let sign = |packet: &Packet| {
        use md5::Digest as _;
        let octets = [&packet.encode()[..], key.as_octets()].concat();
        Packet {
            authenticator: md5::Md5::digest(octets).into(),
            ..packet.clone()
        }
        .encode()
    };
    refuse(
        server,
        socket,
        &sign(&bare),
        "missing-message-authenticator",
    );
    bare.attributes
        .push(AttributeId::MESSAGE_AUTHENTICATOR, &[0; 16])
        .unwrap();
    refuse(server, socket, &sign(&bare), "bad-message-authenticator");

    assert!(upstream.receive(server, socket, &good).is_ok());
}

#[test]
fn every_question_in_flight_has_an_identifier_of_its_own_and_their_number_is_bounded() {
    let bounds = UpstreamLimits {
        in_flight: 600,
        sockets: 3,
        ..limits()
    };
    let mut upstream = upstream(bounds);
    let now = Instant::now();
    let mut random = counter();
    let mut slots = std::collections::BTreeSet::new();
    let mut last = None;
    for _ in 0..600 {
        let (server, socket, asked) = sent(&upstream.submit(now, question("a"), &mut random));
        assert!(slots.insert((server, socket, asked.identifier)));
        last = Some((server, socket, asked));
    }
    assert_eq!(slots.iter().map(|slot| slot.1).max(), Some(2));
    let full = upstream.submit(now, question("b"), &mut random);
    assert_eq!(
        full,
        Effect::Done {
            tag: "b",
            result: Err(UpstreamError::Busy)
        }
    );
    let (server, socket, asked) = last.unwrap();
    upstream
        .receive(
            server,
            socket,
            &reply(Code::ACCESS_REJECT, &asked, SECRETS[0]),
        )
        .unwrap();
    let (_, next_socket, next) = sent(&upstream.submit(now, question("c"), &mut random));
    assert_ne!(
        (next_socket, next.identifier),
        (socket, asked.identifier),
        "an identifier rests"
    );
}

#[test]
fn more_questions_than_identifiers_are_refused_and_not_mixed_up() {
    let bounds = UpstreamLimits {
        in_flight: 1000,
        sockets: 1,
        ..limits()
    };
    let mut upstream = upstream(bounds);
    let now = Instant::now();
    let mut random = counter();
    for _ in 0..256 {
        sent(&upstream.submit(now, question("a"), &mut random));
    }
    let full = upstream.submit(now, question("b"), &mut random);
    assert_eq!(
        full,
        Effect::Done {
            tag: "b",
            result: Err(UpstreamError::Busy)
        }
    );
}

#[test]
fn a_request_that_grows_beyond_a_packet_ends_with_an_error() {
    let mut upstream = upstream(limits());
    let mut much = question("a");
    while much.attributes.push(AttributeId::CLASS, &[0; 200]).is_ok() {}
    while much.attributes.push(AttributeId::CLASS, &[]).is_ok() {}
    let effect = upstream.submit(Instant::now(), much, &mut counter());
    assert!(matches!(
        effect,
        Effect::Done {
            tag: "a",
            result: Err(UpstreamError::TooLong(_))
        }
    ));
    assert_eq!(upstream.in_flight(), 0);
}

#[test]
fn the_next_hop_gets_a_chap_challenge_that_was_the_request_authenticator() {
    let rows: [(AttributeId, &[u8]); 5] = [
        (AttributeId::MESSAGE_AUTHENTICATOR, &[1; 16]),
        (AttributeId::USER_NAME, b"alice"),
        (AttributeId::CHAP_PASSWORD, &[3; 17]),
        (AttributeId::PROXY_STATE, b"nas"),
        (AttributeId::USER_PASSWORD, &[2; 16]),
    ];
    let (code, authenticator) = (Code::ACCESS_REQUEST, [9; 16]);
    let mut request = Packet {
        code,
        identifier: 1,
        authenticator,
        attributes: attributes(&rows),
    };
    let next = next_hop_attributes(&request).unwrap();
    let numbers: Vec<u8> = next.iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, [1, 3, 33, 60]);
    assert_eq!(next.get(AttributeId::CHAP_CHALLENGE), Some(&[9; 16][..]));
    request
        .attributes
        .push(AttributeId::CHAP_CHALLENGE, b"own challenge")
        .unwrap();
    let next = next_hop_attributes(&request).unwrap();
    assert_eq!(
        next.all(AttributeId::CHAP_CHALLENGE).collect::<Vec<_>>(),
        [b"own challenge"]
    );
}
