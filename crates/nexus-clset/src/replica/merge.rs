//! Merging entries that came from elsewhere, in changes of as many as fit.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::entry::{Entry, EntryKind};
use crate::error::Error;
use crate::hlc::{Observed, UnixMillis};
use crate::message::KeyedEntry;
use crate::replica::{Change, Draft, Replica};
use crate::rows::{MAX_CHANGE_ROWS, Rows};
use crate::version::{Dot, Origin};

/// What became of a message. What it altered stands in its changes.
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

/// Which entries of a message are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Take {
    /// Those of writes that were not seen yet.
    Unseen,
    /// All: the vector may say more than what is held, that is what is being repaired.
    All,
}

impl<R: Rows> Replica<R> {
    /// Merges entries. If rows cannot be read on the way, what was merged before is lost to the caller:
    /// as after a failed write, the replica must be opened anew.
    pub(super) fn merge(
        &mut self,
        entries: &[KeyedEntry],
        take: Take,
        now: UnixMillis,
        received: &mut Received,
    ) -> Result<(), Error<R::Error>> {
        let mut rest = entries;
        while !rest.is_empty() {
            let mut stands = BTreeMap::<&[u8], Option<Entry>>::new();
            let mut chunk = Vec::new();
            let mut origins = BTreeSet::<Origin>::new();
            // One is for the clock.
            let mut rows = 1_usize;
            let mut looked_at = 0_usize;
            for (key, entry) in rest {
                if take == Take::All || !self.knows(entry.dot()) {
                    if !stands.contains_key(key.as_slice()) {
                        stands.insert(key, self.entry(key)?);
                    }
                    let old = stands.get(key.as_slice()).and_then(Option::as_ref);
                    origins.insert(entry.version.origin);
                    rows = rows.saturating_add(rows_of(old, entry));
                    if rows.saturating_add(origins.len()) > MAX_CHANGE_ROWS {
                        break;
                    }
                    chunk.push((key.as_slice(), entry));
                }
                looked_at = looked_at.saturating_add(1);
            }
            rest = rest.get(looked_at..).unwrap_or_default();
            if !chunk.is_empty() {
                self.merge_chunk(&chunk, &stands, now, received);
            }
        }
        Ok(())
    }

    fn merge_chunk(
        &mut self,
        chunk: &[(&[u8], &Entry)],
        stands: &BTreeMap<&[u8], Option<Entry>>,
        now: UnixMillis,
        received: &mut Received,
    ) {
        let mut wins = BTreeMap::<&[u8], Entry>::new();
        let mut draft = Draft::default();
        let clock = self.clock.last();
        for (key, entry) in chunk {
            if let Observed::TooFarAhead { lead } = self.clock.observe(entry.version.hlc, now) {
                received.too_far_ahead = received.too_far_ahead.max(Some(lead));
            }
            if !self.knows(entry.dot()) {
                self.seen.insert(entry.dot());
                draft.seen.insert(entry.version.origin);
            }
            let win = match wins.remove(key) {
                Some(other) => other.merge((*entry).clone()),
                None => (*entry).clone(),
            };
            wins.insert(key, win);
        }
        draft.hlc = self.clock.last() != clock;
        for (key, win) in wins {
            let old = stands.get(key).and_then(Option::as_ref);
            // A collected tombstone decides nothing any more, whether it was removed here yet or not.
            let decides = old.filter(|old| !self.is_collected(old));
            if decides.is_some_and(|old| old.precedence(&win).is_ge()) {
                continue;
            }
            // A tombstone that is collected everywhere does its work and is not kept.
            let keep = (!self.is_collected(&win)).then_some(&win);
            if keep.is_some() || old.is_some() {
                received.new_entries = received.new_entries.saturating_add(1);
                self.install(&mut draft, key, old, keep);
            }
        }
        if !draft.rows.is_empty() || !draft.seen.is_empty() || draft.hlc {
            let change = self.finish(draft, None);
            received.changes.push(change);
        }
    }

    /// Whether this write was seen, or is of a writer that is forgotten because all have seen all of it.
    pub(super) fn knows(&self, dot: Dot) -> bool {
        self.seen.contains(dot) || self.retired.contains(dot.origin)
    }

    /// Whether this is a tombstone that is collected everywhere.
    pub(super) fn is_collected(&self, entry: &Entry) -> bool {
        entry.kind() == EntryKind::Tombstone
            && (self.collected.contains(entry.dot()) || self.retired.contains(entry.version.origin))
    }
}

/// Rows that it takes at most to put `new` in the place of `old`.
fn rows_of(old: Option<&Entry>, new: &Entry) -> usize {
    let of = |entry: &Entry| match entry.kind() {
        EntryKind::Put => 1_usize,
        EntryKind::Tombstone => 2,
    };
    old.map_or(0, of).saturating_add(of(new)).saturating_add(1)
}
