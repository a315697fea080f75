//! Subscribers who are known by the circuit-id that a real relay puts into option 82, and by nothing else.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use nexus_testkit::access_node::Line;
use nexus_testkit::dhcp_client::{DhcpClient, Kind};
use nexus_testkit::relay::{self, Relay};

use crate::world::{Account, LIMIT, PASSWORD, SERVER, World, pool};

const POOL: &str = "residential-ipv4";
const LEASE_SECS: u32 = 40;

/// The interface knows circuits only, and asks about those it does not know; the account of a circuit has
/// its name.
fn by_circuit(text: &str) -> String {
    let mode = "    mode: native\n";
    assert_eq!(text.matches(mode).count(), 1, "{text}");
    let lines = format!(
        "{mode}    identity: [circuit-id]\n    ipoe:\n      username: \"{{circuit-id}}\"\n      \
         password: {PASSWORD}\n"
    );
    text.replace(mode, &lines)
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn behind_a_relay_with_option_82_every_client_gets_and_renews_the_lease_of_its_circuit() {
    let lines = [Line::Untagged; Kind::ALL.len()];
    let accounts: Vec<Account> = (1_u8..)
        .zip(lines)
        .map(|(number, line)| Account {
            // As the relay on that host calls its circuit.
            name: format!("dslam{number}"),
            mac: [2, 0, 0, 0, 1, number],
            line,
            pool: POOL,
        })
        .collect();
    let pools = [pool(POOL, SERVER, LEASE_SECS, "cool-down")];
    let configure = |text: String| by_circuit(&text);
    let world = World::start_with("circuit", &pools, &lines, &accounts, configure);
    let server = relay::Server {
        address: SERVER,
        mac: world.gateway,
    };
    let directory = world.directory.path();
    let hosts = &world.host.network.subscribers;
    let relays: Vec<Relay> = hosts
        .iter()
        .map(|at| {
            let own = Ipv4Addr::new(100, 64, 0, 100 + at.mac[5]);
            let kind = relay::Kind::Dhcrelay;
            Relay::start(kind, at, &world.prefix, (own, 10), server, directory).unwrap()
        })
        .collect();

    let addresses: BTreeSet<Ipv4Addr> = std::thread::scope(|scope| {
        let threads: Vec<_> = Kind::ALL
            .into_iter()
            .zip(&relays)
            .map(|(kind, relay)| {
                scope.spawn(move || {
                    let mut client = DhcpClient::start(kind, &relay.client, directory).unwrap();
                    let first = client.wait_for_lease(1, LIMIT).unwrap();
                    let renewed = client.wait_for_lease(2, LIMIT).unwrap();
                    assert_eq!(first, renewed, "{kind:?}");
                    (relay.circuit.clone(), first)
                })
            })
            .collect();
        let leases = threads.into_iter().map(|thread| thread.join().unwrap());
        leases
            .map(|(circuit, lease)| {
                assert_eq!(world.bound(&circuit), Some(lease.address), "{circuit}");
                assert_eq!((lease.seconds, lease.server), (LEASE_SECS, Some(SERVER)));
                world.wait_recorded(&circuit, lease.address, "active");
                lease.address
            })
            .collect()
    });
    assert_eq!(addresses.len(), accounts.len(), "each circuit has its own");
    let answers = world.answers();
    eprintln!("{answers:?}");
    // The first message of each is answered when RADIUS has; then the kernel knows its circuit.
    let first_contacts = accounts.len() as u64;
    assert_eq!(
        answers.slow,
        first_contacts + answers.passed_on,
        "{answers:?}"
    );
    assert!(answers.kernel >= 2 * first_contacts, "{answers:?}");
}
