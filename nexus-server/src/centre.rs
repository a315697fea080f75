//! The state of the centre: a machine that takes `(state, now, request)` and gives an answer and effects.
//! It knows no network, file or task; `actor` runs it.

mod audit;
mod barrier;
mod central;
mod claims;
mod clocks;
mod decided;
mod disputes;
pub mod effects;
mod follow;
mod free;
mod idempotency;
mod lifecycle;
mod membership;
mod olts;
mod pinned;
mod placing;
mod pools;
mod queries;
mod reclaim;
pub mod replication;
mod restore;
mod rights;
mod shards;
#[cfg(test)]
mod tests;
mod unused;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use nexus_clset::{Fence, Revision};
use nexus_core::cluster::ClusterState;
use nexus_core::id::{OltId, PoolId, Seq, SessionId, ShardId};
use nexus_core::pool::{DEFAULT_COOL_DOWN, Pool};
use nexus_core::shard::ShardKey;
use nexus_core::shard_table::ShardTable;

pub use audit::Audit;
pub use central::{Asker, CentralRequest, Granted, Outcome, Prepared, Released, Unit};
pub use claims::{Claim, Release};
pub use clocks::Clocks;
pub use membership::ClusterReport;
pub use olts::{Heartbeat, HeartbeatAnswer, NodeInfo, Registered, Registration, ShardUse};
pub use pools::{Affected, PoolChange, PoolStats, etag};
pub use queries::{Filter, MAX_PAGE, StateFilter};
pub use replication::Heard;
pub use shards::{MAX_SHARDS, PoolPlan, ShardFilter, ShardInfo, ShardPage, ShardPlan};
pub use unused::in_time;

use crate::allocation::{Allocation, AllocationState, Place};
use crate::centre::effects::{ChangeLog, Effects, META_ROWS, REVISION_KEY};
use crate::centre::idempotency::Keys;
use crate::clock::Now;
use crate::olt_config::Settings;
use crate::record::Record;
use crate::refused::Refused;
use crate::replica::Replica;

/// Everything the centre knows. See the module.
pub struct Centre {
    settings: Settings,
    cluster: ClusterState,
    replica: Replica,
    /// Changes of the CLSet up to here are in the record.
    followed: Revision,
    record: Record,
    sessions: BTreeMap<OltId, SessionLog>,
    live: BTreeMap<OltId, olts::Live>,
    hosts: lifecycle::Hosts,
    keys: Keys,
    disputes: disputes::Disputes,
    audit: audit::Running,
    barrier: barrier::Barrier,
    /// How far the releases of OLTs that are being reclaimed are known to a majority.
    reclaim_known: BTreeMap<OltId, Place>,
    /// Where the search for a free unit of the shards that the cluster keeps goes on, by pool.
    cursors: BTreeMap<PoolId, free::Cursor>,
    log: ChangeLog,
    saved_revision: u64,
    /// Of this process, see [`Clocks`].
    mark: String,
    unused: unused::Unused,
    /// Whether this server leads the quorum, and does for all what one has to do.
    steward: bool,
    effects: Effects,
}

/// How far the commands of an OLT's session have come, as far as this server was told; what the whole
/// cluster knows stands in the shard table.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SessionLog {
    session: SessionId,
    /// All commands below have been acknowledged; what comes with such a number is a stray copy.
    acked_below: Seq,
    /// Highest number seen.
    highest: Seq,
}

impl Centre {
    /// The shard table as it is now.
    #[must_use]
    pub fn table(&self) -> &ShardTable {
        self.cluster.table()
    }

    /// What the requests since the last call have brought about.
    pub fn take_effects(&mut self) -> Effects {
        let revision = self.log.revision();
        if revision != self.saved_revision {
            // Also if nobody was told: a number that a watcher has read in a snapshot must not come again.
            self.saved_revision = revision;
            let value = revision.to_be_bytes().to_vec();
            self.effects.put(META_ROWS, REVISION_KEY, value);
        }
        std::mem::take(&mut self.effects)
    }

    fn pool(&self, id: &PoolId) -> Result<&Pool, Refused> {
        self.table()
            .pool(id)
            .ok_or_else(|| Refused::UnknownPool(id.clone()))
    }

    /// Allocations whose resources lie in a shard.
    fn in_shard(&self, pool: &PoolId, shard: ShardId) -> impl Iterator<Item = &Allocation> {
        let ends = self.table().pool(pool).and_then(|pool| {
            let first = pool.resource(shard, 0)?;
            let last = pool.resource(shard, pool.units(shard).checked_sub(1)?)?;
            Some((pool.vrf().to_owned(), first, last))
        });
        ends.into_iter()
            .flat_map(|(vrf, first, last)| self.record.between(&vrf, first, last))
    }

