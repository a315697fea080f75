//! Facts that travel ahead of entries: which tombstones are collected, how high new keys start, which writers are forgotten.

use crate::error::Error;
use crate::message::{Delta, Digest};
use crate::replica::{Draft, Received, Replica, meta};
use crate::retired::Retired;
use crate::rows::{RowKind, Rows};
use crate::vector::VersionVector;
use crate::version::Origin;

/// Rows of vectors in one change; each origin has one in either.
const ORIGIN_ROWS: usize = 25;

/// The facts in a message.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    collected: &'a VersionVector,
    floor: u64,
    retired: &'a Retired,
}

impl<'a> From<&'a Delta> for Facts<'a> {
    fn from(delta: &'a Delta) -> Self {
        Self {
            collected: &delta.collected,
            floor: delta.floor,
            retired: &delta.retired,
        }
    }
}

impl<'a> From<&'a Digest> for Facts<'a> {
    fn from(digest: &'a Digest) -> Self {
        Self {
            collected: &digest.collected,
            floor: digest.floor,
            retired: &digest.retired,
        }
    }
}

impl<R: Rows> Replica<R> {
    /// Joins facts. Those of entries that follow must be joined before them.
    pub(super) fn facts(
        &mut self,
        facts: Facts<'_>,
        received: &mut Received,
    ) -> Result<(), Error<R::Error>> {
        let mut retired = self.retired.clone();
        let forgets = retired.join(facts.retired);
        if retired.contains(self.origin) {
            return Err(Error::Forgotten {
                origin: self.origin,
            });
        }
        let collected = facts.collected;
        let raised: Vec<_> = collected
            .origins()
            .filter(|origin| !retired.contains(*origin))
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
        if forgets {
            self.retire(retired, received);
        }
        if !raised.is_empty() || facts.floor > self.floor {
            self.raise_floor(facts.floor);
            let changes = self.raise_collected(&raised);
            received.changes.extend(changes);
        }
        Ok(())
    }

    /// Forgets writers, here and in everything that mentions them.
    pub(super) fn retire(&mut self, retired: Retired, received: &mut Received) {
        self.retired = retired;
        let retired = |origin: Origin| self.retired.contains(origin);
        let mut gone = self.seen.forget(retired);
        gone.extend(self.collected.forget(retired));
        for claims in self.claims.values_mut() {
            claims.claimed.forget(retired);
            claims.required.forget(retired);
        }
        if let Some(round) = &mut self.round {
            round.forget(retired);
        }
        // Their tombstones were collected, or all had seen them be superseded.
        self.sweep = super::collect::Sweep::from_the_start();
        gone.sort_unstable();
        gone.dedup();
        let mut draft = Draft::default();
        draft.put(RowKind::Meta, meta::RETIRED.to_vec(), self.retired.encode());
        received.changes.push(self.finish(draft, None));
        for chunk in gone.chunks(ORIGIN_ROWS) {
            let mut draft = Draft::default();
            for origin in chunk {
                // The vectors have none of them any more, so their rows go.
                draft.seen.insert(*origin);
                let key = super::origin_key(meta::COLLECTED, *origin);
                draft.delete(RowKind::Meta, key);
            }
            received.changes.push(self.finish(draft, None));
        }
    }
}
