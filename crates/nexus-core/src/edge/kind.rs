//! What a subscriber may have one of at a time: the resource types, and for IPv6 what a unit is used as.

use std::fmt;

use crate::pool::{DEFAULT_DELEGATED_LENGTH, Pool};
use crate::resource::{Resource, ResourceType};

/// Prefix length of a single IPv6 address.
const ADDRESS: u8 = 128;
/// Prefix length of the prefix of a link (RFC 4291 section 2.5.1).
const LINK: u8 = 64;

/// One of each may be bound to a subscriber at a time, all at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An IPv4 address. It decides whether a subscriber is let in.
    Ipv4,
    /// A single IPv6 address (IA_NA of RFC 8415), /128.
    Ipv6Address,
    /// The IPv6 prefix of the link to the subscriber (RFC 3162 section 2.3), /64.
    Ipv6Link,
    /// A delegated IPv6 prefix (IA_PD of RFC 8415), of any other length.
    Ipv6Delegated,
    /// A customer VLAN id.
    Vlan,
    /// A service VLAN id.
    Svlan,
    /// A block of ports.
    Port,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Ipv4,
        Self::Ipv6Address,
        Self::Ipv6Link,
        Self::Ipv6Delegated,
        Self::Vlan,
        Self::Svlan,
        Self::Port,
    ];

    /// What a resource is used as.
    #[must_use]
    pub fn of(resource: &Resource) -> Self {
        let length = match resource {
            Resource::Ipv6(net) => net.prefix_len(),
            _ => DEFAULT_DELEGATED_LENGTH,
        };
        Self::new(resource.kind(), length)
    }

    /// What the units of a pool are used as.
    #[must_use]
    pub fn of_pool(pool: &Pool) -> Self {
        let length = pool.spec().delegated_length;
        Self::new(pool.kind(), length.unwrap_or(DEFAULT_DELEGATED_LENGTH))
    }

    const fn new(kind: ResourceType, length: u8) -> Self {
        match (kind, length) {
            (ResourceType::Ipv4, _) => Self::Ipv4,
            (ResourceType::Ipv6, ADDRESS) => Self::Ipv6Address,
            (ResourceType::Ipv6, LINK) => Self::Ipv6Link,
            (ResourceType::Ipv6, _) => Self::Ipv6Delegated,
            (ResourceType::Vlan, _) => Self::Vlan,
            (ResourceType::Svlan, _) => Self::Svlan,
            (ResourceType::Port, _) => Self::Port,
        }
    }

    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4 address",
            Self::Ipv6Address => "IPv6 address",
            Self::Ipv6Link => "IPv6 prefix of the link",
            Self::Ipv6Delegated => "delegated IPv6 prefix",
            Self::Vlan => "VLAN",
            Self::Svlan => "S-VLAN",
            Self::Port => "block of ports",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
