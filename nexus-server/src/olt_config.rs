//! What an OLT is told to work with, made from the shard table.

use std::collections::BTreeMap;
use std::time::Duration;

use nexus_core::id::{OltId, PoolId};
use nexus_core::placement::serves_region;
use nexus_core::pool::PoolSpec;
use nexus_core::resource::ResourceType;
use nexus_core::shard_table::{OwnedShard, ShardTable};

/// What does not come from the table but from the server's own configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How often an OLT reports.
    pub heartbeat_interval: Duration,
    /// gRPC endpoints, `host:port`; empty: those of the members that take writes.
    pub endpoints: Vec<String>,
    /// Handed on as they are.
    pub policies: BTreeMap<String, String>,
}

/// The configuration of one OLT at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OltConfig {
    /// Whose it is.
    pub olt: OltId,
    /// Grows with each change.
    pub revision: u64,
    /// gRPC endpoints, `host:port`.
    pub endpoints: Vec<String>,
    /// Pools in which the OLT owns shards, and the pinned ones of its region, in the order of their names.
    pub pools: Vec<PoolPart>,
    /// How often the OLT reports.
    pub heartbeat_interval: Duration,
    /// Aggregate routes of what the OLT owns: `100.64.0.0/18`.
    pub routes: Vec<String>,
    /// Handed on as they are.
    pub policies: BTreeMap<String, String>,
}

/// An OLT's part of one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolPart {
    /// The pool.
    pub spec: PoolSpec,
    /// Shards that the OLT owns, in order; none of a pinned pool.
    pub shards: Vec<OwnedShard>,
}

impl OltConfig {
    /// The newest configuration of an OLT; `None` if it is not registered.
    #[must_use]
    pub fn build(table: &ShardTable, settings: &Settings, olt: &OltId) -> Option<Self> {
        let view = table.olt(olt)?;
        let mut owned = table.shards_of(olt);
        // What is pinned may come to any OLT of the region, with its subscriber.
        for pool in table.pools().filter(|pool| pool.is_pinned()) {
            if serves_region(pool, &view.row.region) {
                owned.entry(pool.id().clone()).or_default();
            }
        }
        let pools: Vec<PoolPart> = owned
            .into_iter()
            .filter_map(|(id, shards)| {
                let spec = table.pool(&id)?.spec().clone();
                Some(PoolPart { spec, shards })
            })
            .collect();
        let routes = pools
            .iter()
            .filter(|part| matches!(part.spec.kind, ResourceType::Ipv4 | ResourceType::Ipv6))
            .flat_map(|part| part.shards.iter().map(|shard| shard.range.to_string()))
            .collect();
        Some(Self {
            olt: olt.clone(),
            revision: view.row.config_revision,
            endpoints: settings.endpoints.clone(),
            pools,
            heartbeat_interval: settings.heartbeat_interval,
            routes,
            policies: settings.policies.clone(),
        })
    }

    /// Pools that the OLT works with.
    #[must_use]
    pub fn pool_ids(&self) -> Vec<PoolId> {
        self.pools.iter().map(|part| part.spec.id.clone()).collect()
    }
}
