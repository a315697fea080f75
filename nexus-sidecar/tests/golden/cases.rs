//! The table of what is answered: real clients in every state, on every kind of line.

use std::net::Ipv4Addr;

use nexus_abi::Outcome;
use nexus_testkit::packet::clients::{Client, Says, relay_information};
use nexus_testkit::packet::{Bootp, ETH_P_QINQ1, Frame, Tag};

use crate::world::{
    ANYWHERE, GATEWAY_MAC, HURRIED, QINQ, RELAY, RELAY_MAC, RICH_ANYWHERE, RICH_QINQ, RICH_SERVER,
    SERVER, TAGGED, TWICE, UNTAGGED, address_of,
};

/// One line of the table. `name` is that of its golden file.
pub struct Case {
    pub name: &'static str,
    pub frame: Frame,
    pub outcome: Outcome,
}

const WRONG: Ipv4Addr = Ipv4Addr::new(10, 9, 8, 7);
const XID: u32 = 0x3903_f326;

/// By unicast to the gateway, as a client with an address sends it.
fn to_server(mut frame: Frame, from: Ipv4Addr, server: Ipv4Addr) -> Frame {
    frame.source_ip = from;
    frame.unicast(GATEWAY_MAC, server)
}

/// As a relay on the line forwards it, with what it knows of the line.
fn relayed(mut message: Bootp) -> Frame {
    message = message
        .relay(RELAY)
        .option(82, &relay_information(b"port 7", b"cabinet-12"));
    let mut frame = Frame::from_client(&message).unicast(GATEWAY_MAC, SERVER);
    (frame.source, frame.source_ip, frame.source_port) = (RELAY_MAC, RELAY, 67);
    frame
}

/// An S-VLAN tag of older equipment.
fn old_tag(vid: u16) -> Tag {
    Tag {
        protocol: ETH_P_QINQ1,
        tci: vid,
    }
}

pub fn answered() -> Vec<Case> {
    let mut cases = untagged();
    cases.extend(tagged());
    cases.extend(relays_and_lengths());
    cases.extend(messages());
    cases
}

fn untagged() -> Vec<Case> {
    let (any, line) = (address_of(ANYWHERE), address_of(UNTAGGED));
    let udhcpc = |says| Client::Udhcpc.frame(ANYWHERE, XID, says);
    let networkd = |says| Client::Networkd.frame(UNTAGGED, XID, says);
    let windows = |says| Client::Windows.frame(ANYWHERE, XID, says);
    let mut flagged = Client::Windows
        .message(ANYWHERE, XID, Says::Discover)
        .broadcast();
    flagged.secs = 0x0400;
    let case = |name, frame, outcome| Case {
        name,
        frame,
        outcome,
    };
    vec![
        case("udhcpc-discover", udhcpc(Says::Discover), Outcome::Offer),
        case(
            "udhcpc-select",
            udhcpc(Says::Select(any, SERVER)),
            Outcome::Ack,
        ),
        case(
            "udhcpc-renew",
            to_server(udhcpc(Says::Renew(any)), any, SERVER),
            Outcome::Ack,
        ),
        case("udhcpc-rebind", udhcpc(Says::Rebind(any)), Outcome::Ack),
        case(
            "udhcpc-renew-wrong",
            to_server(udhcpc(Says::Renew(WRONG)), WRONG, SERVER),
            Outcome::Nak,
        ),
        case(
            "udhcpc-select-wrong",
            udhcpc(Says::Select(WRONG, SERVER)),
            Outcome::Nak,
        ),
        case(
            "networkd-discover",
            networkd(Says::Discover),
            Outcome::Offer,
        ),
        case(
            "networkd-select",
            networkd(Says::Select(line, SERVER)),
            Outcome::Ack,
        ),
        case(
            "networkd-reboot",
            networkd(Says::Reboot(line)),
            Outcome::Ack,
        ),
        case(
            "windows-discover-broadcast",
            Frame::from_client(&flagged),
            Outcome::Offer,
        ),
        case(
            "windows-select",
            windows(Says::Select(any, SERVER)),
            Outcome::Ack,
        ),
        case(
            "windows-reboot-wrong",
            windows(Says::Reboot(WRONG)),
            Outcome::Nak,
        ),
    ]
}

