//! `interfaces:` and `policies:` of `sidecar.yaml`: where the subscribers are, what they are known by, and what is
//! done when one comes up elsewhere or with another MAC.

use nexus_abi::BindingKey;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use nexus_core::duration::HumanDuration;
use nexus_core::edge::{Policies, Policy};
use nexus_core::id::PoolId;
use serde::Deserialize;

use crate::ipoe::IpoeSection;
use crate::radius::RadiusConfig;

/// Most interfaces of a host; the kernel's map has numbers for no more.
pub const MAX_INTERFACES: usize = nexus_abi::INTERFACE_COUNT as usize;
/// Shortest and longest quarantine.
const QUARANTINE: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(86_400);

/// Field and problem.
type Wrong = (String, String);

/// One entry of `interfaces:`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceSection {
    /// Name, as `ip link` shows it.
    pub name: String,
    /// How XDP is attached.
    #[serde(default)]
    pub mode: XdpMode,
    /// What subscribers are known by, in this order.
    #[serde(default = "default_identity")]
    pub identity: Vec<Identity>,
    /// Server identifier (option 54) and source address of replies; the router of each pool if it is not
    /// given. The kernel program answers ARP for this address and no longer for the router then: the host must
    /// have the router's address itself.
    pub server_id: Option<Ipv4Addr>,
    /// Pool of subscribers for whom neither Framed-Pool nor the users file names one.
    pub pool: Option<PoolId>,
    /// First contacts are asked about; left out: clients come in by RADIUS only.
    pub ipoe: Option<IpoeSection>,
    /// What is different here from the policies of the host.
    #[serde(default)]
    pub policies: PoliciesSection,
}

/// How XDP is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// In the driver.
    #[default]
    Native,
    /// Behind the driver: slower, works everywhere.
    Generic,
}

impl XdpMode {
    /// Name as it stands in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// What a subscriber is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Identity {
    /// VLAN pair and MAC address; others may share the VLANs.
    Line,
    /// VLAN pair of one subscriber, whose MAC address is checked.
    Vlan,
    /// Circuit-id of option 82 (RFC 3046), whose MAC address is checked.
    CircuitId,
    /// Circuit-id and remote-id of option 82, whose MAC address is checked.
    #[serde(rename = "circuit-id+remote-id")]
    CircuitIdAndRemoteId,
    /// MAC address, on whichever VLAN.
    Mac,
}

impl Identity {
    /// Name as it stands in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Vlan => "vlan",
            Self::CircuitId => "circuit-id",
            Self::CircuitIdAndRemoteId => "circuit-id+remote-id",
            Self::Mac => "mac",
        }
    }

    /// The kernel's code for keys of this kind.
    #[must_use]
    pub const fn kind(self) -> u8 {
        match self {
            Self::Line => BindingKey::KIND_LINE,
            Self::Vlan => BindingKey::KIND_VLAN,
            Self::CircuitId | Self::CircuitIdAndRemoteId => BindingKey::KIND_CIRCUIT,
            Self::Mac => BindingKey::KIND_MAC,
        }
    }
}

/// `policies:`, of the host or of one interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoliciesSection {
    /// A subscriber on another line, or on a line that another subscriber has.
    pub subscriber_moves: Option<Policy>,
    /// Another MAC on a line.
    pub mac_changes: Option<Policy>,
    /// How long a quarantine lasts.
    pub quarantine: Option<HumanDuration>,
}

impl PoliciesSection {
    /// What holds where these are written over `others`.
    #[must_use]
    pub fn over(self, others: Self) -> Self {
        Self {
            subscriber_moves: self.subscriber_moves.or(others.subscriber_moves),
            mac_changes: self.mac_changes.or(others.mac_changes),
            quarantine: self.quarantine.or(others.quarantine),
        }
    }

    /// With the defaults for what is not written.
    #[must_use]
    pub fn policies(self) -> Policies {
        let default = Policies::default();
        Policies {
            subscriber_moves: self.subscriber_moves.unwrap_or(default.subscriber_moves),
            mac_changes: self.mac_changes.unwrap_or(default.mac_changes),
            quarantine: self.quarantine.map_or(default.quarantine, Duration::from),
        }
    }

