//! An entry of the map: what a key is bound to, or that it was deleted; and which of two counts.

use std::cmp::Ordering;

use crate::codec::{Reader, Writer};
use crate::error::Malformed;
use crate::version::{Dot, Fence, Version};

/// Longest key in bytes; the shortest has one.
pub const MAX_KEY_BYTES: usize = 512;

/// Longest value in bytes, so that an entry fits a row of the store.
pub const MAX_VALUE_BYTES: usize = 60 * 1024;

/// First byte of an encoded entry.
const FORMAT: u8 = 2;

/// That of entries whose fence was an epoch alone; they are still read.
const EPOCH_ALONE: u8 = 1;

/// Whether a key is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// It has a value.
    Put,
    /// It was deleted.
    Tombstone,
}

/// What one key is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Decides against other entries of the key. An odd causal length means a value, an even one a tombstone.
    pub version: Version,
    /// Which write of `version.origin` this was.
    pub seq: u64,
    /// The value; empty in a tombstone.
    pub value: Vec<u8>,
}

impl Entry {
    /// Whether this is a value or a tombstone.
    #[must_use]
    pub const fn kind(&self) -> EntryKind {
        if self.version.causal_length % 2 == 1 {
            EntryKind::Put
        } else {
            EntryKind::Tombstone
        }
    }

    /// The write that made this entry.
    #[must_use]
    pub const fn dot(&self) -> Dot {
        Dot {
            origin: self.version.origin,
            seq: self.seq,
        }
    }

    /// Which of two entries of one key counts: the greater version. Two entries of one version are
    /// the same one; if damage or a fault made them differ, the hash of the value decides, so that
    /// all replicas decide alike.
    #[must_use]
    pub fn precedence(&self, other: &Self) -> Ordering {
        self.version.cmp(&other.version).then_with(|| {
            if self.value == other.value {
                return self.seq.cmp(&other.seq);
            }
            let hash = |entry: &Self| *blake3::hash(&entry.value).as_bytes();
            hash(self).cmp(&hash(other)).then(self.seq.cmp(&other.seq))
        })
    }

    /// The one of two entries that counts. Commutative, associative and idempotent, because it is a
    /// maximum in a total order.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        match self.precedence(&other) {
            Ordering::Less => other,
            Ordering::Equal | Ordering::Greater => self,
        }
    }

    /// Bytes of this entry: format (1), epoch, command, causal length, hlc (8 each), node, incarnation (4 each),
    /// seq (8), all big-endian, then the value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u8(FORMAT);
        out.u64(self.version.fence.epoch);
        out.u64(self.version.fence.seq);
        out.u64(self.version.causal_length);
        out.u64(self.version.hlc.0);
        out.origin(self.version.origin);
        out.u64(self.seq);
        out.raw(&self.value);
        out.finish()
    }

    /// The entry of these bytes.
    ///
    /// # Errors
    /// Another format, bytes missing, a value that is too long, a tombstone with a value, or numbers
    /// that no writer gives (causal length or seq 0).
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut bytes = Reader::new("entry", bytes);
        let format = match bytes.array()? {
            [EPOCH_ALONE] => EPOCH_ALONE,
            [FORMAT] => FORMAT,
            [other] => {
                return Err(bytes.wrong(format!(
                    "format {other}, this program reads {EPOCH_ALONE} and {FORMAT}"
                )));
            }
        };
        let version = Version {
            fence: Fence {
                epoch: bytes.u64()?,
                seq: if format == EPOCH_ALONE {
                    0
                } else {
                    bytes.u64()?
                },
            },
            causal_length: bytes.u64()?,
            hlc: crate::hlc::Hlc(bytes.u64()?),
            origin: bytes.origin()?,
        };
        let seq = bytes.u64()?;
        let entry = Self {
            version,
            seq,
            value: bytes.rest().to_vec(),
        };
        if version.causal_length == 0 || seq == 0 {
            return Err(bytes.wrong("causal length or seq is 0"));
        }
        if entry.value.len() > MAX_VALUE_BYTES {
            return Err(bytes.wrong("the value is too long"));
        }
        if entry.kind() == EntryKind::Tombstone && !entry.value.is_empty() {
            return Err(bytes.wrong("a tombstone with a value"));
        }
        Ok(entry)
    }

    /// 128 bits of the hash of this entry under `key`; fingerprints of the map are sums of these.
    #[must_use]
    pub(crate) fn fingerprint(&self, key: &[u8]) -> u128 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&u64::try_from(key.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(key);
        hasher.update(&self.encode());
        let mut first = [0; 16];
        hasher.finalize_xof().fill(&mut first);
        u128::from_le_bytes(first)
    }
}
