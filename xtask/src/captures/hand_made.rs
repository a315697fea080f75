//! Frames that no program here sends, made by hand: phones, desktops, home gateways, boot ROMs.
//!
//! Option orders and parameter lists are those that such devices are known by on the wire; serial numbers,
//! names and addresses are invented.

use std::net::Ipv4Addr;

use nexus_testkit::captures::Capture;
use nexus_testkit::packet::{Bootp, Frame, Mac, Tag};

use super::responder::SERVER;

const MAC: Mac = [2, 0, 0, 0, 2, 0x10];
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 88, 2, 16);
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 9);
const RELAY_MAC: Mac = [2, 0, 0, 0, 0, 0x99];
const XID: u32 = 0x3903_f326;

const DISCOVER: &[u8] = &[1];
const REQUEST: &[u8] = &[3];
const INFORM: &[u8] = &[8];

/// Length of a whole BOOTP message that boot ROMs and many gateways send: 576 bytes with its headers.
const FULL: usize = 548;

/// All of them.
pub fn all() -> Vec<Capture> {
    let mut all = desktops_and_phones();
    all.extend(gateways());
    all.extend(boot_roms_and_lengths());
    all
}

fn capture(name: &str, what: &str, frame: &Frame) -> Capture {
    Capture {
        name: name.to_owned(),
        about: vec!["made by hand".to_owned(), format!("situation: {what}")],
        frame: frame.build(),
    }
}

fn with(options: &[(u8, &[u8])]) -> Bootp {
    options
        .iter()
        .fold(Bootp::request(MAC, XID), |message, (code, value)| {
            message.option(*code, value)
        })
}

/// Hardware type and MAC, as most identify themselves (RFC 2132 9.14).
fn ethernet_id() -> Vec<u8> {
    [&[1][..], &MAC].concat()
}

fn from_windows(message: &Bootp) -> Frame {
    let mut frame = Frame::from_client(message);
    (frame.ttl, frame.id) = (128, 0x1bcd);
    frame
}

/// To the server alone, from the address in `ciaddr`; the gateway's MAC is what the server's will be.
fn to_server(frame: Frame) -> Frame {
    frame.unicast([2, 0, 0x5e, 0, 0, 1], SERVER)
}

fn desktops_and_phones() -> Vec<Capture> {
    let (id, address, server) = (ethernet_id(), ADDRESS.octets(), SERVER.octets());
    let host = b"DESKTOP-4F2K1LM";
    // Flags, two unused bytes, the name (RFC 4702 2).
    let fqdn = [&[0; 3][..], host].concat();
    let windows: &[u8] = &[1, 3, 6, 15, 31, 33, 43, 44, 46, 47, 119, 121, 249, 252];
    let android: &[u8] = &[1, 3, 6, 15, 26, 28, 51, 58, 59, 43, 114, 108];
    let ios: &[u8] = &[1, 121, 3, 6, 15, 108, 114, 119, 252];
    let windows_tail: [(u8, &[u8]); 4] =
        [(12, host), (81, &fqdn), (60, b"MSFT 5.0"), (55, windows)];

    let discover = with(&[(53, DISCOVER), (61, &id), (50, &address), (12, host)])
        .option(60, b"MSFT 5.0")
        .option(55, windows);
    let mut flagged = discover.clone().broadcast();
    flagged.secs = 0x0400;
    let select = [
        &[(53, REQUEST), (61, &id[..]), (50, &address), (54, &server)][..],
        &windows_tail,
    ]
    .concat();
    let mut renew = with(&[&[(53, REQUEST), (61, &id[..])][..], &windows_tail].concat());
    renew.ciaddr = ADDRESS;
    let mut inform = with(&[(53, INFORM), (61, &id), (12, host), (60, b"MSFT 5.0")]);
    inform = inform.option(55, windows);
    inform.ciaddr = ADDRESS;

    let android_says = |kind, requested: &[(u8, &[u8])]| {
        let head: [(u8, &[u8]); 2] = [(53, kind), (61, &id)];
        let tail: [(u8, &[u8]); 4] = [
            (57, &1500_u16.to_be_bytes()),
            (60, b"android-dhcp-14"),
            (12, b"Pixel-7"),
            (55, android),
        ];
        let mut message = with(&[&head[..], requested, &tail].concat());
        // It ends with END, whatever the length.
        message.min_len = 0;
        message
    };
    let mut apple = with(&[(53, DISCOVER), (55, ios), (57, &1500_u16.to_be_bytes())]);
    apple = apple
        .option(61, &id)
        .option(51, &7_776_000_u32.to_be_bytes())
        .option(12, b"iPhone");
    let apple_select = with(&[(53, REQUEST), (55, ios), (57, &1500_u16.to_be_bytes())])
        .option(61, &id)
        .option(50, &address)
        .option(54, &server)
        .option(12, b"iPhone");
    let options: [(u8, &[u8]); 2] = [(50, &address), (54, &server)];
    vec![
        capture(
            "windows-discover",
            "DISCOVER of Windows 10 and 11",
            &from_windows(&discover),
        ),
        capture(
            "windows-discover-broadcast",
            "the same with broadcast flag, and seconds written the other way round",
            &from_windows(&flagged),
        ),
        capture(
            "windows-select",
            "REQUEST of Windows 10 and 11 (SELECTING)",
            &from_windows(&with(&select)),
        ),
        capture(
            "windows-renew",
            "REQUEST of Windows 10 and 11 (RENEWING)",
            &to_server(from_windows(&renew)),
        ),
        capture(
            "windows-inform",
            "INFORM of Windows 10 and 11",
            &from_windows(&inform),
        ),
        capture(
            "android-discover",
            "DISCOVER of Android, unpadded",
            &Frame::from_client(&android_says(DISCOVER, &[])),
        ),
        capture(
            "android-select",
            "REQUEST of Android (SELECTING), unpadded",
            &Frame::from_client(&android_says(REQUEST, &options)),
        ),
        capture(
            "ios-discover",
            "DISCOVER of iOS",
            &Frame::from_client(&apple),
        ),
        capture(
            "ios-select",
            "REQUEST of iOS (SELECTING)",
            &Frame::from_client(&apple_select),
        ),
    ]
}

