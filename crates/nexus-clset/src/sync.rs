//! Bringing replicas together: what to publish, whom to ask, what to answer. A state machine without any I/O.
//!
//! [`Sync`] stands beside a [`Replica`] and is driven by [`Input`]s; whatever is to be done comes back
//! as [`Output`]s. Three layers, each enough to repair the one above: own writes are published in
//! batches; peers greet each other now and then and pull what their version vectors show to be missing;
//! and where everything was seen but roots differ, ranges of keys are compared.
//!
//! Rules for whoever drives it:
//! - [`Output::Write`]s are written in their order, in the one queue in which the replica's own
//!   changes are written too; [`Input::Durable`] says up to where they are on disk.
//! - [`Input::Wrote`] only with the delta of a change that is durable.
//! - [`Input::Tick`] about every 10 ms. It may come later; nothing depends on more than that it comes.
//! - Every [`Output::Ask`] ends in one [`Input::Answer`] or [`Input::Failed`]. If neither comes, it counts
//!   as failed after [`Options::patience`].
//! - An error of [`Sync::step`] is one of the rows: drop replica and machine, and open them anew.

mod clock;
mod digest;
mod gossip;
mod housekeeping;
mod peer;
mod pull;
mod repair;
mod report;
#[cfg(test)]
mod tests;
mod types;
mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Error, Malformed};
use crate::message::Digest;
use crate::replica::{Received, Replica, Ticket};
use crate::rows::Rows;
use crate::vector::VersionVector;
use crate::version::NodeId;

use clock::Guard;
use gossip::Outbox;
use peer::{Asked, Peer, What};
use repair::Session;
use wire::{Question, Refusal, Reply};

pub use clock::{ClockNotice, WritesRefused};
pub use report::{Bootstrap, ClockReport, Notice, PeerReport, Report, Traffic};
pub use types::{Input, Member, Now, Options, Output};

/// Most rows that may wait to be written before pushes are dropped (they are pulled later).
const MAX_UNSETTLED_FOR_PUSHES: usize = 64 * 1024;

/// Most rows that may wait to be written before no more is asked for.
const MAX_UNSETTLED_FOR_PULLS: usize = 16 * 1024;

/// What one replica knows of its peers, and is about to do.
#[derive(Debug)]
pub struct Sync {
    options: Options,
    me: NodeId,
    epoch: u64,
    members: BTreeMap<NodeId, Member>,
    /// Members, and peers that can be reached.
    peers: BTreeMap<NodeId, Peer>,
    asked: BTreeMap<u64, Asked>,
    held: Vec<digest::Held>,
    next_id: u64,
    outbox: Outbox,
    guard: Guard,
    /// What this replica has for good.
    durable: Digest,
    /// What it will have for good when that change is on disk.
    snapshot: Option<(Ticket, Digest)>,
    /// Why this replica takes and gives nothing any more.
    stopped: Option<Notice>,
    bootstrap: pull::Progress,
    session: Option<Session>,
    flush_until: Option<Duration>,
    housekeeping: housekeeping::Plan,
    traffic: Traffic,
    random: u64,
    now: Now,
}

impl Sync {
    /// Of a replica that was just opened, and before anything else is done with it.
    #[must_use]
    pub fn new<R: Rows>(options: Options, replica: &Replica<R>, now: Now) -> Self {
        Self {
            me: replica.origin().node,
            epoch: 0,
            members: BTreeMap::new(),
            peers: BTreeMap::new(),
            asked: BTreeMap::new(),
            held: Vec::new(),
            next_id: 1,
            outbox: Outbox::default(),
            guard: Guard::default(),
            durable: replica.digest(),
            snapshot: None,
            stopped: None,
            bootstrap: pull::Progress::default(),
            session: None,
            flush_until: None,
            housekeeping: housekeeping::Plan::new(now),
            traffic: Traffic::default(),
            random: options.seed ^ u64::from(replica.origin().incarnation.0),
            options: Options {
                page_bytes: options.page_bytes.clamp(1024, 1024 * 1024),
                ..options
            },
            now,
        }
    }

