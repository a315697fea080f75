//! Centre, OLT host and access network as they run at a provider, with RADIUS accounts; nothing is played.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use nexus_abi::Outcome;
use nexus_testkit::access_node::{Line, OLT_INTERFACE};
use nexus_testkit::bpf::{self, Pins};
use nexus_testkit::capture::Capture;
use nexus_testkit::centre::Centre;
use nexus_testkit::interrupt::wait_until;
use nexus_testkit::link;
use nexus_testkit::netns::unique_prefix;
use nexus_testkit::olt_host::{OltHost, RADIUS, SECRET, User, nothing_waits, pin_root};
use nexus_testkit::packet::{Mac, Tag};
use nexus_testkit::radclient::{AccessRequest, authenticate};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Only a failing test waits so long.
pub const LIMIT: Duration = Duration::from_secs(120);
/// Gateway and server of the first pool's clients.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
/// Name servers.
pub const DNS: [Ipv4Addr; 2] = [Ipv4Addr::new(9, 9, 9, 9), Ipv4Addr::new(149, 112, 112, 112)];

/// Of everybody.
pub const PASSWORD: &str = "open-sesame";

/// A subscriber as RADIUS knows it.
#[derive(Clone, Debug)]
pub struct Account {
    pub name: String,
    pub mac: Mac,
    pub line: Line,
    pub pool: &'static str,
}

impl Account {
    pub fn tags(&self) -> Vec<Tag> {
        match self.line {
            Line::Untagged => vec![],
            Line::Vlan(vid) => vec![Tag::c_vlan(vid)],
            Line::QinQ { s_vlan, c_vlan } => vec![Tag::s_vlan(s_vlan), Tag::c_vlan(c_vlan)],
        }
    }

    /// What the NAS writes into NAS-Port-Id; an untagged line is not told, so the MAC is the key there.
    fn port_id(&self) -> String {
        match self.line {
            Line::Untagged => "olt 1/1".to_owned(),
            Line::Vlan(vid) => format!("olt 1/1:{vid}"),
            Line::QinQ { s_vlan, c_vlan } => format!("olt 1/1:{s_vlan}.{c_vlan}"),
        }
    }
}

/// A pool of the /11 that `server` is the first address of, with leases of so many seconds, and what a
/// RELEASE does there.
pub fn pool(id: &str, server: Ipv4Addr, lease_secs: u32, release: &str) -> Value {
    let [a, b, ..] = server.octets();
    json!({
        "id": id,
        "type": "ipv4",
        "cidr": format!("{a}.{b}.0.0/11"),
        "exclusions": [format!("{a}.{b}.0.0/24")],
        "dhcp": {
            "router": server,
            "dns": DNS,
            "lease_time": format!("{lease_secs}s"),
            "release": release,
        },
    })
}

/// Fields are dropped in this order.
pub struct World {
    pub capture: Capture,
    pub host: OltHost,
    pub centre: Centre,
    pub prefix: String,
    /// MAC address of the OLT's interface, which replies come from.
    pub gateway: Mac,
    pub directory: TempDir,
    pools: Vec<String>,
    _pins: Pins,
}

/// Answers to DISCOVER and REQUEST so far, and why the slow path gave some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// By the kernel.
    pub kernel: u64,
    /// By the slow path.
    pub slow: u64,
    /// Passed on by the kernel although it knew the client: the reply had no room.
    pub passed_on: u64,
}

impl World {
    /// Starts everything but clients.
    pub fn start(name: &str, pools: &[Value], lines: &[Line], accounts: &[Account]) -> Self {
        Self::start_with(name, pools, lines, accounts, |text| text)
    }

