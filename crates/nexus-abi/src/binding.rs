//! A subscriber as user space speaks of it: an exact key, and what is held under it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::circuit::Circuit;

/// `valid_until_secs` of a binding that has no end: the centre has acknowledged it.
pub const NEVER_EXPIRES: u32 = u32::MAX;

/// Who is asking. Exact: nothing is truncated or hashed. `interface` is the number that the sidecar
/// has given to an interface ([`Settings::interface`](crate::Settings::interface)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BindingKey {
    /// A VLAN pair and the MAC on it; others may share the VLANs.
    Line {
        /// Number of the interface.
        interface: u8,
        /// VLAN id of the outer tag (S-VLAN), 1..=4094; 0: untagged.
        outer_vid: u16,
        /// VLAN id of the inner tag (C-VLAN), 1..=4094; 0: at most one tag.
        inner_vid: u16,
        /// `chaddr` of the client.
        mac: [u8; 6],
    },
    /// A MAC, on whichever VLAN of the interface.
    Mac {
        /// Number of the interface.
        interface: u8,
        /// `chaddr` of the client.
        mac: [u8; 6],
    },
    /// A VLAN pair that belongs to one subscriber, whose MAC is [`Binding::mac`].
    Vlan {
        /// Number of the interface.
        interface: u8,
        /// As in `Line`.
        outer_vid: u16,
        /// As in `Line`.
        inner_vid: u16,
    },
    /// A circuit that a relay or access node names in option 82, whose MAC is [`Binding::mac`].
    Circuit {
        /// Number of the interface.
        interface: u8,
        /// Circuit-id and, where the interface wants it, remote-id.
        circuit: Circuit,
    },
}

impl BindingKey {
    /// [`BindingKey::Line`] in entries and settings.
    pub const KIND_LINE: u8 = 1;
    /// [`BindingKey::Mac`] in entries and settings.
    pub const KIND_MAC: u8 = 2;
    /// [`BindingKey::Vlan`] in entries and settings.
    pub const KIND_VLAN: u8 = 3;
    /// [`BindingKey::Circuit`] in entries and settings.
    pub const KIND_CIRCUIT: u8 = 4;

    /// The code of this kind of key.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Line { .. } => Self::KIND_LINE,
            Self::Mac { .. } => Self::KIND_MAC,
            Self::Vlan { .. } => Self::KIND_VLAN,
            Self::Circuit { .. } => Self::KIND_CIRCUIT,
        }
    }

    /// The number of the interface.
    #[must_use]
    pub const fn interface(&self) -> u8 {
        match self {
            Self::Line { interface, .. }
            | Self::Mac { interface, .. }
            | Self::Vlan { interface, .. }
            | Self::Circuit { interface, .. } => *interface,
        }
    }

    /// The MAC that is part of the key, if one is.
    #[must_use]
    pub const fn mac(&self) -> Option<[u8; 6]> {
        match self {
            Self::Line { mac, .. } | Self::Mac { mac, .. } => Some(*mac),
            Self::Vlan { .. } | Self::Circuit { .. } => None,
        }
    }
}

/// What the subscriber holds.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Binding {
    /// IPv4 address, in network order.
    pub address: [u8; 4],
    /// Whole seconds of `CLOCK_BOOTTIME`; from then on the entry is as good as absent.
    /// [`NEVER_EXPIRES`]: no end. 0 is no binding at all.
    pub valid_until_secs: u32,
    /// The MAC that may use the binding. In a key with a MAC it is that one.
    pub mac: [u8; 6],
    /// Index into `PROFILES`.
    pub profile: u16,
    /// Low half of the kernel's jiffies at the last answered request; 0: none yet. The kernel is its
    /// only writer.
    pub last_seen_jiffies: u32,
}
