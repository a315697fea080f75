//! What a person is told of what the machine did.

use nexus_core::edge::{Conflict, Note};

use super::EdgeTask;
use crate::binding_map::BindingMap;

/// Label of a conflict that the newcomer won.
const TAKEN_OVER: &str = "take-over";

impl<M: BindingMap> EdgeTask<M> {
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
            Note::BadPool { pool, why } => {
                tracing::error!(%pool, %why, "a pool of the configuration cannot be used");
            }
        }
    }
}
