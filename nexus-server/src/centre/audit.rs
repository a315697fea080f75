//! The running audit (design part 6): is any resource held by more than one subscriber?
//!
//! It looks at what came out, and asks nothing of what should have prevented it: not who owns which shard, which leases
//! run or which pools there are, but whether what is held on record meets. What changes is looked at as it changes
//! ([`overlaps`]), and all of it again and again, a part with each tick ([`walk`]), so that what the first has missed is
//! found by the second. Whoever asks is told what is kept; nobody waits for a walk.

mod overlaps;
mod walk;

use jiff::Timestamp;
use nexus_core::resource::Resource;

pub use walk::Walked;

use super::Centre;
use crate::allocation::{Allocation, Place};
use crate::clock::Now;
use crate::record::Record;

/// A resource that two hold, or two resources that are partly the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// The resource.
    pub place: Place,
    /// What is wrong with it.
    pub kind: DuplicateKind,
    /// Subscriber and OLT of each holder; the record's own comes first.
    pub holders: Vec<(String, String)>,
}

/// How a resource has come to more than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DuplicateKind {
    /// It lies in another one on record, or they meet.
    Overlaps,
    /// An OLT has claimed it for one subscriber while another one had it on record, and was refused.
    Refused,
    /// Two servers had taken two claims before they heard of each other: the entry of one was displaced.
    Displaced,
}

/// What an audit has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Allocations that are held, each of which has been looked at.
    pub checked: u64,
    /// The last walk over all of them; none since this server started.
    pub walked: Option<Walked>,
    /// Must be empty.
    pub duplicates: Vec<Duplicate>,
}

/// What the audit keeps.
#[derive(Debug, Default)]
pub(super) struct Running {
    overlaps: overlaps::Overlaps,
    walk: walk::Walk,
}

impl DuplicateKind {
    /// Its name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Overlaps => "overlaps",
            Self::Refused => "refused",
            Self::Displaced => "displaced",
        }
    }
}

impl Running {
    /// Somebody has begun to hold a resource, or has ceased to.
    pub fn changed(&mut self, record: &Record, place: &Place, was_held: bool, is_held: bool) {
        self.overlaps.changed(record, place, was_held, is_held);
    }

    /// The record is made anew.
    pub fn start_over(&mut self) {
        self.overlaps = overlaps::Overlaps::default();
        self.walk.start_over();
    }
}

impl Centre {
    /// What has been found up to now.
    #[must_use]
    pub fn audit(&self) -> Audit {
        Audit {
            checked: self.record.held(),
            walked: self.audit.walk.last(),
            duplicates: self.duplicates().collect(),
        }
    }

    /// How many resources more than one subscriber holds, as far as has been found.
    #[must_use]
    pub fn duplicate_count(&self) -> usize {
        self.duplicates().count()
    }

    /// When the last walk over all that is held was through.
    #[must_use]
    pub fn audit_walked_at(&self) -> Option<Timestamp> {
        self.audit.walk.last().map(|walked| walked.at)
    }

    /// Looks at the next part of the record; says so once for each walk if something is wrong.
    pub(super) fn walk_on(&mut self, now: &Now) {
        let Running { overlaps, walk } = &mut self.audit;
        if !walk.step(&self.record, overlaps, now, walk::SLICE) {
            return;
        }
        let count = self.duplicate_count();
        if let Some(first) = self.duplicates().next() {
            tracing::error!(count, resource = %first.place, kind = first.kind.as_str(), holders = ?first.holders,
                "resources are held by more than one subscriber");
        }
    }

    fn duplicates(&self) -> impl Iterator<Item = Duplicate> {
        let overlapping = self.audit.overlaps.pairs().filter_map(|(inner, outer)| {
            Some(Duplicate {
                place: inner.clone(),
                kind: DuplicateKind::Overlaps,
                holders: vec![holder(self.held_at(outer)?), holder(self.held_at(inner)?)],
            })
        });
        let disputed = self.disputes.iter().filter_map(|(place, others)| {
            let known = self.held_at(place)?;
            let others = others.iter().filter(|(who, _)| **who != known.subscriber);
            let is_displaced = others.clone().any(|(_, other)| other.is_displaced());
            let names = others.map(|(who, other)| (who.to_string(), other.olt().to_string()));
            let holders: Vec<_> = std::iter::once(holder(known)).chain(names).collect();
            (holders.len() > 1).then(|| Duplicate {
                place: place.clone(),
                kind: if is_displaced {
                    DuplicateKind::Displaced
                } else {
                    DuplicateKind::Refused
                },
                holders,
            })
        });
        overlapping.chain(disputed)
    }

    fn held_at(&self, place: &Place) -> Option<&Allocation> {
        self.record.get(place).filter(|known| known.state.is_held())
    }
}

fn holder(allocation: &Allocation) -> (String, String) {
    (
        allocation.subscriber.to_string(),
        allocation.olt.to_string(),
    )
}

/// Whether the second of two resources lies in the first, or begins in it. In the record's order a prefix and a
/// block of ports come right before everything that does.
fn contains(outer: &Place, inner: &Place) -> bool {
    outer.vrf == inner.vrf
        && match (outer.resource, inner.resource) {
            (Resource::Ipv6(outer), Resource::Ipv6(inner)) => outer.contains(&inner),
            (
                Resource::Port {
                    address: outer,
                    last,
                    ..
                },
                Resource::Port {
                    address: inner,
                    first,
                    ..
                },
            ) => outer == inner && first <= last,
            (outer, inner) => outer == inner,
        }
}

/// Whether the second of two blocks of ports, of which it begins in the first, ends behind it.
fn reaches_beyond(outer: &Place, inner: &Place) -> bool {
    match (outer.resource, inner.resource) {
        (Resource::Port { last: outer, .. }, Resource::Port { last: inner, .. }) => inner > outer,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
