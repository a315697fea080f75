//! The hash ring of OLTs with virtual nodes: which OLTs a shard would like to live on, in order.

use crate::id::{OltId, PoolId, ShardId};

/// Capacity of an OLT that gets exactly `sharding_factor` virtual nodes. A fixed reference, so that
/// a newcomer never changes the virtual nodes of others.
pub const REFERENCE_CAPACITY: u32 = 2000;
/// An OLT gets at most this many times `sharding_factor` virtual nodes.
pub const MAX_WEIGHT: u32 = 4;

/// A ring over a fixed set of OLTs. The same set gives the same ring, in whatever order it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    /// Position and index into `members`, ordered.
    points: Vec<(u64, u32)>,
    members: Vec<OltId>,
}

impl Ring {
    /// Builds the ring of `members` (OLT and its capacity in subscribers) with about
    /// `sharding_factor` virtual nodes each.
    #[must_use]
    pub fn new<'a>(
        sharding_factor: u32,
        members: impl IntoIterator<Item = (&'a OltId, u32)>,
    ) -> Self {
        let mut sorted: Vec<_> = members.into_iter().collect();
        sorted.sort_unstable();
        sorted.dedup_by(|a, b| a.0 == b.0);
        let mut points = Vec::new();
        for (index, (olt, capacity)) in (0u32..).zip(&sorted) {
            let mut position = first_position(olt);
            for _ in 0..virtual_nodes(sharding_factor, *capacity) {
                points.push((mix(position), index));
                position = position.wrapping_add(STEP);
            }
        }
        points.sort_unstable();
        Self {
            points,
            members: sorted.into_iter().map(|(olt, _)| olt.clone()).collect(),
        }
    }

    /// The OLTs that a shard would like to live on, each once, the best first.
    pub fn candidates(&self, pool: &PoolId, shard: ShardId) -> impl Iterator<Item = &OltId> {
        let position = shard_position(pool, shard);
        let start = self.points.partition_point(|&(point, _)| point < position);
        let (before, after) = self
            .points
            .split_at_checked(start)
            .unwrap_or((&[], &self.points));
        let mut seen = Vec::new();
        after
            .iter()
            .chain(before)
            .filter(move |(_, index)| {
                let new = !seen.contains(index);
                if new {
                    seen.push(*index);
                }
                new
            })
            .filter_map(|(_, index)| self.members.get(usize::try_from(*index).ok()?))
            .take(self.members.len())
    }

    /// Number of OLTs on the ring.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether no OLT is on the ring.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

fn virtual_nodes(sharding_factor: u32, capacity: u32) -> u32 {
    let weighted = u64::from(sharding_factor).saturating_mul(u64::from(capacity));
    let rounded =
        weighted.saturating_add(u64::from(REFERENCE_CAPACITY / 2)) / u64::from(REFERENCE_CAPACITY);
    u32::try_from(rounded)
        .unwrap_or(u32::MAX)
        .clamp(1, sharding_factor.saturating_mul(MAX_WEIGHT).max(1))
}

/// Odd, and far from any pattern: the golden ratio of 2^64 (Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators", 2014).
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Where the virtual nodes of an OLT start from. One hash for each OLT and one multiplication chain for
/// each of its virtual nodes: a ring of 2000 OLTs is made for every join.
fn first_position(olt: &OltId) -> u64 {
    position(&[b"olt\0", olt.as_str().as_bytes()])
}

/// Scatters neighbouring numbers over the ring (the finisher of SplitMix64, same paper).
fn mix(position: u64) -> u64 {
    let mixed = (position ^ (position >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn shard_position(pool: &PoolId, shard: ShardId) -> u64 {
    position(&[
        b"shard\0",
        pool.as_str().as_bytes(),
        b"\0",
        &shard.0.to_le_bytes(),
    ])
}

fn position(parts: &[&[u8]]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let hash = hasher.finalize();
    hash.as_bytes()
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn olts(count: usize) -> Vec<OltId> {
        (0..count)
            .map(|n| OltId::new(format!("olt-{n:04}")).unwrap())
            .collect()
    }

    fn firsts(ring: &Ring, shards: u32) -> BTreeMap<u32, OltId> {
        let pool = PoolId::new("residential-ipv4").unwrap();
        (0..shards)
            .map(|n| {
                (
                    n,
                    ring.candidates(&pool, ShardId(n)).next().unwrap().clone(),
                )
            })
            .collect()
    }

    #[test]
    fn shards_spread_evenly_over_olts_of_equal_capacity() {
        let olts = olts(20);
        let ring = Ring::new(100, olts.iter().map(|olt| (olt, 2000)));
        let mut load = BTreeMap::new();
        for olt in firsts(&ring, 20_000).into_values() {
            *load.entry(olt).or_insert(0u32) += 1;
        }
        // 100 virtual nodes spread with a deviation of about a tenth of the mean, here 1000.
        for (olt, count) in load {
            assert!((600..=1400).contains(&count), "{olt} is first for {count}");
        }
    }

    #[test]
    fn an_olt_of_double_capacity_is_first_for_about_twice_as_many_shards() {
        let olts = olts(10);
        let ring = Ring::new(
            200,
            olts.iter()
                .enumerate()
                .map(|(n, olt)| (olt, if n == 0 { 4000 } else { 2000 })),
        );
        let of_first = firsts(&ring, 22_000)
            .values()
            .filter(|olt| **olt == olts[0])
            .count();
        assert!(
            (3000..=5200).contains(&of_first),
            "{of_first}, expected about 4000"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_newcomer_only_draws_shards_to_itself(count in 1usize..12, newcomer in 0usize..12) {
            let all = olts(count + 1);
            let newcomer = &all[newcomer % all.len()];
            let before = Ring::new(50, all.iter().filter(|o| *o != newcomer).map(|o| (o, 1500)));
            let after = Ring::new(50, all.iter().map(|o| (o, 1500)));
            for ((shard, old), new) in firsts(&before, 500).iter().zip(firsts(&after, 500).values()) {
                prop_assert!(new == old || new == newcomer, "shard {} {} -> {}", shard, old, new);
            }
        }

        #[test]
        fn candidates_name_every_olt_once_whatever_the_order_it_was_given_in(
            count in 0usize..12,
            shard in 0u32..65_536,
            rotation in 0usize..12,
        ) {
            let mut olts = olts(count);
            let ring = Ring::new(20, olts.iter().map(|o| (o, 100)));
            olts.rotate_left(rotation.checked_rem(count).unwrap_or(0));
            prop_assert_eq!(&ring, &Ring::new(20, olts.iter().map(|o| (o, 100))));
            let pool = PoolId::new("p").unwrap();
            let mut named: Vec<_> = ring.candidates(&pool, ShardId(shard)).cloned().collect();
            prop_assert_eq!(named.len(), count);
            named.sort();
            olts.sort();
            prop_assert_eq!(named, olts);
        }
    }
}
