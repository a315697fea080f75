//! The operations that REST and gRPC share: what the owner looks at, what the quorum decides, and what the
//! owner makes of it.

mod allocations;
mod pools;
mod registry;

use crate::actor::Handle;
use crate::grants::Grants;
use crate::metrics::Metrics;
use crate::refused::Refused;
use crate::standing::Standing;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    centre: Handle,
    grants: Grants,
    standing: Standing,
    metrics: Metrics,
    number: u32,
}

impl Service {
    /// The service over a running owner and its quorum.
    #[must_use]
    pub fn new(centre: Handle, grants: Grants, standing: Standing, metrics: Metrics) -> Self {
        let number = grants.quorum().status().number;
        Self {
            number,
            centre,
            grants,
            standing,
            metrics,
        }
    }

    /// The way to the state.
    #[must_use]
    pub fn centre(&self) -> &Handle {
        &self.centre
    }

    /// The way to a decision.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Whether writes are taken.
    #[must_use]
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn writable(&self) -> Result<(), Refused> {
        self.standing.check()
    }
}
