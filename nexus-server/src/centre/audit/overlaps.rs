//! Resources on record that meet, kept as the record changes. Most changes cost nothing here: addresses and VLANs are
//! keys of the record and cannot be there twice, and a prefix or a block of ports is looked for only among those of
//! another size.

use std::collections::BTreeMap;
use std::ops::Bound;

use nexus_core::resource::{Resource, ResourceType};

use super::contains;
use crate::allocation::Place;
use crate::record::Record;

/// Most that are remembered; beyond, what is new is logged and not counted until there is room and a walk finds it again.
const MAX_FOUND: usize = 10_000;
/// Most allocations that are looked at inside one that is new; what lies behind them is left to the walk.
const MAX_INSIDE: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub struct Overlaps {
    /// How many are held of each size, by vrf and type; of types whose resources have sizes.
    sizes: BTreeMap<(String, ResourceType), BTreeMap<u32, u64>>,
    /// Whatever lies in another one or begins in it, and one such.
    found: BTreeMap<Place, Place>,
}

impl Overlaps {
    /// Those that were found: what lies or begins in another one, and that.
    pub fn pairs(&self) -> impl Iterator<Item = (&Place, &Place)> {
        self.found.iter()
    }

    /// Somebody has begun to hold a resource, or has ceased to; the record is as it is now.
    pub fn changed(&mut self, record: &Record, place: &Place, was_held: bool, is_held: bool) {
        let Some(size) = size(&place.resource).filter(|_| was_held != is_held) else {
            return;
        };
        let key = (place.vrf.clone(), place.resource.kind());
        let sizes = self.sizes.entry(key).or_default();
        let count = sizes.entry(size).or_default();
        if is_held {
            *count = count.saturating_add(1);
            self.begun(record, place);
        } else {
            *count = count.saturating_sub(1);
            if *count == 0 {
                sizes.remove(&size);
            }
            self.ended(record, place);
        }
    }

    /// Takes over what a walk has found between two places, the first not included: what is not kept is added, what
    /// has ended goes.
    pub fn confirm(
        &mut self,
        record: &Record,
        (after, upto): (Option<&Place>, Option<&Place>),
        found: BTreeMap<Place, Place>,
    ) {
        let range = (
            after.map_or(Bound::Unbounded, Bound::Excluded),
            upto.map_or(Bound::Unbounded, Bound::Included),
        );
        let over: Vec<Place> = self
            .found
            .range::<Place, _>(range)
            .filter(|(inner, outer)| {
                !(is_held(record, inner) && is_held(record, outer) && contains(outer, inner))
            })
            .map(|(inner, _)| inner.clone())
            .collect();
        for inner in over {
            tracing::warn!(resource = %inner, "the audit has kept a duplicate that is over");
            self.found.remove(&inner);
        }
        for (inner, outer) in found {
            if !self.found.contains_key(&inner) {
                tracing::error!(resource = %inner, "the audit has missed a duplicate when it came about");
                self.note(inner, outer);
            }
        }
    }

    fn begun(&mut self, record: &Record, place: &Place) {
        if let Some(outer) = self.outer_of(record, place) {
            self.note(place.clone(), outer);
        }
        let inside: Vec<Place> = self
            .range_of(place)
            .into_iter()
            .flat_map(|(first, last)| record.between(&place.vrf, first, last))
            .take(MAX_INSIDE)
            .filter(|known| known.state.is_held() && known.place > *place)
            .filter(|known| contains(place, &known.place))
            .map(|known| known.place.clone())
            .collect();
        for inner in inside {
            if !self.found.contains_key(&inner) {
                self.note(inner, place.clone());
            }
        }
    }

    fn ended(&mut self, record: &Record, place: &Place) {
        self.found.remove(place);
        let left: Vec<Place> = self
            .found
            .iter()
            .filter(|(_, outer)| *outer == place)
            .map(|(inner, _)| inner.clone())
            .collect();
        for inner in left {
            match self.outer_of(record, &inner) {
                Some(outer) => self.found.insert(inner, outer),
                None => self.found.remove(&inner),
            };
        }
    }

    fn note(&mut self, inner: Place, outer: Place) {
        tracing::error!(resource = %inner, in_ = %outer, "two subscribers hold resources that are partly the same");
        if self.found.len() < MAX_FOUND {
            self.found.insert(inner, outer);
        }
    }

    /// A held resource that this one lies in or begins in.
    fn outer_of(&self, record: &Record, place: &Place) -> Option<Place> {
        let key = (place.vrf.clone(), place.resource.kind());
        let sizes = self.sizes.get(&key)?;
        match place.resource {
            Resource::Ipv6(prefix) => {
                let shortest = *sizes.first_key_value()?.0;
                std::iter::successors(prefix.supernet(), |wider| wider.supernet())
                    .take_while(|wider| u32::from(wider.prefix_len()) >= shortest)
                    .filter(|wider| sizes.contains_key(&u32::from(wider.prefix_len())))
                    .map(|wider| Place {
                        vrf: place.vrf.clone(),
                        resource: Resource::Ipv6(wider),
                    })
                    .find(|wider| is_held(record, wider))
            }
            Resource::Port { address, first, .. } => {
                // What begins before that cannot reach so far.
                let largest = u16::try_from(*sizes.last_key_value()?.0).unwrap_or(u16::MAX);
                let lowest = first.saturating_sub(largest.saturating_sub(1));
                let from = Resource::Port {
                    address,
                    first: lowest,
                    last: lowest,
                };
                record
                    .between(&place.vrf, from, place.resource)
                    .filter(|known| known.state.is_held() && known.place < *place)
                    .find(|known| contains(&known.place, place))
                    .map(|known| known.place.clone())
            }
            _ => None,
        }
    }

    /// Between which resources lies whatever could lie or begin in this one; nothing if nothing is held that could.
    fn range_of(&self, place: &Place) -> Option<(Resource, Resource)> {
        let last = match place.resource {
            Resource::Ipv6(prefix) => {
                let key = (place.vrf.clone(), place.resource.kind());
                let longer = u32::from(prefix.prefix_len()).saturating_add(1);
                self.sizes.get(&key)?.range(longer..).next()?;
                Resource::Ipv6(prefix.broadcast().into())
            }
            Resource::Port { address, last, .. } => Resource::Port {
                address,
                first: last,
                last: u16::MAX,
            },
            _ => return None,
        };
        Some((place.resource, last))
    }
}

/// The length of a prefix, or the number of ports of a block; nothing has one where no two can meet.
fn size(resource: &Resource) -> Option<u32> {
    match resource {
        Resource::Ipv6(prefix) => Some(u32::from(prefix.prefix_len())),
        Resource::Port { first, last, .. } => {
            Some(u32::from(last.saturating_sub(*first)).saturating_add(1))
        }
        _ => None,
    }
}

fn is_held(record: &Record, place: &Place) -> bool {
    record.get(place).is_some_and(|known| known.state.is_held())
}
