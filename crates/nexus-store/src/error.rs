//! What can go wrong in a store, said so that a person knows what to do.

use std::io;
use std::path::{Path, PathBuf};

use crate::batch::{MAX_BATCH_BYTES, MAX_BATCH_OPERATIONS};
use crate::commit::MAX_COMMIT_BATCHES;
use crate::row::{Kind, MAX_KEY_BYTES, MAX_VALUE_BYTES};

/// Why a store could not be opened, read or written. Cheap to clone: one failed flush answers many commits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The path, or a part of it, is a file.
    #[error("store path {path} is not a directory: name a directory, or move the file away")]
    NotADirectory {
        /// Where the store should be.
        path: PathBuf,
    },
    /// Another process has the store open.
    #[error(
        "store {path} is locked by {}: stop that process, or give this one another path",
        holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Locked {
        /// Where the store is.
        path: PathBuf,
        /// Process id that the holder wrote down, if it could be read.
        holder: Option<u32>,
    },
    /// The user of this process may not read or write there.
    #[error(
        "no permission to {what} {path}: run as the user that owns it, or change its owner or mode"
    )]
    Permission {
        /// What was tried.
        what: &'static str,
        /// On which file or directory.
        path: PathBuf,
    },
    /// The directory holds something, but no store.
    #[error(
        "{path} is not empty and holds no nexus store (found {found:?}): name an empty directory or a new one"
    )]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// One of the names found there.
        found: String,
    },
    /// Written by a version that lays out its rows differently.
    #[error(
        "store {path} has format {found:?}, this program reads {ours:?}: use the version of nexus that wrote it, or move the store away"
    )]
    OtherFormat {
        /// Where the store is.
        path: PathBuf,
        /// What its format file says.
        found: String,
        /// What it should say.
        ours: &'static str,
    },
    /// The store cannot be trusted any more as a whole.
    #[error(
        "store {path} is damaged ({detail}): move it away and restore a backup, or start empty"
    )]
    Damaged {
        /// Where the store is.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// A damaged store could not be moved out of the way.
    #[error(
        "damaged store {path} could not be moved aside to {to}: {detail}; move it by hand (a store must not be a mount point itself, but a directory below it)"
    )]
    CannotMoveAside {
        /// Where the store is.
        path: PathBuf,
        /// Where it should have gone.
        to: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// One row does not match its checksum.
    #[error("row {kind}/{} is corrupt: {detail}", show_key(key))]
    Corrupt {
        /// Kind of the row.
        kind: Kind,
        /// Key of the row, without its kind.
        key: Vec<u8>,
        /// What does not fit.
        detail: String,
    },
    /// The system refused a file operation.
    #[error("cannot {what} {path}: {detail}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// A batch has too many operations for one atomic write.
    #[error(
        "a batch of {operations} operations is too large: at most {MAX_BATCH_OPERATIONS}, split it"
    )]
    TooManyOperations {
        /// Operations in the batch.
        operations: usize,
    },
    /// A batch has too many bytes for one atomic write.
    #[error("a batch of {bytes} bytes is too large: at most {MAX_BATCH_BYTES}, split it")]
    TooManyBytes {
        /// Bytes of keys and values in the batch.
        bytes: usize,
    },
    /// A commit has too many batches.
    #[error("a commit of {batches} batches is too large: at most {MAX_COMMIT_BATCHES}, split it")]
    TooManyBatches {
        /// Batches in the commit.
        batches: usize,
    },
    /// A key is too long.
    #[error("a key of {bytes} bytes is too long: at most {MAX_KEY_BYTES}")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A value is too long.
    #[error("a value of {bytes} bytes is too long: at most {MAX_VALUE_BYTES}")]
    ValueTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A kind that belongs to the store itself.
    #[error("row kind {0} is reserved for the store itself: use another one")]
    ReservedKind(Kind),
    /// The queue of commits is full and the caller did not want to wait.
    #[error("{waiting} commits are waiting for the disk already: try again later")]
    Busy {
        /// Length of the queue.
        waiting: usize,
    },
    /// An earlier write or flush failed; what it covered may be lost.
    #[error(
        "store {path} takes no more work since this failure: {first}; mend the cause and restart the process"
    )]
    Poisoned {
        /// Where the store is.
        path: PathBuf,
        /// The first failure.
        first: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// What the system said of one file operation.
    pub(crate) fn io(what: &'static str, path: &Path, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Permission {
                    what,
                    path: path.to_owned(),
                }
            }
            io::ErrorKind::NotADirectory => Self::NotADirectory {
                path: path.to_owned(),
            },
            _ => Self::Io {
                what,
                path: path.to_owned(),
                detail: error.to_string(),
            },
        }
    }
}

/// Keys are often text; what is not is shown escaped.
fn show_key(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}
