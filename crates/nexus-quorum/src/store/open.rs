//! Opening the file: whose it is, whether all of it is what was written, and making it when there is none.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, RwLock};

use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase as _, ReadableTable as _,
};
use serde::de::DeserializeOwned;

use super::seal::{LOG, META, SNAPSHOT, fits, get_meta, open_row, put_meta};
use super::{Known, SnapshotRow, Store, StoreError, guarded, read_entry, write};
use crate::error::QuorumError;
use crate::rows::{LogIdRow, VoteRow};
use crate::types::LogId;

/// The format of what this program writes.
const FORMAT: u32 = 1;
/// Bytes of the file that redb keeps in memory.
const CACHE: usize = 32 << 20;

pub(super) fn open(path: &Path, number: u32) -> Result<Store, QuorumError> {
    if !path
        .try_exists()
        .map_err(|error| io(path, &error.to_string()))?
    {
        make(path, number)?;
    }
    // redb would begin a new file in an empty one, and a file that is suddenly empty has forgotten its vote.
    let length = std::fs::metadata(path)
        .map_err(|error| io(path, &error.to_string()))?
        .len();
    if length == 0 {
        return Err(corrupt(path, "it is empty"));
    }
    let db = open_file(path, false)?;
    let (known, boot) = guarded(|| {
        let tx = db.begin_read().map_err(fits)?;
        Ok(inspect(path, number, &tx))
    })
    .unwrap_or_else(|error| Err(named(path, error)))?;
    let boot = boot.saturating_add(1);
    guarded(|| write(&db, |tx| put_meta(tx, "boot", &boot))).map_err(|error| named(path, error))?;
    Ok(Store {
        path: path.to_owned(),
        boot,
        db: RwLock::new(Some(db)),
        known: Mutex::new(known),
    })
}

/// Make the file under another name first: under its own name there is never half a file.
fn make(path: &Path, number: u32) -> Result<(), QuorumError> {
    let failed = |error: std::io::Error| io(path, &error.to_string());
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let db = open_file(&new, true)?;
    guarded(|| {
        write(&db, |tx| {
            put_meta(tx, "format", &FORMAT)?;
            put_meta(tx, "number", &number)?;
            put_meta(tx, "boot", &0_u64)?;
            tx.open_table(LOG).map_err(fits)?;
            tx.open_table(SNAPSHOT).map_err(fits)?;
            // Read back, so that a file that cannot be read is not put in place.
            get_meta::<u32>(tx, "number").map(|_| ())
        })?;
        db.close().map_err(fits)
    })
    .map_err(|error| named(path, error))?;
    std::fs::rename(&new, path).map_err(failed)?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed)
}

fn open_file(path: &Path, new: bool) -> Result<Database, QuorumError> {
    let opened = std::panic::catch_unwind(|| {
        let mut builder = Builder::new();
        builder
            .set_cache_size(CACHE)
            .set_check_integrity_on_open(true);
        if new {
            builder.create(path)
        } else {
            builder.open(path)
        }
    });
    match opened {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => Err(QuorumError::InUse { path: path.to_owned() }),
        Ok(Err(DatabaseError::UpgradeRequired(found))) => Err(QuorumError::OtherFormat {
            path: path.to_owned(),
            found: u32::from(found),
            known: FORMAT,
        }),
        Ok(Err(DatabaseError::Storage(redb::StorageError::Io(error))))
            // What redb says of a file that is not one of its own, or is too short for one.
            if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
        {
            Err(corrupt(path, &error.to_string()))
        }
        Ok(Err(error)) => Err(named(path, fits(error))),
        Err(_) => Err(corrupt(path, "redb gave up on it")),
    }
}

/// Read all of it once.
fn inspect(path: &Path, number: u32, tx: &ReadTransaction) -> Result<(Known, u64), QuorumError> {
    let name = |error| named(path, error);
    let format: u32 = required(tx, "format").map_err(name)?;
    if format != FORMAT {
        return Err(QuorumError::OtherFormat {
            path: path.to_owned(),
            found: format,
            known: FORMAT,
        });
    }
    let found: u32 = required(tx, "number").map_err(name)?;
    if found != number {
        return Err(QuorumError::OtherNode {
            path: path.to_owned(),
            found,
            expected: number,
        });
    }
    let boot: u64 = required(tx, "boot").map_err(name)?;
    contents(tx).map(|known| (known, boot)).map_err(name)
}

fn contents(tx: &ReadTransaction) -> Result<Known, StoreError> {
    let committed = optional::<Option<LogIdRow>>(tx, "committed")?
        .flatten()
        .map(LogId::from);
    let purged = optional::<LogIdRow>(tx, "purged")?.map(LogId::from);
    let mut known = Known {
        cluster: optional(tx, "cluster")?,
        vote: optional::<VoteRow>(tx, "vote")?.map(Into::into),
        committed,
        committed_saved: committed,
        purged,
        snapshot: optional::<SnapshotRow>(tx, "snapshot")?.map(|row| row.0.last.into()),
        ..Known::default()
    };
    let mut before = purged;
    for row in tx.open_table(LOG).map_err(fits)?.iter().map_err(fits)? {
        let (index, value) = row.map_err(fits)?;
        let (id, _) = read_entry(index.value(), value.value())?;
        let expected = before.map_or(0, |before| before.index.saturating_add(1));
        if id.index != expected {
            return Err(StoreError::Corrupt(format!(
                "the log goes from {expected} to {}",
                id.index
            )));
        }
        if before.is_some_and(|before| before.leader_id > id.leader_id) {
            return Err(StoreError::Corrupt(format!(
                "the term sinks at log entry {}",
                id.index
            )));
        }
        known.log_bytes += value.value().len() as u64;
        known.last = Some(id);
        before = Some(id);
    }
    if known.purged.is_some() && known.snapshot < known.purged {
        return Err(StoreError::Corrupt(
            "the snapshot that replaced the old log is missing".to_owned(),
        ));
    }
    if known.vote.is_none() && (known.last.is_some() || known.snapshot.is_some()) {
        return Err(StoreError::Corrupt("there is a log but no vote".to_owned()));
    }
    Ok(known)
}

fn optional<T: DeserializeOwned>(tx: &ReadTransaction, key: &str) -> Result<Option<T>, StoreError> {
    let meta = tx.open_table(META).map_err(fits)?;
    let Some(value) = meta.get(key).map_err(fits)? else {
        return Ok(None);
    };
    open_row("meta", key.as_bytes(), value.value()).map(Some)
}

fn required<T: DeserializeOwned>(tx: &ReadTransaction, key: &str) -> Result<T, StoreError> {
    optional(tx, key)?.ok_or_else(|| StoreError::Corrupt(format!("it has no {key}")))
}

pub(super) fn named(path: &Path, error: StoreError) -> QuorumError {
    match error {
        StoreError::Closed => io(path, "it is closed"),
        StoreError::Io(why) => io(path, &why),
        StoreError::Corrupt(what) => corrupt(path, &what),
    }
}

fn io(path: &Path, why: &str) -> QuorumError {
    QuorumError::Io {
        path: path.to_owned(),
        why: why.to_owned(),
    }
}

fn corrupt(path: &Path, what: &str) -> QuorumError {
    QuorumError::Corrupt {
        path: path.to_owned(),
        what: what.to_owned(),
    }
}
