//! Option 82 as access nodes and relays write it, and in every way in which it can be wrong.

use std::vec::Vec;

use nexus_testkit::packet::clients::relay_information;
use nexus_testkit::packet::{Bootp, Frame};
use proptest::prelude::*;

use super::*;
use crate::packet::Bytes;
use crate::testing::{CLIENT, read};

/// A DISCOVER with this option 82 as its last option; `padded`: something stands behind it.
fn frame_with(option: &[u8], padded: bool) -> Vec<u8> {
    let mut message = Bootp::discover(CLIENT, 7).option(82, option);
    message.min_len = if padded { 700 } else { 0 };
    Frame::from_client(&message).build()
}

/// The circuit that is read into `buffer`.
fn read_into(
    buffer: &mut CircuitBuffer,
    option: &[u8],
    remote_id: bool,
    padded: bool,
) -> Result<Circuit, Outcome> {
    let frame = frame_with(option, padded);
    let relay = read(&frame).unwrap().options.relay;
    buffer.read(&Bytes(&frame), relay, remote_id).copied()
}

/// The circuit of an option 82, which does not depend on what stands behind it or was read before.
fn circuit(option: &[u8], remote_id: bool) -> Result<Circuit, Outcome> {
    let mut dirty = CircuitBuffer {
        words: [u64::MAX; BUFFER_WORDS],
    };
    let found = read_into(&mut dirty, option, remote_id, false);
    assert_eq!(read_into(&mut dirty, option, remote_id, true), found);
    let mut fresh = CircuitBuffer::default();
    assert_eq!(read_into(&mut fresh, option, remote_id, false), found);
    found
}

fn sub_options(all: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (code, value) in all {
        bytes.extend([*code, u8::try_from(value.len()).unwrap()]);
        bytes.extend(*value);
    }
    bytes
}

#[test]
fn circuit_and_remote_id_are_found_in_any_order_among_any_others() {
    let all: [(u8, &[u8]); 4] = [
        (1, b"olt1 eth 0/1/5/32"),
        (2, b"onu-77"),
        (5, &[10, 0, 0, 0]),
        (9, &[]),
    ];
    let both = Circuit::new(all[0].1, all[1].1).unwrap();
    let alone = Circuit::new(all[0].1, &[]).unwrap();
    for first in 0..4 {
        for swapped in 0..4 {
            let mut all = all;
            all.rotate_left(first);
            all.swap(0, swapped);
            let option = sub_options(&all);
            assert_eq!(circuit(&option, true), Ok(both));
            assert_eq!(circuit(&option, false), Ok(alone));
        }
    }
}

#[test]
fn a_remote_id_that_is_absent_or_empty_is_the_same() {
    let alone = Circuit::new(b"port", &[]);
    for option in [
        sub_options(&[(1, b"port")]),
        sub_options(&[(1, b"port"), (2, b"")]),
        sub_options(&[(2, b""), (1, b"port")]),
    ] {
        assert_eq!(circuit(&option, true).ok(), alone.ok());
        assert_eq!(circuit(&option, false).ok(), alone.ok());
    }
}

#[test]
fn circuits_that_differ_only_in_where_one_id_ends_are_not_the_same() {
    let one = circuit(&relay_information(b"ab", b"c"), true).unwrap();
    let other = circuit(&relay_information(b"a", b"bc"), true).unwrap();
    assert_ne!(one, other);
    let zero = circuit(&relay_information(b"a\0", b""), false).unwrap();
    assert_ne!(zero, circuit(&relay_information(b"a", b""), false).unwrap());
}

#[test]
fn without_a_circuit_id_nobody_is_named() {
    for option in [
        sub_options(&[(2, b"onu-77")]),
        sub_options(&[(1, b""), (2, b"onu-77")]),
        sub_options(&[(9, b"x")]),
    ] {
        for remote_id in [false, true] {
            assert_eq!(circuit(&option, remote_id), Err(Outcome::UnknownClient));
        }
    }
}

