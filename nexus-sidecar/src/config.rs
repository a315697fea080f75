//! `sidecar.yaml`: what is written there, and what of it cannot be used.

mod interfaces;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use nexus_core::id::OltId;
use serde::Deserialize;

pub use interfaces::{Identity, InterfaceSection, MAX_INTERFACES, PoliciesSection, XdpMode};

use crate::radius::{RadiusConfig, RadiusConfigError};
use crate::routes::RoutesSection;
use crate::yaml;

/// Longest configuration file in bytes.
const MAX_FILE_LEN: u64 = 1024 * 1024;
/// Most nexus-servers that may be named.
const MAX_ENDPOINTS: usize = 64;
/// Most bindings that may be configured: 1 GB of kernel memory.
const MAX_BINDINGS: u32 = 10_000_000;

/// Most packets that a limit of the slow path can let through at once.
const MAX_BURST: u32 = 32_767;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SidecarConfig {
    /// Who this host is.
    pub olt: OltSection,
    /// nexus-servers as `host:port`, tried in this order.
    pub nexus_endpoints: Vec<String>,
    /// Interfaces towards the subscribers.
    pub interfaces: Vec<InterfaceSection>,
    /// What is done when a subscriber comes up on another line, or another MAC on a line.
    #[serde(default)]
    pub policies: PoliciesSection,
    /// Where the bindings are kept.
    #[serde(default)]
    pub storage: StorageSection,
    /// The kernel's part.
    #[serde(default)]
    pub fast_path: FastPathSection,
    /// RADIUS; without it no subscriber can authenticate.
    pub radius: Option<RadiusConfig>,
    /// Routes of what this host owns, for a routing daemon to announce.
    #[serde(default)]
    pub routes: RoutesSection,
    /// Prometheus metrics.
    #[serde(default)]
    pub metrics: MetricsSection,
    /// The socket of `nexus-sidecar status` and `bindings`.
    #[serde(default)]
    pub control: ControlSection,
}

/// `olt:`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OltSection {
    /// Unique name of this host.
    pub id: OltId,
    /// For people; the id if it is not given.
    #[serde(default)]
    pub name: String,
    /// Pools of a region give shards to hosts of that region only.
    #[serde(default)]
    pub region: String,
    /// Where this host can be reached, for people.
    #[serde(default)]
    pub address: String,
    /// Most subscribers that this host serves; decides how many shards it gets.
    #[serde(default = "default_capacity")]
    pub capacity: u32,
}

/// `storage:`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageSection {
    /// Folder of the store.
    pub path: PathBuf,
}

/// `fast_path:`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FastPathSection {
    /// Folder on a bpffs under which maps and link are pinned.
    #[serde(default = "default_pin_path")]
    pub pin_path: PathBuf,
    /// Most bindings on this host.
    #[serde(default = "default_max_bindings")]
    pub max_bindings: u32,
    /// How much reaches the slow path.
    #[serde(default)]
    pub slow_path_limits: LimitsSection,
}

/// `fast_path.slow_path_limits:`: packets that the kernel cannot answer, per second and at once. What is more
/// is dropped, and counted as `flooded`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSection {
    /// Packets per second of one line: a VLAN pair, or without tags a MAC. 0: no limit.
    pub line_rate: u32,
    /// Packets of one line at once.
    pub line_burst: u32,
    /// Packets per second of one interface. 0: no limit.
    pub interface_rate: u32,
    /// Packets of one interface at once.
    pub interface_burst: u32,
}

impl Default for LimitsSection {
    fn default() -> Self {
        Self {
            line_rate: 200,
            line_burst: 400,
            interface_rate: 20_000,
            interface_burst: 20_000,
        }
    }
}

/// `metrics:`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsSection {
    /// Where `/metrics` is served.
    #[serde(default = "default_metrics_listen")]
    pub listen: SocketAddr,
    /// Serve it on an address that other hosts reach. Whoever reaches it can read it.
    #[serde(default)]
    pub insecure_listen_without_tls: bool,
}

/// `control:`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlSection {
    /// Path of the unix socket.
    #[serde(default = "default_control_socket")]
    pub socket: PathBuf,
}

impl Default for StorageSection {
    fn default() -> Self {
        Self {
            path: "/var/lib/nexus-sidecar/data".into(),
        }
    }
}

impl Default for FastPathSection {
    fn default() -> Self {
        Self {
            pin_path: default_pin_path(),
            max_bindings: default_max_bindings(),
            slow_path_limits: LimitsSection::default(),
        }
    }
}

impl Default for MetricsSection {
    fn default() -> Self {
        Self {
            listen: default_metrics_listen(),
            insecure_listen_without_tls: false,
        }
    }
}

impl Default for ControlSection {
    fn default() -> Self {
        Self {
            socket: default_control_socket(),
        }
    }
}

const fn default_capacity() -> u32 {
    2000
}

fn default_pin_path() -> PathBuf {
    "/sys/fs/bpf/nexus".into()
}

