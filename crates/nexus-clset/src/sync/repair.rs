//! Comparing ranges of keys with a peer and making them alike: one question at a time, from the whole map downwards.

use std::collections::VecDeque;
use std::time::Duration;

use crate::error::Error;
use crate::message::Digest;
use crate::ranges::{
    Difference, Expand, Expanded, Fetch, Fetched, KeyRange, MAX_ANSWER, MAX_KEYS, MAX_RANGES,
};
use crate::replica::{Received, Replica};
use crate::rows::Rows;
use crate::sync::peer::What;
use crate::sync::wire::Question;
use crate::sync::{MAX_UNSETTLED_FOR_PULLS, Notice, Output, Sync, report};
use crate::vector::VersionVector;
use crate::version::NodeId;

/// After so many greetings in a row with equal vectors and differing roots ranges are compared.
const MISMATCHES: u32 = 2;

/// How soon ranges are compared with the same peer again.
const PAUSE: Duration = Duration::from_secs(20);

/// Most ranges that wait to be looked into. The way goes down first, so there are only as many as a few
/// levels have; a peer that makes up more is not followed.
const MAX_STACK: usize = 16 * 1024;

/// A comparison on its way.
#[derive(Debug)]
pub(super) struct Session {
    peer: NodeId,
    /// The question on its way.
    waits: Option<Waits>,
    /// Ranges that differ and are to be looked into.
    stack: Vec<KeyRange>,
    want_ranges: VecDeque<KeyRange>,
    give_ranges: VecDeque<KeyRange>,
    want: VecDeque<Vec<u8>>,
    give: VecDeque<Vec<u8>>,
    /// What the peer had seen when this began: all of it is here when it ends.
    seen: Option<VersionVector>,
    complete: bool,
    taken: u64,
    given: u64,
    bytes: u64,
}

/// What was asked.
#[derive(Debug)]
enum Waits {
    Expand(Vec<KeyRange>),
    Range(KeyRange),
    Keys(Vec<Vec<u8>>),
    Store,
}

impl Session {
    fn with(peer: NodeId) -> Self {
        Self {
            peer,
            waits: None,
            stack: vec![KeyRange::default()],
            want_ranges: VecDeque::new(),
            give_ranges: VecDeque::new(),
            want: VecDeque::new(),
            give: VecDeque::new(),
            seen: None,
            complete: false,
            taken: 0,
            given: 0,
            bytes: 0,
        }
    }

    pub(super) const fn peer(&self) -> NodeId {
        self.peer
    }

    /// The next question, if anything is left to be asked. What was found is done before more is
    /// looked for, so that little waits.
    fn next<R: Rows>(
        &mut self,
        replica: &Replica<R>,
    ) -> Result<Option<(Waits, Question)>, Error<R::Error>> {
        let look_first = !self.stack.is_empty();
        let enough = |waiting: usize| waiting > 0 && (waiting >= MAX_KEYS / 2 || !look_first);
        if let Some(range) = self.give_ranges.front().cloned() {
            let keys = Vec::new();
            let range = Some(range);
            let fetched = replica.fetch(&Fetch { range, keys })?;
            if let Some(front) = self.give_ranges.front_mut() {
                match fetched.upto {
                    Some(upto) => front.low = upto,
                    None => {
                        self.give_ranges.pop_front();
                    }
                }
            }
            self.given = self
                .given
                .saturating_add(report::number(fetched.delta.entries.len()));
            return Ok(Some((Waits::Store, Question::Store(fetched.delta))));
        }
        if enough(self.give.len()) {
            let keys: Vec<_> = self.give.iter().take(MAX_KEYS).cloned().collect();
            let fetched = replica.fetch(&Fetch { range: None, keys })?;
            let done = usize::try_from(fetched.keys).unwrap_or(usize::MAX);
            self.give.drain(..done.min(self.give.len()));
            self.given = self
                .given
                .saturating_add(report::number(fetched.delta.entries.len()));
            return Ok(Some((Waits::Store, Question::Store(fetched.delta))));
        }
        if let Some(range) = self.want_ranges.pop_front() {
            let fetch = Fetch {
                range: Some(range.clone()),
                keys: Vec::new(),
            };
            return Ok(Some((Waits::Range(range), Question::Fetch(fetch))));
        }
        if enough(self.want.len()) {
            let most = MAX_KEYS.min(self.want.len());
            let keys: Vec<_> = self.want.drain(..most).collect();
            let fetch = Fetch {
                range: None,
                keys: keys.clone(),
            };
            return Ok(Some((Waits::Keys(keys), Question::Fetch(fetch))));
        }
        if look_first {
            let from = self.stack.len().saturating_sub(MAX_RANGES);
            let mut ranges = self.stack.split_off(from);
            // In the order of keys, which then take few bytes.
            ranges.sort_by(|a, b| a.low.cmp(&b.low));
            let expand = Expand {
                ranges: ranges.clone(),
            };
            return Ok(Some((Waits::Expand(ranges), Question::Expand(expand))));
        }
        Ok(None)
    }

