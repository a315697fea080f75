//! One replica of the map: what it holds in memory, and the parts that its operations share.

mod claims;
mod collect;
mod facts;
mod fork;
mod gaps;
mod local;
mod merge;
mod open;
mod ranges;
mod remote;
mod retire;
mod wipe;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::codec::Writer;
use crate::entry::{Entry, EntryKind};
use crate::error::Error;
use crate::hlc::{Clock, UnixMillis};
use crate::message::{Delta, Digest, KeyedEntry};
use crate::overlay::Overlay;
use crate::retired::Retired;
use crate::rows::{RowKind, RowWrite, Rows};
use crate::summary::{Fingerprint, MAX_BLOCK, Split, Summary};
use crate::vector::VersionVector;
use crate::version::{Incarnation, NodeId, Origin};
use crate::watch::{Changes, Log, Revision, StartOver};

pub use collect::TOMBSTONE_AGE;
pub use local::{MAX_WRITES, Page, Write};
pub use merge::Received;
pub use wipe::wipe;

/// Names of bookkeeping rows.
mod meta {
    pub(super) const NODE: &[u8] = b"node";
    pub(super) const HLC: &[u8] = b"hlc";
    pub(super) const FLOOR: &[u8] = b"floor";
    pub(super) const COMPLETE: &[u8] = b"complete";
    pub(super) const SEEN: &[u8] = b"seen/";
    pub(super) const COLLECTED: &[u8] = b"collected/";
    pub(super) const RETIRED: &[u8] = b"retired";
    pub(super) const BORN: &[u8] = b"born";
    pub(super) const WIPING: &[u8] = b"wiping";
    pub(super) const ADMITTED: &[u8] = b"admitted";
    pub(super) const CLAIMS: &[u8] = b"claims/";
}

/// Rows that are read at once to split a block.
const SPLIT_PAGE: usize = 256;

/// Number of a change, growing by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What an operation wants written, and told to others once that is durable.
///
/// Changes must be written in the order in which they were made, each in one atomic batch. After one
/// has failed to be written the replica is ahead of its rows: drop it and open it anew.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a change counts only when its rows are written"]
pub struct Change {
    /// To be given to [`Replica::settle`] when the rows are durable.
    pub ticket: Ticket,
    /// At most [`MAX_CHANGE_ROWS`](crate::MAX_CHANGE_ROWS) rows, each key once. None if nothing changed.
    pub rows: Vec<RowWrite>,
    /// For the other replicas; nothing if it changes nothing for them. Never to be sent before the
    /// rows are durable.
    pub delta: Option<Delta>,
    /// Values that this change makes, changes or takes away, in order; also in the log of
    /// [`Replica::changes`]. For what the caller derives from the map, to be written in the same batch.
    pub altered: Vec<Altered>,
}

/// A key got a value, another one, or lost it: by a write made here, or by what a peer sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Altered {
    /// The key.
    pub key: Vec<u8>,
    /// What stood before; nothing if the key was not known. A tombstone has no value.
    pub old: Option<Entry>,
    /// What stands now; a tombstone, or nothing if that is collected already, when it was deleted.
    pub new: Option<Entry>,
}

impl Altered {
    /// The value that was there before.
    #[must_use]
    pub fn old_value(&self) -> Option<&[u8]> {
        value_of(self.old.as_ref())
    }

    /// The value that is there now.
    #[must_use]
    pub fn new_value(&self) -> Option<&[u8]> {
        value_of(self.new.as_ref())
    }
}

/// One replica. `R` reads its rows.
#[derive(Debug)]
pub struct Replica<R> {
    rows: Overlay<R>,
    origin: Origin,
    /// The first boot on these rows.
    born: Incarnation,
    /// Whether all that some peer had was pulled once; until then pushed entries are not taken.
    complete: bool,
    clock: Clock,
    seen: VersionVector,
    collected: VersionVector,
    floor: u64,
    retired: Retired,
    tombstone_age: Duration,
    tombstones: u64,
    admitted: Option<u64>,
    summary: Summary,
    log: Log,
    ticket: Ticket,
    claims: BTreeMap<NodeId, claims::Claims>,
    round: Option<collect::Round>,
    sweep: collect::Sweep,
}

/// What one change touches, collected before it becomes a [`Change`].
#[derive(Debug, Default)]
struct Draft {
    rows: BTreeMap<(RowKind, Vec<u8>), Option<Vec<u8>>>,
    /// Origins whose row of the version vector has changed.
    seen: BTreeSet<Origin>,
    hlc: bool,
    splits: Vec<Split>,
    altered: Vec<Altered>,
}

