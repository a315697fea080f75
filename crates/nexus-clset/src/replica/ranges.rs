//! Ranges of keys: their fingerprints, what stands in them, and taking what a peer holds in them.

use crate::entry::Entry;
use crate::error::Error;
use crate::hlc::UnixMillis;
use crate::message::{Delta, KeyedEntry};
use crate::ranges::{
    Difference, Expand, Expanded, FAN_OUT, Fetch, Fetched, Item, KeyRange, MAX_ANSWER, MAX_LIST,
    Part,
};
use crate::replica::merge::{Received, Take};
use crate::replica::{Draft, Replica};
use crate::rows::{RowKind, Rows};
use crate::summary::Fingerprint;
use crate::vector::VersionVector;

/// Rows that are read at once.
const PAGE: usize = 256;

/// Most rows that one answer looks at.
const MAX_ROWS: usize = 32 * 1024;

/// What became of comparing the rows of a block with its fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckedBlock {
    pub(crate) low: Vec<u8>,
    pub(crate) sound: bool,
    /// Where the next one starts.
    pub(crate) next: Option<Vec<u8>>,
}

impl<R: Rows> Replica<R> {
    /// Says what stands in ranges: of as many of them as fit, at least one.
    pub(crate) fn expand(&self, question: &Expand) -> Result<Expanded, Error<R::Error>> {
        let mut answer = Expanded {
            facts: self.delta(Vec::new()),
            seen: self.seen.clone(),
            complete: self.complete,
            parts: Vec::new(),
        };
        let (mut bytes, mut rows) = (0_usize, MAX_ROWS);
        for range in &question.ranges {
            let part = self.part(range, &mut rows)?;
            bytes = bytes.saturating_add(part.bytes());
            if !answer.parts.is_empty() && bytes > MAX_ANSWER {
                break;
            }
            answer.parts.push(part);
            if rows == 0 {
                break;
            }
        }
        Ok(answer)
    }

    /// One range: listed if it is small, divided if it is not.
    fn part(&self, range: &KeyRange, rows: &mut usize) -> Result<Part, Error<R::Error>> {
        let bounds = self.summary.bounds(range);
        let total = bounds
            .iter()
            .fold(0_u64, |sum, bound| sum.saturating_add(bound.count));
        if bounds.len() > 2 {
            // Whole blocks: divided at bounds of blocks, no row is read but at the two ends.
            let each = (total / u64::try_from(FAN_OUT).unwrap_or(1)).max(1);
            let mut highs = Vec::new();
            let mut sum = 0_u64;
            for bound in &bounds {
                sum = sum.saturating_add(bound.count);
                if sum >= each
                    && let Some(high) = &bound.high
                    && highs.len() < FAN_OUT.saturating_sub(1)
                    && range.high.as_ref().is_none_or(|end| high < end)
                {
                    highs.push(Some(high.clone()));
                    sum = 0;
                }
            }
            highs.push(None);
            return self.split_at(range, highs, rows);
        }
        let entries = self.entries_in(range, usize::MAX, rows)?;
        if entries.len() <= usize::try_from(MAX_LIST).unwrap_or(0) {
            return Ok(Part::List(entries.iter().map(item).collect()));
        }
        let each = entries.len().div_ceil(FAN_OUT);
        let mut parts = Vec::new();
        for chunk in entries.chunks(each) {
            let mut fingerprint = Fingerprint::default();
            for (key, entry) in chunk {
                fingerprint.add(entry.fingerprint(key));
            }
            parts.push((chunk.last().map(|(key, _)| key.clone()), fingerprint));
        }
        if let Some((high, _)) = parts.last_mut() {
            *high = None;
        }
        Ok(Part::Split(parts))
    }