#[test]
fn a_sub_option_that_comes_twice_is_unsupported_even_if_it_is_empty() {
    for (code, other) in [(1, 2), (2, 1)] {
        for value in [&b"x"[..], b""] {
            let option = sub_options(&[(code, value), (other, b"y"), (code, value)]);
            assert_eq!(circuit(&option, true), Err(Outcome::Unsupported));
            assert_eq!(circuit(&option, false), Err(Outcome::Unsupported));
        }
    }
    let option = sub_options(&[(9, b"x"), (1, b"port"), (9, b"y")]);
    assert!(circuit(&option, true).is_ok());
}

#[test]
fn a_sub_option_that_leaves_the_option_is_malformed() {
    for option in [
        &[1][..],
        &[1, 1],
        &[1, 2, 9],
        &[1, 1, 9, 2],
        &[1, 1, 9, 2, 1],
        &[1, 1, 9, 2, 255, 1],
        &[2, 0, 1],
        &[0, 0, 0],
    ] {
        assert_eq!(
            circuit(option, false),
            Err(Outcome::Malformed),
            "{option:?}"
        );
    }
}

#[test]
fn a_key_holds_126_bytes_of_both_ids_and_no_more() {
    let (a, b) = ([0xaa; 255], [0xbb; 255]);
    for circuit_len in [1, 2, 60, 125, 126] {
        let rest = CIRCUIT_CAPACITY - circuit_len;
        let full = relay_information(&a[..circuit_len], &b[..rest]);
        let expected = Circuit::new(&a[..circuit_len], &b[..rest]).unwrap();
        assert_eq!(circuit(&full, true), Ok(expected));
        let over = relay_information(&a[..circuit_len], &b[..rest + 1]);
        assert_eq!(circuit(&over, true), Err(Outcome::Unsupported));
        // A remote-id that does not count may be as long as it likes.
        let alone = Circuit::new(&a[..circuit_len], &[]).unwrap();
        assert_eq!(circuit(&over, false), Ok(alone));
    }
    let over = relay_information(&a[..127], &[]);
    assert_eq!(circuit(&over, false), Err(Outcome::Unsupported));
}

#[test]
fn an_option_may_have_as_many_sub_options_as_the_limit_and_no_more() {
    let with = |count: usize| {
        let mut all = std::vec![(9_u8, &b"z"[..]); count - 1];
        all.push((1, b"port"));
        circuit(&sub_options(&all), false)
    };
    let limit = usize::try_from(SUB_OPTION_LIMIT).unwrap();
    assert!(with(limit).is_ok());
    assert_eq!(with(limit + 1), Err(Outcome::Unsupported));
}

proptest! {
    /// The key that is read is the one that is configured, whatever the lengths.
    #[test]
    fn a_circuit_reads_as_it_would_be_made(
        circuit_id in prop::collection::vec(any::<u8>(), 0..=130),
        remote in prop::option::of(prop::collection::vec(any::<u8>(), 0..=110)),
        others in prop::collection::vec((3_u8.., prop::collection::vec(any::<u8>(), 0..3)), 0..3),
        remote_id in any::<bool>(),
        by in any::<prop::sample::Index>(),
    ) {
        let mut all: Vec<(u8, &[u8])> = others.iter().map(|(code, value)| (*code, &value[..])).collect();
        all.push((1, &circuit_id));
        all.extend(remote.iter().map(|value| (2, &value[..])));
        let by = by.index(all.len());
        all.rotate_left(by);
        let counts = remote.as_deref().filter(|_| remote_id).unwrap_or_default();
        let expected = Circuit::new(&circuit_id, counts).map_err(|error| match error {
            nexus_abi::CircuitError::Empty => Outcome::UnknownClient,
            nexus_abi::CircuitError::TooLong(_) => Outcome::Unsupported,
        });
        prop_assert_eq!(circuit(&sub_options(&all), remote_id), expected);
    }

    #[test]
    fn no_option_82_makes_the_reader_panic(option in prop::collection::vec(any::<u8>(), 1..=255)) {
        let alone = circuit(&option, false);
        let both = circuit(&option, true);
        if let (Ok(alone), Ok(both)) = (alone, both) {
            prop_assert_eq!(alone.circuit_id(), both.circuit_id());
            prop_assert_eq!(alone.remote_id(), &[] as &[u8]);
        }
    }
}
