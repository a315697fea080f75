//! What is handed out: one address, prefix, VLAN or block of ports, and its type.

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
    /// IPv6 prefixes, delegated as a whole (RFC 8415 section 6.3), or single addresses (/128).
    Ipv6,
    /// Customer VLAN ids (inner tag).
    Vlan,
    /// Service VLAN ids (outer tag).
    Svlan,
    /// Layer-4 ports, one by one or in blocks, of one public address each (RFC 6888) or of none.
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
    /// An IPv6 prefix without host bits; a single address is a /128.
    Ipv6(Ipv6Net),
    /// A customer VLAN id, 1 to 4094 (IEEE 802.1Q).
    Vlan(u16),
    /// A service VLAN id, 1 to 4094 (IEEE 802.1Q).
    Svlan(u16),
    /// Layer-4 ports in a row, both ends included, 1 to 65535, of one public address where the pool has
    /// some: `40000`, `40000-40511`, `203.0.113.7:40000-40511`.
    #[serde(with = "port_form")]
    Port {
        /// The public address.
        address: Option<Ipv4Addr>,
        /// Lowest port.
        first: u16,
        /// Highest port, no less than the lowest.
        last: u16,
    },
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
    /// `100`, `203.0.113.7:40000-40511`. Each resource has one spelling of its ports.
    ///
    /// # Errors
    /// [`ResourceError::Syntax`], with what was expected.
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
            ResourceType::Port => parse_ports(text).ok_or_else(|| {
                fail(
                    "a port from 1 to 65535, ports such as 40000-40511, or 203.0.113.7:40000-40511",
                )
            }),
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
            Self::Port { .. } => ResourceType::Port,
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4(address) => fmt::Display::fmt(address, f),
            Self::Ipv6(prefix) => f.pad(&prefix.to_string()),
            Self::Vlan(n) | Self::Svlan(n) => fmt::Display::fmt(n, f),
            Self::Port {
                address,
                first,
                last,
            } => {
                let address = address.map_or_else(String::new, |address| format!("{address}:"));
                if first == last {
                    f.pad(&format!("{address}{first}"))
                } else {
                    f.pad(&format!("{address}{first}-{last}"))
                }
            }
        }
    }
}

fn parse_ports(text: &str) -> Option<Resource> {
    let (address, ports) = match text.split_once(':') {
        Some((address, ports)) => (Some(address.parse().ok()?), ports),
        None => (None, text),
    };
    let (first, last) = match ports.split_once('-') {
        Some((first, last)) => {
            let (first, last) = (parse_number(first)?, parse_number(last)?);
            (first < last).then_some((first, last))?
        }
        None => {
            let port = parse_number(ports)?;
            (port, port)
        }
    };
    (first > 0).then_some(Resource::Port {
        address,
        first,
        last,
    })
}

/// Ports in rows and messages: a number as long as a number says it all, else their text.
mod port_form {
    use super::{Ipv4Addr, Resource, parse_ports};
    use serde::de::{Error, Unexpected, Visitor};
    use serde::{Deserializer, Serializer};

    type Ports = (Option<Ipv4Addr>, u16, u16);

    // What serde calls has one reference for each field.
    #[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref)]
    pub(super) fn serialize<S: Serializer>(
        address: &Option<Ipv4Addr>,
        first: &u16,
        last: &u16,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if address.is_none() && first == last {
            return serializer.serialize_u16(*first);
        }
        serializer.collect_str(&Resource::Port {
            address: *address,
            first: *first,
            last: *last,
        })
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Ports, D::Error> {
        d.deserialize_any(PortsVisitor)
    }

    struct PortsVisitor;

    impl Visitor<'_> for PortsVisitor {
        type Value = Ports;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a port from 1 to 65535, or ports such as 203.0.113.7:40000-40511")
        }

        fn visit_u64<E: Error>(self, port: u64) -> Result<Ports, E> {
            match u16::try_from(port) {
                Ok(port) if port > 0 => Ok((None, port, port)),
                _ => Err(E::invalid_value(Unexpected::Unsigned(port), &self)),
            }
        }

        fn visit_i64<E: Error>(self, port: i64) -> Result<Ports, E> {
            match u64::try_from(port) {
                Ok(port) => self.visit_u64(port),
                Err(_) => Err(E::invalid_value(Unexpected::Signed(port), &self)),
            }
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Ports, E> {
            match parse_ports(text) {
                Some(Resource::Port {
                    address,
                    first,
                    last,
                }) => Ok((address, first, last)),
                _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
            }
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
            (ResourceType::Ipv6, "2001:db8::1/128"),
            (ResourceType::Port, "65535"),
            (ResourceType::Port, "40000-40511"),
            (ResourceType::Port, "203.0.113.7:40000-40511"),
            (ResourceType::Port, "203.0.113.7:40000"),
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
    fn a_port_of_an_older_row_is_still_the_same_port() {
        let port = Resource::parse(ResourceType::Port, "40000").unwrap();
        for row in [
            r#"{"type":"port","resource":40000}"#,
            r#"{"resource":40000,"type":"port"}"#,
        ] {
            assert_eq!(serde_json::from_str::<Resource>(row).unwrap(), port);
        }
        assert_eq!(
            serde_json::to_string(&port).unwrap(),
            r#"{"type":"port","resource":40000}"#
        );
        let packed = rmp_serde::to_vec_named(&port).unwrap();
        assert_eq!(rmp_serde::from_slice::<Resource>(&packed).unwrap(), port);
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
            (ResourceType::Port, "0"),
            (ResourceType::Port, "40000-40000"),
            (ResourceType::Port, "40511-40000"),
            (ResourceType::Port, "203.0.113.7"),
            (ResourceType::Port, "203.0.113.7:"),
            (ResourceType::Port, "203.0.113:40000"),
            (ResourceType::Port, "203.0.113.7:040000"),
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
