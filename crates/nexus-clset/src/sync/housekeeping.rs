//! What is done from time to time: collecting tombstones, forgetting writers, comparing rows with their summary.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::Error;
use crate::replica::Replica;
use crate::rows::Rows;
use crate::sync::{MAX_UNSETTLED_FOR_PULLS, Notice, Now, Output, Sync};
use crate::version::{Incarnation, NodeId};

/// How often a round of collection goes a step on.
const COLLECT_EVERY: Duration = Duration::from_secs(1);

/// Changes that remove tombstones, in one tick.
const REMOVALS: usize = 4;

/// When what is done next.
#[derive(Debug)]
pub(super) struct Plan {
    next_collection: Duration,
    next_block: Duration,
    scrub_after: Vec<u8>,
    blocks: u64,
    damaged: u64,
    tombstones: u64,
    started: Duration,
    /// The list of members for which it was told that this node is not in it.
    pub(super) told_of_removal: u64,
}

impl Plan {
    pub(super) fn new(now: Now) -> Self {
        Self {
            next_collection: now.boot,
            next_block: now.boot,
            scrub_after: Vec::new(),
            blocks: 0,
            damaged: 0,
            tombstones: 0,
            started: now.boot,
            told_of_removal: 0,
        }
    }

    pub(super) const fn started(&self) -> Duration {
        self.started
    }

    pub(super) const fn tombstones(&self) -> u64 {
        self.tombstones
    }

    pub(super) const fn scrubbed(&self) -> (u64, u64) {
        (self.blocks, self.damaged)
    }
}

impl Sync {
    pub(super) fn keep_house<R: Rows>(
        &mut self,
        replica: &mut Replica<R>,
        out: &mut Vec<Output>,
    ) -> Result<(), Error<R::Error>> {
        self.tell_of_clocks(out);
        self.durable_digest(replica);
        self.housekeeping.tombstones = replica.tombstones();
        self.forget_confirmed();
        if self.stopped.is_some() || replica.unsettled_rows() >= MAX_UNSETTLED_FOR_PULLS {
            return Ok(());
        }
        for _ in 0..REMOVALS {
            match replica.collect()? {
                Some(change) => out.push(Output::Write(change)),
                None => break,
            }
        }
        let now = self.now.boot;
        if now >= self.housekeeping.next_collection && self.is_proposer(replica) {
            self.housekeeping.next_collection = now.saturating_add(COLLECT_EVERY);
            self.propose(replica, out)?;
        }
        self.scrub(replica, out)
    }

    /// One member proposes at a time, so that rounds do not run side by side. (If they did, nothing would
    /// be wrong.)
    fn is_proposer<R: Rows>(&self, replica: &Replica<R>) -> bool {
        replica.is_complete()
            && self.is_member(self.me)
            && self
                .members
                .keys()
                .take_while(|node| **node != self.me)
                .all(|node| !self.peers.get(node).is_some_and(|peer| peer.up))
    }

    /// Whoever is not up to date is told of by notes; what all members have confirmed needs none.
    fn forget_confirmed(&mut self) {
        let own = self.durable.origin;
        let others = self.members.keys().filter(|node| **node != self.me);
        let confirmed = others
            .map(|node| self.peers.get(node).and_then(|peer| peer.digest.as_ref()))
            .map(|digest| digest.map_or(0, |digest| digest.seen.upto(own)))
            .min();
        if let Some(confirmed) = confirmed {
            self.outbox.forget_upto(confirmed);
        }
    }

    fn propose<R: Rows>(
        &mut self,
        replica: &mut Replica<R>,
        out: &mut Vec<Output>,
    ) -> Result<(), Error<R::Error>> {
        let mut seen = Vec::new();
        let mut current = BTreeMap::<NodeId, Incarnation>::new();
        current.insert(self.me, replica.origin().incarnation);
        for node in self.members.keys().filter(|node| **node != self.me) {
            let Some(peer) = self.peers.get(node) else {
                return Ok(());
            };
            // A member that goes by another list may have given entries to somebody who is not counted
            // here, before it had the tombstones that superseded them.
            let Some(digest) = peer.digest.as_ref().filter(|_| peer.epoch == self.epoch) else {
                return Ok(());
            };
            seen.push(&digest.seen);
            current.insert(*node, digest.origin.incarnation);
        }
        let changes = replica.propose_collection_and_retirement(&seen, &current, self.now.wall)?;
        out.extend(changes.into_iter().map(Output::Write));
        Ok(())
    }

    /// Compares the rows of one block with its fingerprint, when that is due.
    fn scrub<R: Rows>(
        &mut self,
        replica: &mut Replica<R>,
        out: &mut Vec<Output>,
    ) -> Result<(), Error<R::Error>> {
        let now = self.now.boot;
        let Some(whole) = self.options.scrub else {
            return Ok(());
        };
        if now < self.housekeeping.next_block {
            return Ok(());
        }
        let blocks = u32::try_from(replica.summary().blocks().count()).unwrap_or(u32::MAX);
        let pause = whole / blocks.max(1);
        self.housekeeping.next_block = now.saturating_add(pause);
        let low = std::mem::take(&mut self.housekeeping.scrub_after);
        let Some(checked) = replica.check_block(&low)? else {
            return Ok(());
        };
        self.housekeeping.blocks = self.housekeeping.blocks.saturating_add(1);
        if !checked.sound {
            self.housekeeping.damaged = self.housekeeping.damaged.saturating_add(1);
            let low = checked.low;
            out.push(Output::Report(Notice::RowsDamaged { low }));
            self.durable_digest(replica);
        }
        self.housekeeping.scrub_after = checked.next.unwrap_or_default();
        Ok(())
    }

    pub(super) fn is_overdue(&self, node: NodeId) -> bool {
        let heard = self.peers.get(&node).and_then(|peer| peer.heard);
        let since = heard.unwrap_or(self.housekeeping.started);
        self.now.boot.saturating_sub(since) > self.options.overdue
    }
}
