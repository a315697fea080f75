//! Pushing own writes to all peers in batches, and taking those of others.

use std::collections::VecDeque;
use std::time::Duration;

use crate::error::Error;
use crate::message::{Delta, KeyedEntry};
use crate::replica::Replica;
use crate::rows::Rows;
use crate::sync::{MAX_UNSETTLED_FOR_PUSHES, Notice, Output, Sync, misbehaved, report, wire};
use crate::version::NodeId;

/// A batch with so many bytes is published at once.
const BATCH_BYTES: usize = 48 * 1024;

/// A batch is published at the first tick so long after its first entry.
const BATCH_TIME: Duration = Duration::from_millis(10);

/// Most notes on when own writes were made.
const MAX_NOTES: usize = 4096;

/// How long `flush` goes on.
const FLUSH_TIME: Duration = Duration::from_secs(30);

/// How long a gap that a push has shown may take to close by itself.
const GAP_TIME: Duration = Duration::from_millis(250);

/// Own writes that are to be published.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    entries: Vec<KeyedEntry>,
    bytes: usize,
    since: Duration,
    /// The last own write that is durable and was, or is about to be, published.
    pub(super) last: u64,
    /// Up to which own write all was made when, oldest first.
    notes: VecDeque<(u64, Duration)>,
}

impl Outbox {
    /// When the oldest own write behind `seq` was made.
    pub(super) fn oldest_behind(&self, seq: u64) -> Option<Duration> {
        let note = self.notes.iter().find(|(upto, _)| *upto > seq);
        note.map(|(_, at)| *at)
    }

    pub(super) fn forget_upto(&mut self, seq: u64) {
        while self.notes.front().is_some_and(|(upto, _)| *upto <= seq) {
            self.notes.pop_front();
        }
    }

    fn note(&mut self, seq: u64, now: Duration) {
        match self.notes.back_mut() {
            Some((upto, at)) if *at == now => *upto = seq,
            _ => self.notes.push_back((seq, now)),
        }
        if self.notes.len() > MAX_NOTES {
            // Every other one goes; what it noted counts as made with the one before, so lag is never
            // said to be less than it is.
            let mut out = VecDeque::with_capacity(MAX_NOTES);
            let mut earlier = None;
            for (upto, at) in self.notes.drain(..) {
                match earlier.take() {
                    None => earlier = Some(at),
                    Some(at) => out.push_back((upto, at)),
                }
            }
            if let Some(at) = earlier {
                out.push_back((seq, at));
            }
            self.notes = out;
        }
    }
}

impl Sync {
    pub(super) fn wrote<R: Rows>(
        &mut self,
        replica: &Replica<R>,
        delta: Delta,
        out: &mut Vec<Output>,
    ) {
        let own = |(_, entry): &&KeyedEntry| entry.version.origin == replica.origin();
        if let Some(seq) = delta.entries.iter().filter(own).map(|(_, e)| e.seq).max() {
            self.outbox.note(seq, self.now.boot);
            self.outbox.last = self.outbox.last.max(seq);
        }
        for (key, entry) in delta.entries {
            let bytes = Delta::entry_bytes(&key, &entry);
            if self.outbox.bytes.saturating_add(bytes) > BATCH_BYTES {
                self.publish(replica, out);
            }
            if self.outbox.entries.is_empty() {
                self.outbox.since = self.now.boot;
            }
            self.outbox.bytes = self.outbox.bytes.saturating_add(bytes);
            self.outbox.entries.push((key, entry));
        }
    }

    pub(super) fn publish_if_due<R: Rows>(&mut self, replica: &Replica<R>, out: &mut Vec<Output>) {
        let waited = self.now.boot.saturating_sub(self.outbox.since);
        if waited >= BATCH_TIME {
            self.publish(replica, out);
        }
    }

    fn publish<R: Rows>(&mut self, replica: &Replica<R>, out: &mut Vec<Output>) {
        let entries = std::mem::take(&mut self.outbox.entries);
        self.outbox.bytes = 0;
        if entries.is_empty() {
            return;
        }
        // The facts of now go before them, which are at least those of when they were written.
        let bytes = wire::publication(&replica.delta(entries));
        self.traffic.published = self.traffic.published.saturating_add(1);
        self.traffic.published_bytes = self
            .traffic
            .published_bytes
            .saturating_add(report::number(bytes.len()));
        out.push(Output::Publish(bytes));
    }

    pub(super) fn flush<R: Rows>(&mut self, replica: &Replica<R>, out: &mut Vec<Output>) {
        self.publish(replica, out);
        self.flush_until = Some(self.now.boot.saturating_add(FLUSH_TIME));
        for peer in self.peers.values_mut() {
            peer.next_greeting = Duration::ZERO;
        }
    }

    pub(super) fn gossip<R: Rows>(
        &mut self,
        replica: &mut Replica<R>,
        from: NodeId,
        bytes: &[u8],
        out: &mut Vec<Output>,
    ) -> Result<(), Error<R::Error>> {
        self.received(from, bytes.len());
        let delta = match wire::read_publication(bytes) {
            Ok(delta) => delta,
            Err(error) => {
                misbehaved(from, &error, out);
                return Ok(());
            }
        };
        if self.stopped.is_some() || !self.is_member(from) || !self.is_member(self.me) {
            self.traffic.strangers = self.traffic.strangers.saturating_add(1);
            return Ok(());
        }
        if replica.unsettled_rows() > MAX_UNSETTLED_FOR_PUSHES {
            self.traffic.dropped = self.traffic.dropped.saturating_add(1);
            return Ok(());
        }
        self.traffic.pushes = self.traffic.pushes.saturating_add(1);
        let received = replica.receive(&delta, self.now.wall);
        self.take(from, received, out)?;
        let gap = delta
            .entries
            .iter()
            .any(|(_, entry)| !replica.seen().is_gapless(entry.version.origin));
        if gap && let Some(peer) = self.peers.get_mut(&from) {
            // Something was lost on the way: ask soon, if it does not come by itself.
            let soon = self.now.boot.saturating_add(GAP_TIME);
            peer.next_greeting = peer.next_greeting.min(soon);
        }
        Ok(())
    }

    /// Whether somebody waits until this peer has confirmed what was written here, in this boot or before.
    pub(super) fn waits_for(&self, peer: &super::Peer) -> bool {
        let flushes = self.flush_until.is_some_and(|until| self.now.boot < until);
        flushes
            && peer.digest.as_ref().is_none_or(|theirs| {
                let own = self.durable.seen.origins();
                let unconfirmed =
                    |origin| self.durable.seen.upto(origin) > theirs.seen.upto(origin);
                self.outbox.last > theirs.seen.upto(self.durable.origin)
                    || own.filter(|origin| origin.node == self.me).any(unconfirmed)
            })
    }

    /// Says once that a clock far ahead was met. (Entries are merged all the same.)
    pub(super) fn tell_of_clocks(&mut self, out: &mut Vec<Output>) {
        for notice in self.guard.notices(self.now) {
            out.push(Output::Report(Notice::Clock(notice)));
        }
    }
}
