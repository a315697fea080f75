//! The types that openraft is instantiated with.

use std::fmt;

use serde::{Deserialize, Serialize};

openraft::declare_raft_types!(
    /// The quorum's instance of openraft.
    pub Types:
        D = Batch,
        R = Outcome,
        NodeId = u32,
        Node = openraft::EmptyNode,
        Entry = openraft::Entry<Types>,
        SnapshotData = Image,
);

pub type Raft = openraft::Raft<Types>;
pub type RaftEntry = openraft::Entry<Types>;
pub type LogId = openraft::LogId<u32>;
pub type Vote = openraft::Vote<u32>;
pub type Membership = openraft::Membership<u32, openraft::EmptyNode>;
pub type StoredMembership = openraft::StoredMembership<u32, openraft::EmptyNode>;
pub type SnapshotMeta = openraft::SnapshotMeta<u32, openraft::EmptyNode>;
pub type Metrics = openraft::RaftMetrics<u32, openraft::EmptyNode>;
pub type StorageError = openraft::StorageError<u32>;

/// Commands that the leader accepted together and stamped with one time.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The term in which they were stamped. In a log entry of another term they count for nothing: they were stamped by
    /// a leader that lost its office before they reached the log.
    pub term: u64,
    /// The node that stamped them.
    pub leader: u32,
    /// Nanoseconds of cluster time.
    pub at: u64,
    /// The commands, in order.
    pub commands: Vec<Command>,
}

/// A command and who proposed it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    pub id: ProposalId,
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// Names a proposal, however often it is sent, so that it is applied at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProposalId {
    /// The node that proposed it.
    pub origin: u32,
    /// Which start of that node, counted in its file.
    pub boot: u64,
    /// Which proposal of that start.
    pub seq: u64,
    /// Proposals of that start below this are done with: none of them may be applied any more.
    pub floor: u64,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Batch {{ T{}-N{}, at {}, {} commands }}",
            self.term,
            self.leader,
            self.at,
            self.commands.len()
        )
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({} bytes)", self.id, self.bytes.len())
    }
}

/// What openraft is told about an applied entry; the answers themselves go to the proposer by another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// No commands in it.
    Nothing,
    /// The commands counted.
    Counted,
    /// The commands did not count: stamped in another term.
    Void,
}

/// A snapshot as bytes.
#[derive(Clone, Debug, Default)]
pub struct Image(pub Vec<u8>);
