//! Allocations that the centre makes itself, out of shards that the cluster keeps, and releases that are
//! asked of the centre.

use std::collections::BTreeMap;
use std::sync::Arc;

use nexus_core::id::{Epoch, OltId, PoolId, Seq, ShardId, SubscriberId};
use nexus_core::shard::{ShardKey, ShardState};

use super::Centre;
use super::idempotency::fingerprint;
use crate::allocation::{Allocation, AllocationState, Place, check_metadata, to_millisecond};
use crate::clock::Now;
use crate::refused::Refused;

/// Units that one search for a free one looks at.
const MAX_SEARCH: u64 = 1_000_000;

/// Somebody asks the centre for a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CentralRequest {
    /// Pool to take it from.
    pub pool: PoolId,
    /// Who gets it.
    pub subscriber: SubscriberId,
    /// OLT that the subscriber is on, if any.
    pub olt: Option<OltId>,
    /// Labels.
    pub metadata: BTreeMap<String, String>,
    /// A repeat with the same key gets the same answer, whatever has happened since.
    pub key: Option<String>,
}

/// Whether an allocation is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was made now.
    New,
    /// It was there before.
    Repeated,
}

/// What a release asked of the centre has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Released {
    /// The allocations, in the order of their pools. Those that an OLT has are still held.
    pub allocations: Vec<Arc<Allocation>>,
}

impl Released {
    /// Whether an OLT still has to release something.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.allocations
            .iter()
            .any(|allocation| allocation.state.is_held())
    }
}

impl Centre {
    /// Allocates from the shards that the cluster keeps, or gives what the subscriber has in the pool.
    ///
    /// # Errors
    /// Why there is nothing for the subscriber.
    pub fn allocate_central(
        &mut self,
        now: &Now,
        request: CentralRequest,
    ) -> Result<(Arc<Allocation>, Outcome), Refused> {
        let fingerprint = fingerprint(&request);
        if let Some(key) = &request.key
            && let Some(answer) = self.keys.answer(key, &fingerprint, now.wall)?
        {
            return Ok((answer, Outcome::Repeated));
        }
        check_metadata(&request.metadata)
            .map_err(|problem| Refused::invalid("metadata", problem))?;
        if self.table().is_being_removed(&request.pool) {
            return Err(Refused::BeingRemoved(request.pool));
        }
        self.pool(&request.pool)?;
        if let Some(olt) = request.olt.as_ref().filter(|olt| !olt.is_cluster())
            && self.table().olt(olt).is_none()
        {
            return Err(Refused::UnknownOlt(olt.clone()));
        }
        let key = request.key.clone();
        let answer = self.find_or_make(now, request)?;
        if let Some(key) = key {
            let writes = self.keys.remember(key, fingerprint, &answer.0, now.wall);
            self.effects
                .writes
                .extend(writes.into_iter().map(|write| vec![write]));
        }
        Ok(answer)
    }

    fn find_or_make(
        &mut self,
        now: &Now,
        request: CentralRequest,
    ) -> Result<(Arc<Allocation>, Outcome), Refused> {
        let olt = request.olt.clone().unwrap_or_else(OltId::cluster);
        let held = self
            .record
            .active(&request.subscriber, &request.pool)
            .cloned();
        if let Some(mut held) = held {
            if olt.is_cluster() || held.olt == olt {
                return Ok((Arc::new(held), Outcome::Repeated));
            }
            if held.olt.is_cluster() {
                // Nobody had bound it yet, so that it may go to the OLT as it is.
                held.olt = olt;
                held.changed_at = to_millisecond(now.wall);
                return Ok((self.save(now, held)?, Outcome::Repeated));
            }
            // Another OLT has bound it: the new one gets an address of its own before the old one goes.
            let fresh = self.make(now, &request, olt)?;
            self.ask_back(now, held)?;
            return Ok((fresh, Outcome::New));
        }
        Ok((self.make(now, &request, olt)?, Outcome::New))
    }

