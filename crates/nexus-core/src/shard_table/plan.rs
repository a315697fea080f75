//! What changes would move, found out on a copy of the table.

use std::collections::{BTreeMap, BTreeSet};

use super::command::{Command, MoveReason, Register};
use super::refusal::Refusal;
use super::{ShardTable, Touched};
use crate::id::{OltId, PoolId, Seq, SessionId};
use crate::placement;
use crate::pool::PoolSpec;
use crate::shard::{ShardKey, ShardState};

/// How often shards that are asked back may come back and be given out again before a plan is cut short.
const MAX_ROUNDS: usize = 64;

/// A change that an operator thinks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlannedChange {
    /// An OLT comes, or one that is there has another capacity or region.
    Join {
        /// The OLT.
        olt: OltId,
        /// Region that it stands in.
        region: String,
        /// Most subscribers that it serves.
        capacity: u32,
    },
    /// An OLT is drained and goes.
    Leave {
        /// The OLT.
        olt: OltId,
    },
    /// A new pool.
    AddPool {
        /// The pool.
        spec: Box<PoolSpec>,
    },
    /// Another specification of a pool.
    UpdatePool {
        /// The pool.
        spec: Box<PoolSpec>,
    },
    /// A pool is removed.
    RemovePool {
        /// The pool.
        pool: PoolId,
    },
}

/// A shard that would have another owner in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedMove {
    /// Which shard.
    pub key: ShardKey,
    /// Its owner without the change; `None`: it is free.
    pub from: Option<OltId>,
    /// Its owner with the change; `None`: it is free, or its pool is gone.
    pub to: Option<OltId>,
}

/// How evenly the shards of a pool lie on the OLTs that may have some, in thousandths of the share that
/// each of them has by its capacity. An OLT that needs less than its share has less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// OLTs that may have shards of the pool.
    pub olts: u64,
    /// Shards that they have.
    pub shards: u64,
    /// What the OLT with the smallest part of its share has.
    pub least: u64,
    /// What the OLT with the greatest part of its share has.
    pub most: u64,
}

/// What changes would move.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Every shard that would have another owner, in order.
    pub moves: Vec<PlannedMove>,
    /// Each pool before and after the change; only pools that are there at that time.
    pub balance: BTreeMap<PoolId, (Option<Balance>, Option<Balance>)>,
    /// Whether the table comes to rest; if not, more would move.
    pub complete: bool,
}

impl ShardTable {
    /// What `changes`, made one after another, would move beyond what moves anyway, once all OLTs that are
    /// online have given back what they are asked for. Shards of OLTs that are offline stay where they are.
    /// Changes nothing.
    ///
    /// # Errors
    /// Why one of the changes would be refused.
    pub fn plan(&self, changes: impl IntoIterator<Item = PlannedChange>) -> Result<Plan, Refusal> {
        let mut without = self.clone();
        let at_rest = without.come_to_rest();
        let mut with = without.clone();
        for change in changes {
            let command = with.command_of(change)?;
            let _ = with.apply(self.now, command)?;
        }
        let complete = with.come_to_rest() && at_rest;
        let (before, after) = (without.owners(), with.owners());
        let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let moves = keys.into_iter().filter_map(|key| {
            let (from, to) = (before.get(key), after.get(key));
            (from != to).then(|| PlannedMove {
                key: key.clone(),
                from: from.cloned(),
                to: to.cloned(),
            })
        });
        let pools: BTreeSet<_> = without.pools.keys().chain(with.pools.keys()).collect();
        let both = |pool: &PoolId| (without.balance(pool), with.balance(pool));
        Ok(Plan {
            moves: moves.collect(),
            balance: pools
                .into_iter()
                .map(|pool| (pool.clone(), both(pool)))
                .collect(),
            complete,
        })
    }

