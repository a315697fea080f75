//! Options wherever they stand, and every way in which they can be wrong.

use std::vec::Vec;

use nexus_abi::Outcome;
use nexus_testkit::packet::clients::{Client, Says};
use nexus_testkit::packet::{Bootp, Frame, Tag};
use proptest::prelude::*;

use super::*;
use crate::testing::{ADDRESS, CLIENT, SERVER, outcome_of, read};

/// Ethernet, IPv4, UDP and BOOTP up to the cookie.
const HEAD: usize = 14 + 28 + 240;

fn discover() -> Bootp {
    Bootp::request(CLIENT, 7).option(53, &[1])
}

/// A DISCOVER whose options are exactly these bytes, nothing behind them.
fn with_bytes(options: &[u8]) -> Bootp {
    let mut message = Bootp::request(CLIENT, 7);
    message.end = false;
    message.min_len = 0;
    message.trailer = options.to_vec();
    message
}

fn options_of(message: &Bootp) -> Result<Options, Outcome> {
    read(&Frame::from_client(message).build()).map(|request| request.options)
}

#[test]
fn all_options_are_found_in_any_order() {
    let wanted = [
        (53, [3].to_vec()),
        (50, ADDRESS.octets().to_vec()),
        (54, SERVER.octets().to_vec()),
        (57, [0x05, 0xc0].to_vec()),
        (61, [1, 2, 3].to_vec()),
        (82, [1, 1, 9].to_vec()),
        (12, b"name".to_vec()),
        (55, [1, 3, 6].to_vec()),
        (80, Vec::new()),
    ];
    for first in 0..wanted.len() {
        let mut message = Bootp::request(CLIENT, 7);
        message.options = wanted.to_vec();
        message.options.rotate_left(first);
        let options = options_of(&message).unwrap();
        assert_eq!(options.message, 3);
        assert_eq!(options.requested, u32::from_ne_bytes(ADDRESS.octets()));
        assert_eq!(options.server, u32::from_ne_bytes(SERVER.octets()));
        assert_eq!(options.max_size, 1472);
        let frame = Frame::from_client(&message).build();
        let value = |span: Span| &frame[span.offset..span.offset + span.len];
        assert_eq!(value(options.client_id), [1, 2, 3]);
        assert_eq!(value(options.relay), [1, 1, 9]);
        assert_eq!(value(options.parameters), [1, 3, 6]);
        assert!(options.rapid_commit);
    }
}

#[test]
fn absent_options_are_zero() {
    assert_eq!(
        options_of(&Bootp::request(CLIENT, 7)),
        Ok(Options::default())
    );
}

#[test]
fn pads_between_options_are_stepped_over() {
    let mut message = Bootp::request(CLIENT, 7);
    message.options = [(0, Vec::new()), (0, Vec::new()), (53, [1].to_vec())].to_vec();
    message.options.push((0, Vec::new()));
    assert_eq!(options_of(&message).unwrap().message, 1);
}

#[test]
fn an_option_that_comes_twice_is_unsupported_if_it_is_acted_on() {
    for (code, value) in [
        (50, &ADDRESS.octets()[..]),
        (53, &[1]),
        (54, &SERVER.octets()),
        (55, &[1, 3]),
        (57, &[2, 64]),
        (61, &[1, 2]),
        (80, &[]),
        (82, &[1, 1, 9]),
    ] {
        let message = discover().option(code, value).option(code, value);
        assert_eq!(
            options_of(&message),
            Err(Outcome::Unsupported),
            "option {code}"
        );
    }
    let message = discover().option(12, b"a").option(12, b"b");
    assert_eq!(options_of(&message).unwrap().message, 1);
}

#[test]
fn options_that_go_on_in_file_or_sname_are_unsupported() {
    for overload in 1..=3 {
        let message = discover().option(52, &[overload]);
        assert_eq!(options_of(&message), Err(Outcome::Unsupported));
    }
}

#[test]
fn a_message_without_end_is_malformed() {
    assert_eq!(
        options_of(&with_bytes(&[53, 1, 1])),
        Err(Outcome::Malformed)
    );
    assert_eq!(
        options_of(&with_bytes(&[53, 1, 1, 0])),
        Err(Outcome::Malformed)
    );
    assert_eq!(options_of(&with_bytes(&[])), Err(Outcome::Malformed));
    assert_eq!(
        options_of(&with_bytes(&[53, 1, 1, 255])).unwrap().message,
        1
    );
}

#[test]
fn an_end_behind_the_datagram_does_not_count() {
    let mut frame = Frame::from_client(&with_bytes(&[53, 1, 1])).build();
    frame.extend([255, 0, 0, 0]);
    assert_eq!(read(&frame).err(), Some(Outcome::Malformed));
}

