//! A key as it is looked for: its hash, and what an entry has to say to be its own.

use nexus_abi::{BindingKey, Circuit, Place, hash_circuit, hash_key};

/// Kind and interface of the first word of an entry.
const WHAT: u64 = 0xffff << 48;

/// A key that is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    hash: u64,
    /// The part of the first word of an entry that is the key's.
    pub identity: u64,
    mask: u64,
    /// VLANs; of a circuit 0, because its number is the entry's own.
    pub vids: u32,
    /// The circuit, if that is what the key is.
    pub circuit: Option<Circuit>,
}

impl Probe {
    /// Of a key, in a table of this seed.
    pub fn of(seed: u64, key: &BindingKey) -> Self {
        let pair = |outer: u16, inner: u16| u32::from(inner) << 16 | u32::from(outer);
        let (vids, circuit) = match key {
            BindingKey::Line {
                outer_vid,
                inner_vid,
                ..
            }
            | BindingKey::Vlan {
                outer_vid,
                inner_vid,
                ..
            } => (pair(*outer_vid, *inner_vid), None),
            BindingKey::Mac { .. } => (0, None),
            BindingKey::Circuit { circuit, .. } => (0, Some(*circuit)),
        };
        let [a, b, c, d, e, f] = key.mac().unwrap_or_default();
        let identity = u64::from_le_bytes([a, b, c, d, e, f, key.kind(), key.interface()]);
        let hash = match &circuit {
            Some(circuit) => hash_circuit(seed, key.interface(), circuit),
            None => hash_key(seed, identity, vids),
        };
        Self {
            hash,
            identity,
            mask: if key.mac().is_some() { u64::MAX } else { WHAT },
            vids,
            circuit,
        }
    }

    /// Its buckets in a table of this mask.
    pub const fn place(&self, mask: u32) -> Place {
        Place::of(self.hash, mask)
    }

    /// The MAC that is part of the key.
    pub const fn mac(&self) -> Option<[u8; 6]> {
        let [mac @ .., _, _] = self.identity.to_le_bytes();
        if self.mask == u64::MAX {
            Some(mac)
        } else {
            None
        }
    }

    /// The first word of an entry is of this key, as far as it goes.
    pub const fn is(&self, identity: u64) -> bool {
        identity & self.mask == self.identity
    }
}
