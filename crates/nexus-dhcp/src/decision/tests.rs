//! The decision table of the design, row by row, and what stands between the rows.

use std::net::Ipv4Addr;

use nexus_abi::{Binding, Outcome};
use nexus_testkit::packet::{Bootp, Frame};
use proptest::prelude::*;

use super::*;
use crate::testing::{
    self, ADDRESS, CLIENT, GATEWAY_MAC, LEASE, NOW, OTHER_ADDRESS, OTHER_SERVER, RELAY, SERVER,
    binding, exchange_of, outcome_of, profile, read, reboot, request_of,
};

const XID: u32 = 0x1234;

fn decided(message: &Bootp, binding: &Binding) -> Result<Answer, Outcome> {
    testing::decided(message, binding, &profile())
}

fn until(valid_until_secs: u32) -> Binding {
    Binding {
        valid_until_secs,
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
            rapid: false,
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
            rapid: false,
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
            rapid: false,
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
                rapid: false,
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
        informs(ADDRESS),
    ] {
        let frame = Frame::from_client(&message).unicast(GATEWAY_MAC, OTHER_SERVER);
        let request = read(&frame.build()).unwrap();
        assert_eq!(
            decide(&request, &binding(), &profile(), NOW),
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
fn releases_declines_and_unknown_types_are_left_to_the_slow_path() {
    for kind in [2, 4, 5, 6, 7, 9, 10, 13, 255] {
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
    let mut absent = profile();
    absent.present = 0;
    let mut without_lease = profile();
    without_lease.lease_secs = 0;
    for profile in [absent, without_lease] {
        for message in [
            Bootp::discover(CLIENT, XID),
            reboot(ADDRESS),
            informs(ADDRESS),
        ] {
            let decided = testing::decided(&message, &binding(), &profile);
            assert_eq!(decided, Err(Outcome::NoProfile));
        }
    }
}

#[test]
fn an_ended_binding_is_as_good_as_none() {
    for message in [
        Bootp::discover(CLIENT, XID),
        reboot(ADDRESS),
        reboot(OTHER_ADDRESS),
        Bootp::renew(CLIENT, XID, ADDRESS),
        informs(ADDRESS),
    ] {
        for end in [0, 1, NOW - 1, NOW] {
            assert_eq!(decided(&message, &until(end)), Err(Outcome::UnknownClient));
        }
        assert!(decided(&message, &until(NOW + 1)).is_ok());
    }
}

#[test]
fn a_lease_is_never_longer_than_what_is_left_of_the_binding() {
    let seconds = |message: &Bootp, end| decided(message, &until(end)).unwrap().lease_secs;
    for message in [
        Bootp::discover(CLIENT, XID),
        Bootp::renew(CLIENT, XID, ADDRESS),
    ] {
        for (end, lease) in [
            (NOW + 1, 1),
            (NOW + 600, 600),
            (NOW + LEASE - 1, LEASE - 1),
            (NOW + LEASE, LEASE),
            (NOW + LEASE + 1, LEASE),
            (u32::MAX - 1, LEASE),
            (NEVER_EXPIRES, LEASE),
        ] {
            assert_eq!(seconds(&message, end), lease);
        }
    }
}

/// The kernel program does not even read the clock then.
#[test]
fn a_binding_without_an_end_has_its_lease_at_any_time() {
    let request = request_of(&Bootp::discover(CLIENT, XID));
    for now in [0, NOW, u32::MAX - 1, u32::MAX] {
        let answer = decide(&request, &binding(), &profile(), now).unwrap();
        assert_eq!(answer.lease_secs, LEASE);
    }
}

fn informs(address: Ipv4Addr) -> Bootp {
    let mut message = Bootp::request(CLIENT, XID).option(53, &[8]);
    message.ciaddr = address;
    message
}

#[test]
fn an_inform_from_the_bound_address_is_acknowledged_without_address_and_lease() {
    let expected = Answer {
        outcome: Outcome::InformAck,
        address: 0,
        client_address: memory(ADDRESS),
        lease_secs: 0,
        rapid: false,
    };
    assert_eq!(decided(&informs(ADDRESS), &binding()), Ok(expected));
    // Neither of them has a place in an INFORM (RFC 2131 4.4.1, table 5), and neither changes it.
    let message = informs(ADDRESS)
        .option(50, &OTHER_ADDRESS.octets())
        .option(80, &[]);
    assert_eq!(decided(&message, &binding()), Ok(expected));
}

#[test]
fn an_inform_from_another_address_or_from_none_is_not_acknowledged() {
    let none = decided(&informs(Ipv4Addr::UNSPECIFIED), &binding());
    assert_eq!(none, Err(Outcome::Malformed));
    let other = decided(&informs(OTHER_ADDRESS), &binding());
    assert_eq!(other, Err(Outcome::UnknownClient));
}

// Rapid commit: RFC 4039 3.1.

#[test]
fn a_discover_with_option_80_is_acknowledged_at_once_if_the_pool_chose_so() {
    let mut rapid = profile();
    rapid.rapid_commit = 1;
    let with = Bootp::discover(CLIENT, XID).option(80, &[]);
    let without = Bootp::discover(CLIENT, XID);
    let offer = Answer {
        outcome: Outcome::Offer,
        address: memory(ADDRESS),
        client_address: 0,
        lease_secs: LEASE,
        rapid: false,
    };
    let ack = Answer {
        outcome: Outcome::Ack,
        rapid: true,
        ..offer
    };
    for (message, profile, answer) in [
        (&with, rapid, ack),
        (&without, rapid, offer),
        (&with, profile(), offer),
        (&without, profile(), offer),
    ] {
        assert_eq!(testing::decided(message, &binding(), &profile), Ok(answer));
    }
}

#[test]
fn option_80_means_nothing_in_a_request() {
    let mut rapid = profile();
    rapid.rapid_commit = 1;
    for message in [reboot(ADDRESS), Bootp::renew(CLIENT, XID, ADDRESS)] {
        let answer = testing::decided(&message.option(80, &[]), &binding(), &rapid).unwrap();
        assert_eq!((answer.outcome, answer.rapid), (Outcome::Ack, false));
    }
    let message = reboot(OTHER_ADDRESS).option(80, &[]);
    let answer = testing::decided(&message, &binding(), &rapid).unwrap();
    assert_eq!((answer.outcome, answer.rapid), (Outcome::Nak, false));
}

/// Some clients write 0.0.0.0 where they have none: no server selected, no address wanted.
#[test]
fn options_50_and_54_of_zeros_are_as_good_as_absent() {
    let message = reboot(ADDRESS).option(54, &[0; 4]);
    assert_eq!(outcome_of(&message), Outcome::Ack);
    let message = reboot(OTHER_ADDRESS).option(54, &[0; 4]);
    assert_eq!(outcome_of(&message), Outcome::Nak);
    let message = Bootp::renew(CLIENT, XID, ADDRESS).option(50, &[0; 4]);
    assert_eq!(outcome_of(&message), Outcome::Ack);
    let message = Bootp::discover(CLIENT, XID)
        .option(50, &[0; 4])
        .option(54, &[0; 4]);
    assert_eq!(outcome_of(&message), Outcome::Offer);
}

/// RFC 2131 4.1: what a relay or a client counts there is no reason to answer otherwise.
#[test]
fn seconds_hops_and_boot_names_change_no_decision() {
    for mut message in [
        Bootp::discover(CLIENT, XID),
        reboot(ADDRESS),
        reboot(OTHER_ADDRESS),
    ] {
        let before = decided(&message, &binding());
        (message.secs, message.hops) = (0xffff, 16);
        (message.sname, message.file) = ([0xff; 64], [53; 128]);
        (message.yiaddr, message.siaddr) = (OTHER_ADDRESS, OTHER_SERVER);
        assert_eq!(decided(&message, &binding()), before);
    }
}

proptest! {
    /// The one thing that must never go wrong, over all clocks and ends of bindings.
    #[test]
    fn no_lease_outlives_its_binding(
        now in any::<u32>(),
        end in any::<u32>(),
        left in prop::option::of(0..5_u32),
        days in 1_u32..40_000,
    ) {
        let end = left.map_or(end, |left| now.saturating_add(left));
        let mut profile = profile();
        profile.lease_secs = days * 86_400;
        let request = request_of(&Bootp::discover(CLIENT, XID));
        match decide(&request, &until(end), &profile, now) {
            Ok(answer) if end == NEVER_EXPIRES => {
                prop_assert_eq!(answer.lease_secs, profile.lease_secs);
            }
            Ok(answer) => {
                prop_assert!(answer.lease_secs > 0);
                prop_assert!(u64::from(now) + u64::from(answer.lease_secs) <= u64::from(end));
            }
            Err(outcome) => {
                prop_assert_eq!(outcome, Outcome::UnknownClient);
                prop_assert!(end <= now);
            }
        }
    }
}

#[test]
fn what_is_decided_is_what_the_reply_says() {
    let frame = Frame::from_client(&Bootp::discover(CLIENT, XID)).build();
    let (outcome, bytes) = exchange_of(&frame, &until(NOW + 1001), &profile()).unwrap();
    let message = Frame::parse(&bytes).unwrap().bootp().unwrap();
    assert_eq!((outcome, message.message_type()), (Outcome::Offer, Some(2)));
    assert_eq!(message.number(51), Some(1001));
    assert_eq!(message.number(58), Some(500));
    assert_eq!(message.number(59), Some(875));
}
