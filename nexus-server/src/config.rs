//! The server's configuration file: the customer's YAML, read strictly, with errors that name file, line
//! and remedy.

mod reclaim;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nexus_core::cluster::Role;
use nexus_core::duration::HumanDuration;
use nexus_core::id::NodeName;
use nexus_core::lease::{LeaseError, LeaseRule, MISSED_HEARTBEATS};
use nexus_core::pool::{Pool, PoolSpec};
pub use reclaim::ReclaimAfter;
use serde::Deserialize;
use serde_saphyr::Spanned;

/// Largest configuration file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

type Refuse<'a> = &'a dyn Fn(&str, String) -> ConfigError;

/// Everything that `nexus.yaml` may say. Every part has a default; unknown fields are refused.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Listeners.
    pub server: ServerConfig,
    /// Who this server is.
    pub node: NodeConfig,
    /// How this server meets the others of its cluster.
    pub p2p: P2pConfig,
    /// Rules for the servers of the cluster.
    pub cluster: ClusterConfig,
    /// Where the state lies.
    pub storage: StorageConfig,
    /// Replication between the servers.
    pub clset: ClsetConfig,
    /// How the server stops.
    pub graceful_shutdown: ShutdownConfig,
    /// Rules for the OLT hosts.
    pub olt: OltConfig,
    /// Pools that are created when the server starts with an empty store.
    pub pools: Vec<Spanned<PoolSpec>>,
}

/// Listeners. Port 0 takes any free port.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Address of all three listeners; loopback unless given.
    pub listen_address: IpAddr,
    /// REST, health and readiness.
    pub http_port: u16,
    /// gRPC for the OLT hosts.
    pub grpc_port: u16,
    /// Prometheus metrics.
    pub metrics_port: u16,
    /// Host name or address at which the other servers and their clients reach this one; the
    /// `listen_address` unless given, or the name of the host if that is the unspecified one.
    pub advertise_host: Option<String>,
    /// Allows a `listen_address` that is not loopback although nothing on it is encrypted or authenticated.
    pub insecure_listen_without_tls: bool,
}

/// Who this server is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// Name of the server; made at random and kept if not given.
    pub id: Option<NodeName>,
    /// Part the server plays in the cluster.
    pub role: Role,
    /// Region label.
    pub region: String,
}

/// How this server meets the others of its cluster.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct P2pConfig {
    /// Address of the peer-to-peer listener (TCP and QUIC).
    pub listen_address: IpAddr,
    /// Port of the peer-to-peer listener; 0 takes any free port.
    pub listen_port: u16,
    /// Multiaddresses of peers to start from: `/ip4/10.0.0.1/tcp/33123`, `/dns/nexus-peers/tcp/33123`. Empty:
    /// this server founds a cluster of its own at its first start.
    pub bootstrap: Vec<String>,
    /// File with the key that all servers of the cluster share, 64 hexadecimal digits; not readable by
    /// others. If not given, `cluster.key` in `storage.path`; a server that has none and names no peers runs
    /// alone, without a peer-to-peer listener.
    pub cluster_key_file: Option<PathBuf>,
    /// Peer ids that may connect; empty: whoever has the cluster's key.
    pub allowed_peers: Vec<String>,
    /// Multiaddresses that the other servers are told, if they cannot use those of the listener.
    pub advertise: Vec<String>,
}

/// Rules for the servers of the cluster.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterConfig {
    /// Servers that have the cluster's key become members without `nexusctl cluster add`. Decided by the
    /// server that they ask.
    pub auto_admit: bool,
    /// A read replica that was away for so long no longer holds back what was deleted, and starts over from
    /// the others when it returns.
    pub evict_after: HumanDuration,
}

/// Where the state lies.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageConfig {
    /// Directory of everything this server keeps; made if it is not there.
    pub path: PathBuf,
    /// Writes are refused while the disk has less free space than this, in bytes, or than a tenth of itself
    /// if that is less.
    pub min_free_bytes: u64,
}

