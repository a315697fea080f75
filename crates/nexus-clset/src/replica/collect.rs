//! Collecting tombstones: when every member has them, has all that they could have superseded, and a day has passed.
//!
//! A round has two steps. First the tombstones that are old enough and that every member has seen
//! become candidates, and the round notes every write that any member knows of (the barrier): among
//! these is all that the candidates have superseded, because who wrote a tombstone knew it. When all
//! members have seen up to the barrier, nobody can take a superseded entry for new any more, and the
//! candidates are declared collected. That is a fact which travels ahead of entries.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::codec::Reader;
use crate::error::Error;
use crate::hlc::{Hlc, UnixMillis};
use crate::message::KeyedEntry;
use crate::replica::{Change, Draft, Received, Replica, meta, origin_key};
use crate::rows::{MAX_CHANGE_ROWS, RowKind, Rows};
use crate::vector::VersionVector;
use crate::version::{Dot, Incarnation, NodeId, Origin};

/// How old a tombstone is before it is collected, so that operators can see what was deleted lately.
pub const TOMBSTONE_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Tombstones that are looked at in one call.
const PAGE: usize = 1024;

/// Pages of tombstones that one round looks at.
const MAX_CANDIDATE_PAGES: usize = 16;

/// Rows that one collected tombstone takes.
const TOMBSTONE_ROWS: usize = 3;

/// Rows of the vector of collected writes in one change.
const ORIGIN_ROWS: usize = 50;

/// A round of collection on its way.
#[derive(Clone, Debug)]
pub(super) struct Round {
    candidates: Candidates,
    retirees: BTreeSet<Origin>,
    barrier: VersionVector,
}

impl Round {
    /// Forgets writers that were forgotten meanwhile.
    pub(super) fn forget(&mut self, gone: impl Fn(Origin) -> bool + Copy) {
        self.candidates.upto.forget(gone);
        self.barrier.forget(gone);
        self.retirees.retain(|origin| !gone(*origin));
    }
}

/// Tombstones up to these writes, and the greatest causal length among them.
#[derive(Clone, Debug, Default)]
struct Candidates {
    upto: VersionVector,
    floor: u64,
}

/// What a row of the tombstone queue says.
struct Tombstone {
    hlc: Hlc,
    dot: Dot,
    causal_length: u64,
}

/// How far collected tombstones were removed since the last ones were declared.
#[derive(Clone, Debug)]
pub(super) struct Sweep {
    after: Option<Vec<u8>>,
    done: bool,
}

impl Sweep {
    pub(super) const fn from_the_start() -> Self {
        Self {
            after: None,
            done: false,
        }
    }

    /// Whether every tombstone that is collected is removed.
    pub(super) const fn is_done(&self) -> bool {
        self.done
    }
}

impl<R: Rows> Replica<R> {
    /// Goes a step towards collecting tombstones. `members` is what every other member of the cluster
    /// has seen, as each said itself; one that is missing here must not come back without starting
    /// over. Returns the changes that declare tombstones collected, if it came to that.
    ///
    /// # Errors
    /// Rows that cannot be read or are malformed.
    pub fn propose_collection(
        &mut self,
        members: &[&VersionVector],
        now: UnixMillis,
    ) -> Result<Vec<Change>, Error<R::Error>> {
        self.propose(members, None, now)
    }

    /// As [`propose_collection`](Self::propose_collection), and writers that ended and of which nothing
    /// stands are forgotten as well. `current` is every member's boot of now, this one's too.
    ///
    /// # Errors
    /// As there.
    pub fn propose_collection_and_retirement(
        &mut self,
        members: &[&VersionVector],
        current: &BTreeMap<NodeId, Incarnation>,
        now: UnixMillis,
    ) -> Result<Vec<Change>, Error<R::Error>> {
        self.propose(members, Some(current), now)
    }

