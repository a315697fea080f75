//! Why a command of the cluster's log is refused.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::member::MemberState;
use crate::id::NodeName;
use crate::shard_table;

/// Why a command is refused. A refused command has changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum Refusal {
    /// By the shard table.
    #[error(transparent)]
    Table(#[from] shard_table::Refusal),
    /// By the list of members.
    #[error(transparent)]
    Member(#[from] MemberRefusal),
    /// It is no command of this version, on any node.
    #[error("the command cannot be read: {0}")]
    Unreadable(String),
}

/// Why a command about members is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum MemberRefusal {
    /// The cluster has members already.
    #[error("this cluster was founded by {founder}: let the node join it instead")]
    Founded {
        /// Name of one of its members.
        founder: NodeName,
    },
    /// No member has that name.
    #[error("no member is called {0}: `nexusctl cluster members` lists them")]
    UnknownName(NodeName),
    /// No member has that number.
    #[error("no member has number {0}: let the node join first")]
    UnknownNumber(u32),
    /// Another node of that name is a member.
    #[error(
        "a node called {name} is a member already, under number {number} ({state}): give this node another name; or, if that one is gone for good, remove it with `nexusctl cluster remove {name}`"
    )]
    NameInUse {
        /// The name.
        name: NodeName,
        /// Number of the member.
        number: u32,
        /// Where it stands.
        state: MemberState,
    },
    /// The number belongs to another node.
    #[error(
        "number {number} belongs to member {holder}: two nodes have copies of one store; stop one of them, empty its data directory and let it join anew"
    )]
    NumberInUse {
        /// The number.
        number: u32,
        /// Name of the member that has it.
        holder: NodeName,
    },
    /// The key belongs to another node.
    #[error(
        "peer id {peer_id} belongs to member {holder}: two nodes have copies of one key file; remove the key file of the node that shall join"
    )]
    PeerInUse {
        /// The peer id.
        peer_id: String,
        /// Name of the member that has it.
        holder: NodeName,
    },
    /// The member has another key than before.
    #[error(
        "member {name} was admitted with peer id {known}, not {given}: restore its key file; or remove it, empty its data directory and let it join anew"
    )]
    OtherKey {
        /// The member.
        name: NodeName,
        /// Peer id that it has.
        known: String,
        /// Peer id that was given.
        given: String,
    },
    /// The node was removed.
    #[error(
        "node {name} was removed from this cluster: empty its data directory, with its key, and let it join anew"
    )]
    Removed {
        /// Name that it had.
        name: NodeName,
    },
    /// Nobody would be left who can decide.
    #[error(
        "{name} is the last active member that takes writes: let another core or write node join first, and wait until it is active"
    )]
    LastWriter {
        /// The member.
        name: NodeName,
    },
    /// Only read nodes are evicted.
    #[error(
        "{name} takes writes and cannot be evicted: bring it back, or remove it with `nexusctl cluster remove {name}`"
    )]
    NotEvictable {
        /// The member.
        name: NodeName,
    },
    /// The command does not go with where the member stands.
    #[error("member {name} is {state}: {remedy}")]
    WrongState {
        /// The member.
        name: NodeName,
        /// Where it stands.
        state: MemberState,
        /// What to do.
        remedy: Cow<'static, str>,
    },
    /// A text is missing, too long or not printable.
    #[error("{field} of node {name} is `{value}`: {problem}")]
    Text {
        /// The node.
        name: NodeName,
        /// Field.
        field: Cow<'static, str>,
        /// What was given, shortened and escaped.
        value: String,
        /// What is wrong.
        problem: Cow<'static, str>,
    },
    /// A bound is reached.
    #[error("{what} is at its bound of {bound}: remove one first")]
    Full {
        /// What is full.
        what: Cow<'static, str>,
        /// The bound.
        bound: usize,
    },
}
