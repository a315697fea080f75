//! What the kernel passes on, byte for byte, and what it counts it as.

use std::net::Ipv4Addr;

use nexus_abi::Outcome;
use nexus_testkit::packet::clients::{Client, Says};
use nexus_testkit::packet::{Bootp, Frame, Tag, internet_checksum};

use crate::world::{
    ANYWHERE, ENDED, Fate, GATEWAY_MAC, NO_PROFILE, OTHER_SERVER, QINQ, RELAY, RICH_ANYWHERE,
    SERVER, STRANGER, TAGGED, UNTAGGED, World, address_of,
};

fn discover() -> Bootp {
    Bootp::discover(ANYWHERE, 7)
}

fn frame_of(message: &Bootp) -> Vec<u8> {
    Frame::from_client(message).build()
}

/// Runs them all in the kernel and on the host: passed on as they were, and counted as told.
fn assert_passed_on(test: &str, cases: Vec<(&str, Outcome, Vec<u8>)>) {
    let mut world = World::new(test);
    for (name, outcome, frame) in cases {
        assert_eq!(world.run(&frame), Fate::Untouched(outcome), "{name}");
    }
}

#[test]
#[ignore = "needs root and the kernel"]
fn who_is_not_bound_here_is_left_to_the_slow_path() {
    let on = |mac, tags: &[Tag]| {
        let mut frame = Client::Udhcpc.frame(mac, 7, Says::Discover);
        frame.tags = tags.to_vec();
        frame.build()
    };
    let mut ghost = discover().relay(RELAY);
    ghost.chaddr = [0; 16];
    assert_passed_on(
        "unbound",
        vec![
            ("a stranger", Outcome::UnknownClient, on(STRANGER, &[])),
            ("an ended binding", Outcome::UnknownClient, on(ENDED, &[])),
            ("an absent profile", Outcome::NoProfile, on(NO_PROFILE, &[])),
            (
                "no hardware address",
                Outcome::UnknownClient,
                frame_of(&ghost),
            ),
            (
                "untagged client behind a tag",
                Outcome::UnknownClient,
                on(UNTAGGED, &[Tag::c_vlan(100)]),
            ),
            (
                "tagged client without",
                Outcome::UnknownClient,
                on(TAGGED, &[]),
            ),
            (
                "tagged client on another VLAN",
                Outcome::UnknownClient,
                on(TAGGED, &[Tag::c_vlan(101)]),
            ),
            (
                "tagged client behind two tags",
                Outcome::UnknownClient,
                on(TAGGED, &[Tag::c_vlan(100), Tag::c_vlan(1)]),
            ),
            (
                "QinQ client with tags exchanged",
                Outcome::UnknownClient,
                on(QINQ, &[Tag::s_vlan(30), Tag::c_vlan(200)]),
            ),
            (
                "QinQ client on the S-VLAN alone",
                Outcome::UnknownClient,
                on(QINQ, &[Tag::s_vlan(200)]),
            ),
        ],
    );
}

#[test]
#[ignore = "needs root and the kernel"]
fn what_is_for_others_or_for_the_slow_path_is_passed_on() {
    let bound = address_of(ANYWHERE);
    let kind = |kind: u8| {
        let mut message = Bootp::request(ANYWHERE, 7).option(53, &[kind]);
        message.ciaddr = bound;
        message.option(54, &SERVER.octets())
    };
    let other = address_of(TAGGED);
    let informs = |address| {
        let mut message = Bootp::request(ANYWHERE, 7).option(53, &[8]);
        message.ciaddr = address;
        message
    };
    let inform_elsewhere = Frame::from_client(&informs(bound)).unicast(GATEWAY_MAC, OTHER_SERVER);
    let selects = Bootp::select(ANYWHERE, 7, bound, OTHER_SERVER);
    let renews = Frame::from_client(&Bootp::renew(ANYWHERE, 7, bound));
    assert_passed_on(
        "others",
        vec![
            (
                "another server selected",
                Outcome::OtherServer,
                frame_of(&selects),
            ),
            (
                "sent to another server",
                Outcome::OtherServer,
                renews.unicast(GATEWAY_MAC, OTHER_SERVER).build(),
            ),
            (
                "INFORM of another server",
                Outcome::OtherServer,
                inform_elsewhere.build(),
            ),
            ("DECLINE", Outcome::SlowMessage, frame_of(&kind(4))),
            ("RELEASE", Outcome::SlowMessage, frame_of(&kind(7))),
            ("OFFER", Outcome::SlowMessage, frame_of(&kind(2))),
            ("LEASEQUERY", Outcome::SlowMessage, frame_of(&kind(10))),
            (
                "INFORM from elsewhere",
                Outcome::UnknownClient,
                frame_of(&informs(other)),
            ),
            ("FORCERENEW", Outcome::SlowMessage, frame_of(&kind(9))),
            ("type 0", Outcome::Unsupported, frame_of(&kind(0))),
        ],
    );
}

