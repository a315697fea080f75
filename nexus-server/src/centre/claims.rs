//! What OLTs report of their own shards: allocations they have made, and releases.
//!
//! Commands of a session are numbered. They may be repeated, overtake each other, or arrive long after they
//! were answered; the record must come out as if each had arrived once and in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use nexus_clset::{Dot, Fence};
use nexus_core::id::{Epoch, OltId, PoolId, Seq, SessionId, ShardId, SubscriberId};
use nexus_core::resource::Resource;
use nexus_core::shard::ShardRef;

use super::Centre;
use super::central::Outcome;
use crate::allocation::{Allocation, AllocationState, Place, check_metadata, to_millisecond};
use crate::clock::Now;
use crate::refused::Refused;

/// An allocation that an OLT has made from its own shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The OLT.
    pub olt: OltId,
    /// Its session.
    pub session: SessionId,
    /// Number of this command in the session.
    pub seq: Seq,
    /// All commands below have been acknowledged to the OLT.
    pub acked_below: Seq,
    /// Pool of the resource.
    pub pool: PoolId,
    /// Who got it.
    pub subscriber: SubscriberId,
    /// What it got, as text of the pool's type.
    pub resource: String,
    /// Shard that the resource lies in.
    pub shard: ShardId,
    /// Epoch under which the OLT owns the shard.
    pub epoch: Epoch,
    /// Labels.
    pub metadata: BTreeMap<String, String>,
    /// When the OLT made it, by its wall clock; now if it does not say, or says that it has yet to come.
    pub made_at: Option<Timestamp>,
}

/// The end of an allocation, as an OLT reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The OLT.
    pub olt: OltId,
    /// Its session.
    pub session: SessionId,
    /// Number of this command in the session.
    pub seq: Seq,
    /// All commands below have been acknowledged to the OLT.
    pub acked_below: Seq,
    /// Pool of the resource.
    pub pool: PoolId,
    /// Who had it.
    pub subscriber: SubscriberId,
    /// What it had; if empty, whatever it holds in the pool on this OLT.
    pub resource: String,
    /// Shard that the resource lies in.
    pub shard: ShardId,
    /// Epoch under which the OLT owns or owned the shard.
    pub epoch: Epoch,
    /// Why, for the log.
    pub reason: String,
}

