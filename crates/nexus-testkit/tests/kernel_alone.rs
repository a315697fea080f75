//! The kernel program with real clients and nobody in user space: what promise P2 rests on.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use nexus_abi::{BindingKey, Bucket, Entry, NEVER_EXPIRES, Outcome, Place, hash_key, map};
use nexus_dhcp::profile::{ProfileParts, encode};
use nexus_testkit::access_node::{AccessNetwork, Line, OLT_INTERFACE, Subscriber, object_path};
use nexus_testkit::bpf::{self, Pinned};
use nexus_testkit::capture::Seen;
use nexus_testkit::dhcp_client::{DhcpClient, Kind, Lease};
use nexus_testkit::link;
use nexus_testkit::netns::unique_prefix;
use zerocopy::IntoBytes as _;

const TIMEOUT: Duration = Duration::from_secs(30);
const GATEWAY: [u8; 4] = [100, 64, 0, 1];
const PROFILE: u16 = 7;
/// What stands in the object for whoever loads it without the sidecar.
const BUCKETS: u32 = 65_536;
const SEED: u64 = 0;

/// An access network with the kernel program on the OLT's interface, natively, and nothing else.
struct Bench {
    pinned: Pinned,
    network: AccessNetwork,
}

impl Bench {
    fn new(name: &str, lines: &[Line]) -> Result<Self> {
        let prefix = unique_prefix(name);
        let network = AccessNetwork::create(&prefix, &object_path(), lines)?;
        let object = object_path().with_file_name("nexus-ebpf");
        let pinned = Pinned::load(&object, &format!("{prefix}-xdp"))?;
        let program = pinned.program(nexus_abi::PROGRAM).display().to_string();
        let attach = [
            "net",
            "attach",
            "xdpdrv",
            "pinned",
            &program,
            "dev",
            OLT_INTERFACE,
        ];
        network.olt.run("bpftool", &attach)?;
        let bench = Self { pinned, network };

        let parts = ProfileParts {
            server_id: GATEWAY,
            next_server: [0; 4],
            gateway_mac: link::mac(&bench.network.olt, OLT_INTERFACE)?,
            lease_secs: 3600,
            subnet_mask: [255, 192, 0, 0],
            routers: &[GATEWAY],
            dns: &[[9, 9, 9, 9]],
            domain_name: None,
            mtu: None,
            ntp: &[],
            rapid_commit: false,
            custom: &[],
        };
        let profile = encode(&parts).map_err(|error| anyhow::anyhow!("{error}"))?;
        let profiles = bpf::map_id(&bench.pinned.map(map::PROFILES))?;
        bpf::map_update(
            profiles,
            &u32::from(PROFILE).to_ne_bytes(),
            profile.as_bytes(),
        )?;
        let kinds = bpf::map_id(&bench.pinned.map(map::KINDS))?;
        let both: u32 = 1 << BindingKey::KIND_LINE | 1 << BindingKey::KIND_MAC;
        bpf::map_update(kinds, &0_u32.to_ne_bytes(), &both.to_ne_bytes())?;
        Ok(bench)
    }

    /// Writes the key into its home bucket, alone.
    fn bind(&self, key: BindingKey, address: Ipv4Addr) -> Result<()> {
        let (outer_vid, inner_vid) = match key {
            BindingKey::Line {
                outer_vid,
                inner_vid,
                ..
            } => (outer_vid, inner_vid),
            _ => (0, 0),
        };
        let entry = Entry {
            mac: key.mac().unwrap_or_default(),
            kind: key.kind(),
            outer_vid,
            inner_vid,
            profile: PROFILE,
            address: address.octets(),
            valid_until_secs: NEVER_EXPIRES,
            ..Entry::default()
        };
        let [a, b, c, d, e, f] = entry.mac;
        let identity = u64::from_ne_bytes([a, b, c, d, e, f, entry.kind, 0]);
        let vids = u32::from(inner_vid) << 16 | u32::from(outer_vid);
        let home = Place::of(hash_key(SEED, identity, vids), BUCKETS - 1).home;
        let bucket = Bucket {
            entries: [entry, Entry::default()],
        };
        let id = bpf::map_id(&self.bindings())?;
        bpf::map_update(id, &home.to_ne_bytes(), bucket.as_bytes())
    }

    fn bindings(&self) -> PathBuf {
        self.pinned.map(map::BINDINGS)
    }

    fn line_key(subscriber: &Subscriber) -> BindingKey {
        let (outer_vid, inner_vid) = subscriber.line.vids();
        BindingKey::Line {
            interface: 0,
            outer_vid,
            inner_vid,
            mac: subscriber.mac,
        }
    }

    fn outcome(&self, outcome: Outcome) -> Result<u64> {
        let counters: BTreeMap<u32, u64> = bpf::counters(&self.pinned.map(map::COUNTERS))?;
        Ok(counters.get(&(outcome as u32)).copied().unwrap_or(0))
    }
}

