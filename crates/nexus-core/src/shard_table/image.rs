//! The table as plain data, exactly and without repetition, for snapshots.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::pins::Pin;
use super::reclaim::Kept;
use super::row::{Counters, OltRow, Owner, ShardRow};
use super::taken::{Taken, TakenUnits};
use super::units::MAX_TAKEN_UNITS;
use super::{MAX_OLTS, MAX_POOLS, OltEntry, PoolEntry, ShardTable, Unsettled};
use crate::id::{Epoch, PoolId, Seq, ShardId, SubscriberId};
use crate::lease::LeaseRule;
use crate::pool::{Pool, PoolError, PoolSpec};
use crate::shard::{ShardKey, ShardState};
use crate::time::ClusterTime;

/// Why a snapshot does not make a table.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RestoreError {
    /// A pool is no longer understood.
    #[error("a snapshot has a pool that is not valid: {0}")]
    Pool(#[from] PoolError),
    /// A shard of a pool that is not there, or beyond its end.
    #[error("a snapshot has {0}, which does not exist: take one of another node")]
    StrayShard(ShardKey),
    /// Parts that do not go together, or too many of something.
    #[error("a snapshot does not hold together: {0}; take one of another node")]
    Inconsistent(String),
}

/// Everything that a [`ShardTable`] knows.
#[derive(Serialize, Deserialize)]
pub(crate) struct Image {
    rule: LeaseRule,
    now: ClusterTime,
    counters: Counters,
    /// Whoever owns a shard or has a lease, in order; shards and leases point into it.
    owners: Vec<Owner>,
    leases: Vec<(u32, ClusterTime)>,
    #[serde(default)]
    recovering: Option<ClusterTime>,
    olts: Vec<OltImage>,
    pools: Vec<PoolImage>,
}

#[derive(Serialize, Deserialize)]
struct OltImage {
    row: OltRow,
    heard: ClusterTime,
    active: bool,
    online: bool,
    in_use: BTreeMap<PoolId, u64>,
    #[serde(default)]
    idle: BTreeMap<PoolId, BTreeSet<ShardId>>,
    #[serde(default)]
    doubtful: bool,
    #[serde(default)]
    kept: Kept,
}

#[derive(Serialize, Deserialize)]
struct PoolImage {
    spec: PoolSpec,
    removing: bool,
    #[serde(default)]
    shrink_to: Option<PoolSpec>,
    shards: Vec<ShardImage>,
    taken: Vec<(ShardId, Vec<UnitImage>)>,
    /// Where units of a pinned pool are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pins: Vec<(ShardId, u64, Pin)>,
}

/// State as a number, owner as its place in [`Image::owners`].
type ShardImage = (ShardId, Epoch, u8, Option<u32>);
type UnitImage = (u64, Seq, ClusterTime, SubscriberId, u32);

impl ShardTable {
    pub(crate) fn image(&self) -> Image {
        let of_shards = self
            .pools
            .values()
            .flat_map(|entry| entry.shards.values())
            .filter_map(|row| row.owner.as_ref());
        // The place in the order is the number.
        let mut numbers: BTreeMap<&Owner, u32> = self
            .leases
            .keys()
            .chain(of_shards)
            .map(|o| (o, 0))
            .collect();
        for (number, place) in (0..).zip(numbers.values_mut()) {
            *place = number;
        }
        let number = |owner: &Owner| numbers.get(owner).copied();
        let olt = |entry: &OltEntry| OltImage {
            row: entry.row.clone(),
            heard: entry.heard,
            active: entry.active,
            online: entry.online,
            in_use: entry.in_use.clone(),
            idle: entry.idle.clone(),
            doubtful: entry.doubtful,
            kept: entry.kept,
        };
        let shard = |row: &ShardRow| {
            let owner = row.owner.as_ref().and_then(number);
            (row.key.shard, row.epoch, state_number(row.state), owner)
        };
        let unit = |(unit, taken): (&u64, &Taken)| {
            let holder = taken.holder.clone();
            (*unit, taken.seq, taken.since, holder, taken.server)
        };
        let pool = |entry: &PoolEntry| PoolImage {
            spec: entry.pool.spec().clone(),
            removing: entry.removing,
            shrink_to: entry.shrink_to.as_ref().map(|pool| pool.spec().clone()),
            shards: entry.shards.values().map(shard).collect(),
            taken: entry
                .taken
                .by_shard()
                .map(|(shard, units)| (shard, units.iter().map(unit).collect()))
                .collect(),
            pins: pins(entry),
        };
        Image {
            rule: self.rule,
            now: self.now,
            counters: self.counters,
            recovering: self.recovering,
            owners: numbers.keys().map(|owner| (*owner).clone()).collect(),
            leases: self
                .leases
                .iter()
                .filter_map(|(owner, until)| Some((number(owner)?, *until)))
                .collect(),
            olts: self.olts.values().map(olt).collect(),
            pools: self.pools.values().map(pool).collect(),
        }
    }

