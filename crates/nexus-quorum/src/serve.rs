//! Answers to other nodes. Whatever they send, the answer is a message and never a panic.

use std::time::Duration;

use openraft::Snapshot;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest};

use crate::codec::{self, CodecError};
use crate::config::{CHUNK_BYTES, MAX_SNAPSHOT};
use crate::message::{
    Append, AppendReply, Chunk, Envelope, MAX_TERM, Question, Refusal, Reply, check_vote, row,
};
use crate::quorum::Inner;
use crate::rows::{LogIdRow, VoteRow};
use crate::store::Cluster;
use crate::types::{Image, LogId, RaftEntry, SnapshotMeta, StoredMembership, Vote};

/// The longest a peer's proposal is waited for here, whatever the peer asks for.
const LONGEST: Duration = Duration::from_secs(60);

/// A snapshot that is on its way in. One at a time; the newest sender's.
pub struct Incoming {
    vote: VoteRow,
    id: String,
    total: u64,
    crc: u32,
    bytes: Vec<u8>,
}

impl Inner {
    /// The answer to `message`, which node `from` sent.
    pub(crate) async fn answer(&self, from: u32, message: &[u8]) -> Vec<u8> {
        let reply = match self.reply(from, message).await {
            Ok(reply) => reply,
            Err(refusal) => {
                tracing::debug!(from, %refusal, "a peer's message was refused");
                Reply::Refused(refusal)
            }
        };
        codec::encode(&reply).unwrap_or_default()
    }

    async fn reply(&self, from: u32, message: &[u8]) -> Result<Reply, Refusal> {
        let envelope: Envelope = codec::decode(message).map_err(malformed)?;
        if from == self.shared.number {
            return Err(Refusal::Malformed(format!(
                "number {from} is this node's own"
            )));
        }
        if let Some(why) = self.shared.why_stopped() {
            return Err(Refusal::Stopped(why));
        }
        match &envelope.question {
            Question::Append(append) => append.check(from).map_err(malformed)?,
            Question::Vote(vote, _) => check_vote(*vote, from).map_err(malformed)?,
            Question::Chunk(chunk) => check_chunk(chunk, from)?,
            Question::Propose(command, _) if command.id.origin != from => {
                return Err(Refusal::Malformed(
                    "a proposal in another node's name".to_owned(),
                ));
            }
            Question::Propose(..) | Question::Change(_) | Question::Canvass(_) => {}
        }
        self.check_cluster(&envelope).await?;
        match envelope.question {
            Question::Append(append) => self.append(append).await,
            Question::Vote(vote, last) => self.vote(vote, last).await,
            Question::Chunk(chunk) => self.chunk(chunk).await,
            Question::Propose(command, millis) => {
                let patience = Duration::from_millis(millis).min(LONGEST);
                let index = self.accept(command, patience).await?;
                Ok(Reply::Committed { index })
            }
            // Who knows the cluster's name was a member once; whether it still is one says the membership.
            Question::Change(_) if self.membership().get_node(&from).is_none() => {
                Err(Refusal::NotMember)
            }
            Question::Change(change) => Ok(Reply::Changed(self.change_here(change).await)),
            Question::Canvass(canvass) => Ok(self.canvassed(from, canvass)),
        }
    }

    /// A node that belongs to no cluster yet belongs to that of the first leader that calls it, for good.
    async fn check_cluster(&self, envelope: &Envelope) -> Result<(), Refusal> {
        let theirs = envelope.cluster.ok_or(Refusal::NotMember)?;
        if let Some(ours) = self.store.cluster() {
            return if ours.name == theirs {
                Ok(())
            } else {
                Err(Refusal::OtherCluster)
            };
        }
        if !matches!(envelope.question, Question::Append(_) | Question::Chunk(_)) {
            return Err(Refusal::NotMember);
        }
        let _founding = self.founding.lock().await;
        match self.store.cluster() {
            Some(ours) if ours.name != theirs => Err(Refusal::OtherCluster),
            Some(_) => Ok(()),
            None => {
                tracing::info!("this node has been admitted to a quorum");
                self.store
                    .run(move |store| {
                        store.join(Cluster {
                            name: theirs,
                            own: false,
                        })
                    })
                    .await
                    .map_err(|error| self.fail(&error))
            }
        }
    }

    fn fail(&self, error: &dyn std::fmt::Display) -> Refusal {
        let why = error.to_string();
        self.shared.stop(&why);
        Refusal::Stopped(why)
    }

