//! Rows: a kind and a key to a value, and how a value is framed so that damage is seen.

use std::fmt;

use crate::error::StoreError;

/// Longest key in bytes, without its kind.
pub const MAX_KEY_BYTES: usize = 1024;

/// Longest value in bytes. sled keeps nodes above a quarter of its segment in files of their own
/// that it never syncs; this bound, together with the segment size, keeps all nodes below that.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;

/// First byte of a framed value.
const FRAME_VERSION: u8 = 1;

/// Version byte and checksum in front of a value.
const FRAME_BYTES: usize = 5;

/// What a row is: the first byte of its key in the one tree. `0xff` belongs to the store itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u8);

impl Kind {
    /// Rows of the store itself.
    pub(crate) const OWN: Self = Self(0xff);

    /// The key of a row as it stands in the tree.
    pub(crate) fn raw_key(self, key: &[u8]) -> Vec<u8> {
        let mut raw = Vec::with_capacity(1 + key.len());
        raw.push(self.0);
        raw.extend_from_slice(key);
        raw
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_ascii_graphic() {
            write!(f, "{}", char::from(self.0))
        } else {
            write!(f, "{:#04x}", self.0)
        }
    }
}

/// One row as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its key, without the kind.
    pub key: Vec<u8>,
    /// Its value, checked and without the frame.
    pub value: Vec<u8>,
}

/// The framed form of a value: version, CRC-32 (IEEE, little-endian) of version, raw key and value; value.
pub(crate) fn frame(raw_key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(FRAME_BYTES + value.len());
    framed.push(FRAME_VERSION);
    framed.extend_from_slice(&checksum(raw_key, value).to_le_bytes());
    framed.extend_from_slice(value);
    framed
}

/// The value of a framed form, if its version is ours and its checksum fits key and value.
pub(crate) fn unframe<'a>(raw_key: &[u8], framed: &'a [u8]) -> Result<&'a [u8], StoreError> {
    let corrupt = |detail: String| {
        let (kind, key) = split_raw_key(raw_key);
        StoreError::Corrupt {
            kind,
            key: key.to_vec(),
            detail,
        }
    };
    let Some((head, value)) = framed.split_first_chunk::<FRAME_BYTES>() else {
        return Err(corrupt(format!("only {} bytes", framed.len())));
    };
    let [version, crc @ ..] = *head;
    if version != FRAME_VERSION {
        return Err(corrupt(format!(
            "value format {version}, not {FRAME_VERSION}"
        )));
    }
    let (stored, actual) = (u32::from_le_bytes(crc), checksum(raw_key, value));
    if stored != actual {
        return Err(corrupt(format!("checksum {actual:08x}, not {stored:08x}")));
    }
    Ok(value)
}

/// Kind and key of a key in the tree.
pub(crate) fn split_raw_key(raw_key: &[u8]) -> (Kind, &[u8]) {
    match raw_key.split_first() {
        Some((kind, key)) => (Kind(*kind), key),
        None => (Kind(0), &[]),
    }
}

fn checksum(raw_key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[FRAME_VERSION]);
    hasher.update(
        &u32::try_from(raw_key.len())
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    );
    hasher.update(raw_key);
    hasher.update(value);
    hasher.finalize()
}