#[test]
#[ignore = "needs root and the kernel"]
fn malformed_messages_are_passed_on() {
    let bound = address_of(ANYWHERE);
    let spoilt = |at: usize, value: u8| {
        let mut frame = frame_of(&discover());
        frame[at] = value;
        frame
    };
    let with = |code: u8, value: &[u8]| frame_of(&discover().option(code, value));
    let ending_in = |bytes: &[u8]| {
        let mut message = Bootp::request(ANYWHERE, 7).option(53, &[1]);
        (message.end, message.min_len) = (false, 0);
        message.trailer = bytes.to_vec();
        frame_of(&message)
    };
    let mut end_behind = ending_in(&[]);
    end_behind.extend([255; 20]);
    let mut in_use = discover();
    in_use.ciaddr = bound;
    let mut foreign = Frame::from_client(&discover());
    foreign.source = STRANGER;
    let mut cut = frame_of(&discover());
    cut.truncate(cut.len() - 1);
    let no_address = Bootp::request(ANYWHERE, 7).option(53, &[3]);
    let inform_nothing = Bootp::request(ANYWHERE, 7).option(53, &[8]);
    let mut empty_list = Bootp::request(ANYWHERE, 7).option(53, &[1]);
    empty_list.options.push((55, Vec::new()));
    let zeros = no_address.clone().option(50, &[0; 4]);
    let contradiction = Bootp::renew(ANYWHERE, 7, bound).option(50, &[10, 9, 8, 7]);
    let cases = [
        ("IP checksum", spoilt(24, 0)),
        ("IP length", spoilt(17, 0)),
        ("UDP length", spoilt(39, 0)),
        ("cut off", cut),
        ("no END", ending_in(&[])),
        ("END behind the datagram", end_behind),
        ("option code at the end", ending_in(&[12])),
        ("option length at the end", ending_in(&[12, 4])),
        ("option over the end", ending_in(&[12, 4, 1, 2, 3])),
        ("empty 61", with(61, &[])),
        ("empty 82", with(82, &[])),
        ("80 with a value", with(80, &[1])),
        ("INFORM without an address", frame_of(&inform_nothing)),
        ("empty 55", frame_of(&empty_list)),
        ("short 57", with(57, &[2])),
        ("long 54", with(54, &[1, 2, 3, 4, 5])),
        ("DISCOVER with an address", frame_of(&in_use)),
        ("another sender than chaddr", foreign.build()),
        ("REQUEST of nothing", frame_of(&no_address)),
        ("REQUEST of 0.0.0.0", frame_of(&zeros)),
        ("renewing and requesting", frame_of(&contradiction)),
    ];
    let cases = cases.map(|(name, frame)| (name, Outcome::Malformed, frame));
    assert_passed_on("malformed", cases.to_vec());
}