impl<R: Rows> Replica<R> {
    /// Who writes here until the next boot.
    #[must_use]
    pub const fn origin(&self) -> Origin {
        self.origin
    }

    /// What this replica has, to be compared with others. Sent as this member's word on what it has
    /// seen for good (see [`propose_collection`](Self::propose_collection)), it must be taken when all
    /// changes are settled.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest {
            origin: self.origin,
            born: self.born,
            seen: self.seen.clone(),
            collected: self.collected.clone(),
            floor: self.floor,
            retired: self.retired.clone(),
            swept: self.sweep.is_done(),
            complete: self.complete,
            fingerprint: self.summary.total(),
        }
    }

    /// Writes that were seen.
    #[must_use]
    pub const fn seen(&self) -> &VersionVector {
        &self.seen
    }

    /// Writers that are forgotten: their writes count as seen.
    #[must_use]
    pub const fn retired(&self) -> &Retired {
        &self.retired
    }

    /// Number of the last change.
    #[must_use]
    pub const fn last_ticket(&self) -> Ticket {
        self.ticket
    }

    /// Count and sum of all entries.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.summary.total()
    }

    /// Count and sum of entries in blocks of keys.
    #[must_use]
    pub const fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The clock, for its lead over the wall clock.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// How many of the entries are tombstones.
    #[must_use]
    pub const fn tombstones(&self) -> u64 {
        self.tombstones
    }

    /// When the cluster admitted this node, if it was told so before.
    #[must_use]
    pub const fn admitted(&self) -> Option<u64> {
        self.admitted
    }

    /// Notes when the cluster admitted this node.
    pub(crate) fn set_admitted(&mut self, admitted: u64) -> Change {
        self.admitted = Some(admitted);
        let mut draft = Draft::default();
        let value = admitted.to_be_bytes().to_vec();
        draft.put(RowKind::Meta, meta::ADMITTED.to_vec(), value);
        self.finish(draft, None)
    }

    /// How old tombstones are before they are collected; [`TOMBSTONE_AGE`] unless set.
    pub const fn set_tombstone_age(&mut self, age: Duration) {
        self.tombstone_age = age;
    }

    /// The rows of all changes up to this one are durable.
    pub fn settle(&mut self, ticket: Ticket) {
        self.rows.settle(ticket.0);
    }

    /// Rows of changes that were not settled yet; they are kept in memory.
    #[must_use]
    pub fn unsettled_rows(&self) -> usize {
        self.rows.pending()
    }

    /// The point in history of now.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.log.last()
    }

    /// At most `limit` changes of keys with `prefix` behind a revision. Changes are seen as soon as they
    /// are made here, before they are durable: a watcher is told after [`settle`](Self::settle).
    ///
    /// # Errors
    /// [`StartOver`] if they are not remembered any more. Nothing is ever left out silently.
    pub fn changes(
        &self,
        prefix: &[u8],
        after: Revision,
        limit: usize,
    ) -> Result<Changes, StartOver> {
        self.log.after(prefix, after, limit)
    }

    fn entry(&self, key: &[u8]) -> Result<Option<Entry>, Error<R::Error>> {
        match self.rows.get(RowKind::Entry, key).map_err(Error::Rows)? {
            Some(bytes) => Ok(Some(Entry::decode(&bytes)?)),
            None => Ok(None),
        }
    }

    /// Puts `new` in the place of `old`, with all that goes with it. Reads nothing.
    fn install(&mut self, draft: &mut Draft, key: &[u8], old: Option<&Entry>, new: Option<&Entry>) {
        if let Some(old) = old {
            draft.delete(RowKind::Dot, dot_key(old));
            if old.kind() == EntryKind::Tombstone {
                draft.delete(RowKind::Tombstone, tombstone_key(old, key));
            }
        }
        match new {
            Some(new) => {
                draft.put(RowKind::Entry, key.to_vec(), new.encode());
                draft.put(RowKind::Dot, dot_key(new), key.to_vec());
                if new.kind() == EntryKind::Tombstone {
                    let (row, value) = (tombstone_key(new, key), tombstone_value(new));
                    draft.put(RowKind::Tombstone, row, value);
                }
            }
            None => draft.delete(RowKind::Entry, key.to_vec()),
        }
        let tombstones = |entry: Option<&Entry>| {
            u64::from(entry.is_some_and(|entry| entry.kind() == EntryKind::Tombstone))
        };
        self.tombstones = self
            .tombstones
            .saturating_add(tombstones(new))
            .saturating_sub(tombstones(old));
        if value_of(old).is_some() || value_of(new).is_some() {
            self.log.push(key, old, new);
            draft.altered.push(Altered {
                key: key.to_vec(),
                old: old.cloned(),
                new: new.cloned(),
            });
        }
        let hash = |entry: Option<&Entry>| entry.map(|entry| entry.fingerprint(key));
        draft
            .splits
            .extend(self.summary.replace(key, hash(old), hash(new)));
    }

    /// Makes a change of a draft: bookkeeping rows are added, and all rows are seen from now on.
    fn finish(&mut self, mut draft: Draft, delta: Option<Delta>) -> Change {
        for origin in &draft.seen {
            let key = origin_key(meta::SEEN, *origin);
            let value = self.seen.seen(*origin).map(|seen| seen.encode());
            draft.rows.insert((RowKind::Meta, key), value);
        }
        if draft.hlc {
            let value = self.clock.last().0.to_be_bytes().to_vec();
            draft.put(RowKind::Meta, meta::HLC.to_vec(), value);
        }
        self.ticket = Ticket(self.ticket.0.saturating_add(1));
        let rows: Vec<_> = draft
            .rows
            .into_iter()
            .map(|((kind, key), value)| RowWrite { kind, key, value })
            .collect();
        self.rows.add(self.ticket.0, &rows);
        for split in draft.splits {
            self.split(&split);
        }
        Change {
            ticket: self.ticket,
            rows,
            delta,
            altered: draft.altered,
        }
    }

    /// Splits a block of the summary. If its rows cannot be read it stays as it is: bounds decide how
    /// much is read, never what is right.
    fn split(&mut self, split: &Split) {
        let Some(split) = self.summary.check(split) else {
            return;
        };
        let mut lower = Fingerprint::default();
        let mut last = None;
        let mut after = split.low.clone();
        let at = loop {
            let Ok(rows) = self
                .rows
                .page(RowKind::Entry, b"", Some(&after), SPLIT_PAGE)
            else {
                return;
            };
            let full = rows.len() >= SPLIT_PAGE;
            for (key, bytes) in rows {
                let enough = match &split.at {
                    Some(at) => key > *at,
                    None => lower.count >= MAX_BLOCK / 2,
                };
                let (Ok(entry), false) = (Entry::decode(&bytes), enough) else {
                    break;
                };
                lower.add(entry.fingerprint(&key));
                last = Some(key);
            }
            match &last {
                Some(last) if full && *last > after => after.clone_from(last),
                _ => break last,
            }
        };
        // The last key of the lower part is its bound; where one was asked for, it must be that.
        if let Some(at) = at
            && split.at.as_ref().is_none_or(|asked| *asked == at)
        {
            self.summary.split(&split.low, at, lower);
        }
    }

    /// A delta of these entries with the facts that go before them.
    pub(crate) fn delta(&self, entries: Vec<KeyedEntry>) -> Delta {
        Delta {
            collected: self.collected.clone(),
            floor: self.floor,
            retired: self.retired.clone(),
            entries,
        }
    }
}

