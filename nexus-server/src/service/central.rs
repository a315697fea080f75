//! Allocations out of the shards that the cluster keeps, and the end of any allocation, asked for over the API at whichever
//! server. What is answered with success is on a majority, and what is not found is looked for there: who is answered by
//! one server finds the same at the next.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use nexus_core::id::{PoolId, SubscriberId};
use nexus_core::pool::Pool;
use nexus_core::shard_table::Command;
use nexus_core::time::BootTime;

use super::Service;
use super::allocations::{Allocated, labels};
use crate::allocation::{Allocation, Place};
use crate::centre::{CentralRequest, Granted, Outcome, Prepared, Released, Unit, in_time};
use crate::cluster::barrier::API_WAIT;
use crate::refused::Refused;

/// How often another unit is tried when somebody else was faster.
const MAX_TRIES: usize = 16;
/// How often of these another server is left to answer for the same subscriber. If it has not by then, it has stopped.
const MAX_TURNS: usize = 8;
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
        let reads = self.has_to_read(&request).await?;
        if reads {
            // What the subscriber has may have ended at another server, or come from one.
            self.read_up(API_WAIT).await?;
        }
        let mut waited = 0;
        for losses in 0..MAX_TRIES {
            let (mut since, mut prepared) = self.prepare(&request, losses).await?;
            if reads && matches!(prepared, Prepared::Done(..)) {
                // The right to it too.
                self.parts.grants.decide(Command::Tick).await?;
                (since, prepared) = self.prepare(&request, losses).await?;
            }
            let unit = match prepared {
                Prepared::Done(allocation, outcome) => {
                    self.certain(request, &allocation, since).await?;
                    return Ok((allocation, outcome));
                }
                Prepared::Take(unit) => unit,
            };
            let command = unit.command(&request.subscriber, self.number);
            let granted = match self.parts.grants.decide(command).await {
                Ok(granted) => granted.unit.map(|unit| Granted {
                    unit,
                    is_new: granted.unit_is_new,
                    since,
                }),
                // Another server was faster, or the shard is no longer the cluster's: there may be another.
                Err(Refused::NotPossible(_)) => None,
                Err(refused) => return Err(refused),
            };
            let Some(granted) = granted else {
                self.parts.metrics.race_lost();
                continue;
            };
            let waits = waited < MAX_TURNS;
            if let Some(answer) = self.finish(&request, unit, granted, waits).await? {
                self.certain(request, &answer.0, since).await?;
                return Ok(answer);
            }
            waited += 1;
            tokio::time::sleep(self.others_turn(&request.subscriber, losses)).await;
        }
        Err(Refused::Overloaded {
            what: "the queue for units of this pool",
        })
    }

    /// Whether what this server has on record may be too old for the answer. An OLT asks for units of pinned pools: who
    /// has them, and where, is the quorum's own knowledge.
    async fn has_to_read(&self, request: &CentralRequest) -> Result<bool, Refused> {
        if request.asker.is_none() {
            return Ok(true);
        }
        let pool = request.pool.clone();
        self.parts
            .centre
            .run_ahead(move |centre, _| {
                let pool = centre.table().pool(&pool);
                Ok(!pool.is_some_and(Pool::is_pinned))
            })
            .await
    }

    /// Waits until an answer that was found or asked for at that moment is certain, and remembers it.
    async fn certain(
        &self,
        request: CentralRequest,
        answer: &Arc<Allocation>,
        since: BootTime,
    ) -> Result<(), Refused> {
        self.confirmed([answer.place.clone()].into()).await?;
        self.parts
            .centre
            .run_ahead(move |_, now| in_time(&now, since))
            .await?;
        self.remember(request, answer).await
    }

    async fn remember(
        &self,
        request: CentralRequest,
        answer: &Arc<Allocation>,
    ) -> Result<(), Refused> {
        if request.key.is_none() {
            return Ok(());
        }
        let answer = Arc::clone(answer);
        self.parts
            .centre
            .run(move |centre, now| centre.remember(&now, &request, &answer))
            .await
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
        granted: Granted,
        waits: bool,
    ) -> Result<Option<(Arc<Allocation>, Outcome)>, Refused> {
        let (shard, number, seq) = (unit.shard.clone(), unit.unit, granted.unit.seq);
        let asked = request.clone();
        let answer = self
            .parts
            .centre
            .run(move |centre, now| centre.finish_central(&now, &asked, &unit, &granted, waits))
            .await?;
        let used = answer.filter(|(allocation, _)| allocation.seq == seq);
        if used.is_none() && granted.is_new {
            let free = Command::FreeUnit {
                shard,
                unit: number,
                seq,
            };
            if let Err(error) = self.parts.grants.decide(free).await {
                tracing::debug!(%error, "a unit that is not used is left to upkeep");
            }
        }
        Ok(used)
    }

    /// Ends what a subscriber holds, in one pool or in all.
    ///
    /// # Errors
    /// If it holds nothing there, or [`Refused::NotNow`] if no majority was heard: it may be done then.
    pub async fn deallocate(
        &self,
        subscriber: SubscriberId,
        pool: Option<PoolId>,
    ) -> Result<Released, Refused> {
        self.writable()?;
        // Another server may have answered the same subscriber.
        self.read_up(API_WAIT).await?;
        let released = self
            .parts
            .centre
            .run(move |centre, now| centre.deallocate(&now, &subscriber, pool.as_ref()))
            .await?;
        let ended = released.allocations.iter();
        self.confirmed(ended.map(|ended| ended.place.clone()).collect())
            .await?;
        Ok(released)
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
        let written = written.into_iter().flatten();
        try_join_all(written.map(|dot| self.parts.confirm.wait(dot))).await?;
        Ok(())
    }
}