    fn propose(
        &mut self,
        members: &[&VersionVector],
        current: Option<&BTreeMap<NodeId, Incarnation>>,
        now: UnixMillis,
    ) -> Result<Vec<Change>, Error<R::Error>> {
        if let Some(round) = &self.round {
            // If only somebody who is no member any more had some of it, nobody ever will.
            let mut known = self.seen.clone();
            for seen in members {
                known.join(seen);
            }
            if !known.covers(&round.barrier) {
                self.round = None;
            }
        }
        if let Some(current) = current
            && let Some(closed) = self.close_gaps(members, current)
        {
            // What it makes possible begins once all have it.
            return Ok(vec![closed]);
        }
        if self.round.is_none() {
            let candidates = self.candidates(members, now)?;
            let retirees = match current {
                Some(current) => self.retirees(members, current, now)?,
                None => BTreeSet::new(),
            };
            if candidates.upto.is_empty() && retirees.is_empty() {
                return Ok(Vec::new());
            }
            let mut barrier = self.seen.clone();
            for seen in members {
                barrier.join(seen);
            }
            barrier.forget(|origin| self.retired.contains(origin));
            self.round = Some(Round {
                candidates,
                retirees,
                barrier,
            });
        }
        let Some(round) = self.round.take_if(|round| {
            self.seen.covers(&round.barrier)
                && members.iter().all(|seen| seen.covers(&round.barrier))
        }) else {
            return Ok(Vec::new());
        };
        let mut received = Received::default();
        let raised: Vec<_> = round
            .candidates
            .upto
            .origins()
            .map(|origin| (origin, round.candidates.upto.upto(origin)))
            .filter(|(origin, upto)| *upto > self.collected.upto(*origin))
            .collect();
        if !raised.is_empty() || round.candidates.floor > self.floor {
            // Now and not when they are removed: who pulls from here meanwhile gets neither the tombstones
            // nor any other word of how high new keys must start.
            self.raise_floor(round.candidates.floor);
            received.changes = self.raise_collected(&raised);
        }
        if let Some(current) = current {
            // Of some a member may have said more since.
            let mut retirees = self.retirees(members, current, now)?;
            retirees.retain(|origin| round.retirees.contains(origin));
            if !retirees.is_empty() {
                let retired = self.retired_with(&retirees, members, current);
                self.retire(retired, &mut received);
            }
        }
        Ok(received.changes)
    }

    /// Whether every tombstone that is collected is removed.
    #[must_use]
    pub const fn is_swept(&self) -> bool {
        self.sweep.is_done()
    }

    /// Removes some of the tombstones that are collected; nothing when none is left. To be called until
    /// then after [`propose_collection`](Self::propose_collection), after messages, and at boot.
    ///
    /// # Errors
    /// Rows that cannot be read or are malformed.
    pub fn collect(&mut self) -> Result<Option<Change>, Error<R::Error>> {
        while !self.sweep.done {
            let page = self
                .rows
                .page(RowKind::Tombstone, b"", self.sweep.after.as_deref(), PAGE)
                .map_err(Error::Rows)?;
            let mut gone = Vec::new();
            let mut after = None;
            let full = page.len() >= PAGE;
            for (row, value) in page {
                let collected = self
                    .tombstone_row(&row, &value)?
                    .is_some_and(|tombstone| self.is_gone(tombstone.dot));
                if collected
                    && let Some((key, entry)) = self.tombstone(&row)?
                    && self.is_collected(&entry)
                {
                    gone.push((key, entry));
                }
                after = Some(row);
                if gone.len() >= MAX_CHANGE_ROWS / TOMBSTONE_ROWS - 1 {
                    break;
                }
            }
            // Enough for one change found: the rest of the page is looked at in the next call.
            let stopped = gone.len() >= MAX_CHANGE_ROWS / TOMBSTONE_ROWS - 1;
            self.sweep.done = !full && !stopped;
            self.sweep.after = after.or_else(|| self.sweep.after.take());
            if gone.is_empty() {
                continue;
            }
            let mut draft = Draft::default();
            for (key, entry) in &gone {
                self.raise_floor(entry.version.causal_length);
                self.install(&mut draft, key, Some(entry), None);
            }
            self.put_floor(&mut draft);
            return Ok(Some(self.finish(draft, None)));
        }
        Ok(None)
    }

