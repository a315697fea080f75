//! What the users of this replica do: put, delete, get, query. None of it waits for anybody.

use std::collections::BTreeSet;

use crate::entry::{Entry, EntryKind, MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::error::Error;
use crate::hlc::UnixMillis;
use crate::replica::{Change, Draft, Replica};
use crate::rows::{RowKind, Rows};
use crate::version::{Fence, Version};

/// Most writes in one change: each takes up to four rows, and two are for all of them.
pub const MAX_WRITES: usize = 12;

/// One write of a set that is written together or not at all. (Other replicas see them one by one.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its new value; nothing to delete it.
    pub value: Option<&'a [u8]>,
    /// Epoch and command for keys of allocations, else [`Fence::NONE`].
    pub fence: Fence,
}

/// Keys in order with their values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Keys and values.
    pub rows: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether there may be more behind the last of them.
    pub more: bool,
}

impl<'a> Write<'a> {
    /// Binds a key to a value.
    #[must_use]
    pub const fn put(key: &'a [u8], value: &'a [u8], fence: Fence) -> Self {
        Self {
            key,
            value: Some(value),
            fence,
        }
    }

    /// Deletes a key.
    #[must_use]
    pub const fn delete(key: &'a [u8], fence: Fence) -> Self {
        Self {
            key,
            value: None,
            fence,
        }
    }
}

impl<R: Rows> Replica<R> {
    /// Binds `key` to `value`: at most 6 rows.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn put(
        &mut self,
        key: &[u8],
        value: &[u8],
        fence: Fence,
        now: UnixMillis,
    ) -> Result<Change, Error<R::Error>> {
        self.write(&[Write::put(key, value, fence)], now)
    }

    /// Deletes `key`: at most 6 rows, none if it is not there.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn delete(
        &mut self,
        key: &[u8],
        fence: Fence,
        now: UnixMillis,
    ) -> Result<Change, Error<R::Error>> {
        self.write(&[Write::delete(key, fence)], now)
    }

    /// Several writes in one change of at most four rows each and two more: all or none.
    ///
    /// # Errors
    /// Bounds of keys, values and their number; one key twice; a fence below that of the entry that
    /// stands; rows that cannot be read. Then nothing has changed.
    pub fn write(
        &mut self,
        writes: &[Write<'_>],
        now: UnixMillis,
    ) -> Result<Change, Error<R::Error>> {
        check(writes)?;
        let mut stands = Vec::with_capacity(writes.len());
        for write in writes {
            let old = self.entry(write.key)?;
            match &old {
                Some(old) if old.version.fence > write.fence => {
                    return Err(Error::OlderFence {
                        key: write.key.to_vec(),
                        current: old.version.fence,
                        given: write.fence,
                    });
                }
                _ => stands.push(old),
            }
        }
        let mut draft = Draft::default();
        let mut entries = Vec::new();
        for (write, old) in writes.iter().zip(stands) {
            let there = old.as_ref().is_some_and(|old| old.kind() == EntryKind::Put);
            if write.value.is_none() && !there {
                continue;
            }
            let new = self.next_entry(write, old.as_ref(), now);
            self.seen.insert(new.dot());
            draft.seen.insert(self.origin);
            draft.hlc = true;
            self.install(&mut draft, write.key, old.as_ref(), Some(&new));
            entries.push((write.key.to_vec(), new));
        }
        let delta = (!entries.is_empty()).then(|| self.delta(entries));
        Ok(self.finish(draft, delta))
    }

    /// The value of `key`. Sees all changes made here, durable or not: before answering somebody out
    /// of it, the last change must be durable (an empty batch behind it in the store's queue tells).
    ///
    /// # Errors
    /// Rows that cannot be read or are malformed.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error<R::Error>> {
        Ok(self
            .entry(key)?
            .filter(|entry| entry.kind() == EntryKind::Put)
            .map(|entry| entry.value))
    }

    /// The entry of `key` as it stands, tombstones too: for its version and fence.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_entry(&self, key: &[u8]) -> Result<Option<Entry>, Error<R::Error>> {
        self.entry(key)
    }

    /// At most `limit` keys with `prefix` behind `after`, in order, with their values. To go on, give
    /// the last key as `after`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn query(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Page, Error<R::Error>> {
        let mut page = Page::default();
        let mut after = after.map(<[u8]>::to_vec);
        loop {
            let room = limit.saturating_sub(page.rows.len());
            if room == 0 {
                page.more = true;
                return Ok(page);
            }
            let rows = self
                .rows
                .page(RowKind::Entry, prefix, after.as_deref(), room)
                .map_err(Error::Rows)?;
            let full = rows.len() >= room;
            for (key, bytes) in rows {
                let entry = Entry::decode(&bytes)?;
                if entry.kind() == EntryKind::Put {
                    page.rows.push((key.clone(), entry.value));
                }
                after = Some(key);
            }
            if !full {
                return Ok(page);
            }
        }
    }

    fn next_entry(&mut self, write: &Write<'_>, old: Option<&Entry>, now: UnixMillis) -> Entry {
        let base = old.map_or(self.floor, |old| old.version.causal_length);
        let next = base.saturating_add(1);
        let is_put = next % 2 == 1;
        let causal_length = if is_put == write.value.is_some() {
            next
        } else {
            next.saturating_add(1)
        };
        // A stamp of the entry that stands may lie ahead of our clock; ours must not lie behind it,
        // or readers of both would see time run backwards. The causal length decides in any case.
        if let Some(old) = old {
            self.clock.observe(old.version.hlc, now);
        }
        Entry {
            version: Version {
                fence: write.fence,
                causal_length,
                hlc: self.clock.tick(now),
                origin: self.origin,
            },
            seq: self.seen.upto(self.origin).saturating_add(1),
            value: write.value.unwrap_or_default().to_vec(),
        }
    }
}

fn check<E: std::error::Error>(writes: &[Write<'_>]) -> Result<(), Error<E>> {
    if writes.len() > MAX_WRITES {
        return Err(Error::TooManyWrites {
            writes: writes.len(),
        });
    }
    let mut keys = BTreeSet::new();
    for write in writes {
        let bytes = write.key.len();
        if bytes == 0 || bytes > MAX_KEY_BYTES {
            return Err(Error::KeyLength { bytes });
        }
        if let Some(value) = write.value.filter(|value| value.len() > MAX_VALUE_BYTES) {
            return Err(Error::ValueTooLong { bytes: value.len() });
        }
        if !keys.insert(write.key) {
            return Err(Error::KeyTwice {
                key: write.key.to_vec(),
            });
        }
    }
    Ok(())
}
