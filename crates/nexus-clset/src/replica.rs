//! One replica of the map: what it holds in memory, and the parts that its operations share.

mod collect;
mod fork;
mod local;
mod open;
mod remote;

use std::collections::{BTreeMap, BTreeSet};

use crate::entry::{Entry, EntryKind};
use crate::error::Error;
use crate::hlc::{Clock, UnixMillis};
use crate::message::{Delta, Digest, KeyedEntry};
use crate::overlay::Overlay;
use crate::rows::{RowKind, RowWrite, Rows};
use crate::summary::{Fingerprint, MAX_BLOCK, Summary};
use crate::vector::VersionVector;
use crate::version::{NodeId, Origin};
use crate::watch::{Changes, Log, Revision, StartOver};

pub use collect::TOMBSTONE_AGE;
pub use local::{MAX_WRITES, Page, Write};
pub use remote::Received;

/// Names of bookkeeping rows.
mod meta {
    pub(super) const NODE: &[u8] = b"node";
    pub(super) const HLC: &[u8] = b"hlc";
    pub(super) const FLOOR: &[u8] = b"floor";
    pub(super) const COMPLETE: &[u8] = b"complete";
    pub(super) const SEEN: &[u8] = b"seen/";
    pub(super) const COLLECTED: &[u8] = b"collected/";
}

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
}

/// One replica. `R` reads its rows.
#[derive(Debug)]
pub struct Replica<R> {
    rows: Overlay<R>,
    origin: Origin,
    /// Whether all that some peer had was pulled once; until then pushed entries are not taken.
    complete: bool,
    clock: Clock,
    seen: VersionVector,
    collected: VersionVector,
    floor: u64,
    summary: Summary,
    log: Log,
    ticket: Ticket,
    claims: BTreeMap<NodeId, remote::Claims>,
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
    split: BTreeSet<Vec<u8>>,
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
            seen: self.seen.clone(),
            collected: self.collected.clone(),
            floor: self.floor,
            complete: self.complete,
            fingerprint: self.summary.total(),
        }
    }

    /// Writes that were seen.
    #[must_use]
    pub const fn seen(&self) -> &VersionVector {
        &self.seen
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
                    draft.put(RowKind::Tombstone, tombstone_key(new, key), Vec::new());
                }
            }
            None => draft.delete(RowKind::Entry, key.to_vec()),
        }
        let value_of = |entry: Option<&Entry>| {
            entry
                .filter(|entry| entry.kind() == EntryKind::Put)
                .map(|entry| entry.value.clone())
        };
        match (value_of(old), value_of(new)) {
            (_, Some(value)) => self.log.push(key, Some(&value)),
            (Some(_), None) => self.log.push(key, None),
            (None, None) => {}
        }
        let hash = |entry: Option<&Entry>| entry.map(|entry| entry.fingerprint(key));
        draft
            .split
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
        for low in draft.split {
            self.split(&low);
        }
        Change {
            ticket: self.ticket,
            rows,
            delta,
        }
    }

    /// Splits a block that has grown too large. If its rows cannot be read it stays large, and the
    /// next write to it tries again.
    fn split(&mut self, low: &[u8]) {
        let half = usize::try_from(MAX_BLOCK / 2).unwrap_or(usize::MAX);
        let Ok(rows) = self.rows.page(RowKind::Entry, b"", Some(low), half) else {
            return;
        };
        let mut lower = Fingerprint::default();
        for (key, bytes) in &rows {
            let Ok(entry) = Entry::decode(bytes) else {
                return;
            };
            lower.add(entry.fingerprint(key));
        }
        if let Some((last, _)) = rows.last() {
            self.summary.split(low, last.clone(), lower);
        }
    }

    /// A delta of these entries with the facts that go before them.
    fn delta(&self, entries: Vec<KeyedEntry>) -> Delta {
        Delta {
            collected: self.collected.clone(),
            floor: self.floor,
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

/// Seconds since 1970, as far as 32 bits go (2106).
fn seconds(now: UnixMillis) -> u32 {
    u32::try_from(now.0 / 1000).unwrap_or(u32::MAX)
}
