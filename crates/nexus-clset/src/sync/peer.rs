//! What is known of one peer, and what was asked of it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::message::{Digest, PullRequest};
use crate::replica::Replica;
use crate::rows::Rows;
use crate::sync::report::Notice;
use crate::sync::{Member, Now, Output, Sync};
use crate::version::NodeId;

/// How long a peer is left alone after it did not answer once; twice as long after each further time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest that a peer is left alone.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// One peer.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Whether it can be reached.
    pub(super) up: bool,
    /// What it said last.
    pub(super) digest: Option<Digest>,
    /// Which list of members it went by then.
    pub(super) epoch: u64,
    /// When it was heard last.
    pub(super) heard: Option<Duration>,
    /// When it was greeted last, and when it will be again.
    pub(super) greeted: Option<Duration>,
    pub(super) next_greeting: Duration,
    /// Since when it is known to have what is missing here.
    pub(super) missing_since: Option<Duration>,
    /// What is being pulled from it.
    pub(super) pull: Option<Pull>,
    /// No pull before it was heard once more: the last one brought nothing.
    pub(super) pull_after_greeting: bool,
    /// Questions in a row that were not answered, and until when it is left alone.
    pub(super) failures: u32,
    pub(super) pause_until: Duration,
    pub(super) refuses_us: bool,
    /// Whether it has less than it said in an earlier boot that it had for good.
    pub(super) rolled_back: bool,
    /// When roots were compared last.
    pub(super) compared: Option<Duration>,
    /// How often in a row roots differed although all was seen.
    pub(super) mismatches: u32,
    pub(super) next_repair: Duration,
    pub(super) repairs: u64,
    pub(super) repaired: Option<Duration>,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) rounds: u64,
}

/// A pull on its way.
#[derive(Debug)]
pub(super) struct Pull {
    pub(super) request: PullRequest,
    /// The question, if one is on its way.
    pub(super) id: Option<u64>,
    pub(super) new_entries: usize,
}

/// A question on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) to: NodeId,
    pub(super) what: What,
    pub(super) since: Now,
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Greeting,
    Pull,
    Repair,
}

impl Peer {
    /// Whether it may be asked for something now.
    pub(super) fn is_ready(&self, now: Duration) -> bool {
        self.up && self.pause_until <= now
    }
}

impl Sync {
    pub(super) fn up(&mut self, node: NodeId) {
        if node == self.me {
            return;
        }
        let peer = self.peers.entry(node).or_default();
        peer.up = true;
        peer.failures = 0;
        peer.pause_until = Duration::ZERO;
        peer.next_greeting = self.now.boot;
    }

    pub(super) fn down(&mut self, node: NodeId) {
        self.asked.retain(|_, asked| asked.to != node);
        self.held.retain(|held| held.to != node);
        if self.session.as_ref().is_some_and(|s| s.peer() == node) {
            self.session = None;
        }
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.up = false;
            peer.pull = None;
            if !self.members.contains_key(&node) {
                self.peers.remove(&node);
            }
        }
    }

    /// A question was not answered: leaves the peer alone for a while, so that another one is asked.
    pub(super) fn failed(&mut self, from: NodeId, id: u64) {
        let Some(asked) = self.asked.get(&id).filter(|asked| asked.to == from) else {
            return;
        };
        let what = asked.what;
        self.asked.remove(&id);
        let now = self.now.boot;
        if what == What::Repair && self.session.as_ref().is_some_and(|s| s.peer() == from) {
            self.session = None;
        }
        if let Some(peer) = self.peers.get_mut(&from) {
            let pause = FIRST_PAUSE.saturating_mul(1 << peer.failures.min(5));
            peer.failures = peer.failures.saturating_add(1);
            peer.pause_until = now.saturating_add(pause.min(LONGEST_PAUSE));
            peer.next_greeting = peer.pause_until;
            if what == What::Pull {
                peer.pull = None;
            }
        }
        self.traffic.failures = self.traffic.failures.saturating_add(1);
    }

    pub(super) fn succeeded(&mut self, from: NodeId) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.failures = 0;
            peer.pause_until = Duration::ZERO;
            peer.refuses_us = false;
        }
    }

    pub(super) fn set_members<R: Rows>(
        &mut self,
        replica: &mut Replica<R>,
        epoch: u64,
        members: &[Member],
        out: &mut Vec<Output>,
    ) {
        // A list of before the last one, told late.
        if epoch < self.epoch {
            return;
        }
        self.epoch = epoch;
        let new: BTreeMap<NodeId, Member> = members.iter().map(|m| (m.node, *m)).collect();
        let before = std::mem::replace(&mut self.members, new);
        // Who was removed and admitted again is another one, whether a list without it came here or not.
        let stays = |node: &NodeId| {
            let admitted = self.members.get(node).map(|member| member.admitted);
            let known = before.get(node).map(|member| member.admitted);
            admitted.is_some() && known.is_none_or(|known| admitted == Some(known))
        };
        let me = self.me;
        for node in self.members.keys().filter(|node| **node != me) {
            self.peers.entry(*node).or_default();
        }
        for (node, peer) in &mut self.peers {
            if !stays(node) {
                // What it said counts no more; if it comes back, it starts over.
                let up = peer.up;
                self.guard.forget(*node);
                *peer = Peer {
                    up,
                    ..Peer::default()
                };
            }
        }
        self.peers
            .retain(|node, peer| peer.up || self.members.contains_key(node));
        self.asked.retain(|_, asked| stays(&asked.to));
        let gone = |session: &super::Session| !stays(&session.peer());
        if self.session.as_ref().is_some_and(gone) {
            self.session = None;
        }
        let claimants: Vec<_> = replica.claimants().collect();
        for peer in claimants {
            if !stays(&peer) {
                out.extend(replica.drop_claims(peer).map(Output::Write));
            }
        }
        if let Some(member) = self.members.get(&self.me) {
            match replica.admitted() {
                None => out.push(Output::Write(replica.set_admitted(member.admitted))),
                Some(before) if before != member.admitted => {
                    let why = format!(
                        "this node was removed from the cluster and admitted again (at {before}, then at {}): others have gone on without it; wipe its store and let it start over from its peers",
                        member.admitted
                    );
                    self.stop(Notice::MustStartOver { why }, out);
                }
                Some(_) => {}
            }
        } else if replica.admitted().is_some() && self.housekeeping.told_of_removal != epoch {
            self.housekeeping.told_of_removal = epoch;
            out.push(Output::Report(Notice::Removed));
        }
    }
}
