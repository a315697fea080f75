//! What a subscriber has of a pinned pool is asked of the centre. The answer is the centre's record, which comes by
//! the stream of records as any other; until then the subscriber is not answered.

use std::collections::BTreeMap;
use std::time::Duration;

use nexus_core::edge::Authorized;
use nexus_core::id::{PoolId, SubscriberId};
use nexus_core::time::BootTime;

use super::EdgeTask;
use crate::binding_map::BindingMap;
use crate::edge_handle::EdgeError;

/// Most questions that wait for the centre client.
pub(super) const QUESTIONS: usize = 64;
/// Most subscribers that were asked about lately; beyond it nobody else is asked about before one of them is forgotten.
const ASKED_LIMIT: usize = 1024;
/// How long a question is not put again.
const ASKED_FOR: Duration = Duration::from_secs(2);

/// What the centre is asked: to give a subscriber what it has of a pinned pool, on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedQuestion {
    /// The pool.
    pub pool: PoolId,
    /// The subscriber.
    pub subscriber: SubscriberId,
    /// For the record.
    pub metadata: BTreeMap<String, String>,
}

impl<M: BindingMap> EdgeTask<M> {
    /// Asks, unless that was done a moment ago. What the subscriber is told meanwhile.
    pub(super) fn ask_centre(
        &mut self,
        now: BootTime,
        pool: PoolId,
        request: &Authorized,
    ) -> EdgeError {
        if !self.edge.is_connected() {
            return EdgeError::CannotAsk(pool);
        }
        self.asked.retain(|_, at| now.since(*at) < ASKED_FOR);
        let about = (pool.clone(), request.subscriber.clone());
        if self.asked.contains_key(&about) {
            return EdgeError::Asked(pool);
        }
        let question = PinnedQuestion {
            pool: pool.clone(),
            subscriber: request.subscriber.clone(),
            metadata: request.metadata.clone(),
        };
        if self.asked.len() >= ASKED_LIMIT || self.questions.try_send(question).is_err() {
            return EdgeError::CannotAsk(pool);
        }
        self.asked.insert(about, now);
        EdgeError::Asked(pool)
    }
}
