//! The two things a caller supplies: the state machine that commands change, and the way to the other nodes.

use std::time::Duration;

use crate::error::{CallError, MachineError};

/// A boxed future that may be sent between threads.
pub type BoxFuture<T> = futures::future::BoxFuture<'static, T>;

/// The cluster's own time, in nanoseconds since the cluster was founded.
///
/// The leader stamps each command with it. It never goes backwards along the log, never runs faster than the clocks of
/// the leaders, and stands still while there is no leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterTime(u64);

impl ClusterTime {
    /// The time `nanos` nanoseconds after the cluster was founded.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the cluster was founded, less the time without a leader.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// One command, at its place in the order that all nodes share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The place in the log. Commands that the leader wrote together share it: to tell commands apart, take `ordinal`.
    pub index: u64,
    /// The how-manyth command this is: 1, 2, 3, ... without gaps, the same on all nodes, kept over snapshots.
    pub ordinal: u64,
    /// When the leader accepted it. Never smaller than the stamp of the command before.
    pub at: ClusterTime,
    /// What was proposed.
    pub command: Vec<u8>,
}

/// What the commands change: one copy on each node, all of them equal.
///
/// `apply` must depend on nothing but the commands (no clock, no randomness, no order of a hash map), or the copies part.
/// The three calls never overlap. An error is final: this node's quorum stops with it, because a copy that left out a
/// command is no copy. After a restart the machine begins empty (or wherever its caller starts it), gets the last
/// snapshot by `install` if there is one, and then each command after it once.
///
/// `install` and `apply` are already called while [`Quorum::open`](crate::Quorum::open) runs: whoever serves the machine
/// must be running by then. After a crash the last commands may come a moment later, when there is a leader again.
pub trait Machine: Send + Sync + 'static {
    /// Carry out commands in order; one answer for each. Never empty, at most 1024 commands at a time.
    fn apply(&self, entries: Vec<Entry>) -> BoxFuture<Result<Vec<Vec<u8>>, MachineError>>;

    /// The whole state as bytes, such that `install` of them makes an equal machine. At most 256 MiB.
    fn snapshot(&self) -> BoxFuture<Result<Vec<u8>, MachineError>>;

    /// Become what `snapshot` gave on this or another node; what was before is gone.
    fn install(&self, snapshot: Vec<u8>) -> BoxFuture<Result<(), MachineError>>;
}

/// The way to the other nodes: authenticated (whoever answers as `to` is `to`), but it may lose, delay, repeat and reorder.
pub trait Network: Send + Sync + 'static {
    /// Bring `message` (below 4 MiB) to node `to`, whose [`Quorum::answer`](crate::Quorum::answer) makes the reply.
    /// Give up after `patience`.
    fn call(
        &self,
        to: u32,
        message: Vec<u8>,
        patience: Duration,
    ) -> BoxFuture<Result<Vec<u8>, CallError>>;
}