#[test]
fn an_option_that_runs_over_the_end_is_malformed() {
    for options in [
        &[53, 1, 1, 12][..],
        &[53, 1, 1, 12, 2],
        &[53, 1, 1, 12, 2, 9],
        &[53],
        &[53, 1],
    ] {
        assert_eq!(options_of(&with_bytes(options)), Err(Outcome::Malformed));
        // Bytes behind the datagram, as Ethernet pads with, do not make it whole.
        let mut frame = Frame::from_client(&with_bytes(options)).build();
        frame.resize(frame.len() + 300, 255);
        assert_eq!(read(&frame).err(), Some(Outcome::Malformed));
    }
}

#[test]
fn options_of_a_wrong_length_are_malformed() {
    for (code, lengths) in [
        (50, &[0, 1, 3, 5, 8][..]),
        (53, &[0, 2]),
        (54, &[0, 3, 5]),
        (55, &[0]),
        (57, &[0, 1, 3, 4]),
        (61, &[0]),
        (80, &[1, 8]),
        (82, &[0]),
    ] {
        for len in lengths {
            let message = Bootp::request(CLIENT, 7).option(code, &[1, 2, 3, 4, 5, 6, 7, 8][..*len]);
            assert_eq!(
                options_of(&message),
                Err(Outcome::Malformed),
                "{code} of {len}"
            );
        }
    }
}

#[test]
fn an_address_of_zero_is_as_good_as_none() {
    for code in [50, 54] {
        let message = discover().option(code, &[0; 4]);
        assert_eq!(options_of(&message), options_of(&discover()));
    }
}

#[test]
fn a_message_may_have_as_many_options_as_the_limit_and_no_more() {
    let with = |count: u32| {
        let mut message = discover();
        message.options.extend((1..count).map(|_| (0, Vec::new())));
        message
    };
    assert_eq!(with(OPTION_LIMIT).options.len(), 64);
    assert_eq!(options_of(&with(OPTION_LIMIT)).unwrap().message, 1);
    assert_eq!(
        options_of(&with(OPTION_LIMIT + 1)),
        Err(Outcome::Unsupported)
    );
}

#[test]
fn the_longest_options_are_read_and_echoed() {
    let message = discover()
        .option(61, &[7; 255])
        .option(82, &[8; 255])
        .option(57, &[5, 220]);
    let options = options_of(&message).unwrap();
    assert_eq!((options.client_id.len, options.relay.len), (255, 255));
    assert_eq!(outcome_of(&message), Outcome::Offer);
}

#[test]
fn what_is_not_for_a_server_port_is_not_dhcp() {
    let frame = Frame::from_client(&discover());
    let mut to_client = frame.clone();
    to_client.destination_port = 68;
    let mut later_fragment = frame.clone();
    later_fragment.fragment = 1;
    let mut reply = discover();
    reply.op = 2;
    let triple = frame
        .clone()
        .tag(Tag::s_vlan(1))
        .tag(Tag::c_vlan(2))
        .tag(Tag::c_vlan(3));
    for frame in [
        to_client,
        later_fragment,
        Frame::from_client(&reply),
        triple,
    ] {
        assert_eq!(read(&frame.build()).err(), Some(Outcome::NotDhcp));
    }
}

#[test]
fn ip_options_first_fragments_and_other_hardware_are_unsupported() {
    let frame = Frame::from_client(&discover());
    let mut fragment = frame.clone();
    fragment.fragment = 0x2000;
    let mut token_ring = discover();
    token_ring.htype = 6;
    let mut long_address = discover();
    long_address.hlen = 16;
    let mut bootp = discover();
    bootp.cookie = [0; 4];
    for frame in [
        fragment,
        Frame::from_client(&token_ring),
        Frame::from_client(&long_address),
        Frame::from_client(&bootp),
    ] {
        assert_eq!(read(&frame.build()).err(), Some(Outcome::Unsupported));
    }
}

/// All other UDP with IP options must not be counted, let alone be held back with what is ours.
#[test]
fn ip_options_make_only_what_is_for_a_server_port_unsupported() {
    let frame = Frame::from_client(&discover()).build();
    for words in 6..=15 {
        let mut with_options = frame.clone();
        with_options[14] = 0x40 | words;
        let behind = usize::from(words - 5) * 4;
        with_options.splice(34..34, std::iter::repeat_n(1, behind));
        let port = 34 + behind + 2;
        assert_eq!(with_options[port..port + 2], [0, 67]);
        assert_eq!(read(&with_options).err(), Some(Outcome::Unsupported));
        with_options[port + 1] = 53;
        assert_eq!(read(&with_options).err(), Some(Outcome::NotDhcp));
        let cut = &with_options[..port + 1];
        if cut.len() >= 42 {
            assert_eq!(read(cut).err(), Some(Outcome::NotDhcp));
        }
    }
    for first in [0x40, 0x44, 0x55, 0x65] {
        let mut frame = frame.clone();
        frame[14] = first;
        assert_eq!(read(&frame).err(), Some(Outcome::NotDhcp), "{first:#x}");
    }
}

