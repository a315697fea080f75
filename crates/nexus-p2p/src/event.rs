//! What the link tells its owner.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;

use crate::MOST_QUESTION_BYTES;

/// What the link tells its owner. Changes and questions of a peer stand between its `Up` and its `Down`;
/// gossip may come by way of others, so a member's may come at any time.
#[derive(Debug)]
pub enum Event {
    /// Both sides have accepted each other's Hello.
    Up(PeerInfo),
    /// A peer that is up says something else of itself than before.
    Changed(PeerInfo),
    /// A peer is up no more.
    Down {
        /// Its number.
        number: u32,
        /// Its peer id.
        peer_id: String,
        /// Why, for the log.
        why: String,
    },
    /// A message for all.
    Gossip {
        /// The number of its author, which signed it; it may have come by way of another peer.
        from: u32,
        /// The message.
        bytes: Vec<u8>,
    },
    /// A question that waits for its answer.
    Asked {
        /// The number of the peer that asks.
        from: u32,
        /// One of [`crate::Options::channels`].
        channel: u8,
        /// The question.
        bytes: Vec<u8>,
        /// Where the answer goes. Dropped: the peer hears that there is none.
        answer: Answer,
    },
    /// Somebody was not let in, or did not let this node in. Dropped if the owner's queue is nearly
    /// full; [`crate::Counters::refused`] counts all.
    Refused {
        /// Who, if it got as far as showing its key.
        peer_id: Option<String>,
        /// From or to where.
        address: String,
        /// Why, for counters.
        reason: Reason,
        /// Why, for people.
        why: String,
    },
}

/// Why somebody was not let in. The names are labels of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// No handshake: another cluster's key, no libp2p at all, or nothing but silence.
    Handshake,
    /// Not in `p2p.allowed_peers`.
    NotAllowed,
    /// QUIC from a peer that is no member and has not proved itself over TCP.
    UnknownOverQuic,
    /// Removed from the cluster.
    Removed,
    /// Banned for a while after garbage.
    Banned,
    /// Too many connections.
    Limit,
    /// Another cluster's fingerprint.
    Cluster,
    /// No protocol version in common.
    Version,
    /// Its number is this node's own.
    OwnNumber,
    /// Its number is another peer's.
    NumberTaken,
    /// A Hello that could not be read.
    Garbage,
    /// No Hello in time.
    Silent,
    /// The other side refused this node.
    TheyRefuse,
}

impl Reason {
    /// All of them, in order.
    pub const ALL: [Self; 13] = [
        Self::Handshake,
        Self::NotAllowed,
        Self::UnknownOverQuic,
        Self::Removed,
        Self::Banned,
        Self::Limit,
        Self::Cluster,
        Self::Version,
        Self::OwnNumber,
        Self::NumberTaken,
        Self::Garbage,
        Self::Silent,
        Self::TheyRefuse,
    ];

    /// The label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::NotAllowed => "not_allowed",
            Self::UnknownOverQuic => "unknown_over_quic",
            Self::Removed => "removed",
            Self::Banned => "banned",
            Self::Limit => "limit",
            Self::Cluster => "cluster",
            Self::Version => "version",
            Self::OwnNumber => "own_number",
            Self::NumberTaken => "number_taken",
            Self::Garbage => "garbage",
            Self::Silent => "silent",
            Self::TheyRefuse => "they_refuse",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.label())
    }
}

/// A peer that is up.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerInfo {
    /// Its number.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: String,
    /// Its peer id.
    pub peer_id: String,
    /// The other end of the connection.
    pub address: String,
    /// Whether this node dialled.
    pub dialled: bool,
    /// Where it says that it can be dialled.
    pub addresses: Vec<String>,
    /// The protocol version that both use.
    pub version: u16,
    /// The protocol versions that it speaks.
    pub versions: RangeInclusive<u16>,
    /// The version of its program.
    pub build: String,
    /// Its opaque bytes.
    pub extra: Vec<u8>,
    /// Since when it is up.
    pub connected_since: SystemTime,
    /// The last ping's time there and back.
    pub rtt: Option<Duration>,
    /// Bytes read from it since the start, all protocols, encryption not counted.
    pub bytes_in: u64,
    /// Bytes written to it.
    pub bytes_out: u64,
}

/// The way back of one question.
#[must_use = "dropped, it tells the peer that there is no answer"]
pub struct Answer {
    id: u64,
    to: Option<mpsc::Sender<(u64, Reply)>>,
}

/// What goes back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Bytes(Vec<u8>),
    Busy,
    Nothing,
}

impl Answer {
    /// `to` has room for one reply of each question that is under way.
    pub(crate) fn new(id: u64, to: mpsc::Sender<(u64, Reply)>) -> Self {
        Self { id, to: Some(to) }
    }

    /// Sends the answer. More than [`MOST_QUESTION_BYTES`] are not sent: the peer hears that there is
    /// no answer.
    pub fn send(mut self, bytes: Vec<u8>) {
        if bytes.len() > MOST_QUESTION_BYTES {
            tracing::error!(bytes = bytes.len(), "an answer is too long to be sent");
            return;
        }
        self.reply(Reply::Bytes(bytes));
    }

    /// Tells the peer to ask again later.
    pub fn busy(mut self) {
        self.reply(Reply::Busy);
    }

    fn reply(&mut self, reply: Reply) {
        if let Some(to) = self.to.take() {
            // It is never full, and if it is closed, nobody waits any more.
            let _ = to.try_send((self.id, reply));
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.reply(Reply::Nothing);
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "Answer({})", self.id)
    }
}
