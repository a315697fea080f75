//! What peers' answers have covered, until it counts as seen. During a first copy it is durable, so that a restart goes on.

use std::collections::BTreeSet;

use crate::codec::{Reader, Writer};
use crate::error::Malformed;
use crate::message::PullAnswer;
use crate::replica::{Change, Draft, Received, Replica, meta};
use crate::rows::{RowKind, Rows};
use crate::vector::VersionVector;
use crate::version::{NodeId, Origin};

/// First byte of a row.
const FORMAT: u8 = 1;

/// Rows of the version vector in one change.
const ORIGIN_ROWS: usize = 50;

/// What one peer's answers have covered. It counts as seen when everything is here that those answers
/// built upon: an entry that was superseded before it could be sent is covered only by its successor.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    /// Each of these writes is held here, or superseded by one of `required`.
    pub(super) claimed: VersionVector,
    /// What the peer had seen when it answered.
    pub(super) required: VersionVector,
}

impl Claims {
    /// Of a bookkeeping row.
    pub(super) fn from_row(key: &[u8], value: &[u8]) -> Result<(NodeId, Self), Malformed> {
        let mut key = Reader::new(
            "key of claims",
            key.get(meta::CLAIMS.len()..).unwrap_or(&[]),
        );
        let peer = NodeId(key.u32()?);
        key.end()?;
        let mut value = Reader::new("row of claims", value);
        value.format(FORMAT)?;
        let claims = Self {
            claimed: VersionVector::read(&mut value)?,
            required: VersionVector::read(&mut value)?,
        };
        value.end()?;
        Ok((peer, claims))
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u8(FORMAT);
        self.claimed.write(&mut out);
        self.required.write(&mut out);
        out.finish()
    }
}

fn row_of(peer: NodeId) -> Vec<u8> {
    [meta::CLAIMS, &peer.0.to_be_bytes()].concat()
}

impl<R: Rows> Replica<R> {
    /// Peers whose answers have covered something that does not count as seen yet.
    pub fn claimants(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.claims.keys().copied()
    }

    /// Forgets what answers of a peer have covered: for one that is gone, on whose word nothing can be
    /// waited for. It is asked for again.
    pub fn drop_claims(&mut self, peer: NodeId) -> Option<Change> {
        self.claims.remove(&peer)?;
        let mut draft = Draft::default();
        draft.delete(RowKind::Meta, row_of(peer));
        Some(self.finish(draft, None))
    }

    /// What need not be sent here: what was seen, and what answers have covered.
    pub(super) fn have(&self) -> VersionVector {
        let mut have = self.seen.clone();
        for claims in self.claims.values() {
            have.join(&claims.claimed);
        }
        have
    }

    /// Adds what an answer has covered.
    pub(super) fn claim(&mut self, from: NodeId, answer: &PullAnswer) {
        let retired = |origin| self.retired.contains(origin);
        let claims = self.claims.entry(from).or_default();
        // What was seen needs nobody's word; with it there are few runs, however many gaps are covered.
        claims.claimed.join(&self.seen);
        for range in answer.covers.iter().filter(|range| !retired(range.origin)) {
            claims
                .claimed
                .insert_run(range.origin, range.start, range.end);
        }
        let mut required = answer.seen.clone();
        required.forget(retired);
        claims.required.join(&required);
    }

    /// Counts claims as seen of which all is here that they build upon, perhaps on each other. While
    /// this is a first copy, those that must wait are made durable.
    pub(super) fn settle_claims(
        &mut self,
        from: NodeId,
        peer: &VersionVector,
        peer_complete: bool,
        received: &mut Received,
    ) {
        let mut settled: BTreeSet<NodeId> = self.claims.keys().copied().collect();
        let all = loop {
            let mut all = self.seen.clone();
            for claims in settled.iter().filter_map(|peer| self.claims.get(peer)) {
                all.join(&claims.claimed);
            }
            let before = settled.len();
            settled.retain(|peer| {
                let claims = self.claims.get(peer);
                claims.is_some_and(|claims| all.covers(&claims.required))
            });
            if settled.len() == before {
                break all;
            }
        };
        let mut origins = BTreeSet::new();
        for peer in &settled {
            if let Some(claims) = self.claims.remove(peer) {
                origins.extend(claims.claimed.origins());
            }
        }
        if !settled.is_empty() {
            self.seen = all;
        }
        let origins: Vec<Origin> = origins.into_iter().collect();
        for chunk in origins.chunks(ORIGIN_ROWS) {
            let mut draft = Draft::default();
            draft.seen.extend(chunk);
            let change = self.finish(draft, None);
            received.changes.push(change);
        }
        if self.complete {
            return;
        }
        // Behind the rows of what is claimed, or in one batch with them.
        let mut draft = Draft::default();
        for peer in &settled {
            draft.delete(RowKind::Meta, row_of(*peer));
        }
        if let Some(claims) = self.claims.get(&from) {
            draft.put(RowKind::Meta, row_of(from), claims.encode());
        }
        if peer_complete && self.seen.covers(peer) {
            let left: Vec<_> = self.claims.keys().copied().collect();
            self.claims.clear();
            for peer in left {
                draft.delete(RowKind::Meta, row_of(peer));
            }
            self.complete = true;
            draft.put(RowKind::Meta, meta::COMPLETE.to_vec(), vec![1]);
        }
        if !draft.rows.is_empty() {
            let change = self.finish(draft, None);
            received.changes.push(change);
        }
    }
}
