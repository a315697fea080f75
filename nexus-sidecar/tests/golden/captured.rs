//! What real clients and relays have sent, once more: each is answered in the kernel, and in every byte as on the
//! host.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use nexus_abi::{BindingKey, Circuit, Outcome};
use nexus_dhcp::circuit::CircuitBuffer;
use nexus_dhcp::profile::{ProfileParts, encode};
use nexus_dhcp::{Bytes, exchange};
use nexus_testkit::captures::{Capture, load};
use nexus_testkit::packet::{Bootp, Frame, MAC_BROADCAST, Mac};

use crate::world::{CIRCUITS, Fate, GATEWAY_MAC, LINES, World, binding, plain_parts};

/// Server of the network that they were captured in, and the profile that stands for its pool here.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
const POOL: u16 = 30;
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 88, 99, 99);
/// The pool's options, by ascending code.
const OWN: [u8; 7] = [1, 3, 6, 15, 26, 28, 42];

fn captures() -> Vec<Capture> {
    load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures")).unwrap()
}

/// The address that the client of a request had there; any, if it does not say.
fn address_of(request: &Bootp) -> Ipv4Addr {
    let had = request.address(50).unwrap_or(request.ciaddr);
    if had.is_unspecified() {
        Ipv4Addr::new(10, 88, 1, request.mac()[5])
    } else {
        had
    }
}

fn world(test: &str) -> World {
    let mut world = World::new(test);
    let pool = encode(&ProfileParts {
        server_id: SERVER.octets(),
        subnet_mask: [255, 255, 0, 0],
        routers: &[SERVER.octets()],
        domain_name: Some("example.net"),
        mtu: Some(1492),
        ntp: &[[10, 88, 0, 2]],
        custom: &[(28, &[10, 88, 255, 255])],
        ..plain_parts()
    })
    .unwrap();
    world.kernel.put_profile(POOL, &pool).unwrap();
    world.profiles.insert(POOL, pool);
    world
}

fn by_mac(mac: Mac) -> BindingKey {
    BindingKey::Mac {
        interface: LINES,
        mac,
    }
}

fn situation(capture: &Capture) -> &str {
    capture.name.split('-').nth(1).unwrap()
}

/// The reply is what the request asks for: checksums and lengths are checked by reading it.
fn check(name: &str, request: &Frame, reply: &[u8], outcome: Outcome) -> Bootp {
    let frame = Frame::parse(reply).unwrap();
    let (asked, told) = (request.bootp().unwrap(), frame.bootp().unwrap());
    assert_eq!(frame.tags, request.tags, "{name}");
    assert_eq!(frame.source, GATEWAY_MAC, "{name}");
    assert_eq!(frame.source_ip, SERVER, "{name}");
    let relayed = !asked.giaddr.is_unspecified();
    let nak = outcome == Outcome::Nak;
    let to = if relayed && outcome != Outcome::InformAck {
        (request.source, asked.giaddr, 67)
    } else if nak {
        (MAC_BROADCAST, Ipv4Addr::BROADCAST, 68)
    } else if !asked.ciaddr.is_unspecified() {
        (request.source, asked.ciaddr, 68)
    } else if asked.flags & 0x8000 != 0 {
        (MAC_BROADCAST, Ipv4Addr::BROADCAST, 68)
    } else {
        (request.source, told.yiaddr, 68)
    };
    let sent = (
        frame.destination,
        frame.destination_ip,
        frame.destination_port,
    );
    assert_eq!(sent, to, "{name}");
    assert_eq!(
        (told.op, told.xid, told.chaddr),
        (2, asked.xid, asked.chaddr),
        "{name}"
    );
    assert!(told.end && told.trailer.is_empty(), "{name}");
    let leased = matches!(outcome, Outcome::Offer | Outcome::Ack);
    let mut expected = vec![53, 54];
    expected.extend(if leased { &[51, 58, 59][..] } else { &[] });
    let listed = |code: &&u8| asked.get(55).is_none_or(|list| list.contains(code));
    expected.extend(OWN.iter().filter(listed).filter(|_| !nak));
    let echoed = [61, 82]
        .into_iter()
        .filter(|code| asked.get(*code).is_some());
    expected.extend(echoed);
    let codes: Vec<u8> = told.options.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, expected, "{name}");
    assert_eq!(
        (told.get(61), told.get(82)),
        (asked.get(61), asked.get(82)),
        "{name}"
    );
    told
}

