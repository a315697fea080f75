//! The server's side: who is heard, what is a repetition, what a reply carries.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{attributes, secret};
use crate::authenticator::{
    MessageAuthenticator, check_message_authenticator, check_response_authenticator, sign_request,
};
use crate::password::Credentials;
use crate::server::{
    AccessRequest, AnswerError, Client, ClientTable, DropReason, Limits, Received, Server,
};
use crate::{AttributeId, Attributes, Code, Packet};

const NAS: &str = "192.0.2.7:1645";

fn client(network: &str, key: &str, require_message_authenticator: bool) -> Client {
    let network = network.parse().unwrap();
    Client {
        network,
        secret: secret(key),
        require_message_authenticator,
    }
}

fn server(limits: Limits) -> Server {
    let clients = vec![
        client("192.0.2.0/24", "net", true),
        client("192.0.2.9/32", "host", true),
        client("198.51.100.0/24", "old", false),
        client("2001:db8::/32", "six", true),
    ];
    Server::new(ClientTable::new(clients).unwrap(), limits)
}

fn nas() -> SocketAddr {
    NAS.parse().unwrap()
}

fn request(identifier: u8, key: &str, rows: &[(AttributeId, &[u8])]) -> Vec<u8> {
    let attributes = attributes(rows);
    sign_request(
        Code::ACCESS_REQUEST,
        identifier,
        [identifier; 16],
        &attributes,
        &secret(key),
    )
    .unwrap()
}

fn unsigned(code: Code, rows: &[(AttributeId, &[u8])]) -> Vec<u8> {
    let attributes = attributes(rows);
    Packet {
        code,
        identifier: 1,
        authenticator: [1; 16],
        attributes,
    }
    .encode()
}

