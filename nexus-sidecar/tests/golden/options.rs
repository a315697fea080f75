//! Option 55 in the kernel: exactly what is asked for, put together packet by packet.

use nexus_abi::Outcome;
use nexus_dhcp::profile::{ProfileParts, encode};
use nexus_testkit::packet::{Bootp, Frame};

use crate::world::{
    ANYWHERE, Fate, PLAIN, RICH_ANYWHERE, SERVER, World, address_of, is_slow_machine, plain_parts,
};

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
fn a_reply_has_what_the_list_asks_for_of_what_the_pool_has_by_ascending_code() {
    let mut world = World::new("lists");
    let own = [1, 2, 3, 6, 15, 26, 28, 42, 43, 121];
    let all: Vec<u8> = (1..=255).rev().collect();
    for list in [
        &[1, 3, 6][..],
        &[121],
        &[252],
        &[43, 42, 28, 26, 15, 1],
        &[6, 3, 6, 3, 200, 53, 82],
        &own,
        &all,
        &all[100..107],
    ] {
        let Fate::Reply(Outcome::Offer, reply) = world.run(&asking(list)) else {
            panic!("{list:?} was not answered");
        };
        let expected: Vec<u8> = own.into_iter().filter(|code| list.contains(code)).collect();
        assert_eq!(
            codes(&reply),
            [&[53, 54, 51, 58, 59], &expected[..]].concat()
        );
    }
}

/// Every subset of the pool's options: all lengths of what is put together, odd and even, and every sum.
#[test]
#[ignore = "needs root and the kernel"]
fn every_set_of_options_is_put_together_right() {
    let mut world = World::new("sets");
    let own = [1, 2, 3, 6, 15, 26, 28, 42, 43, 121];
    let step = if is_slow_machine() { 17 } else { 1 };
    for set in (0..1_u32 << own.len()).step_by(step) {
        let codes_of = own.iter().enumerate();
        let chosen = codes_of.filter(|(bit, _)| set >> bit & 1 == 1);
        let list: Vec<u8> = chosen.map(|(_, code)| *code).chain([252]).collect();
        let Fate::Reply(Outcome::Offer, reply) = world.run(&asking(&list)) else {
            panic!("{list:?} was not answered");
        };
        // Reading it back checks lengths and both checksums.
        assert_eq!(codes(&reply)[5..], list[..list.len() - 1]);
    }
}

/// The longest pools that there can be: one option that fills it, and 31 of them.
#[test]
#[ignore = "needs root and the kernel"]
fn the_longest_option_and_the_most_options_are_answered() {
    let mut world = World::new("longest-pool");
    let long = [(43, &[0xb7; 232][..])];
    let many: Vec<(u8, &[u8])> = (201..=228).map(|code| (code, &b"odd"[..])).collect();
    for custom in [&long[..], &many] {
        let profile = encode(&ProfileParts {
            custom,
            dns: &[],
            ..plain_parts()
        });
        let mut profile = profile.unwrap();
        for lease_secs in [60, 7200] {
            profile.lease_secs = lease_secs;
            world.kernel.put_profile(PLAIN, &profile).unwrap();
            world.profiles.insert(PLAIN, profile);
            let message = Bootp::request(ANYWHERE, 7)
                .option(53, &[1])
                .option(57, &[5, 220]);
            for message in [message.clone(), message.option(61, &[9; 33])] {
                let frame = Frame::from_client(&message).build();
                let Fate::Reply(Outcome::Offer, reply) = world.run(&frame) else {
                    panic!("not answered");
                };
                let count = 5 + 2 + custom.len() + usize::from(message.get(61).is_some());
                assert_eq!(codes(&reply).len(), count);
            }
        }
    }
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
