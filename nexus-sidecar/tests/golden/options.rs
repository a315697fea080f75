//! Option 55 in the kernel: a template for each set of options, and none but exact ones.

use nexus_abi::{Outcome, VARIANTS};
use nexus_dhcp::exchange::{missing_set, read};
use nexus_dhcp::profile::select;
use nexus_testkit::packet::{Bootp, Frame};

use crate::world::{ANYWHERE, Fate, RICH, RICH_ANYWHERE, SERVER, World, address_of};

fn asking(list: &[u8]) -> Vec<u8> {
    let message = Bootp::request(RICH_ANYWHERE, 7).option(53, &[1]);
    Frame::from_client(&message.option(55, list)).build()
}

fn codes(reply: &[u8]) -> Vec<u8> {
    let message = Frame::parse(reply).unwrap().bootp().unwrap();
    message.options.iter().map(|(code, _)| *code).collect()
}

#[test]
#[ignore = "needs root and the kernel"]
fn a_set_without_a_template_is_passed_on_until_it_has_one() {
    let mut world = World::new("variant");
    for list in [&[1, 3, 6][..], &[121], &[252], &[43, 42, 28, 26, 15, 1]] {
        let frame = asking(list);
        assert_eq!(world.run(&frame), Fate::Untouched(Outcome::NoTemplate));
        assert!(world.learn(RICH, &frame));
        let Fate::Reply(Outcome::Offer, reply) = world.run(&frame) else {
            panic!("{list:?} was not answered");
        };
        let mut expected: Vec<u8> = list.iter().copied().filter(|code| *code != 252).collect();
        expected.sort_unstable();
        assert_eq!(
            codes(&reply),
            [&[53, 54, 51, 58, 59], &expected[..]].concat()
        );
        // Another order, repetitions and codes that the pool does not have: the same set.
        let mut same: Vec<u8> = list.iter().rev().copied().collect();
        same.extend([list[0], 200, 53]);
        assert!(matches!(
            world.run(&asking(&same)),
            Fate::Reply(Outcome::Offer, _)
        ));
    }
}

#[test]
#[ignore = "needs root and the kernel"]
fn a_nak_too_waits_for_the_template_and_then_has_none_of_its_options() {
    let mut world = World::new("variant-nak");
    let message = Bootp::request(RICH_ANYWHERE, 7).option(53, &[3]);
    let message = message.option(50, &[10, 9, 8, 7]).option(55, &[15]);
    let frame = Frame::from_client(&message).build();
    assert_eq!(world.run(&frame), Fate::Untouched(Outcome::NoTemplate));
    world.learn(RICH, &frame);
    let Fate::Reply(Outcome::Nak, reply) = world.run(&frame) else {
        panic!("not refused");
    };
    assert_eq!(codes(&reply), [53, 54]);
}

#[test]
#[ignore = "needs root and the kernel"]
fn there_are_as_many_templates_as_a_profile_holds_and_the_rest_is_passed_on() {
    let mut world = World::new("variants");
    let lists: Vec<Vec<u8>> = (0..20_u8)
        .map(|number| {
            let codes = [1, 3, 6, 15, 26].into_iter().enumerate();
            let chosen = codes.filter(|(bit, _)| number >> bit & 1 == 1);
            chosen.map(|(_, code)| code).chain([252]).collect()
        })
        .collect();
    for (number, list) in lists.iter().enumerate() {
        let added = world.learn(RICH, &asking(list));
        assert_eq!(added, number + 1 < VARIANTS, "{number}");
    }
    for (number, list) in lists.iter().enumerate() {
        let answered = matches!(world.run(&asking(list)), Fate::Reply(Outcome::Offer, _));
        assert_eq!(answered, number + 1 < VARIANTS, "{number}");
    }
    // The first one of all is that of all options.
    let all = Bootp::request(RICH_ANYWHERE, 7).option(53, &[1]);
    let fate = world.run(&Frame::from_client(&all).build());
    assert!(matches!(fate, Fate::Reply(Outcome::Offer, _)));
}