impl Centre {
    /// Records what an OLT has allocated from its own shard.
    ///
    /// # Errors
    /// Why the record does not take it; the OLT may not count on the resource then.
    pub fn record_claim(
        &mut self,
        now: &Now,
        mut claim: Claim,
    ) -> Result<(Arc<Allocation>, Outcome), Refused> {
        self.check_command(&claim.olt, &claim.session, claim.seq, claim.acked_below)?;
        // A clock that is ahead would make this the later stay of a subscriber that has gone elsewhere since.
        claim.made_at = claim.made_at.map(|made_at| made_at.min(now.wall));
        let place = self.place_in_shard(&claim.pool, &claim.resource, claim.shard)?;
        check_metadata(&claim.metadata).map_err(|problem| Refused::invalid("metadata", problem))?;
        let shard = ShardRef {
            pool: claim.pool.clone(),
            shard: claim.shard,
            epoch: claim.epoch,
        };
        let known = self.record.get(&place).cloned();
        if let Some(known) = &known
            && known.session.as_ref() == Some(&claim.session)
            && known.olt == claim.olt
        {
            let same = known.subscriber == claim.subscriber && known.pool == claim.pool;
            if known.seq == claim.seq && same && known.state.is_held() {
                // If the shard has moved since, what stands here may never have got to a majority.
                self.table()
                    .check_owner(&claim.olt, &claim.session, &shard)?;
                return Ok((Arc::new(known.clone()), Outcome::Repeated));
            }
            if known.seq >= claim.seq {
                return Err(Refused::StaleSeq {
                    resource: place.resource,
                    known: known.seq.0,
                    given: claim.seq.0,
                });
            }
        }
        self.table()
            .check_owner(&claim.olt, &claim.session, &shard)?;
        if !self.pool(&claim.pool)?.is_allocatable(&place.resource) {
            let problem = format!(
                "{} may not be handed out: it is excluded or reserved",
                place.resource
            );
            return Err(Refused::invalid("resource", problem));
        }
        if let Some(known) = &known
            && known.state.is_held()
            && known.subscriber != claim.subscriber
            && !released_elsewhere(known, &claim)
        {
            self.disputes.refused(&place, &claim.subscriber, &claim.olt);
            return Err(Refused::ResourceTaken {
                resource: place.resource,
            });
        }
        let state = self.leave_other_resources(now, &claim, &place)?;
        // A subscriber that comes again to where it had it has come later than to anywhere else.
        let claimed_at = to_millisecond(claim.made_at.unwrap_or(now.wall));
        let again = known
            .as_ref()
            .filter(|known| known.state.is_held() && known.subscriber == claim.subscriber);
        let made_at = match again {
            Some(known) if claim.made_at.is_none() => known.made_at,
            Some(known) => known.made_at.max(claimed_at),
            None => claimed_at,
        };
        let allocation = Allocation {
            place,
            pool: claim.pool,
            subscriber: claim.subscriber,
            olt: claim.olt.clone(),
            session: Some(claim.session.clone()),
            shard: claim.shard,
            epoch: claim.epoch,
            seq: claim.seq,
            state,
            made_at,
            changed_at: to_millisecond(now.wall),
            metadata: claim.metadata,
        };
        let fence = Fence {
            epoch: claim.epoch.0,
            seq: claim.seq.0,
        };
        let allocation = self.save(now, fence, allocation)?;
        self.advance_session(&claim.olt, &claim.session, claim.seq, claim.acked_below);
        Ok((allocation, Outcome::New))
    }

    /// Records that an OLT has ended an allocation. Gives where that stands, or what has made it needless; the OLT may
    /// count on it once a majority has that.
    ///
    /// # Errors
    /// Why the record does not take it.
    pub fn record_release(
        &mut self,
        now: &Now,
        release: Release,
    ) -> Result<Option<Place>, Refused> {
        self.check_command(
            &release.olt,
            &release.session,
            release.seq,
            release.acked_below,
        )?;
        let Some(place) = self.released_place(&release)? else {
            return Ok(None);
        };
        self.disputes
            .released(&place, &release.subscriber, &release.olt);
        match self.record.get(&place).cloned() {
            Some(known) if known.subscriber == release.subscriber || !known.state.is_held() => {
                self.release_known(now, &release, known)?;
            }
            // The subscriber does not have it any more; that somebody else does is no business of this OLT.
            Some(_) => return Ok(Some(place)),
            None => self.release_unknown(now, &release, place.clone())?,
        }
        self.advance_session(
            &release.olt,
            &release.session,
            release.seq,
            release.acked_below,
        );
        tracing::info!(
            olt = %release.olt, subscriber = %release.subscriber, pool = %release.pool,
            reason = %release.reason.escape_default(), "allocation released"
        );
        Ok(Some(place))
    }

