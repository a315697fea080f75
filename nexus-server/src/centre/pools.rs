//! Pools: create, read, update, delete, and how full they are.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use nexus_core::id::{OltId, PoolId, ShardId};
use nexus_core::pool::{Change, Pool, PoolSpec};
use nexus_core::resource::{Resource, ResourceType};
use nexus_core::shard::ShardState;
use nexus_core::shard_table::Command;

use super::Centre;
use crate::allocation::{Allocation, Place};
use crate::refused::Refused;

/// Longest form of a pool in the store, in bytes.
const MAX_POOL_BYTES: usize = 48 * 1024;

/// How full a pool is, in units (addresses, delegated prefixes, VLANs, ports) and shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolStats {
    /// The pool.
    pub pool: PoolId,
    /// What it hands out.
    pub kind: ResourceType,
    /// Units that may be handed out at all.
    pub total: u64,
    /// Units that a subscriber holds.
    pub allocated: u64,
    /// Of these, units that an OLT was asked to release.
    pub releasing: u64,
    /// Units that cool down after a release.
    pub cooling: u64,
    /// Units that are neither held nor cooling.
    pub available: u64,
    /// All shards.
    pub shards: u64,
    /// Shards that belong to OLTs.
    pub shards_owned: u64,
    /// Shards that the cluster keeps for allocations of its own.
    pub shards_kept: u64,
    /// Shards that nobody has a right to.
    pub shards_free: u64,
    /// Units that are never handed out: excluded, reserved, network, router.
    pub reserved: u64,
    /// Units that are held and go, see [`Centre::draining`].
    pub draining: u64,
    /// The shards of each OLT; those of the cluster under its own name.
    pub olts: BTreeMap<OltId, OltFill>,
}

/// How full the shards of one OLT are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OltFill {
    /// Shards that it owns.
    pub shards: u64,
    /// Units in them that may be handed out.
    pub total: u64,
    /// Units in them that a subscriber holds.
    pub allocated: u64,
}

/// What is held of resources that a change takes away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affected {
    /// The first of it.
    pub first: Vec<Allocation>,
    /// All of it.
    pub places: Vec<Place>,
}

impl Affected {
    /// Allocations that are named in an answer.
    const NAMED: usize = 100;

    fn of<'a>(held: impl Iterator<Item = &'a Allocation>) -> Self {
        let mut affected = Self::default();
        for allocation in held {
            if affected.first.len() < Self::NAMED {
                affected.first.push(allocation.clone());
            }
            affected.places.push(allocation.place.clone());
        }
        affected
    }

    /// How many allocations.
    #[must_use]
    pub fn count(&self) -> u64 {
        u64::try_from(self.places.len()).unwrap_or(u64::MAX)
    }
}

/// A change of a pool that is possible.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolChange {
    /// How many shards it has before and after.
    pub shards: (u32, u32),
    /// What becomes of them; `None`: the pool is removed.
    pub change: Option<Change>,
    /// What is held of that which goes.
    pub affected: Affected,
    /// What does it.
    pub command: Command,
}

/// Strong validator of a pool for `ETag` and `If-Match` (RFC 9110 section 8.8.3).
#[must_use]
pub fn etag(spec: &PoolSpec) -> String {
    // Fields and labels have a fixed order, so that equal pools have equal text.
    let text = serde_json::to_vec(spec).unwrap_or_default();
    let hash = blake3::hash(&text).to_hex();
    format!("\"{}\"", hash.get(..16).unwrap_or_default())
}

impl Centre {
    /// All pools in the order of their names.
    #[must_use]
    pub fn pool_specs(&self) -> Vec<PoolSpec> {
        self.table()
            .pools()
            .map(|pool| pool.spec().clone())
            .collect()
    }

    /// A pool.
    ///
    /// # Errors
    /// [`Refused::UnknownPool`].
    pub fn pool_spec(&self, id: &PoolId) -> Result<PoolSpec, Refused> {
        self.pool(id).map(|pool| pool.spec().clone())
    }

    /// Looks whether a pool can be created, and gives the command that does it.
    ///
    /// # Errors
    /// What is wrong with it, or which pool it meets.
    pub fn prepare_create(&self, spec: PoolSpec) -> Result<Command, Refused> {
        check_size(&spec)?;
        let id = spec.id.clone();
        let pool = Pool::new(spec)?;
        if let Some(known) = self.table().pool(&id) {
            return Err(if self.table().is_being_removed(known.id()) {
                Refused::BeingRemoved(id)
            } else {
                Refused::PoolExists(id)
            });
        }
        self.check_leftovers(&pool)?;
        let spec = Box::new(pool.spec().clone());
        Ok(Command::AddPool { spec })
    }

