//! Which writers can be forgotten, so that version vectors do not grow with every boot there ever was.
//!
//! A boot that has ended, of which all members have all writes and of which no entry stands, is only a
//! number in a vector. It goes through the same two steps as a tombstone: when it is noted, and when
//! all members have seen whatever anybody knew by then, so that what superseded its entries is everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::error::Error;
use crate::hlc::UnixMillis;
use crate::replica::{Replica, origin_key, seconds};
use crate::retired::Retired;
use crate::rows::{RowKind, Rows};
use crate::vector::VersionVector;
use crate::version::{Incarnation, NodeId, Origin};

/// No message is on its way for so long. (A node that restarts more often than this and writes each time
/// keeps its boots remembered until it stops to.)
const LONGEST_WAY: Duration = Duration::from_secs(60 * 60);

/// Most writers that one round looks at.
const MAX_ORIGINS: usize = 256;

impl<R: Rows> Replica<R> {
    /// Writers that may be forgotten. `current` tells of every member its boot of now; a node that is not
    /// in it is no member any more.
    pub(super) fn retirees(
        &self,
        members: &[&VersionVector],
        current: &BTreeMap<NodeId, Incarnation>,
        now: UnixMillis,
    ) -> Result<BTreeSet<Origin>, Error<R::Error>> {
        let mut out = BTreeSet::new();
        for origin in self.seen.origins() {
            if out.len() >= MAX_ORIGINS {
                break;
            }
            // Boots are numbered by the seconds of their start, or one more than the boot before: what
            // the boot before has sent came long ago, unless clocks are far off.
            let age = self.tombstone_age.min(LONGEST_WAY).as_secs();
            let ended = match current.get(&origin.node) {
                Some(boot) => (origin.incarnation < *boot).then_some(*boot),
                None => Some(origin.incarnation),
            };
            let Some(ended) = ended.filter(|_| origin != self.origin) else {
                continue;
            };
            let upto = self.seen.upto(origin);
            let all_have_all = self.seen.is_gapless(origin)
                && members
                    .iter()
                    .all(|seen| seen.is_gapless(origin) && seen.upto(origin) == upto);
            let old_enough = u64::from(ended.0).saturating_add(age) < u64::from(seconds(now));
            if old_enough && all_have_all && !self.has_entry_of(origin)? {
                out.insert(origin);
            }
        }
        Ok(out)
    }

    /// What is forgotten when these writers are: of each of their nodes all boots up to the last one
    /// that is known to have ended, but for those that somebody still knows.
    pub(super) fn retired_with(
        &self,
        retirees: &BTreeSet<Origin>,
        members: &[&VersionVector],
        current: &BTreeMap<NodeId, Incarnation>,
    ) -> Retired {
        let mut known: BTreeSet<Origin> = self.seen.origins().collect();
        for seen in members {
            known.extend(seen.origins());
        }
        let mut retired = self.retired.clone();
        let nodes: BTreeSet<NodeId> = retirees.iter().map(|origin| origin.node).collect();
        for node in nodes {
            let of_node = known.iter().filter(|origin| origin.node == node);
            let last = of_node.clone().map(|origin| origin.incarnation).max();
            let below = match current.get(&node) {
                Some(boot) => *boot,
                None => Incarnation(last.unwrap_or_default().0.saturating_add(1)),
            };
            let kept = of_node
                .filter(|origin| !retirees.contains(origin))
                .map(|origin| origin.incarnation);
            retired.retire(node, below, kept);
        }
        retired
    }

    fn has_entry_of(&self, origin: Origin) -> Result<bool, Error<R::Error>> {
        let page = self
            .rows
            .page(RowKind::Dot, &origin_key(b"", origin), None, 1)
            .map_err(Error::Rows)?;
        Ok(!page.is_empty())
    }
}
