//! What DHCP will see a subscriber under: a key says where it is and which MAC address it has there.
//!
//! | text | place | the MAC |
//! |---|---|---|
//! | `eth1 100.7 02:00:00:00:00:01` | a VLAN pair and a MAC; others may share the VLANs | is part of the place |
//! | `eth1 any 02:00:00:00:00:01` | a MAC, on whichever VLAN of the interface | is part of the place |
//! | `eth1 vlan 100.7 02:00:00:00:00:01` | a VLAN pair that belongs to one subscriber | is the one allowed there |
//! | `eth1 circuit 302f31 02:00:00:00:00:01` | a circuit-id of option 82, in hexadecimal digits | is the one allowed there |
//! | `eth1 circuit 302f31+0a 02:00:00:00:00:01` | circuit-id and remote-id | is the one allowed there |
//!
//! Two keys are of one [`Place`] if they agree in all but a MAC that is only allowed.

mod text;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use text::KeyError;

/// Most bytes of circuit-id and remote-id together; the kernel's map holds no more.
pub const CIRCUIT_LIMIT: usize = 126;

/// The VLAN tags of a line; 0 for a tag that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Vlans {
    /// VLAN id of the outer tag (S-VLAN), 1 to 4094; 0: untagged.
    pub outer: u16,
    /// VLAN id of the inner tag (C-VLAN), 1 to 4094; 0: at most one tag.
    pub inner: u16,
}

/// A circuit as a relay or access node names it in option 82 (RFC 3046 section 2.0), byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Circuit {
    /// Agent Circuit ID, at least one byte.
    pub circuit_id: Vec<u8>,
    /// Agent Remote ID; empty where it does not count.
    pub remote_id: Vec<u8>,
}

/// What a client is found by on its interface, besides its MAC.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum At {
    /// A VLAN pair that others may share: the MAC tells them apart.
    Line(Vlans),
    /// Nothing: the MAC alone.
    Mac,
    /// A VLAN pair that belongs to one subscriber.
    Vlan(Vlans),
    /// A circuit that belongs to one subscriber.
    Circuit(Circuit),
}

/// An exact key; nothing is truncated or hashed. Its text form is at the head of this file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LineKey {
    /// Interface that the frames arrive on.
    pub interface: String,
    /// Where on it.
    pub at: At,
    /// Hardware address of the client.
    pub mac: [u8; 6],
}

/// Where at most one subscriber is bound at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Interface that the frames arrive on.
    pub interface: String,
    /// Where on it.
    pub at: At,
    /// The MAC, if it is part of the place.
    pub mac: Option<[u8; 6]>,
}

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
    /// No circuit-id.
    #[error("the circuit-id is empty")]
    NoCircuit,
    /// More bytes than the kernel's map holds.
    #[error(
        "circuit-id and remote-id have {0} bytes together, {CIRCUIT_LIMIT} are the most: let the access node send shorter ones"
    )]
    CircuitTooLong(usize),
}

impl At {
    /// Whether the MAC is part of the place, and not only the one that is allowed there.
    #[must_use]
    pub const fn has_mac(&self) -> bool {
        matches!(self, Self::Line(_) | Self::Mac)
    }

    /// The VLAN tags, if they are known.
    #[must_use]
    pub const fn vlans(&self) -> Option<Vlans> {
        match self {
            Self::Line(vlans) | Self::Vlan(vlans) => Some(*vlans),
            Self::Mac | Self::Circuit(_) => None,
        }
    }
}

impl LineKey {
    /// Where it is.
    #[must_use]
    pub fn place(&self) -> Place {
        Place {
            interface: self.interface.clone(),
            mac: self.at.has_mac().then_some(self.mac),
            at: self.at.clone(),
        }
    }

    /// Whether the key can stand for a client.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), KeyProblem> {
        if self.interface.is_empty() || self.interface.contains(' ') {
            return Err(KeyProblem::NoInterface);
        }
        match &self.at {
            At::Line(vlans) | At::Vlan(vlans) => vlans.check()?,
            At::Circuit(circuit) => circuit.check()?,
            At::Mac => {}
        }
        let [first, ..] = self.mac;
        if first & 1 == 1 || self.mac == [0; 6] {
            return Err(KeyProblem::Mac);
        }
        Ok(())
    }
}

impl Vlans {
    fn check(self) -> Result<(), KeyProblem> {
        let Self { outer, inner } = self;
        if let Some(vid) = [outer, inner].into_iter().find(|vid| *vid > 4094) {
            return Err(KeyProblem::Vlan(vid));
        }
        if outer == 0 && inner != 0 {
            return Err(KeyProblem::InnerAlone(inner));
        }
        Ok(())
    }
}

impl Circuit {
    fn check(&self) -> Result<(), KeyProblem> {
        let bytes = self.circuit_id.len().saturating_add(self.remote_id.len());
        if self.circuit_id.is_empty() {
            return Err(KeyProblem::NoCircuit);
        }
        if bytes > CIRCUIT_LIMIT {
            return Err(KeyProblem::CircuitTooLong(bytes));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