    /// Looks whether a pool can be changed, and gives the command that does it, with what is held of the
    /// resources that could not be handed out any more.
    ///
    /// # Errors
    /// What is wrong with the change.
    pub fn prepare_update(
        &self,
        id: &PoolId,
        spec: PoolSpec,
        if_match: Option<&str>,
    ) -> Result<PoolChange, Refused> {
        self.check_etag(id, if_match)?;
        if spec.id != *id {
            let problem = format!("must be {id}, as in the path: the id of a pool cannot change");
            return Err(Refused::invalid("id", problem));
        }
        check_size(&spec)?;
        let pool = Pool::new(spec)?;
        let known = self.pool(id)?;
        let change = known.change_to(&pool);
        let change = change.map_err(|error| Refused::GeometryInUse {
            pool: id.clone(),
            why: error.to_string(),
        })?;
        let cut_off = |held: &&Allocation| {
            held.pool == *id && !pool.allows(&held.subscriber, &held.place.resource)
        };
        let affected = Affected::of(self.held_in(known).filter(cut_off));
        Ok(PoolChange {
            shards: (known.shard_count(), pool.shard_count()),
            change: Some(change),
            affected,
            command: Command::UpdatePool {
                spec: Box::new(pool.spec().clone()),
            },
        })
    }

    /// Gives the command that removes a pool, with what is held of it.
    ///
    /// # Errors
    /// [`Refused::UnknownPool`], [`Refused::EtagMismatch`].
    pub fn prepare_delete(
        &self,
        id: &PoolId,
        if_match: Option<&str>,
    ) -> Result<PoolChange, Refused> {
        self.check_etag(id, if_match)?;
        let pool = self.pool(id)?;
        let of_pool = |held: &&Allocation| held.pool == *id;
        Ok(PoolChange {
            shards: (pool.shard_count(), 0),
            change: None,
            affected: Affected::of(self.held_in(pool).filter(of_pool)),
            command: Command::RemovePool { pool: id.clone() },
        })
    }

    /// Units of a pool that are held and go: in shards that are asked back, and others that an OLT was asked
    /// to release.
    ///
    /// # Errors
    /// [`Refused::UnknownPool`].
    pub fn draining(&self, id: &PoolId) -> Result<u64, Refused> {
        self.pool(id)?;
        let going = self
            .table()
            .shards(id)
            .filter(|row| row.state == ShardState::Draining);
        let going = going.map(|row| self.record.shard_counts(id, row.key.shard));
        Ok(going.fold(self.record.counts(id).releasing, |sum, counts| {
            sum.saturating_add(counts.active)
        }))
    }

    /// Whether a pool is gone.
    #[must_use]
    pub fn is_gone(&self, id: &PoolId) -> bool {
        self.table().pool(id).is_none()
    }

    /// How full a pool is.
    ///
    /// # Errors
    /// [`Refused::UnknownPool`].
    pub fn pool_stats(&self, id: &PoolId) -> Result<PoolStats, Refused> {
        let pool = self.pool(id)?;
        let counts = self.record.counts(id);
        let total = pool.allocatable_total();
        let (mut owned, mut kept) = (0_u64, 0_u64);
        let mut olts: BTreeMap<OltId, OltFill> = BTreeMap::new();
        for row in self.table().shards(id) {
            if let Some(owner) = &row.owner {
                let fill = olts.entry(owner.olt.clone()).or_default();
                let held = self.record.shard_counts(id, row.key.shard).held();
                fill.shards = fill.shards.saturating_add(1);
                fill.total = fill
                    .total
                    .saturating_add(pool.allocatable_units(row.key.shard));
                fill.allocated = fill.allocated.saturating_add(held);
            }
            match &row.owner {
                Some(owner) if owner.olt.is_cluster() => kept = kept.saturating_add(1),
                Some(_) => owned = owned.saturating_add(1),
                None => debug_assert_eq!(row.state, ShardState::Free),
            }
        }
        let shards = u64::from(pool.shard_count());
        Ok(PoolStats {
            pool: id.clone(),
            kind: pool.kind(),
            total,
            allocated: counts.held(),
            releasing: counts.releasing,
            cooling: counts.released,
            available: total.saturating_sub(counts.all()),
            shards,
            shards_owned: owned,
            shards_kept: kept,
            shards_free: shards.saturating_sub(owned).saturating_sub(kept),
            reserved: units_of(pool).saturating_sub(total),
            draining: self.draining(id)?,
            olts,
        })
    }

