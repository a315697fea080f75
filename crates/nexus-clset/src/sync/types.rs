//! What goes into the machine and what comes out of it.

use std::time::Duration;

use crate::hlc::UnixMillis;
use crate::message::Delta;
use crate::replica::{Change, Ticket};
use crate::sync::Notice;
use crate::version::NodeId;

/// How a replica is brought together with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How often peers are greeted (give or take a quarter).
    pub rebroadcast: Duration,
    /// Any number, another one on each node: so that not all greet at the same moment.
    pub seed: u64,
    /// About how many bytes one answer to a pull has. At most 1 MiB.
    pub page_bytes: usize,
    /// How many peers are pulled from at once.
    pub pulls: usize,
    /// How long an answer is waited for.
    pub patience: Duration,
    /// How many bytes a second a first copy takes; nothing for as fast as it goes.
    pub bootstrap_rate: Option<u64>,
    /// Members that were not heard of for so long are named in [`Report::overdue`].
    pub overdue: Duration,
    /// How often ranges are compared with each peer although roots tell of no difference: under a steady
    /// load no two replicas ever have seen the same, and roots say nothing. Costs a few KiB. Nothing
    /// for never.
    pub compare: Option<Duration>,
    /// In what time all rows are compared with their summary once; nothing for never.
    pub scrub: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rebroadcast: Duration::from_secs(5),
            seed: 0,
            page_bytes: 128 * 1024,
            pulls: 2,
            patience: Duration::from_secs(10),
            bootstrap_rate: None,
            overdue: Duration::from_secs(7 * 24 * 60 * 60),
            compare: Some(Duration::from_secs(60 * 60)),
            scrub: Some(Duration::from_secs(24 * 60 * 60)),
        }
    }
}

/// What clocks show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since the machine started; never goes back.
    pub boot: Duration,
    /// The wall clock.
    pub wall: UnixMillis,
}

/// A member of the cluster, as the cluster has agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which node.
    pub node: NodeId,
    /// When it was admitted: grows with each admission, of whichever node (an index of the cluster's log). A
    /// node that finds another number here than the one it started under was removed in between, and
    /// must start over.
    pub admitted: u64,
}

/// Something happened.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// A peer can be reached.
    Up(NodeId),
    /// It cannot any more.
    Down(NodeId),
    /// A peer published this.
    Gossip {
        /// Who.
        from: NodeId,
        /// What [`Output::Publish`] gave there.
        bytes: &'a [u8],
    },
    /// A peer asks.
    Question {
        /// Who.
        from: NodeId,
        /// For [`Output::Answer`], which may come with a later step; different for each question that waits.
        id: u64,
        /// What [`Output::Ask`] gave there.
        bytes: &'a [u8],
    },
    /// A peer has answered.
    Answer {
        /// Who.
        from: NodeId,
        /// Of [`Output::Ask`].
        id: u64,
        /// What [`Output::Answer`] gave there.
        bytes: &'a [u8],
    },
    /// A question was not answered.
    Failed {
        /// Who was asked.
        from: NodeId,
        /// Of [`Output::Ask`].
        id: u64,
    },
    /// Time has passed.
    Tick,
    /// Who is in the cluster: all of them, this node too. Only they are listened to, and each holds up the
    /// collection of tombstones. One that is left out is removed or evicted.
    Members {
        /// Which list this is: grows with each change of it.
        epoch: u64,
        /// The list.
        members: &'a [Member],
    },
    /// All changes up to this one are on disk. The replica is told as well ([`Replica::settle`]).
    Durable(Ticket),
    /// An own change is on disk; this is its delta.
    Wrote(Delta),
    /// Publish and greet at once, and go on until every peer that can be reached has confirmed all own
    /// writes, or half a minute is over: for a graceful shutdown, and for whoever waits until others have
    /// a write. Peers answer as soon as it is on their disks. May be said again with each write.
    Flush,
}

/// Something is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To all peers, best effort. At most about 110 KiB.
    Publish(Vec<u8>),
    /// To one peer.
    Ask {
        /// Whom.
        to: NodeId,
        /// For [`Input::Answer`] and [`Input::Failed`].
        id: u64,
        /// At most about 1.2 MiB.
        bytes: Vec<u8>,
    },
    /// To who asked.
    Answer {
        /// Of [`Input::Question`].
        id: u64,
        /// At most about 1.2 MiB.
        bytes: Vec<u8>,
    },
    /// To disk.
    Write(Change),
    /// A peer has sent what no replica sends.
    Misbehaved {
        /// Who.
        from: NodeId,
        /// What was wrong.
        what: String,
    },
    /// Something that an operator wants to read.
    Report(Notice),
}
