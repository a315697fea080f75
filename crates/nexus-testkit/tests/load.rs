//! The load generator against a server that is not ours: Debian's dnsmasq.

use std::collections::BTreeSet;
use std::time::Duration;

use nexus_testkit::link::{self, End};
use nexus_testkit::load::{self, Exchange, Pace, Plan};
use nexus_testkit::netns::{Namespace, unique_prefix};
use nexus_testkit::packet::mac_text;
use nexus_testkit::process::Process;

const TIMEOUT: Duration = Duration::from_secs(30);
const CLIENTS: u32 = 150;

#[test]
#[ignore = "needs root: makes network namespaces"]
fn every_client_gets_an_address_of_its_own_and_renews_it() {
    let prefix = unique_prefix("load");
    let server = Namespace::create(&prefix, "server").unwrap();
    let clients = Namespace::create(&prefix, "clients").unwrap();
    link::veth(End::new(&server, "line0"), End::new(&clients, "load0")).unwrap();
    link::add_address(&server, "line0", "10.8.0.1/16").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let leases = directory.path().join("leases");
    let mut dnsmasq = server.command("dnsmasq");
    dnsmasq.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--user=root",
        "--port=0",
        "--no-ping",
        "--log-facility=-",
        "--bind-interfaces",
        "--interface=line0",
        "--dhcp-authoritative",
        "--dhcp-range=10.8.1.0,10.8.9.255,255.255.0.0,600",
    ]);
    dnsmasq.arg(format!("--dhcp-leasefile={}", leases.display()));
    let pid_file = directory.path().join("pid");
    dnsmasq.arg(format!("--pid-file={}", pid_file.display()));
    let log = directory.path().join("log");
    let mut dnsmasq = Process::spawn("dnsmasq", &mut dnsmasq, &log).unwrap();
    dnsmasq.wait_for_line("DHCP, IP range", TIMEOUT).unwrap();

    let first_mac = [2, 0, 0, 0, 0xff, 0xf0];
    let plan = Plan {
        threads: 2,
        once: true,
        retry: true,
        seconds: 60.0,
        ..Plan::new("load0", first_mac, CLIENTS, Pace::Closed { window: 4 })
    };
    let report = clients.enter(|| load::run(&plan)).unwrap().unwrap();
    let all = u64::from(CLIENTS);
    let counts = report.counts;
    assert_eq!(
        (counts.begun, counts.completed, counts.lost),
        (all, all, 0),
        "{counts:?}"
    );
    assert_eq!((counts.refused, counts.wrong), (0, 0), "{counts:?}");
    assert_eq!(report.exchange.count, all);

    // What the server wrote down: expiry, MAC address, address, and more.
    let written = std::fs::read_to_string(&leases).unwrap();
    let leases: BTreeSet<(&str, &str)> = written
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((words.next()?, words.next()?))
        })
        .collect();
    let addresses: BTreeSet<_> = leases.iter().map(|(_, address)| *address).collect();
    assert_eq!(addresses.len(), CLIENTS as usize, "{written}");
    for client in 0..CLIENTS {
        let mac = mac_text(plan.mac(client));
        assert!(leases.iter().any(|(at, _)| *at == mac), "no lease of {mac}");
    }

    let renewals = Plan {
        exchange: Exchange::Renew,
        ..plan
    };
    let report = clients.enter(|| load::run(&renewals)).unwrap().unwrap();
    assert_eq!(report.counts.completed, all, "{:?}", report.counts);
}
