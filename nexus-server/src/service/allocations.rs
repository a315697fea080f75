//! Allocations that OLTs report, and their ends; and the count of all that are asked for.

use std::sync::Arc;
use std::time::Instant;

use nexus_core::id::{OltId, PoolId};

use super::Service;
use crate::allocation::Allocation;
use crate::centre::{Centre, Claim, Outcome, Release};
use crate::refused::Refused;

pub(super) type Allocated = Result<(Arc<Allocation>, Outcome), Refused>;
/// Pool and OLT of a request, if they exist: only such become label values.
pub(super) type Labels = (Option<PoolId>, Option<OltId>);

impl Service {
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

    /// Counts an allocation that was asked for.
    pub(super) fn count(&self, (pool, olt): Labels, started: Instant, outcome: &Allocated) {
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

pub(super) fn labels(centre: &Centre, pool: PoolId, olt: Option<OltId>) -> Labels {
    let pool = centre.table().pool(&pool).map(|_| pool);
    let olt = match olt {
        Some(olt) if !olt.is_cluster() => centre.table().olt(&olt).map(|_| olt),
        _ => Some(OltId::cluster()),
    };
    (pool, olt)
}
