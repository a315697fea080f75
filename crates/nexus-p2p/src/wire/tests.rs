//! Hellos: versions, bounds, and bytes that are none.

use proptest::prelude::*;

use super::*;

fn hello() -> WireHello {
    let hello = Hello {
        number: 7,
        name: "n".repeat(MOST_NAME_BYTES),
        role: "core".to_owned(),
        versions: 3..=4,
        extra: vec![9; MOST_EXTRA_BYTES],
    };
    let addresses = vec!["/".repeat(MOST_ADDRESS_BYTES); MOST_ADDRESSES];
    WireHello::new(&hello, &"c".repeat(32), u64::MAX, &addresses)
}

#[test]
fn the_longest_hello_fits_and_comes_back() {
    let bytes = hello().encode();
    assert!(bytes.len() <= MOST_GREETING_BYTES, "{}", bytes.len());
    assert_eq!(WireHello::decode(&bytes).unwrap(), hello());
    assert_eq!(hello().extra(), vec![9; MOST_EXTRA_BYTES]);
}

#[test]
fn a_hello_of_a_later_version_with_more_fields_is_read() {
    let mut value: serde_json::Value = serde_json::from_slice(&hello().encode()).unwrap();
    value["later"] = serde_json::json!({"a": [1, 2]});
    let bytes = serde_json::to_vec(&value).unwrap();
    assert_eq!(WireHello::decode(&bytes).unwrap(), hello());
}

#[test]
fn what_is_out_of_bounds_is_refused() {
    let spoil: [fn(&mut WireHello); 8] = [
        |hello| hello.name.push('x'),
        |hello| hello.name.clear(),
        |hello| hello.number = 0,
        |hello| hello.role = "a\u{7}b".to_owned(),
        |hello| hello.versions = (4, 3),
        |hello| hello.addresses.push(String::new()),
        |hello| hello.extra.push_str("00"),
        |hello| hello.extra = "zz".to_owned(),
    ];
    for spoil in spoil {
        let mut hello = hello();
        spoil(&mut hello);
        assert!(WireHello::decode(&hello.encode()).is_err(), "{hello:?}");
    }
}

#[test]
fn the_highest_common_version_is_used_and_none_if_there_is_none() {
    assert_eq!(common_version(&(1..=2), &(2..=3)), Some(2));
    assert_eq!(common_version(&(1..=5), &(2..=3)), Some(3));
    assert_eq!(common_version(&(1..=1), &(2..=3)), None);
    assert_eq!(common_version(&(4..=4), &(2..=3)), None);
}

proptest! {
    #[test]
    fn any_bytes_are_a_hello_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = WireHello::decode(&bytes);
        let _ = Verdict::decode(&bytes);
    }

    #[test]
    fn both_sides_agree_on_the_version(a in 0u16..9, b in 0u16..9, c in 0u16..9, d in 0u16..9) {
        let (ours, theirs) = (a.min(b)..=a.max(b), c.min(d)..=c.max(d));
        let version = common_version(&ours, &theirs);
        prop_assert_eq!(version, common_version(&theirs, &ours));
        let best = (0..9).filter(|v| ours.contains(v) && theirs.contains(v)).max();
        prop_assert_eq!(version, best);
    }
}