impl Draft {
    fn put(&mut self, kind: RowKind, key: Vec<u8>, value: Vec<u8>) {
        self.rows.insert((kind, key), Some(value));
    }

    fn delete(&mut self, kind: RowKind, key: Vec<u8>) {
        self.rows.insert((kind, key), None);
    }
}

fn origin_key(prefix: &[u8], origin: Origin) -> Vec<u8> {
    let mut key = prefix.to_vec();
    key.extend_from_slice(&origin.node.0.to_be_bytes());
    key.extend_from_slice(&origin.incarnation.0.to_be_bytes());
    key
}

fn dot_key(entry: &Entry) -> Vec<u8> {
    let mut key = origin_key(b"", entry.version.origin);
    key.extend_from_slice(&entry.seq.to_be_bytes());
    key
}

fn tombstone_key(entry: &Entry, key: &[u8]) -> Vec<u8> {
    let mut out = entry.version.hlc.0.to_be_bytes().to_vec();
    out.extend_from_slice(key);
    out
}

/// What collecting must know of a tombstone: who wrote it, which write it was, its causal length.
fn tombstone_value(entry: &Entry) -> Vec<u8> {
    let mut out = Writer::new();
    out.origin(entry.version.origin);
    out.u64(entry.seq);
    out.u64(entry.version.causal_length);
    out.finish()
}

/// The value in an entry, which is what a reader of the key sees.
pub(crate) fn value_of(entry: Option<&Entry>) -> Option<&[u8]> {
    entry
        .filter(|entry| entry.kind() == EntryKind::Put)
        .map(|entry| entry.value.as_slice())
}

/// Seconds since 1970, as far as 32 bits go (2106).
fn seconds(now: UnixMillis) -> u32 {
    u32::try_from(now.0 / 1000).unwrap_or(u32::MAX)
}
