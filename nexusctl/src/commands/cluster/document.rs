//! What the API says about the cluster, as far as people are shown it.

use serde::Deserialize;

/// `GET /api/v1/cluster`, seen from one server.
#[derive(Debug, Deserialize)]
pub struct Document {
    /// Name of the server that was asked.
    pub node: String,
    /// `core`, `write` or `read`.
    pub role: String,
    /// `pending`, `joining`, `active`, `evicted`; nothing if it is on no list that it knows.
    pub state: Option<String>,
    /// Name of the leader, if there is one.
    pub leader: Option<String>,
    /// Term of the quorum.
    pub term: u64,
    /// Whether all members have the same record.
    pub converged: bool,
    /// If not, why.
    #[serde(default)]
    pub why_not: Vec<String>,
    /// `taken`, or why writes are not taken by this server.
    pub writes: String,
    /// Seconds for which no shard changes hands.
    #[serde(default)]
    pub moves_frozen_seconds: Option<u64>,
    /// Its record.
    pub root: Root,
    /// All servers that it knows.
    #[serde(default)]
    pub members: Vec<Member>,
    /// How far it is with fetching the record, while it does.
    pub bootstrap: Option<Bootstrap>,
    /// Its clock.
    pub clock: Clock,
    /// Deleted entries that are still remembered.
    pub tombstones: u64,
    /// Its log.
    pub quorum: Quorum,
}

/// A record, by what is compared.
#[derive(Debug, Deserialize)]
pub struct Root {
    /// Entries, deleted ones that are still remembered with them.
    pub count: u64,
    /// Sum of their hashes.
    pub sum: String,
}

/// A record that is being fetched.
#[derive(Debug, Deserialize)]
pub struct Bootstrap {
    /// Entries that are there.
    pub entries: u64,
    /// Entries that the other server has.
    pub expected: u64,
    /// Bytes that were received.
    pub bytes: u64,
    /// Name of the other server.
    pub from: Option<String>,
}

/// A clock, compared with those of the other servers.
#[derive(Debug, Deserialize)]
pub struct Clock {
    /// How far it is ahead of them, in milliseconds; nothing if none was heard.
    pub off_ms: Option<f64>,
    /// Whether that is little enough for writes.
    pub ok: bool,
}

/// The log that exclusive facts are decided by.
#[derive(Debug, Deserialize)]
pub struct Quorum {
    /// Newest entry that a majority has, as far as this server knows one.
    pub committed: Option<u64>,
    /// Newest entry that this server has carried out.
    pub applied: Option<u64>,
}

/// `GET /api/v1/cluster/members`.
#[derive(Debug, Deserialize)]
pub struct Members {
    /// All servers that belong to the cluster or wait.
    pub members: Vec<Member>,
    /// Those that belonged to it.
    #[serde(default)]
    pub removed: Vec<Removed>,
}

/// A server that may not come back.
#[derive(Debug, Deserialize)]
pub struct Removed {
    /// Name that it had.
    pub name: String,
    /// Its number.
    pub number: u32,
}

/// One server, as the one that was asked sees it.
#[derive(Debug, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its number.
    pub number: u32,
    /// `core`, `write` or `read`.
    pub role: String,
    /// `pending`, `joining`, `active` or `evicted`.
    pub state: String,
    /// Whether it has a vote.
    pub votes: bool,
    /// Whether it leads.
    pub leader: bool,
    /// Whether it is the one that was asked.
    #[serde(rename = "self")]
    pub is_self: bool,
    /// URL of its REST API.
    #[serde(default)]
    pub http: String,
    /// Whether it is connected.
    pub connected: bool,
    /// Round trip to it, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Protocol version that is spoken with it.
    pub version: Option<u64>,
    /// Entries that it lacks.
    pub behind_entries: Option<u64>,
    /// For how long it lacks some, in seconds.
    pub behind_seconds: Option<f64>,
    /// Entries that it has and the one that was asked lacks.
    pub ahead_entries: Option<u64>,
    /// Whether both records are equal.
    pub in_sync: Option<bool>,
}

impl Document {
    /// Whether the server that was asked belongs to a cluster.
    pub fn belongs(&self) -> bool {
        matches!(self.state.as_deref(), Some("joining" | "active"))
    }

    /// Members that have a vote.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.votes)
    }
}

impl Member {
    /// Whether it is there, as far as the server that was asked can tell.
    pub fn is_there(&self) -> bool {
        self.is_self || self.connected
    }
}
