//! Pinned pools: each unit is given out by the centre and moves with its subscriber. It is on one OLT at a time,
//! which the shard table knows; another one gets it only after that OLT has said that it has released it.

use std::sync::Arc;

use nexus_core::id::{OltId, PoolId, Seq};
use nexus_core::placement::serves_region;
use nexus_core::pool::Pool;
use nexus_core::resource::Resource;
use nexus_core::shard::ShardKey;
use nexus_core::shard_table::{Command, Pin, TakenUnit};

use super::Centre;
use super::central::{CentralRequest, Outcome, Prepared, Unit};
use super::claims::Release;
use crate::allocation::{Allocation, AllocationState, Place};
use crate::clock::Now;
use crate::refused::Refused;

/// What the subscriber has of the pool, as the table knows it.
struct Mine {
    place: Place,
    unit: Unit,
    /// It is on another OLT, which may still serve it.
    elsewhere: Option<OltId>,
}

impl Centre {
    /// What the subscriber has in a pinned pool, or the unit that is to be asked for: the one that is kept for
    /// it, the one that it had, or a free one.
    ///
    /// # Errors
    /// [`Refused::BeingMoved`] as long as what it has is on another OLT, which has then been asked for it.
    pub(super) fn prepare_pinned(
        &mut self,
        now: &Now,
        request: &CentralRequest,
    ) -> Result<Prepared, Refused> {
        let olt = request.olt.clone().filter(|olt| !olt.is_cluster());
        self.check_asker(request, olt.as_ref())?;
        let pool = self.pool(&request.pool)?.clone();
        let at = olt.as_ref().map(|olt| Pin {
            olt: olt.clone(),
            session: request.asker.as_ref().map(|asker| asker.session.clone()),
            after: request
                .asker
                .as_ref()
                .map_or(Seq(0), |asker| asker.last_seq),
        });
        let mine = self.mine(&pool, request, at.as_ref());
        if let Some(held) = mine
            .iter()
            .find_map(|mine| self.stays(request, mine, at.as_ref()))
        {
            return Ok(Prepared::Done(held, Outcome::Repeated));
        }
        let fixed = pool.static_of(&request.subscriber);
        for mine in &mine {
            let unit = (mine.unit.shard.shard, mine.unit.unit);
            // What is here and is not what is kept for the subscriber goes before that is given.
            let here = mine.unit.on.as_ref().map(|pin| pin.olt.clone());
            let leaves = here.filter(|_| fixed.is_some_and(|fixed| fixed != unit));
            if let Some(there) = mine.elsewhere.clone().or(leaves) {
                if at.is_some() {
                    self.call_back(now, mine)?;
                }
                return Err(Refused::BeingMoved(format!(
                    "{} of subscriber {} is still on OLT {there}, which has to release it",
                    mine.place.resource, request.subscriber
                )));
            }
            let known = self.record.get(&mine.place);
            if known.is_some_and(|known| {
                known.state == AllocationState::Releasing && !self.table().is_gone(&known.olt)
            }) {
                return Err(Refused::BeingMoved(format!(
                    "{} of subscriber {} is being released",
                    mine.place.resource, request.subscriber
                )));
            }
        }
        let key = |shard| ShardKey {
            pool: pool.id().clone(),
            shard,
        };
        let unit = match fixed {
            Some((shard, unit)) => {
                let shard = key(shard);
                self.check_kept(&pool, request, &shard, unit)?;
                Some((shard, unit))
            }
            None => mine
                .into_iter()
                .map(|mine| (mine.unit.shard, mine.unit.unit))
                .find(|(shard, unit)| pool.is_allocatable_unit(shard.shard, *unit))
                .or_else(|| {
                    self.free_unit(pool.id())
                        .map(|unit| (unit.shard, unit.unit))
                }),
        };
        let (shard, unit) = unit.ok_or_else(|| Refused::Exhausted {
            pool: pool.id().clone(),
        })?;
        Ok(Prepared::Take(Unit {
            shard,
            unit,
            pinned: true,
            on: at,
        }))
    }

    fn check_asker(&self, request: &CentralRequest, olt: Option<&OltId>) -> Result<(), Refused> {
        let Some(olt) = olt else {
            return Ok(());
        };
        if let Some(asker) = &request.asker {
            self.current_session(olt, &asker.session)?;
        }
        let pool = self.pool(&request.pool)?;
        let region = self.table().olt(olt).map(|view| view.row.region.clone());
        match region {
            Some(region) if !serves_region(pool, &region) => Err(Refused::invalid(
                "olt_id",
                format!(
                    "OLT {olt} stands in region `{region}`, and pool {} is for `{}`",
                    pool.id(),
                    pool.region().unwrap_or_default()
                ),
            )),
            _ => Ok(()),
        }
    }

