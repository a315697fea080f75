//! The state out of its rows, as a restart finds them.

use std::collections::BTreeMap;

use nexus_core::cluster::ClusterState;
use nexus_core::pool::DEFAULT_COOL_DOWN;
use nexus_store::{ReadRows, StoreError};

use super::Centre;
use super::effects::{ChangeLog, Effects, META_ROWS, REVISION_KEY};
use super::idempotency::{KEYS_PREFIX, Keys};
use crate::allocation::{Allocation, KEY_PREFIX, RowError};
use crate::clock::Now;
use crate::olt_config::Settings;
use crate::record::Record;
use crate::replica::{Replica, ReplicaError};

/// Where rows are read from.
pub type Rows<'a> = &'a dyn ReadRows;

/// Why the state cannot be taken up.
#[derive(Debug, thiserror::Error)]
pub enum RestoreFailure {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The CLSet cannot be read.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// A row cannot be read.
    #[error(transparent)]
    Row(#[from] RowError),
}

impl Centre {
    /// Takes up the state from the rows of the store. The shard table comes from the quorum afterwards; every
    /// cool-down is counted from `now`. `fresh` is a random number for what a new store must not share with
    /// another one.
    ///
    /// # Errors
    /// Rows that cannot be read or understood: then the store needs a person.
    pub fn restore(
        settings: Settings,
        rows: Rows<'_>,
        replica: Replica,
        fresh: u32,
        now: &Now,
    ) -> Result<Self, RestoreFailure> {
        let followed = replica.revision();
        let mut keys = Keys::default();
        replica.each(KEYS_PREFIX, |key, value| {
            let key = key.strip_prefix(KEYS_PREFIX.as_bytes()).unwrap_or(key);
            keys.changed(text(key)?, Some(value))?;
            Ok::<_, RestoreFailure>(())
        })?;
        let mut record = Record::default();
        let mut audit = super::audit::Running::default();
        replica.each(KEY_PREFIX, |key, value| {
            let allocation = Allocation::decode(&text(key)?, value)?;
            let (place, is_held) = (allocation.place.clone(), allocation.state.is_held());
            record.put(allocation, now.boot.saturating_add(DEFAULT_COOL_DOWN.get()));
            audit.changed(&record, &place, false, is_held);
            Ok::<_, RestoreFailure>(())
        })?;
        let revision = match rows.get(META_ROWS, REVISION_KEY)? {
            None => ChangeLog::first_revision(fresh),
            Some(bytes) => u64::from_be_bytes(bytes.as_slice().try_into().map_err(|_| {
                RowError::new(
                    "the revision",
                    format!("it has {} bytes, not 8", bytes.len()),
                )
            })?),
        };
        let mark = format!("{}-{fresh:08x}-{:x}", replica.origin(), now.boot.as_nanos());
        Ok(Self {
            cluster: ClusterState::new(),
            settings,
            replica,
            followed,
            record,
            sessions: BTreeMap::new(),
            live: BTreeMap::new(),
            hosts: super::lifecycle::Hosts::default(),
            keys,
            disputes: super::disputes::Disputes::default(),
            audit,
            barrier: super::barrier::Barrier::default(),
            reclaim_known: BTreeMap::new(),
            cursors: BTreeMap::new(),
            log: ChangeLog::new(revision),
            saved_revision: revision,
            mark,
            unused: super::unused::Unused::new(now.boot),
            steward: false,
            effects: Effects::default(),
        })
    }

    /// Number of allocations in the record, in any state.
    #[must_use]
    pub fn allocations(&self) -> usize {
        self.record.count()
    }
}

fn text(key: &[u8]) -> Result<String, RowError> {
    String::from_utf8(key.to_vec())
        .map_err(|error| RowError::new(key.escape_ascii().to_string(), error.to_string()))
}
