//! What only the quorum can decide: who owns a shard, who has a unit, who is a member.

use std::time::Duration;

use nexus_core::cluster::{Answer, ClusterCommand, decode_outcome};
use nexus_quorum::{ProposeError, Quorum};

use crate::refused::Refused;

/// How long a request waits for the quorum.
const PATIENCE: Duration = Duration::from_secs(10);

/// The way to a decision. Cheap to clone.
#[derive(Clone)]
pub struct Grants {
    quorum: Quorum,
}

impl Grants {
    /// Decisions of a quorum.
    #[must_use]
    pub fn new(quorum: Quorum) -> Self {
        Self { quorum }
    }

    /// Has a command decided, and waits until it is carried out here.
    ///
    /// # Errors
    /// Why it was refused, [`Refused::NoQuorum`] if it was certainly not decided, or
    /// [`Refused::OutcomeUnknown`].
    pub async fn decide(&self, command: impl Into<ClusterCommand>) -> Result<Answer, Refused> {
        let command = command
            .into()
            .encode()
            .map_err(|error| Refused::NotPossible(error.to_string()))?;
        let applied = self
            .quorum
            .propose(command, PATIENCE)
            .await
            .map_err(undecided)?;
        let outcome = decode_outcome(&applied.answer)
            .map_err(|error| Refused::OutcomeUnknown(error.to_string()))?;
        outcome.map_err(Refused::from)
    }

    /// The quorum itself.
    #[must_use]
    pub fn quorum(&self) -> &Quorum {
        &self.quorum
    }
}

fn undecided(error: ProposeError) -> Refused {
    if error.is_certain() {
        Refused::NoQuorum(error.to_string())
    } else {
        Refused::OutcomeUnknown(error.to_string())
    }
}
