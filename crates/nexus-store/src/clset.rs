//! The replicated map in this store: its rows are ours, and a change of it is (a part of) one batch.
//!
//! The kinds `k`, `d`, `t` and `m` belong to the map; what its users keep beside it takes others.

use nexus_clset::{Change, KeyValue, RowKind, Rows};

use crate::batch::Batch;
use crate::error::StoreError;
use crate::row::Kind;
use crate::store::Store;

impl From<RowKind> for Kind {
    fn from(kind: RowKind) -> Self {
        Self(kind as u8)
    }
}

impl Rows for Store {
    type Error = StoreError;

    fn get(&self, kind: RowKind, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Self::get(self, kind.into(), key)
    }

    fn page(
        &self,
        kind: RowKind,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<KeyValue>, StoreError> {
        let rows = Self::page(self, kind.into(), prefix, after, limit)?;
        Ok(rows.into_iter().map(|row| (row.key, row.value)).collect())
    }
}

impl Batch {
    /// Adds all rows of a change of the map.
    pub fn change(&mut self, change: &Change) -> &mut Self {
        for row in &change.rows {
            match &row.value {
                Some(value) => self.put(row.kind.into(), &row.key, value),
                None => self.delete(row.kind.into(), &row.key),
            };
        }
        self
    }
}

impl From<&Change> for Batch {
    fn from(change: &Change) -> Self {
        let mut batch = Self::new();
        batch.change(change);
        batch
    }
}
