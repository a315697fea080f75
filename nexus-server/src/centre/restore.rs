//! The state out of its rows, as a restart finds them.

use std::collections::BTreeMap;

use nexus_core::id::OltId;
use nexus_core::lease::LeaseRule;
use nexus_core::shard_table::{RestoreError, Row, RowKey};
use nexus_store::{Kind, StoreError};

use super::effects::{
    ChangeLog, Effects, GRANT_ROWS, KEY_ROWS, META_ROWS, REVISION_KEY, SESSION_ROWS,
};
use super::idempotency::Keys;
use super::{Centre, SessionLog, rest};
use crate::allocation::{Allocation, KEY_PREFIX, RowError};
use crate::clock::Now;
use crate::grantor::{Grantor, SingleGrantor};
use crate::olt_config::Settings;
use crate::record::Record;
use crate::refused::Refused;
use crate::replica::{ReadRows, Replica, ReplicaError};

/// Rows that are read at once.
const PAGE: usize = 1024;

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
    /// The rows of the shard table make no table.
    #[error(transparent)]
    Table(#[from] RestoreError),
    /// What must be done at the start was refused.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl Centre {
    /// Takes up the state from the rows of the store. Every lease and every cool-down is counted from `now`.
    ///
    /// # Errors
    /// Rows that cannot be read or understood: then the store needs a person.
    pub fn restore(
        settings: Settings,
        rule: LeaseRule,
        rows: Rows<'_>,
        replica: Replica,
        now: &Now,
    ) -> Result<Self, RestoreFailure> {
        let mut table_rows: Vec<Row> = Vec::new();
        each(rows, GRANT_ROWS, |key, value| {
            table_rows.push(json(key, value)?);
            Ok(())
        })?;
        let grantor = SingleGrantor::restore(rule, table_rows, now.boot)?;
        let mut sessions = BTreeMap::new();
        each(rows, SESSION_ROWS, |key, value| {
            let olt = OltId::new(text(key)?).map_err(|error| {
                RowError::new(format!("session {}", key.escape_ascii()), error.to_string())
            })?;
            sessions.insert(olt, json::<SessionLog>(key, value)?);
            Ok(())
        })?;
        let mut keys = Keys::default();
        each(rows, KEY_ROWS, |key, value| {
            keys.restore(text(key)?, value)
                .map_err(RestoreFailure::from)
        })?;
        let mut record = Record::default();
        replica.each(KEY_PREFIX, |key, value| {
            let allocation = Allocation::decode(&text(key)?, value)?;
            let rest = rest(grantor.table(), &allocation.pool);
            record.put(allocation, now.boot.saturating_add(rest));
            Ok::<_, RestoreFailure>(())
        })?;
        let revision = match rows.get(META_ROWS, REVISION_KEY)? {
            None => 0,
            Some(bytes) => u64::from_be_bytes(bytes.as_slice().try_into().map_err(|_| {
                RowError::new(
                    "the revision",
                    format!("it has {} bytes, not 8", bytes.len()),
                )
            })?),
        };
        let mut centre = Self {
            settings,
            grantor: Box::new(grantor),
            replica,
            record,
            sessions,
            live: BTreeMap::new(),
            keys,
            conflicts: BTreeMap::new(),
            cursors: BTreeMap::new(),
            log: ChangeLog::new(revision),
            saved_revision: revision,
            sweep_due: now.boot,
            effects: Effects::default(),
        };
        centre.mirror_all(now)?;
        Ok(centre)
    }

    /// Many rows are written in several batches; a crash in between can leave a mirror entry behind.
    fn mirror_all(&mut self, now: &Now) -> Result<(), Refused> {
        let table = self.table();
        let pools = table.pools().map(|pool| RowKey::Pool(pool.id().clone()));
        let olts = table.olts().map(|view| RowKey::Olt(view.row.id.clone()));
        let keys: Vec<RowKey> = pools.chain(olts).collect();
        self.mirror(now, &keys)
    }

    /// Number of allocations in the record, in any state.
    #[must_use]
    pub fn allocations(&self) -> usize {
        self.record.count()
    }
}

fn each(
    rows: Rows<'_>,
    kind: Kind,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), RestoreFailure>,
) -> Result<(), RestoreFailure> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = rows.page(kind, b"", after.as_deref(), PAGE)?;
        for (key, value) in &page {
            each(key, value)?;
        }
        match page.into_iter().next_back() {
            Some((last, _)) => after = Some(last),
            None => return Ok(()),
        }
    }
}

fn text(key: &[u8]) -> Result<String, RowError> {
    String::from_utf8(key.to_vec())
        .map_err(|error| RowError::new(key.escape_ascii().to_string(), error.to_string()))
}

fn json<T: serde::de::DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, RowError> {
    serde_json::from_slice(value)
        .map_err(|error| RowError::new(key.escape_ascii().to_string(), error.to_string()))
}
