//! This server among others: who is a member, what the quorum decides, and what the CLSet tells its peers.
//!
//! ```text
//! [owner] --outputs (bounded)--> [courier] --gossip, questions--> nexus-p2p <--> other servers
//!    ^                              |  ^ events (bounded)
//!    +---- jobs: messages, answers -+  +-- questions of the quorum --> nexus-quorum --jobs: decided--> [owner]
//! [owner] --proposals (bounded)--> [steward] --> nexus-quorum
//! [owner] --members--> [steward]: on the leader, voters and learners follow the members; nexus-p2p
//! ```

pub mod barrier;
pub mod courier;
pub mod disk;
mod machine;
pub mod membership;
mod network;
pub mod status;
pub mod steward;

pub use machine::OwnedState;
pub use network::PeerNetwork;

/// Versions of the messages between servers that this program speaks.
pub const PROTOCOL_VERSIONS: std::ops::RangeInclusive<u16> = 1..=1;

/// What questions between servers are about.
pub mod channel {
    /// Replicas of the CLSet.
    pub const CLSET: u8 = 1;
    /// The quorum.
    pub const QUORUM: u8 = 2;
    /// Joining the cluster.
    pub const JOIN: u8 = 3;
    /// What a replica has seen, for who is about to tell an OLT of shards that have moved.
    pub const SEEN: u8 = 4;
}
