//! Greeting peers: each says what it has, and learns what it lacks and whether the two are alike.

use std::cmp::Ordering;
use std::time::Duration;

use crate::error::Error;
use crate::message::Digest;
use crate::replica::Replica;
use crate::retired::Retired;
use crate::rows::Rows;
use crate::sync::peer::What;
use crate::sync::wire::{Greeting, Question, Reply};
use crate::sync::{Notice, Output, Sync};
use crate::vector::VersionVector;
use crate::version::{Dot, NodeId};

/// Greetings of one peer are so far apart at least, but while a shutdown waits for it.
const MIN_INTERVAL: Duration = Duration::from_millis(500);

/// How far apart they are then.
const FLUSH_INTERVAL: Duration = Duration::from_millis(20);

/// How long an answer may wait for a write to reach the disk.
const HOLD_TIME: Duration = Duration::from_millis(300);

/// Most answers that wait.
const MAX_HELD: usize = 64;

/// An answer that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) to: NodeId,
    id: u64,
    write: Dot,
    until: Duration,
}

impl Sync {
    pub(super) fn greeting<R: Rows>(&mut self, replica: &Replica<R>) -> Greeting {
        Greeting {
            digest: self.durable_digest(replica),
            wall: self.now.wall,
            epoch: self.epoch,
            admitted: replica.admitted().unwrap_or_default(),
        }
    }

    pub(super) fn greet_who_is_due<R: Rows>(
        &mut self,
        replica: &Replica<R>,
        out: &mut Vec<Output>,
    ) {
        let now = self.now.boot;
        let due: Vec<(NodeId, bool)> = self
            .peers
            .iter()
            .filter_map(|(node, peer)| {
                let waits = self.waits_for(peer);
                let (interval, due) = match waits {
                    true => (FLUSH_INTERVAL, now),
                    false => (MIN_INTERVAL, peer.next_greeting),
                };
                let rested = peer
                    .greeted
                    .is_none_or(|at| now.saturating_sub(at) >= interval);
                let due = peer.is_ready(now) && self.is_member(*node) && due <= now && rested;
                due.then_some((*node, waits))
            })
            .collect();
        for (node, waits) in due {
            let waiting = |asked: &super::Asked| asked.to == node && asked.what == What::Greeting;
            if self.asked.values().any(waiting) {
                continue;
            }
            let wait_for = if waits { self.outbox.last } else { 0 };
            let question = Question::Greeting(self.greeting(replica), wait_for);
            self.ask(node, What::Greeting, &question, out);
            let next = now.saturating_add(self.interval());
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.greeted = Some(now);
                peer.next_greeting = next;
            }
        }
    }

    /// Whether a peer has broken its word on what it has for good.
    pub(super) fn is_rolled_back(&self, peer: NodeId) -> bool {
        self.peers.get(&peer).is_some_and(|peer| peer.rolled_back)
    }

    /// Whether an answer is better given later: when a write of the asking origin is on disk here.
    pub(super) fn hold(&mut self, from: NodeId, id: u64, greeting: &Greeting, seq: u64) -> bool {
        let origin = greeting.digest.origin;
        let write = Dot { origin, seq };
        let holds = seq > 0 && self.held.len() < MAX_HELD && self.durable.seen.upto(origin) < seq;
        if holds {
            let until = self.now.boot.saturating_add(HOLD_TIME);
            let to = from;
            self.held.push(Held {
                to,
                id,
                write,
                until,
            });
        }
        holds
    }

    /// Gives answers that have waited for what is on disk now, or for long enough.
    pub(super) fn answer_held<R: Rows>(&mut self, replica: &Replica<R>, out: &mut Vec<Output>) {
        if self.held.is_empty() {
            return;
        }
        self.durable_digest(replica);
        let ripe = |held: &Held, seen: &VersionVector, now: Duration| {
            held.until <= now || seen.upto(held.write.origin) >= held.write.seq
        };
        let now = self.now.boot;
        let (ripe, held) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|held| ripe(held, &self.durable.seen, now));
        self.held = held;
        let ripe: Vec<Held> = ripe;
        for held in ripe {
            let bytes = Reply::Greeting(self.greeting(replica)).encode();
            self.sent(held.to, bytes.len());
            out.push(Output::Answer { id: held.id, bytes });
        }
    }

    /// From three to five quarters of the interval.
    fn interval(&mut self) -> Duration {
        let whole = self.options.rebroadcast.as_millis();
        let whole = u64::try_from(whole).unwrap_or(u64::MAX);
        let spread = self.random() % (whole / 2).max(1);
        Duration::from_millis((whole / 4).saturating_mul(3).saturating_add(spread))
    }

    /// A peer has said what it has, asking or answering.
    pub(super) fn greeted<R: Rows>(
        &mut self,
        replica: &mut Replica<R>,
        from: NodeId,
        greeting: &Greeting,
        out: &mut Vec<Output>,
    ) -> Result<(), Error<R::Error>> {
        // Who was removed and admitted again, and does not know it yet, speaks of a store that it will
        // have to wipe.
        let known = self.members.get(&from).map(|member| member.admitted);
        if greeting.admitted != 0 && known != Some(greeting.admitted) {
            return Ok(());
        }
        let result = replica.receive_digest(from, &greeting.digest);
        let received = result.map(|(received, _)| received);
        self.take(from, received, out)?;
        if self.stopped.is_some() {
            return Ok(());
        }
        let mut digest = greeting.digest.clone();
        digest
            .seen
            .forget(|origin| replica.retired().contains(origin));
        digest
            .collected
            .forget(|origin| replica.retired().contains(origin));
        let word = self.peers.get(&from).and_then(|peer| peer.digest.as_ref());
        let word = word.map_or(Word::News, |old| word_of(old, &digest, replica.retired()));
        let next = self.now.boot.saturating_add(self.interval());
        let alike = compare(&replica.digest(), &digest);
        let Some(peer) = self.peers.get_mut(&from) else {
            return Ok(());
        };
        peer.rounds = peer.rounds.saturating_add(1);
        peer.heard = Some(self.now.boot);
        peer.next_greeting = next;
        if word == Word::Old {
            return Ok(());
        }
        if word == Word::Broken {
            if !peer.rolled_back {
                peer.rolled_back = true;
                out.push(Output::Report(Notice::RolledBack { peer: from }));
            }
            return Ok(());
        }
        peer.rolled_back = false;
        peer.epoch = greeting.epoch;
        peer.pull_after_greeting = false;
        peer.digest = Some(digest);
        match alike {
            Alike::Yes => {
                peer.compared = Some(self.now.boot);
                peer.mismatches = 0;
            }
            Alike::No => {
                peer.compared = Some(self.now.boot);
                peer.mismatches = peer.mismatches.saturating_add(1);
            }
            Alike::Unknown => {}
        }
        Ok(())
    }
}

