//! What the program tells: rare things where somebody listens, traced clients, and otherwise nothing.

use nexus_abi::{EVENT_FRAME, Event, EventKind, Outcome};
use nexus_sidecar::fastpath::EventReader;
use nexus_testkit::packet::clients::{Client, Says};
use nexus_testkit::packet::{Arp, Bootp, Frame, Mac, Tag};

use crate::world::{ANYWHERE, CIRCUITS, Fate, LINES, SERVER, STRANGER, TAGGED, World, address_of};

fn discover(mac: Mac) -> Vec<u8> {
    Client::Udhcpc.frame(mac, 7, Says::Discover).build()
}

fn wrong(mac: Mac) -> Vec<u8> {
    let says = Says::Reboot("10.9.8.7".parse().unwrap());
    Client::Udhcpc.frame(mac, 7, says).build()
}

fn all(reader: &mut EventReader) -> Vec<Event> {
    std::iter::from_fn(|| reader.next_event()).collect()
}

/// What an event says: kind, outcome, interface, bytes.
fn said(event: &Event) -> (Option<EventKind>, u32, u32, &[u8]) {
    assert!(event.captured <= event.frame_len);
    let frame = &event.frame[..event.captured as usize];
    (
        EventKind::from_code(event.kind),
        event.outcome,
        event.interface,
        frame,
    )
}

#[test]
#[ignore = "needs root and the kernel"]
fn nothing_is_told_while_nobody_listens() {
    let mut world = World::new("events-off");
    let mut reader = world.kernel.events().unwrap();
    for frame in [discover(STRANGER), wrong(ANYWHERE), discover(ANYWHERE)] {
        world.run(&frame);
    }
    assert_eq!(all(&mut reader), []);
    // On for one interface is off for all others.
    world.listen(CIRCUITS, true, &[STRANGER]);
    world.run(&discover(STRANGER));
    assert_eq!(all(&mut reader), []);
}

#[test]
#[ignore = "needs root and the kernel"]
fn unknown_clients_foreign_macs_and_refusals_are_told_with_their_frame() {
    let mut world = World::new("events");
    for interface in [LINES, CIRCUITS] {
        world.listen(interface, true, &[]);
    }
    let mut reader = world.kernel.events().unwrap();
    let on_vlan = |mac| {
        let frame = Client::Udhcpc.frame(mac, 7, Says::Discover);
        frame.tag(Tag::c_vlan(100)).build()
    };
    world.run(&discover(STRANGER));
    world.run_on(CIRCUITS, &on_vlan(STRANGER));
    let Fate::Reply(Outcome::Nak, nak) = world.run(&wrong(ANYWHERE)) else {
        panic!("not refused");
    };
    let events = all(&mut reader);
    let told: Vec<_> = events.iter().map(said).collect();
    let (lines, circuits) = (u32::from(LINES), u32::from(CIRCUITS));
    assert_eq!(
        told,
        [
            (
                Some(EventKind::UnknownClient),
                Outcome::UnknownClient as u32,
                lines,
                &discover(STRANGER)[..]
            ),
            (
                Some(EventKind::MacMismatch),
                Outcome::MacMismatch as u32,
                circuits,
                &on_vlan(STRANGER)[..]
            ),
            // As it goes: whom it refuses stands in it.
            (Some(EventKind::Nak), Outcome::Nak as u32, lines, &nak[..]),
        ]
    );
    assert!(events.iter().all(|event| event.lost == 0));
    assert!(events.is_sorted_by_key(|event| event.boot_ns));
    // Everyday things are not told.
    for frame in [
        discover(ANYWHERE),
        Client::Udhcpc
            .frame(ANYWHERE, 7, Says::Renew(address_of(ANYWHERE)))
            .build(),
        Frame::from_client(&Bootp::request(ANYWHERE, 7).option(53, &[7])).build(),
        Arp::who_has(ANYWHERE, address_of(ANYWHERE), SERVER).build(),
    ] {
        world.in_kernel(&frame);
    }
    assert_eq!(all(&mut reader), []);
    world.listen(LINES, false, &[]);
    world.run(&discover(STRANGER));
    assert_eq!(all(&mut reader), []);
}

