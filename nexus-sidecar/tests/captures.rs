//! The captures of real clients that stand in the tree: whole, readable, and each what its name says.

#[cfg(test)]
use std::collections::BTreeSet;
#[cfg(test)]
use std::path::Path;

#[cfg(test)]
use nexus_testkit::captures::{Capture, load};
#[cfg(test)]
use nexus_testkit::packet::Frame;

#[cfg(test)]
fn all() -> Vec<Capture> {
    load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures")).unwrap()
}

#[cfg(test)]
fn words(capture: &Capture) -> Vec<&str> {
    capture.name.split('-').collect()
}

#[test]
fn every_capture_is_a_request_of_the_kind_that_its_name_says() {
    for capture in all() {
        let frame = Frame::parse(&capture.frame)
            .unwrap_or_else(|error| panic!("{}: {error}", capture.name));
        let message = frame.bootp().unwrap();
        let words = words(&capture);
        let expected = match words[1] {
            "discover" => "DISCOVER",
            "decline" => "DECLINE",
            "release" => "RELEASE",
            "inform" => "INFORM",
            _ => "REQUEST",
        };
        let name = &capture.name;
        assert_eq!(message.message_name(), expected, "{name}");
        assert_eq!(message.op, 1, "{name}");
        assert_eq!(
            message.get(54).is_some() && expected == "REQUEST",
            words[1] == "select",
            "{name}"
        );
        let tags = match words.last() {
            Some(&"vlan") => 1,
            Some(&"qinq") => 2,
            _ => 0,
        };
        assert_eq!(frame.tags.len(), tags, "{name}");
        let relays = ["dhcrelay", "dnsmasq", "helper", "relayed"];
        let relayed = words.iter().any(|word| relays.contains(word));
        assert_eq!(!message.giaddr.is_unspecified(), relayed, "{name}");
        assert!(!capture.about.is_empty(), "{name} says not whose it is");
    }
}

#[test]
fn every_client_program_is_there_in_every_situation_that_it_can_be_brought_into() {
    let names: BTreeSet<String> = all().into_iter().map(|capture| capture.name).collect();
    let mut expected = BTreeSet::new();
    for program in ["udhcpc", "dhclient", "dhcpcd", "networkd"] {
        for situation in [
            "discover", "select", "renew", "rebind", "reboot", "release", "decline",
        ] {
            expected.insert(format!("{program}-{situation}"));
        }
    }
    // udhcpc begins with a DISCOVER always; networkd's DECLINE does not get out.
    expected.remove("udhcpc-reboot");
    expected.remove("networkd-decline");
    expected.insert("dhcpcd-inform".to_owned());
    for way in [
        "dhclient-*-vlan",
        "dhcpcd-*-qinq",
        "dhclient-*-dhcrelay",
        "udhcpc-*-dnsmasq",
    ] {
        for situation in ["discover", "select", "rebind"] {
            expected.insert(way.replace('*', situation));
        }
    }
    let missing: Vec<_> = expected.difference(&names).collect();
    assert!(
        missing.is_empty(),
        "run `cargo xtask captures`: {missing:?}"
    );
}
