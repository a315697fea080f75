//! Inputs to begin with: what real clients, access nodes and NASes send.

use std::net::Ipv4Addr;

use nexus_radius::authenticator::sign_request;
use nexus_radius::{AttributeId, Attributes, Code, Packet, Secret};
use nexus_testkit::packet::clients::{Client, Says, relay_information};
use nexus_testkit::packet::{Bootp, Frame, Tag};

const CLIENT: [u8; 6] = [2, 0, 0, 0, 0, 0x21];
const SERVER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 64, 3, 7);
/// Bytes of a frame before its options.
const HEAD: usize = 14 + 28 + 240;

fn messages() -> Vec<Frame> {
    let says = [
        Says::Discover,
        Says::Select(ADDRESS, SERVER),
        Says::Reboot(ADDRESS),
        Says::Renew(ADDRESS),
    ];
    let clients = Client::ALL.into_iter();
    let mut frames: Vec<Frame> = clients
        .flat_map(|client| says.map(|says| client.frame(CLIENT, 7, says)))
        .collect();
    let mut informs = Bootp::request(CLIENT, 7).option(53, &[8]);
    informs.ciaddr = ADDRESS;
    let circuit = relay_information(b"olt1 eth 0/1/5/32:200.30", b"onu-77");
    let mut relayed = Bootp::discover(CLIENT, 7)
        .option(80, &[])
        .relay(SERVER)
        .option(82, &circuit);
    relayed.options.insert(1, (0, Vec::new()));
    let release = Bootp::request(CLIENT, 7).option(53, &[7]).option(52, &[1]);
    frames.extend([informs, relayed, release].iter().map(Frame::from_client));
    frames
}

pub(crate) fn options() -> Vec<Vec<u8>> {
    let with = |frame: Frame| {
        let mut seed = vec![1, 9];
        seed.extend(frame.build().get(HEAD..).unwrap_or_default());
        seed
    };
    messages().into_iter().map(with).collect()
}

fn with_tags() -> impl Iterator<Item = Vec<u8>> {
    messages().into_iter().enumerate().map(|(number, frame)| {
        let tags = [Tag::s_vlan(200), Tag::c_vlan(30)];
        let tags = tags.into_iter().take(number % 3);
        tags.fold(frame, Frame::tag).build()
    })
}

pub(crate) fn frames() -> Vec<Vec<u8>> {
    with_tags()
        .map(|frame| [&[1], &frame[..]].concat())
        .collect()
}

pub(crate) fn exchanges() -> Vec<Vec<u8>> {
    let frames = with_tags().zip(0_u8..);
    frames
        .map(|(frame, number)| {
            let kind = 0x80 | number & 15;
            let head = [kind, number.wrapping_mul(16), 0];
            [&head, &frame[..]].concat()
        })
        .collect()
}

pub(crate) fn circuits() -> Vec<Vec<u8>> {
    let mut turned = relay_information(b"port 7", b"cabinet-12");
    turned.rotate_left(8);
    let seeds = [
        relay_information(b"olt1 eth 0/1/5/32:200.30", b"onu-77"),
        relay_information(&[7; 100], &[8; 26]),
        turned,
        vec![9, 0, 1, 1, 7],
        vec![
            3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8, 0, 9, 0, 10, 0, 11, 0, 1, 1, 7,
        ],
    ];
    let both = seeds
        .iter()
        .flat_map(|seed| [0, 1, 200].map(|flags| (flags, seed)));
    both.map(|(flags, seed)| [&[flags], &seed[..]].concat())
        .collect()
}

pub(crate) fn radius() -> Vec<Vec<u8>> {
    let Ok(secret) = Secret::new(*b"secret") else {
        return Vec::new();
    };
    let mut seeds = Vec::new();
    for names in [
        &["User-Name", "User-Password", "NAS-Port-Id"][..],
        &["User-Name", "CHAP-Password", "CHAP-Challenge"],
        &[
            "User-Name",
            "Calling-Station-Id",
            "Agent-Circuit-Id",
            "Agent-Remote-Id",
        ],
    ] {
        let mut attributes = Attributes::new();
        for name in names {
            if let Some(id) = AttributeId::by_name(name) {
                let _ = attributes.push(id, &[b'a'; 16]);
            }
        }
        let signed = sign_request(Code::ACCESS_REQUEST, 7, [3; 16], &attributes, &secret);
        seeds.extend(signed);
        let packet = Packet {
            code: Code::ACCESS_REQUEST,
            identifier: 7,
            authenticator: [3; 16],
            attributes,
        };
        seeds.push(packet.encode());
    }
    seeds
}