#[test]
fn wrong_lengths_and_header_checksums_are_malformed() {
    let good = Frame::from_client(&discover()).build();
    let changed = |at: usize| {
        let mut frame = good.clone();
        frame[at] ^= 1;
        read(&frame).err()
    };
    assert_eq!(read(&good).err(), None);
    // The total length, the time to live and a source byte of IP; the length of UDP.
    for at in [17, 22, 29, 38, 39] {
        assert_eq!(changed(at), Some(Outcome::Malformed), "byte {at}");
    }
}

/// What a switch or a broken driver has cut off is not a message, even if its END is still there.
#[test]
fn a_frame_that_ends_before_its_datagram_is_malformed() {
    for client in Client::ALL {
        let frame = client.frame(CLIENT, 7, Says::Discover).build();
        assert!(read(&frame).is_ok());
        for len in HEAD..frame.len() {
            assert_eq!(
                read(&frame[..len]).err(),
                Some(Outcome::Malformed),
                "{client:?} {len}"
            );
        }
    }
}

#[test]
fn a_datagram_that_no_ethernet_frame_carries_is_unsupported() {
    let mut message = discover();
    message.min_len = 1472;
    assert!(options_of(&message).is_ok());
    message.min_len = 1473;
    assert_eq!(options_of(&message), Err(Outcome::Unsupported));
}

/// A host must not be answered in the name of another.
#[test]
fn a_frame_from_another_mac_than_chaddr_is_malformed_unless_a_relay_sent_it() {
    let mut frame = Frame::from_client(&discover());
    frame.source = [2, 0, 0, 0, 0, 0x66];
    assert_eq!(read(&frame.build()).err(), Some(Outcome::Malformed));
    let mut relayed = Frame::from_client(&discover().relay(SERVER));
    relayed.source = [2, 0, 0, 0, 0, 0x66];
    assert!(read(&relayed.build()).is_ok());
}

#[test]
fn any_bytes_of_every_length_are_read_without_a_panic() {
    let good = Client::HomeGateway.frame(CLIENT, 7, Says::Discover);
    let good = good.tag(Tag::s_vlan(200)).tag(Tag::c_vlan(30)).build();
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    for len in 0..=1514 {
        let bytes: Vec<u8> = (0..len)
            .map(|_| {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                (noise >> 56) as u8
            })
            .collect();
        assert!(read(&bytes).is_err());
        let mut sized = good.clone();
        sized.resize(len, 255);
        assert_eq!(read(&sized).is_ok(), len >= good.len(), "{len} bytes");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..1515)) {
        prop_assert!(read(&bytes).is_err());
    }

    /// Behind right headers the walk meets anything; it stays within the datagram.
    #[test]
    fn no_options_make_the_reader_panic_or_leave_the_message(
        bytes in prop::collection::vec(any::<u8>(), 0..1232),
        behind in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut frame = Frame::from_client(&with_bytes(&bytes)).build();
        let end = frame.len();
        frame.extend(behind);
        if let Ok(request) = read(&frame) {
            let options = request.options;
            for span in [options.client_id, options.relay, options.parameters] {
                prop_assert!(span.len == 0 || (HEAD <= span.offset && span.offset + span.len < end));
            }
        }
    }

    /// Options as they come: whatever is found is what stands there.
    #[test]
    fn what_stands_in_the_options_is_what_is_read(
        fillers in prop::collection::vec((100_u8..120, prop::collection::vec(any::<u8>(), 0..40)), 0..12),
        kind in 1_u8..=8,
        requested in prop::option::of(1_u32..),
        client_id in prop::option::of(prop::collection::vec(any::<u8>(), 1..60)),
        relay in prop::option::of(prop::collection::vec(any::<u8>(), 1..120)),
        list in prop::option::of(prop::collection::vec(any::<u8>(), 1..=255)),
        rapid in any::<bool>(),
        seed in any::<prop::sample::Index>(),
    ) {
        let mut message = Bootp::request(CLIENT, 7);
        message.options = fillers;
        message.options.push((53, [kind].to_vec()));
        message.options.extend(requested.map(|address| (50, address.to_be_bytes().to_vec())));
        message.options.extend(client_id.clone().map(|value| (61, value)));
        message.options.extend(relay.clone().map(|value| (82, value)));
        message.options.extend(list.clone().map(|value| (55, value)));
        message.options.extend(rapid.then(|| (80, Vec::new())));
        let by = seed.index(message.options.len());
        message.options.rotate_left(by);
        let frame = Frame::from_client(&message).build();
        let options = read(&frame).unwrap().options;
        prop_assert_eq!(options.message, kind);
        prop_assert_eq!(u32::from_be(options.requested), requested.unwrap_or(0));
        let value = |span: Span| &frame[span.offset..span.offset + span.len];
        prop_assert_eq!(value(options.client_id), client_id.unwrap_or_default());
        prop_assert_eq!(value(options.relay), relay.unwrap_or_default());
        prop_assert_eq!(value(options.parameters), list.unwrap_or_default());
        prop_assert_eq!(options.rapid_commit, rapid);
    }
}
