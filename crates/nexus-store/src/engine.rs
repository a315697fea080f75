//! sled, and nothing else of this project: every call is guarded against panics, and a flush is a real one.

use std::fs::File;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::batch::Operation;
use crate::error::StoreError;
use crate::home::sync_directory;

/// sled writes a node of more than a quarter of a segment to a file of its own, which it never syncs.
/// A node has about 20 rows, so 8 MiB keep rows of the greatest size below that.
const SEGMENT_BYTES: usize = 8 * 1024 * 1024;

/// How often sled writes out and collects segments by itself.
const COLLECT_EVERY_MS: u64 = 500;

/// How long a tree of this process that has been dropped may still be held by sled's threads.
const LET_GO: Duration = Duration::from_secs(5);

/// An open sled tree.
#[derive(Debug)]
pub(crate) struct Engine {
    tree: sled::Db,
    /// sled's log, opened by us for our own `fdatasync`.
    log: File,
    log_path: PathBuf,
}

impl Engine {
    /// Opens or creates the tree in `directory`. It runs on a thread of its own, because a damaged log
    /// can make sled panic or never return.
    pub(crate) fn open(
        directory: &Path,
        cache_bytes: u64,
        limit: Duration,
    ) -> Result<Self, StoreError> {
        let config = sled::Config::new()
            .path(directory)
            .cache_capacity(cache_bytes)
            .segment_size(SEGMENT_BYTES)
            .flush_every_ms(Some(COLLECT_EVERY_MS));
        let (answer, opened) = mpsc::sync_channel(1);
        thread::Builder::new()
            .name("nexus-store-open".to_owned())
            .spawn(move || {
                // The receiver may have given up.
                let _ = answer.send(guarded(|| open(&config)));
            })
            .map_err(|e| StoreError::io("start a thread to open", directory, &e))?;
        let tree = match opened.recv_timeout(limit) {
            Ok(Ok(Ok(tree))) => tree,
            Ok(Ok(Err(error))) => return Err(translate(directory, "open", error)),
            Ok(Err(panic)) => return Err(damaged(directory, panic)),
            Err(_) => {
                return Err(StoreError::Io {
                    what: "open",
                    path: directory.to_owned(),
                    detail: format!("no answer in {} s", limit.as_secs()),
                });
            }
        };
        let log_path = directory.join("db");
        let log = File::open(&log_path).map_err(|e| StoreError::io("open", &log_path, &e))?;
        let engine = Self {
            tree,
            log,
            log_path,
        };
        engine.flush()?;
        sync_directory(directory)?;
        Ok(engine)
    }

    pub(crate) fn get(&self, raw_key: &[u8]) -> Result<Option<sled::IVec>, StoreError> {
        self.call("read", || self.tree.get(raw_key))
    }

    /// The rows between two raw keys, in order.
    pub(crate) fn range(&self, from: Bound<Vec<u8>>, to: Bound<Vec<u8>>) -> EngineRows {
        EngineRows {
            rows: self.tree.range((from, to)),
            log_path: self.log_path.clone(),
            ended: false,
        }
    }

    /// Applies all operations atomically; not yet durable.
    pub(crate) fn apply(&self, operations: Vec<Operation>) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for Operation { raw_key, framed } in operations {
            match framed {
                Some(value) => batch.insert(raw_key, value),
                None => batch.remove(raw_key),
            }
        }
        self.call("write", || self.tree.apply_batch(batch))
    }

    /// Makes all that was applied durable. sled itself only calls `sync_file_range` on Linux, which
    /// neither empties the disk's cache nor writes the file's size, so `fdatasync` follows. It is done
    /// on our own descriptor, which sees write errors that sled's background thread has swallowed.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        self.call("flush", || self.tree.flush())?;
        self.log
            .sync_data()
            .map_err(|e| StoreError::io("sync", &self.log_path, &e))
    }

    fn call<T>(
        &self,
        what: &'static str,
        call: impl FnOnce() -> sled::Result<T>,
    ) -> Result<T, StoreError> {
        match guarded(call) {
            Ok(result) => result.map_err(|e| translate(&self.log_path, what, e)),
            Err(panic) => Err(damaged(&self.log_path, panic)),
        }
    }
}

/// Rows of a range with their framed values. Ends after the first error.
pub(crate) struct EngineRows {
    rows: sled::Iter,
    log_path: PathBuf,
    ended: bool,
}

impl Iterator for EngineRows {
    type Item = Result<(sled::IVec, sled::IVec), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = match guarded(|| self.rows.next()) {
            Ok(None) => None,
            Ok(Some(row)) => Some(row.map_err(|e| translate(&self.log_path, "read", e))),
            Err(panic) => Some(Err(damaged(&self.log_path, panic))),
        };
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

/// Runs `call`; a panic inside becomes its message.
fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .map(|s| (*s).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned());
        format!("sled panicked: {}", text.unwrap_or_default())
    })
}

fn damaged(path: &Path, detail: String) -> StoreError {
    StoreError::Damaged {
        path: path.to_owned(),
        detail,
    }
}

/// The store's own lock is held, so whoever holds that of sled is a thread of sled that still works for a tree which this
/// process has just closed. It lets go in a moment.
fn open(config: &sled::Config) -> sled::Result<sled::Db> {
    let began = Instant::now();
    loop {
        match config.open() {
            Err(sled::Error::Io(e))
                if e.to_string().contains("could not acquire lock") && began.elapsed() < LET_GO =>
            {
                thread::sleep(Duration::from_millis(5));
            }
            opened => return opened,
        }
    }
}

fn translate(path: &Path, what: &'static str, error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(e)
            if matches!(
                e.kind(),
                std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidData
            ) =>
        {
            damaged(path, e.to_string())
        }
        sled::Error::Io(e) => StoreError::io(what, path, &e),
        sled::Error::Corruption { .. } | sled::Error::ReportableBug(_) => {
            damaged(path, error.to_string())
        }
        sled::Error::CollectionNotFound(_) | sled::Error::Unsupported(_) => StoreError::Io {
            what,
            path: path.to_owned(),
            detail: error.to_string(),
        },
    }
}
