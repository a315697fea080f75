//! What can go wrong, in words an operator can act on.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the link could not start.
#[derive(Debug, thiserror::Error)]
pub enum P2pError {
    /// The file with the node's own key, or the one with the cluster's, cannot be used.
    #[error("{kind} {}: {what}", path.display())]
    KeyFile {
        /// `node key` or `cluster key`.
        kind: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        what: String,
    },
    /// 64 hexadecimal digits were expected.
    #[error("the cluster key must be 64 hexadecimal digits: {0}")]
    ClusterKey(String),
    /// An address that is not a multiaddress, or not one that a node can be reached at.
    #[error("{option}: `{given}`: {what}")]
    Address {
        /// The option it stands in, as in `p2p.bootstrap`.
        option: &'static str,
        /// As it was given.
        given: String,
        /// What is wrong, and what to write instead.
        what: String,
    },
    /// An option that is too long, empty or otherwise out of its range.
    #[error("{option}: {what}")]
    Option {
        /// The option.
        option: &'static str,
        /// What is wrong, and what is allowed.
        what: String,
    },
    /// The listening socket cannot be had.
    #[error(
        "cannot listen on {address} ({transport}): {source}; is another program, or another \
         nexus-server, on this port? Stop it or set another `p2p.listen_port`"
    )]
    Listen {
        /// Where.
        address: SocketAddr,
        /// `TCP` or `UDP`.
        transport: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// libp2p refused its own configuration; a fault of this program.
    #[error("cannot build the peer-to-peer stack: {0}")]
    Stack(String),
}

/// Why a message was not taken for gossip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The queue is full; the message is dropped and counted. Replicas repair it by pulling.
    #[error("the gossip queue is full; the message is dropped")]
    Full,
    /// Longer than [`crate::MOST_GOSSIP_BYTES`].
    #[error("{0} bytes are too many for one gossip message; {max} is the most", max = crate::MOST_GOSSIP_BYTES)]
    TooLong(usize),
    /// The link was stopped.
    #[error("the link to the peers is stopped")]
    Stopped,
}

/// Why a question has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// No peer of this number is up. Nothing was sent.
    #[error("node {0} is not connected")]
    NotConnected(u32),
    /// Too much is under way here; nothing was sent.
    #[error("too many questions are under way; ask again later")]
    Busy,
    /// The peer has too much under way and did not look at the question.
    #[error("the peer is busy; ask again later")]
    PeerBusy,
    /// The peer does not know this channel; an older version, most likely.
    #[error("the peer does not know channel {0}")]
    UnknownChannel(u8),
    /// The peer took the question and let it drop.
    #[error("the peer gave no answer")]
    Unanswered,
    /// No answer in time. The peer may have acted on the question or may still do so.
    #[error("no answer in time; whether the peer acted on it is not known")]
    Timeout,
    /// The connection ended. The peer may have acted on the question.
    #[error("the connection was lost; whether the peer acted on it is not known")]
    Lost,
    /// Longer than [`crate::MOST_QUESTION_BYTES`].
    #[error("{0} bytes are too many for one question; {max} is the most", max = crate::MOST_QUESTION_BYTES)]
    TooLong(usize),
    /// The link was stopped.
    #[error("the link to the peers is stopped")]
    Stopped,
}