    pub(super) fn check(self, field: &str) -> Result<(), Wrong> {
        match self.quarantine {
            Some(time) if !QUARANTINE.contains(&time.get()) => {
                let problem = format!("{time} is outside 1s..=24h");
                Err((format!("{field}.quarantine"), problem))
            }
            _ => Ok(()),
        }
    }
}

/// Checks all entries of `interfaces:`.
pub(super) fn check(interfaces: &[InterfaceSection]) -> Result<(), Wrong> {
    if !(1..=MAX_INTERFACES).contains(&interfaces.len()) {
        let problem = format!(
            "{} are given: name 1 to {MAX_INTERFACES} interfaces towards the subscribers",
            interfaces.len()
        );
        return Err(("interfaces".to_owned(), problem));
    }
    let mut names = BTreeSet::new();
    for (index, interface) in interfaces.iter().enumerate() {
        let field = format!("interfaces[{index}]");
        interface.check(&field)?;
        if !names.insert(&interface.name) {
            let problem = format!("{} is there twice: keep one", interface.name);
            return Err((format!("{field}.name"), problem));
        }
    }
    Ok(())
}

/// Checks that first contacts have somebody to be asked about, and RADIUS somebody who asks.
pub(super) fn check_ipoe(
    interfaces: &[InterfaceSection],
    radius: Option<&RadiusConfig>,
) -> Result<(), Wrong> {
    let mut asks = false;
    for (index, interface) in interfaces.iter().enumerate() {
        let Some(section) = &interface.ipoe else {
            continue;
        };
        asks = true;
        section
            .check()
            .map_err(|(field, problem)| (format!("interfaces[{index}].ipoe.{field}"), problem))?;
        if radius.is_none() {
            let problem =
                "there is nobody to ask: add the section radius, with users_file or upstream";
            return Err((format!("interfaces[{index}].ipoe"), problem.to_owned()));
        }
    }
    if !asks && radius.is_some_and(|radius| radius.clients.is_empty()) {
        let problem = "there are none, and no interface has ipoe, so nobody could ask: add the NAS";
        return Err(("radius.clients".to_owned(), problem.to_owned()));
    }
    Ok(())
}

impl InterfaceSection {
    fn check(&self, field: &str) -> Result<(), Wrong> {
        let wrong = |what: &str, problem: String| Err((format!("{field}.{what}"), problem));
        let name = self.name.as_str();
        // As the kernel has it (dev_valid_name), and no dot-dot in a pin path.
        let valid = (1..=15).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_graphic() && b != b'/' && b != b':')
            && name != "."
            && name != "..";
        if !valid {
            let name = name.escape_default();
            let problem = format!(
                "`{name}` is not the name of an interface: 1 to 15 characters, as `ip link` shows it"
            );
            return wrong("name", problem);
        }
        let kinds: BTreeSet<_> = self.identity.iter().collect();
        if kinds.is_empty() || kinds.len() != self.identity.len() {
            let problem = "name one or more of `line`, `vlan`, `circuit-id`, `circuit-id+remote-id`, `mac`, each once";
            return wrong("identity", problem.to_owned());
        }
        if kinds.contains(&Identity::CircuitId) && kinds.contains(&Identity::CircuitIdAndRemoteId) {
            let problem = "a circuit is `circuit-id` or `circuit-id+remote-id`, not both: keep one";
            return wrong("identity", problem.to_owned());
        }
        if let Some(address) = self.server_id
            && (address.is_unspecified()
                || address.is_loopback()
                || address.is_multicast()
                || address.is_broadcast())
        {
            let problem = format!(
                "{address} cannot be the address of a DHCP server: give one that the subscribers can reach"
            );
            return wrong("server_id", problem);
        }
        self.policies.check(&format!("{field}.policies"))
    }
}

fn default_identity() -> Vec<Identity> {
    vec![Identity::Line, Identity::Mac]
}
