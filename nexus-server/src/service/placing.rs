//! Placement is thought out here, on this server's copy, and decided by the quorum, which checks each step.

use nexus_core::id::OltId;

use super::Service;

/// How often it is thought out anew for an OLT, whose shards may have gone to others that came at the same time.
const TRIES: usize = 8;

impl Service {
    /// Has shards change hands as placement says; if an OLT is named, only what that one gets, if it has none.
    /// Whatever is not decided now is with the next tick of the leader.
    pub(super) async fn place(&self, of: Option<OltId>) {
        let tries = if of.is_some() { TRIES } else { 1 };
        for _ in 0..tries {
            let of = of.clone();
            let commands = self
                .parts
                .centre
                .run_ahead(move |centre, _| {
                    Ok(match of {
                        Some(olt) => centre.first_shards(&olt),
                        None => centre.placement(),
                    })
                })
                .await
                .unwrap_or_default();
            if commands.is_empty() {
                return;
            }
            for command in commands {
                if let Err(refused) = self.parts.grants.decide(command).await {
                    tracing::debug!(%refused, "placement waits for the next tick");
                    return;
                }
            }
        }
    }
}