/// How what a peer says goes with what it said before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// It has more, or starts over.
    News,
    /// It was overtaken on its way by what was said later.
    Old,
    /// It has less than it had for good in an earlier boot.
    Broken,
}

fn word_of(before: &Digest, now: &Digest, retired: &Retired) -> Word {
    // After a wipe nothing counts that was said before; what was said before may still be on its way.
    match now.born.cmp(&before.born) {
        Ordering::Less => return Word::Old,
        Ordering::Greater => return Word::News,
        Ordering::Equal => {}
    }
    let mut had = before.seen.clone();
    had.forget(|origin| retired.contains(origin));
    let kept = now.seen.covers(&had);
    match now.origin.incarnation.cmp(&before.origin.incarnation) {
        Ordering::Less => Word::Old,
        Ordering::Equal if kept => Word::News,
        Ordering::Equal => Word::Old,
        Ordering::Greater if kept || !now.complete || !before.complete => Word::News,
        Ordering::Greater => Word::Broken,
    }
}

/// Whether two replicas hold the same, by their roots.
pub(super) fn alike(ours: &Digest, theirs: &Digest) -> bool {
    compare(ours, theirs) == Alike::Yes
}

/// Whether two replicas are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alike {
    /// Their roots are equal, and they have seen the same.
    Yes,
    /// They have seen the same, and their roots differ.
    No,
    /// One has seen what the other has not, or has yet to remove what is collected.
    Unknown,
}

fn compare(ours: &Digest, theirs: &Digest) -> Alike {
    let comparable = ours.complete
        && theirs.complete
        && ours.swept
        && theirs.swept
        && ours.seen == theirs.seen
        && ours.collected == theirs.collected;
    if !comparable {
        Alike::Unknown
    } else if ours.fingerprint == theirs.fingerprint {
        Alike::Yes
    } else {
        Alike::No
    }
}