    fn mine(&self, pool: &Pool, request: &CentralRequest, at: Option<&Pin>) -> Vec<Mine> {
        let units = self.table().units_of(pool.id(), &request.subscriber);
        let mine = |taken: TakenUnit<'_>| {
            let resource = pool.resource(taken.shard.shard, taken.unit)?;
            let here = taken
                .at
                .is_none_or(|pin| Some(&pin.olt) == at.map(|at| &at.olt));
            let elsewhere = taken
                .at
                .filter(|pin| !here && !self.table().is_gone(&pin.olt));
            Some(Mine {
                place: place_of(pool, resource),
                elsewhere: elsewhere.map(|pin| pin.olt.clone()),
                unit: Unit {
                    shard: taken.shard,
                    unit: taken.unit,
                    pinned: true,
                    on: taken.at.filter(|_| here).cloned(),
                },
            })
        };
        units.filter_map(mine).collect()
    }

    /// What the subscriber has, if nothing is to be decided: it is on record as the table knows it, where it is
    /// asked for. An OLT that asks itself gets it under a new number if it has used numbers since, so that
    /// a release that it sent before does not count.
    fn stays(
        &self,
        request: &CentralRequest,
        mine: &Mine,
        at: Option<&Pin>,
    ) -> Option<Arc<Allocation>> {
        let known = self.record.get(&mine.place)?;
        let taken = self.table().taken_unit(&mine.unit.shard, mine.unit.unit)?;
        if known.state != AllocationState::Active || known.subscriber != request.subscriber {
            return None;
        }
        let fixed = self
            .pool(&request.pool)
            .ok()?
            .static_of(&request.subscriber);
        let right = fixed.is_none_or(|fixed| fixed == (mine.unit.shard.shard, mine.unit.unit));
        let stays = match at {
            // Whoever only asks what the subscriber has does not move it.
            None => true,
            _ if !right || known.seq != taken.grant.seq => false,
            Some(at) if at.session.is_none() => taken.at.is_some_and(|pin| pin.olt == at.olt),
            Some(at) => taken.at == Some(at),
        };
        stays.then(|| Arc::new(known.clone()))
    }

    /// Asks the OLT that a unit is on for it. If it has released it, and the word was lost on its way to the
    /// quorum, that is said again.
    fn call_back(&mut self, now: &Now, mine: &Mine) -> Result<(), Refused> {
        let Some(known) = self.record.get(&mine.place).cloned() else {
            return Ok(());
        };
        match known.state {
            AllocationState::Active => self.ask_back(now, known).map(drop),
            AllocationState::Releasing => Ok(()),
            AllocationState::Released => {
                self.left(&known);
                Ok(())
            }
        }
    }

    /// Whether a unit that is kept for the subscriber is free for it.
    fn check_kept(
        &self,
        pool: &Pool,
        request: &CentralRequest,
        shard: &ShardKey,
        unit: u64,
    ) -> Result<(), Refused> {
        let Some(taken) = self.table().taken_unit(shard, unit) else {
            return Ok(());
        };
        if *taken.holder == request.subscriber {
            return Ok(());
        }
        let resource = pool.resource(shard.shard, unit);
        Err(Refused::BeingMoved(format!(
            "{}, which is kept for subscriber {}, is still with {}, until that one's allocation ends and has rested",
            resource.map_or_else(String::new, |resource| resource.to_string()),
            request.subscriber,
            taken.holder
        )))
    }

    /// Whether a release counts for what is on record of a unit of a pinned pool; for everything else it does.
    ///
    /// # Errors
    /// [`Refused::NotNow`] if this server does not know what the cluster has decided about the unit.
    pub(super) fn counts_for(
        &self,
        release: &Release,
        known: &Allocation,
    ) -> Result<bool, Refused> {
        let Some((shard, unit)) = self.pinned_unit(known) else {
            return Ok(true);
        };
        let Some(taken) = self.table().taken_unit(&shard, unit) else {
            return Ok(true);
        };
        if taken.grant.seq != known.seq {
            return Err(Refused::NotNow(format!(
                "the record of {} and the cluster's decision about it do not agree here yet",
                known.place.resource
            )));
        }
        let pin = taken.at;
        Ok(!pin.is_some_and(|pin| pin.is_later_than(&release.session, release.seq)))
    }

    /// Tells the quorum that the OLT where a unit of a pinned pool was has released it.
    pub(super) fn left(&mut self, known: &Allocation) {
        if let Some((shard, unit)) = self.pinned_unit(known) {
            let seq = known.seq;
            let left = Command::LeaveUnit { shard, unit, seq };
            self.effects.proposals.push(left);
        }
    }

    /// Units of pinned pools that this server took, and did not come to record.
    pub(super) fn finish_pins(
        &mut self,
        now: &Now,
        unfinished: Vec<(ShardKey, u64)>,
    ) -> Result<(), Refused> {
        for (shard, unit) in unfinished {
            let Some(pool) = self
                .table()
                .pool(&shard.pool)
                .filter(|pool| pool.is_pinned())
            else {
                continue;
            };
            let Some(resource) = pool.resource(shard.shard, unit) else {
                continue;
            };
            let Some(known) = self.record.get(&place_of(pool, resource)).cloned() else {
                continue;
            };
            let Some(taken) = self.table().taken_unit(&shard, unit) else {
                continue;
            };
            if known.seq >= taken.grant.seq || *taken.holder != known.subscriber {
                continue;
            }
            let grant = taken.grant;
            let olt = taken.at.map_or_else(OltId::cluster, |pin| pin.olt.clone());
            if known.state == AllocationState::Released {
                // The OLT that asked for it was never told that it has it.
                let seq = grant.seq;
                let left = Command::LeaveUnit { shard, unit, seq };
                self.effects.proposals.push(left);
                continue;
            }
            let fence = nexus_clset::Fence {
                epoch: grant.epoch.0,
                seq: grant.seq.0,
            };
            let finished = Allocation {
                olt,
                session: None,
                epoch: grant.epoch,
                seq: grant.seq,
                ..known
            };
            self.save(now, fence, finished)?;
        }
        Ok(())
    }

    /// The unit of a pinned pool that an allocation is of.
    fn pinned_unit(&self, known: &Allocation) -> Option<(ShardKey, u64)> {
        let id: &PoolId = &known.pool;
        let pool = self.table().pool(id).filter(|pool| pool.is_pinned())?;
        let (shard, unit) = pool.locate(&known.place.resource)?;
        let pool = id.clone();
        Some((ShardKey { pool, shard }, unit))
    }
}

pub(super) fn place_of(pool: &Pool, resource: Resource) -> Place {
    Place {
        vrf: pool.vrf().to_owned(),
        resource,
    }
}
