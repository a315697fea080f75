//! Gaps of writers that will never speak again: numbers that nobody has, and nobody ever will.
//!
//! A node that was removed from the cluster, or lost its store, may have told of a later write and not of an
//! earlier one. As long as all members lack the earlier one it holds up everything behind it: tombstones, and that the
//! writer is forgotten. When all members have said, each of what it has for good and each under the same
//! list of members, that they have the very same writes of it, then there are no others. Members take
//! nothing from a removed node any more, and what one of them still had on its way to its disk when it said
//! so can stand nowhere where a tombstone supersedes it, because that tombstone is there as well. So the gap
//! counts as seen. Others learn it by pulling, as if it had been entries.

use std::collections::BTreeMap;

use crate::replica::{Change, Draft, Replica};
use crate::rows::Rows;
use crate::vector::VersionVector;
use crate::version::{Incarnation, NodeId};

/// Writers in one change; each has one row.
const MAX_ORIGINS: usize = 50;

impl<R: Rows> Replica<R> {
    /// Counts as seen what nobody has of writers that have ended. `members` and `current`
    /// are as in [`propose_collection_and_retirement`](Self::propose_collection_and_retirement).
    pub(super) fn close_gaps(
        &mut self,
        members: &[&VersionVector],
        current: &BTreeMap<NodeId, Incarnation>,
    ) -> Option<Change> {
        let mut draft = Draft::default();
        for origin in self.seen.origins() {
            if draft.seen.len() >= MAX_ORIGINS {
                break;
            }
            let ours = self.seen.seen(origin);
            // A node that came back with its store has all that it ever told of; one that came back without it
            // says like all others what is left of its earlier boots.
            let ended = current
                .get(&origin.node)
                .is_none_or(|boot| origin.incarnation < *boot);
            if ended
                && !self.seen.is_gapless(origin)
                && members.iter().all(|theirs| theirs.seen(origin) == ours)
            {
                draft.seen.insert(origin);
            }
        }
        if draft.seen.is_empty() {
            return None;
        }
        for origin in &draft.seen {
            let top = self.seen.top(*origin);
            self.seen.insert_run(*origin, 1, top);
        }
        Some(self.finish(draft, None))
    }
}