    /// The write that the record of a resource stands by now.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn stands_by(&self, place: &Place) -> Result<Option<Dot>, Refused> {
        self.replica
            .dot(&place.key())
            .map_err(|error| Refused::Store(error.to_string()))
    }

    fn release_known(
        &mut self,
        now: &Now,
        release: &Release,
        mut known: Allocation,
    ) -> Result<(), Refused> {
        let resource = known.place.resource;
        if known.olt != release.olt {
            if known.state == AllocationState::Released {
                return Ok(());
            }
            if !known.is_central() && release.epoch < known.epoch {
                return Err(Refused::StaleEpoch {
                    resource,
                    current: known.epoch,
                    given: release.epoch,
                });
            }
            return Err(Refused::OtherOlt {
                resource,
                holder: known.olt,
                olt: release.olt.clone(),
            });
        }
        if !self.counts_for(release, &known)? {
            return Ok(());
        }
        if known.session.as_ref() == Some(&release.session) {
            if known.seq > release.seq || (known.seq == release.seq && known.state.is_held()) {
                return Err(Refused::StaleSeq {
                    resource,
                    known: known.seq.0,
                    given: release.seq.0,
                });
            }
            if known.seq == release.seq {
                return Ok(());
            }
        } else if !known.state.is_held() {
            return Ok(());
        }
        let mut fence = self.fence(&known.place)?;
        if !known.is_central() {
            // Numbers of another session say nothing beside those that the epoch began with.
            if known.session.as_ref() == Some(&release.session) {
                fence.seq = fence.seq.max(release.seq.0);
            }
            known.session = Some(release.session.clone());
            known.seq = release.seq;
        }
        known.state = AllocationState::Released;
        known.changed_at = to_millisecond(now.wall);
        let released = self.save(now, fence, known)?;
        self.left(&released);
        Ok(())
    }

    /// A release that has overtaken its allocation leaves a mark, so that the allocation is refused as the
    /// older of the two when it comes.
    fn release_unknown(
        &mut self,
        now: &Now,
        release: &Release,
        place: Place,
    ) -> Result<(), Refused> {
        let shard = ShardRef {
            pool: release.pool.clone(),
            shard: release.shard,
            epoch: release.epoch,
        };
        let table = self.table();
        if table
            .check_owner(&release.olt, &release.session, &shard)
            .is_err()
        {
            return Ok(());
        }
        let at = to_millisecond(now.wall);
        let mark = Allocation {
            place,
            pool: release.pool.clone(),
            subscriber: release.subscriber.clone(),
            olt: release.olt.clone(),
            session: Some(release.session.clone()),
            shard: release.shard,
            epoch: release.epoch,
            seq: release.seq,
            state: AllocationState::Released,
            made_at: at,
            changed_at: at,
            metadata: BTreeMap::new(),
        };
        let fence = Fence {
            epoch: release.epoch.0,
            seq: release.seq.0,
        };
        self.save(now, fence, mark).map(drop)
    }

    /// What a release is about; `None` if the subscriber holds nothing there (any more).
    fn released_place(&self, release: &Release) -> Result<Option<Place>, Refused> {
        if !release.resource.is_empty() {
            // The pool may be gone or have shrunk; its records may still be there.
            let left = || {
                let mut held = self.record.of_subscriber(&release.subscriber);
                held.find(|known| {
                    known.pool == release.pool
                        && known.place.resource.to_string() == release.resource
                })
                .map(|known| known.place.clone())
            };
            let Ok(pool) = self.pool(&release.pool) else {
                return Ok(left());
            };
            let resource = Resource::parse(pool.kind(), &release.resource)
                .map_err(|error| Refused::invalid("resource", error))?;
            if pool
                .locate(&resource)
                .is_none_or(|(shard, _)| shard != release.shard)
            {
                let outside = || outside(&resource, release.shard);
                return left().ok_or_else(outside).map(Some);
            }
            return Ok(Some(Place {
                vrf: pool.vrf().to_owned(),
                resource,
            }));
        }
        let held = self
            .record
            .of_subscriber(&release.subscriber)
            .find(|known| {
                known.pool == release.pool && known.olt == release.olt && known.state.is_held()
            });
        Ok(held.map(|known| known.place.clone()))
    }

    /// Checks who sends a command, and that it is not a copy of one that was answered long ago.
    fn check_command(
        &self,
        olt: &OltId,
        session: &SessionId,
        seq: Seq,
        acked_below: Seq,
    ) -> Result<(), Refused> {
        if seq == Seq(0) {
            return Err(Refused::invalid("seq", "commands are numbered from 1"));
        }
        if acked_below > seq {
            let problem = format!(
                "{acked_below} is above seq {seq}: a command cannot be acknowledged before it is sent"
            );
            return Err(Refused::invalid("acked_below", problem));
        }
        self.current_session(olt, session)?;
        let floor = self.acked_below(olt, session);
        if seq < floor {
            return Err(Refused::StrayCopy {
                floor: floor.0,
                given: seq.0,
            });
        }
        Ok(())
    }

    fn place_in_shard(
        &self,
        pool: &PoolId,
        resource: &str,
        shard: ShardId,
    ) -> Result<Place, Refused> {
        let pool = self.pool(pool)?;
        let resource = Resource::parse(pool.kind(), resource)
            .map_err(|error| Refused::invalid("resource", error))?;
        if pool.locate(&resource).is_none_or(|(of, _)| of != shard) {
            return Err(outside(&resource, shard));
        }
        Ok(Place {
            vrf: pool.vrf().to_owned(),
            resource,
        })
    }

    /// A subscriber has one active allocation per pool, and of all sharded pools of one type and vrf on one OLT
    /// at a time: what it has elsewhere is asked back, new before old. What it has of the pool on the same OLT in
    /// the same session, that OLT must release first. Gives the state of the claim: one that comes late, made
    /// before what the subscriber has elsewhere now, is asked back itself.
    fn leave_other_resources(
        &mut self,
        now: &Now,
        claim: &Claim,
        place: &Place,
    ) -> Result<AllocationState, Refused> {
        let same_pool = self.record.active(&claim.subscriber, &claim.pool);
        let same_pool = same_pool.filter(|other| other.place != *place).cloned();
        if let Some(other) = &same_pool
            && other.olt == claim.olt
            && other.session.as_ref() == Some(&claim.session)
        {
            return Err(Refused::ReleaseFirst {
                subscriber: claim.subscriber.clone(),
                pool: claim.pool.clone(),
                held: other.place.resource,
            });
        }
        let elsewhere = self
            .record
            .of_subscriber(&claim.subscriber)
            .filter(|other| {
                other.state == AllocationState::Active
                    && other.pool != claim.pool
                    && other.olt != claim.olt
                    && !other.is_central()
                    && other.place.vrf == place.vrf
                    && is_alike(&other.place.resource, &place.resource)
            });
        let others: Vec<Allocation> = same_pool.into_iter().chain(elsewhere.cloned()).collect();
        let made_at = claim.made_at.map(to_millisecond);
        let late = made_at.is_some_and(|made_at| {
            let mut elsewhere = others.iter().filter(|other| other.olt != claim.olt);
            elsewhere.any(|other| !other.is_central() && other.made_at > made_at)
        });
        if late {
            return Ok(AllocationState::Releasing);
        }
        for other in others {
            self.ask_back(now, other)?;
        }
        Ok(AllocationState::Active)
    }
}

/// Whether the release of what is on record must have been sent to another server, from where it has not
/// come yet: the same session, the only one that may allocate there, has had it acknowledged before it
/// gave the resource to somebody else.
fn released_elsewhere(known: &Allocation, claim: &Claim) -> bool {
    known.session.as_ref() == Some(&claim.session)
        && known.olt == claim.olt
        && known.seq < claim.acked_below
}

/// Whether a subscriber needs only one of the two: addresses and delegated prefixes are two things.
fn is_alike(one: &Resource, other: &Resource) -> bool {
    match (one, other) {
        (Resource::Ipv6(one), Resource::Ipv6(other)) => {
            (one.prefix_len() == 128) == (other.prefix_len() == 128)
        }
        (one, other) => one.kind() == other.kind(),
    }
}

fn outside(resource: &Resource, shard: ShardId) -> Refused {
    Refused::invalid(
        "resource",
        format!("{resource} does not lie in shard {shard} of the pool"),
    )
}