/// Replication of the state between servers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClsetConfig {
    /// Topic that changes are published on.
    pub topic: String,
    /// How often peers compare what they have.
    pub rebroadcast_interval: HumanDuration,
    /// Questions of peers that are worked on at a time; more wait.
    pub num_workers: u16,
}

/// How the server stops after SIGTERM.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShutdownConfig {
    /// Everything must have ended after this time.
    pub timeout: HumanDuration,
    /// Requests in flight may take this long to finish.
    pub grace_period: HumanDuration,
}

/// Rules for the OLT hosts, sent to them with their configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OltConfig {
    /// How often an OLT reports.
    pub heartbeat_interval: HumanDuration,
    /// Missed heartbeats after which an OLT counts as offline.
    pub offline_after: u32,
    /// How long an OLT that cannot reach the centre may go on allocating.
    pub lease: HumanDuration,
    /// How long it may serve acknowledged bindings after that.
    pub reclaim_after: ReclaimAfter,
    /// gRPC endpoints (`host:port`) that the OLTs are told to use; the server's own listener if empty.
    pub endpoints: Vec<String>,
    /// Handed on to every OLT as it is.
    pub policies: BTreeMap<String, String>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            http_port: 9000,
            grpc_port: 9001,
            metrics_port: 9002,
            advertise_host: None,
            insecure_listen_without_tls: false,
        }
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            id: None,
            role: Role::Core,
            region: String::new(),
        }
    }
}

impl Default for P2pConfig {
    fn default() -> Self {
        Self {
            listen_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            listen_port: 33123,
            bootstrap: Vec::new(),
            cluster_key_file: None,
            allowed_peers: Vec::new(),
            advertise: Vec::new(),
        }
    }
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            auto_admit: false,
            evict_after: HumanDuration::from_secs(7 * 24 * 3600),
        }
    }
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::from("/var/lib/nexus/data"),
            min_free_bytes: 256 * 1024 * 1024,
        }
    }
}

impl Default for ClsetConfig {
    fn default() -> Self {
        Self {
            topic: "nexus-state".to_owned(),
            rebroadcast_interval: HumanDuration::from_secs(5),
            num_workers: 50,
        }
    }
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self {
            timeout: HumanDuration::from_secs(120),
            grace_period: HumanDuration::from_secs(10),
        }
    }
}

impl Default for OltConfig {
    fn default() -> Self {
        Self {
            heartbeat_interval: HumanDuration::from_secs(30),
            offline_after: 3,
            lease: HumanDuration::from_secs(24 * 3600),
            reclaim_after: ReclaimAfter::default(),
            endpoints: Vec::new(),
            policies: BTreeMap::new(),
        }
    }
}