#[test]
#[ignore = "needs root and the kernel"]
fn a_traced_client_is_told_of_twice_per_frame_and_nobody_else_is() {
    let mut world = World::new("trace");
    let traced = [TAGGED, ANYWHERE];
    world.listen(LINES, false, &traced);
    let mut reader = world.kernel.events().unwrap();
    let release = Frame::from_client(&Bootp::request(ANYWHERE, 7).option(53, &[7])).build();
    let mut malformed = discover(ANYWHERE);
    malformed[17] ^= 1;
    for (frame, outcome) in [
        (discover(ANYWHERE), Outcome::Offer),
        (wrong(ANYWHERE), Outcome::Nak),
        (release, Outcome::SlowMessage),
        (malformed, Outcome::Malformed),
        (discover(TAGGED), Outcome::UnknownClient),
    ] {
        let after = match world.run(&frame) {
            Fate::Reply(_, reply) => reply,
            _ => frame.clone(),
        };
        let events = all(&mut reader);
        let told: Vec<_> = events.iter().map(said).collect();
        let number = u32::from(LINES);
        assert_eq!(
            told,
            [
                (Some(EventKind::Request), 0, number, &frame[..]),
                (Some(EventKind::Verdict), outcome as u32, number, &after[..]),
            ]
        );
        assert!(events[0].boot_ns <= events[1].boot_ns);
    }
    for frame in [discover(STRANGER), wrong(STRANGER)] {
        world.run(&frame);
    }
    let mut dns = Client::Udhcpc.frame(ANYWHERE, 7, Says::Discover);
    dns.destination_port = 53;
    world.run(&dns.build());
    assert_eq!(all(&mut reader), []);
}

#[test]
#[ignore = "needs root and the kernel"]
fn frames_longer_than_an_event_are_told_with_their_beginning_and_their_length() {
    let mut world = World::new("trace-long");
    world.listen(LINES, false, &[ANYWHERE]);
    let mut reader = world.kernel.events().unwrap();
    for min_len in [0, 660, 661, 662, 663, 664, 1400] {
        let mut message = Client::Udhcpc.message(ANYWHERE, 7, Says::Discover);
        message.min_len = min_len;
        let frame = Frame::from_client(&message).build();
        world.run(&frame);
        let events = all(&mut reader);
        let [request, verdict] = events.as_slice() else {
            panic!("{} events", events.len());
        };
        let captured = frame.len().min(EVENT_FRAME);
        assert_eq!(request.frame_len as usize, frame.len());
        assert_eq!(said(request).3, &frame[..captured]);
        assert_eq!(verdict.captured.min(verdict.frame_len), verdict.captured);
    }
}

#[test]
#[ignore = "needs root and the kernel"]
fn what_a_full_buffer_loses_is_counted() {
    let mut world = World::new("events-full");
    world.listen(LINES, true, &[]);
    let mut reader = world.kernel.events().unwrap();
    let sent: u32 = 1000;
    for _ in 0..sent {
        world.verdict(LINES, &discover(STRANGER));
    }
    let told = all(&mut reader);
    let count = u32::try_from(told.len()).unwrap();
    assert!((100..sent).contains(&count), "{count}");
    assert!(told.iter().all(|event| event.lost == 0));
    // Each processor counts its own.
    let mut lost = 0;
    for _ in 0..100 {
        world.verdict(LINES, &discover(STRANGER));
        lost = all(&mut reader)
            .iter()
            .map(|event| event.lost)
            .fold(lost, u32::max);
    }
    assert!(
        lost > 0 && lost <= sent - count,
        "{lost} of {}",
        sent - count
    );
}
