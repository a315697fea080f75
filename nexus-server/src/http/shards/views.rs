//! The JSON of shards and of plans.

use nexus_core::id::PoolId;
use nexus_core::pool::PoolSpec;
use nexus_core::shard_table::Balance;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::cursor;
use crate::centre::{PoolPlan, ShardInfo, ShardPage, ShardPlan};
use crate::http::pools::PoolDocument;

/// Most shards that a plan names for each pool and kind of step; the counts count all.
const MAX_NAMED: usize = 10_000;

/// A shard of a pool.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShardView {
    pool_id: String,
    shard: u32,
    /// What it covers.
    #[schema(example = "100.64.0.0/18")]
    range: String,
    /// free, owned, draining (its owner gives it back once it is empty) or frozen (its owner is gone, but may
    /// still have the right to it).
    state: String,
    /// How often it changed its owner.
    epoch: u64,
    /// Its owner; `nexus`: the cluster keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    olt_id: Option<String>,
    /// Units that may be handed out.
    total: u64,
    /// Units that a subscriber holds.
    allocated: u64,
    /// Of these, units that an OLT was asked to release.
    releasing: u64,
    /// Units that cool down after a release.
    cooling: u64,
}

impl From<ShardInfo> for ShardView {
    fn from(shard: ShardInfo) -> Self {
        Self {
            pool_id: shard.pool.to_string(),
            shard: shard.shard.0,
            range: shard.range,
            state: shard.state.as_str().to_owned(),
            epoch: shard.epoch.0,
            olt_id: shard.owner.map(|olt| olt.to_string()),
            total: shard.total,
            allocated: shard.allocated,
            releasing: shard.releasing,
            cooling: shard.cooling,
        }
    }
}

/// A page of shards.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShardList {
    /// In the order of pool and index.
    shards: Vec<ShardView>,
    /// `cursor` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

impl From<ShardPage> for ShardList {
    fn from(page: ShardPage) -> Self {
        Self {
            shards: page.shards.into_iter().map(ShardView::from).collect(),
            next_cursor: page.next.map(cursor),
        }
    }
}

/// Changes to plan, made in the order leave, join, pool.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// OLT hosts that come, or that get another capacity or region.
    #[serde(default)]
    pub join: Vec<PlannedJoin>,
    /// OLT hosts that are drained.
    #[serde(default)]
    #[schema(example = json!(["olt-east-01"]))]
    pub leave: Vec<String>,
    /// A new pool, or another specification of one that is there.
    #[serde(default)]
    #[schema(value_type = Option<PoolDocument>)]
    pub pool: Option<PoolSpec>,
}

/// An OLT host that comes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlannedJoin {
    /// Its name.
    #[schema(example = "olt-east-02")]
    pub id: String,
    /// Region label.
    #[serde(default)]
    pub region: String,
    /// Most subscribers that it serves.
    #[schema(example = 2000)]
    pub capacity: u32,
}

/// What would move.
#[derive(Debug, Serialize, ToSchema)]
pub struct PlanView {
    /// Pools of which something moves, or that come or go.
    pools: Vec<PoolPlanView>,
    /// Shards that would have another owner, in all pools.
    moved_shards: u64,
    /// Allocations that are held in shards that their owner would be asked for. They stay with their
    /// subscribers: such a shard moves when the last of them ends.
    affected_allocations: u64,
    /// Whether that is all; if not, more would move.
    complete: bool,
}

/// What would move in one pool.
#[derive(Debug, Serialize, ToSchema)]
pub struct PoolPlanView {
    pool_id: String,
    /// Shards that would be given to somebody; the first 10000.
    grants: Vec<GrantView>,
    /// Shards that their owner would be asked for; the first 10000.
    drains: Vec<DrainView>,
    /// Shards that would have another owner, or an owner for the first time.
    moved_shards: u64,
    affected_allocations: u64,
    balance: BalanceChange,
}

/// A shard that somebody would get.
#[derive(Debug, Serialize, ToSchema)]
pub struct GrantView {
    shard: u32,
    to: String,
}

/// A shard that somebody would be asked for.
#[derive(Debug, Serialize, ToSchema)]
pub struct DrainView {
    shard: u32,
    from: String,
    /// Allocations that are held in it now.
    allocations: u64,
}

/// How even a pool lies before and after.
#[derive(Debug, Serialize, ToSchema)]
pub struct BalanceChange {
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<BalanceView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<BalanceView>,
}

/// How even a pool lies: 1 is exactly the share that an OLT has by its capacity.
#[derive(Debug, Serialize, ToSchema)]
pub struct BalanceView {
    /// OLT hosts that may have shards of the pool.
    olts: u64,
    /// Shards that they have.
    shards: u64,
    /// Of the OLT with the smallest part of its share.
    least: f64,
    /// Of the OLT with the greatest part of its share.
    most: f64,
}

impl From<Balance> for BalanceView {
    fn from(balance: Balance) -> Self {
        Self {
            olts: balance.olts,
            shards: balance.shards,
            least: balance.least as f64 / 1000.0,
            most: balance.most as f64 / 1000.0,
        }
    }
}

impl From<ShardPlan> for PlanView {
    fn from(plan: ShardPlan) -> Self {
        let pools: Vec<PoolPlanView> = plan
            .pools
            .into_iter()
            .filter(|(_, pool)| !pool.moves.is_empty() || pool.balance.0 != pool.balance.1)
            .map(PoolPlanView::from)
            .collect();
        Self {
            moved_shards: pools.iter().map(|pool| pool.moved_shards).sum(),
            affected_allocations: pools.iter().map(|pool| pool.affected_allocations).sum(),
            pools,
            complete: plan.complete,
        }
    }
}

impl From<(PoolId, PoolPlan)> for PoolPlanView {
    fn from((pool, plan): (PoolId, PoolPlan)) -> Self {
        let grants = plan.moves.iter().filter_map(|(step, _)| {
            Some(GrantView {
                shard: step.key.shard.0,
                to: step.to.as_ref()?.to_string(),
            })
        });
        let drains = plan.moves.iter().filter_map(|(step, allocations)| {
            Some(DrainView {
                shard: step.key.shard.0,
                from: step.from.as_ref()?.to_string(),
                allocations: *allocations,
            })
        });
        let (before, after) = plan.balance;
        Self {
            pool_id: pool.to_string(),
            grants: grants.take(MAX_NAMED).collect(),
            drains: drains.take(MAX_NAMED).collect(),
            moved_shards: u64::try_from(plan.moves.len()).unwrap_or(u64::MAX),
            affected_allocations: plan.moves.iter().map(|(_, held)| held).sum(),
            balance: BalanceChange {
                before: before.map(BalanceView::from),
                after: after.map(BalanceView::from),
            },
        }
    }
}
