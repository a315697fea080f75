//! Pools: create, read, update, delete, and how full they are.

use nexus_core::id::PoolId;
use nexus_core::pool::{Pool, PoolSpec};
use nexus_core::resource::ResourceType;
use nexus_core::shard::ShardState;
use nexus_core::shard_table::Command;

use super::Centre;
use crate::allocation::Allocation;
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

    /// Looks whether a pool can be changed, and gives the command that does it. Its space and shards stay as
    /// they are, and nothing that is held may be excluded.
    ///
    /// # Errors
    /// What is wrong with the change, or what stands in its way.
    pub fn prepare_update(
        &self,
        id: &PoolId,
        spec: PoolSpec,
        if_match: Option<&str>,
    ) -> Result<Command, Refused> {
        self.check_etag(id, if_match)?;
        if spec.id != *id {
            let problem = format!("must be {id}, as in the path: the id of a pool cannot change");
            return Err(Refused::invalid("id", problem));
        }
        check_size(&spec)?;
        let pool = Pool::new(spec)?;
        if pool.same_geometry(self.pool(id)?) {
            self.check_cuts_nothing_off(&pool)?;
        }
        let spec = Box::new(pool.spec().clone());
        Ok(Command::UpdatePool { spec })
    }

    /// Looks whether a pool can be removed, because nobody holds anything of it, and gives the command that
    /// does it.
    ///
    /// # Errors
    /// [`Refused::PoolHasAllocations`], [`Refused::UnknownPool`], [`Refused::EtagMismatch`].
    pub fn prepare_delete(&self, id: &PoolId, if_match: Option<&str>) -> Result<Command, Refused> {
        self.check_etag(id, if_match)?;
        let count = self.record.counts(id).held();
        if count > 0 {
            return Err(Refused::PoolHasAllocations {
                pool: id.clone(),
                count,
            });
        }
        Ok(Command::RemovePool { pool: id.clone() })
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
        for row in self.table().shards(id) {
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

    /// Nothing that a subscriber holds may become excluded.
    fn check_cuts_nothing_off(&self, pool: &Pool) -> Result<(), Refused> {
        let cut_off: Vec<&Allocation> = self
            .held_in(pool)
            .filter(|allocation| !pool.is_allocatable(&allocation.place.resource))
            .collect();
        match cut_off.first() {
            None => Ok(()),
            Some(first) => Err(Refused::CutsOff {
                pool: pool.id().clone(),
                count: u64::try_from(cut_off.len()).unwrap_or(u64::MAX),
                first: first.place.resource,
            }),
        }
    }

    /// Allocations can outlive their pool on OLTs that were cut off; their resources must not be handed out
    /// again by a new pool.
    fn check_leftovers(&self, pool: &Pool) -> Result<(), Refused> {
        let left = self.held_in(pool).collect::<Vec<_>>();
        match left.first() {
            None => Ok(()),
            Some(first) => Err(Refused::PoolHasAllocations {
                pool: first.pool.clone(),
                count: u64::try_from(left.len()).unwrap_or(u64::MAX),
            }),
        }
    }

    fn held_in<'a>(&'a self, pool: &Pool) -> impl Iterator<Item = &'a Allocation> + use<'a> {
        let last_shard = pool.shards().next_back();
        let ends = last_shard.and_then(|shard| {
            let last_unit = pool.units(shard).checked_sub(1)?;
            let first = pool.resource(pool.shards().next()?, 0)?;
            Some((first, pool.resource(shard, last_unit)?))
        });
        let vrf = pool.vrf().to_owned();
        ends.into_iter()
            .flat_map(move |(first, last)| self.record.between(&vrf, first, last))
            .filter(|allocation| allocation.state.is_held())
    }
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
