//! What the replicated map refuses, and why.

use crate::entry::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::replica::MAX_WRITES;
use crate::version::{Fence, NodeId, Origin};

/// Bytes that are no entry, row or message of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what} at byte {at}: {detail}")]
pub struct Malformed {
    /// What was to be read.
    pub what: &'static str,
    /// How far it could be read.
    pub at: usize,
    /// What does not fit.
    pub detail: String,
}

/// Why an operation on a replica failed; `E` is the error of its [`Rows`](crate::Rows).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error<E: std::error::Error> {
    /// The rows could not be read.
    #[error("cannot read the rows of the map: {0}")]
    Rows(E),
    /// A row or a message is not what it should be.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The rows belong to another node.
    #[error(
        "these rows belong to node {}, this is node {}: each node needs a store of its own",
        stored.0, given.0
    )]
    OtherNode {
        /// Whose rows they are.
        stored: NodeId,
        /// Who opened them.
        given: NodeId,
    },
    /// A replica that is being wiped.
    #[error(
        "these rows are half wiped: go on wiping them until nothing is left, then open the replica again"
    )]
    HalfWiped,
    /// A key without bytes, or with too many.
    #[error("a key of {bytes} bytes is refused: keys have 1 to {MAX_KEY_BYTES}")]
    KeyLength {
        /// Its length.
        bytes: usize,
    },
    /// A value with too many bytes.
    #[error("a value of {bytes} bytes is too long: at most {MAX_VALUE_BYTES}")]
    ValueTooLong {
        /// Its length.
        bytes: usize,
    },
    /// More writes than fit one atomic batch.
    #[error("{writes} writes at once are too many: at most {MAX_WRITES}, split them")]
    TooManyWrites {
        /// How many.
        writes: usize,
    },
    /// One key twice in one set of writes.
    #[error("key {} stands twice in one set of writes", key.escape_ascii())]
    KeyTwice {
        /// The key.
        key: Vec<u8>,
    },
    /// The key was written under a newer fence.
    #[error(
        "key {} was written under {current}, a write under {given} is refused: its writer has lost the shard, or the command was overtaken by a newer one",
        key.escape_ascii()
    )]
    OlderFence {
        /// The key.
        key: Vec<u8>,
        /// Fence of the entry that stands.
        current: Fence,
        /// Fence of the write.
        given: Fence,
    },
    /// The others have collected tombstones that this replica never saw.
    #[error(
        "this replica was away for too long: tombstones of {origin} up to {collected} are collected, it has seen {seen}; wipe its store and let it start over from its peers"
    )]
    LeftBehind {
        /// Whose tombstones.
        origin: Origin,
        /// Up to which write they are gone.
        collected: u64,
        /// Up to which write this replica has seen.
        seen: u64,
    },
    /// The others have forgotten this very writer, because they took it for gone.
    #[error(
        "origin {origin} was removed from the cluster while it was away; wipe the store of this replica and let it start over from its peers"
    )]
    Forgotten {
        /// This replica's origin.
        origin: Origin,
    },
    /// Somebody has writes of this very origin that this replica did not make.
    #[error(
        "origin {origin} is in use elsewhere (write {theirs}, ours end at {ours}): two replicas have the same node id, or a store was copied; stop one, give it another id and an empty store"
    )]
    OriginInUse {
        /// This replica's origin.
        origin: Origin,
        /// Write that a peer knows of.
        theirs: u64,
        /// Last write that was made here.
        ours: u64,
    },
}
