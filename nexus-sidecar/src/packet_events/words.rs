//! What the kernel program tells about a packet, as a person reads it.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use nexus_abi::{Event, EventKind, Outcome};
use nexus_dhcp::{Bytes, Link, Request, exchange, parse_link, wire};
use nexus_radius::identity::mac_text;
use serde::{Deserialize, Serialize};

/// Bytes from the IP header to the first option.
const HEADERS: usize = wire::IPV4_UDP_LEN + wire::BOOTP_LEN;
/// Where `yiaddr` stands behind the link layer.
const YIADDR: usize = wire::IPV4_UDP_LEN + 16;
/// Longest circuit-id that is shown, in bytes.
const SHOWN: usize = 64;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketReport {
    /// Nanoseconds of `CLOCK_BOOTTIME`.
    pub boot_ns: u64,
    /// Name of the interface.
    pub interface: String,
    /// `unknown-client`, `mac-mismatch`, `nak`, `request` or `verdict`.
    pub kind: String,
    /// Label of the outcome; empty as long as there is none.
    pub outcome: String,
    /// The MAC address of the client, if the frame says it.
    pub mac: Option<String>,
    /// The packet in words.
    pub text: String,
    /// Events that the kernel could not tell so far, because nobody read fast enough.
    pub lost: u32,
}

/// The event of an interface in words; `None`: of a kind that is not known.
#[must_use]
pub fn report(event: &Event, interface: &str) -> Option<PacketReport> {
    let kind = EventKind::from_code(event.kind)?;
    let captured = usize::try_from(event.captured).ok()?;
    let frame = event.frame.get(..captured).unwrap_or_default();
    let outcome = Outcome::ALL
        .iter()
        .find(|outcome| **outcome as u32 == event.outcome)
        .copied();
    let text = match (kind, outcome) {
        (EventKind::Request, _) => received(frame),
        (EventKind::Verdict, Some(outcome)) => verdict(outcome, frame, event.frame_len),
        (EventKind::Nak, _) => reply(frame).unwrap_or_else(|| received(frame)),
        (_, Some(outcome)) => format!("{}: {}", received(frame), meaning(outcome)),
        (_, None) => received(frame),
    };
    let named = match kind {
        EventKind::UnknownClient => "unknown-client",
        EventKind::MacMismatch => "mac-mismatch",
        EventKind::Nak => "nak",
        EventKind::Request => "request",
        EventKind::Verdict => "verdict",
    };
    let told = outcome.filter(|_| kind != EventKind::Request);
    Some(PacketReport {
        boot_ns: event.boot_ns,
        interface: interface.to_owned(),
        kind: named.to_owned(),
        outcome: told.map_or_else(String::new, |outcome| outcome.label().to_owned()),
        mac: client(frame).map(mac_text),
        text,
        lost: event.lost,
    })
}

/// `chaddr` of a DHCP frame, request or reply.
fn client(frame: &[u8]) -> Option<[u8; 6]> {
    let link = parse_link(&Bytes(frame)).ok()?;
    let at = link.payload + wire::IPV4_UDP_LEN + 28;
    frame.get(at..at + 6)?.try_into().ok()
}

fn show_line(link: &Link) -> String {
    match (link.outer_vid(), link.inner_vid()) {
        (0, 0) => "untagged".to_owned(),
        (outer, 0) => format!("VLAN {outer}"),
        (outer, inner) => format!("VLAN {outer}.{inner}"),
    }
}

fn message_name(kind: u8) -> String {
    match kind {
        0 => "BOOTP request".to_owned(),
        wire::message::DISCOVER => "DISCOVER".to_owned(),
        wire::message::OFFER => "OFFER".to_owned(),
        wire::message::REQUEST => "REQUEST".to_owned(),
        wire::message::DECLINE => "DECLINE".to_owned(),
        wire::message::ACK => "ACK".to_owned(),
        wire::message::NAK => "NAK".to_owned(),
        wire::message::RELEASE => "RELEASE".to_owned(),
        wire::message::INFORM => "INFORM".to_owned(),
        other => format!("message type {other}"),
    }
}