    /// The same with another `sidecar.yaml`: `configure` gets the usual text.
    pub fn start_with(
        name: &str,
        pools: &[Value],
        lines: &[Line],
        accounts: &[Account],
        configure: impl FnOnce(String) -> String,
    ) -> Self {
        bpf::ensure_bpffs().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let prefix = unique_prefix(name);
        let mut centre = Centre::create(&prefix, directory.path()).unwrap();
        centre.start().unwrap();
        for pool in pools {
            let answer = centre.post("/api/v1/pools", pool).unwrap();
            assert_eq!(answer.status, 201, "{}", answer.body);
        }
        let users: Vec<User> = accounts.iter().map(user).collect();
        let pins = Pins(pin_root(&prefix));
        let path = directory.path();
        let host = OltHost::create(&prefix, path, lines, &users, &centre.namespace).unwrap();
        let config = path.join("sidecar.yaml");
        let usual = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, configure(usual)).unwrap();
        let mut world = Self {
            capture: host.network.capture(path).unwrap(),
            gateway: link::mac(&host.network.olt, OLT_INTERFACE).unwrap(),
            host,
            centre,
            prefix,
            directory,
            pools: pools.iter().map(|pool| text(pool, "id")).collect(),
            _pins: pins,
        };
        world.start_sidecar();
        world
    }

    /// Starts the sidecar and waits until it may allocate.
    pub fn start_sidecar(&mut self) {
        let pools = self.pools.clone();
        let ready = move |status: &Value| {
            let shards = status["shards"].as_array();
            let has = |pool: &String| {
                shards.is_some_and(|shards| shards.iter().any(|shard| shard["pool"] == **pool))
            };
            status["mode"] == "connected"
                && status["cannot_allocate"].is_null()
                && pools.iter().all(has)
        };
        self.host.start("registered, with shards", ready).unwrap();
    }

    /// Authenticates everybody, as the NAS does, and waits until the centre has recorded it. Returns the
    /// addresses that RADIUS gave.
    pub fn connect(&self, accounts: &[Account]) -> BTreeMap<String, Ipv4Addr> {
        let olt = &self.host.network.olt;
        let ask = |account: &Account| {
            let port_id = account.port_id();
            let request = AccessRequest::new(&account.name, PASSWORD, account.mac, &port_id);
            let answer = authenticate(olt, RADIUS, SECRET, &request).unwrap();
            assert_eq!(answer.kind, "Access-Accept", "{}", answer.output);
            let address = answer.get("Framed-IP-Address").unwrap();
            (account.name.clone(), address.parse().unwrap())
        };
        let share = accounts.len().div_ceil(4).max(1);
        let addresses = std::thread::scope(|scope| {
            let threads: Vec<_> = accounts
                .chunks(share)
                .map(|accounts| scope.spawn(move || accounts.iter().map(ask).collect::<Vec<_>>()))
                .collect();
            let joined = threads.into_iter().map(|thread| thread.join().unwrap());
            joined.flatten().collect()
        });
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

    /// Counts of kernel and slow path.
    pub fn answers(&self) -> Answers {
        let status = self.host.status().unwrap();
        let count = |of: &str, outcome: Outcome| status[of][outcome.label()].as_u64().unwrap_or(0);
        let replies = |of: &str| {
            let all = [Outcome::Offer, Outcome::Ack, Outcome::Nak];
            all.into_iter().map(|outcome| count(of, outcome)).sum()
        };
        Answers {
            kernel: replies("kernel_outcomes"),
            slow: replies("slow_outcomes"),
            passed_on: count("kernel_outcomes", Outcome::NoRoom),
        }
    }

    /// Packets that the kernel has counted so.
    pub fn kernel(&self, outcome: Outcome) -> u64 {
        let status = self.host.status().unwrap();
        status["kernel_outcomes"][outcome.label()]
            .as_u64()
            .unwrap_or(0)
    }

    /// Address of a subscriber's binding at the edge.
    pub fn bound(&self, name: &str) -> Option<Ipv4Addr> {
        let bindings = self.host.bindings().unwrap();
        let own = bindings
            .iter()
            .find(|binding| binding["subscriber"] == name)?;
        text(own, "address").parse().ok()
    }

    /// What the centre has of a subscriber: address and state, released ones too.
    pub fn recorded(&self, name: &str) -> BTreeMap<Ipv4Addr, String> {
        let path = format!("/api/v1/allocations?limit=1000&subscriber_id={name}&state=all");
        let answer = self.centre.get(&path).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        let records = answer.body["allocations"].as_array().unwrap();
        let read = |record| {
            let address = text(record, "resource").parse().unwrap();
            (address, text(record, "state"))
        };
        records.iter().map(read).collect()
    }

    /// Waits until the record of a subscriber is this one address in that state.
    pub fn wait_recorded(&self, name: &str, address: Ipv4Addr, state: &str) {
        let expected = BTreeMap::from([(address, state.to_owned())]);
        wait_until(&format!("{address} of {name} {state}"), LIMIT, || {
            Ok((self.recorded(name) == expected).then_some(()))
        })
        .unwrap();
    }
}

fn user(account: &Account) -> User {
    User {
        name: account.name.clone(),
        password: PASSWORD.to_owned(),
        subscriber: account.name.clone(),
        pool: account.pool.to_owned(),
    }
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap().to_owned()
}