/// Enterprise 3561 (the Broadband Forum) with manufacturer, serial number and class (TR-069 annex F).
fn forum_device() -> Vec<u8> {
    let mut device = vec![0, 0, 0x0d, 0xe9, 33];
    for (code, value) in [
        (1, &b"00256D"[..]),
        (2, b"S2217045998"),
        (3, b"HomeGW-5 rev2"),
    ] {
        device.extend([code, value.len() as u8]);
        device.extend(value);
    }
    // Length of all behind it.
    if let Some(len) = device.len().checked_sub(5)
        && let Some(at) = device.get_mut(4)
    {
        *at = len as u8;
    }
    device
}

/// Option 82 with its sub-options in the order given (RFC 3046 2.0).
fn relay_option(parts: &[(u8, &[u8])]) -> Vec<u8> {
    let mut value = Vec::new();
    for (code, part) in parts {
        value.extend([*code, part.len() as u8]);
        value.extend(*part);
    }
    value
}

/// How a relay sends a message on.
fn relayed(message: Bootp) -> Frame {
    let mut frame = to_server(Frame::from_client(&message.relay(RELAY)));
    (frame.source, frame.source_ip, frame.source_port) = (RELAY_MAC, RELAY, 67);
    frame
}

fn gateways() -> Vec<Capture> {
    let id = ethernet_id();
    let device = forum_device();
    let wanted: &[u8] = &[1, 3, 6, 15, 42, 43, 120, 121, 125, 212];
    let forward = relay_option(&[(1, b"olt1 eth 0/1/5/32:200.30"), (2, b"onu-77")]);
    let reverse = relay_option(&[(2, b"onu-77"), (1, b"olt1 eth 0/1/5/32:200.30")]);
    let spare = relay_option(&[
        (9, &[0, 0, 0x0d, 0xe9, 4, 0x81, 2, 1, 0x90]),
        (2, b"onu-77"),
        (6, b"sub-77"),
        (1, b"olt1 eth 0/1/5/32:200.30"),
        (151, &[0]),
    ]);
    let head = |kind| -> [(u8, &[u8]); 2] { [(53, kind), (61, &id)] };
    let vendor: [(u8, &[u8]); 3] = [
        (60, b"dslforum.org"),
        (43, &[1, 4, 0xde, 0xad, 0xbe, 0xef]),
        (125, &device),
    ];
    let class: [u8; 10] = [0, 0, 0x0d, 0xe9, 5, 4, b'G', b'P', b'O', b'N'];
    let size = 576_u16.to_be_bytes();
    let tail: [(u8, &[u8]); 3] = [(57, &size), (124, &class), (55, wanted)];
    let select: [(u8, &[u8]); 2] = [(50, &ADDRESS.octets()), (54, &SERVER.octets())];

    let whole = |kind, chosen: &[(u8, &[u8])], relay: &[u8]| {
        // What the access node says of the line stands in the middle, where it is not looked for.
        let line: [(u8, &[u8]); 1] = [(82, relay)];
        let mut message = with(&[&head(kind)[..], &vendor, &line, chosen, &tail].concat());
        message.min_len = FULL;
        message.broadcast()
    };
    let tags = [Tag::s_vlan(200).priority(3), Tag::c_vlan(30).priority(1)];
    let tagged = |message: &Bootp| {
        tags.iter()
            .fold(Frame::from_client(message), |frame, tag| frame.tag(*tag))
    };
    let mut padded = Bootp::request(MAC, XID).option(53, DISCOVER);
    for (code, value) in [
        (0, &[][..]),
        (61, &id[..]),
        (0, &[]),
        (0, &[]),
        (55, wanted),
        (0, &[]),
    ] {
        padded = padded.option(code, value);
    }
    let mut renew = with(&[&head(REQUEST)[..], &vendor, &tail].concat());
    renew.ciaddr = ADDRESS;
    let last = with(&[&head(DISCOVER)[..], &tail, &[(82, &forward[..])]].concat());
    vec![
        capture(
            "gateway-discover-qinq",
            "DISCOVER of a home gateway, option 82 in the middle, 548 bytes, QinQ with priorities",
            &tagged(&whole(DISCOVER, &[], &forward)),
        ),
        capture(
            "gateway-select-qinq",
            "its REQUEST (SELECTING), sub-options of option 82 in reverse order",
            &tagged(&whole(REQUEST, &select, &reverse)),
        ),
        capture(
            "gateway-discover-82-many-qinq",
            "DISCOVER with option 82 of five sub-options, the circuit-id the fourth",
            &tagged(&whole(DISCOVER, &[], &spare)),
        ),
        capture(
            "gateway-renew",
            "REQUEST of a home gateway (RENEWING), without option 82",
            &to_server(Frame::from_client(&renew)),
        ),
        capture(
            "gateway-discover-relayed",
            "its DISCOVER through a relay, option 82 behind all others, as RFC 3046 has it",
            &relayed(last),
        ),
        capture(
            "gateway-discover-pads",
            "DISCOVER with pad bytes between its options",
            &Frame::from_client(&padded),
        ),
    ]
}

