//! What other replicas send: pushed deltas, and the pull of what a digest shows to be missing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::entry::{Entry, EntryKind};
use crate::error::{Error, Malformed};
use crate::hlc::{Observed, UnixMillis};
use crate::message::{Delta, Digest, KeyedEntry, PullAnswer, PullRequest, Range};
use crate::replica::{Change, Draft, Replica, meta, origin_key};
use crate::rows::{MAX_CHANGE_ROWS, RowKind, Rows};
use crate::vector::VersionVector;
use crate::version::{Dot, NodeId, Origin};

/// Rows that one received entry takes at most: its own four, and one of the version vector.
const ENTRY_ROWS: usize = 5;

/// Rows of the version vector in one change.
const ORIGIN_ROWS: usize = 50;

/// Rows of the dot index that are read at once.
const PAGE: usize = 256;

/// What became of a message.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use = "what was received counts only when its changes are written"]
pub struct Received {
    /// To be written one after the other. Nothing of this is passed on to others.
    pub changes: Vec<Change>,
    /// Entries that were new here.
    pub new_entries: usize,
    /// The greatest lead of a stamp that lay too far ahead of our wall clock: a clock is wrong
    /// somewhere. The entries were merged all the same.
    pub too_far_ahead: Option<Duration>,
}

/// What a peer's answers have covered, to be counted as seen when everything is here that those
/// answers built upon: an entry that was superseded before it could be sent is covered only by its
/// successor.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    claimed: VersionVector,
    required: VersionVector,
}

impl<R: Rows> Replica<R> {
    /// Merges a pushed delta. Until this replica has pulled all of some peer once, it takes nothing
    /// from pushes: they may be older than what that peer has collected.
    ///
    /// # Errors
    /// [`Error::LeftBehind`], [`Error::OriginInUse`]; rows that cannot be read.
    pub fn receive(&mut self, delta: &Delta, now: UnixMillis) -> Result<Received, Error<R::Error>> {
        let mut received = Received::default();
        if self.complete {
            self.facts(&delta.collected, delta.floor, &mut received)?;
            self.merge(&delta.entries, now, &mut received)?;
        }
        Ok(received)
    }