#[test]
#[ignore = "needs root and the kernel"]
fn the_same_set_is_not_added_twice() {
    let mut world = World::new("variant-twice");
    let frame = asking(&[1, 3]);
    let (profile, all) = world.profiles[&RICH];
    let set = missing_set(&frame, &read(&frame).unwrap(), &profile).unwrap();
    let template = select(&profile, &all, set);
    assert!(world.kernel.add_variant(RICH, set, &template).unwrap());
    assert!(!world.kernel.add_variant(RICH, set, &template).unwrap());
    assert!(!world.kernel.add_variant(RICH, profile.all, &all).unwrap());
    assert_eq!(world.kernel.profile(RICH).unwrap().variants, 2);
}

/// What does not fit with a large option 57 out of the way is left to the slow path, which leaves options
/// out.
#[test]
#[ignore = "needs root and the kernel"]
fn a_reply_beyond_option_57_is_passed_on() {
    let mut world = World::new("too-large");
    let with = |len: usize, size: u16| {
        let message = Bootp::request(RICH_ANYWHERE, 7).option(53, &[1]);
        let message = message.option(61, &[7; 255][..len]);
        Frame::from_client(&message.option(57, &size.to_be_bytes())).build()
    };
    assert!(matches!(
        world.run(&with(10, 576)),
        Fate::Reply(Outcome::Offer, _)
    ));
    let fate = world.run(&with(200, 576));
    assert_eq!(fate, Fate::Untouched(Outcome::Unsupported));
    assert!(matches!(
        world.run(&with(200, 1500)),
        Fate::Reply(Outcome::Offer, _)
    ));
}

/// RFC 2131 4.3.5: who informs is told options, and nothing of an address or a lease.
#[test]
#[ignore = "needs root and the kernel"]
fn an_inform_is_answered_with_the_options_it_asks_for() {
    let mut world = World::new("inform");
    let informs = |list: &[u8]| {
        let mut message = Bootp::request(RICH_ANYWHERE, 7).option(53, &[8]);
        message.ciaddr = address_of(RICH_ANYWHERE);
        Frame::from_client(&message.option(55, list)).build()
    };
    let frame = informs(&[6, 15]);
    assert_eq!(world.run(&frame), Fate::Untouched(Outcome::NoTemplate));
    world.learn(RICH, &frame);
    let Fate::Reply(Outcome::InformAck, reply) = world.run(&frame) else {
        panic!("not answered");
    };
    assert_eq!(codes(&reply), [53, 54, 6, 15]);
    let message = Frame::parse(&reply).unwrap().bootp().unwrap();
    assert!(message.yiaddr.is_unspecified());
    assert_eq!(message.ciaddr, address_of(RICH_ANYWHERE));
    assert_eq!(message.message_type(), Some(5));
}

/// RFC 2131 4.3.2: every state in which a wrong address is refused.
#[test]
#[ignore = "needs root and the kernel"]
fn a_wrong_address_is_refused_in_every_state() {
    let mut world = World::new("naks");
    let wrong = "10.9.8.7".parse().unwrap();
    let rebooting = Bootp::request(ANYWHERE, 7).option(53, &[3]);
    let rebooting = rebooting.option(50, &[10, 9, 8, 7]);
    for message in [
        Bootp::select(ANYWHERE, 7, wrong, SERVER),
        Bootp::renew(ANYWHERE, 7, wrong),
        rebooting,
    ] {
        let Fate::Reply(Outcome::Nak, reply) = world.run(&Frame::from_client(&message).build())
        else {
            panic!("not refused");
        };
        let frame = Frame::parse(&reply).unwrap();
        assert!(frame.destination_ip.is_broadcast());
        assert_eq!(codes(&reply), [53, 54]);
    }
}
