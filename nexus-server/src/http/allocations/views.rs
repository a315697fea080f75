//! The JSON of allocations, in the customer's names.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::allocation::Allocation;

/// One resource bound to one subscriber.
#[derive(Debug, Serialize, ToSchema)]
pub struct AllocationView {
    pool_id: String,
    subscriber_id: String,
    /// An address, a prefix or a number.
    #[schema(example = "100.64.1.50")]
    resource: String,
    /// OLT that the subscriber is on; `nexus` if none was named.
    olt_id: String,
    /// When the allocation was made, RFC 3339, UTC.
    timestamp: String,
    metadata: BTreeMap<String, String>,
    /// ipv4, ipv6, vlan, svlan or port.
    #[serde(rename = "type")]
    kind: String,
    /// Shard of the pool that the resource lies in.
    shard: u32,
    /// Epoch of the shard under which it was allocated.
    epoch: u64,
    /// Number of the OLT's command; 0 if the centre chose the resource.
    seq: u64,
    /// active, releasing (the OLT was asked to release it) or released (it cools down).
    state: String,
    vrf: String,
}

impl From<&Allocation> for AllocationView {
    fn from(allocation: &Allocation) -> Self {
        Self {
            pool_id: allocation.pool.to_string(),
            subscriber_id: allocation.subscriber.to_string(),
            resource: allocation.place.resource.to_string(),
            olt_id: allocation.olt.to_string(),
            timestamp: allocation.made_at.to_string(),
            metadata: allocation.metadata.clone(),
            kind: allocation.place.resource.kind().to_string(),
            shard: allocation.shard.0,
            epoch: allocation.epoch.0,
            seq: allocation.command().0,
            state: allocation.state.as_str().to_owned(),
            vrf: allocation.place.vrf.clone(),
        }
    }
}

/// The JSON of several allocations.
#[must_use]
pub fn allocations(all: &[Arc<Allocation>]) -> Vec<AllocationView> {
    all.iter()
        .map(|allocation| AllocationView::from(allocation.as_ref()))
        .collect()
}

/// Asks the centre for a resource.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AllocateRequest {
    /// Pool to take it from.
    pub pool_id: String,
    /// Who gets it.
    pub subscriber_id: String,
    /// OLT that the subscriber is on.
    #[serde(default)]
    pub olt_id: Option<String>,
    /// Labels.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// What the subscriber has.
#[derive(Debug, Serialize, ToSchema)]
pub struct AllocateResponse {
    /// The allocation.
    pub allocation: AllocationView,
}

/// What has been or will be released.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeallocateResponse {
    /// The first of them.
    pub allocation: Option<AllocationView>,
    /// All of them, in the order of their pools.
    pub allocations: Vec<AllocationView>,
}

/// All that a subscriber holds.
#[derive(Debug, Serialize, ToSchema)]
pub struct SubscriberView {
    /// Who.
    pub subscriber_id: String,
    /// What, in the order of the pools.
    pub allocations: Vec<AllocationView>,
}

/// A page of allocations.
#[derive(Debug, Serialize, ToSchema)]
pub struct AllocationPage {
    /// In the order of vrf, type and resource.
    pub allocations: Vec<AllocationView>,
    /// `cursor` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}
