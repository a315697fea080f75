//! The client runners against a server that is not ours: busybox `udhcpd`.

use std::net::Ipv4Addr;
use std::time::Duration;

use nexus_testkit::access_node::{AccessNetwork, Line, OLT_INTERFACE, object_path};
use nexus_testkit::dhcp_client::{DhcpClient, Kind, Lease};
use nexus_testkit::link;
use nexus_testkit::netns::unique_prefix;
use nexus_testkit::packet::mac_text;
use nexus_testkit::process::Process;

const TIMEOUT: Duration = Duration::from_secs(30);

fn expected(last: u8) -> Lease {
    Lease {
        address: Ipv4Addr::new(10, 8, 0, last),
        mask: Ipv4Addr::new(255, 255, 255, 0),
        router: Some(Ipv4Addr::new(10, 8, 0, 1)),
        dns: vec![Ipv4Addr::new(10, 8, 0, 53), Ipv4Addr::new(10, 8, 0, 54)],
        seconds: 900,
        server: Some(Ipv4Addr::new(10, 8, 0, 1)),
    }
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn both_clients_get_renew_and_ask_again_for_a_lease_and_the_capture_shows_the_exchange() {
    let directory = tempfile::tempdir().unwrap();
    let lines = [Line::Untagged, Line::Untagged];
    let network = AccessNetwork::create(&unique_prefix("dhcp"), &object_path(), &lines).unwrap();
    link::add_address(&network.olt, OLT_INTERFACE, "10.8.0.1/24").unwrap();
    let [first, second] = network.subscribers.as_slice() else {
        unreachable!()
    };

    let file = |name: &str| directory.path().join(name);
    let config = format!(
        "interface {OLT_INTERFACE}\nstart 10.8.0.100\nend 10.8.0.110\nlease_file {}\npidfile {}\n\
         static_lease {} 10.8.0.11\nstatic_lease {} 10.8.0.12\noption subnet 255.255.255.0\n\
         option router 10.8.0.1\noption dns 10.8.0.53 10.8.0.54\noption lease 900\n",
        file("udhcpd.leases").display(),
        file("udhcpd.pid").display(),
        mac_text(first.mac),
        mac_text(second.mac),
    );
    std::fs::write(file("udhcpd.conf"), config).unwrap();
    std::fs::write(file("udhcpd.leases"), "").unwrap();
    let mut udhcpd = network.olt.command("busybox");
    udhcpd.args(["udhcpd", "-f"]).arg(file("udhcpd.conf"));
    let mut udhcpd = Process::spawn("udhcpd", &mut udhcpd, &file("udhcpd.log")).unwrap();
    udhcpd.wait_for_line("started", TIMEOUT).unwrap();
    let capture = network.capture(directory.path()).unwrap();

    let mut udhcpc = DhcpClient::start(Kind::Udhcpc, first, directory.path()).unwrap();
    assert_eq!(udhcpc.wait_for_lease(1, TIMEOUT).unwrap(), expected(11));
    udhcpc.renew_now().unwrap();
    assert_eq!(udhcpc.wait_for_lease(2, TIMEOUT).unwrap(), expected(11));

    let mut dhclient = DhcpClient::start(Kind::Dhclient, second, directory.path()).unwrap();
    assert_eq!(dhclient.wait_for_lease(1, TIMEOUT).unwrap(), expected(12));
    drop(dhclient);
    let mut dhclient = DhcpClient::start(Kind::Dhclient, second, directory.path()).unwrap();
    assert_eq!(dhclient.wait_for_lease(1, TIMEOUT).unwrap(), expected(12));

    let address = first
        .namespace
        .run("ip", &["-4", "address", "show", "dev", "eth0"])
        .unwrap();
    assert!(address.contains("10.8.0.11/24"), "{address}");

    // DISCOVER, OFFER, REQUEST, ACK; a unicast renewal; the same with dhclient; a reboot.
    let seen = capture
        .wait_for_dhcp("the last ACK", TIMEOUT, |seen| seen.len() >= 12)
        .unwrap_or_else(|error| panic!("{error}: {:?}", capture.dhcp()));
    let names = |mac| -> Vec<&str> {
        let own = seen.iter().filter(|seen| seen.message.mac() == mac);
        own.map(|seen| seen.message.message_name()).collect()
    };
    let full = ["DISCOVER", "OFFER", "REQUEST", "ACK", "REQUEST", "ACK"];
    assert_eq!(names(first.mac), full);
    assert_eq!(names(second.mac), full);
    assert!(
        seen.iter()
            .any(|one| one.frame.source_ip == Ipv4Addr::new(10, 8, 0, 11))
    );
    for request in seen.iter().filter(|seen| seen.message.op == 1) {
        assert!(
            seen.iter().any(|reply| reply.answers(request)),
            "{request:?}"
        );
    }
}
