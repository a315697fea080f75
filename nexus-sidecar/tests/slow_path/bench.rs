//! Everything real and joined: centre, OLT host, access network, a capture of the uplink.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use nexus_abi::{Binding, BindingKey, Bucket, Outcome, map};
use nexus_testkit::access_node::{Line, OLT_INTERFACE};
use nexus_testkit::bpf::{self, Pins};
use nexus_testkit::capture::{Capture, Seen};
use nexus_testkit::centre::Centre;
use nexus_testkit::interrupt::wait_until;
use nexus_testkit::link;
use nexus_testkit::netns::unique_prefix;
use nexus_testkit::olt_host::{OltHost, nothing_waits, pin_root};
use nexus_testkit::packet::{Frame, Mac};
use nexus_testkit::pcap::Captured;
use nexus_testkit::rest::Rest;
use nexus_testkit::wire::Wire;
use serde_json::{Value, json};
use tempfile::TempDir;
use zerocopy::{FromBytes as _, FromZeros as _, IntoBytes as _};

use crate::nas::Nas;
use crate::subscriber::Subscriber;

/// Only a failing test waits so long.
pub const LIMIT: Duration = Duration::from_secs(120);

/// The pool of most subscribers.
pub const POOL: &str = "residential-ipv4";
/// A pool of a few addresses.
pub const SMALL_POOL: &str = "small-ipv4";
/// Gateway and server of [`POOL`].
pub const SERVER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
/// Gateway and server of [`SMALL_POOL`].
pub const SMALL_SERVER: Ipv4Addr = Ipv4Addr::new(100, 128, 0, 1);
/// A server elsewhere.
pub const OTHER_SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Address of nobody.
pub const WRONG: Ipv4Addr = Ipv4Addr::new(10, 9, 8, 7);

/// Fields are dropped in this order.
pub struct Bench {
    pub capture: Capture,
    pub host: OltHost,
    pub centre: Centre,
    pub uplink: Wire,
    pub nas: Nas,
    pub ifindex: u32,
    /// Where replies come from.
    pub gateway: Mac,
    pub directory: TempDir,
    _pins: Pins,
}

/// Kernel and slow path: packets by outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    kernel: BTreeMap<String, u64>,
    slow: BTreeMap<String, u64>,
}

impl Counts {
    pub fn kernel(&self, outcome: Outcome) -> u64 {
        self.kernel.get(outcome.label()).copied().unwrap_or(0)
    }

    pub fn slow(&self, outcome: Outcome) -> u64 {
        self.slow.get(outcome.label()).copied().unwrap_or(0)
    }

    /// DISCOVER and REQUEST answered by the kernel and by the slow path.
    pub fn answers(&self) -> (u64, u64) {
        let sum = |count: &dyn Fn(Outcome) -> u64| {
            count(Outcome::Offer) + count(Outcome::Ack) + count(Outcome::Nak)
        };
        (
            sum(&|outcome| self.kernel(outcome)),
            sum(&|outcome| self.slow(outcome)),
        )
    }
}

impl Bench {
    /// Starts everything: two pools, an OLT with shards of both, the lines of `lines` with subscribers on
    /// them, and accounts for `accounts`.
    pub fn start(name: &str, lines: &[Line], accounts: &[Subscriber]) -> Self {
        Self::start_with(name, lines, accounts, |text, _| text)
    }

