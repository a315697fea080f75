//! The JSON of the cluster.

use nexus_clset::NodeId;
use nexus_core::cluster::Member;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::cluster::status::ClusterStatus;

/// Who shall be admitted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberAdmission {
    /// Name of a server that waits.
    #[schema(example = "nexus-2")]
    pub name: String,
}

/// The cluster as one server sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClusterView {
    /// This server.
    node: String,
    number: u32,
    /// core, write or read.
    role: String,
    /// pending, joining, active or evicted; nothing if it is on no list of members.
    state: Option<String>,
    /// Leader of the quorum, if there is one.
    leader: Option<String>,
    term: u64,
    /// Whether all members can be reached from here, and hold the same entries as this server.
    converged: bool,
    /// What keeps it from that, in words.
    why_not: Vec<String>,
    /// `taken`, or why no writes are taken.
    writes: String,
    /// Seconds for which no shard changes hands, because the cluster goes on from less than all that was decided;
    /// nothing if they do.
    moves_frozen_seconds: Option<u64>,
    root: RootView,
    members: Vec<MemberView>,
    /// How the fetching of all entries goes on, while it does.
    bootstrap: Option<BootstrapView>,
    clock: ClockView,
    /// Deleted entries that are kept until all members know of it.
    tombstones: u64,
    quorum: QuorumView,
}

/// Count of all entries and sum of their hashes; equal on servers that hold the same.
#[derive(Debug, Serialize, ToSchema)]
pub struct RootView {
    count: u64,
    /// 32 hexadecimal digits.
    sum: String,
}

/// How a server fetches all entries.
#[derive(Debug, Serialize, ToSchema)]
pub struct BootstrapView {
    /// Entries that are here.
    entries: u64,
    /// Entries that there are.
    expected: u64,
    /// Bytes that have come.
    bytes: u64,
    /// From which server.
    from: Option<String>,
}

/// The wall clock of this server.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClockView {
    /// Milliseconds ahead of the others; nothing if none has spoken.
    off_ms: Option<i64>,
    /// Whether it is right enough to write.
    ok: bool,
}

/// The quorum as this server sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct QuorumView {
    last_index: Option<u64>,
    committed: Option<u64>,
    applied: Option<u64>,
    /// Numbers of the servers that decide.
    voters: Vec<u32>,
    /// Numbers of those that follow.
    learners: Vec<u32>,
}

/// A member of the cluster as one server sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct MemberView {
    name: String,
    number: u32,
    role: String,
    state: String,
    votes: bool,
    leader: bool,
    /// Whether this is the server that answers.
    #[serde(rename = "self")]
    is_self: bool,
    peer_id: String,
    addresses: Vec<String>,
    http: String,
    grpc: String,
    connected: bool,
    rtt_ms: Option<f64>,
    /// Version of the protocol that both speak.
    version: Option<u16>,
    /// Entries of the server that answers which this member lacks.
    behind_entries: Option<u64>,
    behind_seconds: Option<f64>,
    /// Entries of this member which the server that answers lacks.
    ahead_entries: Option<u64>,
    /// Whether both hold the same, by their roots; nothing if they were not compared yet.
    in_sync: Option<bool>,
}

/// A server that was a member.
#[derive(Debug, Serialize, ToSchema)]
pub struct RemovedView {
    name: String,
    number: u32,
}

/// All members.
#[derive(Debug, Serialize, ToSchema)]
pub struct MemberList {
    members: Vec<MemberView>,
    removed: Vec<RemovedView>,
}

impl MemberView {
    /// One member in a picture.
    #[must_use]
    pub fn of(status: &ClusterStatus, member: &Member) -> Self {
        let node = &member.node;
        let connection = status.peers.get(&node.number);
        let replica = status.replica.peers.get(&NodeId(node.number));
        let seconds = |time: std::time::Duration| time.as_secs_f64();
        Self {
            name: node.name.to_string(),
            number: node.number,
            role: node.role.to_string(),
            state: member.state.to_string(),
            votes: status.quorum.voters.contains(&node.number),
            leader: status.quorum.leader == Some(node.number),
            is_self: node.number == status.number,
            peer_id: node.peer_id.clone(),
            addresses: node.addresses.clone(),
            http: node.http.clone(),
            grpc: node.grpc.clone(),
            connected: connection.is_some(),
            rtt_ms: connection
                .and_then(|c| c.rtt)
                .map(|rtt| seconds(rtt) * 1000.0),
            version: connection.map(|c| c.version),
            behind_entries: replica.map(|peer| peer.behind),
            behind_seconds: replica.and_then(|peer| peer.behind_for).map(seconds),
            ahead_entries: replica.map(|peer| peer.ahead),
            in_sync: replica
                .filter(|peer| peer.compared.is_some() || peer.behind > 0 || peer.ahead > 0)
                .map(|peer| peer.in_sync),
        }
    }

    fn all(status: &ClusterStatus) -> Vec<Self> {
        let members = status.members.iter();
        members.map(|member| Self::of(status, member)).collect()
    }
}

impl From<&ClusterStatus> for MemberList {
    fn from(status: &ClusterStatus) -> Self {
        let removed = status.removed.iter().map(|removed| RemovedView {
            name: removed.name.to_string(),
            number: removed.number,
        });
        Self {
            members: MemberView::all(status),
            removed: removed.collect(),
        }
    }
}

impl From<&ClusterStatus> for ClusterView {
    fn from(status: &ClusterStatus) -> Self {
        let why_not = status.why_not_converged();
        let quorum = &status.quorum;
        let replica = &status.replica;
        Self {
            node: status.node.clone(),
            number: status.number,
            role: status.role.to_string(),
            state: status.this().map(|member| member.state.to_string()),
            leader: quorum.leader.and_then(|leader| status.name(leader)),
            term: quorum.term,
            converged: why_not.is_empty(),
            why_not,
            writes: status.refuses.clone().unwrap_or_else(|| "taken".to_owned()),
            moves_frozen_seconds: status.recovering.map(|left| left.as_secs()),
            root: RootView {
                count: replica.entries,
                sum: format!("{:032x}", replica.root),
            },
            members: MemberView::all(status),
            bootstrap: replica.bootstrap.map(|bootstrap| BootstrapView {
                entries: bootstrap.entries,
                expected: bootstrap.entries_expected,
                bytes: bootstrap.bytes,
                from: bootstrap.source.and_then(|node| status.name(node.0)),
            }),
            clock: ClockView {
                off_ms: replica.clock.ahead_millis,
                ok: replica.clock.writes_refused.is_none(),
            },
            tombstones: replica.tombstones,
            quorum: QuorumView {
                last_index: quorum.last_index,
                committed: quorum.committed,
                applied: quorum.applied,
                voters: quorum.voters.iter().copied().collect(),
                learners: quorum.learners.iter().copied().collect(),
            },
        }
    }
}
