//! What other replicas send: pushed deltas, and the pull of what a digest shows to be missing.

use crate::error::{Error, Malformed};
use crate::hlc::UnixMillis;
use crate::message::{Delta, Digest, KeyedEntry, PullAnswer, PullRequest, Range};
use crate::replica::merge::{Received, Take};
use crate::replica::{Change, Draft, Replica, meta, origin_key};
use crate::rows::{RowKind, Rows};
use crate::version::{Dot, NodeId};

/// Rows of the dot index that are read at once.
const PAGE: usize = 256;

/// Most rows of the dot index that one answer looks at.
const MAX_LOOKED_AT: usize = 16 * 1024;

impl<R: Rows> Replica<R> {
    /// Merges a pushed delta. Until this replica has pulled all of some peer once, it takes nothing
    /// from pushes: they may be older than what that peer has collected.
    ///
    /// # Errors
    /// [`Error::LeftBehind`], [`Error::OriginInUse`]; rows that cannot be read.
    pub fn receive(&mut self, delta: &Delta, now: UnixMillis) -> Result<Received, Error<R::Error>> {
        let mut received = Received::default();
        if self.complete {
            self.check_own(&delta.entries)?;
            self.facts(delta.into(), &mut received)?;
            self.merge(&delta.entries, Take::Unseen, now, &mut received)?;
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
        self.facts(digest.into(), &mut received)?;
        let mut seen = digest.seen.clone();
        seen.forget(|origin| self.retired.contains(origin));
        if let Some(claims) = self.claims.get(&from)
            && !seen.covers(&claims.required)
        {
            // It has lost what its answers built upon.
            received.changes.extend(self.drop_claims(from));
        }
        self.settle_claims(from, &seen, digest.complete, &mut received);
        let have = self.have();
        let request = (!self.seen.covers(&seen)).then_some(PullRequest {
            asking: self.origin,
            have,
            after: None,
        });
        Ok((received, request))
    }

    /// What to ask a peer for: all that it has and that was neither seen here nor covered by answers.
    #[must_use]
    pub fn pull_request(&self) -> PullRequest {
        PullRequest {
            asking: self.origin,
            have: self.have(),
            after: None,
        }
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
        let mut have = request.have.clone();
        have.forget(|origin| self.retired.contains(origin));
        let mut room = Room {
            bytes: max_bytes,
            rows: MAX_LOOKED_AT,
        };
        let mut last = request.after;
        for Range { origin, start, end } in self.seen.minus(&have) {
            let mut start = start;
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
            if let Some(cut) = self.answer_range(range, &mut room, &mut answer)? {
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
        self.check_own(&answer.delta.entries)?;
        self.facts((&answer.delta).into(), &mut received)?;
        self.merge(&answer.delta.entries, Take::Unseen, now, &mut received)?;
        self.claim(from, answer);
        let mut seen = answer.seen.clone();
        seen.forget(|origin| self.retired.contains(origin));
        self.settle_claims(from, &seen, answer.complete, &mut received);
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
        range: Range,
        room: &mut Room,
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
                let Some(entry) = self.entry(key)?.filter(|entry| entry.dot() == dot) else {
                    return Err(Error::Malformed(Malformed {
                        what: "dot index",
                        at: 0,
                        detail: format!("write {seq} of {} has no entry", range.origin),
                    }));
                };
                let more = match self.is_collected(&entry) {
                    true => 0,
                    false => Delta::entry_bytes(key, &entry),
                };
                let first = answer.delta.entries.is_empty();
                if room.rows == 0 || (more > room.bytes && !first) {
                    return Ok(Some(seq));
                }
                room.rows = room.rows.saturating_sub(1);
                room.bytes = room.bytes.saturating_sub(more);
                if more > 0 {
                    answer.delta.entries.push((key.clone(), entry));
                }
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

    /// As [`check_origin`](Self::check_origin), before anything of a message is merged.
    pub(super) fn check_own(&self, entries: &[KeyedEntry]) -> Result<(), Error<R::Error>> {
        let own = |(_, entry): &&KeyedEntry| entry.version.origin == self.origin;
        let theirs = entries.iter().filter(own).map(|(_, entry)| entry.seq).max();
        self.check_origin(theirs.unwrap_or(0))
    }
}

/// What an answer has room for.
struct Room {
    bytes: usize,
    rows: usize,
}