    pub(crate) fn from_image(image: Image) -> Result<Self, RestoreError> {
        let mut table = Self::new(image.rule);
        (table.now, table.counters) = (image.now, image.counters);
        table.recovering = image.recovering;
        bound("OLTs", image.olts.len(), MAX_OLTS)?;
        bound("pools", image.pools.len(), MAX_POOLS)?;
        let owners = image.owners;
        let owner = |number: u32| {
            let place = usize::try_from(number).unwrap_or(usize::MAX);
            let known = owners.get(place).cloned();
            known.ok_or_else(|| RestoreError::Inconsistent(format!("owner {number} is missing")))
        };
        for (number, until) in image.leases {
            table.leases.insert(owner(number)?, until);
        }
        for olt in image.olts {
            let entry = OltEntry {
                heard: olt.heard,
                active: olt.active,
                online: olt.online,
                in_use: olt.in_use,
                idle: olt.idle,
                doubtful: olt.doubtful,
                kept: olt.kept,
                row: olt.row,
            };
            let id = entry.row.id.clone();
            if table.olts.insert(id.clone(), entry).is_some() {
                return Err(RestoreError::Inconsistent(format!("OLT {id} stands twice")));
            }
        }
        for pool in image.pools {
            let entry = pool.entry(&owner)?;
            let id = entry.pool.id().clone();
            if table.pools.insert(id.clone(), entry).is_some() {
                return Err(RestoreError::Inconsistent(format!(
                    "pool {id} stands twice"
                )));
            }
        }
        bound("taken units", table.units_taken(), MAX_TAKEN_UNITS)?;
        Ok(table)
    }
}

impl PoolImage {
    fn entry(
        self,
        owner: &impl Fn(u32) -> Result<Owner, RestoreError>,
    ) -> Result<PoolEntry, RestoreError> {
        let pool = Pool::new(self.spec)?;
        let mut shards = BTreeMap::new();
        for (shard, epoch, state, number) in self.shards {
            let pool_id = pool.id().clone();
            let key = ShardKey {
                pool: pool_id,
                shard,
            };
            if pool.units(shard) == 0 {
                return Err(RestoreError::StrayShard(key));
            }
            let state = state_of(state)
                .filter(|state| (*state == ShardState::Free) == number.is_none())
                .ok_or_else(|| RestoreError::Inconsistent(format!("{key} is in state {state}")))?;
            let owner = number.map(owner).transpose()?;
            let row = ShardRow {
                key,
                epoch,
                state,
                owner,
            };
            shards.insert(shard, row);
        }
        let mut taken = TakenUnits::default();
        for (shard, units) in self.taken {
            let row: Option<&ShardRow> = shards.get(&shard);
            let kept = row
                .and_then(|row| row.owner.as_ref())
                .is_some_and(|owner| owner.olt.is_cluster());
            let inside = |(unit, ..): &UnitImage| *unit < pool.units(shard);
            if !kept || units.is_empty() || !units.iter().all(inside) {
                let why = format!("units of shard {shard} of pool {} are taken", pool.id());
                return Err(RestoreError::Inconsistent(why));
            }
            for (unit, seq, since, holder, server) in units {
                let row = Taken {
                    seq,
                    holder,
                    server,
                    since,
                    at: None,
                };
                taken.insert(shard, unit, row);
            }
        }
        for (shard, unit, pin) in self.pins {
            let olt = pin.olt.clone();
            if !pool.is_pinned() || !taken.move_to(shard, unit, Some(pin)) {
                let pool = pool.id();
                let why = format!("unit {unit} of shard {shard} of pool {pool} is on {olt}");
                return Err(RestoreError::Inconsistent(why));
            }
        }
        Ok(PoolEntry {
            pool,
            removing: self.removing,
            shrink_to: self.shrink_to.map(Pool::new).transpose()?,
            unsettled: Unsettled(true),
            shards,
            taken,
        })
    }
}

fn pins(entry: &PoolEntry) -> Vec<(ShardId, u64, Pin)> {
    let units = entry.taken.iter();
    units
        .filter_map(|(shard, unit, taken)| Some((shard, unit, taken.at.clone()?)))
        .collect()
}

fn bound(what: &str, count: usize, bound: usize) -> Result<(), RestoreError> {
    if count > bound {
        let why = format!("{count} {what}, at most {bound}");
        return Err(RestoreError::Inconsistent(why));
    }
    Ok(())
}

const fn state_number(state: ShardState) -> u8 {
    match state {
        ShardState::Free => 0,
        ShardState::Owned => 1,
        ShardState::Draining => 2,
        ShardState::Frozen => 3,
    }
}

const fn state_of(number: u8) -> Option<ShardState> {
    match number {
        0 => Some(ShardState::Free),
        1 => Some(ShardState::Owned),
        2 => Some(ShardState::Draining),
        3 => Some(ShardState::Frozen),
        _ => None,
    }
}
