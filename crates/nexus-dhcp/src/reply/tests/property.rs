//! Properties over generated clients: valid requests, and such that the line has spoilt.

use std::net::Ipv4Addr;
use std::vec::Vec;

use nexus_abi::{Binding, BindingKey, NEVER_EXPIRES, Outcome, Profile};
use nexus_testkit::packet::clients::{Client, Says};
use nexus_testkit::packet::{Bootp, Frame, MAC_BROADCAST, Mac, Tag};
use proptest::prelude::*;

use super::{RELAY, RELAY_MAC, SERVER, assert_checksums, relayed};
use crate::testing::{CLIENT, GATEWAY_MAC, NOW, exchange_into, profile, read};
use crate::{Reply, decide};

const IFINDEX: u32 = 3;

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

fn bound_to(address: Ipv4Addr) -> Binding {
    Binding {
        valid_until_ns: NEVER_EXPIRES,
        last_seen_ns: 0,
        address: address.octets(),
        profile: 0,
    }
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
        let (outcome, sent) =
            exchange_into(&mut Reply::default(), &bytes, &bound_to(bound), &profile()).unwrap();
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
        frame.source = clients[who].0.mac;
        frame.tags = [Tag::s_vlan(clients[who].0.outer_vid), Tag::c_vlan(clients[who].0.inner_vid)].to_vec();
        let mut message = frame.bootp().unwrap();
        message.chaddr[..6].copy_from_slice(&clients[who].0.mac);
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
        prop_assert!([Outcome::Offer, Outcome::Ack, Outcome::Nak].contains(&outcome));
        let reply = Frame::parse(&sent).unwrap();
        let body: Bootp = reply.bootp().unwrap();
        let vid = |at: usize| reply.tags.get(at).map_or(0, |tag| tag.vid());
        let key = BindingKey::line(IFINDEX, vid(0), vid(1), body.mac());
        let (_, address) = clients.iter().find(|(at, _)| *at == key).unwrap();
        let told = if outcome == Outcome::Nak { Ipv4Addr::UNSPECIFIED } else { *address };
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

fn world() -> Vec<(BindingKey, Ipv4Addr)> {
    (1..=3_u8)
        .map(|n| {
            let mac = [2, 0, 0, 0, 0, n];
            let key = BindingKey::line(IFINDEX, 200 + u16::from(n), 30, mac);
            (key, Ipv4Addr::new(100, 64, 3, n))
        })
        .collect()
}

fn answer(clients: &[(BindingKey, Ipv4Addr)], frame: &[u8]) -> Option<(Outcome, Vec<u8>)> {
    let request = read(frame).ok()?;
    let key = request.line_key(IFINDEX);
    let (_, address) = clients.iter().find(|(at, _)| *at == key)?;
    let profile: Profile = profile();
    decide(&request, &bound_to(*address), &profile, NOW).ok()?;
    exchange_into(&mut Reply::default(), frame, &bound_to(*address), &profile).ok()
}

/// So that what was spoilt in the IP header does not end there.
fn mend_ip_checksum(frame: &mut [u8]) {
    let ip = 22;
    frame[ip + 10..ip + 12].fill(0);
    let sum = nexus_testkit::packet::internet_checksum(&[&frame[ip..ip + 20]]);
    frame[ip + 10..ip + 12].copy_from_slice(&sum.to_be_bytes());
}