fn tagged() -> Vec<Case> {
    let (one, two) = (address_of(TAGGED), address_of(QINQ));
    let dhclient = |says| {
        let frame = Client::Dhclient.frame(TAGGED, XID, says);
        frame.tag(Tag::c_vlan(100).priority(5))
    };
    let dhcpcd = |says| {
        let frame = Client::Dhcpcd.frame(QINQ, XID, says);
        frame
            .tag(Tag::s_vlan(200).priority(3))
            .tag(Tag::c_vlan(30).priority(1))
    };
    let gateway = |says| {
        let frame = Client::HomeGateway.frame(RICH_QINQ, XID, says);
        frame.tag(old_tag(300)).tag(Tag::c_vlan(40))
    };
    let rich = address_of(RICH_QINQ);
    let case = |name, frame, outcome| Case {
        name,
        frame,
        outcome,
    };
    let priority_only = Client::Udhcpc.frame(UNTAGGED, XID, Says::Discover);
    let priority_only = priority_only.tag(Tag::c_vlan(0).priority(6));
    vec![
        case(
            "dhclient-discover-vlan",
            dhclient(Says::Discover),
            Outcome::Offer,
        ),
        case(
            "dhclient-select-vlan",
            dhclient(Says::Select(one, SERVER)),
            Outcome::Ack,
        ),
        case(
            "dhclient-reboot-vlan",
            dhclient(Says::Reboot(one)),
            Outcome::Ack,
        ),
        case(
            "dhclient-reboot-wrong-vlan",
            dhclient(Says::Reboot(WRONG)),
            Outcome::Nak,
        ),
        case(
            "dhcpcd-discover-qinq",
            dhcpcd(Says::Discover),
            Outcome::Offer,
        ),
        case(
            "dhcpcd-select-qinq",
            dhcpcd(Says::Select(two, SERVER)),
            Outcome::Ack,
        ),
        case(
            "dhcpcd-renew-qinq",
            to_server(dhcpcd(Says::Renew(two)), two, SERVER),
            Outcome::Ack,
        ),
        case(
            "dhcpcd-reboot-wrong-qinq",
            dhcpcd(Says::Reboot(WRONG)),
            Outcome::Nak,
        ),
        case(
            "gateway-discover-9100",
            gateway(Says::Discover),
            Outcome::Offer,
        ),
        case(
            "gateway-select-9100",
            gateway(Says::Select(rich, RICH_SERVER)),
            Outcome::Ack,
        ),
        case(
            "gateway-rebind-9100",
            gateway(Says::Rebind(rich)),
            Outcome::Ack,
        ),
        case(
            "udhcpc-discover-priority-tag",
            priority_only,
            Outcome::Offer,
        ),
        case(
            "udhcpc-discover-line-before-mac",
            Client::Udhcpc
                .frame(TWICE, XID, Says::Discover)
                .tag(Tag::c_vlan(101)),
            Outcome::Offer,
        ),
        case(
            "udhcpc-discover-mac-elsewhere",
            Client::Udhcpc
                .frame(TWICE, XID, Says::Discover)
                .tag(Tag::c_vlan(102)),
            Outcome::Offer,
        ),
    ]
}

fn relays_and_lengths() -> Vec<Case> {
    let any = address_of(ANYWHERE);
    let plain = |says| Client::Dhclient.message(ANYWHERE, XID, says);
    // Option 82 in front of all others, as some access nodes insert it.
    let mut in_front = Client::Udhcpc.message(ANYWHERE, XID, Says::Select(any, SERVER));
    let relay = relay_information(b"olt1 eth 0/1/5/33", b"onu-78");
    in_front.options.insert(0, (82, relay));
    let mut padded = Client::Udhcpc.message(ANYWHERE, XID, Says::Discover);
    padded.options.insert(1, (0, Vec::new()));
    padded.min_len = 700;
    let grows = Client::Dhclient.frame(RICH_ANYWHERE, XID, Says::Discover);
    let case = |name, frame, outcome| Case {
        name,
        frame,
        outcome,
    };
    vec![
        case(
            "relayed-discover",
            relayed(plain(Says::Discover)),
            Outcome::Offer,
        ),
        case(
            "relayed-select",
            relayed(plain(Says::Select(any, SERVER))),
            Outcome::Ack,
        ),
        case(
            "relayed-reboot-wrong",
            relayed(plain(Says::Reboot(WRONG))),
            Outcome::Nak,
        ),
        case(
            "option-82-in-front",
            Frame::from_client(&in_front),
            Outcome::Ack,
        ),
        case(
            "reply-shorter-than-request",
            Frame::from_client(&padded),
            Outcome::Offer,
        ),
        case(
            "reply-longer-than-request",
            grows.tag(Tag::s_vlan(7)).tag(Tag::c_vlan(8)),
            Outcome::Offer,
        ),
    ]
}

/// INFORM, rapid commit, and lists of options.
fn messages() -> Vec<Case> {
    let any = address_of(ANYWHERE);
    let case = |name, frame, outcome| Case {
        name,
        frame,
        outcome,
    };
    let mut informs = Bootp::request(ANYWHERE, XID)
        .option(53, &[8])
        .option(61, &[1, 2, 0, 0, 0, 0, 0x21])
        .option(55, &[1, 3, 6, 15]);
    informs.ciaddr = any;
    let mut informs_some = Bootp::request(ANYWHERE, XID).option(53, &[8]);
    informs_some = informs_some.option(55, &[6]);
    informs_some.ciaddr = any;
    let rapid = |mac| {
        let mut message = Client::Networkd.message(mac, XID, Says::Discover);
        message.options.insert(1, (80, Vec::new()));
        Frame::from_client(&message)
    };
    let list = |list: &[u8]| {
        let message = Bootp::request(RICH_ANYWHERE, XID).option(53, &[1]);
        Frame::from_client(&message.option(57, &[5, 0xdc]).option(55, list))
    };
    vec![
        case(
            "inform",
            to_server(Frame::from_client(&informs), any, SERVER),
            Outcome::InformAck,
        ),
        case(
            "inform-relayed-some-options",
            relayed(informs_some),
            Outcome::InformAck,
        ),
        case("rapid-commit", rapid(HURRIED), Outcome::Ack),
        case("rapid-commit-not-chosen", rapid(ANYWHERE), Outcome::Offer),
        case(
            "list-in-another-order",
            list(&[121, 43, 6, 3, 1, 250, 3]),
            Outcome::Offer,
        ),
        case("list-of-nothing-there-is", list(&[252, 51]), Outcome::Offer),
        case("list-of-all-codes", list(&all_codes()), Outcome::Offer),
    ]
}

fn all_codes() -> Vec<u8> {
    (1..=254).rev().collect()
}
