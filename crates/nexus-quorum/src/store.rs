//! The redb file: log, vote, snapshot, and whose they are. Everything here blocks; callers in tasks go through `run`.
//!
//! Whatever must be durable is, when a function returns. redb keeps checksums of its pages and checks them all when the
//! file is opened; each row has one of its own besides, over its table and key too, so that a row in the wrong place is
//! found as well.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use redb::{Database, Durability, ReadableDatabase as _, ReadableTable as _, WriteTransaction};

use serde::{Deserialize, Serialize};

use crate::config::MAX_SNAPSHOT;
use crate::error::QuorumError;
use crate::rows::{EntryRow, LogIdRow, MetaRow, VoteRow};
use crate::types::{LogId, RaftEntry, SnapshotMeta, Vote};

mod open;
mod seal;

use seal::{LOG, META, SNAPSHOT, decoded, fits, get_meta, open_row, put_meta, seal_row};

/// Bytes of snapshot in one row.
const PIECE: usize = 256 << 10;

/// The file could not be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the quorum file is closed")]
    Closed,
    #[error("quorum file: {0}; check the disk (space, health) and start again")]
    Io(String),
    #[error(
        "quorum file is damaged: {0}; remove this node from the cluster, empty its data directory and let it join anew"
    )]
    Corrupt(String),
}

/// The open file.
pub struct Store {
    path: PathBuf,
    boot: u64,
    db: RwLock<Option<Database>>,
    known: Mutex<Known>,
}

/// The cluster a node belongs to, and whether the node itself founded it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Drawn when it was founded.
    pub name: u128,
    /// Founded by this node.
    pub own: bool,
}

/// What is in the file, as far as it is asked for often.
#[derive(Clone, Debug, Default)]
struct Known {
    cluster: Option<Cluster>,
    vote: Option<Vote>,
    /// Newest, and newest that is in the file; the difference goes along with the next append.
    committed: Option<LogId>,
    committed_saved: Option<LogId>,
    purged: Option<LogId>,
    last: Option<LogId>,
    log_bytes: u64,
    snapshot: Option<LogId>,
}

/// What is written down about a snapshot: what it covers, its bytes and their CRC-32.
type SnapshotRow = (MetaRow, u64, u32);

impl Store {
    /// Open the file of node `number`, or make it.
    pub fn open(path: &Path, number: u32) -> Result<Self, QuorumError> {
        open::open(path, number)
    }

    /// The error with the file's name and what to do about it.
    pub fn named(&self, error: StoreError) -> QuorumError {
        open::named(&self.path, error)
    }

