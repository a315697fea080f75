//! Allocations that the centre makes itself, out of shards that the cluster keeps, and releases that are
//! asked of the centre.

use std::collections::BTreeMap;
use std::sync::Arc;

use nexus_clset::Fence;
use nexus_core::id::{OltId, PoolId, Seq, SessionId, SubscriberId};
use nexus_core::shard::ShardKey;
use nexus_core::shard_table::{Command, Pin, PinUnit, UnitGrant};
use nexus_core::time::BootTime;

use super::Centre;
use super::idempotency::{KEYS_PREFIX, Keys, fingerprint};
use super::unused::in_time;
use crate::allocation::{Allocation, AllocationState, Place, check_metadata, to_millisecond};
use crate::clock::Now;
use crate::refused::Refused;

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
    /// The OLT, if it asks itself.
    pub asker: Option<Asker>,
    /// A repeat with the same key gets the same answer, whatever has happened since.
    pub key: Option<String>,
}

/// An OLT that asks for a subscriber of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Its session.
    pub session: SessionId,
    /// Highest number of a command that it has used in this session.
    pub last_seq: Seq,
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

/// A unit of a shard that the cluster keeps. Any server may allocate it, so that the quorum decides who does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The shard.
    pub shard: ShardKey,
    /// Number of the unit in it.
    pub unit: u64,
    /// Its pool is pinned.
    pub pinned: bool,
    /// Where it is to be then; nowhere if no OLT was named.
    pub on: Option<Pin>,
}

impl Unit {
    /// A unit of a pool that is not pinned.
    pub(super) fn new(shard: ShardKey, unit: u64) -> Self {
        Self {
            shard,
            unit,
            pinned: false,
            on: None,
        }
    }

    /// The command that takes it for a subscriber; `server` is the number of this server.
    #[must_use]
    pub fn command(&self, holder: &SubscriberId, server: u32) -> Command {
        let (shard, unit, holder) = (self.shard.clone(), self.unit, holder.clone());
        if self.pinned {
            let at = self.on.clone();
            return Command::PinUnit(PinUnit {
                shard,
                unit,
                holder,
                server,
                at,
            });
        }
        Command::TakeUnit {
            shard,
            unit,
            holder,
            server,
        }
    }
}

/// The right to a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Its numbers.
    pub unit: UnitGrant,
    /// Nobody had the right to it before, not even the subscriber.
    pub is_new: bool,
    /// When it was asked for.
    pub since: BootTime,
}

/// What a request for a resource needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prepared {
    /// Nothing: this is the answer.
    Done(Arc<Allocation>, Outcome),
    /// The right to this unit, to be asked of the quorum.
    Take(Unit),
}

impl Centre {
    /// Looks what the subscriber has in the pool, or for a unit of the shards that the cluster keeps.
    ///
    /// # Errors
    /// Why there is nothing for the subscriber.
    pub fn prepare_central(
        &mut self,
        now: &Now,
        request: &CentralRequest,
    ) -> Result<Prepared, Refused> {
        let fingerprint = fingerprint(request);
        if let Some(key) = &request.key
            && let Some(answer) = self.keys.answer(key, &fingerprint, now.wall)?
        {
            return Ok(Prepared::Done(answer, Outcome::Repeated));
        }
        check_metadata(&request.metadata)
            .map_err(|problem| Refused::invalid("metadata", problem))?;
        if self.table().is_being_removed(&request.pool) {
            return Err(Refused::BeingRemoved(request.pool.clone()));
        }
        self.pool(&request.pool)?;
        if let Some(olt) = request.olt.as_ref().filter(|olt| !olt.is_cluster())
            && self.table().is_gone(olt)
        {
            return Err(Refused::UnknownOlt(olt.clone()));
        }
        if self.pool(&request.pool)?.is_pinned() {
            return self.prepare_pinned(now, request);
        }
        if let Some(held) = self.held_already(request) {
            return Ok(Prepared::Done(held, Outcome::Repeated));
        }
        self.to_be_taken_again(request)
            .or_else(|| self.had_before(&request.subscriber, &request.pool))
            .or_else(|| self.free_unit(&request.pool))
            .map(Prepared::Take)
            .ok_or_else(|| Refused::Exhausted {
                pool: request.pool.clone(),
            })
    }