    /// Records an allocation as it is now, and tells the OLTs that it concerns.
    ///
    /// # Errors
    /// If a newer command is on record, or the store cannot be read; nothing has changed then.
    fn save(
        &mut self,
        now: &Now,
        fence: Fence,
        allocation: Allocation,
    ) -> Result<Arc<Allocation>, Refused> {
        let entry = (fence, allocation.encode());
        self.replicate(now, &allocation.place.key(), Some(entry))?;
        self.follow(now);
        Ok(Arc::new(allocation))
    }

    /// The fence that the record of a resource has now; what somebody else than the owner of its shard
    /// changes in it keeps that.
    fn fence(&self, place: &Place) -> Result<Fence, Refused> {
        self.replica
            .fence(&place.key())
            .map_err(|error| Refused::Store(error.to_string()))
    }

    /// Takes what is known of a resource now into the record. Gives back what was there before.
    fn enter(&mut self, now: &Now, allocation: Allocation) -> Option<Allocation> {
        let rest = rest(self.table(), &allocation.pool);
        let (place, is_held) = (allocation.place.clone(), allocation.state.is_held());
        let before = self.record.put(allocation, now.boot.saturating_add(rest));
        let was_held = before.as_ref().is_some_and(|known| known.state.is_held());
        self.audit.changed(&self.record, &place, was_held, is_held);
        before
    }

    /// Forgets a released allocation.
    fn forget(&mut self, now: &Now, place: &Place) -> Result<(), Refused> {
        self.replicate(now, &place.key(), None)?;
        self.follow(now);
        Ok(())
    }

    /// Ends an allocation: at once if no registered OLT has it, else by asking that OLT.
    fn ask_back(
        &mut self,
        now: &Now,
        mut allocation: Allocation,
    ) -> Result<Arc<Allocation>, Refused> {
        allocation.state = if self.table().olt(&allocation.olt).is_some() {
            AllocationState::Releasing
        } else {
            AllocationState::Released
        };
        allocation.changed_at = crate::allocation::to_millisecond(now.wall);
        let fence = self.fence(&allocation.place)?;
        self.save(now, fence, allocation)
    }

    /// The OLT that an allocation is on, and the owner of its shard.
    fn concerned(&self, allocation: &Allocation) -> BTreeSet<OltId> {
        let key = ShardKey {
            pool: allocation.pool.clone(),
            shard: allocation.shard,
        };
        let owner = self
            .table()
            .shard(&key)
            .and_then(|row| row.owner.as_ref())
            .map(|owner| owner.olt.clone());
        [Some(allocation.olt.clone()), owner]
            .into_iter()
            .flatten()
            .filter(|olt| !olt.is_cluster())
            .collect()
    }

    /// The session of an OLT, if it is the current one.
    fn current_session(&self, olt: &OltId, session: &SessionId) -> Result<(), Refused> {
        let Some(view) = self.table().olt(olt) else {
            return Err(Refused::SessionOver(format!(
                "OLT {olt} is not registered: register it first"
            )));
        };
        if view.row.session == *session && !self.table().is_gone(olt) {
            return Ok(());
        }
        Err(Refused::SessionOver(format!(
            "session {session} of OLT {olt} is not its current one: register again"
        )))
    }

    /// Notes how far a session has come; to be called once a command was accepted.
    fn advance_session(&mut self, olt: &OltId, session: &SessionId, seq: Seq, acked_below: Seq) {
        let log = self
            .sessions
            .entry(olt.clone())
            .or_insert_with(|| SessionLog::new(session));
        if log.session != *session {
            *log = SessionLog::new(session);
        }
        log.highest = log.highest.max(seq);
        log.acked_below = log.acked_below.max(acked_below);
    }

    /// All commands of a session below this number were acknowledged to the OLT.
    fn acked_below(&self, olt: &OltId, session: &SessionId) -> Seq {
        let told = self
            .sessions
            .get(olt)
            .filter(|log| log.session == *session)
            .map_or(Seq(0), |log| log.acked_below);
        let decided = self
            .table()
            .olt(olt)
            .filter(|view| view.row.session == *session)
            .map_or(Seq(0), |view| view.row.acked_below);
        told.max(decided)
    }

    /// Whether a command with this number may still be on its way as a copy.
    fn may_come_again(&self, allocation: &Allocation) -> bool {
        let Some(session) = &allocation.session else {
            return false;
        };
        let current = self.table().olt(&allocation.olt);
        current.is_some_and(|view| view.row.session == *session)
            && self.acked_below(&allocation.olt, session) <= allocation.seq
    }
}

/// How long a released resource of a pool rests. Of one whose pool is gone nothing else is known.
fn rest(table: &ShardTable, pool: &PoolId) -> Duration {
    table.pool(pool).map_or(DEFAULT_COOL_DOWN.get(), Pool::rest)
}

impl SessionLog {
    fn new(session: &SessionId) -> Self {
        Self {
            session: session.clone(),
            acked_below: Seq(0),
            highest: Seq(0),
        }
    }
}