    async fn append(&self, append: Append) -> Result<Reply, Refusal> {
        let accepts = append.accepts;
        let entries: Result<Vec<RaftEntry>, CodecError> = append
            .entries
            .into_iter()
            .map(RaftEntry::try_from)
            .collect();
        let request = AppendEntriesRequest {
            vote: append.vote.into(),
            prev_log_id: append.prev.map(LogId::from),
            entries: entries.map_err(malformed)?,
            leader_commit: append.committed.map(LogId::from),
        };
        let response = self
            .raft
            .append_entries(request)
            .await
            .map_err(|error| self.fail(&error))?;
        let reply = match response {
            AppendEntriesResponse::Success => AppendReply::Success,
            AppendEntriesResponse::PartialSuccess(matching) => AppendReply::Partial(row(matching)),
            AppendEntriesResponse::Conflict => AppendReply::Conflict,
            AppendEntriesResponse::HigherVote(vote) => {
                return Ok(Reply::Append(AppendReply::HigherVote(vote.into())));
            }
        };
        self.shared.hear();
        self.shared.set_accepts(accepts);
        Ok(Reply::Append(reply))
    }

    async fn vote(&self, vote: VoteRow, last: Option<LogIdRow>) -> Result<Reply, Refusal> {
        let request = VoteRequest::new(Vote::from(vote), last.map(LogId::from));
        let response = self
            .raft
            .vote(request)
            .await
            .map_err(|error| self.fail(&error))?;
        if response.vote_granted {
            self.shared.hear();
        }
        Ok(Reply::Vote {
            vote: response.vote.into(),
            granted: response.vote_granted,
            last: row(response.last_log_id),
        })
    }

    async fn chunk(&self, chunk: Chunk) -> Result<Reply, Refusal> {
        let own = self.raft.metrics().borrow().vote;
        if own > Vote::from(chunk.vote) {
            return Ok(Reply::Installed { vote: own.into() });
        }
        self.shared.hear();
        let mut incoming = self.incoming.lock().await;
        let mut current = match incoming.take() {
            Some(current) if current.is_of(&chunk) => current,
            _ => Incoming::new(&chunk),
        };
        let have = current.bytes.len() as u64;
        if have == chunk.offset && have + chunk.bytes.len() as u64 <= current.total {
            current.bytes.extend_from_slice(&chunk.bytes);
        }
        let have = current.bytes.len() as u64;
        if have < current.total {
            *incoming = Some(current);
            return Ok(Reply::Chunk { have });
        }
        if crc32fast::hash(&current.bytes) != current.crc {
            return Err(Refusal::Malformed(
                "a snapshot whose checksum does not fit".to_owned(),
            ));
        }
        let last_membership =
            StoredMembership::try_from(chunk.meta.membership).map_err(malformed)?;
        let snapshot = Snapshot {
            meta: SnapshotMeta {
                last_log_id: Some(chunk.meta.last.into()),
                last_membership,
                snapshot_id: chunk.meta.id,
            },
            snapshot: Box::new(Image(current.bytes)),
        };
        tracing::info!(snapshot = %snapshot.meta, bytes = current.total, "installing a snapshot");
        let installed = self
            .raft
            .install_full_snapshot(chunk.vote.into(), snapshot)
            .await
            .map_err(|error| self.fail(&error))?;
        self.shared.hear();
        Ok(Reply::Installed {
            vote: installed.vote.into(),
        })
    }
}

impl Incoming {
    fn new(chunk: &Chunk) -> Self {
        Self {
            vote: chunk.vote,
            id: chunk.meta.id.clone(),
            total: chunk.total,
            crc: chunk.crc,
            bytes: Vec::new(),
        }
    }

    fn is_of(&self, chunk: &Chunk) -> bool {
        (self.vote, &self.id, self.total, self.crc)
            == (chunk.vote, &chunk.meta.id, chunk.total, chunk.crc)
    }
}

fn check_chunk(chunk: &Chunk, from: u32) -> Result<(), Refusal> {
    let bad = |what: &str| Err(Refusal::Malformed(format!("a piece of a snapshot {what}")));
    if !chunk.vote.won || chunk.vote.node != from || chunk.vote.term > MAX_TERM {
        return bad("that does not come from the leader it names");
    }
    if chunk.bytes.is_empty() || chunk.bytes.len() > CHUNK_BYTES {
        return bad("that is empty or too long");
    }
    if chunk.total > MAX_SNAPSHOT as u64 {
        return bad("that is too large");
    }
    if chunk
        .offset
        .checked_add(chunk.bytes.len() as u64)
        .is_none_or(|end| end > chunk.total)
    {
        return bad("that reaches beyond its end");
    }
    if chunk.meta.id.len() > 128 {
        return bad("with too long a name");
    }
    Ok(())
}

fn malformed(error: CodecError) -> Refusal {
    Refusal::Malformed(error.to_string())
}
