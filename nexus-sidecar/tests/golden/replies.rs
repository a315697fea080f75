//! Every case of the table in the kernel: golden bytes, the host's bytes, counters, last-seen time.

use nexus_abi::{BindingKey, Outcome};
use nexus_testkit::packet::clients::{Client, Says};
use nexus_testkit::packet::{Frame, Tag};

use crate::cases::answered;
use crate::file;
use crate::world::{ANYWHERE, ENDING, Fate, LINES, QINQ, SERVER, TAGGED, World, address_of, key};

#[test]
#[ignore = "needs root and the kernel"]
fn the_kernel_answers_every_client_with_the_golden_bytes_and_as_the_host_would() {
    let mut world = World::new("replies");
    for case in answered() {
        let request = case.frame.build();
        let Fate::Reply(outcome, reply) = world.run(&request) else {
            panic!("{} was not answered", case.name);
        };
        assert_eq!(outcome, case.outcome, "{}", case.name);
        file::check(case.name, &request, &reply);
        // The bench's own reader finds lengths and both checksums right.
        let read = Frame::parse(&reply).unwrap();
        assert_eq!(read.tags, case.frame.tags, "{}", case.name);
        assert_eq!(read.payload.len() + read.tags.len() * 4 + 42, reply.len());
    }
}

#[test]
#[ignore = "needs root and the kernel"]
fn a_frame_is_answered_alike_with_and_without_udp_checksum_and_ethernet_padding() {
    let mut world = World::new("padding");
    let mut frame = Client::Networkd.frame(ANYWHERE, 9, Says::Discover);
    let expected = world.run(&frame.build());
    assert!(matches!(expected, Fate::Reply(Outcome::Offer, _)));
    frame.udp_checksum = false;
    assert_eq!(world.run(&frame.build()), expected);
    for behind in [1, 2, 46, 700] {
        let mut padded = frame.build();
        padded.resize(padded.len() + behind, 0xa5);
        assert_eq!(world.run(&padded), expected, "{behind} bytes of padding");
    }
}

#[test]
#[ignore = "needs root and the kernel"]
fn the_kernel_lease_ends_with_the_binding() {
    let mut world = World::new("ending");
    let frame = Client::Udhcpc.frame(ENDING, 9, Says::Reboot(address_of(ENDING)));
    let Fate::Reply(Outcome::Ack, reply) = world.run(&frame.build()) else {
        panic!("not acknowledged");
    };
    let message = Frame::parse(&reply).unwrap().bootp().unwrap();
    let lease = message.number(51).unwrap();
    // 500 seconds were left when the world was made.
    assert!((1..=500).contains(&lease), "{lease}");
    assert_eq!(message.number(58), Some(lease / 2));
    assert_eq!(message.number(59), Some(lease * 7 / 8));
}

#[test]
#[ignore = "needs root and the kernel"]
fn the_kernel_notes_when_it_heard_a_client_and_only_then() {
    let mut world = World::new("seen");
    let key = key(LINES, BindingKey::KIND_LINE, (200, 30), QINQ);
    let seen = |world: &World| world.kernel.binding(&key).unwrap().last_seen_jiffies;
    let on_line = |mac, says| {
        let frame = Client::Udhcpc.frame(mac, 9, says);
        frame.tag(Tag::s_vlan(200)).tag(Tag::c_vlan(30)).build()
    };
    let fate = world.run(&on_line(TAGGED, Says::Discover));
    assert_eq!(fate, Fate::Untouched(Outcome::UnknownClient));
    assert_eq!(seen(&world), 0);
    let before = world.kernel.jiffies().unwrap().now;
    let fate = world.run(&on_line(QINQ, Says::Select(address_of(QINQ), SERVER)));
    assert!(matches!(fate, Fate::Reply(Outcome::Ack, _)));
    let after = world.kernel.jiffies().unwrap().now;
    let since = seen(&world).wrapping_sub(before);
    assert!(since <= after.wrapping_sub(before), "{since}");
    // Writing the binding anew does not make it unheard.
    let binding = world.bindings[&key];
    world.bind(key, binding);
    assert_ne!(seen(&world), 0);
}
