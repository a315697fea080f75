//! The `radius:` section of the sidecar's YAML, and what it means once it has been checked.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{AddrParseError, IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use nexus_core::duration::HumanDuration;
use nexus_core::id::PoolId;
use nexus_radius::Secret;
use nexus_radius::identity::{Template, VlanPattern};
use nexus_radius::server::{Client, ClientTable};
use nexus_radius::upstream::{UpstreamLimits, UpstreamServer};
use serde::Deserialize;

use super::interface::{self, InterfaceChoice, InterfaceRule};
use super::users::{Users, UsersError};

/// Most AAA servers; each has sockets of its own.
const MAX_UPSTREAM_SERVERS: usize = 8;
/// Most requests worked on at a time that may be configured.
const MAX_IN_FLIGHT: usize = 16_384;

/// `radius:` as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RadiusConfig {
    /// Where Access-Requests are received, if there are clients. On a host with several addresses name
    /// the one that the NAS sends to, so that replies come from it.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Who may ask; none where IPoE alone brings subscribers in.
    #[serde(default)]
    pub clients: Vec<ClientConfig>,
    /// YAML file with the subscribers; this or `upstream`.
    pub users_file: Option<PathBuf>,
    /// AAA servers that know the subscribers; this or `users_file`.
    pub upstream: Option<UpstreamConfig>,
    /// On which interface the subscribers of a request are, where that is not the client's: the first rule
    /// that fits counts. A host with one interface needs neither.
    #[serde(default)]
    pub interfaces: Vec<InterfaceRule>,
    /// Pool of subscribers for whom neither the users file nor Framed-Pool nor their interface names one.
    /// Default: the first IPv4 pool in which this host owns shards.
    pub default_pool: Option<PoolId>,
    /// Subscriber id where the users file has none: text with attribute names in braces.
    #[serde(default = "default_subscriber_id")]
    pub subscriber_id: String,
    /// Where the VLANs stand in NAS-Port-Id: patterns that are tried in order.
    #[serde(default = "default_nas_port_id")]
    pub nas_port_id: Vec<String>,
    /// Requests worked on at a time; beyond it new ones are dropped, and the NAS asks again.
    #[serde(default = "default_max_in_flight")]
    pub max_in_flight: usize,
}

/// One NAS, or a network of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// `192.0.2.7` or `192.0.2.0/24`; the longest prefix decides.
    pub address: String,
    /// Interface that its subscribers are on.
    pub interface: Option<String>,
    /// Shared secret; this or `secret_file`.
    pub secret: Option<SecretText>,
    /// File with the shared secret; one newline at its end does not count.
    pub secret_file: Option<PathBuf>,
    /// Drop Access-Requests without Message-Authenticator (CVE-2024-3596).
    #[serde(default = "default_true")]
    pub require_message_authenticator: bool,
}

/// The AAA servers, tried in order.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// At least one.
    pub servers: Vec<UpstreamServerConfig>,
    /// How long to wait for an answer to one datagram.
    #[serde(default = "default_timeout")]
    pub timeout: HumanDuration,
    /// How often to ask the same server again before the next one is asked.
    #[serde(default = "default_retries")]
    pub retries: u32,
}

/// One AAA server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamServerConfig {
    /// `192.0.2.1:1812`.
    pub address: SocketAddr,
    /// Shared secret; this or `secret_file`.
    pub secret: Option<SecretText>,
    /// File with the shared secret; one newline at its end does not count.
    pub secret_file: Option<PathBuf>,
    /// Drop replies without Message-Authenticator (CVE-2024-3596).
    #[serde(default = "default_true")]
    pub require_message_authenticator: bool,
}

/// Text that is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretText(pub(super) String);

impl SecretText {
    /// What stands there.
    pub(crate) const fn octets(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

const fn default_listen() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1812)
}

fn default_subscriber_id() -> String {
    "{User-Name}".to_owned()
}

fn default_nas_port_id() -> Vec<String> {
    ["{*}:{s_vlan}.{c_vlan}", "{*}:{c_vlan}"]
        .map(str::to_owned)
        .to_vec()
}

