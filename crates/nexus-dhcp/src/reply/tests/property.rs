//! Properties over generated clients: valid requests, and such that the line has spoilt.

use std::net::Ipv4Addr;
use std::vec::Vec;

use nexus_abi::{Binding, BindingKey, NEVER_EXPIRES, Outcome};
use nexus_testkit::packet::clients::{Client, Says};
use nexus_testkit::packet::{Bootp, Frame, MAC_BROADCAST, Mac, Tag};
use proptest::prelude::*;

use crate::profile::{ProfileParts, encode, is_reserved};
use crate::testing::{
    CLIENT, GATEWAY_MAC, NOW, RELAY, RELAY_MAC, SERVER, assert_checksums, binding, bound_to,
    exchange_of, parts, profile, read, relayed,
};

const INTERFACE: u8 = 3;

/// Everything a client may do that is no mistake.
fn request() -> impl Strategy<Value = (Frame, Says)> {
    let says = (0..4_usize, 1_u32..).prop_map(|(state, address)| {
        let address = Ipv4Addr::from(address);
        let states = [
            Says::Discover,
            Says::Select(address, SERVER),
            Says::Reboot(address),
            Says::Renew(address),
        ];
        states[state]
    });
    let tag = (0..3_usize, any::<u16>()).prop_map(|(at, tci)| Tag {
        protocol: [0x8100, 0x88a8, 0x9100][at],
        tci,
    });
    (
        (0..Client::ALL.len(), says),
        (any::<u32>(), any::<u16>(), any::<bool>(), any::<bool>()),
        prop::collection::vec(tag, 0..=2),
        prop::option::of(prop::collection::vec(any::<u8>(), 1..20)),
        prop::option::of(prop::collection::vec(any::<u8>(), 1..60)),
        any::<prop::sample::Index>(),
    )
        .prop_map(
            |((client, says), (xid, secs, flag, relay), tags, id, info, by)| {
                let mut message = Client::ALL[client].message(CLIENT, xid, says);
                message.secs = secs;
                message.flags = if flag { 0x8000 } else { 0 };
                message
                    .options
                    .retain(|(code, _)| ![57, 61, 82].contains(code));
                message.options.extend(id.map(|value| (61, value)));
                message.options.extend(info.map(|value| (82, value)));
                let by = by.index(message.options.len());
                message.options.rotate_left(by);
                let mut frame = if relay {
                    relayed(&message)
                } else {
                    Frame::from_client(&message)
                };
                frame.tags = tags;
                (frame, says)
            },
        )
}

