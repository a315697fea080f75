//! The bench: a cluster of servers that has formed and has a pool, and hosts with their sidecars.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::checker::check;
use super::doors::Doors;
use super::history::{Entry, History, OltAt, Who};
use super::host::{Host, HostPlan, LINE, SECRET, read_map};
use super::plan::{LEASES, Leases, OLTS, PATIENCE, POOL, ROUTER, SERVERS};
use super::station::Station;
use super::subscribers::{by_mac, users_file};
use super::tracker::Tracker;
use crate::access_node::object_path;
use crate::bpf::{self, Pinned};
use crate::cluster::{Client, ClusterBench, GRPC_PORT, NodePlan};
use crate::interrupt::wait_until;
use crate::nas::{Nas, Patience};
use crate::netns::unique_prefix;
use crate::process::last_lines;

/// How long a NAS asks.
pub const NAS_PATIENCE: Patience = Patience {
    again: Duration::from_millis(1500),
    give_up: Duration::from_secs(9),
};
/// How long a DHCP client asks. The kernel answers at once, so this is for a machine that stands still.
const DHCP_PATIENCE: Duration = Duration::from_secs(20);
/// Disks in MiB.
const SERVER_DISK: u32 = 192;
const HOST_DISK: u32 = 96;

/// What of the bench can be another one.
#[derive(Clone, Debug)]
pub struct BenchPlan {
    /// Subscribers in the users file.
    pub subscribers: Who,
    /// `olt.id` of each host.
    pub ids: Vec<String>,
    /// Whether servers have small disks, and servers and hosts clocks of their own.
    pub fragile: bool,
    /// Servers.
    pub servers: usize,
    /// `capacity` of each OLT.
    pub capacity: u32,
    /// Space of the pool, and prefix length of its shards.
    pub space: (&'static str, u8),
    /// What servers and OLTs agree on about time.
    pub leases: Leases,
    /// `cool_down` of the pool, in seconds.
    pub rest: u32,
}

impl BenchPlan {
    /// As the field has it: a host for each OLT, and two that stand by with the ids of the second and of the last.
    #[must_use]
    pub fn field(subscribers: Who) -> Self {
        let mut ids: Vec<String> = (1..=OLTS).map(|number| format!("olt-{number}")).collect();
        ids.extend(["olt-2".to_owned(), format!("olt-{OLTS}")]);
        Self {
            subscribers,
            ids,
            fragile: true,
            servers: SERVERS,
            capacity: subscribers / 2,
            // Four addresses for each subscriber, so that every OLT can be given enough.
            space: match subscribers {
                0..=1024 => ("100.64.0.0/20", 26),
                1025..=4096 => ("100.64.0.0/18", 25),
                _ => ("100.64.0.0/16", 24),
            },
            leases: LEASES,
            rest: 3,
        }
    }

    /// One server and hosts with these ids, for what needs no cluster; 256 addresses in shards of 16.
    #[must_use]
    pub fn small(subscribers: Who, ids: &[&str]) -> Self {
        Self {
            subscribers,
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            fragile: false,
            servers: 1,
            capacity: 40,
            space: ("100.64.0.0/24", 28),
            leases: Leases {
                heartbeat: Duration::from_secs(2),
                offline_after: 10,
                lease: Duration::from_secs(30),
            },
            rest: 3,
        }
    }

    /// Nothing ends by itself within the life of a test: hosts are heard, and leases live, however slow the machine is.
    #[must_use]
    pub fn long_lived(mut self) -> Self {
        self.leases = Leases {
            heartbeat: Duration::from_secs(2),
            offline_after: 100,
            lease: Duration::from_secs(3600),
        };
        self
    }
}

/// The bench. Fields are dropped in this order.
#[derive(Debug)]
pub struct Field {
    /// OLT hosts.
    pub hosts: Vec<Host>,
    /// Servers.
    pub cluster: ClusterBench,
}

impl Field {
    /// Builds everything and starts the servers; no sidecar runs yet.
    ///
    /// # Errors
    /// If the caller is not root, something is not built, or the cluster does not form.
    pub fn start(plan: &BenchPlan) -> Result<Self> {
        bpf::ensure_bpffs()?;
        let mut cluster = ClusterBench::create("field", server_plans(plan))?;
        cluster.start_all()?;
        let all: Vec<usize> = (0..cluster.size()).collect();
        cluster.wait_converged(&all, PATIENCE)?;
        create_pool(&cluster, plan)?;
        let prefix = unique_prefix("field");
        let passing = Pinned::load(&object_path(), &format!("{prefix}-access-node"))?;
        let users = cluster.directory().join("users.yaml");
        std::fs::write(&users, users_file(plan.subscribers, POOL))
            .context("cannot write users.yaml")?;
        let mut hosts = Vec::new();
        for (number, id) in (1_u8..).zip(&plan.ids) {
            // Not all of them talk to the same server.
            let mut servers = servers(&cluster)?;
            let turn = usize::from(number) % servers.len().max(1);
            servers.rotate_left(turn);
            let host = HostPlan {
                id: id.clone(),
                number,
                capacity: plan.capacity,
                servers,
                users: users.clone(),
                disk: HOST_DISK,
                own_clock: plan.fragile,
                // Of four hosts three may be away, and what a map has too many is no entry of anybody.
                bindings: (plan.subscribers * 2).max(2048),
            };
            let (root, switch) = (cluster.directory(), cluster.network().switch());
            hosts.push(Host::create(host, &prefix, root, switch, &passing)?);
        }
        Ok(Self { hosts, cluster })
    }