    /// Takes the facts out of a peer's digest, and says what to ask that peer for.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub fn receive_digest(
        &mut self,
        from: NodeId,
        digest: &Digest,
    ) -> Result<(Received, Option<PullRequest>), Error<R::Error>> {
        let mut received = Received::default();
        self.check_origin(digest.seen.top(self.origin))?;
        self.facts(&digest.collected, digest.floor, &mut received)?;
        if let Some(claims) = self.claims.get(&from)
            && !digest.seen.covers(&claims.required)
        {
            // It has lost what its answers built upon.
            self.claims.remove(&from);
        }
        self.settle_claims(from, &digest.seen, digest.complete, &mut received);
        let mut have = self.seen.clone();
        if let Some(claims) = self.claims.get(&from) {
            have.join(&claims.claimed);
        }
        let request = (!have.covers(&digest.seen)).then_some(PullRequest {
            asking: self.origin,
            have,
            after: None,
        });
        Ok((received, request))
    }

    /// Answers a pull. Only who is a member already may be answered: members hold up the collection of
    /// tombstones, so that nothing is collected which a new one has pulled but not its tombstone.
    /// The answer has at most about `max_bytes` of entries, but at least one if any is missing.
    ///
    /// # Errors
    /// Rows that cannot be read, or that do not fit each other.
    pub fn answer(
        &self,
        request: &PullRequest,
        max_bytes: usize,
    ) -> Result<PullAnswer, Error<R::Error>> {
        let mut answer = PullAnswer {
            asking: request.asking,
            delta: self.delta(Vec::new()),
            covers: Vec::new(),
            seen: self.seen.clone(),
            complete: self.complete,
            next: None,
        };
        let mut bytes = 0;
        let mut last = request.after;
        for (origin, start, end) in self.seen.runs() {
            let mut start = start.max(request.have.upto(origin).saturating_add(1));
            if let Some(after) = request.after {
                if origin < after.origin {
                    continue;
                }
                if origin == after.origin {
                    start = start.max(after.seq.saturating_add(1));
                }
            }
            if start > end {
                continue;
            }
            let range = Range { origin, start, end };
            if let Some(cut) =
                self.answer_range(request, range, max_bytes, &mut bytes, &mut answer)?
            {
                if cut > start {
                    let end = cut.saturating_sub(1);
                    answer.covers.push(Range { origin, start, end });
                    last = Some(Dot { origin, seq: end });
                }
                answer.next = last;
                return Ok(answer);
            }
            answer.covers.push(range);
            last = Some(Dot { origin, seq: end });
        }
        Ok(answer)
    }

    /// Merges an answer to a pull. If it has a `next`, ask the same again from there. An answer for
    /// another boot of this replica is not taken.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub fn receive_answer(
        &mut self,
        from: NodeId,
        answer: &PullAnswer,
        now: UnixMillis,
    ) -> Result<Received, Error<R::Error>> {
        let mut received = Received::default();
        if answer.asking != self.origin {
            return Ok(received);
        }
        self.check_origin(answer.seen.top(self.origin))?;
        self.facts(&answer.delta.collected, answer.delta.floor, &mut received)?;
        self.merge(&answer.delta.entries, now, &mut received)?;
        let claims = self.claims.entry(from).or_default();
        for range in &answer.covers {
            claims
                .claimed
                .insert_run(range.origin, range.start, range.end);
        }
        claims.required.join(&answer.seen);
        self.settle_claims(from, &answer.seen, answer.complete, &mut received);
        Ok(received)
    }

    /// Makes this the first member of a new cluster, which others become members by pulling from. To
    /// be called once in the life of a cluster.
    pub fn found(&mut self) -> Change {
        self.complete = true;
        let mut draft = Draft::default();
        draft.put(RowKind::Meta, meta::COMPLETE.to_vec(), vec![1]);
        self.finish(draft, None)
    }

    /// Whether this is the first member of a cluster or has had all of another member once. Before
    /// that it takes no pushes, and should not be written to if it has peers.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Puts the entries of one range into an answer; says at which write it became full.
    fn answer_range(
        &self,
        request: &PullRequest,
        range: Range,
        max_bytes: usize,
        bytes: &mut usize,
        answer: &mut PullAnswer,
    ) -> Result<Option<u64>, Error<R::Error>> {
        let prefix = origin_key(b"", range.origin);
        let row_of = |seq: u64| [prefix.as_slice(), &seq.to_be_bytes()].concat();
        let mut after = row_of(range.start.saturating_sub(1));
        loop {
            let page = self
                .rows
                .page(RowKind::Dot, &prefix, Some(&after), PAGE)
                .map_err(Error::Rows)?;
            for (row, key) in &page {
                let seq = row
                    .last_chunk::<8>()
                    .map_or(0, |seq| u64::from_be_bytes(*seq));
                let dot = Dot {
                    origin: range.origin,
                    seq,
                };
                if seq > range.end {
                    return Ok(None);
                }
                if request.have.contains(dot) {
                    continue;
                }
                let Some(entry) = self.entry(key)?.filter(|entry| entry.dot() == dot) else {
                    return Err(Error::Malformed(Malformed {
                        what: "dot index",
                        at: 0,
                        detail: format!("write {seq} of {} has no entry", range.origin),
                    }));
                };
                if self.is_collected(&entry) {
                    continue;
                }
                let more = Delta::entry_bytes(key, &entry);
                if !answer.delta.entries.is_empty() && bytes.saturating_add(more) > max_bytes {
                    return Ok(Some(seq));
                }
                *bytes = bytes.saturating_add(more);
                answer.delta.entries.push((key.clone(), entry));
            }
            match page.into_iter().last() {
                Some((row, _)) => after = row,
                None => return Ok(None),
            }
        }
    }

    /// Somebody who knows more of our own writes than we do is another one of us.
    fn check_origin(&self, theirs: u64) -> Result<(), Error<R::Error>> {
        let ours = self.seen.upto(self.origin);
        if theirs > ours {
            return Err(Error::OriginInUse {
                origin: self.origin,
                theirs,
                ours,
            });
        }
        Ok(())
    }

    /// Joins which tombstones are collected, and the floor.
    fn facts(
        &mut self,
        collected: &VersionVector,
        floor: u64,
        received: &mut Received,
    ) -> Result<(), Error<R::Error>> {
        let raised: Vec<_> = collected
            .origins()
            .map(|origin| (origin, collected.upto(origin)))
            .filter(|(origin, upto)| *upto > self.collected.upto(*origin))
            .collect();
        for (origin, upto) in &raised {
            let seen = self.seen.upto(*origin);
            // Who is still pulling its first copy pulls it from members that had these tombstones before
            // they were collected, so it can hold nothing that they superseded.
            if self.complete && seen < *upto {
                return Err(Error::LeftBehind {
                    origin: *origin,
                    collected: *upto,
                    seen,
                });
            }
        }
        if raised.is_empty() && floor <= self.floor {
            return Ok(());
        }
        self.raise_floor(floor);
        let changes = self.raise_collected(&raised);
        received.changes.extend(changes);
        Ok(())
    }

    /// Merges entries, in changes of as many as fit.
    fn merge(
        &mut self,
        entries: &[KeyedEntry],
        now: UnixMillis,
        received: &mut Received,
    ) -> Result<(), Error<R::Error>> {
        let own = |(_, entry): &&KeyedEntry| entry.version.origin == self.origin;
        let theirs = entries.iter().filter(own).map(|(_, entry)| entry.seq).max();
        self.check_origin(theirs.unwrap_or(0))?;
        let new: Vec<_> = entries
            .iter()
            .filter(|(_, entry)| !self.seen.contains(entry.dot()))
            .collect();
        for chunk in new.chunks(MAX_CHANGE_ROWS / ENTRY_ROWS) {
            let mut stands = BTreeMap::new();
            for (key, _) in chunk {
                if !stands.contains_key(key.as_slice()) {
                    stands.insert(key.as_slice(), self.entry(key)?);
                }
            }
            let mut wins = BTreeMap::<&[u8], Entry>::new();
            let mut draft = Draft::default();
            for (key, entry) in chunk {
                if let Observed::TooFarAhead { lead } = self.clock.observe(entry.version.hlc, now) {
                    received.too_far_ahead = received.too_far_ahead.max(Some(lead));
                }
                self.seen.insert(entry.dot());
                draft.seen.insert(entry.version.origin);
                let win = match wins.remove(key.as_slice()) {
                    Some(other) => other.merge(entry.clone()),
                    None => entry.clone(),
                };
                wins.insert(key, win);
            }
            for (key, win) in wins {
                let old = stands.get(key).and_then(Option::as_ref);
                // A collected tombstone decides nothing any more, whether it was removed here yet or not.
                let decides = old.filter(|old| !self.is_collected(old));
                if decides.is_some_and(|old| old.precedence(&win).is_ge()) {
                    continue;
                }
                received.new_entries = received.new_entries.saturating_add(1);
                // A tombstone that is collected everywhere does its work and is not kept.
                let keep = (!self.is_collected(&win)).then_some(&win);
                if keep.is_some() || old.is_some() {
                    self.install(&mut draft, key, old, keep);
                }
            }
            let change = self.finish(draft, None);
            received.changes.push(change);
        }
        Ok(())
    }

    /// Counts a peer's claims as seen, if all they build upon is here.
    fn settle_claims(
        &mut self,
        from: NodeId,
        peer: &VersionVector,
        peer_complete: bool,
        received: &mut Received,
    ) {
        let mut origins = BTreeSet::new();
        if let Some(claims) = self.claims.remove(&from) {
            let mut all = self.seen.clone();
            all.join(&claims.claimed);
            if all.covers(&claims.required) {
                origins.extend(claims.claimed.origins());
                self.seen = all;
            } else {
                self.claims.insert(from, claims);
            }
        }
        let completed = !self.complete && peer_complete && self.seen.covers(peer);
        let origins: Vec<Origin> = origins.into_iter().collect();
        for chunk in origins.chunks(ORIGIN_ROWS) {
            let mut draft = Draft::default();
            draft.seen.extend(chunk);
            let change = self.finish(draft, None);
            received.changes.push(change);
        }
        if completed {
            received.changes.push(self.found());
        }
    }

    /// Whether this is a tombstone that is collected everywhere.
    pub(super) fn is_collected(&self, entry: &Entry) -> bool {
        entry.kind() == EntryKind::Tombstone && self.collected.contains(entry.dot())
    }
}