    /// The same with another `sidecar.yaml`: `configure` gets the usual text and the host that it is for.
    pub fn start_with(
        name: &str,
        lines: &[Line],
        accounts: &[Subscriber],
        configure: impl FnOnce(String, &OltHost) -> String,
    ) -> Self {
        bpf::ensure_bpffs().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let prefix = unique_prefix(name);
        let mut centre = Centre::create(&prefix, directory.path()).unwrap();
        centre.start().unwrap();
        for pool in [residential(), small()] {
            let answer = centre.post("/api/v1/pools", &pool).unwrap();
            assert_eq!(answer.status, 201, "{}", answer.body);
        }
        let users: Vec<_> = accounts.iter().map(Subscriber::user).collect();
        let pins = Pins(pin_root(&prefix));
        let host =
            OltHost::create(&prefix, directory.path(), lines, &users, &centre.namespace).unwrap();
        let config = directory.path().join("sidecar.yaml");
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, configure(text, &host)).unwrap();
        let olt = &host.network.olt;
        let mut bench = Self {
            capture: host.network.capture(directory.path()).unwrap(),
            uplink: host.network.uplink().unwrap(),
            nas: Nas::open(olt),
            ifindex: link::index(olt, OLT_INTERFACE).unwrap(),
            gateway: link::mac(olt, OLT_INTERFACE).unwrap(),
            host,
            centre,
            directory,
            _pins: pins,
        };
        bench.start_sidecar();
        bench
    }

    /// Starts the sidecar and waits until it may allocate.
    pub fn start_sidecar(&mut self) {
        let ready = |status: &Value| {
            let shards = status["shards"].as_array();
            let pools = |name| {
                shards.is_some_and(|shards| shards.iter().any(|shard| shard["pool"] == name))
            };
            status["mode"] == "connected"
                && status["cannot_allocate"].is_null()
                && pools(POOL)
                && pools(SMALL_POOL)
        };
        self.host
            .start("registered, with shards of both pools", ready)
            .unwrap();
    }

    /// Authenticates everybody and waits until the centre has recorded it: no binding has an end then.
    pub fn connect(&mut self, subscribers: &[Subscriber]) -> BTreeMap<String, Ipv4Addr> {
        let addresses = self.nas.accepted(subscribers);
        self.wait_synced();
        addresses
    }

    /// Waits until the centre has acknowledged everything.
    pub fn wait_synced(&self) {
        wait_until("everything acknowledged by the centre", LIMIT, || {
            let status = self.host.status()?;
            let done = status["mode"] == "connected" && nothing_waits(&status);
            Ok(done.then_some(()))
        })
        .unwrap();
    }

    /// Packets by outcome so far.
    pub fn counts(&self) -> Counts {
        let status = self.host.status().unwrap();
        let outcomes = |of: &str| serde_json::from_value(status[of].clone()).unwrap();
        Counts {
            kernel: outcomes("kernel_outcomes"),
            slow: outcomes("slow_outcomes"),
        }
    }

    /// The kernel's map. When a client was last seen is left out.
    pub fn kernel(&self) -> BTreeMap<BindingKey, Binding> {
        let mut all = BTreeMap::new();
        for (_, bucket) in self.buckets() {
            for entry in bucket.entries {
                let (interface, mac) = (entry.interface, entry.mac);
                let key = match entry.kind {
                    _ if entry.valid_until_secs == 0 => continue,
                    BindingKey::KIND_LINE => BindingKey::Line {
                        interface,
                        outer_vid: entry.outer_vid,
                        inner_vid: entry.inner_vid,
                        mac,
                    },
                    BindingKey::KIND_MAC => BindingKey::Mac { interface, mac },
                    other => panic!("a key of kind {other}"),
                };
                let binding = Binding {
                    address: entry.address,
                    valid_until_secs: entry.valid_until_secs,
                    mac,
                    profile: entry.profile,
                    last_seen_jiffies: 0,
                };
                assert_eq!(all.insert(key, binding), None, "twice");
            }
        }
        all
    }

    fn buckets(&self) -> Vec<(Vec<u8>, Bucket)> {
        let dump = bpf::map_dump(&self.host.map(map::BINDINGS)).unwrap();
        let read = |bucket: &Value| {
            let bytes = |of: &str| bpf::raw_bytes(&bucket[of]).unwrap();
            (
                bytes("key"),
                Bucket::read_from_bytes(&bytes("value")).unwrap(),
            )
        };
        dump.iter().map(read).collect()
    }

    /// Makes the kernel forget everybody, behind the sidecar's back.
    pub fn empty_kernel(&self) {
        let bindings = bpf::map_id(&self.host.map(map::BINDINGS)).unwrap();
        let empty = Bucket::new_zeroed();
        for (number, bucket) in self.buckets() {
            if bucket != empty {
                bpf::map_update(bindings, &number, empty.as_bytes()).unwrap();
            }
        }
    }

    /// The address of a subscriber in the kernel's map.
    pub fn bound(&self, subscriber: &Subscriber) -> Option<Ipv4Addr> {
        let binding = self.kernel().get(&subscriber.key()).copied();
        binding.map(|binding| Ipv4Addr::from(binding.address))
    }

    /// Puts a request onto the uplink, with `padding` bytes behind its datagram, and returns the frame that
    /// answers it, as it was on the wire.
    pub fn ask(&self, request: &Frame, padding: usize) -> Vec<u8> {
        let asked = request.bootp().unwrap();
        let before = self.capture.frames().unwrap().len();
        let mut bytes = request.build();
        bytes.resize(bytes.len() + padding, 0);
        self.uplink.send(&bytes).unwrap();
        let what = format!(
            "the answer to this {} on {}: {asked:?}",
            asked.message_name(),
            request.vlan_text()
        );
        wait_until(&what, LIMIT, || {
            let frames = self.capture.frames()?;
            let answer = frames.into_iter().skip(before).find(|captured| {
                Seen::of(captured).is_some_and(|seen| {
                    seen.message.op == 2
                        && seen.message.xid == asked.xid
                        && seen.message.chaddr == asked.chaddr
                })
            });
            Ok(answer.map(|captured| captured.bytes))
        })
        .unwrap()
    }

    /// The same without padding, read.
    pub fn ask_and_read(&self, request: &Frame) -> Seen {
        let at = Duration::ZERO;
        let bytes = self.ask(request, 0);
        Seen::of(&Captured { at, bytes }).unwrap()
    }

    /// Waits until all frames before this have been dealt with: the slow path takes one after the other, and
    /// a message to another server is counted there and not answered.
    pub fn fence(&self, known: &Subscriber) {
        let before = self.counts();
        let address = self.bound(known).unwrap();
        let release = known.release(0xfe00, address, OTHER_SERVER);
        self.uplink.send(&release.build()).unwrap();
        let mut last = before.clone();
        wait_until("the slow path has taken the last frame", LIMIT, || {
            let now = self.counts();
            let (came, calm) = (
                now.slow(Outcome::OtherServer) > before.slow(Outcome::OtherServer),
                now == last,
            );
            last = now;
            Ok((came && calm).then_some(()))
        })
        .unwrap();
    }

    /// Sends frames to which nobody may answer, and makes sure that nobody did. `known`: somebody with a
    /// binding.
    pub fn assert_silence(&self, requests: &[Vec<u8>], known: &Subscriber) {
        let before = self.sent_by_olt();
        for request in requests {
            self.uplink.send(request).unwrap();
        }
        self.fence(known);
        assert_eq!(self.sent_by_olt(), before, "nobody is answered");
    }

    /// Frames of any kind that the OLT has sent to its subscribers.
    pub fn sent_by_olt(&self) -> usize {
        let frames = self.capture.frames().unwrap();
        let sent = |captured: &&Captured| captured.bytes.get(6..12) == Some(&self.gateway[..]);
        frames.iter().filter(sent).count()
    }

    /// What the centre has of a subscriber: address and state, released ones too.
    pub fn recorded(&self, subscriber: &Subscriber) -> BTreeMap<Ipv4Addr, String> {
        self.records(&format!("subscriber_id={}&state=all", subscriber.name))
            .into_iter()
            .map(|(_, address, state)| (address, state))
            .collect()
    }

    /// Subscriber, address and state of records of the centre.
    pub fn records(&self, query: &str) -> Vec<(String, Ipv4Addr, String)> {
        let path = format!("/api/v1/allocations?limit=1000&{query}");
        let answer = self.centre.get(&path).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(answer.body["next_cursor"].is_null(), "{}", answer.body);
        let text = |value: &Value, name: &str| value[name].as_str().unwrap().to_owned();
        let records = answer.body["allocations"].as_array().unwrap();
        let read = |record: &Value| {
            let address = text(record, "resource").parse().unwrap();
            (
                text(record, "subscriber_id"),
                address,
                text(record, "state"),
            )
        };
        records.iter().map(read).collect()
    }

    /// Waits until the record of a subscriber is what it should be.
    pub fn wait_recorded(&self, subscriber: &Subscriber, expected: &[(Ipv4Addr, &str)]) {
        let expected: BTreeMap<_, _> = expected
            .iter()
            .map(|(address, state)| (*address, (*state).to_owned()))
            .collect();
        let what = format!("{expected:?} of {} in the record", subscriber.name);
        wait_until(&what, LIMIT, || {
            Ok((self.recorded(subscriber) == expected).then_some(()))
        })
        .unwrap();
    }

    /// `/metrics` of the sidecar.
    pub fn metrics(&self) -> String {
        let rest = Rest::new("http://127.0.0.1:9103".to_owned());
        let answer = rest.get(&self.host.network.olt, "/metrics").unwrap();
        assert_eq!(answer.status, 200);
        answer.body.as_str().unwrap().to_owned()
    }
}

fn residential() -> Value {
    json!({
        "id": POOL,
        "type": "ipv4",
        "cidr": "100.64.0.0/10",
        "exclusions": ["100.64.0.0/24"],
        "dhcp": {
            "router": SERVER,
            "dns": ["9.9.9.9", "149.112.112.112"],
            "lease_time": "1h",
            "domain_name": "residential.example.net",
            "ntp": ["192.0.2.123"],
            "mtu": 1492,
            "options": { "43": "010203ff" },
        },
    })
}

/// Shards of 16 addresses.
fn small() -> Value {
    json!({
        "id": SMALL_POOL,
        "type": "ipv4",
        "cidr": "100.128.0.0/26",
        "shard_size": 28,
        "dhcp": { "router": SMALL_SERVER, "dns": ["9.9.9.9"], "lease_time": "30m" },
    })
}
