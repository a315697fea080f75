//! The edge's side of ownership: a machine without clock, disk, network or kernel that decides who gets what on
//! one OLT host, and for how long (part 6 of the design).
//!
//! Every method takes the boot time and adds to [`Effects`]: rows to be made durable first, then
//! actions. The shell keeps that order, so whatever is lost in a crash was never seen by anybody.
//!
//! | | new allocations | acknowledged bindings | unacknowledged bindings |
//! |---|---|---|---|
//! | lease alive | from own shards | end long after the lease, if at all ([`Kept`]) | end after 10 minutes, pushed on in steps, never past the lease |
//! | lease ended | none | as before | suspended, until the centre acknowledges them or refuses them |
//!
//! While clocks run further apart than leases allow for there is no lease ([`Edge::hear_clock`]).

mod centre;
mod command;
mod configure;
mod departed;
mod drift;
mod earlier;
mod effect;
mod further;
mod holding;
mod idle;
mod keeping;
mod key;
mod kind;
mod places;
mod policy;
mod records;
mod report;
mod reserved;
mod resting;
mod restore;
mod row;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use thiserror::Error;

pub use centre::Refusal;
use command::Outbox;
pub use command::{Command, IN_FLIGHT_LIMIT, OUTBOX_LIMIT, Outgoing, What};
pub use configure::{EdgeConfig, PoolGrant, ShardGrant};
use departed::Departures;
use drift::Drift;
pub use drift::{ClockReading, ClocksApart};
pub use earlier::Earlier;
pub use effect::{Action, Change, Effects, MapEntry, Note};
use holding::Rest;
use keeping::Refresh;
pub use keeping::{Clocks, Kept, Seen};
pub use key::{At, CIRCUIT_LIMIT, Circuit, KeyError, KeyProblem, LineKey, Place, Vlans};
pub use kind::Kind;
use policy::KeptAway;
pub use policy::{Conflict, KEEP_AWAY, KEPT_AWAY_LIMIT, Policies, Policy};
use records::Snapshot;
pub use records::{Record, RecordKind};
pub use report::{BindingView, EdgeView, Heartbeat, ShardView};
use reserved::Reservations;
pub use resting::Rests;
pub use restore::Start;
pub use row::{
    BindingRow, CommandRow, EdgeRow, LeaseRow, Row, RowKey, ShardRow, UnitRow, UnitState,
};

use crate::allocator::Allocator;
use crate::id::{OltId, PoolId, Seq, SessionId, ShardId, SubscriberId};
use crate::lease::Keeping;
use crate::pool::Assign;
use crate::resource::Resource;
use crate::time::BootTime;

/// Longest time that an unacknowledged binding is given at once.
pub const UNACKED_STEP: Duration = Duration::from_secs(600);
/// How long a declined address is kept from everybody.
pub const QUARANTINE: Duration = Duration::from_secs(600);
/// How long a binding without a line (another subscriber took it over) waits for its subscriber.
pub const KEYLESS_KEPT: Duration = Duration::from_secs(3600);
/// How long to wait before sending again after a command was lost, if nothing else says that the
/// centre is back.
pub const RESEND_AFTER: Duration = Duration::from_secs(2);

/// A subscriber that has proved who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorized {
    /// Who.
    pub subscriber: SubscriberId,
    /// From which pool it gets its IPv4 address; `None`: the one it has one of, else the first of such a pool
    /// with an open shard.
    pub pool: Option<PoolId>,
    /// Pools of other kinds that it gets a unit of besides those that every session does, in the order of
    /// preference: of several of one kind the first counts.
    pub named: Vec<PoolId>,
    /// What it gets from elsewhere: nothing of these kinds is given.
    pub without: BTreeSet<Kind>,
    /// The line that it is on.
    pub key: LineKey,
    /// For the centre's record.
    pub metadata: BTreeMap<String, String>,
    /// Now, RFC 3339, for the centre's record.
    pub timestamp: String,
    /// What is done if it, its line or its MAC was bound otherwise.
    pub policies: Policies,
}

