//! A member of the cluster, and the commands about members.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::id::NodeName;
use crate::time::ClusterTime;

/// Part that a node plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Full participant: takes writes, votes.
    Core,
    /// Takes writes, votes.
    Write,
    /// Serves reads and watches.
    Read,
}

impl Role {
    /// Name as it stands in configuration, API and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Write => "write",
            Self::Read => "read",
        }
    }

    /// Whether nodes of this role take writes, and so decide about exclusive facts.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(self, Self::Core | Self::Write)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no [`Role`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is no role of a node: choose core, write or read")]
pub struct UnknownRole(String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        [Self::Core, Self::Write, Self::Read]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| UnknownRole(text.escape_default().to_string()))
    }
}

/// Where a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// Has asked to join; an operator has to admit it.
    Pending,
    /// Admitted; fetches what the others have.
    Joining,
    /// Has caught up.
    Active,
    /// Was away too long: it must wipe what it has and fetch it anew when it returns.
    Evicted,
}

impl MemberState {
    /// Name as it stands in the API and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Joining => "joining",
            Self::Active => "active",
            Self::Evicted => "evicted",
        }
    }
}

impl fmt::Display for MemberState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// Its number, drawn once for the life of its store.
    pub number: u32,
    /// Its name.
    pub name: NodeName,
    /// Part that it plays.
    pub role: Role,
    /// Its libp2p peer id: the hash of its public key.
    pub peer_id: String,
    /// Where other nodes reach it, as multiaddresses; at most [`MAX_ADDRESSES`](super::MAX_ADDRESSES).
    pub addresses: Vec<String>,
    /// Where clients reach its REST API, `host:port` or a URL; may be empty.
    pub http: String,
    /// Where OLTs reach its gRPC API, `host:port` or a URL; may be empty.
    pub grpc: String,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// What it last said of itself.
    pub node: Introduction,
    /// Where it stands.
    pub state: MemberState,
    /// Revision of the list at which it was let in last; 0 if it was not yet. A node that finds another
    /// number here than before was out in between, and must fetch everything anew.
    pub admitted: u64,
    /// Since when it stands there.
    pub since: ClusterTime,
    /// Why it was evicted; empty if it was not.
    pub reason: String,
}

impl Member {
    /// Whether tombstones wait for it.
    #[must_use]
    pub fn holds_tombstones(&self) -> bool {
        matches!(self.state, MemberState::Joining | MemberState::Active)
    }

    /// Whether it decides about exclusive facts.
    #[must_use]
    pub fn votes(&self) -> bool {
        self.state == MemberState::Active && self.node.role.writes()
    }
}

/// A node that was a member. Its number and its key are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedMember {
    /// Its number.
    pub number: u32,
    /// The name that it had; another node may have it now.
    pub name: NodeName,
    /// Its peer id; `None` if the node that replaced it has the same key.
    pub peer_id: Option<String>,
    /// When it was removed.
    pub since: ClusterTime,
}

/// A command about members. Each may come twice: the second one changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberCommand {
    /// The first member of a new cluster, which has all there is.
    Found(Introduction),
    /// A node asks to be let in, or comes back after a restart with other addresses. One that was evicted
    /// is let in again at once.
    Join {
        /// What it says of itself.
        node: Introduction,
        /// Whether it needs no operator.
        admit: bool,
        /// Whether it takes the place of another node of this name, which is removed. **For nodes that
        /// are gone for good.**
        replace: bool,
    },
    /// An operator lets a node in.
    Admit {
        /// Its name.
        name: NodeName,
    },
    /// A node has fetched all that there was when it was admitted.
    CaughtUp {
        /// Its number.
        number: u32,
    },
    /// A member has other addresses or another role.
    Update(Introduction),
    /// A read node was away too long: tombstones do not wait for it any more.
    Evict {
        /// Its number.
        number: u32,
        /// Why, for people.
        reason: String,
    },
    /// A node is no member any more and cannot come back.
    Remove {
        /// Its name.
        name: NodeName,
    },
}
