//! The units of one pool's kept shards that somebody has, with what finds them: by holder, and what is free next.

use std::collections::{BTreeMap, BTreeSet};

use super::pins::Pin;
use crate::id::{Seq, ShardId, SubscriberId};
use crate::pool::Pool;
use crate::time::ClusterTime;

/// Who has a unit, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub seq: Seq,
    pub holder: SubscriberId,
    /// Number of the server that took it.
    pub server: u32,
    pub since: ClusterTime,
    /// Where it is, if its pool is pinned.
    pub at: Option<Pin>,
}

/// Every unit that is taken, by shard and number. No shard stands here without any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TakenUnits {
    shards: BTreeMap<ShardId, OfShard>,
    holders: BTreeMap<SubscriberId, BTreeSet<(ShardId, u64)>>,
    count: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct OfShard {
    units: BTreeMap<u64, Taken>,
    runs: Runs,
}

impl TakenUnits {
    /// How many.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn get(&self, shard: ShardId, unit: u64) -> Option<&Taken> {
        self.shards.get(&shard)?.units.get(&unit)
    }

    /// The unit goes to somebody, or to the same holder anew.
    pub fn insert(&mut self, shard: ShardId, unit: u64, taken: Taken) {
        self.remove(shard, unit);
        let holder = self.holders.entry(taken.holder.clone()).or_default();
        holder.insert((shard, unit));
        let of_shard = self.shards.entry(shard).or_default();
        of_shard.units.insert(unit, taken);
        of_shard.runs.insert(unit);
        self.count = self.count.saturating_add(1);
    }

    pub fn remove(&mut self, shard: ShardId, unit: u64) -> Option<Taken> {
        let of_shard = self.shards.get_mut(&shard)?;
        let taken = of_shard.units.remove(&unit)?;
        of_shard.runs.remove(unit);
        if of_shard.units.is_empty() {
            self.shards.remove(&shard);
        }
        if let Some(units) = self.holders.get_mut(&taken.holder) {
            units.remove(&(shard, unit));
            if units.is_empty() {
                self.holders.remove(&taken.holder);
            }
        }
        self.count = self.count.saturating_sub(1);
        Some(taken)
    }

    /// The unit is somewhere else, or nowhere.
    pub fn move_to(&mut self, shard: ShardId, unit: u64, at: Option<Pin>) -> bool {
        let of_shard = self.shards.get_mut(&shard);
        let taken = of_shard.and_then(|of_shard| of_shard.units.get_mut(&unit));
        let Some(taken) = taken else {
            return false;
        };
        taken.at = at;
        true
    }

    /// All units, in the order of shard and unit.
    pub fn iter(&self) -> impl Iterator<Item = (ShardId, u64, &Taken)> {
        self.shards.iter().flat_map(|(shard, of_shard)| {
            let units = of_shard.units.iter();
            units.map(|(unit, taken)| (*shard, *unit, taken))
        })
    }

    /// The units of each shard, in order.
    pub fn by_shard(&self) -> impl Iterator<Item = (ShardId, &BTreeMap<u64, Taken>)> {
        self.shards
            .iter()
            .map(|(shard, of_shard)| (*shard, &of_shard.units))
    }

    /// Whether somebody has a unit of a shard.
    pub fn is_used(&self, shard: ShardId) -> bool {
        self.shards.contains_key(&shard)
    }

    /// What a subscriber has, in the order of shard and unit.
    pub fn of(&self, holder: &SubscriberId) -> impl Iterator<Item = (ShardId, u64, &Taken)> {
        let units = self.holders.get(holder).into_iter().flatten();
        units.filter_map(|(shard, unit)| Some((*shard, *unit, self.get(*shard, *unit)?)))
    }

    /// The first unit of a shard, from `from` on, that nobody has and that anybody may get. Takes a step for each
    /// run of taken units and each part of the pool that is withheld or kept for somebody, however long they are.
    pub fn free_from(&self, pool: &Pool, shard: ShardId, from: u64) -> Option<u64> {
        let runs = self.shards.get(&shard).map(|of_shard| &of_shard.runs);
        let units = pool.units(shard);
        let mut unit = from;
        while unit < units {
            let beyond = runs
                .and_then(|runs| runs.end_of(unit))
                .or_else(|| pool.withheld_to(shard, unit))
                .or_else(|| pool.static_holder(shard, unit).map(|_| unit));
            match beyond {
                Some(last) => unit = last.checked_add(1)?,
                None => return Some(unit),
            }
        }
        None
    }
}

/// Numbers as runs of neighbours, first to last of each; no two of them touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Runs(BTreeMap<u64, u64>);

