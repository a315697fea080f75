//! The operations that REST and gRPC share: what the owner looks at, what the quorum decides, and what the
//! owner makes of it.

mod allocations;
mod central;
mod placing;
mod pools;
mod registry;
mod shards;

use tokio::sync::watch;

use crate::actor::Handle;
use crate::cluster::barrier::Progress;
use crate::confirm::Confirm;
use crate::grants::Grants;
use crate::metrics::Metrics;
use crate::refused::Refused;
use crate::standing::Standing;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    parts: Parts,
    number: u32,
}

/// What the operations work with.
#[derive(Clone)]
pub struct Parts {
    /// The owner of the state.
    pub centre: Handle,
    /// The quorum.
    pub grants: Grants,
    /// Whether writes are taken.
    pub standing: Standing,
    /// Whether a majority has a write.
    pub confirm: Confirm,
    /// How far the moves of shards may be told.
    pub barrier: watch::Receiver<Progress>,
    /// The metrics.
    pub metrics: Metrics,
}

impl Service {
    /// The service over a running owner and its quorum.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            number: parts.grants.quorum().status().number,
            parts,
        }
    }

    /// The way to the state.
    #[must_use]
    pub fn centre(&self) -> &Handle {
        &self.parts.centre
    }

    /// The way to a decision.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        &self.parts.grants
    }

    /// Whether writes are taken.
    #[must_use]
    pub fn standing(&self) -> &Standing {
        &self.parts.standing
    }

    /// The metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.parts.metrics
    }

    fn writable(&self) -> Result<(), Refused> {
        self.parts.standing.check()
    }
}
