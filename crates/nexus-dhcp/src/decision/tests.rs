//! The decision table of the design, row by row, and what stands between the rows.

use std::net::Ipv4Addr;

use nexus_abi::{Binding, Outcome};
use nexus_testkit::packet::{Bootp, Frame};
use proptest::prelude::*;

use super::*;
use crate::testing::{
    ADDRESS, CLIENT, GATEWAY_MAC, LEASE, NOW, OTHER_ADDRESS, OTHER_SERVER, RELAY, SECOND, SERVER,
    binding, exchange_into, outcome_of, profile, read, reboot,
};

const XID: u32 = 0x1234;

fn decided(message: &Bootp, binding: &Binding) -> Result<Answer, Outcome> {
    let request = read(&Frame::from_client(message).build()).unwrap();
    decide(&request, binding, &profile(), NOW)
}

fn until(valid_until_ns: u64) -> Binding {
    Binding {
        valid_until_ns,
        ..binding()
    }
}

fn memory(address: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(address.octets())
}

#[test]
fn a_discover_of_a_bound_client_is_offered_its_address() {
    let answer = decided(&Bootp::discover(CLIENT, XID), &binding()).unwrap();
    assert_eq!(
        answer,
        Answer {
            outcome: Outcome::Offer,
            address: memory(ADDRESS),
            client_address: 0,
            lease_secs: LEASE,
        }
    );
}

#[test]
fn a_discover_that_asks_for_another_address_is_offered_the_bound_one() {
    let message = Bootp::discover(CLIENT, XID).option(50, &OTHER_ADDRESS.octets());
    let answer = decided(&message, &binding()).unwrap();
    assert_eq!(
        (answer.outcome, answer.address),
        (Outcome::Offer, memory(ADDRESS))
    );
}

#[test]
fn a_discover_with_an_address_in_use_is_malformed() {
    let mut message = Bootp::discover(CLIENT, XID);
    message.ciaddr = ADDRESS;
    assert_eq!(decided(&message, &binding()), Err(Outcome::Malformed));
}

#[test]
fn selecting_us_and_the_bound_address_is_acknowledged() {
    let answer = decided(&Bootp::select(CLIENT, XID, ADDRESS, SERVER), &binding()).unwrap();
    assert_eq!(
        answer,
        Answer {
            outcome: Outcome::Ack,
            address: memory(ADDRESS),
            client_address: 0,
            lease_secs: LEASE,
        }
    );
}

#[test]
fn selecting_another_server_is_none_of_ours_whatever_the_address() {
    for address in [ADDRESS, OTHER_ADDRESS] {
        let message = Bootp::select(CLIENT, XID, address, OTHER_SERVER);
        assert_eq!(outcome_of(&message), Outcome::OtherServer);
    }
}

#[test]
fn selecting_us_with_another_address_is_refused() {
    let answer = decided(
        &Bootp::select(CLIENT, XID, OTHER_ADDRESS, SERVER),
        &binding(),
    )
    .unwrap();
    assert_eq!(
        answer,
        Answer {
            outcome: Outcome::Nak,
            address: 0,
            client_address: 0,
            lease_secs: 0,
        }
    );
}

#[test]
fn selecting_us_without_an_address_is_malformed() {
    let message = Bootp::request(CLIENT, XID)
        .option(53, &[3])
        .option(54, &SERVER.octets());
    assert_eq!(outcome_of(&message), Outcome::Malformed);
}

#[test]
fn a_rebooted_client_keeps_its_address_and_is_refused_another() {
    assert_eq!(outcome_of(&reboot(ADDRESS)), Outcome::Ack);
    assert_eq!(outcome_of(&reboot(OTHER_ADDRESS)), Outcome::Nak);
}

#[test]
fn a_request_that_names_no_address_at_all_is_malformed() {
    let message = Bootp::request(CLIENT, XID).option(53, &[3]);
    assert_eq!(outcome_of(&message), Outcome::Malformed);
}

