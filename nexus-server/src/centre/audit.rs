//! The running audit (design part 6): is any resource held by more than one subscriber?

use nexus_core::resource::Resource;
use std::collections::BTreeSet;

use super::Centre;
use crate::allocation::{Allocation, Place};

/// A resource that two hold, or two resources that are partly the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// The resource.
    pub place: Place,
    /// Subscriber and OLT of each holder; the record's own comes first.
    pub holders: Vec<(String, String)>,
}

/// What an audit has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Allocations that were looked at.
    pub checked: u64,
    /// Must be empty.
    pub duplicates: Vec<Duplicate>,
}

impl Centre {
    /// Looks through the whole record. The record cannot hold one resource twice; what is found are prefixes
    /// that lie in one another, and resources that an OLT gave to one subscriber although the record has
    /// them for another.
    #[must_use]
    pub fn audit(&self) -> Audit {
        let mut audit = Audit::default();
        let mut widest: Option<&Allocation> = None;
        for allocation in self.record.all(None).filter(|a| a.state.is_held()) {
            audit.checked = audit.checked.saturating_add(1);
            match widest {
                Some(outer) if contains(&outer.place, &allocation.place) => {
                    audit.duplicates.push(Duplicate {
                        place: allocation.place.clone(),
                        holders: vec![holder(outer), holder(allocation)],
                    });
                }
                _ => widest = Some(allocation),
            }
        }
        for (place, claims) in &self.conflicts {
            let known = self.record.get(place).filter(|known| known.state.is_held());
            let Some(known) = known else {
                continue;
            };
            let claimed = claims
                .iter()
                .filter(|(subscriber, _)| **subscriber != known.subscriber)
                .map(|(subscriber, olt)| (subscriber.to_string(), olt.to_string()));
            let holders: BTreeSet<_> = claimed.collect();
            if !holders.is_empty() {
                audit.duplicates.push(Duplicate {
                    place: place.clone(),
                    holders: std::iter::once(holder(known)).chain(holders).collect(),
                });
            }
        }
        audit
    }
}

fn holder(allocation: &Allocation) -> (String, String) {
    (
        allocation.subscriber.to_string(),
        allocation.olt.to_string(),
    )
}

/// Whether the second of two resources is a part of the first. In the record's order a prefix comes right
/// before everything that lies in it.
fn contains(outer: &Place, inner: &Place) -> bool {
    outer.vrf == inner.vrf
        && match (outer.resource, inner.resource) {
            (Resource::Ipv6(outer), Resource::Ipv6(inner)) => outer.contains(&inner),
            (outer, inner) => outer == inner,
        }
}
