//! Allocations out of the shards that the cluster keeps, and the end of any allocation, asked for over the API at whichever
//! server. What is answered with success is on a majority, and what is not found is looked for there: who is answered by
//! one server finds the same at the next.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nexus_core::id::{PoolId, SubscriberId};
use nexus_core::shard_table::{Command, UnitGrant};
use nexus_core::time::BootTime;

use super::Service;
use super::allocations::{Allocated, labels};
use crate::allocation::{Allocation, Place};
use crate::centre::{CentralRequest, Outcome, Prepared, Released, USED_WITHIN, Unit};
use crate::cluster::barrier::API_WAIT;
use crate::refused::Refused;

/// How often another unit is tried when somebody else was faster.
const MAX_TRIES: usize = 16;
/// How long another server that answers for the same subscriber at the same time is given to be done: once to four times
/// this, so that two of them do not go on at the same time.
const OTHERS_TURN: Duration = Duration::from_millis(20);

impl Service {
    /// Allocates from the shards that the cluster keeps, or gives what the subscriber has in the pool.
    ///
    /// # Errors
    /// Why there is nothing for the subscriber, or [`Refused::NotNow`] if it has it, and no majority has confirmed that.
    pub async fn allocate_central(&self, request: CentralRequest) -> Allocated {
        let (pool, olt) = (request.pool.clone(), request.olt.clone());
        let started = Instant::now();
        let outcome = self.central(request).await;
        let labels = self
            .parts
            .centre
            .run_ahead(move |centre, _| Ok(labels(centre, pool, olt)))
            .await
            .unwrap_or_default();
        self.count(labels, started, &outcome);
        outcome
    }

    async fn central(&self, request: CentralRequest) -> Allocated {
        self.writable()?;
        let mut is_fresh = request.asker.is_some();
        let mut losses = 0;
        while losses < MAX_TRIES {
            let (since, prepared) = self.prepare(&request, losses).await?;
            let unit = match prepared {
                Prepared::Done(..) if !is_fresh => {
                    // What it had may have ended at another server, which this one has not heard of.
                    self.read_up(API_WAIT).await?;
                    is_fresh = true;
                    continue;
                }
                Prepared::Done(allocation, outcome) => {
                    self.confirmed(vec![allocation.place.clone()]).await?;
                    return Ok((allocation, outcome));
                }
                Prepared::Take(unit) => unit,
            };
            losses += 1;
            let command = unit.command(&request.subscriber, self.number);
            let granted = match self.parts.grants.decide(command).await {
                Ok(granted) => granted.unit.map(|grant| (grant, granted.unit_is_new)),
                // Another server was faster, or the shard is no longer the cluster's: there may be another.
                Err(Refused::NotPossible(_)) => None,
                Err(refused) => return Err(refused),
            };
            let Some((grant, is_new)) = granted else {
                self.parts.metrics.race_lost();
                continue;
            };
            if let Some(answer) = self.finish(&request, unit, grant, is_new).await? {
                self.confirmed(vec![answer.0.place.clone()]).await?;
                self.in_time(since).await?;
                return Ok(answer);
            }
            tokio::time::sleep(self.others_turn(&request.subscriber, losses)).await;
        }
        Err(Refused::Overloaded {
            what: "the race for a unit of this pool",
        })
    }

    /// Whether a right that was asked for at that moment is certain to be there still. If this process stood still
    /// in between, another server may have taken it for the same subscriber, found it unused and freed it.
    async fn in_time(&self, since: BootTime) -> Result<(), Refused> {
        let now = self.parts.centre.run_ahead(|_, now| Ok(now.boot)).await?;
        if now.since(since) < USED_WITHIN {
            return Ok(());
        }
        Err(Refused::OutcomeUnknown(
            "this server stood still before it could answer".to_owned(),
        ))
    }

    fn others_turn(&self, subscriber: &SubscriberId, losses: usize) -> Duration {
        let mut hasher = DefaultHasher::new();
        (self.number, subscriber, losses).hash(&mut hasher);
        let share = u32::try_from(hasher.finish() % 1024).unwrap_or(0);
        OTHERS_TURN + OTHERS_TURN * 3 * share / 1024
    }

    /// What is needed, and when that was looked up.
    async fn prepare(
        &self,
        request: &CentralRequest,
        losses: usize,
    ) -> Result<(BootTime, Prepared), Refused> {
        let asked = request.clone();
        self.parts
            .centre
            .run(move |centre, now| {
                if losses > 0 {
                    centre.look_elsewhere(&asked.pool, &asked.subscriber, losses);
                }
                Ok((now.boot, centre.prepare_central(&now, &asked)?))
            })
            .await
    }

    /// Allocates the unit that was granted; `None` if the subscriber gets something else, or another server is at the
    /// same. The unit is given back at once then if the subscriber had no right to it before. If it had, another server
    /// may have it on record, or it may rest: upkeep finds out.
    async fn finish(
        &self,
        request: &CentralRequest,
        unit: Unit,
        grant: UnitGrant,
        is_new: bool,
    ) -> Result<Option<(Arc<Allocation>, Outcome)>, Refused> {
        let (shard, number, seq) = (unit.shard.clone(), unit.unit, grant.seq);
        let asked = request.clone();
        let answer = self
            .parts
            .centre
            .run(move |centre, now| centre.finish_central(&now, &asked, &unit, grant))
            .await?;
        let used = answer.filter(|(allocation, _)| allocation.seq == seq);
        if used.is_none() && is_new {
            // If this is lost, upkeep does it.
            let free = Command::FreeUnit {
                shard,
                unit: number,
                seq,
            };
            self.parts.grants.decide(free).await?;
        }
        Ok(used)
    }

    /// Ends what a subscriber holds, in one pool or in all.
    ///
    /// # Errors
    /// If it holds nothing there, or [`Refused::NotNow`] if that is done, and no majority has confirmed it.
    pub async fn deallocate(
        &self,
        subscriber: SubscriberId,
        pool: Option<PoolId>,
    ) -> Result<Released, Refused> {
        self.writable()?;
        let mut released = self.end(subscriber.clone(), pool.clone()).await;
        if matches!(released, Err(Refused::NoAllocation { .. })) {
            // Another server may have answered the same subscriber.
            self.read_up(API_WAIT).await?;
            released = self.end(subscriber, pool).await;
        }
        let released = released?;
        let ended = released.allocations.iter();
        self.confirmed(ended.map(|ended| ended.place.clone()).collect())
            .await?;
        Ok(released)
    }

    async fn end(
        &self,
        subscriber: SubscriberId,
        pool: Option<PoolId>,
    ) -> Result<Released, Refused> {
        self.parts
            .centre
            .run(move |centre, now| centre.deallocate(&now, &subscriber, pool.as_ref()))
            .await
    }

    /// Waits until a majority has what is on record of these resources.
    async fn confirmed(&self, places: Vec<Place>) -> Result<(), Refused> {
        let written = self
            .parts
            .centre
            .run_ahead(move |centre, _| {
                places
                    .iter()
                    .map(|place| centre.stands_by(place))
                    .collect::<Result<Vec<_>, _>>()
            })
            .await?;
        for dot in written.into_iter().flatten() {
            self.parts.confirm.wait(dot).await?;
        }
        Ok(())
    }
}