#[test]
fn renewing_and_rebinding_the_bound_address_is_acknowledged_with_it() {
    let message = Bootp::renew(CLIENT, XID, ADDRESS);
    let rebinding = Frame::from_client(&message);
    let renewing = rebinding.clone().unicast(GATEWAY_MAC, SERVER);
    for frame in [renewing, rebinding] {
        let request = read(&frame.build()).unwrap();
        let answer = decide(&request, &binding(), &profile(), NOW).unwrap();
        assert_eq!(
            answer,
            Answer {
                outcome: Outcome::Ack,
                address: memory(ADDRESS),
                client_address: memory(ADDRESS),
                lease_secs: LEASE,
            }
        );
    }
}

#[test]
fn renewing_another_address_is_refused() {
    let message = Bootp::renew(CLIENT, XID, OTHER_ADDRESS);
    assert_eq!(outcome_of(&message), Outcome::Nak);
}

/// RFC 2131 4.3.2: a client that has an address does not request one.
#[test]
fn renewing_one_address_while_requesting_another_is_malformed() {
    let message = Bootp::renew(CLIENT, XID, ADDRESS).option(50, &OTHER_ADDRESS.octets());
    assert_eq!(outcome_of(&message), Outcome::Malformed);
    let message = Bootp::renew(CLIENT, XID, OTHER_ADDRESS).option(50, &ADDRESS.octets());
    assert_eq!(outcome_of(&message), Outcome::Malformed);
}

#[test]
fn a_renewing_client_that_repeats_its_address_or_server_is_served() {
    let message = Bootp::renew(CLIENT, XID, ADDRESS)
        .option(50, &ADDRESS.octets())
        .option(54, &SERVER.octets());
    assert_eq!(outcome_of(&message), Outcome::Ack);
}

/// Packets on their way through this host to another server are not ours to answer.
#[test]
fn a_message_sent_to_another_server_alone_is_not_answered() {
    for message in [
        Bootp::renew(CLIENT, XID, ADDRESS),
        Bootp::renew(CLIENT, XID, OTHER_ADDRESS),
        Bootp::discover(CLIENT, XID),
    ] {
        let frame = Frame::from_client(&message).unicast(GATEWAY_MAC, OTHER_SERVER);
        let request = read(&frame.build()).unwrap();
        assert_eq!(
            decide(&request, &binding(), &profile(), NOW),
            Err(Outcome::OtherServer)
        );
        assert_eq!(
            inform(&request, &binding(), &profile(), NOW),
            Err(Outcome::OtherServer)
        );
    }
}

#[test]
fn a_relay_may_send_to_whichever_of_our_addresses_it_is_told_to() {
    let message = Bootp::discover(CLIENT, XID).relay(RELAY);
    let mut frame = Frame::from_client(&message).unicast(GATEWAY_MAC, Ipv4Addr::new(10, 0, 0, 1));
    frame.source_ip = RELAY;
    let request = read(&frame.build()).unwrap();
    let answer = decide(&request, &binding(), &profile(), NOW).unwrap();
    assert_eq!(answer.outcome, Outcome::Offer);
}

#[test]
fn releases_declines_informs_and_unknown_types_are_left_to_the_slow_path() {
    for kind in [2, 4, 5, 6, 7, 8, 9, 10, 13, 255] {
        let message = Bootp::request(CLIENT, XID).option(53, &[kind]);
        assert_eq!(outcome_of(&message), Outcome::SlowMessage, "type {kind}");
    }
}

#[test]
fn a_message_without_a_type_is_plain_bootp_and_unsupported() {
    assert_eq!(
        outcome_of(&Bootp::request(CLIENT, XID)),
        Outcome::Unsupported
    );
}

#[test]
fn a_binding_without_a_usable_profile_gives_no_reply() {
    let request = read(&Frame::from_client(&Bootp::discover(CLIENT, XID)).build()).unwrap();
    let mut absent = profile();
    absent.present = 0;
    let mut without_lease = profile();
    without_lease.lease_secs = 0;
    for profile in [absent, without_lease] {
        let decided = decide(&request, &binding(), &profile, NOW);
        assert_eq!(decided, Err(Outcome::NoProfile));
        let decided = inform(&request, &binding(), &profile, NOW);
        assert_eq!(decided, Err(Outcome::NoProfile));
    }
}

#[test]
fn an_ended_binding_is_as_good_as_none() {
    let message = Bootp::discover(CLIENT, XID);
    for end in [0, 1, NOW - 1, NOW] {
        assert_eq!(decided(&message, &until(end)), Err(Outcome::UnknownClient));
    }
}