proptest! {
    #[test]
    fn every_valid_request_gets_the_reply_that_it_must_get(
        (frame, says) in request(),
        bound in (1_u32..).prop_map(Ipv4Addr::from),
        right in any::<bool>(),
    ) {
        let asked = match says {
            Says::Discover => bound,
            Says::Select(at, _) | Says::Reboot(at) | Says::Renew(at) | Says::Rebind(at) => at,
        };
        let bound = if right { asked } else { bound };
        let bytes = frame.build();
        let message = frame.bootp().unwrap();
        let (outcome, sent) = exchange_of(&bytes, &bound_to(bound), &profile()).unwrap();
        let kind = match says {
            Says::Discover => (Outcome::Offer, 2),
            _ if bound == asked => (Outcome::Ack, 5),
            _ => (Outcome::Nak, 6),
        };
        assert_checksums(&sent, frame.tags.len());
        let reply = Frame::parse(&sent).unwrap();
        let body = reply.bootp().unwrap();
        prop_assert_eq!((outcome, body.message_type()), (kind.0, Some(kind.1)));
        prop_assert_eq!(&reply.tags, &frame.tags);
        prop_assert_eq!((reply.source, reply.source_ip, reply.source_port), (GATEWAY_MAC, SERVER, 67));
        prop_assert_eq!((body.op, body.htype, body.hlen, body.hops, body.secs), (2, 1, 6, 0, 0));
        prop_assert_eq!((body.xid, body.chaddr, body.giaddr), (message.xid, message.chaddr, message.giaddr));
        prop_assert!(body.end && body.trailer.is_empty() && reply.payload.len() >= 300);
        prop_assert_eq!(body.address(54), Some(SERVER));
        prop_assert_eq!(body.get(61), message.get(61));
        prop_assert_eq!(body.get(82), message.get(82));
        if message.get(82).is_some() {
            prop_assert_eq!(body.options.last().map(|(code, _)| *code), Some(82));
        }
        let nak = outcome == Outcome::Nak;
        let nobody = Ipv4Addr::UNSPECIFIED;
        prop_assert_eq!(body.yiaddr, if nak { nobody } else { bound });
        prop_assert_eq!(body.ciaddr, if nak { nobody } else { message.ciaddr });
        prop_assert_eq!(body.number(51), if nak { None } else { Some(3600) });
        let relayed = !message.giaddr.is_unspecified();
        let flags = if relayed && nak { 0x8000 } else { message.flags };
        prop_assert_eq!(body.flags, flags);
        let all = (MAC_BROADCAST, Ipv4Addr::BROADCAST, 68);
        let to = if relayed {
            (RELAY_MAC, RELAY, 67)
        } else if nak {
            all
        } else if !message.ciaddr.is_unspecified() {
            (CLIENT, message.ciaddr, 68)
        } else if message.flags != 0 {
            all
        } else {
            (CLIENT, bound, 68)
        };
        // An address of all ones is a broadcast however it came about.
        let to = if to.1.is_broadcast() { (MAC_BROADCAST, to.1, to.2) } else { to };
        prop_assert_eq!((reply.destination, reply.destination_ip, reply.destination_port), to);
    }

    /// Whatever a pool has and a client asks for: the reply reads back as what it has to be.
    #[test]
    fn a_reply_of_any_pool_to_any_list_reads_back_right(
        (frame, _) in request(),
        (custom, rapid_commit, lease_secs) in any_parts(),
        list in prop::option::of(prop::collection::vec(any::<u8>(), 1..=255)),
        size in prop::option::of(any::<u16>()),
        rapid in any::<bool>(),
        left in prop::option::of(1..100_000_u32),
        min_len in 0..1400_usize,
    ) {
        let mut message = frame.bootp().unwrap();
        message.options.retain(|(code, _)| *code != 55);
        message.options.extend(list.clone().map(|list| (55, list)));
        message.options.extend(size.map(|size| (57, size.to_be_bytes().to_vec())));
        message.options.extend(rapid.then(|| (80, Vec::new())));
        message.min_len = min_len;
        let mut frame = frame;
        frame.payload = message.build();
        prop_assume!(frame.payload.len() <= 1472);
        let custom: Vec<(u8, &[u8])> = custom.iter().map(|(code, value)| (*code, &value[..])).collect();
        let parts = ProfileParts { custom: &custom, rapid_commit, lease_secs, ..parts() };
        let profile = encode(&parts).unwrap();
        let binding = Binding {
            valid_until_secs: left.map_or(NEVER_EXPIRES, |left| NOW + left),
            ..binding()
        };
        let (outcome, sent) = exchange_of(&frame.build(), &binding, &profile).unwrap();
        assert_checksums(&sent, frame.tags.len());
        let reply = Frame::parse(&sent).unwrap();
        let body = reply.bootp().unwrap();
        prop_assert!(body.end && body.trailer.is_empty());
        let limit = usize::from(size.unwrap_or(0)).max(576);
        prop_assert!(reply.payload.len() + 28 <= limit);
        prop_assert!(reply.payload.len() >= frame.payload.len().min(limit - 28).max(300));

        let lease = left.map_or(lease_secs, |left| left.min(lease_secs));
        let kind = match outcome {
            Outcome::Offer => 2,
            Outcome::Ack => 5,
            _ => 6,
        };
        let mut expected = std::vec![
            (53, [kind].to_vec()),
            (54, SERVER.octets().to_vec()),
        ];
        if outcome != Outcome::Nak {
            for (code, secs) in [(51, lease), (58, lease / 2), (59, (u64::from(lease) * 7 / 8) as u32)] {
                expected.push((code, secs.to_be_bytes().to_vec()));
            }
            let mut own = std::vec![
                (1, parts.subnet_mask.to_vec()),
                (3, parts.routers.as_flattened().to_vec()),
                (6, parts.dns.as_flattened().to_vec()),
            ];
            own.retain(|(code, _)| !custom.iter().any(|(at, _)| at == code));
            own.extend(custom.iter().map(|(code, value)| (*code, value.to_vec())));
            own.sort();
            own.retain(|(code, _)| list.as_ref().is_none_or(|list| list.contains(code)));
            // What was left out to make it fit is the end of the list, and only if it had to be.
            let sent: Vec<_> = body.options.iter().filter(|option| own.contains(option)).collect();
            if let Some((_, value)) = own.get(sent.len()) {
                prop_assert!(28 + used(&body) + 7 + 2 + value.len() > limit);
            }
            own.truncate(sent.len());
            expected.extend(own);
        }
        let discover = message.message_type() == Some(1);
        prop_assert_eq!(discover && rapid && rapid_commit, discover && outcome == Outcome::Ack);
        expected.extend((discover && outcome == Outcome::Ack).then(|| (80, Vec::new())));
        for code in [61, 82] {
            expected.extend(message.get(code).map(|value| (code, value.to_vec())));
        }
        prop_assert_eq!(body.options, expected);
    }

    /// Three clients on three lines; whatever happens to a frame, nobody is told of an address that
    /// is not bound to the line and MAC that the frame names.
    #[test]
    fn a_spoilt_frame_never_gets_the_address_of_another_client(
        (frame, _) in request(),
        who in 0..3_usize,
        spoilt in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        mended in any::<bool>(),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let clients = world();
        let mut frame = frame;
        let mac = clients[who].0.mac().unwrap();
        frame.source = mac;
        frame.tags = [Tag::s_vlan(201 + who as u16), Tag::c_vlan(30)].to_vec();
        let mut message = frame.bootp().unwrap();
        message.chaddr[..6].copy_from_slice(&mac);
        frame.payload = message.build();
        let mut bytes = frame.build();
        for (at, value) in spoilt {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if mended {
            mend_ip_checksum(&mut bytes);
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let Some((outcome, sent)) = answer(&clients, &bytes) else {
            return Ok(());
        };
        let answered = [Outcome::Offer, Outcome::Ack, Outcome::Nak, Outcome::InformAck];
        prop_assert!(answered.contains(&outcome));
        assert_checksums(&sent, (reply_payload(&sent) - 14) / 4);
        let reply = Frame::parse(&sent).unwrap();
        let body: Bootp = reply.bootp().unwrap();
        let vid = |at: usize| reply.tags.get(at).map_or(0, |tag| tag.vid());
        let key = line(vid(0), vid(1), body.mac());
        let (_, address) = clients.iter().find(|(at, _)| *at == key).unwrap();
        let told = match outcome {
            Outcome::Nak | Outcome::InformAck => Ipv4Addr::UNSPECIFIED,
            _ => *address,
        };
        prop_assert_eq!(body.yiaddr, told);
        prop_assert_eq!(&bytes[12..12 + 4 * reply.tags.len()], &sent[12..12 + 4 * reply.tags.len()]);
        // It goes back to who sent the frame, or, for who has no address yet, to all of that line.
        let sender: Mac = bytes[6..12].try_into().unwrap();
        prop_assert!(reply.destination == sender || reply.destination == MAC_BROADCAST);
        if body.giaddr.is_unspecified() {
            prop_assert_eq!(body.mac(), sender);
        }
    }
}

/// Offset of the IP header.
fn reply_payload(frame: &[u8]) -> usize {
    let is_tag = |at: usize| matches!(frame[at..at + 2], [0x81, 0] | [0x88, 0xa8] | [0x91, 0]);
    14 + (12..).step_by(4).take_while(|at| is_tag(*at)).count() * 4
}

/// A pool with anything in it that one may have.
fn any_parts() -> impl Strategy<Value = (Vec<(u8, Vec<u8>)>, bool, u32)> {
    let value = prop::collection::vec(any::<u8>(), 1..24);
    let custom = prop::collection::btree_map(1_u8..=254, value, 0..9).prop_map(|all| {
        all.into_iter()
            .filter(|(code, _)| !is_reserved(*code))
            .collect()
    });
    (custom, any::<bool>(), 1_u32..)
}

fn line(outer_vid: u16, inner_vid: u16, mac: Mac) -> BindingKey {
    BindingKey::Line {
        interface: INTERFACE,
        outer_vid,
        inner_vid,
        mac,
    }
}

/// Bytes of a message up to END, END included.
fn used(message: &Bootp) -> usize {
    let options: usize = message
        .options
        .iter()
        .map(|(_, value)| 2 + value.len())
        .sum();
    240 + options + 1
}

fn world() -> Vec<(BindingKey, Ipv4Addr)> {
    (1..=3_u8)
        .map(|n| {
            let key = line(200 + u16::from(n), 30, [2, 0, 0, 0, 0, n]);
            (key, Ipv4Addr::new(100, 64, 3, n))
        })
        .collect()
}

fn answer(clients: &[(BindingKey, Ipv4Addr)], frame: &[u8]) -> Option<(Outcome, Vec<u8>)> {
    let key = read(frame)
        .ok()?
        .key(BindingKey::KIND_LINE, INTERFACE, None)?;
    let (_, address) = clients.iter().find(|(at, _)| *at == key)?;
    exchange_of(frame, &bound_to(*address), &profile()).ok()
}

/// So that what was spoilt in the IP header does not end there.
fn mend_ip_checksum(frame: &mut [u8]) {
    let ip = 22;
    frame[ip + 10..ip + 12].fill(0);
    let sum = nexus_testkit::packet::internet_checksum(&[&frame[ip..ip + 20]]);
    frame[ip + 10..ip + 12].copy_from_slice(&sum.to_be_bytes());
}