#[test]
#[ignore = "needs root and the kernel"]
fn what_the_kernel_does_not_answer_exactly_is_passed_on() {
    let with = |code: u8, value: &[u8]| frame_of(&discover().option(code, value));
    let mut many = discover();
    many.options.resize(65, (0, Vec::new()));
    let mut fragment = Frame::from_client(&discover());
    fragment.fragment = 0x2000;
    let mut ip_options = frame_of(&discover());
    ip_options.splice(34..34, [1, 1, 1, 0]);
    ip_options[14] = 0x46;
    ip_options[17] += 4;
    ip_options[24..26].fill(0);
    let sum = internet_checksum(&[&ip_options[14..38]]);
    ip_options[24..26].copy_from_slice(&sum.to_be_bytes());
    let mut bootp = discover();
    bootp.cookie = [0; 4];
    let mut token_ring = discover();
    token_ring.htype = 6;
    // All of the rich pool's options, and no list.
    let too_long = Bootp::request(RICH_ANYWHERE, 7).option(53, &[1]);
    let too_long = too_long.option(61, &[7; 200]);
    let twice = discover().option(61, &[1, 2]).option(61, &[3, 4]);
    let mut jumbo = discover();
    jumbo.min_len = 1473;
    let cases = [
        ("overload", with(52, &[1])),
        ("61 in two parts", frame_of(&twice)),
        ("65 options", frame_of(&many)),
        ("first fragment", fragment.build()),
        ("IP options", ip_options),
        ("plain BOOTP", frame_of(&bootp)),
        ("no type", frame_of(&Bootp::request(ANYWHERE, 7))),
        ("another hardware", frame_of(&token_ring)),
        ("a reply beyond 576 bytes", frame_of(&too_long)),
        ("a jumbo frame", frame_of(&jumbo)),
    ];
    let cases = cases.map(|(name, frame)| (name, Outcome::Unsupported, frame));
    assert_passed_on("unsupported", cases.to_vec());
}

#[test]
#[ignore = "needs root and the kernel"]
fn all_other_traffic_passes_uncounted() {
    let frame = || Frame::from_client(&discover());
    let mut dns = frame();
    dns.destination_port = 53;
    let mut to_client = frame();
    (to_client.source_port, to_client.destination_port) = (67, 68);
    let mut tcp = frame().build();
    tcp[23] = 6;
    let mut ipv6 = frame().build();
    ipv6[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
    let mut version = frame().build();
    version[14] = 0x65;
    let mut reply = discover();
    reply.op = 2;
    let mut later = frame();
    later.fragment = 100;
    let mut ip_options = frame();
    ip_options.destination_port = 4789;
    let mut ip_options = ip_options.build();
    ip_options.splice(34..34, [1, 1, 1, 0]);
    ip_options[14] = 0x46;
    let mut short = frame().build();
    short.truncate(41);
    let mut tag_only = frame().tag(Tag::c_vlan(5)).build();
    tag_only.truncate(17);
    let cases = [
        ("another port", dns.build()),
        ("the client's port", to_client.build()),
        ("TCP", tcp),
        ("IPv6", ipv6),
        ("no IP version", version),
        ("IP options in front of another port", ip_options),
        ("a BOOTP reply", frame_of(&reply)),
        ("a later fragment", later.build()),
        ("the end within UDP", short),
        ("the end within a tag", tag_only),
        ("an Ethernet header alone", frame().build()[..14].to_vec()),
        (
            "three tags",
            frame()
                .tag(Tag::s_vlan(1))
                .tag(Tag::c_vlan(2))
                .tag(Tag::c_vlan(3))
                .build(),
        ),
    ];
    let cases = cases.map(|(name, frame)| (name, Outcome::NotDhcp, frame));
    assert_passed_on("not-dhcp", cases.to_vec());
}

/// What a relay forwards is not checked against the sender's MAC, but against the map all the same.
#[test]
#[ignore = "needs root and the kernel"]
fn a_relay_gets_nothing_for_a_client_of_another_line() {
    let message = Bootp::discover(TAGGED, 7).relay(RELAY);
    let mut frame = Frame::from_client(&message).unicast(GATEWAY_MAC, SERVER);
    frame.source_ip = Ipv4Addr::new(100, 64, 9, 9);
    let untagged = frame.clone().build();
    let elsewhere = frame.tag(Tag::c_vlan(99)).build();
    assert_passed_on(
        "relay",
        vec![
            ("untagged", Outcome::UnknownClient, untagged),
            ("another VLAN", Outcome::UnknownClient, elsewhere),
        ],
    );
}