    fn found(&mut self, found: Difference) {
        self.stack.extend(found.deeper);
        for range in found.want_ranges {
            // Neighbours become one.
            match self.want_ranges.back_mut() {
                Some(last) if last.high.as_ref() == Some(&range.low) => last.high = range.high,
                _ => self.want_ranges.push_back(range),
            }
        }
        self.give_ranges.extend(found.give_ranges);
        self.want.extend(found.want);
        self.give.extend(found.give);
    }
}

impl Sync {
    /// Starts to compare ranges with whom roots differ, and asks what is to be asked next.
    pub(super) fn go_on_repairing<R: Rows>(
        &mut self,
        replica: &mut Replica<R>,
        out: &mut Vec<Output>,
    ) -> Result<(), Error<R::Error>> {
        if self.session.is_none() {
            self.start_repair(replica, out);
        }
        if replica.unsettled_rows() >= MAX_UNSETTLED_FOR_PULLS {
            return Ok(());
        }
        let Some(session) = self.session.as_mut().filter(|s| s.waits.is_none()) else {
            return Ok(());
        };
        let peer = session.peer;
        match session.next(replica)? {
            Some((waits, question)) => {
                session.waits = Some(waits);
                self.ask_in_session(peer, &question, out);
            }
            None => self.finish_repair(replica, out),
        }
        Ok(())
    }

    fn ask_in_session(&mut self, peer: NodeId, question: &Question, out: &mut Vec<Output>) {
        self.ask(peer, What::Repair, question, out);
        if let (Some(session), Some(Output::Ask { bytes, .. })) = (&mut self.session, out.last()) {
            session.bytes = session.bytes.saturating_add(report::number(bytes.len()));
        }
    }

    /// Compares ranges with a peer now, whatever roots say.
    pub fn compare_ranges_with(&mut self, peer: NodeId) {
        if self.session.is_none() && self.is_member(peer) && peer != self.me {
            self.session = Some(Session::with(peer));
            self.traffic.repairs = self.traffic.repairs.saturating_add(1);
        }
    }

    fn start_repair<R: Rows>(&mut self, replica: &Replica<R>, out: &mut Vec<Output>) {
        let now = self.now.boot;
        let every = self.options.compare;
        // Of two that differ the lower one begins; the other one gives and takes as well.
        let due = self.peers.iter().find_map(|(node, peer)| {
            let complete = |digest: &Digest| digest.complete && digest.swept;
            let able = *node > self.me
                && self.is_member(*node)
                && peer.is_ready(now)
                && peer.digest.as_ref().is_some_and(complete)
                && peer.next_repair <= now;
            let differs = peer.mismatches >= MISMATCHES;
            let long_ago = every.is_some_and(|every| {
                now.saturating_sub(peer.repaired.unwrap_or(self.housekeeping.started())) >= every
            });
            (able && (differs || long_ago)).then_some((*node, differs))
        });
        let Some((node, differs)) = due.filter(|_| replica.is_complete() && replica.is_swept())
        else {
            return;
        };
        if differs {
            out.push(Output::Report(Notice::RootsDiffer { peer: node }));
        }
        self.compare_ranges_with(node);
    }