    /// Takes one input and says what is to be done, in order.
    ///
    /// # Errors
    /// Rows that cannot be read or are malformed: replica and machine are of no use any more.
    pub fn step<R: Rows>(
        &mut self,
        replica: &mut Replica<R>,
        now: Now,
        input: Input<'_>,
    ) -> Result<Vec<Output>, Error<R::Error>> {
        let mut out = Vec::new();
        self.now = now;
        match input {
            Input::Wrote(delta) => self.wrote(replica, delta, &mut out),
            Input::Durable(ticket) => {
                self.settled(replica, ticket);
                self.answer_held(replica, &mut out);
            }
            Input::Gossip { from, bytes } => self.gossip(replica, from, bytes, &mut out)?,
            Input::Question { from, id, bytes } => {
                if let Some(reply) = self.question(replica, from, id, bytes, &mut out)? {
                    let bytes = reply.encode();
                    self.sent(from, bytes.len());
                    out.push(Output::Answer { id, bytes });
                }
            }
            Input::Answer { from, id, bytes } => {
                self.answer(replica, from, id, bytes, &mut out)?;
                self.schedule(replica, &mut out)?;
            }
            Input::Failed { from, id } => {
                self.failed(from, id);
                self.schedule(replica, &mut out)?;
            }
            Input::Up(node) => {
                self.up(node);
                self.schedule(replica, &mut out)?;
            }
            Input::Down(node) => self.down(node),
            Input::Members { epoch, members } => {
                self.set_members(replica, epoch, members, &mut out);
                self.schedule(replica, &mut out)?;
            }
            Input::Flush => {
                self.flush(replica, &mut out);
                self.schedule(replica, &mut out)?;
            }
            Input::Tick => {
                self.time_out();
                self.answer_held(replica, &mut out);
                self.publish_if_due(replica, &mut out);
                self.keep_house(replica, &mut out)?;
                self.schedule(replica, &mut out)?;
            }
        }
        Ok(out)
    }

    /// What a peer has for good, as it said itself: when this covers what a node accepted, that is safe
    /// there.
    #[must_use]
    pub fn acknowledged_by(&self, peer: NodeId) -> VersionVector {
        let digest = self.peers.get(&peer).and_then(|peer| peer.digest.as_ref());
        digest.map_or_else(VersionVector::default, |digest| digest.seen.clone())
    }

    /// Why this node must not be written to now, because its wall clock is wrong.
    #[must_use]
    pub fn writes_refused(&self) -> Option<WritesRefused> {
        self.guard.refused(self.now)
    }

    /// Why this replica must be wiped and start over, if it must.
    #[must_use]
    pub fn must_start_over(&self) -> Option<&str> {
        match &self.stopped {
            Some(Notice::MustStartOver { why }) => Some(why),
            _ => None,
        }
    }

    /// Why this replica takes and gives nothing any more: [`Notice::MustStartOver`] or [`Notice::Twin`].
    #[must_use]
    pub const fn stopped(&self) -> Option<&Notice> {
        self.stopped.as_ref()
    }

    fn settled<R: Rows>(&mut self, replica: &mut Replica<R>, ticket: Ticket) {
        replica.settle(ticket);
        if let Some((_, digest)) = self.snapshot.take_if(|(at, _)| *at <= ticket) {
            self.durable = digest;
        }
        if self.snapshot.is_none() && replica.unsettled_rows() > 0 {
            self.snapshot = Some((replica.last_ticket(), replica.digest()));
        }
    }

    /// What this replica has for good, brought up to date if something changed.
    fn durable_digest<R: Rows>(&mut self, replica: &Replica<R>) -> Digest {
        if replica.unsettled_rows() == 0 {
            self.snapshot = None;
            self.durable = replica.digest();
        } else if self.snapshot.is_none() {
            self.snapshot = Some((replica.last_ticket(), replica.digest()));
        }
        self.durable.clone()
    }