#[test]
fn a_lease_is_never_longer_than_what_is_left_of_the_binding() {
    let message = Bootp::discover(CLIENT, XID);
    let seconds = |end| decided(&message, &until(end)).map(|answer| answer.lease_secs);
    // Less than a second cannot be said in seconds.
    assert_eq!(seconds(NOW + SECOND - 1), Err(Outcome::UnknownClient));
    assert_eq!(seconds(NOW + SECOND), Ok(1));
    assert_eq!(seconds(NOW + 2 * SECOND - 1), Ok(1));
    assert_eq!(seconds(NOW + 600 * SECOND), Ok(600));
    assert_eq!(seconds(NOW + u64::from(LEASE) * SECOND - 1), Ok(LEASE - 1));
    assert_eq!(seconds(NOW + u64::from(LEASE) * SECOND), Ok(LEASE));
    assert_eq!(seconds(NOW + (1 << 33) * SECOND), Ok(LEASE));
    assert_eq!(seconds(u64::MAX - 1), Ok(LEASE));
    assert_eq!(seconds(NEVER_EXPIRES), Ok(LEASE));
}

#[test]
fn an_inform_from_the_bound_address_is_acknowledged_without_address_and_lease() {
    let mut message = Bootp::request(CLIENT, XID).option(53, &[8]);
    message.ciaddr = ADDRESS;
    let request = read(&Frame::from_client(&message).build()).unwrap();
    assert_eq!(
        inform(&request, &binding(), &profile(), NOW),
        Ok(Answer {
            outcome: Outcome::InformAck,
            address: 0,
            client_address: memory(ADDRESS),
            lease_secs: 0,
        })
    );
    assert_eq!(
        inform(&request, &until(NOW), &profile(), NOW),
        Err(Outcome::UnknownClient)
    );
}

#[test]
fn an_inform_from_another_address_or_from_none_is_not_acknowledged() {
    let mut message = Bootp::request(CLIENT, XID).option(53, &[8]);
    let request = read(&Frame::from_client(&message).build()).unwrap();
    let none = inform(&request, &binding(), &profile(), NOW);
    assert_eq!(none, Err(Outcome::Malformed));
    message.ciaddr = OTHER_ADDRESS;
    let request = read(&Frame::from_client(&message).build()).unwrap();
    let other = inform(&request, &binding(), &profile(), NOW);
    assert_eq!(other, Err(Outcome::UnknownClient));
}

proptest! {
    /// The one thing that must never go wrong, over all clocks and ends of bindings.
    #[test]
    fn no_lease_outlives_its_binding(now in any::<u64>(), left in any::<u64>(), days in 1_u32..400) {
        let end = now.saturating_add(left);
        let mut profile = profile();
        profile.lease_secs = days * 86_400;
        let frame = Frame::from_client(&Bootp::discover(CLIENT, XID)).build();
        let request = read(&frame).unwrap();
        let binding = until(end);
        match decide(&request, &binding, &profile, now) {
            Ok(answer) if end == NEVER_EXPIRES => prop_assert_eq!(answer.lease_secs, profile.lease_secs),
            Ok(answer) => {
                prop_assert!(answer.lease_secs > 0);
                prop_assert!(u128::from(now) + u128::from(answer.lease_secs) * 1_000_000_000 <= u128::from(end));
            }
            Err(outcome) => {
                prop_assert_eq!(outcome, Outcome::UnknownClient);
                prop_assert!(end - now < SECOND);
            }
        }
    }
}

#[test]
fn what_is_decided_is_what_the_reply_says() {
    let (outcome, bytes) = exchange_into(
        &mut crate::Reply::default(),
        &Frame::from_client(&Bootp::discover(CLIENT, XID)).build(),
        &until(NOW + 1001 * SECOND),
        &profile(),
    )
    .unwrap();
    let message = Frame::parse(&bytes).unwrap().bootp().unwrap();
    assert_eq!((outcome, message.message_type()), (Outcome::Offer, Some(2)));
    assert_eq!(message.number(51), Some(1001));
    assert_eq!(message.number(58), Some(500));
    assert_eq!(message.number(59), Some(875));
}