    fn check_etag(&self, id: &PoolId, if_match: Option<&str>) -> Result<(), Refused> {
        let current = etag(self.pool(id)?.spec());
        let Some(wanted) = if_match else {
            return Ok(());
        };
        let matches = wanted
            .split(',')
            .map(str::trim)
            .any(|tag| tag == "*" || tag == current);
        if matches {
            Ok(())
        } else {
            Err(Refused::EtagMismatch {
                pool: id.clone(),
                current,
            })
        }
    }

    /// Allocations can outlive their pool on OLTs that were cut off; their resources must not be handed out
    /// again by a new pool, nor anything that they are part of or that is part of them. What was released and rests
    /// is in the way only if it is no unit of the new pool, where it could not rest on.
    fn check_leftovers(&self, pool: &Pool) -> Result<(), Refused> {
        let in_the_way = |known: &&Allocation| {
            let resource = &known.place.resource;
            pool.touches(resource) && (known.state.is_held() || pool.locate(resource).is_none())
        };
        let mut left = self
            .around(pool)
            .into_iter()
            .flatten()
            .chain(self.ancestors(pool))
            .filter(in_the_way);
        match left.next() {
            None => Ok(()),
            Some(first) => Err(Refused::PoolHasAllocations {
                pool: first.pool.clone(),
                count: u64::try_from(left.count())
                    .unwrap_or(u64::MAX)
                    .saturating_add(1),
            }),
        }
    }

    /// What is on record between the first and the last resource that could have something in common with a pool.
    /// Ports of one address may meet those of any.
    fn around<'a>(&'a self, pool: &Pool) -> Option<impl Iterator<Item = &'a Allocation> + use<'a>> {
        let (first, last) = match pool.kind() {
            ResourceType::Port => (
                Resource::Port {
                    address: None,
                    first: 0,
                    last: 0,
                },
                Resource::Port {
                    address: Some(Ipv4Addr::BROADCAST),
                    first: u16::MAX,
                    last: u16::MAX,
                },
            ),
            _ => ends(pool)?,
        };
        Some(self.record.between(pool.vrf(), first, last))
    }

    /// What is on record of the prefixes that the first unit of a pool lies in.
    fn ancestors<'a>(&'a self, pool: &Pool) -> impl Iterator<Item = &'a Allocation> + use<'a> {
        let vrf = pool.vrf().to_owned();
        let first = ends(pool).and_then(|(first, _)| match first {
            Resource::Ipv6(net) => net.supernet(),
            _ => None,
        });
        let above = std::iter::successors(first, |net| net.supernet());
        above.filter_map(move |net| {
            let resource = Resource::Ipv6(net);
            let vrf = vrf.clone();
            self.record.get(&Place { vrf, resource })
        })
    }

    fn held_in<'a>(&'a self, pool: &Pool) -> impl Iterator<Item = &'a Allocation> + use<'a> {
        let vrf = pool.vrf().to_owned();
        ends(pool)
            .into_iter()
            .flat_map(move |(first, last)| self.record.between(&vrf, first, last))
            .filter(|allocation| allocation.state.is_held())
    }
}

/// First and last unit of a pool.
fn ends(pool: &Pool) -> Option<(Resource, Resource)> {
    let last = pool.shards().next_back()?;
    let first = pool.resource(pool.shards().next()?, 0)?;
    Some((
        first,
        pool.resource(last, pool.units(last).checked_sub(1)?)?,
    ))
}

/// All units of a pool, those that are never handed out included.
fn units_of(pool: &Pool) -> u64 {
    let Some(last) = pool.shards().next_back() else {
        return 0;
    };
    let full = pool.units(ShardId(0)).saturating_mul(u64::from(last.0));
    full.saturating_add(pool.units(last))
}

fn check_size(spec: &PoolSpec) -> Result<(), Refused> {
    let size = serde_json::to_vec(spec).map_or(usize::MAX, |text| text.len());
    if size > MAX_POOL_BYTES {
        let problem = format!(
            "the pool takes {size} bytes, at most {MAX_POOL_BYTES}: join exclusions, shorten labels"
        );
        return Err(Refused::invalid("exclusions", problem));
    }
    Ok(())
}
