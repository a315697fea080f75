//! Where the map keeps its rows: read here, written by the caller out of a change.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};

/// Most rows in one change; some room is left in a store batch of 64 for rows of the caller.
pub const MAX_CHANGE_ROWS: usize = 60;

/// What a row is. The number is its prefix byte in the store; callers use others for their own rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RowKind {
    /// Key to entry.
    Entry = b'k',
    /// Origin and seq (big-endian) to key: the entry that this write made and that still stands.
    Dot = b'd',
    /// Hlc (big-endian) and key to origin, seq and causal length: tombstones by age.
    Tombstone = b't',
    /// Name to bookkeeping.
    Meta = b'm',
}

/// Key and value of a row.
pub type KeyValue = (Vec<u8>, Vec<u8>);

type SharedRows = Arc<RwLock<BTreeMap<(RowKind, Vec<u8>), Vec<u8>>>>;

/// One row to be written or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowWrite {
    /// What it is.
    pub kind: RowKind,
    /// Its key, without the kind.
    pub key: Vec<u8>,
    /// Its new value; nothing to remove it.
    pub value: Option<Vec<u8>>,
}

/// Reads rows. They are those of all changes that were settled; of later ones they may or may not be.
pub trait Rows {
    /// Why a row could not be read.
    type Error: std::error::Error;

    /// One row.
    ///
    /// # Errors
    /// Whatever the store says.
    fn get(&self, kind: RowKind, key: &[u8]) -> Result<Option<Vec<u8>>, Self::Error>;

    /// At most `limit` rows whose key has `prefix` and is greater than `after`, in order.
    ///
    /// # Errors
    /// Whatever the store says.
    fn page(
        &self,
        kind: RowKind,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<KeyValue>, Self::Error>;
}

/// Rows in memory, shared by clones: for tests and simulations.
#[derive(Clone, Debug, Default)]
pub struct MemoryRows {
    rows: SharedRows,
}

impl MemoryRows {
    /// Writes the rows of a change.
    pub fn apply(&self, writes: &[RowWrite]) {
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        for RowWrite { kind, key, value } in writes {
            match value {
                Some(value) => rows.insert((*kind, key.clone()), value.clone()),
                None => rows.remove(&(*kind, key.clone())),
            };
        }
    }

    /// A copy that goes its own way from now on, as a disk image would.
    #[must_use]
    pub fn image(&self) -> Self {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        Self {
            rows: Arc::new(RwLock::new(rows.clone())),
        }
    }

    /// All rows of a kind.
    #[must_use]
    pub fn all(&self, kind: RowKind) -> Vec<KeyValue> {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        rows.iter()
            .filter(|((k, _), _)| *k == kind)
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect()
    }
}

impl Rows for MemoryRows {
    type Error = Infallible;

    fn get(&self, kind: RowKind, key: &[u8]) -> Result<Option<Vec<u8>>, Infallible> {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        Ok(rows.get(&(kind, key.to_vec())).cloned())
    }

    fn page(
        &self,
        kind: RowKind,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<KeyValue>, Infallible> {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        let from = (kind, after.unwrap_or(prefix).max(prefix).to_vec());
        Ok(rows
            .range(from..)
            .map(|((k, key), value)| ((*k, key), value))
            .skip_while(|((_, key), _)| after.is_some_and(|after| key.as_slice() <= after))
            .take_while(|((k, key), _)| *k == kind && key.starts_with(prefix))
            .take(limit)
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect())
    }
}