    /// A host.
    ///
    /// # Errors
    /// If there are not so many.
    pub fn host(&mut self, at: OltAt) -> Result<&mut Host> {
        self.hosts
            .get_mut(at)
            .with_context(|| format!("no host {at}"))
    }

    /// Starts the sidecars of these hosts and waits until each has shards.
    ///
    /// # Errors
    /// If one does not get so far.
    pub fn start_sidecars(&mut self, at: &[OltAt]) -> Result<()> {
        for at in at {
            self.host(*at)?.launch()?;
        }
        for at in at {
            self.host(*at)?.wait("it may allocate", may_allocate)?;
        }
        Ok(())
    }

    /// How the subscribers reach a host.
    ///
    /// # Errors
    /// If its namespaces are gone.
    pub fn doors(&self, at: OltAt) -> Result<Doors> {
        let host = self
            .hosts
            .get(at)
            .with_context(|| format!("no host {at}"))?;
        let nas = Nas::open(&host.namespace, Host::radius(), SECRET, NAS_PATIENCE)?;
        let gateway = host.gateway()?;
        let station = Station::open(&host.stations, LINE, gateway, ROUTER, DHCP_PATIENCE)?;
        Ok(Doors { nas, station })
    }

    /// Reads the maps of these hosts twice, one after the other, and looks for an address that two subscribers have.
    /// Returns what the maps have.
    ///
    /// # Errors
    /// If a map cannot be read, or there is such an address.
    pub fn nobody_shares(&self, at: &[OltAt], subscribers: Who) -> Result<Vec<Vec<Entry>>> {
        let mut tracker = Tracker::default();
        for _ in 0..2 {
            for at in at {
                let host = self
                    .hosts
                    .get(*at)
                    .with_context(|| format!("no host {at}"))?;
                let (from, until, entries) = read_map(&host.map())?;
                tracker.sample(*at, from, until, &entries);
            }
        }
        let entries = at.iter().map(|at| tracker.current(*at)).collect();
        let history = History {
            held: tracker.finish(),
            ..History::default()
        };
        let found = check(&history, None, &by_mac(subscribers));
        ensure!(found.is_empty(), "{found:#?}");
        Ok(entries)
    }

    /// Clients of all servers.
    ///
    /// # Errors
    /// If there is no cluster.
    pub fn clients(&self) -> Result<Vec<Client>> {
        (0..self.cluster.size())
            .map(|at| Ok(self.cluster.client(at)?.patience(Duration::from_secs(5))))
            .collect()
    }

    /// The ends of all logs.
    pub fn logs(&mut self, lines: usize) -> String {
        let mut text = self.cluster.logs(lines);
        for host in &self.hosts {
            let tail = last_lines(&host.log(), lines);
            text += &format!("\n--- {}:\n{}", host.log_file().display(), tail);
        }
        text
    }
}

/// Whether a sidecar's status says that it is connected and may allocate.
#[must_use]
pub fn may_allocate(status: &Value) -> bool {
    let get = |name: &str| status.get(name);
    get("mode").and_then(Value::as_str) == Some("connected")
        && get("cannot_allocate").is_some_and(Value::is_null)
        && get("shards")
            .and_then(Value::as_array)
            .is_some_and(|shards| !shards.is_empty())
}

/// Addresses of the servers.
///
/// # Errors
/// If there is no cluster.
pub fn servers(cluster: &ClusterBench) -> Result<Vec<Ipv4Addr>> {
    (0..cluster.size())
        .map(|at| Ok(cluster.node(at)?.address()))
        .collect()
}

fn server_plans(plan: &BenchPlan) -> Vec<NodePlan> {
    let addresses = (0..plan.servers).filter_map(crate::cluster::address);
    let endpoints: Vec<String> = addresses
        .map(|address| format!("\"{address}:{GRPC_PORT}\""))
        .collect();
    let olt = format!(
        "olt: {{heartbeat_interval: {}s, offline_after: {}, lease: {}s, endpoints: [{}]}}\n",
        plan.leases.heartbeat.as_secs(),
        plan.leases.offline_after,
        plan.leases.lease.as_secs(),
        endpoints.join(", ")
    );
    let mut plans = NodePlan::cluster(plan.servers, 0);
    for one in &mut plans {
        one.more.clone_from(&olt);
        if plan.fragile {
            one.disk = Some(SERVER_DISK);
            one.own_clock = true;
        }
        if plan.servers == 1 {
            one.key = None;
        }
    }
    plans
}

/// Addresses rest for seconds only, so that they change hands often.
fn create_pool(cluster: &ClusterBench, plan: &BenchPlan) -> Result<()> {
    let (cidr, shard_size) = plan.space;
    let rest = format!("{}s", plan.rest);
    let pool = json!({
        "id": POOL, "type": "ipv4", "cidr": cidr, "shard_size": shard_size,
        "cool_down": rest, "exclusions": [format!("{ROUTER}/32")],
        "dhcp": {"router": ROUTER, "lease_time": "5s"},
    });
    let answer = cluster
        .client(0)?
        .patience(PATIENCE)
        .post("/api/v1/pools", &pool)?;
    ensure!(
        answer.status == 201,
        "the pool was not created: HTTP {} {}",
        answer.status,
        answer.body
    );
    for at in 0..cluster.size() {
        let client = cluster.client(at)?.patience(PATIENCE);
        wait_until("every server has the pool", PATIENCE, || {
            let pools = client.get("/api/v1/pools")?;
            Ok(pools.body.to_string().contains(POOL).then_some(()))
        })?;
    }
    Ok(())
}