/// Why a configuration file is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read configuration {path}: {error}; name an existing file with --config")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file is larger than any configuration.
    #[error("configuration {path} has more than {MAX_FILE_BYTES} bytes: this is not a nexus.yaml")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not the YAML that is expected.
    #[error(
        "{path}: {error}\ncorrect or remove what this line says and run `nexus-server check-config` again"
    )]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the reader said, with line and column.
        error: String,
    },
    /// A value makes no sense.
    #[error("{path}{}: {field}: {problem}", line.map_or_else(String::new, |line| format!(":{line}")))]
    Value {
        /// The file.
        path: PathBuf,
        /// Line of the value, if it was written.
        line: Option<u64>,
        /// Path of the field.
        field: String,
        /// What is wrong and what to do.
        problem: String,
    },
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// The first thing that is wrong, with file, line and remedy.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |error| ConfigError::Unreadable {
            path: path.to_owned(),
            error,
        };
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size > MAX_FILE_BYTES {
            return Err(ConfigError::TooLarge {
                path: path.to_owned(),
            });
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Self::parse(path, &text)
    }

    /// Reads and checks the text of a file; `path` is for the error only.
    ///
    /// # Errors
    /// The first thing that is wrong, with file, line and remedy.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        // An empty document is a configuration too: all defaults.
        let config: Self = if text
            .lines()
            .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
        {
            Self::default()
        } else {
            serde_saphyr::from_str(text).map_err(|error| ConfigError::Syntax {
                path: path.to_owned(),
                error: error.to_string(),
            })?
        };
        config.check(path, text)?;
        Ok(config)
    }

    /// Address of one of the listeners.
    #[must_use]
    pub fn listen(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.server.listen_address, port)
    }

    /// File with the cluster's key; `None` if this server runs alone.
    #[must_use]
    pub fn cluster_key_file(&self) -> Option<PathBuf> {
        if let Some(path) = &self.p2p.cluster_key_file {
            return Some(path.clone());
        }
        let path = self.storage.path.join("cluster.key");
        (path.exists() || !self.p2p.bootstrap.is_empty()).then_some(path)
    }

    /// Host at which others reach this server.
    #[must_use]
    pub fn advertised_host(&self) -> String {
        if let Some(host) = &self.server.advertise_host {
            return host.clone();
        }
        match self.server.listen_address {
            address if address.is_unspecified() => nix::unistd::gethostname().map_or_else(
                |_| address.to_string(),
                |name| name.to_string_lossy().into_owned(),
            ),
            IpAddr::V6(address) => format!("[{address}]"),
            address @ IpAddr::V4(_) => address.to_string(),
        }
    }

    /// Length of the OLTs' lease.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.olt.lease.get()
    }

    /// Time without a heartbeat after which an OLT counts as offline.
    #[must_use]
    pub fn offline_after(&self) -> Duration {
        self.olt
            .heartbeat_interval
            .get()
            .saturating_mul(self.olt.offline_after)
    }

    /// The rule that leases are counted by.
    ///
    /// # Errors
    /// Lengths that do not go together.
    pub fn lease_rule(&self) -> Result<LeaseRule, LeaseError> {
        // The rule counts in its own number of heartbeats; what matters is the silence it comes to.
        LeaseRule::new(self.lease(), self.offline_after() / MISSED_HEARTBEATS)?
            .reclaiming_after(self.olt.reclaim_after.get())
    }

    fn check(&self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let refuse = |line: Option<u64>, field: &str, problem: String| ConfigError::Value {
            path: path.to_owned(),
            line: line.or_else(|| line_of(text, field)),
            field: field.to_owned(),
            problem,
        };
        self.check_server(&|field, problem| refuse(None, field, problem))?;
        self.check_olt(&|field, problem| refuse(None, field, problem))?;
        self.check_pools(&refuse)
    }

    fn check_server(&self, refuse: Refuse<'_>) -> Result<(), ConfigError> {
        let address = self.server.listen_address;
        if !address.is_loopback() && !self.server.insecure_listen_without_tls {
            let problem = format!(
                "{address} can be reached from outside, and this server has no TLS yet: use 127.0.0.1, or set \
                 server.insecure_listen_without_tls: true if the network in front of it is trusted"
            );
            return Err(refuse("server.listen_address", problem));
        }
        let mut ports = BTreeSet::new();
        for (field, port) in [
            ("server.http_port", self.server.http_port),
            ("server.grpc_port", self.server.grpc_port),
            ("server.metrics_port", self.server.metrics_port),
        ] {
            if port != 0 && !ports.insert(port) {
                let problem = format!("port {port} is used twice: give each listener its own");
                return Err(refuse(field, problem));
            }
        }
        self.check_cluster(refuse)?;
        if self.graceful_shutdown.grace_period > self.graceful_shutdown.timeout {
            let problem = format!(
                "{} is longer than graceful_shutdown.timeout ({}): make it shorter",
                self.graceful_shutdown.grace_period, self.graceful_shutdown.timeout
            );
            return Err(refuse("graceful_shutdown.grace_period", problem));
        }
        Ok(())
    }

    fn check_cluster(&self, refuse: Refuse<'_>) -> Result<(), ConfigError> {
        if self.node.role == Role::Read && self.p2p.bootstrap.is_empty() {
            let problem = "a read replica needs a cluster to read from: name its servers in p2p.bootstrap, or use core";
            return Err(refuse("node.role", problem.to_owned()));
        }
        if !(Duration::from_millis(100)..=Duration::from_secs(3600))
            .contains(&self.clset.rebroadcast_interval.get())
        {
            let problem = "must be 100ms to 1h (5s is the default)".to_owned();
            return Err(refuse("clset.rebroadcast_interval", problem));
        }
        if self.clset.num_workers == 0 {
            let problem = "must be at least 1 (50 is the default)".to_owned();
            return Err(refuse("clset.num_workers", problem));
        }
        if self.clset.topic.is_empty() || self.clset.topic.len() > 128 {
            let problem = "must have 1 to 128 bytes (nexus-state is the default)".to_owned();
            return Err(refuse("clset.topic", problem));
        }
        if self.cluster.evict_after.get() < Duration::from_secs(60) {
            let problem = "must be at least 1m (7d is the default)".to_owned();
            return Err(refuse("cluster.evict_after", problem));
        }
        Ok(())
    }

    fn check_olt(&self, refuse: Refuse<'_>) -> Result<(), ConfigError> {
        if self.olt.heartbeat_interval.get() < Duration::from_millis(100) {
            let problem = "must be at least 100ms".to_owned();
            return Err(refuse("olt.heartbeat_interval", problem));
        }
        if !(1..=100).contains(&self.olt.offline_after) {
            let problem = "must be 1 to 100 missed heartbeats".to_owned();
            return Err(refuse("olt.offline_after", problem));
        }
        self.lease_rule().map_err(|error| {
            let field = match error {
                LeaseError::Reclaim(_) => "olt.reclaim_after",
                _ => "olt.lease",
            };
            refuse(field, error.to_string())
        })?;
        let is_endpoint = |endpoint: &&String| {
            endpoint
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        match self.olt.endpoints.iter().find(|e| !is_endpoint(e)) {
            None => Ok(()),
            Some(bad) => {
                let problem = format!("`{bad}` is not host:port, such as nexus-1.example.com:9001");
                Err(refuse("olt.endpoints", problem))
            }
        }
    }

    /// Each pool must make sense, and none may meet another.
    fn check_pools(
        &self,
        refuse: &dyn Fn(Option<u64>, &str, String) -> ConfigError,
    ) -> Result<(), ConfigError> {
        let mut pools: Vec<Pool> = Vec::new();
        for (index, spec) in self.pools.iter().enumerate() {
            let field = format!("pools[{index}]");
            let line = Some(spec.referenced.line()).filter(|line| *line > 0);
            let pool = Pool::new(spec.value.clone())
                .map_err(|error| refuse(line, &field, error.to_string()))?;
            if let Some(other) = pools.iter().find(|other| other.id() == pool.id()) {
                let problem = format!("the id {} is used twice: rename one", other.id());
                return Err(refuse(line, &field, problem));
            }
            if let Some(other) = pools.iter().find(|other| other.overlaps(&pool)) {
                let problem = format!(
                    "{} of pool {} overlaps {} of pool {} in vrf {}: separate them or give one another vrf",
                    pool.space(),
                    pool.id(),
                    other.space(),
                    other.id(),
                    pool.vrf()
                );
                return Err(refuse(line, &field, problem));
            }
            pools.push(pool);
        }
        Ok(())
    }

    /// The pools of the file.
    #[must_use]
    pub fn seed_pools(&self) -> Vec<PoolSpec> {
        self.pools.iter().map(|spec| spec.value.clone()).collect()
    }
}

/// Line of the first key of that path (`server.http_port`); `None` if the value is a default.
fn line_of(text: &str, field: &str) -> Option<u64> {
    let mut lines = text.lines().zip(1..).peekable();
    let mut found = None;
    for part in field.split('.') {
        let key = format!("{part}:");
        while let Some((line, number)) = lines.peek() {
            let code = line.split('#').next().unwrap_or_default();
            let words = code.split([' ', '{', ',', '"']);
            if words.into_iter().any(|word| word == key || word == part) {
                found = Some(*number);
                break;
            }
            found = None;
            lines.next();
        }
    }
    found
}

#[cfg(test)]
mod tests;