const fn default_max_in_flight() -> usize {
    1024
}

const fn default_true() -> bool {
    true
}

const fn default_timeout() -> HumanDuration {
    HumanDuration::from_secs(2)
}

const fn default_retries() -> u32 {
    1
}

/// A `radius:` section that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RadiusConfigError {
    /// A value of one field is wrong.
    #[error("{field}: {problem}")]
    Field {
        /// `radius.clients[0].address`.
        field: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A secret file cannot be read.
    #[error("{field}: cannot read {}: {error}; create it, readable by nexus-sidecar only", path.display())]
    SecretFile {
        /// `radius.clients[0].secret_file`.
        field: String,
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The users file cannot be used.
    #[error("radius.users_file: {0}")]
    Users(#[from] UsersError),
}

pub(super) fn wrong(field: impl Into<String>, problem: impl fmt::Display) -> RadiusConfigError {
    RadiusConfigError::Field {
        field: field.into(),
        problem: problem.to_string(),
    }
}

/// The section, checked, with its files read.
#[derive(Debug)]
pub struct Settings {
    /// `None`: nobody may ask.
    pub(super) listen: Option<SocketAddr>,
    pub(super) clients: ClientTable,
    pub(super) backend: BackendSettings,
    pub(super) default_pool: Option<PoolId>,
    pub(super) subscriber_id: Template,
    pub(super) nas_port_id: Vec<VlanPattern>,
    pub(super) interfaces: InterfaceChoice,
    pub(super) max_in_flight: usize,
}

/// Who knows the subscribers.
#[derive(Debug)]
pub(super) enum BackendSettings {
    Users(Users),
    Upstream {
        servers: Vec<(SocketAddr, UpstreamServer)>,
        limits: UpstreamLimits,
    },
}

impl RadiusConfig {
    /// Checks that all interfaces that are named are among those of the host.
    ///
    /// # Errors
    /// The first that is not, or a client whose interface nothing says.
    pub fn check_interfaces(&self, interfaces: &[&str]) -> Result<(), RadiusConfigError> {
        interface::check(&self.interfaces, &self.clients, interfaces)
    }

    /// Checks the section and reads the files that it names.
    ///
    /// # Errors
    /// The first thing that is wrong, with the name of its field.
    pub fn check(&self) -> Result<Settings, RadiusConfigError> {
        if !(1..=MAX_IN_FLIGHT).contains(&self.max_in_flight) {
            let problem = format!("{} is outside 1..={MAX_IN_FLIGHT}", self.max_in_flight);
            return Err(wrong("radius.max_in_flight", problem));
        }
        let clients = self
            .clients
            .iter()
            .enumerate()
            .map(|(index, client)| client.check(index));
        let clients = ClientTable::new(clients.collect::<Result<_, _>>()?)
            .map_err(|error| wrong("radius.clients", error))?;
        let patterns = self.nas_port_id.iter().enumerate().map(|(index, pattern)| {
            pattern
                .parse()
                .map_err(|error| wrong(format!("radius.nas_port_id[{index}]"), error))
        });
        let backend = match (&self.users_file, &self.upstream) {
            (Some(path), None) => BackendSettings::Users(Users::load(path)?),
            (None, Some(upstream)) => upstream.check(self.max_in_flight)?,
            (Some(_), Some(_)) => {
                return Err(wrong(
                    "radius",
                    "users_file and upstream are both given; keep one",
                ));
            }
            (None, None) => {
                return Err(wrong(
                    "radius",
                    "nobody knows the subscribers; give users_file or upstream",
                ));
            }
        };
        Ok(Settings {
            listen: (!self.clients.is_empty()).then_some(self.listen),
            clients,
            backend,
            default_pool: self.default_pool.clone(),
            subscriber_id: self
                .subscriber_id
                .parse()
                .map_err(|error| wrong("radius.subscriber_id", error))?,
            nas_port_id: patterns.collect::<Result<_, _>>()?,
            interfaces: InterfaceChoice::new(&self.interfaces, &self.clients)?,
            max_in_flight: self.max_in_flight,
        })
    }
}

impl ClientConfig {
    fn check(&self, index: usize) -> Result<Client, RadiusConfigError> {
        let field = format!("radius.clients[{index}]");
        Ok(Client {
            network: network(&field, &self.address)?,
            secret: read_secret(&field, self.secret.as_ref(), self.secret_file.as_deref())?,
            require_message_authenticator: self.require_message_authenticator,
        })
    }
}

/// The network of a client, which may be one address.
pub(super) fn network(field: &str, address: &str) -> Result<IpNet, RadiusConfigError> {
    let network = address.parse();
    let network = network.or_else(|_| address.parse().map(|single: IpAddr| IpNet::from(single)));
    network.map_err(|_: AddrParseError| {
        let problem = format!("{address:?} is neither an address nor address/prefix length");
        wrong(format!("{field}.address"), problem)
    })
}

impl UpstreamConfig {
    fn check(&self, in_flight: usize) -> Result<BackendSettings, RadiusConfigError> {
        let field = "radius.upstream";
        if self.servers.is_empty() || self.servers.len() > MAX_UPSTREAM_SERVERS {
            let problem = format!(
                "{} servers; give 1 to {MAX_UPSTREAM_SERVERS}",
                self.servers.len()
            );
            return Err(wrong(format!("{field}.servers"), problem));
        }
        let timeout = Duration::from(self.timeout);
        if !(Duration::from_millis(100)..=Duration::from_secs(30)).contains(&timeout) {
            let problem = format!("{} is outside 100ms..=30s", self.timeout);
            return Err(wrong(format!("{field}.timeout"), problem));
        }
        if self.retries > 10 {
            return Err(wrong(
                format!("{field}.retries"),
                format!("{} is more than 10", self.retries),
            ));
        }
        let mut addresses = BTreeSet::new();
        let mut servers = Vec::new();
        for (index, server) in self.servers.iter().enumerate() {
            let field = format!("{field}.servers[{index}]");
            if server.address.port() == 0 || server.address.ip().is_unspecified() {
                let problem = format!("{} cannot be sent to; give address:port", server.address);
                return Err(wrong(format!("{field}.address"), problem));
            }
            if !addresses.insert(server.address) {
                let problem = format!("{} is there twice; keep one", server.address);
                return Err(wrong(format!("{field}.address"), problem));
            }
            let secret = read_secret(
                &field,
                server.secret.as_ref(),
                server.secret_file.as_deref(),
            )?;
            let require_message_authenticator = server.require_message_authenticator;
            servers.push((
                server.address,
                UpstreamServer {
                    secret,
                    require_message_authenticator,
                },
            ));
        }
        let sockets = u16::try_from(in_flight.div_ceil(256)).unwrap_or(u16::MAX);
        let retries = self.retries;
        let limits = UpstreamLimits {
            timeout,
            retries,
            in_flight,
            sockets,
            ..UpstreamLimits::default()
        };
        Ok(BackendSettings::Upstream { servers, limits })
    }
}

fn read_secret(
    field: &str,
    secret: Option<&SecretText>,
    file: Option<&Path>,
) -> Result<Secret, RadiusConfigError> {
    let (field, text) = match (secret, file) {
        (Some(SecretText(text)), None) => (format!("{field}.secret"), text.clone().into_bytes()),
        (None, Some(path)) => {
            let field = format!("{field}.secret_file");
            let mut text = std::fs::read(path).map_err(|error| RadiusConfigError::SecretFile {
                field: field.clone(),
                path: path.to_owned(),
                error,
            })?;
            if text.last() == Some(&b'\n') {
                text.pop();
            }
            (field, text)
        }
        (Some(_), Some(_)) => {
            return Err(wrong(
                field,
                "secret and secret_file are both given; keep one",
            ));
        }
        (None, None) => {
            return Err(wrong(
                field,
                "there is no secret; give secret or secret_file",
            ));
        }
    };
    Secret::new(text).map_err(|error| wrong(field, error))
}

#[cfg(test)]
mod tests;