/// What a subscriber has been given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Pool of the resource.
    pub pool: PoolId,
    /// The resource.
    pub resource: Resource,
    /// End of the binding as it is now; `None`: no end.
    pub valid_until: Option<BootTime>,
    /// The subscriber had it before.
    pub known: bool,
}

/// All that a subscriber has been given, at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grants {
    /// Its IPv4 address.
    pub ipv4: Granted,
    /// One for each further kind, in the order of the kinds.
    pub further: Vec<Granted>,
    /// What it should have got besides and did not.
    pub missing: Vec<Missing>,
}

impl Grants {
    /// All of them, the IPv4 address first.
    pub fn all(&self) -> impl Iterator<Item = &Granted> {
        std::iter::once(&self.ipv4).chain(&self.further)
    }
}

/// Something of a kind that does not decide whether a subscriber is let in, and that it did not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// From this pool.
    pub pool: PoolId,
    /// The pool is in the configuration.
    pub configured: bool,
    /// Why not.
    pub why: Denied,
}

/// Why a subscriber got nothing. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Denied {
    /// It may be possible a moment later.
    #[error("{0}")]
    NotReady(&'static str),
    /// Another host with this OLT id is alive.
    #[error("this host is the second one with its olt.id: {0}")]
    SecondHost(String),
    /// Nothing new is allocated without a lease.
    #[error("the lease on this host's shards has ended")]
    LeaseEnded,
    /// The pool is not in the configuration.
    #[error("pool {0} is not in the configuration")]
    UnknownPool(PoolId),
    /// The pool holds something else: no IPv4 addresses where its IPv4 pool was named, or such where another
    /// one was.
    #[error("pool {0} holds resources of another type")]
    WrongType(PoolId),
    /// Of the pools that were named, another one of the same kind came first.
    #[error("pool {0} is the second that was named for a {1}: a subscriber gets one")]
    SecondOfKind(PoolId, Kind),
    /// The pool is pinned: the centre gives its units one by one, and there is none here for the subscriber.
    #[error("pool {0} is pinned, and the centre has to be asked for what the subscriber has of it")]
    AskCentre(PoolId),
    /// No pool was named and there is none to take.
    #[error("no pool was named and this host owns shards of no pool of this type")]
    NoPool,
    /// Every unit is held or rests.
    #[error("no unit of pool {0} is free in the shards of this host")]
    Exhausted(PoolId),
    /// The key cannot stand for a client.
    #[error(transparent)]
    Key(#[from] KeyProblem),
    /// What is bound already, and a policy that keeps it.
    #[error("{0}")]
    Conflict(Conflict),
    /// It was refused for a conflict before, and has to wait for so long.
    #[error(
        "the subscriber is kept away from this line for another {} s, by policies.quarantine",
        .0.as_secs()
    )]
    KeptAway(Duration),
}

/// A subscriber in a pool: at most one binding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Who {
    pool: PoolId,
    subscriber: SubscriberId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Validity {
    /// Acknowledged, and no end is said.
    Endless,
    /// Not acknowledged and the lease alive; or acknowledged, as far as that was written when it was last.
    Until(BootTime),
    /// Not acknowledged, and not served until it is.
    Suspended,
}

#[derive(Clone, Debug)]
struct Held {
    row: BindingRow,
    resource: Resource,
    validity: Validity,
    /// When its subscriber was authorized or its client seen last, whichever is later; after a restart the
    /// restart, until the kernel's map has been read.
    active: BootTime,
}

