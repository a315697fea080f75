//! openraft's way to the other nodes: replication, votes and snapshots over the caller's [`Network`].

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, EmptyNode, OptionalSend, Snapshot};

use crate::codec::{self, CodecError};
use crate::config::CHUNK_BYTES;
use crate::error::CallError;
use crate::machine::Network;
use crate::message::{
    Append, AppendReply, Chunk, Envelope, MAX_TERM, Question, Refusal, Reply, row,
};
use crate::rows::{EntryRow, LogIdRow, MetaRow};
use crate::shared::Shared;
use crate::store::Store;
use crate::types::{LogId, Types, Vote};

/// Patience for one piece of a snapshot; the last one waits until it is installed.
const CHUNK_PATIENCE: Duration = Duration::from_secs(5);
const INSTALL_PATIENCE: Duration = Duration::from_secs(60);
/// How often one piece of a snapshot is sent before the whole is begun again later.
const CHUNK_TRIES: u32 = 4;

/// The way to all peers. Copies are cheap.
#[derive(Clone)]
pub struct Peers {
    network: Arc<dyn Network>,
    store: Arc<Store>,
    shared: Arc<Shared>,
    backoff: Duration,
}

/// A question that brought no answer to it.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("node {number} refused: {refusal}")]
    Refused { number: u32, refusal: Refusal },
    #[error("node {0} answered another question")]
    Odd(u32),
}

impl Peers {
    /// `backoff`: how long openraft waits after an unreachable peer.
    pub fn new(
        network: Arc<dyn Network>,
        store: Arc<Store>,
        shared: Arc<Shared>,
        backoff: Duration,
    ) -> Self {
        Self {
            network,
            store,
            shared,
            backoff,
        }
    }

    /// Ask node `to`. Never waits longer than `patience`, whatever the network does.
    pub async fn ask(
        &self,
        to: u32,
        question: Question,
        patience: Duration,
    ) -> Result<Reply, AskError> {
        let envelope = Envelope {
            cluster: self.store.cluster().map(|cluster| cluster.name),
            question,
        };
        let message = codec::encode(&envelope)?;
        let call = self.network.call(to, message, patience);
        let bytes = tokio::time::timeout(patience, call)
            .await
            .unwrap_or_else(|_| {
                Err(CallError::NoAnswer(format!(
                    "node {to} took longer than {patience:?}"
                )))
            })?;
        match codec::decode(&bytes)? {
            Reply::Refused(refusal) => Err(AskError::Refused {
                number: to,
                refusal,
            }),
            reply => Ok(reply),
        }
    }
}

impl RaftNetworkFactory<Types> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: u32, _node: &EmptyNode) -> Peer {
        Peer {
            target,
            peers: self.clone(),
        }
    }
}

/// The way to one peer.
pub struct Peer {
    target: u32,
    peers: Peers,
}

type RpcError = RPCError<u32, EmptyNode, RaftError<u32>>;