fn expected(address: Ipv4Addr) -> Lease {
    Lease {
        address,
        mask: Ipv4Addr::new(255, 192, 0, 0),
        router: Some(GATEWAY.into()),
        dns: vec![Ipv4Addr::new(9, 9, 9, 9)],
        seconds: 3600,
        server: Some(GATEWAY.into()),
    }
}

/// What was seen, one line each.
fn story(seen: &[Seen]) -> Vec<String> {
    let line = |seen: &Seen| {
        let (mac, name) = (seen.message.mac(), seen.message.message_name());
        let (from, to) = (seen.frame.source_ip, seen.frame.destination_ip);
        format!("{:?} {mac:02x?} {name} {from} -> {to}", seen.at)
    };
    seen.iter().map(line).collect()
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn real_clients_get_and_renew_their_address_on_every_kind_of_line_from_the_kernel_alone() {
    let directory = tempfile::tempdir().unwrap();
    let lines = [
        Line::Untagged,
        Line::Vlan(100),
        Line::QinQ {
            s_vlan: 200,
            c_vlan: 30,
        },
    ];
    for kind in [Kind::Udhcpc, Kind::Dhclient] {
        let bench = Bench::new(kind.name(), &lines).unwrap();
        let capture = bench.network.capture(directory.path()).unwrap();
        for (last, subscriber) in (10..).zip(&bench.network.subscribers) {
            let address = Ipv4Addr::new(100, 64, 1, last);
            bench.bind(Bench::line_key(subscriber), address).unwrap();
            let mut client = DhcpClient::start(kind, subscriber, directory.path()).unwrap();
            assert_eq!(
                client.wait_for_lease(1, TIMEOUT).unwrap(),
                expected(address)
            );
            if kind == Kind::Udhcpc {
                // By unicast: the gateway's MAC address has to be answered by ARP first.
                client.renew_now().unwrap();
                assert_eq!(
                    client.wait_for_lease(2, TIMEOUT).unwrap(),
                    expected(address)
                );
            } else {
                drop(client);
                let mut client = DhcpClient::start(kind, subscriber, directory.path()).unwrap();
                assert_eq!(
                    client.wait_for_lease(1, TIMEOUT).unwrap(),
                    expected(address)
                );
            }
        }
        let seen = capture
            .wait_for_dhcp("all ACKs", TIMEOUT, |seen| seen.len() >= 18)
            .unwrap();
        for request in seen.iter().filter(|seen| seen.message.op == 1) {
            let reply = seen.iter().find(|reply| reply.answers(request)).unwrap();
            assert_eq!(reply.frame.tags, request.frame.tags);
        }
        // Every request on the wire was answered by the kernel, none was refused.
        let seen = capture.dhcp().unwrap();
        let sent = ["DISCOVER", "REQUEST"].map(|name| {
            let named = seen
                .iter()
                .filter(|seen| seen.message.message_name() == name);
            named.count() as u64
        });
        let answered = [Outcome::Offer, Outcome::Ack].map(|one| bench.outcome(one).unwrap());
        assert_eq!(answered, sent, "{:#?}", story(&seen));
        assert_eq!(bench.outcome(Outcome::Nak).unwrap(), 0);
        if kind == Kind::Udhcpc {
            assert!(bench.outcome(Outcome::ArpReply).unwrap() >= 3);
        }
    }
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_binding_by_mac_serves_any_line_and_a_line_binding_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let lines = [
        Line::QinQ {
            s_vlan: 200,
            c_vlan: 30,
        },
        Line::QinQ {
            s_vlan: 200,
            c_vlan: 31,
        },
    ];
    let bench = Bench::new("keys", &lines).unwrap();
    let [by_mac, elsewhere] = bench.network.subscribers.as_slice() else {
        unreachable!()
    };
    let address = Ipv4Addr::new(100, 64, 1, 10);
    bench
        .bind(
            BindingKey::Mac {
                interface: 0,
                mac: by_mac.mac,
            },
            address,
        )
        .unwrap();
    let mut client = DhcpClient::start(Kind::Udhcpc, by_mac, directory.path()).unwrap();
    assert_eq!(
        client.wait_for_lease(1, TIMEOUT).unwrap(),
        expected(address)
    );

    // Its MAC is bound to the other subscriber's line: the kernel passes its packets on.
    let key = BindingKey::Line {
        interface: 0,
        outer_vid: 200,
        inner_vid: 30,
        mac: elsewhere.mac,
    };
    bench.bind(key, Ipv4Addr::new(100, 64, 1, 11)).unwrap();
    let mut client = DhcpClient::start(Kind::Udhcpc, elsewhere, directory.path()).unwrap();
    client
        .process()
        .wait_for_line("broadcasting discover", TIMEOUT)
        .unwrap();
    nexus_testkit::interrupt::wait_until("two unanswered packets", TIMEOUT, || {
        Ok((bench.outcome(Outcome::UnknownClient)? >= 2).then_some(()))
    })
    .unwrap();
    assert!(client.events().iter().all(|event| !event.has_lease()));
}
