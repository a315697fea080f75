//! Which routes there are to be, out of what the edge owns and serves: no clock, no kernel.
//!
//! | | aggregate | host route |
//! |---|---|---|
//! | shard of this host, its lease alive | yes, also while it drains | only with `host_routes: all` |
//! | binding in such a shard | | only with `host_routes: all` |
//! | binding in anybody else's shard (pinned, roamed, shard lost) | no | yes, as long as it is served |
//! | lease ended | no: the shards may be another host's | yes, for every binding that is served |

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use nexus_core::edge::Edge;
use nexus_core::id::{PoolId, ShardId};
use nexus_core::resource::Resource;
use nexus_core::shard::ShardRange;
use nexus_core::time::BootTime;

use super::config::{HostRoutes, RoutesSection};

/// Most routes; those beyond it, host routes of the last pools by name, are left out and counted.
pub const LIMIT: usize = 262_144;

/// Where a route is: there is one of ours for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteKey {
    /// Kernel table.
    pub table: u32,
    /// Destination, without host bits.
    pub prefix: IpNet,
}

/// What becomes of packets for the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// They are dropped, unless there is a longer prefix.
    Aggregate,
    /// They leave by this interface.
    Host(Arc<str>),
}

/// What is to be in the kernel's tables, and nothing else of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The routes.
    pub routes: BTreeMap<RouteKey, Target>,
    /// How many are left out because of [`LIMIT`].
    pub left_out: u64,
    /// Shards and bindings of VRFs without a table.
    pub without_table: u64,
}

/// A pool in which this host owns something.
struct Owned {
    table: Option<u32>,
    shards: BTreeSet<ShardId>,
}

/// What is to be there now. `interfaces`: those that are served, by name.
#[must_use]
pub fn wanted(
    edge: &Edge,
    now: BootTime,
    section: &RoutesSection,
    interfaces: &BTreeSet<Arc<str>>,
) -> Wanted {
    let mut all = Wanted::default();
    let owned = aggregates(edge, now, section, &mut all);
    for binding in edge.bindings(None) {
        let Some(prefix) = host_prefix(binding.resource) else {
            continue;
        };
        let pool = owned.get(binding.pool);
        let covered = pool.is_some_and(|pool| pool.shards.contains(&binding.row.shard));
        let has_ended = binding.valid_until.is_some_and(|end| end <= now);
        if binding.suspended || has_ended || (covered && section.host_routes == HostRoutes::Needed)
        {
            continue;
        }
        let line = binding.row.key.as_ref();
        let Some(interface) = line.and_then(|key| interfaces.get(key.interface.as_str())) else {
            continue;
        };
        let table = pool.map_or_else(|| table_of(edge, binding.pool, section), |pool| pool.table);
        let Some(table) = table else {
            all.without_table = all.without_table.saturating_add(1);
            continue;
        };
        let key = RouteKey { table, prefix };
        all.put(key, Target::Host(Arc::clone(interface)));
    }
    all
}

/// Adds the aggregates; returns what they cover.
fn aggregates(
    edge: &Edge,
    now: BootTime,
    section: &RoutesSection,
    all: &mut Wanted,
) -> BTreeMap<PoolId, Owned> {
    let mut owned: BTreeMap<PoolId, Owned> = BTreeMap::new();
    let view = edge.view(now);
    if view.lease_until.is_none() {
        return owned;
    }
    for shard in view.shards {
        let range = edge
            .pool(&shard.shard.pool)
            .and_then(|pool| pool.shard_range(shard.shard.shard));
        let prefix = match range {
            Some(ShardRange::Ipv4(net)) => IpNet::from(net),
            Some(ShardRange::Ipv6(net)) => IpNet::from(net),
            _ => continue,
        };
        let pool = owned
            .entry(shard.shard.pool)
            .or_insert_with_key(|id| Owned {
                table: table_of(edge, id, section),
                shards: BTreeSet::new(),
            });
        pool.shards.insert(shard.shard.shard);
        match pool.table {
            Some(table) => all.put(RouteKey { table, prefix }, Target::Aggregate),
            None => all.without_table = all.without_table.saturating_add(1),
        }
    }
    owned
}

impl Wanted {
    fn put(&mut self, key: RouteKey, target: Target) {
        if self.routes.len() < LIMIT || self.routes.contains_key(&key) {
            self.routes.insert(key, target);
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
    }
}

fn table_of(edge: &Edge, pool: &PoolId, section: &RoutesSection) -> Option<u32> {
    section.table_of(edge.pool(pool)?.vrf())
}

/// The prefix that a binding of an address or prefix stands for.
fn host_prefix(resource: Resource) -> Option<IpNet> {
    match resource {
        Resource::Ipv4(address) => Some(IpNet::from(Ipv4Net::from(address))),
        Resource::Ipv6(prefix) => Some(IpNet::from(prefix.trunc())),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