    fn make(
        &mut self,
        now: &Now,
        request: &CentralRequest,
        olt: OltId,
    ) -> Result<Arc<Allocation>, Refused> {
        let (place, shard, epoch) = self
            .had_before(&request.subscriber, &request.pool)
            .or_else(|| self.free_place(&request.pool))
            .ok_or_else(|| Refused::Exhausted {
                pool: request.pool.clone(),
            })?;
        let at = to_millisecond(now.wall);
        let allocation = Allocation {
            place,
            pool: request.pool.clone(),
            subscriber: request.subscriber.clone(),
            olt,
            session: None,
            shard,
            epoch,
            seq: Seq(0),
            state: AllocationState::Active,
            made_at: at,
            changed_at: at,
            metadata: request.metadata.clone(),
        };
        self.save(now, allocation)
    }

    /// Shards of a pool that the cluster keeps and may allocate from.
    fn kept_shards(&self, pool: &PoolId) -> Vec<(ShardId, Epoch)> {
        self.table()
            .shards(pool)
            .filter(|row| row.state == ShardState::Owned)
            .filter(|row| {
                row.owner
                    .as_ref()
                    .is_some_and(|owner| owner.olt.is_cluster())
            })
            .map(|row| (row.key.shard, row.epoch))
            .collect()
    }

    /// The resource that the subscriber had last, if it still cools down: same subscriber, same address.
    fn had_before(
        &self,
        subscriber: &SubscriberId,
        pool: &PoolId,
    ) -> Option<(Place, ShardId, Epoch)> {
        let kept = self.kept_shards(pool);
        let spec = self.table().pool(pool)?;
        self.record.of_subscriber(subscriber).find_map(|known| {
            let (shard, epoch) = *kept.iter().find(|(shard, _)| *shard == known.shard)?;
            let free = known.pool == *pool
                && known.state == AllocationState::Released
                && spec.is_allocatable(&known.place.resource);
            free.then(|| (known.place.clone(), shard, epoch))
        })
    }

    /// The next free resource of the kept shards. The search goes on where the last one ended, so that what
    /// was released last comes back last.
    fn free_place(&mut self, pool: &PoolId) -> Option<(Place, ShardId, Epoch)> {
        for (shard, epoch) in self.kept_shards(pool) {
            let key = ShardKey {
                pool: pool.clone(),
                shard,
            };
            let from = self.cursors.get(&key).copied().unwrap_or(0);
            if let Some((unit, place)) = self.search(&key, from) {
                self.cursors.insert(key, unit.saturating_add(1));
                return Some((place, shard, epoch));
            }
        }
        None
    }

    fn search(&self, key: &ShardKey, from: u64) -> Option<(u64, Place)> {
        let pool = self.table().pool(&key.pool)?;
        let units = pool.units(key.shard);
        let taken = self.in_shard(&key.pool, key.shard).count();
        if u64::try_from(taken).is_ok_and(|taken| taken >= pool.allocatable_units(key.shard)) {
            return None;
        }
        (from..units)
            .chain(0..from.min(units))
            .take(usize::try_from(MAX_SEARCH).unwrap_or(usize::MAX))
            .filter(|unit| pool.is_allocatable_unit(key.shard, *unit))
            .find_map(|unit| {
                let place = Place {
                    vrf: pool.vrf().to_owned(),
                    resource: pool.resource(key.shard, unit)?,
                };
                self.record.get(&place).is_none().then_some((unit, place))
            })
    }

    /// Ends what a subscriber holds, in one pool or in all. What a registered OLT has, that OLT is asked to
    /// release; everything else is released at once.
    ///
    /// # Errors
    /// [`Refused::NoAllocation`] if it holds nothing, [`Refused::UnknownPool`].
    pub fn deallocate(
        &mut self,
        now: &Now,
        subscriber: &SubscriberId,
        pool: Option<&PoolId>,
    ) -> Result<Released, Refused> {
        let held: Vec<Allocation> = self
            .record
            .of_subscriber(subscriber)
            .filter(|known| known.state.is_held() && pool.is_none_or(|pool| known.pool == *pool))
            .cloned()
            .collect();
        if held.is_empty() {
            if let Some(pool) = pool {
                self.pool(pool)?;
            }
            return Err(Refused::NoAllocation {
                subscriber: subscriber.clone(),
                pool: pool.cloned(),
            });
        }
        let allocations = held
            .into_iter()
            .map(|allocation| self.ask_back(now, allocation))
            .collect::<Result<_, _>>()?;
        Ok(Released { allocations })
    }
}
