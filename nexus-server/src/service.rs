//! The operations that REST and gRPC share, counted and timed.

use std::sync::Arc;
use std::time::Instant;

use nexus_core::id::{OltId, PoolId};

use crate::actor::Handle;
use crate::allocation::Allocation;
use crate::centre::{CentralRequest, Centre, Claim, Outcome};
use crate::metrics::Metrics;
use crate::refused::Refused;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    centre: Handle,
    metrics: Metrics,
}

type Allocated = Result<(Arc<Allocation>, Outcome), Refused>;

impl Service {
    /// The service over a running owner.
    #[must_use]
    pub fn new(centre: Handle, metrics: Metrics) -> Self {
        Self { centre, metrics }
    }

    /// The way to the state.
    #[must_use]
    pub fn centre(&self) -> &Handle {
        &self.centre
    }

    /// The metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Allocates from the shards that the cluster keeps.
    ///
    /// # Errors
    /// See [`Centre::allocate_central`].
    pub async fn allocate_central(&self, request: CentralRequest) -> Allocated {
        let (pool, olt) = (request.pool.clone(), request.olt.clone());
        self.counted(pool, olt, move |centre, now| {
            centre.allocate_central(&now, request)
        })
        .await
    }

    /// Records what an OLT has allocated.
    ///
    /// # Errors
    /// See [`Centre::record_claim`].
    pub async fn record_claim(&self, claim: Claim) -> Allocated {
        let (pool, olt) = (claim.pool.clone(), Some(claim.olt.clone()));
        self.counted(pool, olt, move |centre, now| {
            centre.record_claim(&now, claim)
        })
        .await
    }

    async fn counted<F>(&self, pool: PoolId, olt: Option<OltId>, work: F) -> Allocated
    where
        F: FnOnce(&mut Centre, crate::clock::Now) -> Allocated + Send + 'static,
    {
        let started = Instant::now();
        let (labels, outcome) = self
            .centre
            .run(move |centre, now| {
                // Only ids that exist become label values.
                let pool = centre.table().pool(&pool).map(|_| pool);
                let olt = match olt {
                    Some(olt) if !olt.is_cluster() => centre.table().olt(&olt).map(|_| olt),
                    _ => Some(OltId::cluster()),
                };
                Ok(((pool, olt), work(centre, now)))
            })
            .await
            .unwrap_or_else(|refused| ((None, None), Err(refused)));
        let result = match &outcome {
            Ok((_, Outcome::New)) => "ok",
            Ok((_, Outcome::Repeated)) => "repeated",
            Err(refused) => refused.slug(),
        };
        let now = Instant::now();
        let (pool, olt) = &labels;
        self.metrics.allocation(
            pool.as_ref().map(PoolId::as_str),
            olt.as_ref().map(OltId::as_str),
            result,
            now.saturating_duration_since(started),
            now,
        );
        outcome
    }
}
