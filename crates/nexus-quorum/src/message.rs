//! What nodes say to each other, and whether it makes sense before openraft sees it.

use serde::{Deserialize, Serialize};

use crate::codec::CodecError;
use crate::error::ChangeError;
use crate::rows::{EntryRow, LogIdRow, MetaRow, VoteRow};
use crate::types::{Command, LogId};

/// Terms above this are no terms: there is one for each election. It keeps counting on from one safe.
pub const MAX_TERM: u64 = 1 << 48;

/// A question to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The cluster that the sender belongs to, drawn when it was founded.
    pub cluster: Option<u128>,
    pub question: Question,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    Append(Append),
    Vote(VoteRow, Option<LogIdRow>),
    Chunk(Chunk),
    /// To the leader: commands, and how many more milliseconds the proposer waits.
    Propose(Command, u64),
    Change(Change),
    Canvass(Canvass),
}

/// Replication; a heartbeat if there are no entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    pub vote: VoteRow,
    pub prev: Option<LogIdRow>,
    pub entries: Vec<EntryRow>,
    pub committed: Option<LogIdRow>,
    /// The leader hears a majority and accepts proposals.
    pub accepts: bool,
}

/// A piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    pub vote: VoteRow,
    pub meta: MetaRow,
    /// Bytes of the whole snapshot and their CRC-32.
    pub total: u64,
    pub crc: u32,
    /// Where this piece begins. Pieces come in order.
    pub offset: u64,
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// A change of the membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    AddLearner(u32),
    Promote(u32),
    Demote(u32),
    Remove(u32),
}

impl Change {
    /// The node that is to be another thing than it was.
    pub fn number(self) -> u32 {
        match self {
            Self::AddLearner(number)
            | Self::Promote(number)
            | Self::Demote(number)
            | Self::Remove(number) => number,
        }
    }
}

/// Would you vote for me? Binds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canvass {
    pub last: Option<LogIdRow>,
    /// Where the newest membership that the asker knows stands in the log.
    pub membership: Option<LogIdRow>,
}

/// An answer to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    Append(AppendReply),
    Vote {
        vote: VoteRow,
        granted: bool,
        last: Option<LogIdRow>,
    },
    /// Taken; so many bytes of the snapshot are here now.
    Chunk {
        have: u64,
    },
    /// The snapshot is installed, or a higher vote was seen.
    Installed {
        vote: VoteRow,
    },
    /// The command stands in the log, committed.
    Committed {
        index: u64,
    },
    Changed(Result<(), ChangeError>),
    Canvass {
        granted: bool,
        /// The asker was a member once and has been removed.
        removed: bool,
    },
    Refused(Refusal),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppendReply {
    Success,
    Partial(Option<LogIdRow>),
    Conflict,
    HigherVote(VoteRow),
}

/// Why a question was not even considered. None of these has changed anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    #[error("not the leader")]
    NotLeader { leader: Option<u32> },
    #[error("too many proposals wait there")]
    Full,
    #[error("not a member of that cluster")]
    NotMember,
    #[error("it belongs to another cluster")]
    OtherCluster,
    #[error("it has stopped: {0}")]
    Stopped(String),
    #[error("it could not read the message: {0}")]
    Malformed(String),
    /// The only one after which something may have happened.
    #[error("it does not know what became of it")]
    Unknown,
}

impl Append {
    /// Whether a leader `from` can have sent this: its own vote, entries without gaps, terms that do not sink.
    pub fn check(&self, from: u32) -> Result<(), CodecError> {
        let bad = |what: &str| Err(CodecError::Malformed(format!("replication {what}")));
        if !self.vote.won || self.vote.node != from || self.vote.term > MAX_TERM {
            return bad("that does not come from the leader it names");
        }
        let mut before = self.prev;
        for entry in &self.entries {
            let expected = before.map_or(0, |id| id.index.saturating_add(1));
            if entry.id.index != expected {
                return bad("with a gap");
            }
            if before.is_some_and(|before| leader(before) > leader(entry.id)) {
                return bad("with a term that sinks");
            }
            if leader(entry.id) > (self.vote.term, self.vote.node) {
                return bad("with an entry of a later term than its leader's");
            }
            if entry.id.index == u64::MAX {
                return bad("beyond the last index");
            }
            before = Some(entry.id);
        }
        Ok(())
    }
}

fn leader(id: LogIdRow) -> (u64, u32) {
    (id.term, id.node)
}

/// A vote question must come from the node it is for.
pub fn check_vote(vote: VoteRow, from: u32) -> Result<(), CodecError> {
    if vote.won || vote.node != from || vote.term > MAX_TERM {
        return Err(CodecError::Malformed(
            "vote that does not come from its candidate".to_owned(),
        ));
    }
    Ok(())
}

/// Row of an optional place.
pub fn row(id: Option<LogId>) -> Option<LogIdRow> {
    id.map(LogIdRow::from)
}

#[cfg(test)]
mod tests;
