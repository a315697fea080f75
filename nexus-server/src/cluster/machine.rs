//! The quorum's way to the cluster's state, which the owner's task keeps.

use nexus_core::time::ClusterTime;
use nexus_quorum::{BoxFuture, Entry, Machine, MachineError};

use crate::actor::Handle;
use crate::refused::Refused;

/// The state machine of the quorum: the owner behind its queue.
pub struct OwnedState(pub Handle);

impl Machine for OwnedState {
    fn apply(&self, entries: Vec<Entry>) -> BoxFuture<Result<Vec<Vec<u8>>, MachineError>> {
        let owner = self.0.clone();
        Box::pin(async move {
            owner
                .patient(move |centre, now| {
                    let decisions = entries.iter().map(|entry| {
                        let at = ClusterTime(entry.at.as_nanos());
                        centre.decided(&now, at, &entry.command)
                    });
                    let decisions: Result<Vec<_>, _> = decisions.collect();
                    decisions.map_err(Refused::NotPossible)
                })
                .await
                .map_err(failed)
        })
    }

    fn snapshot(&self) -> BoxFuture<Result<Vec<u8>, MachineError>> {
        let owner = self.0.clone();
        Box::pin(async move {
            owner
                .patient(|centre, _| centre.decided_so_far().map_err(Refused::NotPossible))
                .await
                .map_err(failed)
        })
    }

    fn install(&self, snapshot: Vec<u8>) -> BoxFuture<Result<(), MachineError>> {
        let owner = self.0.clone();
        Box::pin(async move {
            owner
                .patient(move |centre, now| {
                    centre
                        .take_snapshot(&now, &snapshot)
                        .map_err(Refused::NotPossible)
                })
                .await
                .map_err(failed)
        })
    }
}

fn failed(refused: Refused) -> MachineError {
    MachineError(refused.to_string())
}
