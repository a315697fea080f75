//! What changes in the CLSet, by this server or another one, is taken over into the record and told to OLTs.
//!
//! There is one way for both, so that an allocation that another server has accepted counts here like
//! one of our own.

use std::sync::Arc;

use nexus_clset::Revision;

use super::Centre;
use super::effects::{ChangeKind, Event};
use crate::allocation::{Allocation, AllocationState, KEY_PREFIX, Place};
use crate::centre::idempotency::KEYS_PREFIX;
use crate::clock::Now;
use crate::record::Record;

/// Changes that are taken over at once.
const PAGE: usize = 1024;

impl Centre {
    /// Takes over all changes since the last call.
    pub(super) fn follow(&mut self, now: &Now) {
        loop {
            match self.replica.changes(self.followed, PAGE) {
                Ok(changes) => {
                    self.followed = changes.next;
                    if changes.events.is_empty() {
                        return;
                    }
                    for event in changes.events {
                        self.changed(now, &event);
                    }
                }
                Err(start_over) => self.take_up(now, start_over.revision),
            }
        }
    }

    /// Makes the record anew out of the whole map, after more has changed at once than is remembered.
    fn take_up(&mut self, now: &Now, revision: Revision) {
        tracing::warn!("more has changed at once than is remembered: the record is read anew");
        self.record = Record::default();
        self.audit.start_over();
        self.followed = revision;
        let mut all = Vec::new();
        let read = self.replica.each(KEY_PREFIX, |key, value| {
            all.push((key.to_vec(), value.to_vec()));
            Ok::<_, crate::replica::ReplicaError>(())
        });
        if let Err(error) = read {
            tracing::error!(%error, "the record cannot be read as a whole");
        }
        for (key, value) in all {
            if let Some(allocation) = readable(&key, &value) {
                self.enter(now, allocation);
            }
        }
        self.effects.events.push(Event::StartOver);
    }

    fn changed(&mut self, now: &Now, event: &nexus_clset::Event) {
        let (key, value) = (&*event.key, event.value.as_deref());
        if key.starts_with(KEY_PREFIX.as_bytes()) {
            match value {
                Some(value) => {
                    if let Some(allocation) = readable(key, value) {
                        self.recorded(now, allocation, event);
                    }
                }
                None => {
                    let text = std::str::from_utf8(key).ok();
                    let place = text
                        .and_then(|key| key.strip_prefix(KEY_PREFIX))
                        .and_then(Place::parse);
                    if let Some(place) = place {
                        self.forgotten(&place);
                    }
                }
            }
        } else if let Some(key) = key.strip_prefix(KEYS_PREFIX.as_bytes()) {
            let key = String::from_utf8_lossy(key).into_owned();
            if let Err(error) = self.keys.changed(key, value) {
                tracing::error!(%error, "an idempotency key that another server wrote cannot be read");
            }
        }
    }

    fn recorded(&mut self, now: &Now, allocation: Allocation, event: &nexus_clset::Event) {
        let before = self.enter(now, allocation.clone());
        self.disputes.saved(&allocation);
        let is_displaced = before
            .as_ref()
            .is_some_and(|before| self.look_for_displaced(before, &allocation, event));
        let concerned = self.concerned(&allocation);
        let allocation = Arc::new(allocation);
        if let Some(before) = before
            && before.olt != allocation.olt
            && (is_displaced || !concerned.contains(&before.olt))
            && !before.olt.is_cluster()
        {
            let events = self
                .log
                .add([before.olt.clone()], ChangeKind::Deleted, &Arc::new(before));
            self.effects.events.extend(events);
        }
        let events = self.log.add(concerned, ChangeKind::Put, &allocation);
        self.effects.events.extend(events);
        if allocation.state == AllocationState::Releasing && !allocation.olt.is_cluster() {
            let olt = allocation.olt.clone();
            let events = self
                .log
                .add([olt], ChangeKind::ReleaseRequested, &allocation);
            self.effects.events.extend(events);
        }
    }

    fn forgotten(&mut self, place: &Place) {
        let Some(allocation) = self.record.remove(place) else {
            return;
        };
        let was_held = allocation.state.is_held();
        self.audit.changed(&self.record, place, was_held, false);
        let concerned = self.concerned(&allocation);
        let events = self
            .log
            .add(concerned, ChangeKind::Deleted, &Arc::new(allocation));
        self.effects.events.extend(events);
    }
}

/// An allocation that can be read; what a newer version of the program wrote otherwise is left alone.
fn readable(key: &[u8], value: &[u8]) -> Option<Allocation> {
    let text = String::from_utf8_lossy(key);
    Allocation::decode(&text, value)
        .inspect_err(|error| tracing::error!(%error, "an allocation of the record cannot be read"))
        .ok()
}