    fn question<R: Rows>(
        &mut self,
        replica: &mut Replica<R>,
        from: NodeId,
        id: u64,
        bytes: &[u8],
        out: &mut Vec<Output>,
    ) -> Result<Option<Reply>, Error<R::Error>> {
        self.received(from, bytes.len());
        let question = match Question::decode(bytes) {
            Ok(question) => question,
            Err(error) => {
                misbehaved(from, &error, out);
                return Ok(Some(Reply::Refused(Refusal::NotNow)));
            }
        };
        if self.stopped.is_some() {
            return Ok(Some(Reply::Refused(Refusal::NotNow)));
        }
        if !self.is_member(from) {
            self.traffic.strangers = self.traffic.strangers.saturating_add(1);
            return Ok(Some(Reply::Refused(Refusal::NotAMember)));
        }
        let greets = matches!(question, Question::Greeting(..));
        if !greets && self.is_rolled_back(from) {
            return Ok(Some(Reply::Refused(Refusal::RolledBack)));
        }
        let reply = match question {
            Question::Greeting(greeting, wait_for) => {
                self.greeted(replica, from, &greeting, out)?;
                if self.is_rolled_back(from) {
                    return Ok(Some(Reply::Refused(Refusal::RolledBack)));
                }
                if self.hold(from, id, &greeting, wait_for) {
                    return Ok(None);
                }
                Reply::Greeting(self.greeting(replica))
            }
            Question::Pull(request) => {
                let answer = replica.answer(&request, self.options.page_bytes)?;
                Reply::Pull(answer)
            }
            Question::Expand(expand) => Reply::Expanded(replica.expand(&expand)?),
            Question::Fetch(fetch) => Reply::Fetched(replica.fetch(&fetch)?),
            Question::Store(delta) => {
                if replica.unsettled_rows() > MAX_UNSETTLED_FOR_PUSHES || !replica.is_complete() {
                    return Ok(Some(Reply::Refused(Refusal::NotNow)));
                }
                let received = replica.repair(&delta, self.now.wall);
                self.take(from, received, out)?;
                Reply::Stored
            }
        };
        Ok(Some(reply))
    }

    fn answer<R: Rows>(
        &mut self,
        replica: &mut Replica<R>,
        from: NodeId,
        id: u64,
        bytes: &[u8],
        out: &mut Vec<Output>,
    ) -> Result<(), Error<R::Error>> {
        self.received(from, bytes.len());
        // Too late, or for a peer that has gone since.
        let Some(asked) = self.asked.get(&id).filter(|asked| asked.to == from) else {
            return Ok(());
        };
        let since = asked.since;
        let reply = match Reply::decode(bytes) {
            Ok(reply) => reply,
            Err(error) => {
                misbehaved(from, &error, out);
                self.failed(from, id);
                return Ok(());
            }
        };
        let what = asked.what;
        if self.stopped.is_some() {
            self.asked.remove(&id);
            return Ok(());
        }
        match (what, reply) {
            (What::Greeting, Reply::Greeting(greeting)) => {
                self.asked.remove(&id);
                self.guard.sample(from, since, self.now, greeting.wall);
                self.greeted(replica, from, &greeting, out)?;
                self.succeeded(from);
            }
            (What::Pull, Reply::Pull(answer)) => {
                self.asked.remove(&id);
                self.pulled(replica, from, &answer, bytes.len(), out)?;
                self.succeeded(from);
            }
            (What::Repair, Reply::Expanded(_) | Reply::Fetched(_) | Reply::Stored)
                if self.session.is_none() =>
            {
                self.asked.remove(&id);
            }
            (What::Repair, Reply::Expanded(expanded)) => {
                self.asked.remove(&id);
                self.weigh_repair(bytes.len());
                self.expanded(replica, from, expanded, out)?;
            }
            (What::Repair, Reply::Fetched(fetched)) => {
                self.asked.remove(&id);
                self.weigh_repair(bytes.len());
                self.fetched(replica, from, &fetched, out)?;
            }
            (What::Repair, Reply::Stored) => {
                self.asked.remove(&id);
                self.weigh_repair(bytes.len());
                self.stored();
            }
            (_, Reply::Refused(refusal)) => {
                if let Some(peer) = self.peers.get_mut(&from) {
                    peer.refuses_us = refusal == Refusal::NotAMember;
                }
                self.failed(from, id);
                if refusal == Refusal::RolledBack {
                    let why = format!(
                        "the store of this node is older than what it had told node {} that it had for good: it was restored from a copy, or its disk has lost writes; wipe it and let it start over from its peers",
                        from.0
                    );
                    self.stop(Notice::MustStartOver { why }, out);
                }
            }
            (what, _) => {
                let what = format!("answered a {what:?} with something else");
                out.push(Output::Misbehaved { from, what });
                self.failed(from, id);
            }
        }
        Ok(())
    }

