//! Whom to dial, and when: bootstrap addresses and members, for ever, with growing bounded pauses.
//!
//! Pure: the time, the randomness and who is connected come from outside, what to resolve and to dial
//! goes out. A target is one bootstrap address (one name may stand for many nodes) or one member (with
//! several addresses, tried one after the other). One round: all names are resolved anew, each address
//! behind them is dialled unless this node or a connected peer is known to be there.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};

use crate::address::Place;

/// The pause after the first round in vain; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause while something is missing.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// How often a bootstrap address is looked at while all nodes behind it are connected.
const STEADY_PAUSE: Duration = Duration::from_secs(5);

/// How long an address that led to this node itself is left out: pods exchange addresses.
const SELF_REMEMBERED: Duration = Duration::from_secs(60);

/// Addresses whose peer is remembered; the oldest makes room.
const MOST_LEARNED: usize = 256;

/// Dials of one bootstrap address at a time.
const WIDTH: usize = 8;

/// What is dialled until it is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// A place in the list of bootstrap addresses.
    Bootstrap(usize),
    Member(PeerId),
}

/// What the node is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Do {
    Resolve {
        target: Target,
        places: Vec<Place>,
    },
    Dial {
        target: Target,
        peer: Option<PeerId>,
        address: Multiaddr,
    },
}

/// How a dial ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A connection to this peer, new or because there was one already.
    Reached(PeerId),
    /// It was this node.
    Myself,
    Failed,
}

#[derive(Debug)]
struct Round {
    places: Vec<Place>,
    next: Instant,
    /// Rounds in vain, one after the other.
    vain: u32,
    resolving: bool,
    waiting: VecDeque<(Option<PeerId>, Multiaddr)>,
    dialling: usize,
    /// Nothing failed in this round.
    is_well: bool,
    has_dialled: bool,
}

#[derive(Debug, Clone, Copy)]
struct Learned {
    /// `None`: this node.
    peer: Option<PeerId>,
    at: Instant,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Dialler {
    rounds: BTreeMap<Target, Round>,
    learned: BTreeMap<Multiaddr, Learned>,
}

impl Dialler {
    pub(crate) fn new(now: Instant, bootstrap: Vec<Place>) -> Self {
        let rounds = bootstrap
            .into_iter()
            .enumerate()
            .map(|(at, place)| (Target::Bootstrap(at), Round::new(now, vec![place])))
            .collect();
        Self {
            rounds,
            learned: BTreeMap::new(),
        }
    }

    /// Replaces the members to dial; this node is not among them.
    pub(crate) fn set_members(&mut self, now: Instant, members: BTreeMap<PeerId, Vec<Place>>) {
        self.rounds.retain(|target, _| match target {
            Target::Bootstrap(_) => true,
            Target::Member(peer) => members.contains_key(peer),
        });
        for (peer, places) in members {
            let round = self
                .rounds
                .entry(Target::Member(peer))
                .or_insert_with(|| Round::new(now, Vec::new()));
            if round.places != places {
                round.places = places;
                round.vain = 0;
                round.next = now;
            }
        }
    }

    /// A peer is up: what led to it starts with a short pause when it is lost.
    pub(crate) fn up(&mut self, peer: &PeerId) {
        for (target, round) in &mut self.rounds {
            if target.leads_to(peer, &round.places) {
                round.vain = 0;
            }
        }
    }

    /// A peer was lost. `jitter` is in 0..1.
    pub(crate) fn down(&mut self, now: Instant, peer: &PeerId, jitter: f64) {
        self.learned
            .retain(|_, learned| learned.peer != Some(*peer));
        for (target, round) in &mut self.rounds {
            // Behind a bare bootstrap address anybody may have been.
            let bare = round.places.iter().any(|place| place.peer.is_none());
            if bare || target.leads_to(peer, &round.places) {
                round.next = round.next.min(now + FIRST_PAUSE.mul_f64(jitter));
            }
        }
    }

    /// What is due. `connected` are peers that are up.
    pub(crate) fn due(&mut self, now: Instant, connected: &BTreeSet<PeerId>) -> Vec<Do> {
        let mut todo = Vec::new();
        for (target, round) in &mut self.rounds {
            if round.next > now || round.is_busy() || round.places.is_empty() {
                continue;
            }
            let wanted: Vec<Place> = round
                .places
                .iter()
                .filter(|place| {
                    let peer = place.peer.or(target.member());
                    peer.is_none_or(|peer| !connected.contains(&peer))
                })
                .cloned()
                .collect();
            round.is_well = true;
            round.has_dialled = false;
            if wanted.is_empty() {
                round.next = now + STEADY_PAUSE;
            } else {
                round.resolving = true;
                todo.push(Do::Resolve {
                    target: *target,
                    places: wanted,
                });
            }
        }
        todo
    }

