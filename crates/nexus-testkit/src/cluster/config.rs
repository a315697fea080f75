//! What a node of the cluster is told: the customer's `nexus.yaml`, with the cluster's part.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

/// Port of the REST API on every node.
pub const HTTP_PORT: u16 = 9000;
/// Port of gRPC on every node.
pub const GRPC_PORT: u16 = 9001;
/// Port of the metrics on every node.
pub const METRICS_PORT: u16 = 9002;
/// Port that peers talk on.
pub const P2P_PORT: u16 = 33123;

/// Part that a node plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes writes, and part in decisions.
    Core,
    /// As core, in the customer's words.
    Write,
    /// Serves reads only.
    Read,
}

impl Role {
    /// Its name in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// The secret that makes nodes a cluster, as its 64 digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterKey(String);

impl ClusterKey {
    /// A key of a test's own: the same byte 32 times.
    #[must_use]
    pub fn of_byte(byte: u8) -> Self {
        Self(format!("{byte:02x}").repeat(32))
    }

    /// As it stands in the file.
    #[must_use]
    pub fn as_hex(&self) -> &str {
        &self.0
    }
}

/// A node as it shall be made.
#[derive(Clone, Debug)]
pub struct NodePlan {
    /// `node.id`.
    pub name: String,
    /// `node.role`.
    pub role: Role,
    /// The cluster's secret; a node without one runs alone.
    pub key: Option<ClusterKey>,
    /// Whether it lets in whoever has the key (`cluster.auto_admit`).
    pub auto_admit: bool,
    /// Nodes that it starts from, by their places; none: it founds the cluster.
    pub bootstrap: Vec<usize>,
    /// Size of its disk in MiB; none: as large as the machine's.
    pub disk: Option<u32>,
    /// Whether its wall clock can be stepped.
    pub own_clock: bool,
    /// More lines of YAML: whole top-level parts that are not among ours (`olt: {...}`).
    pub more: String,
    /// `cluster.evict_after`.
    pub evict_after: String,
}

/// Short lengths for OLTs, so that nobody need wait for leases.
const OLT: &str = "olt: {heartbeat_interval: 1s, offline_after: 30, lease: 10m}\n";

impl NodePlan {
    /// A node of the cluster that starts from node 0, unless it is node 0 itself, which founds it.
    #[must_use]
    pub fn member(index: usize, role: Role) -> Self {
        Self {
            name: format!("n{}", index + 1),
            role,
            key: Some(ClusterKey::of_byte(0x5a)),
            auto_admit: true,
            bootstrap: if index == 0 { Vec::new() } else { vec![0] },
            disk: None,
            own_clock: false,
            more: OLT.to_owned(),
            evict_after: "7d".to_owned(),
        }
    }

    /// A server that runs alone.
    #[must_use]
    pub fn alone(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            key: None,
            ..Self::member(0, Role::Core)
        }
    }

    /// `core` nodes that take writes, then `read` nodes.
    #[must_use]
    pub fn cluster(core: usize, read: usize) -> Vec<Self> {
        let role = |index| if index < core { Role::Core } else { Role::Read };
        (0..core + read)
            .map(|index| Self::member(index, role(index)))
            .collect()
    }

    /// The configuration. `addresses` are all nodes' by their places.
    #[must_use]
    pub fn yaml(&self, own: Ipv4Addr, directory: &Path, addresses: &[Ipv4Addr]) -> String {
        let mut text = format!(
            "server:\n  listen_address: {own}\n  http_port: {HTTP_PORT}\n  grpc_port: {GRPC_PORT}\n  \
             metrics_port: {METRICS_PORT}\n  insecure_listen_without_tls: true\n\
             node: {{ id: \"{}\", role: {}, region: east }}\n\
             storage: {{ path: \"{}\" }}\n\
             clset: {{ topic: nexus-state, rebroadcast_interval: 5s, num_workers: 50 }}\n\
             graceful_shutdown: {{ timeout: 2m, grace_period: 10s }}\n",
            self.name,
            self.role.as_str(),
            directory.join("store").display(),
        );
        if self.key.is_some() {
            let peers = self.bootstrap.iter().filter_map(|at| addresses.get(*at));
            let peers: Vec<String> = peers
                .map(|address| format!("\"/ip4/{address}/tcp/{P2P_PORT}\""))
                .collect();
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "p2p:\n  listen_address: {own}\n  listen_port: {P2P_PORT}\n  bootstrap: [{}]\n  \
                 cluster_key_file: \"{}\"\n\
                 cluster: {{ auto_admit: {}, evict_after: {} }}\n",
                peers.join(", "),
                directory.join("cluster.key").display(),
                self.auto_admit,
                self.evict_after,
            );
        }
        text.push_str(&self.more);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_found_the_cluster_names_who_did() {
        let addresses = [Ipv4Addr::new(10, 98, 0, 11), Ipv4Addr::new(10, 98, 0, 12)];
        let yaml = |plan: &NodePlan| plan.yaml(addresses[1], Path::new("/d"), &addresses);
        let plans = NodePlan::cluster(1, 1);
        assert!(yaml(&plans[0]).contains("bootstrap: []"));
        let second = yaml(&plans[1]);
        assert!(
            second.contains("bootstrap: [\"/ip4/10.98.0.11/tcp/33123\"]"),
            "{second}"
        );
        assert!(second.contains("role: read"));
        assert!(!yaml(&NodePlan::alone("n1")).contains("p2p"));
    }
}
