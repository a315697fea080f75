//! The JSON of pools: how full they are, and what a change would do.

use std::collections::BTreeMap;

use nexus_core::pool::{Change, PoolSpec};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::centre::{PoolChange, PoolStats, ShardPlan};
use crate::http::problem::HeldView;
use crate::http::shards::PlanView;

/// How a pool is changed.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct UpdateQuery {
    /// Say what the change would do, and do nothing.
    pub dry_run: bool,
    /// Have what subscribers hold of the resources that go asked back, and hand out nothing of them meanwhile.
    pub drain: bool,
}

/// How a pool is removed.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct DeleteQuery {
    /// Say what the removal would do, and do nothing.
    pub dry_run: bool,
    /// Have everything that subscribers hold of the pool asked back first.
    pub force: bool,
}

/// A pool, and how much of what goes is still held.
#[derive(Debug, Serialize)]
pub struct PoolView {
    #[serde(flatten)]
    pub spec: PoolSpec,
    #[serde(skip_serializing_if = "is_zero")]
    pub draining: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How full a pool is, in units (addresses, delegated prefixes, VLANs, blocks of ports) and shards.
#[derive(Debug, Serialize, ToSchema)]
pub struct StatsView {
    pool_id: String,
    #[serde(rename = "type")]
    kind: String,
    /// Units that may be handed out at all.
    total: u64,
    /// Units that a subscriber holds.
    allocated: u64,
    /// Of these, units that an OLT was asked to release.
    releasing: u64,
    /// Of these, units that go: an OLT was asked to release them, or to give back their shard.
    draining: u64,
    /// Units that cool down after a release.
    cooling: u64,
    /// Units that are neither held nor cooling.
    available: u64,
    /// Units that are never handed out: excluded, reserved, network and router.
    reserved: u64,
    /// allocated / total.
    utilization_ratio: f64,
    shards: u64,
    /// Shards that belong to OLTs.
    shards_owned: u64,
    /// Shards that the cluster keeps for allocations of its own.
    shards_kept: u64,
    shards_free: u64,
    /// How full the shards of each OLT are; `nexus` are those of the cluster. Of each shard:
    /// `GET /api/v1/shards?pool=ID`.
    olts: BTreeMap<String, OltFillView>,
}

/// How full the shards of an OLT are.
#[derive(Debug, Serialize, ToSchema)]
pub struct OltFillView {
    shards: u64,
    /// Units in them that may be handed out.
    total: u64,
    /// Units in them that a subscriber holds.
    allocated: u64,
    /// allocated / total.
    utilization_ratio: f64,
}

fn ratio(part: u64, total: u64) -> f64 {
    if total == 0 {
        0.0
    } else {
        part as f64 / total as f64
    }
}

impl From<PoolStats> for StatsView {
    fn from(stats: PoolStats) -> Self {
        let olts = stats.olts.into_iter().map(|(olt, fill)| {
            let view = OltFillView {
                shards: fill.shards,
                total: fill.total,
                allocated: fill.allocated,
                utilization_ratio: ratio(fill.allocated, fill.total),
            };
            (olt.to_string(), view)
        });
        Self {
            pool_id: stats.pool.to_string(),
            kind: stats.kind.to_string(),
            total: stats.total,
            allocated: stats.allocated,
            releasing: stats.releasing,
            draining: stats.draining,
            cooling: stats.cooling,
            available: stats.available,
            reserved: stats.reserved,
            utilization_ratio: ratio(stats.allocated, stats.total),
            shards: stats.shards,
            shards_owned: stats.shards_owned,
            shards_kept: stats.shards_kept,
            shards_free: stats.shards_free,
            olts: olts.collect(),
        }
    }
}

/// A pool that is going.
#[derive(Debug, Serialize, ToSchema)]
pub struct PoolRemoval {
    /// The pool.
    pub pool_id: String,
    /// It goes as soon as the OLTs have given back its shards.
    pub removing: bool,
}

/// What a change of a pool would do.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangeView {
    pool_id: String,
    /// same, grown, shrunk or removed.
    change: String,
    shards_before: u32,
    shards_after: u32,
    /// Allocations that are held of what the change takes away.
    affected_allocations: u64,
    /// The first 100 of them.
    allocations: Vec<HeldView>,
    /// Shards that would change hands.
    plan: PlanView,
}

impl ChangeView {
    /// What a change would do.
    pub fn new(pool: String, change: &PoolChange, plan: ShardPlan) -> Self {
        let word = match change.change {
            None => "removed",
            Some(Change::Same) => "same",
            Some(Change::Grown { .. }) => "grown",
            Some(Change::Shrunk { .. }) => "shrunk",
        };
        let (shards_before, shards_after) = change.shards;
        Self {
            pool_id: pool,
            change: word.to_owned(),
            shards_before,
            shards_after,
            affected_allocations: change.affected.count(),
            allocations: change.affected.first.iter().map(HeldView::from).collect(),
            plan: plan.into(),
        }
    }
}