#[derive(Clone, Debug)]
struct PoolState {
    allocator: Allocator,
    /// In the newest configuration; if not, only what is held in it is left.
    configured: bool,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Edge {
    olt: OltId,
    session: SessionId,
    boot_id: String,
    last_seq: Seq,
    revision: u64,
    /// When the configuration came; the beginning, if it came from the rows.
    configured_at: BootTime,
    lease: Option<LeaseRow>,
    /// A renewal after the lease had ended that counts only once this revision has been read.
    waiting: Option<(LeaseRow, Keeping, u64)>,
    /// What outlives the lease.
    kept: Kept,
    refresh: Refresh,
    unconfirmed: bool,
    connected: bool,
    /// Not kept on disk: a process that starts compares the clocks anew.
    drift: Drift,
    pools: BTreeMap<PoolId, PoolState>,
    shards: BTreeMap<(PoolId, ShardId), ShardRow>,
    bindings: BTreeMap<Who, Held>,
    keys: BTreeMap<(Kind, Place), Who>,
    unacked: BTreeSet<Who>,
    /// No unacknowledged binding ends before.
    next_end: BootTime,
    keyless: BTreeMap<Who, BootTime>,
    reserved: Reservations,
    departed: Departures,
    outbox: Outbox,
    /// Commands may be sent: nothing says that the centre is away.
    sending: bool,
    resend_at: Option<BootTime>,
    /// Commands whose first answer was not believed.
    doubted: BTreeSet<Seq>,
    /// Another host with this OLT id is alive and this one is refused; why.
    refused: Option<String>,
    /// It was, and has not read since what became of its bindings meanwhile: until then it serves none of them.
    unread: bool,
    earlier: Earlier,
    rests: Rests,
    /// The centre has asked for something that it seemed not to know the newest of. Not kept on disk: a process that
    /// starts reads all records.
    asks_passed_over: bool,
    /// The records are to be read again, once the reading that is under way has come to its end.
    read_again: bool,
    snapshot: Option<Snapshot>,
    /// Interfaces that are served; `None`: whichever.
    served: Option<BTreeSet<String>>,
    /// Not kept on disk: who asks again after a restart is judged again.
    kept_away: KeptAway,
    /// Whatever was seen up to then is in [`Held::active`].
    seen_until: BootTime,
    /// Behind it the next look for silent bindings begins.
    idle_cursor: Option<Who>,
}

impl Edge {
    /// From now on only these interfaces are served: a binding on another one is in nobody's way.
    pub fn serve_interfaces(&mut self, names: impl IntoIterator<Item = String>) {
        self.served = Some(names.into_iter().collect());
    }

    /// Gives the subscriber an IPv4 address and one unit of each further kind that it is to get, those it has
    /// if it has them. Idempotent. As far as the policies let it, a new line or MAC moves its bindings
    /// there, and a line of another subscriber is taken from it first. The IPv4 address decides: whatever
    /// else cannot be given is in [`Grants::missing`].
    ///
    /// # Errors
    /// Why it gets nothing.
    pub fn authorize(
        &mut self,
        now: BootTime,
        request: &Authorized,
        fx: &mut Effects,
    ) -> Result<Grants, Denied> {
        request.key.check()?;
        self.settle(now, fx);
        if let Some(why) = &self.refused {
            return Err(Denied::SecondHost(why.clone()));
        }
        if self.unread {
            return Err(Denied::NotReady(
                "this host was away for too long, or another one had its OLT id, and the centre's records have not been read since",
            ));
        }
        let who = Who {
            pool: self.choose_pool(request)?,
            subscriber: request.subscriber.clone(),
        };
        self.judge(now, request, fx)?;
        let ipv4 = self.give_or_again(now, &who, request, fx)?;
        self.take_place(now, request, fx);
        self.end_elsewhere(now, &who, Kind::Ipv4, fx);
        let (further, missing) = self.give_further(now, request, fx);
        self.pump(fx);
        Ok(Grants {
            ipv4,
            further,
            missing,
        })
    }

    /// Takes back what was just given to a subscriber on this line, as if it had not been: the map did not
    /// take it and nobody was told. What it had before stays.
    pub fn withdraw(
        &mut self,
        now: BootTime,
        grants: &Grants,
        subscriber: &SubscriberId,
        key: &LineKey,
        fx: &mut Effects,
    ) {
        for granted in grants.all().filter(|granted| !granted.known) {
            let who = Who {
                pool: granted.pool.clone(),
                subscriber: subscriber.clone(),
            };
            let there = self
                .bindings
                .get(&who)
                .is_some_and(|held| held.row.key.as_ref() == Some(key));
            if there {
                self.release(now, &who, "not-served", Rest::CoolDown, fx);
            }
        }
        self.pump(fx);
    }

