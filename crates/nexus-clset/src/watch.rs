//! Watching the map: a bounded log of what changed, from which a watcher resumes or is told to start over.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::entry::Entry;
use crate::replica::value_of;
use crate::version::{Dot, Incarnation};

/// Most events that are remembered.
const MAX_EVENTS: usize = 65_536;

/// Most bytes of keys and values that are remembered.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// A point in the history of one replica. Grows with every change, also over restarts; means nothing
/// to another replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// A write under a key, and how many it is built on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stand {
    /// Which write.
    pub dot: Dot,
    /// Its causal length: two more than that of the value which it replaced, one more than that of the tombstone; a
    /// tombstone has one more than what it deleted. So who wrote the shorter of two did not build on the longer.
    pub causal_length: u64,
}

impl Stand {
    pub(crate) const fn of(entry: &Entry) -> Self {
        Self {
            dot: entry.dot(),
            causal_length: entry.version.causal_length,
        }
    }
}

/// A key got a value or lost it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The point in history right behind this change.
    pub revision: Revision,
    /// Which key.
    pub key: Arc<[u8]>,
    /// Its new value; nothing if it was deleted.
    pub value: Option<Arc<[u8]>>,
    /// The write, deletion or not, that stood there before; nothing if none was kept.
    pub stood: Option<Stand>,
    /// The one that stands there now.
    pub stands: Option<Stand>,
}

/// What changed behind a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Changes in their order.
    pub events: Vec<Event>,
    /// Where to go on. May lie behind the last event, since other keys change too.
    pub next: Revision,
}

/// What changed behind that revision is not remembered any more: read all keys again, having noted
/// `revision` before, and go on from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what changed since is not remembered any more: read everything again and watch from revision {}", revision.0)]
pub struct StartOver {
    /// The revision of now.
    pub revision: Revision,
}

/// The last events of one replica.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    events: VecDeque<Event>,
    bytes: usize,
    /// Events up to here are forgotten.
    floor: Revision,
    last: Revision,
}

impl Log {
    /// An empty log. Incarnations grow by at least one at each boot, so with them in the upper half
    /// no revision comes twice.
    pub(crate) fn new(incarnation: Incarnation) -> Self {
        let start = Revision(u64::from(incarnation.0) << 32);
        Self {
            events: VecDeque::new(),
            bytes: 0,
            floor: start,
            last: start,
        }
    }

    pub(crate) fn last(&self) -> Revision {
        self.last
    }

    /// Notes that `new` has taken the place of `old`.
    pub(crate) fn push(&mut self, key: &[u8], old: Option<&Entry>, new: Option<&Entry>) {
        self.last = Revision(self.last.0.saturating_add(1));
        let event = Event {
            revision: self.last,
            key: key.into(),
            value: value_of(new).map(Into::into),
            stood: old.map(Stand::of),
            stands: new.map(Stand::of),
        };
        self.bytes = self.bytes.saturating_add(event_bytes(&event));
        self.events.push_back(event);
        while self.events.len() > MAX_EVENTS || self.bytes > MAX_BYTES {
            let Some(forgotten) = self.events.pop_front() else {
                return;
            };
            self.bytes = self.bytes.saturating_sub(event_bytes(&forgotten));
            self.floor = forgotten.revision;
        }
    }

    pub(crate) fn after(
        &self,
        prefix: &[u8],
        after: Revision,
        limit: usize,
    ) -> Result<Changes, StartOver> {
        if after < self.floor || after > self.last {
            return Err(StartOver {
                revision: self.last,
            });
        }
        let mut changes = Changes {
            events: Vec::new(),
            next: after,
        };
        let from = self.events.partition_point(|event| event.revision <= after);
        for event in self.events.range(from..) {
            if event.key.starts_with(prefix) {
                if changes.events.len() >= limit {
                    return Ok(changes);
                }
                changes.events.push(event.clone());
            }
            changes.next = event.revision;
        }
        Ok(changes)
    }
}

