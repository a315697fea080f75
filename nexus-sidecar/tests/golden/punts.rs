//! Floods: what one line may send to the slow path, what an interface may, and what neither touches.

use std::time::Duration;

use nexus_abi::Outcome;
use nexus_sidecar::fastpath::{FastPath, FastPathConfig, PuntLimits};
use nexus_testkit::packet::{Bootp, Frame, Mac, Tag};

use crate::home::Home;
use crate::world::{CIRCUITS, Fate, LINES, QINQ, World, address_of};

/// Many more than any burst here.
const FLOOD: u32 = 300;

fn world(test: &str, punts: PuntLimits) -> World {
    let home = Home::new(test);
    let kernel = FastPath::open(&FastPathConfig {
        punts,
        ..home.config(1024)
    });
    World::over(home, kernel.unwrap())
}

fn line_limit(line_rate: u32, line_burst: u32) -> PuntLimits {
    PuntLimits {
        line_rate,
        line_burst,
        ..PuntLimits::default()
    }
}

/// A DISCOVER of an unbound client.
fn unknown(number: u32, tags: &[Tag]) -> Vec<u8> {
    let [_, b, c, d] = number.to_be_bytes();
    let mac: Mac = [2, 0xf0, 0, b, c, d];
    let mut frame = Frame::from_client(&Bootp::discover(mac, number));
    frame.tags = tags.to_vec();
    frame.build()
}

/// How many of the frames reach the slow path; all others are dropped, counted as a flood. The bound that
/// comes with it allows for the time that the test took.
fn admitted(world: &mut World, limit: (u32, u32), frames: impl Iterator<Item = Vec<u8>>) -> u32 {
    let (rate, burst) = limit;
    let before = world.kernel.jiffies().unwrap();
    let mut admitted = 0;
    for frame in frames {
        match world.in_kernel(&frame) {
            Fate::Untouched(Outcome::UnknownClient) => admitted += 1,
            Fate::Dropped(Outcome::Flooded) => {}
            fate => panic!("{fate:?}"),
        }
    }
    let took = world.kernel.jiffies().unwrap().now.wrapping_sub(before.now);
    let refilled = rate * (took / before.per_sec + 1);
    assert!(
        (burst..=burst + refilled).contains(&admitted),
        "{admitted} of a burst of {burst} and {refilled}"
    );
    admitted
}

#[test]
#[ignore = "needs root and the kernel"]
fn a_line_gets_its_burst_to_the_slow_path_whoever_speaks_on_it() {
    let mut world = world("punt-line", line_limit(1, 20));
    let tags = [Tag::s_vlan(9), Tag::c_vlan(8)];
    // On tagged lines the VLAN pair counts, whatever MAC a flood invents.
    admitted(
        &mut world,
        (1, 20),
        (0..FLOOD).map(|mac| unknown(mac, &tags)),
    );
    // Without tags the MAC does.
    admitted(&mut world, (1, 20), (0..FLOOD).map(|_| unknown(7, &[])));
}

#[test]
#[ignore = "needs root and the kernel"]
fn a_flooded_line_holds_back_no_other_and_no_answer() {
    let mut world = world("punt-other", line_limit(1, 5));
    let flooded = [Tag::s_vlan(200), Tag::c_vlan(30)];
    admitted(
        &mut world,
        (1, 5),
        (0..FLOOD).map(|mac| unknown(mac, &flooded)),
    );
    for (number, other) in [
        (1, &[Tag::s_vlan(200), Tag::c_vlan(31)][..]),
        (2, &[Tag::s_vlan(201), Tag::c_vlan(30)]),
        (3, &[Tag::c_vlan(200)]),
        (4, &[]),
    ] {
        let fate = world.in_kernel(&unknown(number, other));
        assert_eq!(fate, Fate::Untouched(Outcome::UnknownClient), "{other:?}");
    }
    // Who is bound on the line itself goes on being answered, and what is not DHCP goes its way.
    let mut bound = Frame::from_client(&Bootp::renew(QINQ, 7, address_of(QINQ)));
    bound.tags = flooded.to_vec();
    for _ in 0..FLOOD {
        assert!(matches!(
            world.run(&bound.build()),
            Fate::Reply(Outcome::Ack, _)
        ));
    }
    bound.destination_port = 53;
    for _ in 0..FLOOD {
        let fate = world.in_kernel(&bound.build());
        assert_eq!(fate, Fate::Untouched(Outcome::NotDhcp));
    }
    // The same line on another interface is another line.
    let fate = world.in_kernel_on(CIRCUITS, &unknown(1, &[Tag::s_vlan(7)]));
    assert_eq!(fate, Fate::Untouched(Outcome::UnknownClient));
}

#[test]
#[ignore = "needs root and the kernel"]
fn a_flooded_line_is_heard_again_after_a_while() {
    let mut world = world("punt-refill", line_limit(2, 3));
    let frame = unknown(1, &[Tag::c_vlan(5)]);
    admitted(&mut world, (2, 3), (0..FLOOD).map(|_| frame.clone()));
    let heard = (0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        world.in_kernel(&frame) == Fate::Untouched(Outcome::UnknownClient)
    });
    assert!(heard, "not heard for half a minute at 2 packets a second");
}

#[test]
#[ignore = "needs root and the kernel"]
fn an_interface_has_a_limit_over_all_its_lines() {
    let limits = PuntLimits {
        interface_rate: 1,
        interface_burst: 50,
        ..line_limit(1, 10)
    };
    let mut world = world("punt-interface", limits);
    let lines = (0..FLOOD).map(|number| unknown(number, &[Tag::c_vlan(1 + number as u16)]));
    admitted(&mut world, (1, 50), lines);
    // The other interfaces have limits of their own.
    let fate = world.in_kernel_on(CIRCUITS, &unknown(1, &[Tag::c_vlan(900)]));
    assert_eq!(fate, Fate::Untouched(Outcome::UnknownClient));
}

#[test]
#[ignore = "needs root and the kernel"]
fn without_a_limit_nothing_is_held_back() {
    let mut world = World::new("punt-none");
    for number in 0..FLOOD {
        let fate = world.run_on(LINES, &unknown(number % 3, &[Tag::c_vlan(5)]));
        assert_eq!(fate, Fate::Untouched(Outcome::UnknownClient));
    }
}

/// Whatever is passed on is charged, not only what is unknown: malformed floods drown nobody either.
#[test]
#[ignore = "needs root and the kernel"]
fn every_way_to_the_slow_path_is_limited() {
    let mut world = world("punt-ways", line_limit(1, 4));
    let release = Bootp::request(QINQ, 7).option(53, &[7]);
    let overload = Bootp::discover(QINQ, 7).option(52, &[1]);
    let mut in_use = Bootp::discover(QINQ, 7);
    in_use.ciaddr = address_of(QINQ);
    let mut dropped = 0;
    for (message, outcome) in [
        (release, Outcome::SlowMessage),
        (overload, Outcome::Unsupported),
        (in_use, Outcome::Malformed),
    ] {
        let mut frame = Frame::from_client(&message);
        frame.tags = vec![Tag::s_vlan(200), Tag::c_vlan(30)];
        for _ in 0..FLOOD {
            let fate = world.in_kernel(&frame.build());
            let is_drop = fate == Fate::Dropped(Outcome::Flooded);
            assert!(is_drop || fate == Fate::Untouched(outcome), "{fate:?}");
            dropped += u32::from(is_drop);
        }
    }
    assert!(dropped > FLOOD, "{dropped}");
}
