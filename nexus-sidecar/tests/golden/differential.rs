//! Kernel and host over thousands of generated and spoilt frames: one verdict, the same bytes.

use std::cell::{Cell, RefCell};
use std::net::Ipv4Addr;

use nexus_abi::Outcome;
use nexus_testkit::packet::clients::{Client, Says};
use nexus_testkit::packet::{Frame, Mac, Tag, internet_checksum};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::world::{
    BOUND, Fate, GATEWAY_MAC, OTHER_SERVER, RELAY, RELAY_MAC, RICH_SERVER, SERVER, STRANGER, World,
};

const CASES: u32 = 6000;

/// Who sends it: somebody bound, mostly on the right line, or a stranger.
fn sender() -> impl Strategy<Value = (Mac, Ipv4Addr, Vec<Tag>)> {
    let tag = (
        0..3_usize,
        any::<u16>(),
        prop_oneof![Just(30_u16), Just(100), 0..4096_u16],
    );
    let tag = tag.prop_map(|(at, bits, vid)| Tag {
        protocol: [0x8100, 0x88a8, 0x9100][at],
        tci: (bits & 0xf000) | vid,
    });
    let wild = prop::collection::vec(tag, 0..=3);
    (
        0..=BOUND.len(),
        prop::option::weighted(0.2, wild),
        any::<u16>(),
    )
        .prop_map(|(who, wild, bits)| {
            let stranger = (STRANGER, Ipv4Addr::new(100, 64, 3, 99), None, 0);
            let (mac, address, line, _) = BOUND.get(who).copied().unwrap_or(stranger);
            let priority = bits & 0xf000;
            let own = match line {
                None | Some((0, _)) => Vec::new(),
                Some((vid, 0)) => vec![Tag::c_vlan(vid)],
                Some((outer, inner)) => vec![Tag::s_vlan(outer), Tag::c_vlan(inner)],
            };
            let own = own.into_iter().map(|tag| Tag {
                tci: tag.tci | priority,
                ..tag
            });
            (mac, address, wild.unwrap_or_else(|| own.collect()))
        })
}

/// A frame as some client, access node or relay may send it.
fn frame() -> impl Strategy<Value = Frame> {
    let options = prop::collection::vec(
        (any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)),
        0..4,
    );
    let bytes = |len| prop::collection::vec(any::<u8>(), len);
    let echoed = prop_oneof![9 => bytes(1..40), 1 => bytes(0..256)];
    (
        sender(),
        (0..Client::ALL.len(), 0..8_usize, any::<u32>(), any::<u16>()),
        (
            any::<bool>(),
            prop::bool::weighted(0.2),
            prop::bool::weighted(0.1),
        ),
        (options, prop::bool::weighted(0.15)),
        prop::option::weighted(0.5, echoed),
        prop::option::weighted(0.3, any::<u16>()),
        (any::<prop::sample::Index>(), 0..600_usize),
    )
        .prop_map(
            |((mac, own, tags), said, how, (extra, add), relay, size, (by, min_len))| {
                let (client, state, xid, secs) = said;
                let (flag, relayed, unicast) = how;
                let wrong = Ipv4Addr::new(10, 9, 8, 7);
                let server = if own.octets()[1] == 96 {
                    RICH_SERVER
                } else {
                    SERVER
                };
                let says = [
                    Says::Discover,
                    Says::Discover,
                    Says::Select(own, server),
                    Says::Select(wrong, server),
                    Says::Select(own, OTHER_SERVER),
                    Says::Reboot(own),
                    Says::Renew(own),
                    Says::Renew(wrong),
                ][state];
                let mut message = Client::ALL[client].message(mac, xid, says);
                (message.secs, message.min_len) = (secs, min_len);
                message.flags = if flag { 0x8000 } else { 0 };
                if let Some(value) = relay {
                    message.options.retain(|(code, _)| *code != 82);
                    message.options.push((82, value));
                }
                if let Some(size) = size {
                    message.options.retain(|(code, _)| *code != 57);
                    message
                        .options
                        .push((57, (size % 2048).to_be_bytes().to_vec()));
                }
                if add {
                    message.options.extend(extra);
                }
                let by = by.index(message.options.len());
                message.options.rotate_left(by);
                if relayed {
                    message.giaddr = RELAY;
                }
                let mut frame = Frame::from_client(&message);
                if relayed {
                    frame.source = RELAY_MAC;
                }
                if relayed || unicast {
                    frame = frame.unicast(GATEWAY_MAC, SERVER);
                }
                frame.tags = tags;
                frame
            },
        )
}

