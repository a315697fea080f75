//! What can go wrong, told apart by what the caller may conclude from it.

use std::path::PathBuf;

/// The state machine could not carry out a command or could not take or give a snapshot. Final for this node's quorum.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct MachineError(pub String);

/// A message to a peer brought no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// It certainly did not leave this node (not connected, refused by a full queue).
    #[error("not sent: {0}")]
    NotSent(String),
    /// It may have arrived.
    #[error("no answer: {0}")]
    NoAnswer(String),
}

impl From<String> for CallError {
    fn from(why: String) -> Self {
        Self::NoAnswer(why)
    }
}

/// The quorum could not be opened, or could not do what concerns this node alone.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QuorumError {
    /// A setting that cannot work.
    #[error("quorum settings: {0}")]
    Settings(String),
    /// The file could not be read or written.
    #[error("quorum file {path}: {why}; check the disk (space, permissions, health) and start again", path = path.display())]
    Io {
        /// The redb file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// Another process holds the file.
    #[error("quorum file {path} is in use by another process; stop it first", path = path.display())]
    InUse {
        /// The redb file.
        path: PathBuf,
    },
    /// The file does not hold what was written to it.
    #[error(
        "quorum file {path} is damaged: {what}; do not repair it or put back an old copy (a forgotten vote can split the \
         cluster): remove this node from the cluster, empty its data directory and let it join anew", path = path.display()
    )]
    Corrupt {
        /// The redb file.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// The file belongs to a node with another number.
    #[error(
        "quorum file {path} belongs to node {found}, this is node {expected}; give this node its own directory, or start \
         it with the number the file belongs to", path = path.display()
    )]
    OtherNode {
        /// The redb file.
        path: PathBuf,
        /// The number in the file.
        found: u32,
        /// The number of this node.
        expected: u32,
    },
    /// The file was written in a format this program does not know.
    #[error(
        "quorum file {path} has format {found}, this program knows format {known}; run the version that wrote it", path = path.display()
    )]
    OtherFormat {
        /// The redb file.
        path: PathBuf,
        /// The format in the file.
        found: u32,
        /// The format of this program.
        known: u32,
    },
    /// `found` on a node that already belongs to a cluster.
    #[error(
        "this node already belongs to a cluster; a new one can only be founded on a node that never did"
    )]
    AlreadyMember,
    /// Going on alone from the file of a node that has nothing to go on with.
    #[error("quorum file {path} belongs to a node that was never in a cluster; take that of a former voter", path = path.display())]
    NeverMember {
        /// The redb file.
        path: PathBuf,
    },
    /// The quorum of this node has stopped.
    #[error("the quorum of this node has stopped: {0}")]
    Stopped(String),
}

/// A command was not applied, or nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Certainly not done: no leader could be reached in time.
    #[error(
        "no leader could be reached in time: is a majority of the voters up and connected? (the command was not carried out)"
    )]
    NoLeader,
    /// Certainly not done: this node is not (or no longer) a member of a cluster.
    #[error("this node is not a member of a cluster (the command was not carried out)")]
    NotMember,
    /// Certainly not done: too many proposals of this node, or of the leader, are on their way.
    #[error(
        "too many proposals are on their way; try again later (the command was not carried out)"
    )]
    Full,
    /// Certainly not done: the command is larger than a log entry may be.
    #[error(
        "a command of {size} bytes is too large, the limit is {limit} (it was not carried out)"
    )]
    TooLarge {
        /// Bytes of the command.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Outcome unknown: it may have been carried out, may still be, or may never be.
    #[error("no answer in time: the command may or may not have been carried out")]
    Timeout,
    /// The quorum of this node has stopped; `certain` if the command was certainly not carried out.
    #[error("the quorum of this node has stopped: {why}")]
    Stopped {
        /// Why it stopped.
        why: String,
        /// Whether the command was certainly not carried out.
        certain: bool,
    },
}

impl ProposeError {
    /// Whether the command was certainly not carried out (and never will be).
    pub fn is_certain(&self) -> bool {
        match self {
            Self::NoLeader | Self::NotMember | Self::Full | Self::TooLarge { .. } => true,
            Self::Timeout => false,
            Self::Stopped { certain, .. } => *certain,
        }
    }
}

/// The membership was not changed, or nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum ChangeError {
    /// Certainly not done: no leader could be reached.
    #[error(
        "no leader could be reached: is a majority of the voters up and connected? (nothing was changed)"
    )]
    NoLeader,
    /// Certainly not done: another change is under way.
    #[error(
        "another change of the membership is under way; try again when it is done (nothing was changed)"
    )]
    Busy,
    /// Certainly not done: the node is not a member.
    #[error("node {0} is not a member; add it first (nothing was changed)")]
    NotMember(u32),
    /// Certainly not done: a learner that is too far behind would hold up every commit as a voter.
    #[error(
        "node {number} is {lag} log entries behind, at most {most} are allowed to become a voter; wait until it has caught up (nothing was changed)"
    )]
    Lagging {
        /// The learner.
        number: u32,
        /// Entries it has not got.
        lag: u64,
        /// Entries it may lack.
        most: u64,
    },
    /// Certainly not done: the learner has never taken anything from this leader.
    #[error(
        "node {0} has taken nothing from the leader yet, so it cannot become a voter; see that it runs, is connected and \
         belongs to no other cluster (nothing was changed)"
    )]
    Silent(u32),
    /// Certainly not done: too few of the voters that would be left answer, so that nothing could be agreed on any more.
    #[error(
        "of the voters {voters:?} that there would be, {silent:?} do not answer, and the rest is no majority; bring them \
         back first, or remove one of those that are gone (nothing was changed)"
    )]
    NoMajority {
        /// The voters after the change.
        voters: Vec<u32>,
        /// Those of them that do not answer.
        silent: Vec<u32>,
    },
    /// Certainly not done: the cluster would have no voter left.
    #[error("node {0} is the last voter; promote another one first (nothing was changed)")]
    LastVoter(u32),
    /// Certainly not done: too many members.
    #[error(
        "the cluster has {0} members, that is the limit; remove one first (nothing was changed)"
    )]
    TooMany(usize),
    /// Certainly not done: leadership could not be handed to another voter, so that the leader could not leave.
    #[error(
        "no other voter took over the leadership, so the leader cannot leave now; try again when the other voters are connected (nothing was changed)"
    )]
    NoSuccessor,
    /// Outcome unknown: look at the members, and ask for the same change again (that is harmless).
    #[error(
        "no answer in time: the change may still happen; look at the members, and ask for the same change again"
    )]
    Timeout,
    /// The quorum of this node has stopped.
    #[error("the quorum of this node has stopped: {0}")]
    Stopped(String),
}
