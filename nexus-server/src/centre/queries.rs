//! Reading the record: by subscriber, and lists with filters in pages.

use std::sync::Arc;

use jiff::Timestamp;
use nexus_core::id::{OltId, PoolId, SubscriberId};
use nexus_core::resource::Resource;

use super::Centre;
use crate::allocation::{Allocation, AllocationState, Place};
use crate::metrics::{OltGauges, PoolGauges, Snapshot};
use crate::refused::Refused;

/// Most allocations of one page.
pub const MAX_PAGE: usize = 1000;
/// Most allocations that are looked at for one page; one that finds few gives few and a cursor.
const MAX_LOOKED_AT: usize = 50_000;

/// Which states a list shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateFilter {
    /// What a subscriber holds: active and releasing.
    #[default]
    Held,
    /// One state.
    Only(AllocationState),
    /// Every state.
    All,
}

/// What a list shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this pool.
    pub pool: Option<PoolId>,
    /// On this OLT.
    pub olt: Option<OltId>,
    /// Of this subscriber.
    pub subscriber: Option<SubscriberId>,
    /// In this state.
    pub state: StateFilter,
    /// This resource, as text.
    pub resource: Option<String>,
    /// From behind this resource on.
    pub after: Option<Place>,
    /// At most so many, at most [`MAX_PAGE`].
    pub limit: usize,
}

/// A part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The allocations in the order of vrf, type and resource.
    pub allocations: Vec<Arc<Allocation>>,
    /// Where the next page goes on; `None`: this was the last.
    pub next: Option<Place>,
}

impl Filter {
    fn shows(&self, allocation: &Allocation) -> bool {
        let state = match self.state {
            StateFilter::Held => allocation.state.is_held(),
            StateFilter::Only(state) => allocation.state == state,
            StateFilter::All => true,
        };
        state
            && self
                .pool
                .as_ref()
                .is_none_or(|pool| allocation.pool == *pool)
            && self.olt.as_ref().is_none_or(|olt| allocation.olt == *olt)
            && self
                .subscriber
                .as_ref()
                .is_none_or(|subscriber| allocation.subscriber == *subscriber)
    }
}

impl Centre {
    /// What a subscriber holds, in the order of pools.
    ///
    /// # Errors
    /// [`Refused::NoAllocation`] if that is nothing.
    pub fn held_by(
        &mut self,
        subscriber: &SubscriberId,
        pool: Option<&PoolId>,
    ) -> Result<Vec<Arc<Allocation>>, Refused> {
        let mut held: Vec<Arc<Allocation>> = self
            .record
            .of_subscriber(subscriber)
            .filter(|known| known.state.is_held() && pool.is_none_or(|pool| known.pool == *pool))
            .map(|known| Arc::new(known.clone()))
            .collect();
        if held.is_empty() {
            return Err(Refused::NoAllocation {
                subscriber: subscriber.clone(),
                pool: pool.cloned(),
            });
        }
        // What stays comes before what goes: a subscriber that moves has both for a while.
        held.sort_by(|a, b| (&a.pool, a.state).cmp(&(&b.pool, b.state)));
        self.count_gets(held.len());
        Ok(held)
    }

    /// A page of the allocations that a filter shows.
    pub fn list(&mut self, filter: &Filter) -> Page {
        let page = if let Some(resource) = &filter.resource {
            Page {
                allocations: self.by_resource(resource, filter),
                next: None,
            }
        } else if let Some(subscriber) = &filter.subscriber {
            let mut found: Vec<&Allocation> = self.record.of_subscriber(subscriber).collect();
            found.sort_by(|a, b| a.place.cmp(&b.place));
            let after = filter.after.as_ref();
            let rest = found
                .into_iter()
                .filter(|a| after.is_none_or(|after| a.place > *after));
            page(rest, filter)
        } else if let Some(olt) = &filter.olt {
            page(self.record.of_olt(olt, filter.after.as_ref()), filter)
        } else {
            page(self.record.all(filter.after.as_ref()), filter)
        };
        self.count_gets(page.allocations.len());
        page
    }

    fn by_resource(&self, text: &str, filter: &Filter) -> Vec<Arc<Allocation>> {
        let mut places: Vec<Place> = self
            .table()
            .pools()
            .filter_map(|pool| {
                Some(Place {
                    vrf: pool.vrf().to_owned(),
                    resource: Resource::parse(pool.kind(), text).ok()?,
                })
            })
            .collect();
        places.sort();
        places.dedup();
        places
            .iter()
            .filter_map(|place| self.record.get(place))
            .filter(|allocation| filter.shows(allocation))
            .map(|allocation| Arc::new(allocation.clone()))
            .collect()
    }

    fn count_gets(&mut self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.effects.gets = self.effects.gets.saturating_add(count);
    }

    /// What the gauges of the metrics show; `role` and `state` are this server's own.
    #[must_use]
    pub fn gauges(&self, role: &str) -> Snapshot {
        let pools = self
            .table()
            .pools()
            .filter_map(|pool| self.pool_stats(pool.id()).ok())
            .map(|stats| PoolGauges {
                pool: stats.pool.to_string(),
                kind: stats.kind.to_string(),
                total: stats.total,
                allocated: stats.allocated,
                available: stats.available,
            })
            .collect();
        let mut olts = Vec::new();
        let mut states = std::collections::BTreeMap::<&str, u64>::new();
        for node in self.nodes() {
            let count = states.entry(node.state.as_str()).or_default();
            *count = count.saturating_add(1);
            olts.push(OltGauges {
                olt: node.id.to_string(),
                subscribers: node.active_subscribers,
                other_host: node.other_host.is_some(),
                clocks_apart: node.clocks_apart.is_some(),
                last_heartbeat: node.last_heartbeat.map(unix_seconds),
            });
        }
        let mut nodes = vec![(role.to_owned(), "active".to_owned(), 1)];
        nodes.extend(
            states
                .into_iter()
                .map(|(state, count)| ("olt".to_owned(), state.to_owned(), count)),
        );
        Snapshot {
            pools,
            olts,
            nodes,
            watchers: 0,
            duplicates: self.duplicate_count(),
            audit_walked_at: self.audit_walked_at().map(unix_seconds),
        }
    }
}

fn unix_seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

fn page<'a>(all: impl Iterator<Item = &'a Allocation>, filter: &Filter) -> Page {
    let limit = filter.limit.clamp(1, MAX_PAGE);
    let mut found = Page::default();
    let mut last: Option<&Place> = None;
    for (looked_at, allocation) in all.enumerate() {
        if looked_at >= MAX_LOOKED_AT || found.allocations.len() >= limit {
            found.next = last.cloned();
            break;
        }
        last = Some(&allocation.place);
        if filter.shows(allocation) {
            found.allocations.push(Arc::new(allocation.clone()));
        }
    }
    found
}
