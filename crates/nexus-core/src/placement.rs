//! Which free shards of a pool go to which OLT, and which are asked back: a pure function of who is
//! there, how large they are and who holds what.
//!
//! - An OLT needs shards for 1.25 times its subscribers, and gets at most 1.25 times its fair share.
//! - What is held stays where it is, unless its holder leaves or another would starve.
//! - A free shard goes to the OLT that stands first for it on the ring; the lowest index wins ties.
//! - The cluster keeps the highest shard for allocations of its own, and leaves a reserve free, which
//!   only OLTs may draw on that hold nothing or are nearly full.

mod demand;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{OltId, ShardId};
use crate::pool::Pool;
use crate::ring::Ring;
use crate::shard::ShardState;
use demand::Demand;

/// An OLT as placement sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The OLT.
    pub id: OltId,
    /// Region that it stands in.
    pub region: String,
    /// Most subscribers that it serves.
    pub capacity: u32,
    /// Resources of this pool that it says are in use.
    pub in_use: u64,
    /// Whether it was heard of lately; others are given nothing.
    pub online: bool,
    /// Whether it is to lose all of its shards.
    pub draining: bool,
}

/// A shard that is not free, as placement sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Who holds it.
    pub owner: OltId,
    /// How.
    pub state: ShardState,
}

/// One step towards a better placement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    /// Give a free shard to an OLT, or to the cluster itself.
    Grant {
        /// The shard, free until now.
        shard: ShardId,
        /// New owner.
        to: OltId,
    },
    /// Ask the owner of a shard to use it up and to give it back.
    Drain {
        /// The shard, owned until now.
        shard: ShardId,
        /// Its owner.
        from: OltId,
    },
}

/// How many of the best OLTs of a shard are looked at before any other will do.
const RANKS: usize = 8;
/// How many free shards are compared; the lowest, so that a pool of 65536 costs no more than others.
const COMPARED: usize = 4096;

/// Whether and which shard the cluster keeps for itself: the highest, if there are at least two.
#[must_use]
pub fn cluster_shard(pool: &Pool) -> Option<ShardId> {
    let highest = pool.shard_count().checked_sub(1)?;
    (highest > 0).then_some(ShardId(highest))
}

/// How many shards of a pool stay free for emergencies: 5% rounded up, none below four shards.
#[must_use]
pub fn reserve(pool: &Pool) -> u32 {
    if pool.shard_count() < 4 {
        0
    } else {
        pool.shard_count().div_ceil(20)
    }
}

/// Whether a pool may be placed on OLTs of `region`.
#[must_use]
pub fn serves_region(pool: &Pool, region: &str) -> bool {
    pool.region().is_none_or(|of_pool| of_pool == region)
}

/// Says what to do next for one pool. `held` has every shard that is not free.
///
/// Doing it and asking again gives nothing more to do, unless something else has changed.
#[must_use]
pub fn place(pool: &Pool, members: &[Member], held: &BTreeMap<ShardId, Held>) -> Vec<Move> {
    let mut moves = Vec::new();
    let kept = cluster_shard(pool);
    if let Some(shard) = kept.filter(|shard| !held.contains_key(shard)) {
        moves.push(Move::Grant {
            shard,
            to: OltId::cluster(),
        });
    }
    let eligible: Vec<&Member> = members
        .iter()
        .filter(|m| !m.draining && serves_region(pool, &m.region))
        .collect();
    let leaving = leaving(held, members, &eligible);
    let draining = held
        .values()
        .filter(|h| h.state == ShardState::Draining)
        .count()
        + leaving.len();
    moves.extend(leaving);

    let mut demand = Demand::new(pool, &eligible, held);
    if demand.anybody_short() {
        let is_free = |shard: &ShardId| Some(*shard) != kept && !held.contains_key(shard);
        let mut free = pool.shards().filter(is_free).collect();
        grant(pool, &eligible, &mut demand, &mut free, &mut moves);
    }
    moves.extend(demand.relief(draining, held));
    moves
}

/// Shards whose owner is draining or stands in another region than the pool.
fn leaving(held: &BTreeMap<ShardId, Held>, members: &[Member], eligible: &[&Member]) -> Vec<Move> {
    if eligible.len() == members.len() {
        return Vec::new();
    }
    let known: BTreeSet<&OltId> = members.iter().map(|m| &m.id).collect();
    let stays: BTreeSet<&OltId> = eligible.iter().map(|m| &m.id).collect();
    held.iter()
        .filter(|(_, h)| h.state == ShardState::Owned)
        .filter(|(_, h)| known.contains(&h.owner) && !stays.contains(&h.owner))
        .map(|(shard, h)| Move::Drain {
            shard: *shard,
            from: h.owner.clone(),
        })
        .collect()
}

fn grant(
    pool: &Pool,
    eligible: &[&Member],
    demand: &mut Demand<'_>,
    free: &mut BTreeSet<ShardId>,
    moves: &mut Vec<Move>,
) {
    let reserve = usize::try_from(reserve(pool)).unwrap_or(usize::MAX);
    if demand.next_short(free.len() > reserve).is_none() || free.is_empty() {
        return;
    }
    let ring = Ring::new(
        pool.spec().sharding_factor,
        eligible.iter().map(|member| (&member.id, member.capacity)),
    );
    let mut wishes = wishes(pool, &ring, free);
    while let Some(olt) = demand.next_short(free.len() > reserve).cloned() {
        let Some(shard) = best(pool, wishes.get_mut(&olt), free) else {
            break;
        };
        free.remove(&shard);
        demand.granted(&olt, pool.allocatable_units(shard));
        moves.push(Move::Grant { shard, to: olt });
    }
}

/// For each OLT the free shards that it stands near on the ring, best last.
fn wishes(pool: &Pool, ring: &Ring, free: &BTreeSet<ShardId>) -> BTreeMap<OltId, Vec<ShardId>> {
    let mut ranked: BTreeMap<&OltId, Vec<(usize, ShardId)>> = BTreeMap::new();
    let usable = free
        .iter()
        .filter(|shard| pool.allocatable_units(**shard) > 0);
    for shard in usable.take(COMPARED) {
        for (rank, olt) in ring.candidates(pool.id(), *shard).take(RANKS).enumerate() {
            ranked.entry(olt).or_default().push((rank, *shard));
        }
    }
    ranked
        .into_iter()
        .map(|(olt, mut shards)| {
            shards.sort_unstable_by(|a, b| b.cmp(a));
            (
                olt.clone(),
                shards.into_iter().map(|(_, shard)| shard).collect(),
            )
        })
        .collect()
}

fn best(
    pool: &Pool,
    wishes: Option<&mut Vec<ShardId>>,
    free: &BTreeSet<ShardId>,
) -> Option<ShardId> {
    if let Some(wishes) = wishes {
        while let Some(shard) = wishes.pop() {
            if free.contains(&shard) {
                return Some(shard);
            }
        }
    }
    free.iter()
        .find(|shard| pool.allocatable_units(**shard) > 0)
        .copied()
}