impl Runs {
    /// The last number of the run that `number` lies in.
    fn end_of(&self, number: u64) -> Option<u64> {
        self.around(number).map(|(_, last)| last)
    }

    fn around(&self, number: u64) -> Option<(u64, u64)> {
        let (first, last) = self.0.range(..=number).next_back()?;
        (number <= *last).then_some((*first, *last))
    }

    fn insert(&mut self, number: u64) {
        if self.around(number).is_some() {
            return;
        }
        let below = number.checked_sub(1).and_then(|below| self.around(below));
        let above = number
            .checked_add(1)
            .and_then(|above| self.0.remove(&above));
        let first = below.map_or(number, |(first, _)| first);
        self.0.insert(first, above.unwrap_or(number));
    }

    fn remove(&mut self, number: u64) {
        let Some((first, last)) = self.around(number) else {
            return;
        };
        self.0.remove(&first);
        if let Some(before) = number.checked_sub(1).filter(|before| first <= *before) {
            self.0.insert(first, before);
        }
        if let Some(after) = number.checked_add(1).filter(|after| *after <= last) {
            self.0.insert(after, last);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::PoolId;
    use crate::pool::{PoolSpec, StaticEntry};
    use crate::resource::ResourceType;

    fn taken(holder: &str) -> Taken {
        Taken {
            seq: Seq(1),
            holder: SubscriberId::new(holder).unwrap(),
            server: 1,
            since: ClusterTime::ZERO,
            at: None,
        }
    }

    /// VLANs 1 to 40 in two shards; 8 to 11 and 30 are withheld, 13 is kept for somebody.
    fn pool() -> Pool {
        let mut spec = PoolSpec::minimal(PoolId::new("v").unwrap(), ResourceType::Vlan, "1-40");
        spec.shard_size = Some(20);
        spec.exclusions = vec!["8-11".into(), "30".into()];
        spec.pinned = true;
        spec.fixed = vec![StaticEntry {
            subscriber: "s".parse().unwrap(),
            resource: "13".into(),
        }];
        Pool::new(spec).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_free_and_who_has_what_is_as_a_plain_list_says(
            steps in prop::collection::vec((any::<bool>(), 0_u32..2, 0_u64..20, 0_u8..4), 0..200),
            from in 0_u64..22,
        ) {
            let pool = pool();
            let mut units = TakenUnits::default();
            let mut plain: BTreeMap<(ShardId, u64), String> = BTreeMap::new();
            for (take, shard, unit, holder) in steps {
                let (key, holder) = ((ShardId(shard), unit), format!("sub-{holder}"));
                if take {
                    units.insert(key.0, key.1, taken(&holder));
                    plain.insert(key, holder);
                } else {
                    prop_assert_eq!(units.remove(key.0, key.1).is_some(), plain.remove(&key).is_some());
                }
                let all = units.iter().map(|(s, u, t)| ((s, u), t.holder.to_string()));
                prop_assert_eq!(all.collect::<BTreeMap<_, _>>(), plain.clone());
                prop_assert_eq!(units.len(), plain.len());
            }
            for shard in [ShardId(0), ShardId(1)] {
                let free = |unit: &u64| {
                    !plain.contains_key(&(shard, *unit))
                        && pool.is_allocatable_unit(shard, *unit)
                        && pool.static_holder(shard, *unit).is_none()
                };
                prop_assert_eq!(units.free_from(&pool, shard, from), (from..20).find(free));
                prop_assert_eq!(units.is_used(shard), plain.keys().any(|key| key.0 == shard));
            }
            for holder in 0..4 {
                let holder = format!("sub-{holder}");
                let id = holder.parse().unwrap();
                let mine = units.of(&id).map(|(shard, unit, _)| (shard, unit));
                let theirs = plain.iter().filter(|(_, who)| **who == holder).map(|(key, _)| *key);
                prop_assert_eq!(mine.collect::<Vec<_>>(), theirs.collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_full_shard_is_one_run_that_is_passed_in_one_step() {
        let mut units = TakenUnits::default();
        let shard = ShardId(0);
        for unit in (0..1000).chain(1001..2000) {
            units.insert(shard, unit, taken("s"));
        }
        let runs = |units: &TakenUnits| units.shards[&shard].runs.0.clone();
        assert_eq!(runs(&units), BTreeMap::from([(0, 999), (1001, 1999)]));
        units.insert(shard, 1000, taken("s"));
        assert_eq!(runs(&units), BTreeMap::from([(0, 1999)]));
        units.remove(shard, 0);
        units.remove(shard, 1999);
        units.remove(shard, 7);
        assert_eq!(runs(&units), BTreeMap::from([(1, 6), (8, 1998)]));
    }
}