/// A frame from a client.
fn received(frame: &[u8]) -> String {
    let request = match exchange::read(frame) {
        Ok(request) => request,
        Err(outcome) => {
            return format!(
                "a frame of {} bytes or more that cannot be read ({})",
                frame.len(),
                outcome.label()
            );
        }
    };
    let mut text = format!(
        "{} from {} on {}, xid {:08x}",
        message_name(request.options.message),
        mac_text(request.mac()),
        show_line(&request.link),
        u32::from_be(request.xid())
    );
    say_addresses(&mut text, &request);
    if let Ok(circuit) = exchange::circuit(&Bytes(frame), &request, true) {
        let shown = |id: &[u8]| {
            id.get(..id.len().min(SHOWN))
                .unwrap_or_default()
                .escape_ascii()
                .to_string()
        };
        let _ = write!(text, ", circuit-id \"{}\"", shown(circuit.circuit_id()));
        if !circuit.remote_id().is_empty() {
            let _ = write!(text, ", remote-id \"{}\"", shown(circuit.remote_id()));
        }
    }
    text
}

fn say_addresses(text: &mut String, request: &Request) {
    let shown = [
        ("uses", request.client_address()),
        ("asks for", request.options.requested),
        ("selects server", request.options.server),
        ("through relay", request.relay_address()),
    ];
    for (what, address) in shown {
        if address != 0 {
            let _ = write!(text, ", {what} {}", Ipv4Addr::from(address.to_ne_bytes()));
        }
    }
}

fn verdict(outcome: Outcome, frame: &[u8], len: u32) -> String {
    match outcome {
        Outcome::Offer | Outcome::Ack | Outcome::Nak | Outcome::InformAck => match reply(frame) {
            Some(reply) => format!("answered in the kernel: {reply}, {len} bytes"),
            None => format!("answered in the kernel ({}), {len} bytes", outcome.label()),
        },
        _ => meaning(outcome).to_owned(),
    }
}

/// Why the kernel did not answer.
fn meaning(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Offer | Outcome::Ack | Outcome::Nak | Outcome::InformAck | Outcome::ArpReply => {
            "answered in the kernel"
        }
        Outcome::NotDhcp => "passed on: not DHCP",
        Outcome::OtherServer => "passed on: it is meant for another server",
        Outcome::UnknownClient => "to the slow path: nobody is bound under this line and MAC",
        Outcome::MacMismatch => {
            "to the slow path: the line is somebody's, but this MAC is not allowed on it"
        }
        Outcome::SlowMessage => "to the slow path: a message that the kernel leaves to it",
        Outcome::Malformed => "to the slow path: the message breaks a rule of the protocol",
        Outcome::Unsupported => {
            "to the slow path: more than the kernel answers exactly (option overload or twice, IP options, fragments, too long)"
        }
        Outcome::NoProfile => "to the slow path: the binding's profile is missing",
        Outcome::NoRoom => "to the slow path: the driver gave no room for a longer reply",
        Outcome::Flooded => "dropped: its line or interface sends more than the limits allow",
        Outcome::Internal => "dropped: an internal error while the reply was written",
    }
}

/// A reply: type, address, lease, server.
fn reply(frame: &[u8]) -> Option<String> {
    let link = parse_link(&Bytes(frame)).ok()?;
    let address: [u8; 4] = frame.get(link.payload + YIADDR..)?.first_chunk().copied()?;
    let mut options = frame.get(link.payload + HEADERS..)?;
    let (mut kind, mut lease, mut server) = (None, None, None);
    while let [code, rest @ ..] = options {
        match *code {
            wire::option::END => break,
            wire::option::PAD => options = rest,
            code => {
                let [len, rest @ ..] = rest else { break };
                let (value, others) = rest.split_at_checked(usize::from(*len))?;
                match (code, value) {
                    (wire::option::MESSAGE_TYPE, [value]) => kind = Some(*value),
                    (wire::option::LEASE_TIME, [a, b, c, d]) => {
                        lease = Some(u32::from_be_bytes([*a, *b, *c, *d]));
                    }
                    (wire::option::SERVER_ID, [a, b, c, d]) => {
                        server = Some(Ipv4Addr::new(*a, *b, *c, *d));
                    }
                    _ => {}
                }
                options = others;
            }
        }
    }
    let mut text = message_name(kind?);
    if address != [0; 4] {
        let _ = write!(text, " {}", Ipv4Addr::from(address));
    }
    if let Some(lease) = lease {
        let _ = write!(text, " for {lease} s");
    }
    if let Some(server) = server {
        let _ = write!(text, " from server {server}");
    }
    Some(text)
}

#[cfg(test)]
mod tests;
