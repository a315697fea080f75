//! Every kind of event, from real frames.

use nexus_abi::EVENT_FRAME;
use nexus_testkit::packet::{Bootp, Frame, Mac};

use super::*;

const CLIENT: Mac = [2, 0, 0, 0, 0, 0x21];
const ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 64, 3, 7);
const SERVER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);

fn event(kind: EventKind, outcome: Outcome, bytes: &[u8]) -> Event {
    let mut frame = [0; EVENT_FRAME];
    let captured = bytes.len().min(EVENT_FRAME);
    frame[..captured].copy_from_slice(&bytes[..captured]);
    Event {
        boot_ns: 7,
        kind: kind as u32,
        outcome: outcome as u32,
        interface: 3,
        frame_len: bytes.len() as u32,
        captured: captured as u32,
        lost: 0,
        frame,
    }
}

fn select() -> Vec<u8> {
    Frame::from_client(&Bootp::select(CLIENT, 0xdead_beef, ADDRESS, SERVER)).build()
}

#[test]
fn a_traced_request_says_who_asks_for_what() {
    let event = event(EventKind::Request, Outcome::NotDhcp, &select());
    let report = report(&event, "eth1").unwrap();
    assert_eq!(
        report.text,
        "REQUEST from 02:00:00:00:00:21 on untagged, xid deadbeef, asks for 100.64.3.7, selects server 100.64.0.1"
    );
    assert_eq!(
        (report.kind.as_str(), report.outcome.as_str()),
        ("request", "")
    );
    assert_eq!(report.mac.as_deref(), Some("02:00:00:00:00:21"));
    assert_eq!(report.interface, "eth1");
}

#[test]
fn a_circuit_is_shown_with_what_is_not_text_escaped() {
    let message = Bootp::discover(CLIENT, 1).option(82, &[2, 1, 0xff, 1, 3, b'0', b'/', b'7']);
    let frame = Frame::from_client(&message).build();
    let report = report(&event(EventKind::Request, Outcome::NotDhcp, &frame), "e").unwrap();
    assert!(
        report
            .text
            .ends_with(r#", circuit-id "0/7", remote-id "\xff""#),
        "{}",
        report.text
    );
}

#[test]
fn a_verdict_without_a_reply_says_where_the_packet_went() {
    let event = event(EventKind::Verdict, Outcome::UnknownClient, &select());
    let report = report(&event, "eth1").unwrap();
    assert!(report.text.starts_with("to the slow path: nobody is bound"));
    assert_eq!(report.outcome, "unknown-client");
}

#[test]
fn a_reply_shows_type_address_lease_and_server() {
    let mut message = Bootp::select(CLIENT, 1, ADDRESS, SERVER);
    message.op = 2;
    message.yiaddr = ADDRESS;
    message.options = Vec::new();
    let message = message
        .option(53, &[5])
        .option(54, &SERVER.octets())
        .option(51, &600_u32.to_be_bytes());
    let frame = Frame::from_client(&message).build();
    let event = event(EventKind::Verdict, Outcome::Ack, &frame);
    let text = report(&event, "eth1").unwrap().text;
    assert!(
        text.starts_with("answered in the kernel: ACK 100.64.3.7 for 600 s from server 100.64.0.1"),
        "{text}"
    );
}

#[test]
fn frames_that_are_cut_off_anywhere_are_told_without_a_panic() {
    let frame = select();
    for len in 0..frame.len() {
        for kind in [EventKind::Request, EventKind::Verdict, EventKind::Nak] {
            assert!(report(&event(kind, Outcome::Nak, &frame[..len]), "e").is_some());
        }
    }
    let mut unknown = event(EventKind::Nak, Outcome::Nak, &frame);
    unknown.kind = 99;
    assert_eq!(report(&unknown, "e"), None);
}