#[test]
#[ignore = "needs root and the kernel"]
fn every_captured_request_is_answered_in_the_kernel() {
    let mut world = world("captured");
    let mut met: BTreeMap<&str, u32> = BTreeMap::new();
    let captures = captures();
    for capture in &captures {
        let name = &capture.name;
        let request = Frame::parse(&capture.frame).unwrap();
        let message = request.bootp().unwrap();
        let (mac, bound) = (message.mac(), address_of(&message));
        world.bind(by_mac(mac), binding(mac, bound, POOL));
        let outcome = match situation(capture) {
            "discover" => Outcome::Offer,
            "inform" => Outcome::InformAck,
            "release" | "decline" => Outcome::SlowMessage,
            _ => Outcome::Ack,
        };
        let fate = world.run(&capture.frame);
        assert_eq!(fate.outcome(), outcome, "{name}");
        *met.entry(outcome.label()).or_default() += 1;
        if let Fate::Reply(_, reply) = fate {
            let told = check(name, &request, &reply, outcome);
            let leased = outcome != Outcome::InformAck;
            let address = if leased { bound } else { Ipv4Addr::UNSPECIFIED };
            assert_eq!(told.yiaddr, address, "{name}");
        } else {
            assert_eq!(outcome, Outcome::SlowMessage, "{name}");
        }
    }
    assert!(met["offer"] > 10 && met["ack"] > 20, "{met:?}");
    assert!(
        met["inform-ack"] >= 2 && met["slow-message"] >= 5,
        "{met:?}"
    );
}

#[test]
#[ignore = "needs root and the kernel"]
fn every_captured_request_for_another_address_is_refused_in_the_kernel() {
    let mut world = world("captured-nak");
    let mut refused = 0;
    for capture in captures() {
        let name = &capture.name;
        let request = Frame::parse(&capture.frame).unwrap();
        let mac = request.bootp().unwrap().mac();
        world.bind(by_mac(mac), binding(mac, ADDRESS, POOL));
        let fate = world.run(&capture.frame);
        let outcome = match situation(&capture) {
            "discover" => Outcome::Offer,
            // Not where it is bound: it may have its address from elsewhere.
            "inform" => Outcome::UnknownClient,
            "release" | "decline" => Outcome::SlowMessage,
            _ => Outcome::Nak,
        };
        assert_eq!(fate.outcome(), outcome, "{name}");
        if let Fate::Reply(_, reply) = fate {
            let told = check(name, &request, &reply, outcome);
            let offered = outcome == Outcome::Offer;
            let address = if offered {
                ADDRESS
            } else {
                Ipv4Addr::UNSPECIFIED
            };
            assert_eq!(told.yiaddr, address, "{name}");
            refused += u32::from(outcome == Outcome::Nak);
        }
    }
    assert!(refused > 20, "{refused}");
}

#[test]
#[ignore = "needs root and the kernel"]
fn captured_option_82_is_an_identity() {
    let mut world = world("captured-82");
    let mut known = 0;
    for capture in captures() {
        let request = exchange::read(&capture.frame).unwrap();
        let mut buffer = CircuitBuffer::default();
        let option = request.options.relay;
        if option.len == 0 || situation(&capture) != "discover" {
            continue;
        }
        let name = &capture.name;
        let read: Circuit = *buffer.read(&Bytes(&capture.frame), option, false).unwrap();
        let key = BindingKey::Circuit {
            interface: CIRCUITS,
            circuit: Circuit::new(read.circuit_id(), &[]).unwrap(),
        };
        let mac = request.mac();
        world.kernel.remove_binding(&key);
        world.bindings.remove(&key);
        let fate = world.run_on(CIRCUITS, &capture.frame);
        assert!(!matches!(fate, Fate::Reply(..)), "{name}");
        world.bind(key, binding(mac, ADDRESS, POOL));
        let fate = world.run_on(CIRCUITS, &capture.frame);
        assert_eq!(fate.outcome(), Outcome::Offer, "{name}");
        world.bind(key, binding([2, 9, 9, 9, 9, 9], ADDRESS, POOL));
        let fate = world.run_on(CIRCUITS, &capture.frame);
        assert_eq!(fate, Fate::Untouched(Outcome::MacMismatch), "{name}");
        known += 1;
    }
    assert!(known >= 3, "{known}");
}