    /// Which start of this node this is, counted in the file from 1.
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// Run `work` where blocking is allowed. A panic in it is an error here.
    pub async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&store))
            .await
            .unwrap_or_else(|error| Err(StoreError::Io(format!("its task ended: {error}"))))
    }

    /// The cluster this node belongs to.
    pub fn cluster(&self) -> Option<Cluster> {
        self.known().cluster
    }

    /// Belong to `cluster` from now on.
    pub fn join(&self, cluster: Cluster) -> Result<(), StoreError> {
        self.write(|tx| put_meta(tx, "cluster", &cluster))?;
        self.known().cluster = Some(cluster);
        Ok(())
    }

    pub fn vote(&self) -> Option<Vote> {
        self.known().vote
    }

    pub fn save_vote(&self, vote: Vote) -> Result<(), StoreError> {
        self.write(|tx| put_meta(tx, "vote", &VoteRow::from(vote)))?;
        self.known().vote = Some(vote);
        Ok(())
    }

    pub fn committed(&self) -> Option<LogId> {
        self.known().committed
    }

    /// Remember what is committed; written with the next append. What is lost of it in a crash, the leader says again.
    pub fn note_committed(&self, committed: Option<LogId>) {
        self.known().committed = committed;
    }

    /// Bytes of all log entries.
    pub fn log_bytes(&self) -> u64 {
        self.known().log_bytes
    }

    /// The last place that was dropped from the log, and the last place in it.
    pub fn log_ends(&self) -> (Option<LogId>, Option<LogId>) {
        let known = self.known();
        (known.purged, known.last.max(known.purged))
    }

    /// The last place that the stored snapshot covers.
    pub fn snapshot_last(&self) -> Option<LogId> {
        self.known().snapshot
    }

    /// Append in one durable transaction. Whatever stood at or behind the first place is replaced.
    pub fn append(&self, entries: Vec<RaftEntry>) -> Result<(), StoreError> {
        let rows: Vec<EntryRow> = entries.into_iter().map(EntryRow::from).collect();
        let (Some(first), Some(end)) = (
            rows.first().map(|row| row.id),
            rows.last().map(|row| row.id),
        ) else {
            return Ok(());
        };
        let before = self.known().clone();
        let next = before
            .last
            .max(before.purged)
            .map_or(0, |id| id.index.saturating_add(1));
        if first.index > next {
            return Err(StoreError::Io(format!(
                "an append at {} would leave a gap after {next}",
                first.index
            )));
        }
        let committed = before.committed;
        let mut added = 0;
        let mut dropped = 0;
        self.write(|tx| {
            let mut log = tx.open_table(LOG).map_err(fits)?;
            if first.index < next {
                dropped = cut(&mut log, first.index..)?;
            }
            for row in &rows {
                let bytes = seal_row("log", &row.id.index.to_be_bytes(), row)?;
                added += bytes.len() as u64;
                log.insert(row.id.index, bytes.as_slice()).map_err(fits)?;
            }
            drop(log);
            if committed != before.committed_saved {
                put_meta(tx, "committed", &committed.map(LogIdRow::from))?;
            }
            Ok(())
        })?;
        let mut known = self.known();
        known.last = Some(end.into());
        known.committed_saved = committed;
        known.log_bytes = (known.log_bytes + added).saturating_sub(dropped);
        Ok(())
    }

    /// Append `entries`, take them and all before them for committed, and belong to another cluster with another vote, all at once.
    pub fn replace_members(
        &self,
        entries: [RaftEntry; 2],
        vote: Vote,
        cluster: Cluster,
    ) -> Result<(), StoreError> {
        let [members, first] = entries.map(EntryRow::from);
        let committed = LogId::from(first.id);
        let mut sealed = Vec::new();
        for row in [&members, &first] {
            let bytes = seal_row("log", &row.id.index.to_be_bytes(), row)?;
            sealed.push((row.id.index, bytes));
        }
        self.write(|tx| {
            let mut log = tx.open_table(LOG).map_err(fits)?;
            for (index, bytes) in &sealed {
                log.insert(*index, bytes.as_slice()).map_err(fits)?;
            }
            drop(log);
            put_meta(tx, "committed", &Some(first.id))?;
            put_meta(tx, "vote", &VoteRow::from(vote))?;
            put_meta(tx, "cluster", &cluster)
        })?;
        let mut known = self.known();
        known.last = Some(committed);
        known.log_bytes += sealed
            .iter()
            .map(|(_, bytes)| bytes.len() as u64)
            .sum::<u64>();
        known.committed = Some(committed);
        known.committed_saved = Some(committed);
        known.vote = Some(vote);
        known.cluster = Some(cluster);
        Ok(())
    }

    /// Entries from `from` to before `end`, as many as `bytes` allow but at least one if there is one.
    pub fn read(&self, from: u64, end: u64, bytes: usize) -> Result<Vec<RaftEntry>, StoreError> {
        self.with(|db| {
            let tx = db.begin_read().map_err(fits)?;
            let log = tx.open_table(LOG).map_err(fits)?;
            let mut entries = Vec::new();
            let mut size = 0;
            for row in log.range(from..end.max(from)).map_err(fits)? {
                let (index, value) = row.map_err(fits)?;
                size += value.value().len();
                if size > bytes && !entries.is_empty() {
                    break;
                }
                entries.push(read_entry(index.value(), value.value())?.1);
            }
            Ok(entries)
        })
    }

    /// Drop the log from `since` on.
    pub fn truncate(&self, since: LogId) -> Result<(), StoreError> {
        let mut dropped = 0;
        let mut last = None;
        self.write(|tx| {
            let mut log = tx.open_table(LOG).map_err(fits)?;
            dropped = cut(&mut log, since.index..)?;
            if let Some((index, value)) = log.last().map_err(fits)? {
                last = Some(read_entry(index.value(), value.value())?.0);
            }
            Ok(())
        })?;
        let mut known = self.known();
        known.last = last;
        known.log_bytes = known.log_bytes.saturating_sub(dropped);
        Ok(())
    }

    /// Drop the log up to `upto`, which a snapshot covers; all of it, if it ends before `upto` (then it was another
    /// leader's, and what stands behind `upto` must not come back).
    pub fn purge(&self, upto: LogId) -> Result<(), StoreError> {
        let all = self.known().last < Some(upto);
        let mut dropped = 0;
        self.write(|tx| {
            let mut log = tx.open_table(LOG).map_err(fits)?;
            dropped = if all {
                cut(&mut log, 0..)?
            } else {
                cut(&mut log, ..=upto.index)?
            };
            drop(log);
            put_meta(tx, "purged", &LogIdRow::from(upto))
        })?;
        let mut known = self.known();
        known.purged = known.purged.max(Some(upto));
        if all || known.last.is_some_and(|last| last.index <= upto.index) {
            known.last = None;
        }
        known.log_bytes = known.log_bytes.saturating_sub(dropped);
        Ok(())
    }

    /// Keep this snapshot instead of the one before, unless that one covers more.
    pub fn save_snapshot(&self, meta: &SnapshotMeta, bytes: &[u8]) -> Result<(), StoreError> {
        let Some(last) = meta.last_log_id else {
            return Err(StoreError::Io("a snapshot that covers nothing".to_owned()));
        };
        if bytes.len() > MAX_SNAPSHOT {
            return Err(StoreError::Io(format!(
                "a snapshot of {} bytes, the limit is {MAX_SNAPSHOT}",
                bytes.len()
            )));
        }
        let row: SnapshotRow = (
            MetaRow {
                last: last.into(),
                membership: (&meta.last_membership).into(),
                id: meta.snapshot_id.clone(),
            },
            bytes.len() as u64,
            crc32fast::hash(bytes),
        );
        let mut newer_is_there = false;
        self.write(|tx| {
            let stored: Option<SnapshotRow> = get_meta(tx, "snapshot")?;
            newer_is_there = stored.is_some_and(|stored| LogId::from(stored.0.last) > last);
            if newer_is_there {
                return Ok(());
            }
            tx.delete_table(SNAPSHOT).map_err(fits)?;
            let mut table = tx.open_table(SNAPSHOT).map_err(fits)?;
            for (at, piece) in (0_u64..).zip(bytes.chunks(PIECE)) {
                table.insert(at, piece).map_err(fits)?;
            }
            drop(table);
            put_meta(tx, "snapshot", &row)
        })?;
        if !newer_is_there {
            self.known().snapshot = Some(last);
        }
        Ok(())
    }

    /// The stored snapshot.
    pub fn snapshot(&self) -> Result<Option<(SnapshotMeta, Vec<u8>)>, StoreError> {
        let found = self.with(|db| {
            let tx = db.begin_read().map_err(fits)?;
            let meta = tx.open_table(META).map_err(fits)?;
            let Some(value) = meta.get("snapshot").map_err(fits)? else {
                return Ok(None);
            };
            let (row, total, crc): SnapshotRow = open_row("meta", b"snapshot", value.value())?;
            let mut bytes = Vec::new();
            for piece in tx
                .open_table(SNAPSHOT)
                .map_err(fits)?
                .iter()
                .map_err(fits)?
            {
                bytes.extend_from_slice(piece.map_err(fits)?.1.value());
            }
            if bytes.len() as u64 != total || crc32fast::hash(&bytes) != crc {
                return Err(StoreError::Corrupt(
                    "the snapshot's checksum does not fit".to_owned(),
                ));
            }
            Ok(Some((row, bytes)))
        })?;
        let Some((row, bytes)) = found else {
            return Ok(None);
        };
        let membership = row.membership.try_into().map_err(decoded)?;
        let meta = SnapshotMeta {
            last_log_id: Some(row.last.into()),
            last_membership: membership,
            snapshot_id: row.id,
        };
        Ok(Some((meta, bytes)))
    }

    /// Write what is still to be written and close the file, so that it can be opened again.
    pub fn close(&self) -> Result<(), StoreError> {
        let known = self.known().clone();
        let written = if known.committed != known.committed_saved {
            self.write(|tx| put_meta(tx, "committed", &known.committed.map(LogIdRow::from)))
        } else {
            Ok(())
        };
        let db = self
            .db
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let closed = guarded(|| match db {
            Some(db) => db.close().map_err(fits),
            None => Ok(()),
        });
        match written {
            Err(StoreError::Closed) => closed,
            written => written.and(closed),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let Some(db) = db.as_ref() else {
            return Err(StoreError::Closed);
        };
        guarded(|| work(db))
    }

    fn write(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.with(|db| write(db, work))
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.path.display())
    }
}

