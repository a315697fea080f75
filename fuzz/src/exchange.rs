//! From any frame to its reply: what is answered is answered in a frame that reads back, with right
//! lengths and checksums and nothing of the request but what is to be repeated.

use nexus_abi::{Binding, BindingKey, NEVER_EXPIRES, Profile};
use nexus_dhcp::exchange::{Identity, find, read, reply};
use nexus_dhcp::profile::{ProfileParts, encode};
use nexus_dhcp::{Outcome, Request, Span};
use nexus_testkit::packet::{Bootp, Frame};

use crate::mend::mend;

const NOW: u32 = 5000;
const LONG: [u8; 90] = [0xb7; 90];

/// How a pool looks: bits of it choose routers, names, long options and rapid commit.
fn pool(kind: u8) -> Option<Profile> {
    let long: &[(u8, &[u8])] = &[(2, &[0, 0, 14, 16]), (43, &LONG), (121, &LONG)];
    encode(&ProfileParts {
        server_id: [100, 64, 0, 1],
        next_server: [10, 0, 0, kind],
        gateway_mac: [2, 0, 0x5e, 0, 0, 1],
        lease_secs: 3600,
        subnet_mask: [255, 192, 0, 0],
        routers: &[[100, 64, 0, 1]],
        dns: &[[9, 9, 9, 9], [149, 112, 112, 112]],
        domain_name: (kind & 1 != 0).then_some("example"),
        mtu: (kind & 1 != 0).then_some(1492),
        ntp: &[],
        rapid_commit: kind & 2 != 0,
        custom: if kind & 4 != 0 { long } else { &[] },
    })
    .ok()
}

/// Three bytes say what the client holds, of which pool, and what is mended; the rest is the frame.
pub(crate) fn run(data: &[u8]) {
    let [kind, left, behind, frame @ ..] = data else {
        return;
    };
    let mut frame = frame.to_vec();
    if kind & 0x80 != 0 {
        mend(&mut frame, usize::from(*behind));
    }
    let (Ok(request), Some(profile)) = (read(&frame), pool(*kind)) else {
        return;
    };
    let asked = request.options.requested.max(request.client_address());
    let address = if kind & 8 != 0 && asked != 0 {
        asked.to_ne_bytes()
    } else {
        [100, 64, 3, 7]
    };
    let binding = Binding {
        address,
        valid_until_secs: if *left == 0 {
            NEVER_EXPIRES
        } else {
            NOW + u32::from(*left)
        },
        mac: request.mac(),
        profile: 0,
        last_seen_jiffies: 0,
    };
    known(&frame, *kind, &binding);
    if let Ok((outcome, sent)) = reply(&frame, &request, &binding, &profile, NOW) {
        check(&frame, &request, &binding, outcome, &sent);
        // What stands behind END and behind the datagram has no part in the reply.
        let mut padded = frame.clone();
        padded.resize(frame.len() + 60, 0xee);
        let again = reply(&padded, &request, &binding, &profile, NOW);
        assert_eq!(again, Ok((outcome, sent)));
    }
}

/// A client is known under the first kind of key that there is a binding for, and only with its own MAC.
fn known(frame: &[u8], kind: u8, binding: &Binding) {
    let kinds = [1, 2, 3, 4].map(|place| (place + (kind >> 4 & 3)) % 5);
    let identity = Identity {
        interface: 7,
        kinds: &kinds,
        remote_id: kind & 1 != 0,
    };
    let only = 1 + (kind >> 1 & 3);
    let lookup = |key: &BindingKey| (key.kind() == only).then_some(*binding);
    let found = find(frame, identity, NOW, lookup);
    match &found {
        Ok((_, key, _)) => {
            assert!(key.kind() == only && key.interface() == 7 && kinds.contains(&only));
            assert!(key.mac().is_none_or(|mac| mac == binding.mac));
        }
        Err(outcome) => assert!(
            *outcome == Outcome::UnknownClient || kinds.contains(&BindingKey::KIND_CIRCUIT),
            "{outcome:?}"
        ),
    }
    let foreign = |key: &BindingKey| {
        lookup(key).map(|binding| Binding {
            mac: [0xfe; 6],
            ..binding
        })
    };
    let held = find(frame, identity, NOW, foreign);
    if found.is_ok() && binding.mac != [0xfe; 6] {
        assert_eq!(held.err(), Some(Outcome::MacMismatch));
    }
}

fn check(frame: &[u8], request: &Request, binding: &Binding, outcome: Outcome, sent: &[u8]) {
    let read = Frame::parse(sent);
    let Ok((reply, Ok(body))) = read.as_ref().map(|reply| (reply, reply.bootp())) else {
        assert!(read.is_err(), "the reply is no BOOTP message");
        assert_eq!(read.err(), None);
        return;
    };
    let tags = reply.tags.len() * 4;
    assert_eq!(sent.len(), 14 + tags + 28 + reply.payload.len());
    assert_eq!(sent.get(12..14 + tags), frame.get(12..14 + tags));
    assert!(reply.udp_checksum && reply.payload.len() >= 300);
    let limit = request.options.max_size.max(576);
    assert!(reply.payload.len() + 28 <= usize::from(limit));

    assert_eq!((body.op, body.htype, body.hlen, body.hops), (2, 1, 6, 0));
    assert_eq!((body.secs, body.sname, body.file), (0, [0; 64], [0; 128]));
    assert!(body.end && body.trailer.is_empty());
    let same = |from: usize, to: usize| {
        let at = request.link.payload + 28;
        assert_eq!(sent.get(at + from..at + to), frame.get(at + from..at + to));
    };
    same(4, 8);
    same(24, 44);
    same(236, 240);

    let echoed = |span: Span| {
        let value = frame.get(span.offset..span.offset + span.len);
        value.filter(|value| !value.is_empty())
    };
    assert_eq!(body.get(61), echoed(request.options.client_id));
    assert_eq!(body.get(82), echoed(request.options.relay));
    codes(&body, outcome);
    let leased = matches!(outcome, Outcome::Offer | Outcome::Ack);
    assert_eq!(
        body.yiaddr.octets(),
        if leased { binding.address } else { [0; 4] }
    );
    let left = binding.valid_until_secs.saturating_sub(NOW);
    let lease = body.number(51).unwrap_or_default();
    assert!(lease <= left.min(3600) && leased == (lease != 0));
}

/// The codes of a reply: the server's own first, the pool's by ascending code, what is repeated last.
fn codes(body: &Bootp, outcome: Outcome) {
    let mut codes = body.options.iter().map(|(code, _)| *code).peekable();
    let kind = match outcome {
        Outcome::Offer => 2,
        Outcome::Ack | Outcome::InformAck => 5,
        _ => 6,
    };
    assert_eq!(body.message_type(), Some(kind));
    let head: &[u8] = if matches!(outcome, Outcome::Offer | Outcome::Ack) {
        &[53, 54, 51, 58, 59]
    } else {
        &[53, 54]
    };
    for code in head {
        assert_eq!(codes.next(), Some(*code));
    }
    let mut last = 0;
    while let Some(code) = codes.next_if(|code| [1, 2, 3, 6, 15, 26, 43, 121].contains(code)) {
        assert!(code > last && outcome != Outcome::Nak);
        last = code;
    }
    let mut rest: Vec<u8> = codes.collect();
    assert!(outcome == Outcome::Ack || !rest.contains(&80));
    rest.retain(|code| ![80, 61, 82].contains(code));
    assert!(rest.is_empty(), "{rest:?}");
}
