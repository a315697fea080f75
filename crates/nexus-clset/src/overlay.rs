//! Rows as they will be: those of the store, under those of changes that are not settled yet.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use crate::rows::{KeyValue, MemoryRows, RowKind, RowWrite, Rows};

type RowName = (RowKind, Vec<u8>);

/// Reads through to the store what no pending change has touched.
#[derive(Debug)]
pub(crate) struct Overlay<R> {
    rows: R,
    pending: BTreeMap<RowName, Pending>,
    /// Which rows each change has touched, oldest first.
    changes: VecDeque<(u64, Vec<RowName>)>,
}

#[derive(Clone, Debug)]
struct Pending {
    ticket: u64,
    value: Option<Vec<u8>>,
}

impl Overlay<MemoryRows> {
    /// A copy on a copy of the store, and that copy.
    pub(crate) fn fork(&self) -> (Self, MemoryRows) {
        let rows = self.rows.image();
        let fork = Self {
            rows: rows.clone(),
            pending: self.pending.clone(),
            changes: self.changes.clone(),
        };
        (fork, rows)
    }
}

impl<R: Rows> Overlay<R> {
    pub(crate) fn new(rows: R) -> Self {
        Self {
            rows,
            pending: BTreeMap::new(),
            changes: VecDeque::new(),
        }
    }

    /// Rows of changes that are not settled.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn add(&mut self, ticket: u64, writes: &[RowWrite]) {
        for RowWrite { kind, key, value } in writes {
            let pending = Pending {
                ticket,
                value: value.clone(),
            };
            self.pending.insert((*kind, key.clone()), pending);
        }
        let touched = writes.iter().map(|row| (row.kind, row.key.clone()));
        self.changes.push_back((ticket, touched.collect()));
    }

    /// Changes up to `ticket` are in the store.
    pub(crate) fn settle(&mut self, ticket: u64) {
        while let Some((_, touched)) = self.changes.pop_front_if(|(settled, _)| *settled <= ticket)
        {
            for row in touched {
                // A later change may have touched it again.
                let settled = |pending: &Pending| pending.ticket <= ticket;
                if self.pending.get(&row).is_some_and(settled) {
                    self.pending.remove(&row);
                }
            }
        }
    }

    pub(crate) fn get(&self, kind: RowKind, key: &[u8]) -> Result<Option<Vec<u8>>, R::Error> {
        if self.pending.is_empty() {
            return self.rows.get(kind, key);
        }
        match self.pending.get(&(kind, key.to_vec())) {
            Some(pending) => Ok(pending.value.clone()),
            None => self.rows.get(kind, key),
        }
    }

    pub(crate) fn page(
        &self,
        kind: RowKind,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<KeyValue>, R::Error> {
        if self.pending.is_empty() || limit == 0 {
            return self.rows.page(kind, prefix, after, limit);
        }
        let mut out = Vec::new();
        let mut after = after.map(<[u8]>::to_vec);
        loop {
            let stored = self.rows.page(kind, prefix, after.as_deref(), limit)?;
            // Pending rows count up to the last stored one that was looked at, or to the end.
            let horizon = (stored.len() >= limit)
                .then(|| stored.last().map(|(key, _)| key.clone()))
                .flatten();
            let mut page: BTreeMap<_, _> = stored.into_iter().collect();
            let from = match &after {
                Some(after) if after.as_slice() >= prefix => Bound::Excluded((kind, after.clone())),
                _ => Bound::Included((kind, prefix.to_vec())),
            };
            let pending =
                self.pending
                    .range((from, Bound::Unbounded))
                    .take_while(|((k, key), _)| {
                        *k == kind
                            && key.starts_with(prefix)
                            && horizon.as_ref().is_none_or(|horizon| key <= horizon)
                    });
            for ((_, key), pending) in pending {
                match &pending.value {
                    Some(value) => page.insert(key.clone(), value.clone()),
                    None => page.remove(key),
                };
            }
            let room = limit.saturating_sub(out.len());
            out.extend(page.into_iter().take(room));
            if out.len() >= limit || horizon.is_none() {
                return Ok(out);
            }
            after = horizon;
        }
    }
}
