//! Placement is thought out here, on this server's copy, and decided by the quorum, which checks each step.

use nexus_core::id::OltId;

use super::Service;

impl Service {
    /// Has shards change hands as placement says; if an OLT is named, only what that one gets, if it has none.
    /// Whatever is not decided now is with the next tick of the leader.
    pub(super) async fn place(&self, of: Option<OltId>) {
        let commands = self
            .parts
            .centre
            .run_ahead(move |centre, _| {
                Ok(match of {
                    Some(olt) => centre.first_shards(&olt),
                    None => centre.placement(),
                })
            })
            .await;
        for command in commands.unwrap_or_default() {
            if let Err(refused) = self.parts.grants.decide(command).await {
                tracing::debug!(%refused, "placement waits for the next tick");
                return;
            }
        }
    }
}
