//! The server's configuration file: the customer's YAML, read strictly, with errors that name file, line
//! and remedy.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nexus_core::duration::HumanDuration;
use nexus_core::id::OltId;
use nexus_core::lease::{LeaseError, LeaseRule, MISSED_HEARTBEATS};
use nexus_core::pool::{Pool, PoolSpec};
use serde::{Deserialize, Serialize};
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
    /// Peers of the cluster; kept, not used while the server runs as a single node.
    pub p2p: P2pConfig,
    /// Where the state lies.
    pub storage: StorageConfig,
    /// Replication; kept, not used while the server runs as a single node.
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
    /// Allows a `listen_address` that is not loopback although nothing on it is encrypted or authenticated.
    pub insecure_listen_without_tls: bool,
}

/// Who this server is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// Name of the server; made at random and kept in the store if not given.
    pub id: Option<OltId>,
    /// Part the server plays in the cluster.
    pub role: Role,
    /// Region label.
    pub region: String,
}

/// Part a server plays in the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Full participant.
    #[default]
    Core,
    /// Takes writes.
    Write,
    /// Read replica.
    Read,
}

impl Role {
    /// Name as it stands in configuration and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// Peers of the cluster.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct P2pConfig {
    /// Port of the peer-to-peer listener.
    pub listen_port: u16,
    /// Multiaddresses of peers to start from.
    pub bootstrap: Vec<String>,
}

/// Where the state lies.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageConfig {
    /// Directory of the store; made if it is not there.
    pub path: PathBuf,
}

/// Replication of the state between servers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClsetConfig {
    /// Topic that changes are published on.
    pub topic: String,
    /// How often peers compare what they have.
    pub rebroadcast_interval: HumanDuration,
    /// Workers that apply what peers send.
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
            insecure_listen_without_tls: false,
        }
    }
}

impl Default for P2pConfig {
    fn default() -> Self {
        Self {
            listen_port: 33123,
            bootstrap: Vec::new(),
        }
    }
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::from("/var/lib/nexus/data"),
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
        LeaseRule::new(self.lease(), self.offline_after() / MISSED_HEARTBEATS)
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
        if self.node.id.as_ref().is_some_and(OltId::is_cluster) {
            let problem = "`nexus` is the name of the whole cluster: choose another one".to_owned();
            return Err(refuse("node.id", problem));
        }
        if self.node.role == Role::Read {
            let problem = "a read replica needs a cluster to read from, and this build runs as a single node: \
                           use core or write";
            return Err(refuse("node.role", problem.to_owned()));
        }
        if self.graceful_shutdown.grace_period > self.graceful_shutdown.timeout {
            let problem = format!(
                "{} is longer than graceful_shutdown.timeout ({}): make it shorter",
                self.graceful_shutdown.grace_period, self.graceful_shutdown.timeout
            );
            return Err(refuse("graceful_shutdown.grace_period", problem));
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
        self.lease_rule()
            .map_err(|error| refuse("olt.lease", error.to_string()))?;
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
