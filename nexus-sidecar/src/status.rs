//! What `nexus-sidecar status` and `nexus-sidecar bindings` show, as plain data that also goes over the control socket.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::routes::RoutesReport;

/// How the host stands towards the centre (part 6 of the design).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The last heartbeat was answered.
    Connected,
    /// No heartbeat is answered, the lease is alive: allocation goes on.
    CutOff,
    /// The lease has ended, or there has been none since the host booted: nothing new is allocated.
    LeaseEnded,
}

/// One shard that this host owns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardReport {
    /// Pool of the shard.
    pub pool: String,
    /// Index of the shard in its pool.
    pub shard: u32,
    /// `100.64.0.0/18` or `100-199`.
    pub range: String,
    /// Epoch of this host's ownership.
    pub epoch: u64,
    /// `owned` or `draining`.
    pub state: String,
    /// Units held by subscribers.
    pub allocated: u64,
    /// Units that could be given now.
    pub available: u64,
}

/// What this host owns of one pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolReport {
    /// The pool.
    pub pool: String,
    /// Its type: `ipv4`, `ipv6`, ...
    pub kind: String,
    /// Units held by subscribers.
    pub allocated: u64,
    /// Units that could be given now.
    pub available: u64,
}

/// What the lease is counted on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockReport {
    /// `CLOCK_BOOTTIME`, whole seconds: time that the machine was suspended counts, steps of the wall clock do not.
    pub boot_secs: u64,
    /// The wall clock, RFC 3339; only for what people read.
    pub wall: String,
    /// Which clocks run further apart than leases allow for, and by how much, if some do.
    #[serde(default)]
    pub apart: Option<String>,
    /// Nothing new is given because of that.
    #[serde(default)]
    pub stops: bool,
}

/// One interface towards the subscribers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceReport {
    /// Its name.
    pub name: String,
    /// Its number in the kernel's keys.
    pub number: u8,
    /// How XDP is attached: `native` or `generic`.
    pub xdp_mode: String,
    /// What subscribers are known by on it, in this order: `line`, `vlan`, ...
    pub identity: Vec<String>,
}

/// The answer to `status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// Id of the OLT.
    pub olt: String,
    /// Session of the host's store.
    pub session: String,
    /// How the host stands.
    pub mode: Mode,
    /// Why nothing can be allocated, if so.
    pub cannot_allocate: Option<String>,
    /// Whole seconds until the lease ends; `None`: no lease.
    pub lease_left_secs: Option<u64>,
    /// Whole seconds until acknowledged bindings end, if the centre is not reached before; `None`: they do not.
    #[serde(default)]
    pub kept_left_secs: Option<u64>,
    /// Nothing is served before the centre's records have been read, because others may have got it meanwhile.
    #[serde(default)]
    pub unread: bool,
    /// What the centre said when it refused this host as the second one with its OLT id, if it did.
    #[serde(default)]
    pub second_host: Option<String>,
    /// What the centre says of another host that tries to be this OLT, if one does.
    #[serde(default)]
    pub other_host: Option<String>,
    /// What the lease is counted on.
    #[serde(default)]
    pub clock: ClockReport,
    /// Pools in order.
    #[serde(default)]
    pub pools: Vec<PoolReport>,
    /// Endpoint of the centre that was reached last.
    pub endpoint: Option<String>,
    /// Revision of the configuration.
    pub config_revision: u64,
    /// Shards in the order of pool and index.
    pub shards: Vec<ShardReport>,
    /// Bindings the centre has acknowledged.
    pub acked: u64,
    /// Bindings it has not.
    pub unacked: u64,
    /// Bindings that wait for a lease and for the centre before they are served again.
    pub suspended: u64,
    /// Releases the centre has not acknowledged.
    pub pending_releases: u64,
    /// Interfaces towards the subscribers, by name.
    pub interfaces: Vec<InterfaceReport>,
    /// Routes in the kernel's tables.
    #[serde(default)]
    pub routes: RoutesReport,
    /// Packets seen by the XDP program, by outcome label.
    pub kernel_outcomes: BTreeMap<String, u64>,
    /// Packets handled by the slow path, by outcome label.
    pub slow_outcomes: BTreeMap<String, u64>,
}

/// One line of `bindings`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingReport {
    /// Who.
    pub subscriber: String,
    /// Pool of the resource.
    pub pool: String,
    /// Its type: `ipv4`, `ipv6`, ...
    pub kind: String,
    /// The resource: an address, a prefix, a VLAN, a block of ports.
    pub address: String,
    /// Interface, place on it, and MAC: `eth1 100.7 02:00:00:00:00:01`, as [`LineKey`](nexus_core::edge::LineKey)
    /// prints it.
    pub line: String,
    /// The client's MAC address; `None`: it has no line yet.
    pub mac: Option<[u8; 6]>,
    /// Shard of the resource.
    pub shard: u32,
    /// Epoch it was given under.
    pub epoch: u64,
    /// Sequence number of the allocation.
    pub seq: u64,
    /// The centre has acknowledged it.
    pub acked: bool,
    /// Whole seconds it is still valid; `None`: no end.
    pub valid_for_secs: Option<u64>,
    /// It waits for a lease and for the centre before it is served again.
    pub suspended: bool,
}
