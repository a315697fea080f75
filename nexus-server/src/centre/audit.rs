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
                    if reaches_beyond(&outer.place, &allocation.place) {
                        widest = Some(allocation);
                    }
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
mod tests {
    use nexus_core::resource::ResourceType;

    use super::*;

    #[test]
    fn what_lies_in_another_resource_of_the_same_vrf_is_found_and_nothing_else() {
        let place = |kind, text| Place {
            vrf: "default".into(),
            resource: Resource::parse(kind, text).unwrap(),
        };
        for (kind, outer, inner, is_part) in [
            (ResourceType::Ipv6, "2001:db8::/56", "2001:db8::/64", true),
            (ResourceType::Ipv6, "2001:db8::/56", "2001:db8::7/128", true),
            (
                ResourceType::Ipv6,
                "2001:db8::/56",
                "2001:db8:0:100::/56",
                false,
            ),
            (
                ResourceType::Port,
                "192.0.2.1:1024-1535",
                "192.0.2.1:1535",
                true,
            ),
            (
                ResourceType::Port,
                "192.0.2.1:1024-1535",
                "192.0.2.1:1024-2047",
                true,
            ),
            (
                ResourceType::Port,
                "192.0.2.1:1024-1535",
                "192.0.2.1:1536-2047",
                false,
            ),
            (
                ResourceType::Port,
                "192.0.2.1:1024-1535",
                "192.0.2.2:1024-1535",
                false,
            ),
            (ResourceType::Vlan, "100", "101", false),
        ] {
            let (outer, inner) = (place(kind, outer), place(kind, inner));
            assert!(outer < inner, "the record's order");
            assert_eq!(contains(&outer, &inner), is_part, "{outer} {inner}");
            let elsewhere = Place {
                vrf: "blue".into(),
                ..inner
            };
            assert!(!contains(&outer, &elsewhere));
        }
    }
}
