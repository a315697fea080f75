//! The JSON of OLT hosts, in the customer's names.

use std::collections::BTreeMap;

use nexus_core::shard_table::Reclaim;
use serde::Serialize;
use utoipa::ToSchema;

use crate::centre::NodeInfo;

/// One OLT host.
#[derive(Debug, Serialize, ToSchema)]
pub struct NodeView {
    id: String,
    name: String,
    region: String,
    address: String,
    /// Most subscribers that it serves.
    capacity: u32,
    assigned_shards: Vec<AssignedShards>,
    /// bootstrapping, active, draining or offline.
    state: String,
    /// RFC 3339, UTC; absent before the first heartbeat since the server started.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_heartbeat: Option<String>,
    /// Subscribers with a session, from the last heartbeat.
    active_subscribers: u32,
    /// Allocations that are held on it.
    allocations: u64,
    /// Newest revision of its configuration.
    config_revision: u64,
    /// Revision that it works with, from the last heartbeat.
    running_revision: u64,
    /// Values of its own, from the last heartbeat.
    metrics: BTreeMap<String, f64>,
    /// Whether an operator has stated that its host hands out nothing any more (POST /api/v1/nodes/{id}/fence).
    fenced: bool,
    /// Seconds until the centre takes back what is held on it, if nothing is heard of it before; absent: never
    /// (`reclaim_after: never`, or the host does not count it), or it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    reclaim_in_secs: Option<u64>,
    /// It was away for longer than `reclaim_after`: what was held on it is or was taken back. Ends when it registers.
    reclaimed: bool,
    /// What is left until it is empty, while it is drained.
    #[serde(skip_serializing_if = "Option::is_none")]
    drain: Option<DrainView>,
    /// Another host has tried to be this OLT lately, and was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    other_host: Option<String>,
    /// Which clocks run further apart than leases allow for, as it said with its last heartbeat.
    #[serde(skip_serializing_if = "Option::is_none")]
    clocks_apart: Option<String>,
}

/// How far an OLT host is drained.
#[derive(Debug, Serialize, ToSchema)]
pub struct DrainView {
    /// Shards that it has yet to give back.
    shards: u64,
    /// Allocations that are held on it.
    allocations: u64,
    /// Whether it can be taken away, and deregistered.
    done: bool,
}

/// Shards of one pool that an OLT owns.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssignedShards {
    pool: String,
    shards: Vec<u32>,
}

impl From<NodeInfo> for NodeView {
    fn from(node: NodeInfo) -> Self {
        let shards = node
            .shards
            .into_iter()
            .map(|(pool, shards)| AssignedShards {
                pool: pool.to_string(),
                shards: shards.into_iter().map(|shard| shard.0).collect(),
            });
        Self {
            id: node.id.to_string(),
            name: node.name,
            region: node.region,
            address: node.address,
            capacity: node.capacity,
            assigned_shards: shards.collect(),
            state: node.state.as_str().to_owned(),
            last_heartbeat: node.last_heartbeat.map(|at| at.to_string()),
            active_subscribers: node.active_subscribers,
            allocations: node.allocations,
            config_revision: node.config_revision,
            running_revision: node.running_revision,
            metrics: node.metrics,
            fenced: node.fenced,
            reclaim_in_secs: node.reclaim_in.map(|left| left.as_secs()),
            reclaimed: node.reclaim != Reclaim::Kept,
            drain: node.drain.map(|left| DrainView {
                shards: left.shards,
                allocations: left.allocations,
                done: left.is_done(),
            }),
            other_host: node.other_host,
            clocks_apart: node.clocks_apart,
        }
    }
}

/// All OLTs.
#[derive(Debug, Serialize, ToSchema)]
pub struct NodeList {
    /// In the order of their ids.
    pub nodes: Vec<NodeView>,
}