    /// Ends every binding of a subscriber; `false`: it had none.
    pub fn end_session(
        &mut self,
        now: BootTime,
        subscriber: &SubscriberId,
        reason: &str,
        fx: &mut Effects,
    ) -> bool {
        self.settle(now, fx);
        let had = self.bindings_of(subscriber).next().is_some();
        self.end_session_of(now, subscriber, reason, Rest::Unheard, fx);
        self.pump(fx);
        had
    }

    /// DHCPRELEASE: does what the pool's rule says with the binding of this place, if `resource` is its
    /// own, and with whatever else its subscriber has; `false` if not, and nothing has changed.
    pub fn dhcp_release(
        &mut self,
        now: BootTime,
        place: &Place,
        resource: Resource,
        fx: &mut Effects,
    ) -> bool {
        self.settle(now, fx);
        let Some(who) = self.who_on(place, resource) else {
            return false;
        };
        if self.keeps_released(&who) {
            self.seen(place, now);
            return true;
        }
        self.end_session_of(now, &who.subscriber, "dhcp-release", Rest::CoolDown, fx);
        self.pump(fx);
        true
    }

    /// DHCPDECLINE: puts `resource` into quarantine and gives the subscriber of this place another one.
    /// `None`: it is not the resource of this place, and nothing has changed.
    ///
    /// # Errors
    /// Why there is no other one; the quarantine holds all the same.
    pub fn dhcp_decline(
        &mut self,
        now: BootTime,
        place: &Place,
        resource: Resource,
        timestamp: String,
        fx: &mut Effects,
    ) -> Option<Result<Granted, Denied>> {
        self.settle(now, fx);
        let who = self.who_on(place, resource)?;
        let row = &self.bindings.get(&who)?.row;
        let (key, metadata) = (row.key.clone()?, row.metadata.clone());
        self.release(now, &who, "dhcp-decline", Rest::Quarantine, fx);
        let again = Authorized {
            subscriber: who.subscriber.clone(),
            pool: None,
            named: Vec::new(),
            without: BTreeSet::new(),
            key,
            metadata,
            timestamp,
            policies: Policies::default(),
        };
        let granted = self.give(now, &who, &again, fx);
        self.pump(fx);
        Some(granted)
    }

    /// Lets time pass: ends rests, pushes unacknowledged bindings on or suspends them, ends bindings
    /// without a line and silent ones, empties draining shards, sends again. To be called every second or so.
    pub fn tick(&mut self, now: BootTime, fx: &mut Effects) {
        self.settle(now, fx);
        self.push_on(now, fx);
        self.keep_on(now, fx);
        let late: Vec<Who> = self
            .keyless
            .iter()
            .filter(|(_, since)| now.since(**since) >= KEYLESS_KEPT)
            .map(|(who, _)| who.clone())
            .collect();
        for who in late {
            self.end_with_session(now, &who, "line-taken-over", fx);
        }
        self.end_idle(now, fx);
        self.give_back(fx);
        if self.resend_at.is_some_and(|at| at <= now) {
            self.resend_at = None;
            self.sending = true;
        }
        self.pump(fx);
    }

