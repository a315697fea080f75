//! ARP for the gateway address: answered for who is bound, passed on for all others.

use std::net::Ipv4Addr;

use nexus_abi::Outcome;
use nexus_testkit::packet::{Arp, Tag};

use crate::file;
use crate::world::{
    ANYWHERE, ENDED, Fate, GATEWAY_MAC, NO_PROFILE, QINQ, RICH_SERVER, SERVER, STRANGER, TAGGED,
    World, address_of,
};

fn asks(mac: [u8; 6]) -> Arp {
    Arp::who_has(mac, address_of(mac), SERVER)
}

#[test]
#[ignore = "needs root and the kernel"]
fn a_bound_client_that_asks_for_its_gateway_is_answered_with_the_golden_bytes() {
    let mut world = World::new("arp");
    let mut probe = asks(ANYWHERE);
    probe.sender = Ipv4Addr::UNSPECIFIED;
    let mut unicast = asks(ANYWHERE);
    unicast.destination = GATEWAY_MAC;
    unicast.target_mac = GATEWAY_MAC;
    let in_two = asks(QINQ)
        .tag(Tag::s_vlan(200).priority(3))
        .tag(Tag::c_vlan(30));
    for (name, question) in [
        ("arp-untagged", asks(ANYWHERE)),
        ("arp-vlan", asks(TAGGED).tag(Tag::c_vlan(100).priority(5))),
        ("arp-qinq", in_two),
        ("arp-probe", probe),
        ("arp-refresh", unicast),
    ] {
        let request = question.build();
        let Fate::Reply(Outcome::ArpReply, reply) = world.in_kernel(&request) else {
            panic!("{name} was not answered");
        };
        file::check(name, &request, &reply);
        let expected = Arp {
            destination: question.source,
            source: GATEWAY_MAC,
            tags: question.tags.clone(),
            operation: 2,
            sender_mac: GATEWAY_MAC,
            sender: SERVER,
            target_mac: question.source,
            target: question.sender,
        };
        assert_eq!(reply, expected.build(), "{name}");
    }
}

#[test]
#[ignore = "needs root and the kernel"]
fn every_other_arp_packet_passes_untouched_and_uncounted() {
    let mut world = World::new("arp-pass");
    let ask = |mac, sender, target| Arp::who_has(mac, sender, target);
    let own = address_of(ANYWHERE);
    let mut answer = asks(ANYWHERE);
    answer.operation = 2;
    let mut borrowed = asks(ANYWHERE);
    borrowed.sender_mac = STRANGER;
    let mut other_hardware = asks(ANYWHERE).build();
    other_hardware[15] = 6;
    let cases = [
        (
            "another address",
            ask(ANYWHERE, own, Ipv4Addr::new(100, 64, 0, 2)).build(),
        ),
        (
            "a neighbour",
            ask(ANYWHERE, own, address_of(TAGGED)).build(),
        ),
        ("its own address", ask(ANYWHERE, own, own).build()),
        (
            "another pool's gateway",
            ask(ANYWHERE, own, RICH_SERVER).build(),
        ),
        (
            "with another's address",
            ask(ANYWHERE, address_of(TAGGED), SERVER).build(),
        ),
        (
            "a stranger",
            ask(STRANGER, Ipv4Addr::new(100, 64, 3, 99), SERVER).build(),
        ),
        ("an ended binding", asks(ENDED).build()),
        ("an absent profile", asks(NO_PROFILE).build()),
        ("another line", asks(TAGGED).tag(Tag::c_vlan(101)).build()),
        ("an answer", answer.build()),
        ("another sender than the frame's", borrowed.build()),
        ("another hardware", other_hardware),
        ("cut off", asks(ANYWHERE).build()[..41].to_vec()),
    ];
    for (name, frame) in cases {
        let fate = world.in_kernel(&frame);
        assert_eq!(fate, Fate::Untouched(Outcome::NotDhcp), "{name}");
    }
}
