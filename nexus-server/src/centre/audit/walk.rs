//! The walk over the whole record, a part at a time. It goes by the record alone and shares nothing with what is kept as
//! the record changes but [`contains`]: two that meet stand behind each other, so that it needs to remember only which one
//! reaches furthest.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use nexus_core::time::BootTime;

use super::overlaps::Overlaps;
use super::{contains, reaches_beyond};
use crate::allocation::Place;
use crate::clock::Now;
use crate::record::Record;

/// Allocations that are looked at with one tick.
pub const SLICE: usize = 8192;
/// How long after a walk has begun the next one begins, at the earliest.
const EVERY: Duration = Duration::from_secs(60);

/// A walk that is through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walked {
    /// When it was.
    pub at: Timestamp,
    /// From its first part to its last.
    pub took: Duration,
    /// Held allocations that it has seen.
    pub checked: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Walk {
    /// The one under way.
    now: Option<Under>,
    /// Not before then the next one begins.
    due: BootTime,
    last: Option<Walked>,
}

#[derive(Debug)]
struct Under {
    begun: BootTime,
    /// It goes on behind this one.
    after: Option<Place>,
    /// Of what was passed, the held one that reaches furthest.
    widest: Option<Place>,
    checked: u64,
}

impl Walk {
    /// The last one that was through.
    pub const fn last(&self) -> Option<Walked> {
        self.last
    }

    /// The record is made anew.
    pub fn start_over(&mut self) {
        self.now = None;
        self.due = BootTime::ZERO;
    }

    /// Looks at the next `limit` allocations, if a walk is under way or due. Says whether it is through.
    pub fn step(
        &mut self,
        record: &Record,
        overlaps: &mut Overlaps,
        now: &Now,
        limit: usize,
    ) -> bool {
        if self.now.is_none() && now.boot < self.due {
            return false;
        }
        let mut under = self.now.take().unwrap_or_else(|| {
            self.due = now.boot.saturating_add(EVERY);
            Under::new(now.boot)
        });
        if under.go_on(record, overlaps, limit) {
            self.last = Some(Walked {
                at: now.wall,
                took: now.boot.since(under.begun),
                checked: under.checked,
            });
            return true;
        }
        self.now = Some(under);
        false
    }
}

impl Under {
    const fn new(begun: BootTime) -> Self {
        Self {
            begun,
            after: None,
            widest: None,
            checked: 0,
        }
    }

    fn go_on(&mut self, record: &Record, overlaps: &mut Overlaps, limit: usize) -> bool {
        let carried = self.widest.take();
        let mut widest = carried
            .as_ref()
            .and_then(|place| record.get(place))
            .filter(|known| known.state.is_held())
            .map(|known| &known.place);
        let mut found = BTreeMap::new();
        let mut last = None;
        let mut looked_at = 0_usize;
        for known in record.all(self.after.as_ref()).take(limit) {
            looked_at = looked_at.saturating_add(1);
            let place = &known.place;
            last = Some(place);
            if !known.state.is_held() {
                continue;
            }
            self.checked = self.checked.saturating_add(1);
            match widest {
                Some(outer) if contains(outer, place) => {
                    found.insert(place.clone(), outer.clone());
                    if reaches_beyond(outer, place) {
                        widest = Some(place);
                    }
                }
                _ => widest = Some(place),
            }
        }
        let is_through = looked_at < limit;
        let upto = last.filter(|_| !is_through);
        overlaps.confirm(record, (self.after.as_ref(), upto), found);
        self.widest = widest.cloned();
        self.after = last.cloned();
        is_through
    }
}