    fn choose_pool(&self, request: &Authorized) -> Result<PoolId, Denied> {
        if self.pools.is_empty() {
            return Err(Denied::NotReady(
                "no configuration has been received from a nexus-server yet",
            ));
        }
        if let Some(pool) = &request.pool {
            let state = self
                .pools
                .get(pool)
                .ok_or_else(|| Denied::UnknownPool(pool.clone()))?;
            if Kind::of_pool(state.allocator.pool()) != Kind::Ipv4 {
                return Err(Denied::WrongType(pool.clone()));
            }
            return Ok(pool.clone());
        }
        let has = |(who, held): (&Who, &Held)| {
            (Kind::of(&held.resource) == Kind::Ipv4).then(|| who.pool.clone())
        };
        let bound = self.bindings_of(&request.subscriber).find_map(has);
        let recorded = || self.recorded_ipv4(&request.subscriber);
        if let Some(pool) = bound.or_else(recorded).filter(|pool| self.goes_on(pool)) {
            return Ok(pool);
        }
        let of_kind = |state: &&PoolState| {
            let pool = state.allocator.pool();
            state.configured
                && Kind::of_pool(pool) == Kind::Ipv4
                && pool.assign() == Assign::Session
        };
        let mut candidates = self.pools.values().filter(of_kind);
        let open = candidates
            .clone()
            .find(|state| state.allocator.has_open_shard());
        if let Some(state) = open.or_else(|| candidates.next()) {
            return Ok(state.allocator.pool().id().clone());
        }
        Err(Denied::NoPool)
    }

    /// The pool of an IPv4 address that the centre's record says is this subscriber's on this host.
    fn recorded_ipv4(&self, subscriber: &SubscriberId) -> Option<PoolId> {
        let recorded = |id: &PoolId, state: &PoolState| {
            let who = Who {
                pool: id.clone(),
                subscriber: subscriber.clone(),
            };
            Kind::of_pool(state.allocator.pool()) == Kind::Ipv4
                && self.reserved.of(&who).is_some()
                && !self.waits_for_earlier(&who)
        };
        let mut pools = self.pools.iter();
        pools.find_map(|(id, state)| recorded(id, state).then(|| id.clone()))
    }

    /// The bindings of one subscriber: one look-up for each pool.
    fn bindings_of<'a>(
        &'a self,
        subscriber: &'a SubscriberId,
    ) -> impl Iterator<Item = (&'a Who, &'a Held)> {
        self.pools.keys().filter_map(move |pool| {
            self.bindings.get_key_value(&Who {
                pool: pool.clone(),
                subscriber: subscriber.clone(),
            })
        })
    }

    fn who_on(&self, place: &Place, resource: Resource) -> Option<Who> {
        let who = self.keys.get(&(Kind::of(&resource), place.clone()))?;
        (self.bindings.get(who)?.resource == resource).then(|| who.clone())
    }

    fn lease_alive(&self, now: BootTime) -> bool {
        self.lease.is_some_and(|lease| now < lease.until)
    }

    /// Until when an unacknowledged binding may be valid; `None`: there is no lease.
    fn unacked_until(&self, now: BootTime) -> Option<BootTime> {
        let lease = self.lease.filter(|lease| now < lease.until)?;
        Some(lease.until.min(now + UNACKED_STEP))
    }

    fn next_seq(&mut self, fx: &mut Effects) -> Seq {
        self.last_seq = self.last_seq.next();
        self.save(fx);
        self.last_seq
    }

    fn save(&self, fx: &mut Effects) {
        fx.put(Row::Edge(EdgeRow {
            olt: self.olt.clone(),
            session: self.session.clone(),
            boot_id: self.boot_id.clone(),
            last_seq: self.last_seq,
            revision: self.revision,
            lease: self.lease,
            unconfirmed: self.unconfirmed,
            kept: self.kept,
            unread: self.unread,
            earlier: self.earlier,
            rests: self.rests,
        }));
    }

    fn enqueue(&mut self, command: Command, fx: &mut Effects) -> Seq {
        let seq = self.next_seq(fx);
        fx.put(Row::Command(CommandRow {
            seq,
            command: command.clone(),
        }));
        self.note_departure(seq, &command);
        self.outbox.push(seq, command);
        seq
    }

    fn note_departure(&mut self, seq: Seq, command: &Command) {
        let former = command.former();
        match command.what {
            What::Allocate { .. } => self.departed.remove(&former),
            What::Deallocate { .. } => self.departed.add(former, seq),
        }
    }

    /// Sends what may be sent.
    fn pump(&mut self, fx: &mut Effects) {
        while self.sending
            && let Some(outgoing) = self.outbox.next(self.last_seq)
        {
            fx.act(Action::Send(outgoing));
        }
    }
}