impl RaftNetwork<Types> for Peer {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u32>, RpcError> {
        let (prev, last) = (
            rpc.prev_log_id,
            rpc.entries.last().map(|entry| entry.log_id),
        );
        let append = Append {
            vote: rpc.vote.into(),
            prev: row(rpc.prev_log_id),
            entries: rpc.entries.into_iter().map(EntryRow::from).collect(),
            committed: row(rpc.leader_commit),
            accepts: self.peers.shared.leads(),
        };
        match self
            .ask(Question::Append(append), option.hard_ttl())
            .await?
        {
            Reply::Append(AppendReply::Success) => Ok(AppendEntriesResponse::Success),
            Reply::Append(AppendReply::Partial(matching))
                if is_within(matching.map(LogId::from), prev, last) =>
            {
                Ok(AppendEntriesResponse::PartialSuccess(
                    matching.map(LogId::from),
                ))
            }
            Reply::Append(AppendReply::Conflict) if prev.is_some() => {
                Ok(AppendEntriesResponse::Conflict)
            }
            Reply::Append(AppendReply::HigherVote(vote))
                if vote.term <= MAX_TERM && Vote::from(vote) > rpc.vote =>
            {
                Ok(AppendEntriesResponse::HigherVote(vote.into()))
            }
            _ => Err(self.odd()),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u32>,
        option: RPCOption,
    ) -> Result<VoteResponse<u32>, RpcError> {
        let question = Question::Vote(rpc.vote.into(), row(rpc.last_log_id));
        match self.ask(question, option.hard_ttl()).await? {
            Reply::Vote {
                vote,
                granted,
                last,
            } if vote.term <= MAX_TERM => Ok(VoteResponse::new(
                Vote::from(vote),
                last.map(LogId::from),
                granted,
            )),
            _ => Err(self.odd()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<Types>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<u32>, StreamingError<Types, Fatal<u32>>> {
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, snapshot) => sent,
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(self.peers.backoff))
    }
}

/// A peer may only claim to have what it was sent.
fn is_within(matching: Option<LogId>, prev: Option<LogId>, last: Option<LogId>) -> bool {
    matching >= prev && matching <= last.max(prev)
}

impl Peer {
    async fn ask(&self, question: Question, patience: Duration) -> Result<Reply, RpcError> {
        self.peers
            .ask(self.target, question, patience)
            .await
            .map_err(|error| {
                tracing::debug!(node = self.target, %error, "a peer gave no answer");
                // Sent at once again only if nothing speaks against it; otherwise after a pause.
                RPCError::Unreachable(Unreachable::new(&error))
            })
    }

    fn odd(&self) -> RpcError {
        RPCError::Unreachable(Unreachable::new(&AskError::Odd(self.target)))
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot<Types>,
    ) -> Result<SnapshotResponse<u32>, StreamingError<Types, Fatal<u32>>> {
        let bytes = snapshot.snapshot.0;
        let Some(last) = snapshot.meta.last_log_id.map(LogIdRow::from) else {
            let error = AnyError::error("a snapshot that covers nothing");
            return Err(NetworkError::new(&error).into());
        };
        let meta = MetaRow {
            last,
            membership: (&snapshot.meta.last_membership).into(),
            id: snapshot.meta.snapshot_id,
        };
        let (total, crc) = (bytes.len() as u64, crc32fast::hash(&bytes));
        let mut offset = 0_u64;
        let mut tries = 0;
        loop {
            let begin = usize::try_from(offset)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            let end = begin.saturating_add(CHUNK_BYTES).min(bytes.len());
            let chunk = Chunk {
                vote: vote.into(),
                meta: meta.clone(),
                total,
                crc,
                offset,
                bytes: bytes.get(begin..end).unwrap_or_default().to_vec(),
            };
            let patience = if end == bytes.len() {
                INSTALL_PATIENCE
            } else {
                CHUNK_PATIENCE
            };
            match self
                .peers
                .ask(self.target, Question::Chunk(chunk), patience)
                .await
            {
                Ok(Reply::Installed { vote }) if vote.term <= MAX_TERM => {
                    return Ok(SnapshotResponse::new(vote.into()));
                }
                // It says where to go on, also after a repeated or lost piece; a second beginning is a try, too.
                Ok(Reply::Chunk { have }) if have <= total => {
                    tries = if have > offset { 0 } else { tries + 1 };
                    offset = have;
                    if tries < CHUNK_TRIES {
                        continue;
                    }
                    let error = AnyError::error(format!("node {} does not get on", self.target));
                    return Err(Unreachable::new(&error).into());
                }
                Ok(_) => return Err(Unreachable::new(&AskError::Odd(self.target)).into()),
                Err(error) => {
                    tries += 1;
                    if tries >= CHUNK_TRIES {
                        return Err(Unreachable::new(&error).into());
                    }
                    tokio::time::sleep(self.peers.backoff).await;
                }
            }
        }
    }
}