/// One transaction, on the disk when this returns.
fn write(
    db: &Database,
    work: impl FnOnce(&WriteTransaction) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut tx = db.begin_write().map_err(fits)?;
    tx.set_durability(Durability::Immediate).map_err(fits)?;
    work(&tx)?;
    tx.commit().map_err(fits)
}

/// redb may panic on what a broken disk gives it; here that is an error like others.
fn guarded<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let what = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        Err(StoreError::Corrupt(format!(
            "redb gave up on it: {}",
            what.unwrap_or("it did not say why")
        )))
    })
}

/// Remove rows; the bytes they had.
fn cut(
    log: &mut redb::Table<'_, u64, &'static [u8]>,
    range: impl std::ops::RangeBounds<u64>,
) -> Result<u64, StoreError> {
    let mut dropped = 0;
    log.retain_in(range, |_, value| {
        dropped += value.len() as u64;
        false
    })
    .map_err(fits)?;
    Ok(dropped)
}

fn read_entry(index: u64, value: &[u8]) -> Result<(LogId, RaftEntry), StoreError> {
    let row: EntryRow = open_row("log", &index.to_be_bytes(), value)?;
    if row.id.index != index {
        return Err(StoreError::Corrupt(format!(
            "log entry {index} says it is {}",
            row.id.index
        )));
    }
    let id = row.id.into();
    Ok((id, row.try_into().map_err(decoded)?))
}

#[cfg(test)]
mod tests;