    /// How evenly a pool lies on its OLTs; `None` if there is no such pool.
    #[must_use]
    pub fn balance(&self, pool: &PoolId) -> Option<Balance> {
        let entry = self.pools.get(pool)?;
        let members = self.members(pool);
        let mut shares: BTreeMap<&OltId, (u64, u64)> = members
            .iter()
            .filter(|member| placement::may_have(&entry.pool, member))
            .map(|member| (&member.id, (u64::from(member.capacity.max(1)), 0)))
            .collect();
        let mut shards = 0_u64;
        for owner in entry.shards.values().filter_map(|row| row.owner.as_ref()) {
            if let Some((_, has)) = shares.get_mut(&owner.olt) {
                *has = has.saturating_add(1);
                shards = shards.saturating_add(1);
            }
        }
        let weights: u64 = shares.values().map(|(weight, _)| weight).sum();
        let part = |(weight, has): &(u64, u64)| {
            let whole = u128::from(shards).saturating_mul(u128::from(*weight));
            let here = u128::from(*has)
                .saturating_mul(u128::from(weights))
                .saturating_mul(1000);
            u64::try_from(here.checked_div(whole).unwrap_or(0)).unwrap_or(u64::MAX)
        };
        Some(Balance {
            olts: u64::try_from(shares.len()).unwrap_or(u64::MAX),
            shards,
            least: shares.values().map(part).min().unwrap_or(0),
            most: shares.values().map(part).max().unwrap_or(0),
        })
    }

    fn command_of(&self, change: PlannedChange) -> Result<Command, Refusal> {
        Ok(match change {
            PlannedChange::Join {
                olt,
                region,
                capacity,
            } => self.registration(olt, region, capacity)?,
            PlannedChange::Leave { olt } => Command::Drain { olt },
            PlannedChange::AddPool { spec } => Command::AddPool { spec },
            PlannedChange::UpdatePool { spec } => Command::UpdatePool { spec },
            PlannedChange::RemovePool { pool } => Command::RemovePool { pool },
        })
    }

    fn registration(&self, olt: OltId, region: String, capacity: u32) -> Result<Command, Refusal> {
        let row = self.olts.get(&olt).map(|entry| &entry.row);
        let session = match row {
            Some(row) => row.session.clone(),
            None => SessionId::new("planned").map_err(|_| Refusal::ReservedId(olt.clone()))?,
        };
        let last_seq = row.map_or(Seq(0), |row| row.last_seq);
        Ok(Command::Register(Register {
            name: row.map_or_else(String::new, |row| row.name.clone()),
            address: row.map_or_else(String::new, |row| row.address.clone()),
            olt,
            region,
            capacity,
            session,
            last_seq,
            recorded_seq: last_seq,
            acked_below: Seq(0),
            keeping: None,
        }))
    }

    /// Lets everybody who is online give back what it is asked for, until nothing moves any more.
    fn come_to_rest(&mut self) -> bool {
        for _ in 0..MAX_ROUNDS {
            let mut t = Touched::default();
            for key in self.draining() {
                self.free(&mut t, &key, MoveReason::GivenBack);
            }
            self.unsettle();
            let steps = self.steps();
            let moved = !steps.is_empty() || !t.moves.is_empty();
            for step in steps {
                self.carry_out_one(&mut t, step);
            }
            self.finish_removals(&mut t);
            if !moved && self.draining().is_empty() {
                return true;
            }
        }
        false
    }

    /// Shards that an OLT which is online is asked to give back. Those of the cluster go with their pool.
    fn draining(&self) -> Vec<ShardKey> {
        let given_back = |olt: &OltId| self.olts.get(olt).is_some_and(|entry| entry.online);
        self.pools
            .values()
            .flat_map(|entry| entry.shards.values())
            .filter(|row| row.state == ShardState::Draining)
            .filter(|row| row.owner.as_ref().is_some_and(|o| given_back(&o.olt)))
            .map(|row| row.key.clone())
            .collect()
    }

    fn owners(&self) -> BTreeMap<ShardKey, OltId> {
        self.pools
            .values()
            .flat_map(|entry| entry.shards.values())
            .filter_map(|row| Some((row.key.clone(), row.owner.as_ref()?.olt.clone())))
            .collect()
    }
}
