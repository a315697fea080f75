//! A replica of the CLSet on a store: where it reads its rows, and a change as a batch. The feature `replica`.

use std::sync::Arc;

use nexus_clset::{Change, KeyValue, RowKind, Rows};

use crate::{Batch, Kind, Store, StoreError};

/// Reads rows: a store, or what stands for one.
pub trait ReadRows: Send + Sync {
    /// One row.
    ///
    /// # Errors
    /// Whatever the store says.
    fn get(&self, kind: Kind, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// At most `limit` rows whose key has `prefix` and is greater than `after`, in order.
    ///
    /// # Errors
    /// Whatever the store says.
    fn page(
        &self,
        kind: Kind,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<KeyValue>, StoreError>;
}

impl ReadRows for Store {
    fn get(&self, kind: Kind, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Self::get(self, kind, key)
    }

    fn page(
        &self,
        kind: Kind,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<KeyValue>, StoreError> {
        let rows = Self::page(self, kind, prefix, after, limit)?;
        Ok(rows.into_iter().map(|row| (row.key, row.value)).collect())
    }
}

/// The rows that a replica reads.
#[derive(Clone)]
pub struct ReplicaRows(Arc<dyn ReadRows>);

impl ReplicaRows {
    /// The rows of a replica in `rows`; other kinds than its own are not touched.
    #[must_use]
    pub fn new(rows: Arc<dyn ReadRows>) -> Self {
        Self(rows)
    }
}

impl From<Store> for ReplicaRows {
    fn from(store: Store) -> Self {
        Self::new(Arc::new(store))
    }
}

impl Rows for ReplicaRows {
    type Error = StoreError;

    fn get(&self, kind: RowKind, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get(kind.into(), key)
    }

    fn page(
        &self,
        kind: RowKind,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<KeyValue>, StoreError> {
        self.0.page(kind.into(), prefix, after, limit)
    }
}

impl From<RowKind> for Kind {
    fn from(kind: RowKind) -> Self {
        Self(kind as u8)
    }
}

/// All rows of a change: to be durable together, before its ticket is settled.
impl From<&Change> for Batch {
    fn from(change: &Change) -> Self {
        let mut batch = Self::new();
        for row in &change.rows {
            match &row.value {
                Some(value) => batch.put(row.kind.into(), &row.key, value),
                None => batch.delete(row.kind.into(), &row.key),
            };
        }
        batch
    }
}
