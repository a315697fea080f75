//! Shards as people see them: who owns which, how full it is, and what a change would move.

use std::collections::BTreeMap;

use nexus_core::id::{Epoch, OltId, PoolId, ShardId};
use nexus_core::shard::ShardState;
use nexus_core::shard_table::{Balance, Plan, PlannedMove, ShardTable};

use super::Centre;
use crate::refused::Refused;

/// Most shards of one page of a list.
pub const MAX_SHARDS: usize = 1000;

/// A shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardInfo {
    /// Pool that it is a part of.
    pub pool: PoolId,
    /// Index in the pool.
    pub shard: ShardId,
    /// What it covers: `100.64.0.0/18`, `100-199`.
    pub range: String,
    /// Its state.
    pub state: ShardState,
    /// How often it changed its owner.
    pub epoch: Epoch,
    /// Who owns it; [`OltId::cluster`] for the cluster itself.
    pub owner: Option<OltId>,
    /// Units that may be handed out.
    pub total: u64,
    /// Units that a subscriber holds.
    pub allocated: u64,
    /// Of these, units that an OLT was asked to release.
    pub releasing: u64,
    /// Units that cool down after a release.
    pub cooling: u64,
}

/// Which shards a list shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardFilter {
    /// Of this pool.
    pub pool: Option<PoolId>,
    /// Of this owner.
    pub olt: Option<OltId>,
    /// In this state.
    pub state: Option<ShardState>,
    /// From behind this one on.
    pub after: Option<(PoolId, ShardId)>,
    /// At most so many, at most [`MAX_SHARDS`].
    pub limit: usize,
}

/// A part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardPage {
    /// In the order of pool and index.
    pub shards: Vec<ShardInfo>,
    /// Where the next page goes on; `None`: this was the last.
    pub next: Option<(PoolId, ShardId)>,
}

/// What a change would do to one pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolPlan {
    /// Shards that would change hands, with the allocations that are held in them now.
    pub moves: Vec<(PlannedMove, u64)>,
    /// How even the pool lies before and after; `None` where it is not there.
    pub balance: (Option<Balance>, Option<Balance>),
}

/// What a change would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardPlan {
    /// Every pool that is there before or after.
    pub pools: BTreeMap<PoolId, PoolPlan>,
    /// Whether that is all; if not, more would move.
    pub complete: bool,
}

impl Centre {
    /// A page of the shards that a filter shows, those that nobody ever had included.
    ///
    /// # Errors
    /// [`Refused::UnknownPool`].
    pub fn shards(&self, filter: &ShardFilter) -> Result<ShardPage, Refused> {
        if let Some(pool) = &filter.pool {
            self.pool(pool)?;
        }
        let limit = filter.limit.clamp(1, MAX_SHARDS);
        let table = self.table();
        let mut page = ShardPage::default();
        let pools = table
            .pools()
            .filter(|pool| filter.pool.as_ref().is_none_or(|id| pool.id() == id));
        for pool in pools {
            let first = match &filter.after {
                Some((id, _)) if id > pool.id() => continue,
                Some((id, shard)) if id == pool.id() => shard.0.saturating_add(1),
                Some(_) | None => 0,
            };
            let rows: BTreeMap<_, _> = table
                .shards(pool.id())
                .map(|row| (row.key.shard, row))
                .collect();
            for shard in (first..pool.shard_count()).map(ShardId) {
                let row = rows.get(&shard);
                let owner = row.and_then(|row| Some(row.owner.as_ref()?.olt.clone()));
                let state = row.map_or(ShardState::Free, |row| row.state);
                let shown = filter.state.is_none_or(|wanted| state == wanted)
                    && (filter.olt.is_none() || owner == filter.olt);
                if !shown {
                    continue;
                }
                if page.shards.len() >= limit {
                    page.next = page
                        .shards
                        .last()
                        .map(|last| (last.pool.clone(), last.shard));
                    return Ok(page);
                }
                let counts = self.record.shard_counts(pool.id(), shard);
                let range = pool.shard_range(shard);
                page.shards.push(ShardInfo {
                    pool: pool.id().clone(),
                    shard,
                    range: range.map_or_else(String::new, |range| range.to_string()),
                    state,
                    epoch: row.map_or(Epoch(0), |row| row.epoch),
                    owner,
                    total: pool.allocatable_units(shard),
                    allocated: counts.held(),
                    releasing: counts.releasing,
                    cooling: counts.released,
                });
            }
        }
        Ok(page)
    }

    /// A copy of the shard table, to plan on while this one goes on.
    #[must_use]
    pub fn table_copy(&self) -> ShardTable {
        self.table().clone()
    }

    /// A plan with the allocations that it touches.
    #[must_use]
    pub fn weigh(&self, plan: Plan) -> ShardPlan {
        let mut pools: BTreeMap<PoolId, PoolPlan> = plan
            .balance
            .into_iter()
            .map(|(pool, balance)| {
                let moves = Vec::new();
                (pool, PoolPlan { moves, balance })
            })
            .collect();
        for step in plan.moves {
            let held = match step.from {
                Some(_) => self
                    .record
                    .shard_counts(&step.key.pool, step.key.shard)
                    .held(),
                None => 0,
            };
            let pool = pools.entry(step.key.pool.clone()).or_default();
            pool.moves.push((step, held));
        }
        ShardPlan {
            pools,
            complete: plan.complete,
        }
    }
}
