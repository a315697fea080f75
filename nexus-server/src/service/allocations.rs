//! Allocations: out of the cluster's own shards, reported by OLTs, and their ends.

use std::sync::Arc;
use std::time::Instant;

use nexus_core::id::{OltId, PoolId, SubscriberId};
use nexus_core::shard_table::Command;

use super::Service;
use crate::allocation::Allocation;
use crate::centre::{CentralRequest, Centre, Claim, Outcome, Prepared, Release, Released};
use crate::refused::Refused;

/// How often another unit is tried when somebody else was faster.
const MAX_TRIES: usize = 16;

type Allocated = Result<(Arc<Allocation>, Outcome), Refused>;
/// Pool and OLT of a request, if they exist: only such become label values.
type Labels = (Option<PoolId>, Option<OltId>);

impl Service {
    /// Allocates from the shards that the cluster keeps, or gives what the subscriber has in the pool.
    ///
    /// # Errors
    /// Why there is nothing for the subscriber.
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

    /// Records what an OLT has allocated.
    ///
    /// # Errors
    /// Why the record does not take it.
    pub async fn record_claim(&self, claim: Claim) -> Allocated {
        let (pool, olt) = (claim.pool.clone(), Some(claim.olt.clone()));
        let started = Instant::now();
        self.writable()?;
        let (labels, outcome) = self
            .parts
            .centre
            .run(move |centre, now| {
                let labels = labels(centre, pool, olt);
                let recorded =
                    centre
                        .record_claim(&now, claim)
                        .and_then(|(allocation, outcome)| {
                            let dot = centre.stands_by(&allocation.place)?;
                            Ok((allocation, outcome, dot))
                        });
                Ok((labels, recorded))
            })
            .await
            .unwrap_or_else(|refused| ((None, None), Err(refused)));
        let outcome = match outcome {
            Ok((allocation, outcome, Some(dot))) => {
                let confirmed = self.parts.confirm.wait(dot).await;
                confirmed.map(|()| (allocation, outcome))
            }
            Ok((allocation, outcome, None)) => Ok((allocation, outcome)),
            Err(refused) => Err(refused),
        };
        self.count(labels, started, &outcome);
        outcome
    }

    /// Records that an OLT has ended an allocation.
    ///
    /// # Errors
    /// Why the record does not take it.
    pub async fn record_release(&self, release: Release) -> Result<(), Refused> {
        self.writable()?;
        let stands_by = self
            .parts
            .centre
            .run(
                move |centre, now| match centre.record_release(&now, release)? {
                    Some(place) => centre.stands_by(&place),
                    None => Ok(None),
                },
            )
            .await?;
        match stands_by {
            Some(dot) => self.parts.confirm.wait(dot).await,
            None => Ok(()),
        }
    }

    /// Ends what a subscriber holds, in one pool or in all.
    ///
    /// # Errors
    /// If it holds nothing there.
    pub async fn deallocate(
        &self,
        subscriber: SubscriberId,
        pool: Option<PoolId>,
    ) -> Result<Released, Refused> {
        self.writable()?;
        self.parts
            .centre
            .run(move |centre, now| centre.deallocate(&now, &subscriber, pool.as_ref()))
            .await
    }

    async fn central(&self, request: CentralRequest) -> Allocated {
        self.writable()?;
        let mut taken = None;
        for _ in 0..MAX_TRIES {
            let asked = request.clone();
            let prepared = self
                .parts
                .centre
                .run(move |centre, now| centre.prepare_central(&now, &asked))
                .await?;
            let unit = match prepared {
                Prepared::Done(allocation, outcome) => return Ok((allocation, outcome)),
                Prepared::Take(unit) => unit,
            };
            let command = unit.command(&request.subscriber, self.number);
            match self.parts.grants.decide(command).await {
                Ok(granted) => {
                    taken = granted.unit.map(|grant| (unit, grant));
                    break;
                }
                // Another server was faster, or the shard is no longer the cluster's: there may be another.
                Err(Refused::NotPossible(_)) => {}
                Err(refused) => return Err(refused),
            }
        }
        let Some((unit, grant)) = taken else {
            return Err(Refused::Overloaded {
                what: "the race for a unit of this pool",
            });
        };
        let (shard, number, seq) = (unit.shard.clone(), unit.unit, grant.seq);
        let answer = self
            .parts
            .centre
            .run(move |centre, now| centre.finish_central(&now, &request, &unit, grant))
            .await?;
        if answer.0.seq != seq {
            // The subscriber has got something else meanwhile. If this is lost, upkeep does it.
            let free = Command::FreeUnit {
                shard,
                unit: number,
                seq,
            };
            self.parts.grants.decide(free).await?;
        }
        Ok(answer)
    }

    /// Counts an allocation that was asked for.
    fn count(&self, (pool, olt): Labels, started: Instant, outcome: &Allocated) {
        let result = match outcome {
            Ok((_, Outcome::New)) => "ok",
            Ok((_, Outcome::Repeated)) => "repeated",
            Err(refused) => refused.slug(),
        };
        let now = Instant::now();
        self.parts.metrics.allocation(
            pool.as_ref().map(PoolId::as_str),
            olt.as_ref().map(OltId::as_str),
            result,
            now.saturating_duration_since(started),
            now,
        );
    }
}

fn labels(centre: &Centre, pool: PoolId, olt: Option<OltId>) -> Labels {
    let pool = centre.table().pool(&pool).map(|_| pool);
    let olt = match olt {
        Some(olt) if !olt.is_cluster() => centre.table().olt(&olt).map(|_| olt),
        _ => Some(OltId::cluster()),
    };
    (pool, olt)
}