    fn split_at(
        &self,
        range: &KeyRange,
        highs: Vec<Option<Vec<u8>>>,
        rows: &mut usize,
    ) -> Result<Part, Error<R::Error>> {
        let mut parts = Vec::new();
        let mut low = range.low.clone();
        for high in highs {
            let part = KeyRange {
                low,
                high: high.clone().or_else(|| range.high.clone()),
            };
            let fingerprint = self.fingerprint_of(&part, rows)?;
            low = high.clone().unwrap_or_default();
            parts.push((high, fingerprint));
        }
        Ok(Part::Split(parts))
    }

    /// Count and sum of a range: of whole blocks as they are kept, of others from their rows.
    fn fingerprint_of(
        &self,
        range: &KeyRange,
        rows: &mut usize,
    ) -> Result<Fingerprint, Error<R::Error>> {
        let mut out = Fingerprint::default();
        for bound in self.summary.bounds(range) {
            if bound.whole {
                out.join(bound.fingerprint);
                continue;
            }
            let part = KeyRange {
                low: bound.low.max(range.low.clone()),
                high: match (bound.high, &range.high) {
                    (Some(high), Some(end)) => Some(high.min(end.clone())),
                    (high, end) => high.or_else(|| end.clone()),
                },
            };
            for (key, entry) in self.entries_in(&part, usize::MAX, rows)? {
                out.add(entry.fingerprint(&key));
            }
        }
        Ok(out)
    }

    /// Entries of a range, in order, up to some number of bytes (but one at least).
    fn entries_in(
        &self,
        range: &KeyRange,
        max_bytes: usize,
        rows: &mut usize,
    ) -> Result<Vec<KeyedEntry>, Error<R::Error>> {
        let mut out = Vec::new();
        let mut bytes = 0_usize;
        let mut after = range.low.clone();
        loop {
            let page = self
                .rows
                .page(RowKind::Entry, b"", Some(&after), PAGE)
                .map_err(Error::Rows)?;
            *rows = rows.saturating_sub(page.len());
            let full = page.len() >= PAGE;
            for (key, row) in page {
                if range.high.as_ref().is_some_and(|high| key > *high) {
                    return Ok(out);
                }
                let entry = Entry::decode(&row)?;
                bytes = bytes.saturating_add(Delta::entry_bytes(&key, &entry));
                if bytes > max_bytes && !out.is_empty() {
                    return Ok(out);
                }
                after.clone_from(&key);
                out.push((key, entry));
            }
            if !full {
                return Ok(out);
            }
        }
    }

    /// What differs in a range between what a peer said and what stands here.
    pub(crate) fn differences(
        &self,
        range: &KeyRange,
        part: &Part,
        out: &mut Difference,
    ) -> Result<(), Error<R::Error>> {
        let mut rows = MAX_ROWS;
        match part {
            Part::Split(parts) => {
                let mut low = range.low.clone();
                for (high, theirs) in parts {
                    let high = high.clone().or_else(|| range.high.clone());
                    let next = high.clone().unwrap_or_default();
                    let part = KeyRange { low, high };
                    low = next;
                    let ours = self.fingerprint_of(&part, &mut rows)?;
                    if ours == *theirs {
                        continue;
                    }
                    if ours.count == 0 {
                        out.want_ranges.push(part);
                    } else if theirs.count == 0 {
                        out.give_ranges.push(part);
                    } else {
                        out.deeper.push(part);
                    }
                }
            }
            Part::List(items) => {
                let ours = self.entries_in(range, usize::MAX, &mut rows)?;
                let mut ours = ours.iter().peekable();
                for theirs in items {
                    while let Some((key, _)) = ours.next_if(|(key, _)| *key < theirs.key) {
                        out.give.push(key.clone());
                    }
                    let entry = ours.next_if(|(key, _)| *key == theirs.key);
                    let Some((key, entry)) = entry else {
                        out.want.push(theirs.key.clone());
                        continue;
                    };
                    let same = check(key, entry) == theirs.check;
                    // One version with two contents is damage: both look at both.
                    if theirs.version > entry.version || (theirs.version == entry.version && !same)
                    {
                        out.want.push(key.clone());
                    }
                    if theirs.version < entry.version || (theirs.version == entry.version && !same)
                    {
                        out.give.push(key.clone());
                    }
                }
                out.give.extend(ours.map(|(key, _)| key.clone()));
            }
        }
        Ok(())
    }

