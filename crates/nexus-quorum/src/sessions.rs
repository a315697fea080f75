//! At most once: which proposals of each node have been applied.
//!
//! A proposal whose fate is unknown is sent again, to the next leader for example. This small part of the replicated
//! state lets every node tell, alike, whether a command in the log is the first of its name.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::config::WINDOW;
use crate::types::ProposalId;

/// What has been applied of each node's proposals. Bounded by the members and by [`WINDOW`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    origins: BTreeMap<u32, Session>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Session {
    boot: u64,
    floor: u64,
    applied: BTreeSet<u64>,
}

impl Sessions {
    /// Whether the proposal may be applied now; if so, it never may again.
    pub fn admit(&mut self, id: ProposalId) -> bool {
        let fresh = Session {
            boot: id.boot,
            floor: id.floor,
            applied: BTreeSet::new(),
        };
        let session = self
            .origins
            .entry(id.origin)
            .or_insert_with(|| fresh.clone());
        if id.boot < session.boot {
            return false;
        }
        if id.boot > session.boot {
            *session = fresh;
        }
        if id.floor > session.floor {
            session.floor = id.floor;
            session.applied = session.applied.split_off(&id.floor);
        }
        if id.seq < session.floor || id.seq >= session.floor.saturating_add(2 * WINDOW) {
            return false;
        }
        session.applied.insert(id.seq)
    }

    /// The newest start of `origin` that anything was applied of.
    pub fn boot(&self, origin: u32) -> Option<u64> {
        self.origins.get(&origin).map(|session| session.boot)
    }

    /// Forget nodes that are no longer members.
    pub fn retain(&mut self, is_member: impl Fn(u32) -> bool) {
        self.origins.retain(|origin, _| is_member(*origin));
    }
}

#[cfg(test)]
mod tests;
