//! What DHCP will see a subscriber under: a line and a MAC address on it, or a MAC address alone.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The VLAN tags of a line; 0 for a tag that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Vlans {
    /// VLAN id of the outer tag (S-VLAN), 1 to 4094; 0: untagged.
    pub outer: u16,
    /// VLAN id of the inner tag (C-VLAN), 1 to 4094; 0: at most one tag.
    pub inner: u16,
}

/// An exact key; nothing is truncated or hashed. Prints as `eth1 100.7 02:00:00:00:00:01`, with `any`
/// in place of the VLANs for a MAC alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LineKey {
    /// Interface that the frames arrive on.
    pub interface: String,
    /// VLAN tags of the line; `None`: the MAC, on whichever VLAN of the interface.
    pub vlans: Option<Vlans>,
    /// Hardware address of the client.
    pub mac: [u8; 6],
}

/// Why a text is not a key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{0}` is not a line key: write it as `eth1 100.7 02:00:00:00:00:01` or `eth1 any 02:00:00:00:00:01`"
)]
pub struct KeyError(String);

/// Why a key cannot stand for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyProblem {
    /// The interface has no name.
    #[error("the interface has no name")]
    NoInterface,
    /// A VLAN id beyond 4094.
    #[error("VLAN id {0} is above 4094")]
    Vlan(u16),
    /// An inner tag without an outer one.
    #[error("inner VLAN {0} without an outer one")]
    InnerAlone(u16),
    /// A multicast or all-zero address.
    #[error("the MAC address is not that of one station")]
    Mac,
}

impl LineKey {
    /// Whether the key can stand for a client.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), KeyProblem> {
        if self.interface.is_empty() || self.interface.contains(' ') {
            return Err(KeyProblem::NoInterface);
        }
        if let Some(Vlans { outer, inner }) = self.vlans {
            if let Some(vid) = [outer, inner].into_iter().find(|vid| *vid > 4094) {
                return Err(KeyProblem::Vlan(vid));
            }
            if outer == 0 && inner != 0 {
                return Err(KeyProblem::InnerAlone(inner));
            }
        }
        let [first, ..] = self.mac;
        if first & 1 == 1 || self.mac == [0; 6] {
            return Err(KeyProblem::Mac);
        }
        Ok(())
    }
}

impl fmt::Display for LineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.interface)?;
        match self.vlans {
            Some(Vlans { outer, inner }) => write!(f, "{outer}.{inner}")?,
            None => f.write_str("any")?,
        }
        let [a, b, c, d, e, g] = self.mac;
        write!(f, " {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for LineKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        parse(text).ok_or_else(|| KeyError(text.escape_default().to_string()))
    }
}

impl TryFrom<String> for LineKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<LineKey> for String {
    fn from(key: LineKey) -> Self {
        key.to_string()
    }
}

fn parse(text: &str) -> Option<LineKey> {
    let mut parts = text.split(' ');
    let (interface, vlans, mac) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || interface.is_empty() {
        return None;
    }
    let vlans = if vlans == "any" {
        None
    } else {
        let (outer, inner) = vlans.split_once('.')?;
        Some(Vlans {
            outer: outer.parse().ok()?,
            inner: inner.parse().ok()?,
        })
    };
    let mut bytes = [0; 6];
    let mut octets = mac.split(':');
    for byte in &mut bytes {
        *byte = octets
            .next()
            .filter(|octet| octet.len() == 2)
            .and_then(|octet| u8::from_str_radix(octet, 16).ok())?;
    }
    octets.next().is_none().then(|| LineKey {
        interface: interface.to_owned(),
        vlans,
        mac: bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_prints_what_it_parses() {
        for text in [
            "eth1 100.7 02:00:00:00:00:01",
            "eth1 0.0 02:00:00:00:00:01",
            "olt-0 any aa:bb:cc:dd:ee:ff",
        ] {
            assert_eq!(text.parse::<LineKey>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "eth1",
            "eth1 1 02:00:00:00:00:01",
            "eth1 any 02:00",
            "e any 2:0:0:0:0:1",
        ] {
            assert!(text.parse::<LineKey>().is_err(), "{text}");
        }
    }

    #[test]
    fn keys_that_stand_for_no_client_are_refused() {
        let key = |text: &str| text.parse::<LineKey>().unwrap().check();
        assert_eq!(key("e 4094.1 02:00:00:00:00:01"), Ok(()));
        assert_eq!(
            key("e 4095.1 02:00:00:00:00:01"),
            Err(KeyProblem::Vlan(4095))
        );
        assert_eq!(
            key("e 0.1 02:00:00:00:00:01"),
            Err(KeyProblem::InnerAlone(1))
        );
        assert_eq!(key("e any 01:00:00:00:00:01"), Err(KeyProblem::Mac));
        assert_eq!(key("e any 00:00:00:00:00:00"), Err(KeyProblem::Mac));
    }
}
