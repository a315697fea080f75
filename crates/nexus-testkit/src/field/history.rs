//! What was done, by whom and to whom, with times since boot: all that the checker reads.

use std::net::Ipv4Addr;

use super::moment::Moment;
use crate::packet::Mac;

/// Place of an OLT host in the run.
pub type OltAt = usize;
/// Number of a subscriber.
pub type Who = u32;

/// What a subscriber, or an operator for it, did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Access-Request at an OLT.
    Authenticate,
    /// DHCP renewal of that address, unicast, out of the subscriber's line.
    Renew(Ipv4Addr),
    /// DHCPDISCOVER and the REQUEST of what was offered, which must be that address.
    Discover(Ipv4Addr),
    /// DHCPREQUEST of that address by a client that was switched off and on again (INIT-REBOOT).
    Reboot(Ipv4Addr),
    /// DHCPRELEASE of that address; nobody answers it.
    Release(Ipv4Addr),
    /// `DELETE /api/v1/allocate/{subscriber}`.
    Stop,
}

impl Action {
    /// The address that a DHCP exchange must end with.
    #[must_use]
    pub fn leased(&self) -> Option<Ipv4Addr> {
        match self {
            Self::Renew(address) | Self::Discover(address) | Self::Reboot(address) => {
                Some(*address)
            }
            Self::Authenticate | Self::Release(_) | Self::Stop => None,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Access-Accept with this address.
    Accepted(Ipv4Addr),
    /// Access-Reject.
    Rejected(String),
    /// DHCPACK of the address that was asked for.
    Acked,
    /// DHCPNAK, or an OFFER or ACK of another address.
    Nak(String),
    /// It was sent, and that is all there is to know.
    Sent,
    /// Success of the API.
    Done,
    /// A refusal of the API, after which nothing has changed.
    Refused(String),
    /// No answer, however often it was asked.
    Silent,
}

/// One thing that was done. Operations of one subscriber never overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// Whose.
    pub who: Who,
    /// Where; of [`Action::Stop`]: where the subscriber was.
    pub olt: OltAt,
    /// What.
    pub action: Action,
    /// When the first packet was sent.
    pub began: Moment,
    /// When the answer was there, or was given up.
    pub ended: Moment,
    /// What came of it.
    pub outcome: Outcome,
}

/// An entry of a kernel's map as one sample shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The address.
    pub address: Ipv4Addr,
    /// Whose line.
    pub mac: Mac,
    /// When it ends by itself: far away, or never, if the centre has acknowledged it.
    pub valid_until: Moment,
}

/// An address in one OLT's map, from the first sample that showed it to the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// In whose map.
    pub olt: OltAt,
    /// The address.
    pub address: Ipv4Addr,
    /// Whose line.
    pub mac: Mac,
    /// The first sample: when it began and ended.
    pub first: (Moment, Moment),
    /// The last sample.
    pub last: (Moment, Moment),
    /// End of the first sample that showed that the centre has acknowledged it.
    pub acked_from: Option<Moment>,
    /// End of the first sample in which it was not there any more.
    pub gone_by: Option<Moment>,
    /// When it ended by itself, if that is why it is gone.
    pub expired: bool,
}

/// Something that the nemesis did, from its beginning until everything that it stopped runs again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disturbance {
    /// In words.
    pub what: String,
    /// To which OLT; `None`: to servers.
    pub olt: Option<OltAt>,
    /// What the checker has to know of it.
    pub kind: Kind,
    /// When it began.
    pub from: Moment,
    /// When it was over, the recovery included.
    pub until: Moment,
}

/// What a disturbance may lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Leases and processes: an unacknowledged binding may end.
    Outage,
    /// The OLT reaches no server, and its sidecar runs. Until `served_until` its lease is alive for certain, and
    /// addresses are free.
    CutOff {
        /// A little before the lease ends.
        served_until: Moment,
    },
    /// The OLT's store was replaced by an older copy: what it had not told the centre is lost with it, and what the
    /// centre knows is served again once its subscriber asks.
    Restored,
    /// As an outage, and the OLT's wall clock is ahead: what it gives is dated later than it was given.
    Ahead,
}

impl Disturbance {
    /// Whether it goes on at some moment of `from..=until`.
    #[must_use]
    pub fn touches(&self, from: Moment, until: Moment) -> bool {
        self.from <= until && from <= self.until
    }
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// In the order of their ends.
    pub ops: Vec<Op>,
    /// What maps held.
    pub held: Vec<Held>,
    /// What the nemesis did.
    pub disturbances: Vec<Disturbance>,
    /// What else was seen to be wrong while it ran: when and what.
    pub seen: Vec<(Moment, String)>,
}

/// The state of everything once all is healed and quiet.
#[derive(Clone, Debug, Default)]
pub struct Finals {
    /// Each server's record: what it is called, and subscriber, address, OLT and state of everything held.
    pub records: Vec<(String, Vec<Recorded>)>,
    /// What each sidecar says it has: subscriber, address, acknowledged.
    pub bindings: Vec<Vec<(Who, Ipv4Addr, bool)>>,
    /// What each server counts as allocated in the pool.
    pub counted: Vec<(String, u64)>,
    /// `nexus_duplicate_allocations` of each server.
    pub duplicates: Vec<(String, u64)>,
}

/// A line of a server's record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recorded {
    /// The address.
    pub address: Ipv4Addr,
    /// The subscriber.
    pub who: Who,
    /// The OLT; `None`: none of the run's.
    pub olt: Option<OltAt>,
    /// `active`, `releasing`.
    pub state: String,
}
