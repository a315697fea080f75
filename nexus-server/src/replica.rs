//! This server's replica of the CLSet over the rows of its store.

use std::sync::Arc;

use nexus_clset::{Change, Error, Fence, NodeId, RowKind, Rows, Ticket, UnixMillis};
use nexus_store::{Kind, Store, StoreError};

use crate::centre::effects::Write;
use crate::clock::Now;

/// Entries that are read at once.
const PAGE: usize = 1024;

/// Most changes that one sweep makes; the next one goes on.
const MAX_SWEEP: usize = 16;

/// Why the replica cannot do what it should; nothing has changed then.
pub type ReplicaError = Error<StoreError>;

/// Rows of a page: key and value.
pub type KeyValues = Vec<(Vec<u8>, Vec<u8>)>;

/// Reads rows of one kind; as [`nexus_clset::Rows`], but usable without knowing its type.
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
    ) -> Result<KeyValues, StoreError>;
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
    ) -> Result<KeyValues, StoreError> {
        let rows = Self::page(self, kind, prefix, after, limit)?;
        Ok(rows.into_iter().map(|row| (row.key, row.value)).collect())
    }
}

struct Source(Arc<dyn ReadRows>);

impl Rows for Source {
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
    ) -> Result<KeyValues, StoreError> {
        self.0.page(Kind(kind as u8), prefix, after, limit)
    }
}

/// The replica. What it gives to write must be written in that order, each change in one batch.
pub struct Replica {
    map: nexus_clset::Replica<Source>,
}

/// Rows that belong into one batch, and the ticket to settle when they are durable.
pub type Written = (Ticket, Vec<Write>);

impl Replica {
    /// Boots the replica of node `number`. The rows must be durable before anything else is done with it.
    ///
    /// # Errors
    /// Rows that cannot be read, or that belong to another node.
    pub fn open(
        rows: Arc<dyn ReadRows>,
        number: u32,
        now: &Now,
    ) -> Result<(Self, Written), ReplicaError> {
        let (map, boot) = nexus_clset::Replica::open(Source(rows), NodeId(number), millis(now))?;
        Ok((Self { map }, written(boot)))
    }

    /// Binds a key to a value. `fence` is the epoch of the shard for allocations, else 0.
    ///
    /// # Errors
    /// See [`nexus_clset::Replica::write`].
    pub fn put(
        &mut self,
        now: &Now,
        key: &str,
        fence: u64,
        value: &[u8],
    ) -> Result<Written, ReplicaError> {
        self.map
            .put(key.as_bytes(), value, Fence::epoch(fence), millis(now))
            .map(written)
    }

    /// Deletes a key under the fence that it was written with.
    ///
    /// # Errors
    /// See [`nexus_clset::Replica::write`].
    pub fn delete(&mut self, now: &Now, key: &str) -> Result<Written, ReplicaError> {
        let stands = self.map.get_entry(key.as_bytes())?;
        let fence = stands.map_or(Fence::NONE, |entry| entry.version.fence);
        self.map
            .delete(key.as_bytes(), fence, millis(now))
            .map(written)
    }

    /// Removes tombstones of which nobody can need the record any more: a single node has only itself to ask.
    ///
    /// # Errors
    /// Rows that cannot be read.
    pub fn sweep(&mut self, now: &Now) -> Result<Vec<Written>, ReplicaError> {
        let declared = self.map.propose_collection(&[], millis(now))?;
        let mut changes: Vec<Written> = declared.into_iter().map(written).collect();
        while changes.len() < MAX_SWEEP
            && let Some(change) = self.map.collect()?
        {
            changes.push(written(change));
        }
        Ok(changes)
    }

    /// Whether a key is bound to exactly this value.
    #[must_use]
    pub fn holds(&self, key: &str, value: &[u8]) -> bool {
        self.map
            .get(key.as_bytes())
            .is_ok_and(|held| held.as_deref() == Some(value))
    }

    /// Everything up to this ticket is durable.
    pub fn settle(&mut self, ticket: Ticket) {
        self.map.settle(ticket);
    }

    /// Hands every key with `prefix` and its value to `each`.
    ///
    /// # Errors
    /// Rows that cannot be read, or the first error of `each`.
    pub fn each<E: From<ReplicaError>>(
        &self,
        prefix: &str,
        mut each: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.map.query(prefix.as_bytes(), after.as_deref(), PAGE)?;
            for (key, value) in &page.rows {
                each(key, value)?;
            }
            if !page.more {
                return Ok(());
            }
            after = page.rows.into_iter().next_back().map(|(key, _)| key);
        }
    }
}

fn written(change: Change) -> Written {
    let rows = change.rows.into_iter().map(|row| Write {
        kind: Kind(row.kind as u8),
        key: row.key,
        value: row.value,
    });
    (change.ticket, rows.collect())
}

fn millis(now: &Now) -> UnixMillis {
    UnixMillis(u64::try_from(now.wall.as_millisecond()).unwrap_or(0))
}