const fn default_max_bindings() -> u32 {
    65_536
}

fn default_metrics_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9103))
}

/// Where the control socket is unless the configuration says otherwise.
#[must_use]
pub fn default_control_socket() -> PathBuf {
    "/run/nexus-sidecar/control.sock".into()
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {error}; give the right file with --config", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is too long to be a configuration.
    #[error("{path} has {len} bytes, a configuration has at most {MAX_FILE_LEN}", path = path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length.
        len: u64,
    },
    /// Not YAML of the right shape.
    #[error("{path}: {problem}", path = path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// What and where.
        problem: String,
    },
    /// A value that cannot be used.
    #[error("{path}: {field}: {problem}", path = path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// `interfaces[0].name`.
        field: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The RADIUS section cannot be used.
    #[error("{path}: {error}", path = path.display())]
    Radius {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: RadiusConfigError,
    },
}

impl SidecarConfig {
    /// Reads and checks a file, and the files that it names.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |error| ConfigError::Read {
            path: path.to_owned(),
            error,
        };
        let len = std::fs::metadata(path).map_err(read)?.len();
        if len > MAX_FILE_LEN {
            return Err(ConfigError::TooLong {
                path: path.to_owned(),
                len,
            });
        }
        Self::parse(path, &std::fs::read_to_string(path).map_err(read)?)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let mut config: Self = yaml::read(text).map_err(|problem| ConfigError::Yaml {
            path: path.to_owned(),
            problem,
        })?;
        if config.olt.name.is_empty() {
            config.olt.name = config.olt.id.to_string();
        }
        config
            .check()
            .map_err(|(field, problem)| ConfigError::Value {
                path: path.to_owned(),
                field,
                problem,
            })?;
        if let Some(radius) = &config.radius {
            let names: Vec<&str> = config
                .interfaces
                .iter()
                .map(|one| one.name.as_str())
                .collect();
            let checked = radius.check().and_then(|_| radius.check_interfaces(&names));
            checked.map_err(|error| ConfigError::Radius {
                path: path.to_owned(),
                error,
            })?;
        }
        Ok(config)
    }

    fn check(&self) -> Result<(), (String, String)> {
        let wrong = |field: &str, problem: String| Err((field.to_owned(), problem));
        if self.olt.id.is_cluster() {
            return wrong(
                "olt.id",
                format!(
                    "`{}` is the cluster's own name: choose another",
                    self.olt.id
                ),
            );
        }
        if self.olt.capacity == 0 {
            return wrong(
                "olt.capacity",
                "0 subscribers need no sidecar: give the most this host serves".to_owned(),
            );
        }
        if self.nexus_endpoints.is_empty() || self.nexus_endpoints.len() > MAX_ENDPOINTS {
            return wrong(
                "nexus_endpoints",
                format!("name 1 to {MAX_ENDPOINTS} nexus-servers as host:port"),
            );
        }
        for (index, endpoint) in self.nexus_endpoints.iter().enumerate() {
            check_endpoint(endpoint).map_err(|problem| {
                (
                    format!("nexus_endpoints[{index}]"),
                    format!("`{}` {problem}", endpoint.escape_default()),
                )
            })?;
        }
        interfaces::check(&self.interfaces)?;
        interfaces::check_ipoe(&self.interfaces, self.radius.as_ref())?;
        self.policies.check("policies")?;
        self.routes
            .check()
            .map_err(|(field, problem)| (format!("routes.{field}"), problem))?;
        let limits = self.fast_path.slow_path_limits;
        for (field, burst) in [
            ("line_burst", limits.line_burst),
            ("interface_burst", limits.interface_burst),
        ] {
            if !(1..=MAX_BURST).contains(&burst) {
                return wrong(
                    &format!("fast_path.slow_path_limits.{field}"),
                    format!("{burst} is outside 1..={MAX_BURST}; a rate of 0 switches a limit off"),
                );
            }
        }
        if !(1..=MAX_BINDINGS).contains(&self.fast_path.max_bindings) {
            return wrong(
                "fast_path.max_bindings",
                format!(
                    "{} is outside 1..={MAX_BINDINGS}",
                    self.fast_path.max_bindings
                ),
            );
        }
        if !self.metrics.listen.ip().is_loopback() && !self.metrics.insecure_listen_without_tls {
            return wrong(
                "metrics.listen",
                format!(
                    "{} can be reached by other hosts, without TLS: use a loopback address, or set metrics.insecure_listen_without_tls: true",
                    self.metrics.listen
                ),
            );
        }
        Ok(())
    }
}

fn check_endpoint(endpoint: &str) -> Result<(), &'static str> {
    let (host, port) = endpoint
        .rsplit_once(':')
        .ok_or("has no port: write host:port, such as nexus-1.example.com:9001")?;
    if host.is_empty() || host.contains('/') || !host.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("is not host:port: write it as nexus-1.example.com:9001");
    }
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok(()),
        _ => Err("has no port from 1 to 65535 behind the last colon"),
    }
}

#[cfg(test)]
mod tests;
