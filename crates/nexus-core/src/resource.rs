//! What is handed out: one address, prefix, VLAN or port, and its type.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Kind of a resource; written in lower case everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResourceType {
    /// IPv4 addresses.
    Ipv4,
    /// IPv6 prefixes, delegated as a whole (RFC 8415 section 6.3).
    Ipv6,
    /// Customer VLAN ids (inner tag).
    Vlan,
    /// Service VLAN ids (outer tag).
    Svlan,
    /// Layer-4 ports.
    Port,
}

impl ResourceType {
    /// Every type, in a fixed order.
    pub const ALL: [Self; 5] = [Self::Ipv4, Self::Ipv6, Self::Vlan, Self::Svlan, Self::Port];

    /// Name of the type as it stands in configuration, API and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Vlan => "vlan",
            Self::Svlan => "svlan",
            Self::Port => "port",
        }
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ResourceType {
    type Err = ResourceError;

    fn from_str(text: &str) -> Result<Self, ResourceError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| ResourceError::UnknownType(text.escape_default().to_string()))
    }
}

/// One resource. Two are the same exactly if they are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "type", content = "resource", rename_all = "lowercase")]
pub enum Resource {
    /// An IPv4 address.
    Ipv4(Ipv4Addr),
    /// An IPv6 prefix without host bits.
    Ipv6(Ipv6Net),
    /// A customer VLAN id, 1 to 4094 (IEEE 802.1Q).
    Vlan(u16),
    /// A service VLAN id, 1 to 4094 (IEEE 802.1Q).
    Svlan(u16),
    /// A layer-4 port, 1 to 65535.
    Port(u16),
}

/// Why a text is not a resource.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ResourceError {
    /// Not one of the five types.
    #[error("`{0}` is not a resource type: use ipv4, ipv6, vlan, svlan or port")]
    UnknownType(String),
    /// Not a resource of the type that was asked for.
    #[error("`{text}` is not a resource of type {kind}: expected {expected}")]
    Syntax {
        /// Type that was asked for.
        kind: ResourceType,
        /// What was given, escaped.
        text: String,
        /// What would have been right.
        expected: &'static str,
    },
}

impl Resource {
    /// Reads a resource of type `kind`: `100.64.1.50`, `2001:db8:1::/56` (without host bits),
    /// `100`.
    pub fn parse(kind: ResourceType, text: &str) -> Result<Self, ResourceError> {
        let fail = |expected| ResourceError::Syntax {
            kind,
            text: text.escape_default().to_string(),
            expected,
        };
        let number = |lowest: u16, highest: u16, expected| {
            parse_number(text)
                .filter(|n| (lowest..=highest).contains(n))
                .ok_or_else(|| fail(expected))
        };
        match kind {
            ResourceType::Ipv4 => text
                .parse()
                .map(Self::Ipv4)
                .map_err(|_| fail("an IPv4 address such as 100.64.1.50")),
            ResourceType::Ipv6 => text
                .parse::<Ipv6Net>()
                .ok()
                .filter(|net| net.addr() == net.network())
                .map(Self::Ipv6)
                .ok_or_else(|| fail("an IPv6 prefix without host bits such as 2001:db8:1::/56")),
            ResourceType::Vlan => number(1, 4094, "a VLAN id from 1 to 4094").map(Self::Vlan),
            ResourceType::Svlan => number(1, 4094, "a VLAN id from 1 to 4094").map(Self::Svlan),
            ResourceType::Port => number(1, 65535, "a port from 1 to 65535").map(Self::Port),
        }
    }

    /// Type of this resource.
    #[must_use]
    pub const fn kind(&self) -> ResourceType {
        match self {
            Self::Ipv4(_) => ResourceType::Ipv4,
            Self::Ipv6(_) => ResourceType::Ipv6,
            Self::Vlan(_) => ResourceType::Vlan,
            Self::Svlan(_) => ResourceType::Svlan,
            Self::Port(_) => ResourceType::Port,
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4(address) => fmt::Display::fmt(address, f),
            Self::Ipv6(prefix) => f.pad(&prefix.to_string()),
            Self::Vlan(n) | Self::Svlan(n) | Self::Port(n) => fmt::Display::fmt(n, f),
        }
    }
}

/// A decimal number without sign or leading zeros, so that one number has one spelling.
pub(crate) fn parse_number(text: &str) -> Option<u16> {
    let canonical =
        text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_prints_what_it_parses() {
        for (kind, text) in [
            (ResourceType::Ipv4, "100.64.1.50"),
            (ResourceType::Ipv6, "2001:db8:1::/56"),
            (ResourceType::Vlan, "4094"),
            (ResourceType::Svlan, "1"),
            (ResourceType::Port, "65535"),
        ] {
            let resource = Resource::parse(kind, text).unwrap();
            assert_eq!(resource.to_string(), text);
            assert_eq!(resource.kind(), kind);
            let json = serde_json::to_string(&resource).unwrap();
            assert_eq!(serde_json::from_str::<Resource>(&json).unwrap(), resource);
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
    }

    #[test]
    fn a_resource_of_another_shape_is_refused_and_says_what_was_expected() {
        for (kind, text) in [
            (ResourceType::Ipv4, "100.64.1"),
            (ResourceType::Ipv4, "2001:db8::/56"),
            (ResourceType::Ipv4, "100.64.0.0/24"),
            (ResourceType::Ipv6, "2001:db8::1/56"),
            (ResourceType::Ipv6, "2001:db8::"),
            (ResourceType::Vlan, "0"),
            (ResourceType::Vlan, "4095"),
            (ResourceType::Svlan, "+5"),
            (ResourceType::Svlan, "007"),
            (ResourceType::Port, "65536"),
            (ResourceType::Port, ""),
        ] {
            let error = Resource::parse(kind, text).unwrap_err();
            assert!(
                error.to_string().contains("expected"),
                "{kind} {text}: {error}"
            );
        }
        assert!("IPv4".parse::<ResourceType>().is_err());
    }
}
