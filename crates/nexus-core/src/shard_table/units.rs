//! Units of the shards that the cluster keeps for itself: any node may allocate from them, so that who has
//! which unit is an exclusive fact like the ownership of a shard.

use super::command::UnitGrant;
use super::pins::Pin;
use super::refusal::Refusal;
use super::taken::Taken;
use super::{PoolEntry, ShardTable, Touched};
use crate::id::{Epoch, PoolId, Seq, ShardId, SubscriberId};
use crate::shard::ShardKey;
use crate::time::ClusterTime;

/// Most units that are taken at a time, in all pools together.
pub const MAX_TAKEN_UNITS: usize = 1 << 19;

/// A unit that somebody has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenUnit<'a> {
    /// The shard.
    pub shard: ShardKey,
    /// Which unit of it.
    pub unit: u64,
    /// Epoch and number that it was taken under.
    pub grant: UnitGrant,
    /// Who has it.
    pub holder: &'a SubscriberId,
    /// Number of the server that took it.
    pub server: u32,
    /// When it was taken.
    pub since: ClusterTime,
    /// The OLT that it is on, if its pool is pinned.
    pub at: Option<&'a Pin>,
}

impl ShardTable {
    pub(super) fn take_unit(
        &mut self,
        t: &mut Touched,
        key: &ShardKey,
        unit: u64,
        (holder, server): (SubscriberId, u32),
    ) -> Result<(), Refusal> {
        if let Some(left) = self.recovering() {
            return Err(Refusal::Recovering { left });
        }
        let epoch = self
            .kept_epoch(key)
            .or_else(|| self.epoch_of_holder(key, unit, &holder))
            .ok_or_else(|| Refusal::NotKept(key.clone()))?;
        let full = self.units_taken() >= MAX_TAKEN_UNITS;
        let entry = self
            .pools
            .get_mut(&key.pool)
            .ok_or_else(|| Refusal::UnknownPool(key.pool.clone()))?;
        if entry.pool.is_pinned() {
            return Err(Refusal::NotKept(key.clone()));
        }
        if !entry.pool.is_allocatable_unit(key.shard, unit) {
            let key = key.clone();
            return Err(Refusal::NoSuchUnit { key, unit });
        }
        let known = entry.taken.get(key.shard, unit);
        t.unit_is_new = known.is_none();
        match known {
            Some(known) if known.holder != holder => {
                return Err(Refusal::UnitTaken {
                    key: key.clone(),
                    unit,
                    holder: known.holder.clone(),
                });
            }
            None if full => {
                return Err(Refusal::Full {
                    what: "the number of units that the cluster allocated".into(),
                    bound: MAX_TAKEN_UNITS,
                });
            }
            Some(_) | None => {}
        }
        let seq = self.counters.unit_seq.next();
        let taken = Taken {
            seq,
            holder,
            server,
            since: self.now,
            at: None,
        };
        entry.taken.insert(key.shard, unit, taken);
        self.counters.unit_seq = seq;
        t.unit = Some(UnitGrant { epoch, seq });
        Ok(())
    }

    pub(super) fn free_unit(&mut self, t: &mut Touched, key: &ShardKey, unit: u64, seq: Seq) {
        let Some(entry) = self.pools.get_mut(&key.pool) else {
            return;
        };
        let known = entry.taken.get(key.shard, unit);
        if known.is_some_and(|taken| taken.seq == seq) {
            entry.taken.remove(key.shard, unit);
            self.free_if_empty(t, key);
        }
    }

    /// Epoch of a shard that the cluster may allocate from.
    pub(super) fn kept_epoch(&self, key: &ShardKey) -> Option<Epoch> {
        let row = self.shard(key)?;
        row.is_kept().then_some(row.epoch)
    }

    /// Epoch of a shard that the cluster is to give back, for whoever has the unit already: it keeps it.
    fn epoch_of_holder(&self, key: &ShardKey, unit: u64, holder: &SubscriberId) -> Option<Epoch> {
        let entry = self.pools.get(&key.pool).filter(|entry| !entry.removing)?;
        let row = entry
            .shards
            .get(&key.shard)
            .filter(|row| row.is_clusters())?;
        let taken = entry.taken.get(key.shard, unit)?;
        (taken.holder == *holder).then_some(row.epoch)
    }

    /// How many units of the cluster's own shards somebody has.
    #[must_use]
    pub fn units_taken(&self) -> usize {
        self.pools.values().map(|entry| entry.taken.len()).sum()
    }

    /// Who has a unit of a shard of the cluster's own; `None` if nobody.
    #[must_use]
    pub fn taken_unit(&self, key: &ShardKey, unit: u64) -> Option<TakenUnit<'_>> {
        let entry = self.pools.get(&key.pool)?;
        let taken = entry.taken.get(key.shard, unit)?;
        Some(entry.taken_unit(key.shard, unit, taken))
    }

    /// The first unit of a shard of the cluster's own, from `from` on, that nobody has, and that anybody may get;
    /// `None` if there is none behind it.
    #[must_use]
    pub fn free_unit_from(&self, key: &ShardKey, from: u64) -> Option<u64> {
        let entry = self.pools.get(&key.pool)?;
        entry.taken.free_from(&entry.pool, key.shard, from)
    }

    /// The units of a pool that a subscriber has, in the order of shard and unit.
    pub fn units_of(
        &self,
        pool: &PoolId,
        holder: &SubscriberId,
    ) -> impl Iterator<Item = TakenUnit<'_>> {
        self.pools.get(pool).into_iter().flat_map(move |entry| {
            let units = entry.taken.of(holder);
            units.map(|(shard, unit, taken)| entry.taken_unit(shard, unit, taken))
        })
    }

    /// The units that a server took before `before`, in order. Those of them that it has no allocation of on
    /// record were taken for nothing: the answer was lost, or the server stopped before it had used it.
    pub fn taken_by(
        &self,
        server: u32,
        before: ClusterTime,
    ) -> impl Iterator<Item = TakenUnit<'_>> {
        self.pools.values().flat_map(move |entry| {
            let units = entry.taken.iter();
            let of_server =
                units.filter(move |(_, _, taken)| taken.server == server && taken.since < before);
            of_server.map(|(shard, unit, taken)| entry.taken_unit(shard, unit, taken))
        })
    }

    /// Every unit of the cluster's own shards that somebody has, in the order of pool, shard and unit.
    pub fn taken_units(&self) -> impl Iterator<Item = TakenUnit<'_>> {
        self.pools.values().flat_map(PoolEntry::taken_units)
    }
}

impl PoolEntry {
    fn taken_units(&self) -> impl Iterator<Item = TakenUnit<'_>> {
        let units = self.taken.iter();
        units.map(|(shard, unit, taken)| self.taken_unit(shard, unit, taken))
    }

    fn taken_unit<'a>(&self, shard: ShardId, unit: u64, taken: &'a Taken) -> TakenUnit<'a> {
        let epoch = self.shards.get(&shard).map_or(Epoch(0), |row| row.epoch);
        TakenUnit {
            shard: ShardKey {
                pool: self.pool.id().clone(),
                shard,
            },
            unit,
            grant: UnitGrant {
                epoch,
                seq: taken.seq,
            },
            holder: &taken.holder,
            server: taken.server,
            since: taken.since,
            at: taken.at.as_ref(),
        }
    }
}
