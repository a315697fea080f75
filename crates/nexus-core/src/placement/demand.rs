//! How much each OLT holds of one pool, how much it needs and how much it may have.

use std::collections::BTreeMap;

use super::{Held, Member, Move, cluster_shard, reserve};
use crate::id::{OltId, ShardId};
use crate::pool::Pool;
use crate::shard::ShardState;

struct Account {
    online: bool,
    /// Shards it holds and may allocate from.
    shards: u64,
    /// Resources in them that may be handed out.
    units: u64,
    /// Resources it should have.
    need: u64,
    in_use: u64,
    /// Its fair share of shards, rounded down.
    fair: u64,
    /// Shards it may have at most.
    bound: u64,
}

impl Account {
    /// Holds nothing, or is at least nine tenths full: may draw on the reserve.
    fn is_urgent(&self) -> bool {
        self.shards == 0 || self.is_urgent_without(0)
    }

    fn is_urgent_without(&self, units: u64) -> bool {
        let left = self.units.saturating_sub(units);
        self.in_use.saturating_mul(10) >= left.saturating_mul(9)
    }

    fn is_short(&self) -> bool {
        self.online && self.units < self.need && (self.shards < self.bound || self.is_urgent())
    }
}

pub(super) struct Demand<'a> {
    pool: &'a Pool,
    accounts: BTreeMap<&'a OltId, Account>,
}

impl<'a> Demand<'a> {
    pub fn new(pool: &'a Pool, members: &[&'a Member], held: &BTreeMap<ShardId, Held>) -> Self {
        let kept = u32::from(cluster_shard(pool).is_some()).saturating_add(reserve(pool));
        let to_share = u64::from(pool.shard_count().saturating_sub(kept));
        let total: u64 = members.iter().map(|m| weight(m)).sum();
        let share = |member: &Member| {
            let scaled = to_share.saturating_mul(weight(member));
            let fair = scaled.checked_div(total).unwrap_or(0);
            let bound = scaled
                .saturating_mul(5)
                .div_ceil(total.saturating_mul(4).max(1));
            (fair, bound.max(1))
        };
        let mut accounts: BTreeMap<_, _> = members
            .iter()
            .map(|member| {
                let (fair, bound) = share(member);
                let account = Account {
                    online: member.online,
                    shards: 0,
                    units: 0,
                    need: need(member),
                    in_use: member.in_use,
                    fair,
                    bound,
                };
                (&member.id, account)
            })
            .collect();
        for (shard, held) in held.iter().filter(|(_, h)| h.state == ShardState::Owned) {
            if let Some(account) = accounts.get_mut(&held.owner) {
                account.shards = account.shards.saturating_add(1);
                account.units = account.units.saturating_add(pool.allocatable_units(*shard));
            }
        }
        Self { pool, accounts }
    }

    pub fn anybody_short(&self) -> bool {
        self.accounts.values().any(Account::is_short)
    }

    /// Who should get the next free shard: those who hold nothing first, then who has the smallest
    /// part of what it needs. Without `plenty` only those who may draw on the reserve.
    pub fn next_short(&self, plenty: bool) -> Option<&'a OltId> {
        self.accounts
            .iter()
            .filter(|(_, a)| a.is_short() && (plenty || a.is_urgent()))
            .min_by(|(_, a), (_, b)| {
                // a.units / a.need < b.units / b.need, without dividing.
                let of_a = u128::from(a.units).saturating_mul(u128::from(b.need));
                let of_b = u128::from(b.units).saturating_mul(u128::from(a.need));
                (a.shards > 0).cmp(&(b.shards > 0)).then(of_a.cmp(&of_b))
            })
            .map(|(olt, _)| *olt)
    }

    pub fn granted(&mut self, olt: &OltId, units: u64) {
        if let Some(account) = self.accounts.get_mut(olt) {
            account.shards = account.shards.saturating_add(1);
            account.units = account.units.saturating_add(units);
        }
    }

    /// Shards to ask back for OLTs that are still short of their fair share, `coming` of which are
    /// on their way back already. The largest holder gives first, and its highest shard.
    pub fn relief(&mut self, coming: usize, held: &BTreeMap<ShardId, Held>) -> Vec<Move> {
        let missing = |a: &Account| a.fair.max(1).saturating_sub(a.shards);
        let short = || self.accounts.values().filter(|a| a.is_short());
        let coming = u64::try_from(coming).unwrap_or(u64::MAX);
        let mut starving =
            u64::try_from(short().filter(|a| a.shards == 0).count()).unwrap_or(u64::MAX);
        let mut wanted = short().map(missing).sum::<u64>().saturating_sub(coming);
        starving = starving.saturating_sub(coming);
        let shard_units = self.pool.units(ShardId(0));
        let mut moves = Vec::new();
        if wanted == 0 {
            return moves;
        }
        let mut owned: BTreeMap<&OltId, Vec<ShardId>> = BTreeMap::new();
        for (shard, held) in held.iter().filter(|(_, h)| h.state == ShardState::Owned) {
            owned.entry(&held.owner).or_default().push(*shard);
        }
        while wanted > 0 {
            let donor = self
                .accounts
                .iter_mut()
                .filter(|(olt, _)| owned.get(*olt).is_some_and(|shards| !shards.is_empty()))
                .filter(|(_, a)| {
                    // An OLT that holds nothing is helped by anybody who has others left. One that
                    // merely holds little is not helped by one that would need help itself then.
                    if starving > 0 {
                        a.shards > 1
                    } else {
                        a.shards > a.bound && !a.is_urgent_without(shard_units)
                    }
                })
                .max_by_key(|(_, a)| (a.shards.saturating_sub(a.bound), a.shards));
            let Some((olt, account)) = donor else {
                break;
            };
            let Some(shard) = owned.get_mut(*olt).and_then(Vec::pop) else {
                break;
            };
            account.shards = account.shards.saturating_sub(1);
            account.units = account
                .units
                .saturating_sub(self.pool.allocatable_units(shard));
            moves.push(Move::Drain {
                shard,
                from: (*olt).clone(),
            });
            wanted = wanted.saturating_sub(1);
            starving = starving.saturating_sub(1);
        }
        moves
    }
}

fn weight(member: &Member) -> u64 {
    u64::from(member.capacity.max(1))
}

/// Resources for all subscribers and a quarter more.
fn need(member: &Member) -> u64 {
    u64::from(member.capacity)
        .max(member.in_use)
        .saturating_mul(5)
        .div_ceil(4)
        .max(1)
}