fn boot_roms_and_lengths() -> Vec<Capture> {
    // Client machine identifier: type 0 and a UUID (RFC 4578 2.3).
    let uuid = [
        &[0][..],
        &[
            0x4c, 0x4c, 0x45, 0x44, 0, 0x35, 0x31, 0x10, 0x80, 0x59, 0xb4, 0xc0, 0x4f, 0x32, 0x32,
            0x32,
        ],
    ]
    .concat();
    let pxe_wants: Vec<u8> = (1..=9)
        .chain([
            12, 13, 15, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60, 66, 67, 97,
        ])
        .chain(128..=135)
        .collect();
    let pxe = |kind, chosen: &[(u8, &[u8])]| {
        let tail: [(u8, &[u8]); 6] = [
            (55, &pxe_wants),
            (57, &1464_u16.to_be_bytes()),
            (97, &uuid),
            (94, &[1, 3, 16]),
            (93, &[0, 7]),
            (60, b"PXEClient:Arch:00007:UNDI:003016"),
        ];
        let mut message = with(&[&[(53, kind)][..], chosen, &tail].concat()).broadcast();
        message.min_len = FULL;
        message.secs = 4;
        message
    };
    let select: [(u8, &[u8]); 2] = [(54, &SERVER.octets()), (50, &ADDRESS.octets())];
    let of_len = |min_len: usize| {
        let mut message = with(&[(53, DISCOVER), (61, &ethernet_id()), (55, &[1, 3, 6])]);
        message.min_len = min_len;
        Frame::from_client(&message)
    };
    let mut unsummed = of_len(300);
    unsummed.udp_checksum = false;
    vec![
        capture(
            "pxe-discover",
            "DISCOVER of a boot ROM, 548 bytes of BOOTP",
            &Frame::from_client(&pxe(DISCOVER, &[])),
        ),
        capture(
            "pxe-select",
            "its REQUEST (SELECTING)",
            &Frame::from_client(&pxe(REQUEST, &select)),
        ),
        capture(
            "plain-discover-576",
            "DISCOVER of 576 bytes of BOOTP",
            &of_len(576),
        ),
        capture(
            "plain-discover-unpadded",
            "DISCOVER that ends with its END",
            &of_len(0),
        ),
        capture(
            "plain-discover-no-udp-checksum",
            "DISCOVER without a UDP checksum",
            &unsummed,
        ),
    ]
}
