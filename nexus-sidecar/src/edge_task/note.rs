//! What a person is told of what the machine did.

use std::time::Duration;

use nexus_core::edge::{ClockReading, ClocksApart, Conflict, Effects, Missing, Note};
use nexus_core::id::SubscriberId;

use super::EdgeTask;
use crate::binding_map::BindingMap;

/// Label of a conflict that the newcomer won.
const TAKEN_OVER: &str = "take-over";

/// Label of pools that are not in this host's configuration: their names come from elsewhere, and there may be
/// any number.
const UNKNOWN_POOL: &str = "unknown";

impl<M: BindingMap> EdgeTask<M> {
    /// A subscriber was let in without something that it should have.
    pub(super) fn note_missing(&self, subscriber: &SubscriberId, missing: &[Missing]) {
        for one in missing {
            let label = if one.configured {
                one.pool.as_str()
            } else {
                UNKNOWN_POOL
            };
            self.metrics.resource_missing(label);
            tracing::warn!(
                %subscriber, pool = %one.pool, why = %one.why,
                "a subscriber goes without something"
            );
        }
    }

    /// Compares this host's clock with the centre's; what is found is said once for each change.
    pub(super) fn compare_clocks(
        &mut self,
        clocks: &ClockReading,
        lease: Duration,
        fx: &mut Effects,
    ) {
        let stops = |apart: &Option<ClocksApart>| apart.as_ref().map(|apart| apart.stops);
        let before = stops(&self.edge.clocks_apart());
        self.edge.hear_clock(clocks, lease, fx);
        let apart = self.edge.clocks_apart();
        if stops(&apart) == before {
            return;
        }
        match apart {
            Some(ClocksApart { stops: true, what }) => tracing::error!(
                what = %what.escape_default(),
                "clocks run further apart than leases allow for: nothing new is given here until they run together; set the one right that is wrong"
            ),
            Some(ClocksApart { what, .. }) => tracing::warn!(
                what = %what.escape_default(),
                "clocks have run further apart than leases allow for"
            ),
            None => tracing::info!("the clocks run together"),
        }
    }

    pub(super) fn note(&self, note: &Note) {
        match note {
            Note::KeyTaken { key, from, to } => {
                self.metrics
                    .line_conflict(Conflict::LineTaken.label(), TAKEN_OVER);
                tracing::warn!(line = %key, %from, %to, "another subscriber is on the line now");
            }
            Note::Moved {
                subscriber,
                from,
                to,
            } => {
                self.metrics
                    .line_conflict(Conflict::Moved.label(), TAKEN_OVER);
                tracing::info!(%subscriber, %from, %to, "a subscriber has moved");
            }
            Note::MacChanged {
                subscriber,
                from,
                to,
            } => {
                self.metrics
                    .line_conflict(Conflict::MacChanged.label(), TAKEN_OVER);
                tracing::info!(%subscriber, %from, %to, "a subscriber has another MAC");
            }
            Note::NotLet {
                conflict,
                subscriber,
                key,
                holder,
                on,
                quarantine,
            } => {
                let policy = if quarantine.is_some() {
                    "quarantine"
                } else {
                    "refuse"
                };
                self.metrics.line_conflict(conflict.label(), policy);
                tracing::warn!(
                    %subscriber, line = %key, %holder, bound = %on, policy,
                    "{conflict}"
                );
            }
            Note::Refused {
                seq,
                subscriber,
                resource,
                ended,
                why,
            } => tracing::error!(
                %seq, %subscriber, %resource, ended, why = %why.escape_default(),
                "the centre refused a command"
            ),
            Note::NotInRecord {
                subscriber,
                resource,
            } => tracing::warn!(
                %subscriber, %resource,
                "a binding has ended: the centre's record does not have it"
            ),
            Note::KeptEnded { bindings } => tracing::error!(
                bindings,
                "acknowledged bindings have ended: no nexus-server was reached for longer than the lease and reclaim_after, and others may get them now; they are served again as far as the centre's records have them, once it is reached"
            ),
            Note::BadPool { pool, why } => {
                tracing::error!(%pool, %why, "a pool of the configuration cannot be used");
            }
        }
    }
}