    /// Notes that tombstones up to these writes are collected.
    pub(super) fn raise_collected(&mut self, raised: &[(Origin, u64)]) -> Vec<Change> {
        let mut changes = Vec::new();
        for (origin, upto) in raised {
            self.collected.insert_run(*origin, 1, *upto);
        }
        if !raised.is_empty() {
            self.sweep = Sweep::from_the_start();
        }
        for chunk in raised.chunks(ORIGIN_ROWS) {
            let mut draft = Draft::default();
            self.put_floor(&mut draft);
            for (origin, _) in chunk {
                let key = origin_key(meta::COLLECTED, *origin);
                if let Some(collected) = self.collected.seen(*origin) {
                    draft.put(RowKind::Meta, key, collected.encode());
                }
            }
            changes.push(self.finish(draft, None));
        }
        if raised.is_empty() {
            let mut draft = Draft::default();
            self.put_floor(&mut draft);
            changes.push(self.finish(draft, None));
        }
        changes
    }

    pub(super) fn raise_floor(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
    }

    fn put_floor(&self, draft: &mut Draft) {
        let value = self.floor.to_be_bytes().to_vec();
        draft.put(RowKind::Meta, meta::FLOOR.to_vec(), value);
    }

    /// Tombstones that are old enough and seen by all. Stamps of one origin grow with its writes, so
    /// all its tombstones up to the last candidate are candidates too.
    fn candidates(
        &self,
        members: &[&VersionVector],
        now: UnixMillis,
    ) -> Result<Candidates, Error<R::Error>> {
        let age = u64::try_from(self.tombstone_age.as_millis()).unwrap_or(u64::MAX);
        let limit = Hlc::at(UnixMillis(now.0.saturating_sub(age)));
        let mut candidates = Candidates::default();
        let mut stable = BTreeMap::new();
        let mut after: Option<Vec<u8>> = None;
        for _ in 0..MAX_CANDIDATE_PAGES {
            let page = self
                .rows
                .page(RowKind::Tombstone, b"", after.as_deref(), PAGE)
                .map_err(Error::Rows)?;
            let full = page.len() >= PAGE;
            for (row, value) in &page {
                let Some(tombstone) = self.tombstone_row(row, value)? else {
                    continue;
                };
                if tombstone.hlc >= limit {
                    return Ok(candidates);
                }
                let Dot { origin, seq } = tombstone.dot;
                let stable = *stable.entry(origin).or_insert_with(|| {
                    let theirs = members.iter().map(|seen| seen.upto(origin));
                    theirs.fold(self.seen.upto(origin), u64::min)
                });
                if seq <= stable && !self.is_gone(tombstone.dot) {
                    candidates.upto.insert_run(origin, 1, seq);
                    candidates.floor = candidates.floor.max(tombstone.causal_length);
                }
            }
            after = page.into_iter().next_back().map(|(row, _)| row);
            if !full {
                break;
            }
        }
        Ok(candidates)
    }

    /// What a row of the tombstone queue says.
    fn tombstone_row(
        &self,
        row: &[u8],
        value: &[u8],
    ) -> Result<Option<Tombstone>, Error<R::Error>> {
        let mut hlc = Reader::new("key of a tombstone", row);
        let hlc = Hlc(hlc.u64()?);
        if value.is_empty() {
            // Written before the rows said all by themselves.
            let entry = self.tombstone(row)?.map(|(_, entry)| entry);
            return Ok(entry.map(|entry| Tombstone {
                hlc,
                dot: entry.dot(),
                causal_length: entry.version.causal_length,
            }));
        }
        let mut value = Reader::new("row of a tombstone", value);
        let tombstone = Tombstone {
            hlc,
            dot: Dot {
                origin: value.origin()?,
                seq: value.u64()?,
            },
            causal_length: value.u64()?,
        };
        value.end()?;
        Ok(Some(tombstone))
    }

    fn is_gone(&self, dot: Dot) -> bool {
        self.collected.contains(dot) || self.retired.contains(dot.origin)
    }

    /// Key and entry of a row of the tombstone queue.
    fn tombstone(&self, row: &[u8]) -> Result<Option<KeyedEntry>, Error<R::Error>> {
        let key = row.get(8..).unwrap_or_default();
        let entry = self.entry(key)?;
        Ok(entry.map(|entry| (key.to_vec(), entry)))
    }
}