    /// Hands on what was received; finds out whether this replica must start over.
    fn take<E: std::error::Error>(
        &mut self,
        from: NodeId,
        received: Result<Received, Error<E>>,
        out: &mut Vec<Output>,
    ) -> Result<usize, Error<E>> {
        match received {
            Ok(received) => {
                if let Some(lead) = received.too_far_ahead {
                    self.guard.refused_stamp(from, lead);
                }
                out.extend(received.changes.into_iter().map(Output::Write));
                Ok(received.new_entries)
            }
            Err(error @ (Error::LeftBehind { .. } | Error::Forgotten { .. })) => {
                let why = error.to_string();
                self.stop(Notice::MustStartOver { why }, out);
                Ok(0)
            }
            Err(error @ Error::OriginInUse { .. }) => {
                let why = error.to_string();
                self.stop(Notice::Twin { why }, out);
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }

    fn stop(&mut self, notice: Notice, out: &mut Vec<Output>) {
        if self.stopped.is_none() {
            self.stopped = Some(notice.clone());
            self.asked.clear();
            self.session = None;
            for peer in self.peers.values_mut() {
                peer.pull = None;
            }
            out.push(Output::Report(notice));
        }
    }

    /// Does all that is due.
    fn schedule<R: Rows>(
        &mut self,
        replica: &mut Replica<R>,
        out: &mut Vec<Output>,
    ) -> Result<(), Error<R::Error>> {
        if self.stopped.is_some() || !self.is_member(self.me) {
            return Ok(());
        }
        self.greet_who_is_due(replica, out);
        self.start_pulls(replica, out);
        self.go_on_repairing(replica, out)
    }

    fn ask(&mut self, to: NodeId, what: What, question: &Question, out: &mut Vec<Output>) -> u64 {
        let id = self.next_id;
        self.next_id = self.next_id.saturating_add(1);
        let bytes = question.encode();
        self.sent(to, bytes.len());
        let since = self.now;
        self.asked.insert(id, Asked { to, what, since });
        out.push(Output::Ask { to, id, bytes });
        id
    }

    fn time_out(&mut self) {
        let patience = self.options.patience;
        let late = |asked: &Asked| self.now.boot.saturating_sub(asked.since.boot) > patience;
        let late: Vec<_> = self
            .asked
            .iter()
            .filter(|(_, asked)| late(asked))
            .map(|(id, asked)| (*id, asked.to))
            .collect();
        for (id, to) in late {
            self.failed(to, id);
        }
    }

    /// A number that looks random, from the seed.
    fn random(&mut self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn is_member(&self, node: NodeId) -> bool {
        self.members.contains_key(&node)
    }

    fn sent(&mut self, to: NodeId, bytes: usize) {
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.bytes_out = peer.bytes_out.saturating_add(report::number(bytes));
        }
    }

    fn received(&mut self, from: NodeId, bytes: usize) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.bytes_in = peer.bytes_in.saturating_add(report::number(bytes));
        }
    }
}

fn misbehaved(from: NodeId, error: &Malformed, out: &mut Vec<Output>) {
    let what = error.to_string();
    out.push(Output::Misbehaved { from, what });
}