fn event_bytes(event: &Event) -> usize {
    let value = event.value.as_ref().map_or(0, |value| value.len());
    event.key.len().saturating_add(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hlc::Hlc;
    use crate::version::{Fence, NodeId, Origin, Version};

    /// The first write of a key, a deletion if there is no value.
    fn entry(value: Option<&[u8]>) -> Entry {
        let origin = Origin {
            node: NodeId(1),
            incarnation: Incarnation(1),
        };
        Entry {
            version: Version {
                fence: Fence::NONE,
                causal_length: if value.is_some() { 1 } else { 2 },
                hlc: Hlc(1),
                origin,
            },
            seq: 1,
            value: value.unwrap_or_default().to_vec(),
        }
    }

    fn push(log: &mut Log, key: &[u8], value: Option<&[u8]>) {
        log.push(key, None, Some(&entry(value)));
    }

    #[test]
    fn a_watcher_sees_each_change_of_its_prefix_once_and_in_order() {
        let mut log = Log::new(Incarnation(7));
        let start = log.last();
        for n in 0..10_u8 {
            push(&mut log, &[b'a' + n % 2, n], (n != 4).then_some(&[n]));
        }
        let mut seen = Vec::new();
        let mut at = start;
        loop {
            let changes = log.after(b"a", at, 2).unwrap();
            if changes.events.is_empty() {
                assert_eq!(changes.next, log.last());
                break;
            }
            at = changes.next;
            seen.extend(changes.events);
        }
        assert_eq!(
            seen.iter().map(|e| e.key[1]).collect::<Vec<_>>(),
            [0, 2, 4, 6, 8]
        );
        assert_eq!(seen[2].value, None);
    }

    #[test]
    fn an_event_says_which_write_stands_and_which_stood() {
        let mut log = Log::new(Incarnation(7));
        let start = log.last();
        let (old, new) = (entry(Some(b"v")), entry(None));
        log.push(b"k", Some(&old), Some(&new));
        let event = log.after(b"", start, 1).unwrap().events.remove(0);
        let length = |stand: Option<Stand>| stand.map(|stand| stand.causal_length);
        assert_eq!(
            (length(event.stood), length(event.stands)),
            (Some(1), Some(2))
        );
        assert_eq!((event.stood.unwrap().dot, event.value), (old.dot(), None));
    }

    #[test]
    fn a_watcher_that_fell_behind_is_told_to_start_over() {
        let mut log = Log::new(Incarnation(1));
        let start = log.last();
        for _ in 0..=MAX_EVENTS {
            push(&mut log, b"k", Some(b"v"));
        }
        let over = log.after(b"", start, 10).unwrap_err();
        assert_eq!(over.revision, log.last());
        assert_eq!(log.events.len(), MAX_EVENTS);
        assert_eq!(log.after(b"", log.floor, 1).unwrap().events.len(), 1);
        assert!(log.after(b"", over.revision, 1).unwrap().events.is_empty());
    }

    #[test]
    fn the_log_is_bounded_in_bytes_too() {
        let mut log = Log::new(Incarnation(1));
        let value = vec![0; 60 * 1024];
        for _ in 0..2000 {
            push(&mut log, b"k", Some(&value));
        }
        assert!(log.bytes <= MAX_BYTES && log.events.len() > 100);
    }

    #[test]
    fn a_revision_of_before_a_restart_or_of_another_replica_starts_over() {
        let mut log = Log::new(Incarnation(5));
        push(&mut log, b"k", None);
        let old = log.last();
        let mut log = Log::new(Incarnation(6));
        assert!(log.after(b"", old, 1).is_err());
        push(&mut log, b"k", None);
        assert!(log.after(b"", old, 1).is_err());
        assert!(log.after(b"", Revision(log.last().0 + 1), 1).is_err());
    }
}
