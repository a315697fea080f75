//! Keys as text, what is one place, and what cannot be a key.

use proptest::prelude::*;

use super::*;

fn key(text: &str) -> LineKey {
    text.parse().unwrap()
}

#[test]
fn a_key_prints_what_it_parses() {
    for text in [
        "eth1 100.7 02:00:00:00:00:01",
        "eth1 0.0 02:00:00:00:00:01",
        "olt-0 any aa:bb:cc:dd:ee:ff",
        "eth1 vlan 100.7 02:00:00:00:00:01",
        "eth1 circuit 302f31 02:00:00:00:00:01",
        "eth1 circuit 00+ff20 02:00:00:00:00:01",
        "any any 02:00:00:00:00:01",
    ] {
        assert_eq!(key(text).to_string(), text);
        let json = serde_json::to_string(&key(text)).unwrap();
        assert_eq!(json, format!("\"{text}\""), "as it stands in rows");
        assert_eq!(serde_json::from_str::<LineKey>(&json).unwrap(), key(text));
    }
    for text in [
        "",
        "eth1",
        "eth1 1 02:00:00:00:00:01",
        "eth1 any 02:00",
        "e any 2:0:0:0:0:1",
        "e any +2:00:00:00:00:01",
        "eth1 vlan 02:00:00:00:00:01",
        "eth1 vlan any 02:00:00:00:00:01",
        "eth1 circuit 3 02:00:00:00:00:01",
        "eth1 circuit +g 02:00:00:00:00:01",
        "eth1 circuit 30+31+32 02:00:00:00:00:01",
        "eth1 circuit 30 02:00:00:00:00:01 more",
    ] {
        assert!(text.parse::<LineKey>().is_err(), "{text}");
    }
}

#[test]
fn keys_are_of_one_place_if_they_differ_in_an_allowed_mac_only() {
    let one_place = |a: &str, b: &str| key(a).place() == key(b).place();
    for at in ["vlan 100.7", "circuit 30", "circuit 30+31"] {
        let [a, b] = [1, 2].map(|n| format!("eth1 {at} 02:00:00:00:00:0{n}"));
        assert!(one_place(&a, &b), "{at}");
        assert!(!one_place(&a, &b.replace("eth1", "eth2")), "{at}");
        assert_eq!(key(&a).place().to_string(), format!("eth1 {at}"));
    }
    for at in ["100.7", "any"] {
        let [a, b] = [1, 2].map(|n| format!("eth1 {at} 02:00:00:00:00:0{n}"));
        assert!(!one_place(&a, &b), "{at}");
        assert_eq!(key(&a).place().to_string(), a);
    }
    let mac = "02:00:00:00:00:01";
    for (a, b) in [
        ("100.7", "vlan 100.7"),
        ("circuit 3031", "circuit 30+31"),
        ("vlan 100.7", "vlan 100.8"),
    ] {
        assert!(!one_place(&format!("e {a} {mac}"), &format!("e {b} {mac}")));
    }
}

#[test]
fn keys_that_stand_for_no_client_are_refused() {
    let check = |text: &str| key(text).check();
    for kind in ["", "vlan "] {
        let check = |pair: &str| check(&format!("e {kind}{pair} 02:00:00:00:00:01"));
        assert_eq!(check("4094.1"), Ok(()));
        assert_eq!(check("4095.1"), Err(KeyProblem::Vlan(4095)));
        assert_eq!(check("0.1"), Err(KeyProblem::InnerAlone(1)));
    }
    assert_eq!(check("e any 01:00:00:00:00:01"), Err(KeyProblem::Mac));
    assert_eq!(check("e any 00:00:00:00:00:00"), Err(KeyProblem::Mac));
    assert_eq!(
        check("e vlan 1.0 01:00:00:00:00:01"),
        Err(KeyProblem::Mac),
        "an allowed MAC is one of a station as well"
    );
    let circuit = |ids: &str| check(&format!("e circuit {ids} 02:00:00:00:00:01"));
    assert_eq!(circuit("+31"), Err(KeyProblem::NoCircuit));
    assert_eq!(circuit(&format!("{}+31", "30".repeat(125))), Ok(()));
    assert_eq!(
        circuit(&format!("{}+3131", "30".repeat(125))),
        Err(KeyProblem::CircuitTooLong(127))
    );
}

proptest! {
    #[test]
    fn every_key_comes_back_from_its_text(
        kind in 0..4_u8,
        outer: u16,
        inner: u16,
        circuit_id in prop::collection::vec(any::<u8>(), 0..130),
        remote_id in prop::collection::vec(any::<u8>(), 0..130),
        mac: [u8; 6],
    ) {
        let vlans = Vlans { outer, inner };
        let at = match kind {
            0 => At::Line(vlans),
            1 => At::Mac,
            2 => At::Vlan(vlans),
            _ => At::Circuit(Circuit { circuit_id, remote_id }),
        };
        let key = LineKey { interface: "eth1".to_owned(), at, mac };
        prop_assert_eq!(key.to_string().parse::<LineKey>().unwrap(), key);
    }
}