    /// Allocates a unit to which the quorum has given the right. The subscriber may have got something else
    /// meanwhile; then that is the answer, and the unit is not used. `None` if another server answers for the same
    /// subscriber at this moment: nothing is done then. `waits` says whether to leave it to that one, as long as it may
    /// be about to answer.
    ///
    /// # Errors
    /// If the store cannot be read, or [`Refused::OutcomeUnknown`] if the right was asked for too long ago.
    pub fn finish_central(
        &mut self,
        now: &Now,
        request: &CentralRequest,
        unit: &Unit,
        grant: &Granted,
        waits: bool,
    ) -> Result<Option<(Arc<Allocation>, Outcome)>, Refused> {
        if !unit.pinned
            && let Some(held) = self.held_already(request)
        {
            return Ok(Some((held, Outcome::Repeated)));
        }
        let taken = self.table().taken_unit(&unit.shard, unit.unit);
        let on = unit.on.as_ref();
        if taken.is_none_or(|taken| taken.grant.seq != grant.unit.seq || taken.at != on) {
            return Ok(None);
        }
        if !unit.pinned && waits && self.has_another_right(request, unit) {
            return Ok(None);
        }
        in_time(now, grant.since)?;
        let pool = self.pool(&request.pool)?;
        let resource =
            pool.resource(unit.shard.shard, unit.unit)
                .ok_or_else(|| Refused::Exhausted {
                    pool: request.pool.clone(),
                })?;
        let place = Place {
            vrf: pool.vrf().to_owned(),
            resource,
        };
        let before = self
            .record
            .active(&request.subscriber, &request.pool)
            .cloned();
        let (bound, moved) = match before {
            Some(before) if before.place == place => (Some(before), None),
            other => (None, other),
        };
        let at = to_millisecond(now.wall);
        let stays_on = bound.as_ref().filter(|_| !unit.pinned);
        let olt = request
            .olt
            .clone()
            .or_else(|| Some(stays_on?.olt.clone()))
            .unwrap_or_else(OltId::cluster);
        let allocation = Allocation {
            place,
            pool: request.pool.clone(),
            subscriber: request.subscriber.clone(),
            olt,
            session: None,
            shard: unit.shard.shard,
            epoch: grant.unit.epoch,
            seq: grant.unit.seq,
            state: AllocationState::Active,
            made_at: bound.as_ref().map_or(at, |bound| bound.made_at),
            changed_at: at,
            metadata: match &bound {
                Some(bound) => bound.metadata.clone(),
                None => request.metadata.clone(),
            },
        };
        let fence = Fence {
            epoch: grant.unit.epoch.0,
            seq: grant.unit.seq.0,
        };
        let fresh = self.save(now, fence, allocation)?;
        // Another OLT has bound what it had: the new one gets an address of its own before the old one goes.
        if let Some(moved) = moved {
            self.ask_back(now, moved)?;
        }
        let outcome = match bound {
            Some(_) => Outcome::Repeated,
            None => Outcome::New,
        };
        Ok(Some((fresh, outcome)))
    }

    /// Remembers the answer under the request's idempotency key. To be called when it is certain.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn remember(
        &mut self,
        now: &Now,
        request: &CentralRequest,
        answer: &Allocation,
    ) -> Result<(), Refused> {
        let Some(key) = &request.key else {
            return Ok(());
        };
        let value = Keys::value(fingerprint(request), answer, now.wall);
        self.replicate(
            now,
            &format!("{KEYS_PREFIX}{key}"),
            Some((Fence::NONE, value)),
        )?;
        self.follow(now);
        Ok(())
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
