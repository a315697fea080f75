//! What travels between hosts and servers, and when things happen.

use std::cmp::Ordering;

use nexus_clset::VersionVector;
use nexus_core::edge::{EdgeConfig, Heartbeat, Outgoing, Record, RecordKind, Refusal};
use nexus_core::id::Seq;
use nexus_core::lease::Terms;
use nexus_core::time::BootTime;

use crate::centre::{Clocks, Heard};

/// One connection of one life of a host's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    pub host: usize,
    pub process: u32,
    pub connection: u32,
}

#[derive(Clone, Debug)]
pub enum Request {
    Register {
        sent: BootTime,
        report: Heartbeat,
        lease_alive: bool,
    },
    Beat {
        sent: BootTime,
        report: Heartbeat,
    },
    Config,
    /// All records and what changes in them, by a server that knows this configuration.
    Watch {
        revision: u64,
        stream: u32,
    },
    Command(Outgoing),
}

#[derive(Clone, Debug)]
pub enum Reply {
    Registered {
        sent: BootTime,
        terms: Terms,
        config: EdgeConfig,
        clocks: Clocks,
    },
    Renewed {
        sent: BootTime,
        terms: Terms,
        revision: u64,
        clocks: Clocks,
    },
    Config(EdgeConfig),
    /// Another host of this name is alive.
    Second,
    /// A new session is needed.
    StartOver,
    /// The session is over: register again.
    Over,
    Recorded(Seq),
    Refused(Seq, Refusal),
    /// Not here, or not now.
    Elsewhere,
    Record(RecordKind, Record),
    SnapshotEnd,
    /// A stream has ended.
    Ended,
}

#[derive(Debug)]
pub enum Event {
    /// A second of a host.
    HostTick(usize, u32),
    HostBeat(Line),
    /// What a host has not on disk yet gets there.
    Flush(usize, u32),
    /// It looks for a server.
    Connect(usize, u32),
    ToServer {
        server: usize,
        life: u32,
        line: Line,
        session: String,
        request: Request,
    },
    /// `stream`: of which stream, if it is of one.
    ToHost {
        line: Line,
        stream: Option<u32>,
        reply: Reply,
    },
    /// A command was not answered in time.
    GiveUp(Line, Seq),
    /// A second of a server.
    ServerTick(usize, u32),
    /// What the replicas tell each other.
    Hear {
        server: usize,
        life: u32,
        heard: Heard,
    },
    /// A server that had ended starts again.
    Start(usize),
    /// A server reads on in the log.
    CatchUp(usize),
    /// Which moves may be told is asked of the others.
    Barrier(usize, u32),
    BarrierSaid {
        server: usize,
        life: u32,
        number: u64,
        seen: Vec<VersionVector>,
    },
    Subscriber,
    Fault,
    WideFault,
    SiteFault,
    /// What was cut is whole again: servers, or a host.
    Mend(Option<usize>),
    /// A site is not cut off any more, if that is still the cut of this number.
    MendSite(usize, u32),
}

/// An event and its time; the earliest is the greatest.
pub struct Due {
    pub at: u64,
    pub number: u64,
    /// Apart, so that little is moved in the heap.
    pub event: Box<Event>,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}
