//! Real clients that nobody has introduced get their lease, by the users file and by FreeRADIUS.

use std::collections::BTreeMap;

use nexus_abi::Outcome;
use nexus_testkit::access_node::{Line, OLT_INTERFACE};
use nexus_testkit::dhcp_client::{DhcpClient, Kind};
use nexus_testkit::olt_host::OLT_ID;

use crate::aaa::{PORT, free_radius};
use crate::bench::{Bench, LIMIT, SMALL_POOL, SMALL_SERVER};
use crate::subscriber::{PASSWORD, Subscriber};
use crate::support::{DISCOVER, asking, by_mac, held, results, upstream};

const LINES: [(Line, Kind); 3] = [
    (Line::Untagged, Kind::Udhcpc),
    (Line::Vlan(30), Kind::Dhclient),
    (
        Line::QinQ {
            s_vlan: 100,
            c_vlan: 7,
        },
        Kind::Udhcpc,
    ),
];

/// Starts each client in turn; returns what its lease says.
fn leases(bench: &Bench, subscribers: &[Subscriber]) -> BTreeMap<String, std::net::Ipv4Addr> {
    let mut addresses = BTreeMap::new();
    let hosts = bench.host.network.subscribers.iter();
    for ((subscriber, (_, kind)), host) in subscribers.iter().zip(LINES).zip(hosts) {
        assert_eq!(host.mac, subscriber.mac);
        let mut client = DhcpClient::start(kind, host, bench.directory.path()).unwrap();
        let lease = client.wait_for_lease(1, LIMIT).unwrap();
        addresses.insert(subscriber.name.clone(), lease.address);
    }
    addresses
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_client_that_nobody_has_introduced_gets_its_lease_by_the_users_file_at_once() {
    let lines = LINES.map(|(line, _)| line);
    let subscribers: Vec<_> = (1..)
        .zip(lines)
        .map(|(number, line)| by_mac(number, line))
        .collect();
    let mut bench = Bench::start_with("ipoeuf", &lines, &subscribers, |text, _| {
        asking(&text, "{mac}")
    });
    let addresses = leases(&bench, &subscribers);
    for subscriber in &subscribers {
        assert_eq!(
            held(&bench, &subscriber.name),
            [addresses[&subscriber.name]]
        );
    }
    assert_eq!(results(&bench, "accept"), 3);
    let counts = bench.counts();
    // The first packet is the slow path's; what follows finds an entry in the kernel's map.
    let acks = counts.slow(Outcome::Ack) + counts.kernel(Outcome::Ack);
    assert_eq!((counts.slow(Outcome::Offer), acks), (3, 3), "{counts:?}");
    assert_eq!(counts.kernel(Outcome::UnknownClient), 3, "{counts:?}");

    // They are in the record, and known from now on: nobody is asked about again.
    bench.wait_synced();
    bench.host.kill().unwrap();
    bench.start_sidecar();
    assert_eq!(leases(&bench, &subscribers), addresses);
    assert_eq!(results(&bench, "accept"), 0);
}

/// A FreeRADIUS that lets only those in whose requests say all that they should.
fn users() -> String {
    let common = format!(
        "NAS-Identifier == \"{OLT_ID}\", NAS-IP-Address == 127.0.0.1, Service-Type == Framed-User, NAS-Port-Type == Ethernet"
    );
    let user = |name: &str, mac: &str, port: &str, more: &str, reply: &str| {
        format!(
            "\"{name}\" Cleartext-Password := \"{PASSWORD}\", {common}, Calling-Station-Id == \"{mac}\", NAS-Port-Id == \"{port}\"{more}\n{reply}\n"
        )
    };
    let i = OLT_INTERFACE;
    [
        user(
            &format!("{i}/02:00:00:00:00:01"),
            "02:00:00:00:00:01",
            i,
            "",
            "",
        ),
        user(
            &format!("{i}/02:00:00:00:00:02"),
            "02:00:00:00:00:02",
            &format!("{i}:30"),
            "",
            &format!("\tFramed-Pool := \"{SMALL_POOL}\""),
        ),
        user(
            &format!("{i}/02:00:00:00:00:03"),
            "02:00:00:00:00:03",
            &format!("{i}:100.7"),
            ", Alc-DHCP-Vendor-Class-Id =~ \"^udhcp\"",
            "\tUser-Name := \"customer-3\"",
        ),
    ]
    .concat()
}

#[test]
#[ignore = "needs root: makes network namespaces, runs FreeRADIUS"]
fn a_client_that_nobody_has_introduced_gets_its_lease_by_free_radius_at_once() {
    let lines = LINES.map(|(line, _)| line);
    let subscribers: Vec<_> = (1..)
        .zip(lines)
        .map(|(number, line)| by_mac(number, line))
        .collect();
    let mut radius = None;
    let bench = Bench::start_with("ipoefr", &lines, &[], |text, host| {
        let directory = tempfile::tempdir().unwrap();
        radius = Some((
            free_radius(&host.network.olt, directory.path(), &users()),
            directory,
        ));
        upstream(&asking(&text, "{interface}/{mac}"), PORT, "5s")
    });
    let addresses = leases(&bench, &subscribers);
    let name = |mac: &str| format!("{OLT_INTERFACE}/{mac}");
    // An id cannot hold a slash, and the server's User-Name counts where it gives one.
    let ids = [
        name("02:00:00:00:00:01").replace('/', "=2F"),
        name("02:00:00:00:00:02").replace('/', "=2F"),
        "customer-3".to_owned(),
    ];
    for (subscriber, id) in subscribers.iter().zip(&ids) {
        let address = addresses[&subscriber.name];
        assert_eq!(held(&bench, id), [address], "{id}");
        let small = SMALL_SERVER.octets()[..3] == address.octets()[..3];
        assert_eq!(small, subscriber.line == Line::Vlan(30), "{address}");
    }
    let discovers = bench.capture.dhcp().unwrap();
    let discovers = discovers
        .iter()
        .filter(|seen| seen.message.message_type() == Some(DISCOVER));
    assert!(discovers.count() >= 3);
    assert_eq!(results(&bench, "accept"), 3);
    let log = radius.unwrap().0.log();
    assert_eq!(log.matches("Received Access-Request").count(), 3, "{log}");
}
