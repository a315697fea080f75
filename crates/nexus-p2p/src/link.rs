//! The handle that the rest of the server holds.

mod shared;
mod start;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};

use crate::limits::{MOST_GOSSIP_BYTES, MOST_QUESTION_BYTES, QUESTION_PATIENCE};
use crate::node::{Command, Membership};
use crate::{
    AskError, Counters, Event, Hello, Options, P2pError, PeerAddress, PeerInfo, PublishError,
};
pub(crate) use shared::Shared;

/// How long [`Link::stop`] waits for the task.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// The link to the peers. Clones share it; it ends with the last of them, or with [`Link::stop`].
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    gossip: mpsc::Sender<Vec<u8>>,
    members: watch::Sender<Membership>,
    hello: watch::Sender<Hello>,
}

impl Link {
    /// Reads or makes the node's key, listens on TCP and QUIC, and begins to dial.
    ///
    /// # Errors
    /// What is wrong with an option, a key file or the port, and what to do about it.
    pub async fn start(options: Options) -> Result<(Self, mpsc::Receiver<Event>), P2pError> {
        start::start(options).await
    }

    /// This node's peer id.
    #[must_use]
    pub fn peer_id(&self) -> &str {
        &self.shared.peer_id
    }

    /// Where peers can dial this node: what is advertised, or else the listening addresses. All end
    /// in `/p2p/ID`.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.shared.addresses()
    }

    /// Gives a message to all peers, best effort, at most [`MOST_GOSSIP_BYTES`]. The same bytes are
    /// sent once a minute at most: later ones are dropped and counted as repeated.
    ///
    /// # Errors
    /// Queue full, too long, stopped: dropped, and counted.
    pub fn publish(&self, bytes: Vec<u8>) -> Result<(), PublishError> {
        let result = if bytes.len() > MOST_GOSSIP_BYTES {
            Err(PublishError::TooLong(bytes.len()))
        } else {
            self.gossip.try_send(bytes).map_err(|error| match error {
                TrySendError::Full(_) => PublishError::Full,
                TrySendError::Closed(_) => PublishError::Stopped,
            })
        };
        if result.is_err() {
            self.shared.counters.gossip_refused.add();
        }
        result
    }

    /// Asks a peer that is up, and waits for its answer as long as `patience` (at most 30 s). Both are
    /// at most [`MOST_QUESTION_BYTES`] long.
    ///
    /// A question whose patience is over still counts against the 64 that one peer's channel has until
    /// its answer or 30 s have come.
    ///
    /// # Errors
    /// See [`AskError`], which says of each whether the peer may have acted on the question.
    pub async fn ask(
        &self,
        to: u32,
        channel: u8,
        bytes: Vec<u8>,
        patience: Duration,
    ) -> Result<Vec<u8>, AskError> {
        if bytes.len() > MOST_QUESTION_BYTES {
            return Err(AskError::TooLong(bytes.len()));
        }
        let (reply, answer) = oneshot::channel();
        let asked = async {
            let command = Command::Ask {
                to,
                channel,
                bytes,
                reply,
            };
            self.commands
                .send(command)
                .await
                .map_err(|_| AskError::Stopped)?;
            answer.await.map_err(|_| AskError::Stopped)?
        };
        tokio::time::timeout(patience.min(QUESTION_PATIENCE), asked)
            .await
            .unwrap_or(Err(AskError::Timeout))
    }

    /// Reports a peer that sent what no honest one sends. It is cut off and banned: for 1 s, then twice
    /// as long each time, at most 10 minutes. Dropped if hundreds of reports wait already.
    pub fn misbehaved(&self, peer: u32, what: &str) {
        let what = what.chars().take(300).collect();
        // Full: as many reports are on their way already.
        let _ = self.commands.try_send(Command::Misbehaved { peer, what });
    }

    /// Tells who is a member (dialled, known over QUIC, their numbers reserved) and who was removed (cut
    /// off and denied for ever). Replaces what was told before; at most 1024 of each. This node may be
    /// among them.
    pub fn set_members(&self, members: Vec<PeerAddress>, removed: Vec<String>) {
        let new = Membership { members, removed };
        self.members.send_if_modified(|old| {
            let is_new = *old != new;
            *old = new;
            is_new
        });
    }

    /// Tells all peers something else of this node: role, extra bytes, name. Number and versions stay
    /// as they were at the start.
    ///
    /// # Errors
    /// What is out of its range; nothing is changed then.
    pub fn set_hello(&self, hello: Hello) -> Result<(), P2pError> {
        hello.check()?;
        let (number, versions) = {
            let old = self.hello.borrow();
            (old.number, old.versions.clone())
        };
        if hello.number != number || hello.versions != versions {
            return Err(P2pError::Option {
                option: "Hello",
                what: "number and versions cannot change while the link runs".to_owned(),
            });
        }
        self.hello.send_if_modified(|old| {
            let is_new = *old != hello;
            *old = hello;
            is_new
        });
        Ok(())
    }

    /// The peers that are up, by number.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.shared.peers()
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.counters.read()
    }

    /// Ends all connections and the task; questions under way end with [`AskError::Stopped`].
    pub async fn stop(self) {
        let (done, stopped) = oneshot::channel();
        let end = async {
            if self.commands.send(Command::Stop { done }).await.is_ok() {
                let _ = stopped.await;
            }
        };
        if tokio::time::timeout(STOP_PATIENCE, end).await.is_err() {
            tracing::warn!("the link to the peers did not stop in time");
        }
    }
}
