//! The edge task's end of the queues to and from the centre client.

use std::time::Duration;

use nexus_core::edge::{
    ClockReading, EdgeConfig, Heartbeat, Outgoing, Record, RecordKind, Refusal,
};
use nexus_core::id::{Seq, SessionId};
use nexus_core::lease::Terms;
use nexus_core::time::BootTime;
use tokio::sync::{mpsc, oneshot, watch};

use super::pinned::PinnedQuestion;

/// Most events of the centre that wait.
pub(super) const EVENTS: usize = 256;

/// What the centre client tells the edge task.
#[derive(Debug)]
pub enum CentreEvent {
    /// This host was taken in.
    Registered {
        /// When the request was sent.
        sent_at: BootTime,
        /// The lease, and what outlives it.
        terms: Terms,
        /// The configuration.
        config: EdgeConfig,
        /// Who answered.
        endpoint: String,
    },
    /// The lease was renewed.
    Renewed {
        /// When the request was sent.
        sent_at: BootTime,
        /// The lease, and what outlives it.
        terms: Terms,
        /// Newest revision of the configuration.
        revision: u64,
    },
    /// A configuration.
    Config(EdgeConfig),
    /// The centre does not answer.
    CutOff,
    /// A command was recorded.
    Acked(Seq),
    /// A command was refused for good.
    Refused(Seq, Refusal, String),
    /// Nobody knows what became of a command.
    Lost(Seq),
    /// What the centre's clocks show, with the length of a lease; before the answer that it came with.
    Clocks(ClockReading, Duration),
    /// Another host with this OLT id is alive, and this one is not taken in.
    SecondHost(String),
    /// What the centre says of another host that tries to be this one; empty: there is none.
    OtherHost(String),
    /// All records are about to be asked for.
    SnapshotBegin,
    /// A record.
    Record(RecordKind, Record),
    /// All records have been read.
    SnapshotEnd,
    /// The store is not what the centre remembers: go on under this session.
    NewSession(SessionId),
    /// What shall the next registration or heartbeat say? Answered once it is durable.
    Report(oneshot::Sender<Heartbeat>),
}

/// The centre client's side of the queues.
#[derive(Debug)]
pub struct CentreSide {
    /// To the edge task.
    pub events: mpsc::Sender<CentreEvent>,
    /// Commands to send.
    pub commands: mpsc::Receiver<Outgoing>,
    /// Grows whenever all records have to be read again.
    pub pull: watch::Receiver<u64>,
    /// What the centre is to be asked for.
    pub questions: mpsc::Receiver<PinnedQuestion>,
    /// Made at random by this process, so that two of them can be told apart.
    pub instance: String,
}