    /// The addresses behind a target's places, each with the peer expected there; `is_whole` is false
    /// if a name could not be resolved.
    pub(crate) fn resolved(
        &mut self,
        now: Instant,
        target: Target,
        found: Vec<(Option<PeerId>, Multiaddr)>,
        is_whole: bool,
        connected: &BTreeSet<PeerId>,
        jitter: f64,
    ) -> Vec<Do> {
        let Some(round) = self.rounds.get_mut(&target) else {
            return Vec::new();
        };
        round.resolving = false;
        round.is_well &= is_whole;
        round.waiting = found
            .into_iter()
            .map(|(peer, address)| (peer.or(target.member()), address))
            .collect();
        self.go_on(now, target, connected, jitter)
    }

    /// A dial of a target ended.
    pub(crate) fn ended(
        &mut self,
        now: Instant,
        target: Target,
        address: &Multiaddr,
        outcome: Outcome,
        connected: &BTreeSet<PeerId>,
        jitter: f64,
    ) -> Vec<Do> {
        match outcome {
            Outcome::Reached(peer) => self.learn(now, address, Some(peer)),
            Outcome::Myself => self.learn(now, address, None),
            Outcome::Failed => {
                self.learned.remove(address);
            }
        }
        let Some(round) = self.rounds.get_mut(&target) else {
            return Vec::new();
        };
        round.dialling = round.dialling.saturating_sub(1);
        round.is_well &= outcome != Outcome::Failed;
        if let (Outcome::Reached(peer), Target::Member(member)) = (outcome, target)
            && peer == member
        {
            round.waiting.clear();
        }
        self.go_on(now, target, connected, jitter)
    }

    fn learn(&mut self, now: Instant, address: &Multiaddr, peer: Option<PeerId>) {
        if self.learned.len() >= MOST_LEARNED && !self.learned.contains_key(address) {
            let oldest = self.learned.iter().min_by_key(|(_, learned)| learned.at);
            if let Some(oldest) = oldest.map(|(address, _)| address.clone()) {
                self.learned.remove(&oldest);
            }
        }
        self.learned
            .insert(address.clone(), Learned { peer, at: now });
    }

    /// Dials what waits; ends the round if nothing does.
    fn go_on(
        &mut self,
        now: Instant,
        target: Target,
        connected: &BTreeSet<PeerId>,
        jitter: f64,
    ) -> Vec<Do> {
        let Some(round) = self.rounds.get_mut(&target) else {
            return Vec::new();
        };
        let width = if target.member().is_some() { 1 } else { WIDTH };
        let mut todo = Vec::new();
        while round.dialling < width {
            let Some((peer, address)) = round.waiting.pop_front() else {
                break;
            };
            let is_there = match self.learned.get(&address) {
                Some(Learned {
                    peer: Some(peer), ..
                }) => connected.contains(peer),
                Some(Learned { peer: None, at }) => now < *at + SELF_REMEMBERED,
                None => false,
            };
            if is_there || peer.is_some_and(|peer| connected.contains(&peer)) {
                continue;
            }
            round.dialling += 1;
            round.has_dialled = true;
            todo.push(Do::Dial {
                target,
                peer,
                address,
            });
        }
        if !round.is_busy() {
            round.finish(now, jitter);
        }
        todo
    }
}

impl Target {
    fn member(self) -> Option<PeerId> {
        match self {
            Self::Bootstrap(_) => None,
            Self::Member(peer) => Some(peer),
        }
    }

    fn leads_to(self, peer: &PeerId, places: &[Place]) -> bool {
        self.member().as_ref() == Some(peer)
            || places.iter().any(|place| place.peer.as_ref() == Some(peer))
    }
}

impl Round {
    fn new(now: Instant, places: Vec<Place>) -> Self {
        Self {
            places,
            next: now,
            vain: 0,
            resolving: false,
            waiting: VecDeque::new(),
            dialling: 0,
            is_well: true,
            has_dialled: false,
        }
    }

    fn is_busy(&self) -> bool {
        self.resolving || self.dialling > 0 || !self.waiting.is_empty()
    }

    fn finish(&mut self, now: Instant, jitter: f64) {
        let pause = if self.is_well && !self.has_dialled {
            self.vain = 0;
            STEADY_PAUSE
        } else {
            // Who was reached may yet refuse this node, so that counts as in vain until it is up.
            let pause = FIRST_PAUSE
                .saturating_mul(1 << self.vain.min(10))
                .min(LONGEST_PAUSE);
            self.vain = self.vain.saturating_add(1);
            pause
        };
        self.next = now + pause.mul_f64(0.5 + jitter / 2.0);
    }
}
