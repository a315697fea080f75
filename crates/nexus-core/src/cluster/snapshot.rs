//! The whole state as bytes, exactly: whoever goes on from a snapshot does what the others do.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::codec::{self, CodecError};
use super::{ClusterState, Members};
use crate::shard_table::{Image, RestoreError, ShardTable};

/// Format of snapshots that this program reads and writes.
const FORMAT: u8 = 1;
/// Largest snapshot, in bytes.
pub const MAX_SNAPSHOT_BYTES: usize = 256 << 20;

/// Why bytes are no snapshot, or the state cannot become one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// The bytes cannot be read.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The shard table does not hold together.
    #[error(transparent)]
    Table(#[from] RestoreError),
    /// The list of members does not hold together.
    #[error("a snapshot has a list of members that cannot be: {0}")]
    Members(String),
}

#[derive(Serialize, Deserialize)]
struct Whole<T, M> {
    table: T,
    members: M,
}

impl ClusterState {
    /// The state as bytes; equal states give equal bytes.
    ///
    /// # Errors
    /// If it takes more than [`MAX_SNAPSHOT_BYTES`].
    pub fn snapshot(&self) -> Result<Vec<u8>, SnapshotError> {
        let whole = Whole {
            table: self.table.image(),
            members: &self.members,
        };
        Ok(codec::write(
            "a snapshot",
            FORMAT,
            MAX_SNAPSHOT_BYTES,
            &whole,
        )?)
    }

    /// The state out of a [snapshot](Self::snapshot).
    ///
    /// # Errors
    /// What is wrong with the bytes: take a snapshot of another node.
    pub fn restore(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let whole: Whole<Image, Members> =
            codec::read("a snapshot", FORMAT, MAX_SNAPSHOT_BYTES, bytes)?;
        if let Some(flaw) = whole.members.flaw() {
            return Err(SnapshotError::Members(flaw));
        }
        Ok(Self {
            table: ShardTable::from_image(whole.table)?,
            members: whole.members,
        })
    }
}
