//! The shapes in which log entries, votes and memberships are written to the file and sent to peers: our own, so that
//! neither changes when openraft changes its types, and checked on the way back, so that openraft only sees what fits.

use std::collections::BTreeSet;

use openraft::{CommittedLeaderId, EntryPayload, RaftLogId as _};
use serde::{Deserialize, Serialize};

use crate::codec::CodecError;
use crate::config::MAX_MEMBERS;
use crate::types::{Batch, LogId, Membership, RaftEntry, StoredMembership, Vote};

/// A place in the log: term and node of the leader that wrote it, index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogIdRow {
    pub term: u64,
    pub node: u32,
    pub index: u64,
}

impl From<LogId> for LogIdRow {
    fn from(id: LogId) -> Self {
        Self {
            term: id.leader_id.term,
            node: id.leader_id.node_id,
            index: id.index,
        }
    }
}

impl From<LogIdRow> for LogId {
    fn from(row: LogIdRow) -> Self {
        Self::new(CommittedLeaderId::new(row.term, row.node), row.index)
    }
}

/// Whom a node votes for, and whether that one won.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteRow {
    pub term: u64,
    pub node: u32,
    pub won: bool,
}

impl From<Vote> for VoteRow {
    fn from(vote: Vote) -> Self {
        Self {
            term: vote.leader_id.term,
            node: vote.leader_id.node_id,
            won: vote.committed,
        }
    }
}

impl From<VoteRow> for Vote {
    fn from(row: VoteRow) -> Self {
        if row.won {
            Self::new_committed(row.term, row.node)
        } else {
            Self::new(row.term, row.node)
        }
    }
}

/// Voters (two sets while they change) and all members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipRow {
    pub voters: Vec<BTreeSet<u32>>,
    pub members: BTreeSet<u32>,
}

impl From<&Membership> for MembershipRow {
    fn from(membership: &Membership) -> Self {
        Self {
            voters: membership.get_joint_config().clone(),
            members: membership.nodes().map(|(number, _)| *number).collect(),
        }
    }
}

impl TryFrom<MembershipRow> for Membership {
    type Error = CodecError;

    fn try_from(row: MembershipRow) -> Result<Self, CodecError> {
        let bad = |what: &str| Err(CodecError::Malformed(format!("membership {what}")));
        if row.voters.len() > 2 {
            return bad("with more than two sets of voters");
        }
        if row.members.len() > 2 * MAX_MEMBERS {
            return bad("that is too large");
        }
        if row.voters.iter().any(BTreeSet::is_empty) {
            return bad("without voters");
        }
        if row
            .voters
            .iter()
            .any(|voters| !voters.is_subset(&row.members))
        {
            return bad("with a voter that is no member");
        }
        Ok(Self::new(row.voters, row.members))
    }
}

/// A membership and where in the log it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMembershipRow {
    pub log_id: Option<LogIdRow>,
    pub membership: MembershipRow,
}

impl From<&StoredMembership> for StoredMembershipRow {
    fn from(stored: &StoredMembership) -> Self {
        Self {
            log_id: stored.log_id().map(LogIdRow::from),
            membership: stored.membership().into(),
        }
    }
}

impl TryFrom<StoredMembershipRow> for StoredMembership {
    type Error = CodecError;

    fn try_from(row: StoredMembershipRow) -> Result<Self, CodecError> {
        Ok(Self::new(
            row.log_id.map(LogId::from),
            row.membership.try_into()?,
        ))
    }
}

/// A log entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryRow {
    pub id: LogIdRow,
    pub payload: PayloadRow,
}

/// What stands in a log entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PayloadRow {
    Blank,
    Batch(Batch),
    Membership(MembershipRow),
}

impl From<RaftEntry> for EntryRow {
    fn from(entry: RaftEntry) -> Self {
        Self {
            id: (*entry.get_log_id()).into(),
            payload: match entry.payload {
                EntryPayload::Blank => PayloadRow::Blank,
                EntryPayload::Normal(batch) => PayloadRow::Batch(batch),
                EntryPayload::Membership(membership) => {
                    PayloadRow::Membership((&membership).into())
                }
            },
        }
    }
}

impl TryFrom<EntryRow> for RaftEntry {
    type Error = CodecError;

    fn try_from(row: EntryRow) -> Result<Self, CodecError> {
        Ok(Self {
            log_id: row.id.into(),
            payload: match row.payload {
                PayloadRow::Blank => EntryPayload::Blank,
                PayloadRow::Batch(batch) => EntryPayload::Normal(batch),
                PayloadRow::Membership(membership) => {
                    EntryPayload::Membership(membership.try_into()?)
                }
            },
        })
    }
}

/// What a snapshot covers. Stands in front of it in the file and on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaRow {
    pub last: LogIdRow,
    pub membership: StoredMembershipRow,
    pub id: String,
}
