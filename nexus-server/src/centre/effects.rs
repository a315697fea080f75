//! What a request to the centre has brought about: rows to make durable, and then changes to tell.

use std::collections::VecDeque;
use std::sync::Arc;

use nexus_clset::{Output, Ticket};
use nexus_core::id::OltId;
use nexus_core::shard_table::Command;
use nexus_store::{Batch, Kind};

use crate::allocation::Allocation;
use crate::cluster::barrier::Progress;
use crate::olt_config::OltConfig;

// The CLSet uses the kinds k, d, t and m.

/// Single values: node id, revision, whether the pools were seeded.
pub const META_ROWS: Kind = Kind(b'n');
/// Meta row with the revision of the newest change.
pub const REVISION_KEY: &[u8] = b"revision";

/// Changes that are kept for watchers that resume.
const KEPT_CHANGES: usize = 65_536;

/// One write to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Kind of the row.
    pub kind: Kind,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value; `None`: the row goes.
    pub value: Option<Vec<u8>>,
}

impl Write {
    /// Adds it to a batch.
    pub fn add_to(self, batch: &mut Batch) {
        match self.value {
            Some(value) => batch.put(self.kind, &self.key, &value),
            None => batch.delete(self.kind, &self.key),
        };
    }

    /// Bytes of key and value.
    #[must_use]
    pub fn size(&self) -> usize {
        self.value
            .as_ref()
            .map_or(0, Vec::len)
            .saturating_add(self.key.len())
    }
}

/// What happened to an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// This is how it is now.
    Put,
    /// The OLT shall end it and say so.
    ReleaseRequested,
    /// The record is gone.
    Deleted,
    /// All that was there has been told.
    SnapshotEnd,
}

/// One change as an OLT is told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Grows with each change of any allocation.
    pub revision: u64,
    /// What happened.
    pub kind: ChangeKind,
    /// To which allocation; nothing at the end of a snapshot.
    pub allocation: Option<Arc<Allocation>>,
}

/// Something to tell once it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An allocation has changed.
    Allocation(OltId, Change),
    /// An OLT has a newer configuration.
    Config(OltId, Arc<OltConfig>),
    /// Another session of the OLT has taken over, or the OLT was deregistered.
    SessionOver(OltId),
    /// More has changed than can be told: every stream must be opened anew.
    StartOver,
}

/// Collected while one request is carried out.
#[derive(Debug, Default)]
pub struct Effects {
    /// To be written in this order, all before the answer; what stands together, in one batch.
    pub writes: Vec<Vec<Write>>,
    /// Last change of the CLSet among them.
    pub ticket: Option<Ticket>,
    /// To be told after that.
    pub events: Vec<Event>,
    /// Entries written to the CLSet.
    pub puts: u64,
    /// Entries read from the CLSet.
    pub gets: u64,
    /// Allocations released because their OLT was away for too long.
    pub reclaimed: u64,
    /// To be proposed to the quorum, by whoever can wait for it.
    pub proposals: Vec<Command>,
    /// Whether the list of members has changed.
    pub members: bool,
    /// How far the moves of shards may be told, if that has changed.
    pub barrier: Option<Progress>,
    /// For the other servers.
    pub outputs: Vec<Output>,
    /// Why this replica must be thrown away, if it must.
    pub start_over: Option<String>,
    /// Why nothing more can be done with this replica.
    pub failed: Option<String>,
}

impl Effects {
    /// Adds a row to write.
    pub fn put(&mut self, kind: Kind, key: &[u8], value: Vec<u8>) {
        self.writes.push(vec![Write {
            kind,
            key: key.to_vec(),
            value: Some(value),
        }]);
    }
}

/// The newest changes, so that a watcher that was away for a moment needs no snapshot.
#[derive(Debug)]
pub struct ChangeLog {
    revision: u64,
    /// Everything after this revision is in `kept`.
    floor: u64,
    kept: VecDeque<(OltId, Change)>,
}

impl ChangeLog {
    /// The revision that the log of a new store begins with. Each server counts on its own, and a watcher
    /// that comes from another one must get a snapshot, so that their numbers must not meet: the upper 24
    /// bits are drawn by lot.
    #[must_use]
    pub fn first_revision(lot: u32) -> u64 {
        (u64::from(lot) & 0xff_ffff) << 40
    }

    /// A log that goes on after `revision`.
    #[must_use]
    pub fn new(revision: u64) -> Self {
        Self {
            revision,
            floor: revision,
            kept: VecDeque::new(),
        }
    }

    /// Revision of the newest change.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Numbers a change that several OLTs are told.
    pub fn add(
        &mut self,
        olts: impl IntoIterator<Item = OltId>,
        kind: ChangeKind,
        allocation: &Arc<Allocation>,
    ) -> Vec<Event> {
        self.revision = self.revision.saturating_add(1);
        let change = Change {
            revision: self.revision,
            kind,
            allocation: Some(Arc::clone(allocation)),
        };
        olts.into_iter()
            .map(|olt| {
                if self.kept.len() >= KEPT_CHANGES
                    && let Some((_, oldest)) = self.kept.pop_front()
                {
                    self.floor = oldest.revision;
                }
                self.kept.push_back((olt.clone(), change.clone()));
                Event::Allocation(olt, change.clone())
            })
            .collect()
    }

    /// The changes of an OLT after `revision`, or nothing if they are not known any more.
    #[must_use]
    pub fn after(&self, olt: &OltId, revision: u64) -> Option<Vec<Change>> {
        if revision < self.floor || revision > self.revision || revision == 0 {
            return None;
        }
        let theirs = |(of, change): &&(OltId, Change)| of == olt && change.revision > revision;
        let changes = self.kept.iter().filter(theirs);
        Some(changes.map(|(_, change)| change.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocation::tests::example;

    #[test]
    fn a_watcher_resumes_as_long_as_its_changes_are_kept() {
        let mut log = ChangeLog::new(10);
        let olt = OltId::new("olt-1").unwrap();
        let other = OltId::new("olt-2").unwrap();
        let allocation = Arc::new(example("s", "p", "10.0.0.1"));
        for _ in 0..3 {
            log.add([olt.clone(), other.clone()], ChangeKind::Put, &allocation);
        }
        let revisions = |from| {
            let changes = log.after(&olt, from);
            changes.map(|all| all.iter().map(|c| c.revision).collect::<Vec<_>>())
        };
        assert_eq!(revisions(10), Some(vec![11, 12, 13]));
        assert_eq!(revisions(12), Some(vec![13]));
        assert_eq!(revisions(13), Some(vec![]));
        assert_eq!(revisions(9), None, "not known any more");
        assert_eq!(revisions(14), None, "from another life of the store");
        assert_eq!(revisions(0), None, "asks for a snapshot");
    }

    #[test]
    fn the_log_is_bounded_and_knows_what_it_forgot() {
        let mut log = ChangeLog::new(0);
        let olt = OltId::new("olt-1").unwrap();
        let allocation = Arc::new(example("s", "p", "10.0.0.1"));
        for _ in 0..=KEPT_CHANGES {
            log.add([olt.clone()], ChangeKind::Put, &allocation);
        }
        assert_eq!(log.kept.len(), KEPT_CHANGES);
        assert_eq!(
            log.after(&olt, 1).map(|changes| changes.len()),
            Some(KEPT_CHANGES)
        );
        log.add([olt.clone()], ChangeKind::Put, &allocation);
        assert_eq!(log.after(&olt, 1), None);
    }
}
