//! Which free shards of a pool go to which OLT, and which are asked back: a pure function of who is
//! there, how large they are and who holds what.
//!
//! - An OLT needs shards for 1.25 times its subscribers, and gets at most 1.25 times its fair share; where
//!   there are too few for all, it gets at least 0.8 times that, as far as others have more than theirs.
//! - What is held stays where it is, unless its holder leaves or another would starve.
//! - With a high-water mark an OLT needs shards by what is in use on it, and gives back what it has too
//!   much, shards without any use first; between the marks nothing moves.
//! - A free shard goes to the OLT that stands first for it on the ring; the lowest index wins ties.
//! - The cluster keeps the highest shard for allocations of its own, and leaves a reserve free, which
//!   only OLTs may draw on that hold nothing or are nearly full. Of a pinned pool it keeps all. When the pool has
//!   grown, it gives back the one that it kept before.

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
    /// Whether its owner says that nothing in it is in use.
    pub idle: bool,
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

/// Whether an OLT may have shards of a pool at all.
#[must_use]
pub fn may_have(pool: &Pool, member: &Member) -> bool {
    !member.draining && serves_region(pool, &member.region)
}

/// Says what to do next for one pool. `held` has every shard that is not free.
///
/// Doing it and asking again gives nothing more to do, unless something else has changed.
#[must_use]
pub fn place(pool: &Pool, members: &[Member], held: &BTreeMap<ShardId, Held>) -> Vec<Move> {
    if pool.is_pinned() {
        return pinned(pool, members, held);
    }
    let mut moves = Vec::new();
    let kept = cluster_shard(pool);
    if let Some(shard) = kept.filter(|shard| !held.contains_key(shard)) {
        moves.push(Move::Grant {
            shard,
            to: OltId::cluster(),
        });
    }
    moves.extend(outgrown(kept, held));
    let eligible: Vec<&Member> = members
        .iter()
        .filter(|member| may_have(pool, member))
        .collect();
    let leaving = leaving(held, members, &eligible);
    let coming = coming(held, members).saturating_add(count(leaving.len()));
    moves.extend(leaving);

    let mut demand = Demand::new(pool, &eligible, held);
    grant(pool, &eligible, &mut demand, held, &mut moves);
    let shard_units = pool.units(ShardId(0));
    let mut asked = demand.relief(shard_units, coming, held);
    let surplus = demand.surplus(shard_units, held, &asked);
    asked.extend(surplus);
    for (place, shard) in asked {
        if let Some(from) = demand.olt(place).cloned() {
            moves.push(Move::Drain { shard, from });
        }
    }
    moves
}

/// All shards of a pinned pool are the cluster's; an OLT that has one from before gives it back.
fn pinned(pool: &Pool, members: &[Member], held: &BTreeMap<ShardId, Held>) -> Vec<Move> {
    let free = pool.shards().filter(|shard| !held.contains_key(shard));
    let grants = free.map(|shard| Move::Grant {
        shard,
        to: OltId::cluster(),
    });
    grants.chain(leaving(held, members, &[])).collect()
}

/// Shards that the cluster kept while the pool was shorter, once it has the one that it keeps now or gets it.
fn outgrown(kept: Option<ShardId>, held: &BTreeMap<ShardId, Held>) -> Vec<Move> {
    let clusters = |held: &Held| held.owner.is_cluster();
    let Some(kept) = kept.filter(|kept| held.get(kept).is_none_or(clusters)) else {
        return Vec::new();
    };
    held.iter()
        .filter(|(shard, h)| **shard != kept && clusters(h) && h.state == ShardState::Owned)
        .map(|(shard, h)| Move::Drain {
            shard: *shard,
            from: h.owner.clone(),
        })
        .collect()
}

/// Shards that are on their way back. Those of an OLT that is offline come with the end of its lease, which is
/// too late for those who wait now.
fn coming(held: &BTreeMap<ShardId, Held>, members: &[Member]) -> u64 {
    let draining: Vec<&OltId> = held
        .values()
        .filter(|held| held.state == ShardState::Draining)
        .map(|held| &held.owner)
        .collect();
    if draining.is_empty() {
        return 0;
    }
    let online: BTreeSet<&OltId> = members.iter().filter(|m| m.online).map(|m| &m.id).collect();
    count(draining.iter().filter(|olt| online.contains(**olt)).count())
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
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
    held: &BTreeMap<ShardId, Held>,
    moves: &mut Vec<Move>,
) {
    let reserve = usize::try_from(reserve(pool)).unwrap_or(usize::MAX);
    let kept = cluster_shard(pool);
    let mut free: BTreeMap<ShardId, u64> = pool
        .shards()
        .filter(|shard| Some(*shard) != kept && !held.contains_key(shard))
        .map(|shard| (shard, pool.allocatable_units(shard)))
        .filter(|(_, units)| *units > 0)
        .collect();
    let mut queue = demand.queue(free.len() > reserve);
    if queue.is_empty() || free.is_empty() {
        return;
    }
    let ring = Ring::new(
        pool.spec().sharding_factor,
        eligible.iter().map(|member| (&member.id, member.capacity)),
    );
    let mut wishes = wishes(pool, &ring, demand, &free);
    while let Some(place) = demand.next(&mut queue, free.len() > reserve) {
        let Some((shard, units)) = best(wishes.get_mut(&place), &mut free) else {
            break;
        };
        demand.granted(place, units);
        demand.wait_again(&mut queue, place);
        if let Some(to) = demand.olt(place).cloned() {
            moves.push(Move::Grant { shard, to });
        }
    }
}

/// For each OLT, by its place, the free shards that it stands near on the ring, best last.
fn wishes(
    pool: &Pool,
    ring: &Ring,
    demand: &Demand<'_>,
    free: &BTreeMap<ShardId, u64>,
) -> BTreeMap<usize, Vec<ShardId>> {
    let mut ranked: BTreeMap<usize, Vec<(usize, ShardId)>> = BTreeMap::new();
    for shard in free.keys().take(COMPARED) {
        for (rank, olt) in ring.candidates(pool.id(), *shard).take(RANKS).enumerate() {
            if let Some(place) = demand.place(olt) {
                ranked.entry(place).or_default().push((rank, *shard));
            }
        }
    }
    let best_last = |mut shards: Vec<(usize, ShardId)>| -> Vec<ShardId> {
        shards.sort_unstable_by(|a, b| b.cmp(a));
        shards.into_iter().map(|(_, shard)| shard).collect()
    };
    ranked
        .into_iter()
        .map(|(place, shards)| (place, best_last(shards)))
        .collect()
}

/// Takes the shard that an OLT stands nearest to, or the lowest.
fn best(
    wishes: Option<&mut Vec<ShardId>>,
    free: &mut BTreeMap<ShardId, u64>,
) -> Option<(ShardId, u64)> {
    if let Some(wishes) = wishes {
        while let Some(shard) = wishes.pop() {
            if let Some(units) = free.remove(&shard) {
                return Some((shard, units));
            }
        }
    }
    free.pop_first()
}