    pub(super) fn expanded<R: Rows>(
        &mut self,
        replica: &mut Replica<R>,
        from: NodeId,
        expanded: Expanded,
        out: &mut Vec<Output>,
    ) -> Result<(), Error<R::Error>> {
        let received = replica.repair(&expanded.facts, self.now.wall);
        self.take(from, received, out)?;
        let Some(session) = self.session.as_mut().filter(|s| s.peer == from) else {
            return Ok(());
        };
        let Some(Waits::Expand(mut ranges)) = session.waits.take() else {
            self.end_session(from, "answered a comparison that was not asked", out);
            return Ok(());
        };
        if session.seen.is_none() {
            session.seen = Some(expanded.seen);
            session.complete = expanded.complete;
        }
        if expanded.parts.is_empty() || expanded.parts.len() > ranges.len() {
            self.end_session(from, "a comparison without parts, or with too many", out);
            return Ok(());
        }
        let rest = ranges.split_off(expanded.parts.len());
        let mut found = Difference::default();
        let mut valid = true;
        for (range, part) in ranges.iter().zip(&expanded.parts) {
            valid = valid && part.fits(range);
            if valid {
                replica.differences(range, part, &mut found)?;
            }
        }
        session.stack.extend(rest);
        session.found(found);
        if !valid || session.stack.len() > MAX_STACK {
            self.end_session(from, "parts that do not fit their range", out);
        }
        Ok(())
    }

    pub(super) fn fetched<R: Rows>(
        &mut self,
        replica: &mut Replica<R>,
        from: NodeId,
        fetched: &Fetched,
        out: &mut Vec<Output>,
    ) -> Result<(), Error<R::Error>> {
        let received = replica.repair(&fetched.delta, self.now.wall);
        let taken = self.take(from, received, out)?;
        let Some(session) = self.session.as_mut().filter(|s| s.peer == from) else {
            return Ok(());
        };
        session.taken = session.taken.saturating_add(report::number(taken));
        match session.waits.take() {
            Some(Waits::Range(mut range)) => {
                if let Some(upto) = &fetched.upto {
                    let forwards =
                        *upto > range.low && range.high.as_ref().is_none_or(|high| upto < high);
                    if !forwards {
                        self.end_session(from, "a range that does not go forwards", out);
                        return Ok(());
                    }
                    range.low.clone_from(upto);
                    session.want_ranges.push_front(range);
                }
            }
            Some(Waits::Keys(keys)) => {
                let done = usize::try_from(fetched.keys).unwrap_or(usize::MAX);
                if done == 0 {
                    self.end_session(from, "none of the keys that were asked for", out);
                    return Ok(());
                }
                for key in keys.into_iter().skip(done).rev() {
                    session.want.push_front(key);
                }
            }
            _ => self.end_session(from, "answered a fetch that was not asked", out),
        }
        Ok(())
    }

    pub(super) fn stored(&mut self) {
        if let Some(session) = &mut self.session {
            session.waits = None;
        }
    }

    fn end_session(&mut self, from: NodeId, what: &str, out: &mut Vec<Output>) {
        self.session = None;
        let what = what.to_owned();
        out.push(Output::Misbehaved { from, what });
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.next_repair = self.now.boot.saturating_add(PAUSE);
        }
    }

    /// Counts what an answer in a comparison weighed.
    pub(super) fn weigh_repair(&mut self, bytes: usize) {
        if let Some(session) = &mut self.session {
            session.bytes = session.bytes.saturating_add(report::number(bytes));
        }
    }

    fn finish_repair<R: Rows>(&mut self, replica: &mut Replica<R>, out: &mut Vec<Output>) {
        let Some(session) = self.session.take() else {
            return;
        };
        if session.complete
            && let Some(seen) = &session.seen
        {
            let mut received = Received::default();
            replica.adopt(seen, &mut received);
            out.extend(received.changes.into_iter().map(Output::Write));
        }
        self.traffic.repair_bytes = self.traffic.repair_bytes.saturating_add(session.bytes);
        if let Some(peer) = self.peers.get_mut(&session.peer) {
            peer.repairs = peer.repairs.saturating_add(1);
            peer.repaired = Some(self.now.boot);
            peer.mismatches = 0;
            peer.next_repair = self.now.boot.saturating_add(PAUSE);
            peer.next_greeting = self.now.boot;
        }
        out.push(Output::Report(Notice::Repaired {
            peer: session.peer,
            taken: session.taken,
            given: session.given,
            bytes: session.bytes,
        }));
    }
}

// Question and answer stay below what a frame may have.
const _: () = assert!(MAX_ANSWER < 256 * 1024);