/// What a line, a switch or a fuzzer does to it.
fn spoilt_frame() -> impl Strategy<Value = Vec<u8>> {
    (
        frame(),
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..5),
        any::<bool>(),
        prop::option::weighted(0.2, any::<prop::sample::Index>()),
        prop::option::weighted(
            0.2,
            (1..200_usize, prop::sample::select(vec![0, 0x5a, 255])),
        ),
    )
        .prop_map(|(frame, spoilt, mended, cut, behind)| {
            let ip = 14 + 4 * frame.tags.len();
            let mut bytes = frame.build();
            for (at, value) in spoilt {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Some(cut) = cut {
                bytes.truncate(14 + cut.index(bytes.len() - 14));
            }
            if mended {
                mend_lengths(&mut bytes, ip);
            }
            if let Some((behind, with)) = behind {
                bytes.resize(bytes.len() + behind, with);
            }
            bytes
        })
}

/// Makes both lengths and the IP checksum fit the bytes that are there.
fn mend_lengths(frame: &mut [u8], ip: usize) {
    if frame.len() < ip + 28 {
        return;
    }
    let total = u16::try_from(frame.len() - ip).unwrap();
    frame[ip + 2..ip + 4].copy_from_slice(&total.to_be_bytes());
    frame[ip + 24..ip + 26].copy_from_slice(&(total - 20).to_be_bytes());
    frame[ip + 10..ip + 12].fill(0);
    let sum = internet_checksum(&[&frame[ip..ip + 20]]);
    frame[ip + 10..ip + 12].copy_from_slice(&sum.to_be_bytes());
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    })
}

#[test]
#[ignore = "needs root and the kernel"]
fn kernel_and_host_agree_on_thousands_of_generated_and_spoilt_frames() {
    let world = RefCell::new(World::new("differ"));
    let answered = Cell::new(0_u32);
    let mut met = [0_u32; Outcome::ALL.len()].map(Cell::new);
    runner(CASES)
        .run(&spoilt_frame(), |bytes| {
            let outcome = match world.borrow_mut().run(&bytes) {
                Fate::Reply(outcome, _) => {
                    answered.set(answered.get() + 1);
                    outcome
                }
                Fate::Untouched(outcome) => outcome,
            };
            let count = &met[outcome as usize];
            count.set(count.get() + 1);
            Ok(())
        })
        .unwrap();
    // The generator is worth something only if it reaches every branch, often.
    assert!(
        answered.get() > CASES / 10,
        "{answered:?} of {CASES} were answered"
    );
    for outcome in [
        Outcome::NotDhcp,
        Outcome::Offer,
        Outcome::Ack,
        Outcome::Nak,
        Outcome::OtherServer,
        Outcome::UnknownClient,
        Outcome::Malformed,
        Outcome::Unsupported,
        Outcome::NoProfile,
    ] {
        let count = met[outcome as usize].get_mut();
        assert!(*count > 20, "{outcome:?} was met {count} times only");
    }
}

/// One message as long as a frame can be, its options up to the end.
fn long_frame() -> Vec<u8> {
    let (mac, ..) = BOUND[3];
    let mut message = Client::HomeGateway.message(mac, 7, Says::Discover);
    message.min_len = 0;
    for code in (200..).take(4) {
        message.options.push((code, vec![code; 220]));
    }
    let used = message.build().len();
    message.options.push((210, vec![7; 1472 - used - 2]));
    let frame = Frame::from_client(&message);
    frame.tag(Tag::s_vlan(200)).tag(Tag::c_vlan(30)).build()
}

#[test]
#[ignore = "needs root and the kernel"]
fn kernel_and_host_agree_at_every_length_of_a_cut_off_frame() {
    let mut world = World::new("lengths");
    let whole = long_frame();
    assert_eq!(whole.len(), 22 + 1500);
    let fate = world.run(&whole);
    assert!(matches!(fate, Fate::Reply(Outcome::Offer, _)), "{fate:?}");
    for len in 14..whole.len() {
        let expected = if len < 22 + 28 {
            Outcome::NotDhcp
        } else {
            Outcome::Malformed
        };
        // As it was cut off, and as if it had been sent so.
        let mut cut = whole[..len].to_vec();
        assert_eq!(world.run(&cut), Fate::Untouched(expected), "{len} bytes");
        mend_lengths(&mut cut, 22);
        assert_eq!(
            world.run(&cut),
            Fate::Untouched(expected),
            "{len} bytes, mended"
        );
        // With an END at its end it is whole again, if the cut fell between two options.
        *cut.last_mut().unwrap() = 255;
        let fate = world.run(&cut);
        let is_offer = matches!(fate, Fate::Reply(Outcome::Offer, _));
        assert!(
            is_offer || matches!(fate, Fate::Untouched(_)),
            "{len} bytes, END: {fate:?}"
        );
    }
}