    /// Entries that a peer asked for, as many as fit.
    pub(crate) fn fetch(&self, question: &Fetch) -> Result<Fetched, Error<R::Error>> {
        let mut rows = MAX_ROWS;
        let mut entries = Vec::new();
        let mut upto = None;
        let mut bytes = 0_usize;
        if let Some(range) = &question.range {
            entries = self.entries_in(range, MAX_ANSWER, &mut rows)?;
            let of = |(key, entry): &KeyedEntry| Delta::entry_bytes(key, entry);
            bytes = entries.iter().map(of).fold(0, usize::saturating_add);
            if let Some((last, _)) = entries.last() {
                let rest = KeyRange {
                    low: last.clone(),
                    high: range.high.clone(),
                };
                if !self.entries_in(&rest, 0, &mut rows)?.is_empty() {
                    upto = Some(last.clone());
                }
            }
        }
        let mut keys = 0_u32;
        for key in &question.keys {
            if let Some(entry) = self.entry(key)? {
                let more = Delta::entry_bytes(key, &entry);
                if !entries.is_empty() && bytes.saturating_add(more) > MAX_ANSWER {
                    break;
                }
                bytes = bytes.saturating_add(more);
                entries.push((key.clone(), entry));
            }
            keys = keys.saturating_add(1);
        }
        entries.retain(|(_, entry)| !self.is_collected(entry));
        Ok(Fetched {
            delta: self.delta(entries),
            upto,
            keys,
        })
    }

    /// Merges what a peer holds, even where the version vector says that it was seen.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub(crate) fn repair(
        &mut self,
        delta: &Delta,
        now: UnixMillis,
    ) -> Result<Received, Error<R::Error>> {
        let mut received = Received::default();
        self.check_own(&delta.entries)?;
        self.facts(delta.into(), &mut received)?;
        self.merge(&delta.entries, Take::All, now, &mut received)?;
        Ok(received)
    }

    /// All that a peer had seen was compared with it, range by range, and taken: it counts as seen.
    pub(crate) fn adopt(&mut self, seen: &VersionVector, received: &mut Received) {
        let mut seen = seen.clone();
        seen.forget(|origin| self.retired.contains(origin));
        let mut origins: Vec<_> = seen
            .minus(&self.seen)
            .into_iter()
            .map(|range| range.origin)
            .collect();
        origins.dedup();
        self.seen.join(&seen);
        for chunk in origins.chunks(50) {
            let mut draft = Draft::default();
            draft.seen.extend(chunk);
            received.changes.push(self.finish(draft, None));
        }
    }

    /// Compares the rows of the first block at or behind `low` with its fingerprint, and puts that right.
    pub(crate) fn check_block(
        &mut self,
        low: &[u8],
    ) -> Result<Option<CheckedBlock>, Error<R::Error>> {
        let Some((range, kept)) = self.summary.block_at(low) else {
            return Ok(None);
        };
        let mut fingerprint = Fingerprint::default();
        for (key, entry) in self.entries_in(&range, usize::MAX, &mut MAX_ROWS.clone())? {
            fingerprint.add(entry.fingerprint(&key));
        }
        let sound = fingerprint == kept;
        if !sound {
            self.summary.correct(&range.low, fingerprint);
        }
        Ok(Some(CheckedBlock {
            low: range.low,
            sound,
            next: range.high,
        }))
    }
}

fn item((key, entry): &KeyedEntry) -> Item {
    Item {
        key: key.clone(),
        version: entry.version,
        check: check(key, entry),
    }
}

fn check(key: &[u8], entry: &Entry) -> u64 {
    u64::try_from(entry.fingerprint(key) & u128::from(u64::MAX)).unwrap_or(0)
}