fn access(received: Received) -> AccessRequest {
    match received {
        Received::Access(request) => *request,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn dropped(received: Received, label: &str) {
    match received {
        Received::Dropped(reason) => assert_eq!(reason.label(), label, "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_longest_prefix_decides_which_secret_counts() {
    let mut server = server(Limits::default());
    let now = Instant::now();
    for (from, key) in [
        ("192.0.2.7:1", "net"),
        ("192.0.2.9:1", "host"),
        ("[2001:db8::7]:1", "six"),
        ("[::ffff:192.0.2.8]:1", "net"),
    ] {
        let from = from.parse().unwrap();
        access(server.receive(now, from, &request(1, key, &[])));
        dropped(
            server.receive(now, from, &request(2, "other", &[])),
            "bad-message-authenticator",
        );
    }
    let stranger = "203.0.113.1:1".parse().unwrap();
    dropped(
        server.receive(now, stranger, &request(1, "net", &[])),
        "unknown-client",
    );
}

#[test]
fn two_clients_with_one_network_are_refused() {
    let same = vec![
        client("192.0.2.1/24", "a", true),
        client("192.0.2.0/24", "b", true),
    ];
    let error = ClientTable::new(same).unwrap_err();
    assert_eq!(
        error.to_string(),
        "two clients have the address 192.0.2.0/24: keep one of them"
    );
}

#[test]
fn message_authenticator_is_required_unless_the_client_is_let_off() {
    let mut server = server(Limits::default());
    let now = Instant::now();
    let old: SocketAddr = "198.51.100.1:9".parse().unwrap();
    let bare = unsigned(Code::ACCESS_REQUEST, &[(AttributeId::USER_NAME, b"a")]);
    dropped(
        server.receive(now, nas(), &bare),
        "missing-message-authenticator",
    );
    access(server.receive(now, old, &bare));

    let proxied = unsigned(Code::ACCESS_REQUEST, &[(AttributeId::PROXY_STATE, b"p")]);
    dropped(
        server.receive(now, old, &proxied),
        "unprotected-proxy-state",
    );
    let eap = unsigned(Code::ACCESS_REQUEST, &[(AttributeId::EAP_MESSAGE, b"e")]);
    dropped(
        server.receive(now, old, &eap),
        "missing-message-authenticator",
    );
    dropped(
        server.receive(now, old, &request(3, "wrong", &[])),
        "bad-message-authenticator",
    );
    access(server.receive(
        now,
        old,
        &request(3, "old", &[(AttributeId::PROXY_STATE, b"p")]),
    ));
}

#[test]
fn datagrams_that_are_not_for_us_are_dropped() {
    let mut server = server(Limits::default());
    let now = Instant::now();
    let whole = request(1, "net", &[(AttributeId::USER_NAME, b"alice")]);
    for len in 0..whole.len() {
        dropped(server.receive(now, nas(), &whole[..len]), "malformed");
    }
    for code in [Code::ACCESS_ACCEPT, Code::ACCOUNTING_REQUEST, Code(255)] {
        dropped(
            server.receive(now, nas(), &unsigned(code, &[])),
            "unexpected-code",
        );
    }
    assert_eq!(server.in_flight(), 0);
}

#[test]
fn status_server_is_answered_at_once_and_only_with_message_authenticator() {
    let mut server = server(Limits::default());
    let now = Instant::now();
    let key = secret("net");
    let ask = sign_request(Code::STATUS_SERVER, 5, [5; 16], &Attributes::new(), &key).unwrap();
    let Received::Status(reply) = server.receive(now, nas(), &ask) else {
        panic!()
    };
    let reply = Packet::decode(&reply).unwrap();
    assert_eq!((reply.code, reply.identifier), (Code::ACCESS_ACCEPT, 5));
    assert!(check_response_authenticator(&reply, &[5; 16], &key));
    let check = check_message_authenticator(&reply, &[5; 16], &key);
    assert_eq!(check, MessageAuthenticator::Valid);
    let old = "198.51.100.1:9".parse().unwrap();
    let bare = unsigned(Code::STATUS_SERVER, &[]);
    dropped(
        server.receive(now, old, &bare),
        "missing-message-authenticator",
    );
}

#[test]
fn a_repetition_is_dropped_in_work_and_answered_from_memory_afterwards() {
    let mut server = server(Limits::default());
    let start = Instant::now();
    let octets = request(1, "net", &[(AttributeId::USER_NAME, b"alice")]);
    let asked = access(server.receive(start, nas(), &octets));
    dropped(server.receive(start, nas(), &octets), "duplicate");
    let reply = server
        .answer(start, &asked.key, Code::ACCESS_REJECT, &Attributes::new())
        .unwrap();
    let late = start + Duration::from_millis(9_999);
    assert_eq!(
        server.receive(late, nas(), &octets),
        Received::Repeated(reply)
    );
    let again = server.answer(late, &asked.key, Code::ACCESS_ACCEPT, &Attributes::new());
    assert_eq!(again, Err(AnswerError::NotWaiting));
    access(server.receive(start + Duration::from_secs(10), nas(), &octets));
}

#[test]
fn another_port_identifier_or_authenticator_is_another_request() {
    let mut server = server(Limits::default());
    let now = Instant::now();
    access(server.receive(now, nas(), &request(1, "net", &[])));
    access(server.receive(now, nas(), &request(2, "net", &[])));
    access(server.receive(
        now,
        "192.0.2.7:1646".parse().unwrap(),
        &request(1, "net", &[]),
    ));
    let key = secret("net");
    let other = sign_request(Code::ACCESS_REQUEST, 1, [9; 16], &Attributes::new(), &key).unwrap();
    access(server.receive(now, nas(), &other));
    assert_eq!(server.in_flight(), 4);
}

#[test]
fn an_abandoned_request_may_be_asked_again() {
    let mut server = server(Limits::default());
    let now = Instant::now();
    let octets = request(1, "net", &[]);
    let key = access(server.receive(now, nas(), &octets)).key;
    server.abandon(&key);
    assert_eq!(server.in_flight(), 0);
    access(server.receive(now, nas(), &octets));
    server
        .answer(now, &key, Code::ACCESS_REJECT, &Attributes::new())
        .unwrap();
    server.abandon(&key);
    assert!(matches!(
        server.receive(now, nas(), &octets),
        Received::Repeated(_)
    ));
}

#[test]
fn work_and_memory_are_bounded() {
    let limits = Limits {
        in_flight: 2,
        cached_replies: 2,
        ..Limits::default()
    };
    let mut server = server(limits);
    let now = Instant::now();
    let ask = |identifier| request(identifier, "net", &[]);
    let keys = [1, 2].map(|identifier| access(server.receive(now, nas(), &ask(identifier))).key);
    dropped(server.receive(now, nas(), &ask(3)), "overloaded");
    let later = now + Duration::from_secs(1);
    for (seconds, key) in keys.iter().enumerate() {
        let now = now + Duration::from_millis(seconds as u64);
        server
            .answer(now, key, Code::ACCESS_REJECT, &Attributes::new())
            .unwrap();
    }
    let third = access(server.receive(later, nas(), &ask(3))).key;
    server
        .answer(later, &third, Code::ACCESS_REJECT, &Attributes::new())
        .unwrap();
    assert!(matches!(
        server.receive(later, nas(), &ask(3)),
        Received::Repeated(_)
    ));
    assert!(matches!(
        server.receive(later, nas(), &ask(2)),
        Received::Repeated(_)
    ));
    access(server.receive(later, nas(), &ask(1)));

    // What is never answered does not count for ever.
    access(server.receive(later, nas(), &ask(4)));
    dropped(server.receive(later, nas(), &ask(5)), "overloaded");
    access(server.receive(later + limits.work_lifetime, nas(), &ask(5)));
    assert_eq!(server.in_flight(), 1);
}

#[test]
fn a_reply_is_signed_and_echoes_proxy_state_in_order() {
    let mut server = server(Limits::default());
    let now = Instant::now();
    let octets = request(
        7,
        "net",
        &[
            (AttributeId::PROXY_STATE, b"first"),
            (AttributeId::USER_NAME, b"alice"),
            (AttributeId::PROXY_STATE, b"second"),
        ],
    );
    let asked = access(server.receive(now, nas(), &octets));
    assert_eq!(asked.credentials, Ok(Credentials::None));
    let ours = attributes(&[
        (AttributeId::CLASS, b"c"),
        (AttributeId::PROXY_STATE, b"of another hop"),
        (AttributeId::MESSAGE_AUTHENTICATOR, b"of another hop"),
    ]);
    let reply = server
        .answer(now, &asked.key, Code::ACCESS_ACCEPT, &ours)
        .unwrap();
    let reply = Packet::decode(&reply).unwrap();
    let rows: Vec<(u8, &[u8])> = reply.attributes.iter().skip(1).collect();
    assert_eq!(rows, [(25, &b"c"[..]), (33, b"first"), (33, b"second")]);
    let key = secret("net");
    assert!(check_response_authenticator(&reply, &[7; 16], &key));
    let check = check_message_authenticator(&reply, &[7; 16], &key);
    assert_eq!(check, MessageAuthenticator::Valid);
}

#[test]
fn an_answer_that_does_not_fit_leaves_room_for_a_shorter_one() {
    let mut server = server(Limits::default());
    let now = Instant::now();
    let asked = access(server.receive(now, nas(), &request(1, "net", &[])));
    let mut too_much = Attributes::new();
    while too_much.push(AttributeId::CLASS, &[0; 200]).is_ok() {}
    while too_much.push(AttributeId::CLASS, &[]).is_ok() {}
    let answer = server.answer(now, &asked.key, Code::ACCESS_ACCEPT, &too_much);
    assert!(matches!(answer, Err(AnswerError::TooLong(_))), "{answer:?}");
    server
        .answer(now, &asked.key, Code::ACCESS_REJECT, &Attributes::new())
        .unwrap();
}

#[test]
fn every_reason_has_a_label_of_its_own() {
    let mut labels = DropReason::LABELS.to_vec();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), DropReason::LABELS.len());
}
