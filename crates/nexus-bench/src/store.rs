//! A replica's rows in its store, and changes as batches.

use nexus_clset::{Change, KeyValue, RowKind, Rows};
use nexus_store::{Batch, Kind, Store, StoreError};

/// Reads the rows of a store.
pub struct StoreRows(pub Store);

impl Rows for StoreRows {
    type Error = StoreError;

    fn get(&self, kind: RowKind, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get(Kind(kind as u8), key)
    }

    fn page(
        &self,
        kind: RowKind,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<KeyValue>, StoreError> {
        let rows = self.0.page(Kind(kind as u8), prefix, after, limit)?;
        Ok(rows.into_iter().map(|row| (row.key, row.value)).collect())
    }
}

/// The rows of a change, as one batch.
pub fn batch(change: &Change) -> Batch {
    let mut batch = Batch::new();
    for row in &change.rows {
        let kind = Kind(row.kind as u8);
        match &row.value {
            Some(value) => batch.put(kind, &row.key, value),
            None => batch.delete(kind, &row.key),
        };
    }
    batch
}
