//! The state of the centre: a machine that takes `(state, now, request)` and gives an answer and effects.
//! It knows no network, file or task; `actor` runs it.

mod audit;
mod central;
mod claims;
pub mod effects;
mod idempotency;
mod olts;
mod pools;
mod queries;
mod restore;
#[cfg(test)]
mod tests;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use nexus_clset::Ticket;
use nexus_core::id::{OltId, PoolId, Seq, SessionId, ShardId, SubscriberId};
use nexus_core::pool::{DEFAULT_COOL_DOWN, Pool};
use nexus_core::shard::ShardKey;
use nexus_core::shard_table::{Applied, Command, ShardTable};
use nexus_core::time::BootTime;

pub use audit::Audit;
pub use central::{CentralRequest, Outcome};
pub use claims::{Claim, Release};
pub use olts::{Heartbeat, HeartbeatAnswer, NodeInfo, Registered, Registration, ShardUse};
pub use pools::{PoolStats, etag};
pub use queries::{Filter, MAX_PAGE, StateFilter};

use crate::allocation::{Allocation, AllocationState, Place};
use crate::centre::effects::{
    ChangeKind, ChangeLog, Effects, Event, GRANT_ROWS, META_ROWS, REVISION_KEY, SESSION_ROWS,
};
use crate::centre::idempotency::Keys;
use crate::clock::Now;
use crate::grantor::Grantor;
use crate::olt_config::{OltConfig, Settings};
use crate::record::Record;
use crate::refused::Refused;
use crate::replica::Replica;

/// Everything the centre knows. See the module.
pub struct Centre {
    settings: Settings,
    grantor: Box<dyn Grantor>,
    replica: Replica,
    record: Record,
    sessions: BTreeMap<OltId, SessionLog>,
    live: BTreeMap<OltId, olts::Live>,
    keys: Keys,
    /// Resources that an OLT reported although another subscriber holds them.
    conflicts: BTreeMap<Place, BTreeMap<SubscriberId, OltId>>,
    /// Where the search for a free unit of a shard that the cluster keeps goes on.
    cursors: BTreeMap<ShardKey, u64>,
    log: ChangeLog,
    saved_revision: u64,
    sweep_due: BootTime,
    effects: Effects,
}

/// How far the commands of an OLT's session have come.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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
        self.grantor.table()
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

    /// Has the grantor carry out a command and takes over what it changed.
    async fn grant(&mut self, now: &Now, command: Command) -> Result<(), Refused> {
        let applied = self.grantor.propose(now.boot, command).await?;
        self.take_over(now, applied)
    }

    /// Writes the rows in the order of their keys (counters and OLTs before shards), so that a crash in the
    /// middle of many rows never leaves a moved shard whose old owner would be renewed without being told.
    fn take_over(&mut self, now: &Now, applied: Applied) -> Result<(), Refused> {
        for (key, row) in &applied.changes {
            let key = key.to_string();
            match row.as_ref().map(serde_json::to_vec) {
                Some(Ok(value)) => self.effects.put(GRANT_ROWS, key.as_bytes(), value),
                // Rows are plain data; JSON can write all of them.
                Some(Err(error)) => tracing::error!(key, %error, "a row cannot be written"),
                None => self.effects.delete(GRANT_ROWS, key.as_bytes()),
            }
        }
        self.mirror(now, applied.changes.keys())?;
        for moved in &applied.moves {
            tracing::info!(
                pool = %moved.key.pool, shard = %moved.key.shard, epoch = %moved.epoch,
                from = moved.from.as_ref().map(tracing::field::display),
                to = moved.to.as_ref().map(tracing::field::display),
                reason = ?moved.reason, "shard changed its owner"
            );
            if let Some(olt) = moved.to.as_ref().filter(|olt| !olt.is_cluster()) {
                self.tell_shard(olt, &moved.key);
            }
            if moved.to.is_none() {
                self.cursors.remove(&moved.key);
            }
        }
        for olt in &applied.went_offline {
            tracing::warn!(%olt, "OLT has missed its heartbeats and counts as offline");
        }
        for olt in &applied.reconfigured {
            if let Some(config) = OltConfig::build(self.grantor.table(), &self.settings, olt) {
                let event = Event::Config(olt.clone(), Arc::new(config));
                self.effects.events.push(event);
            }
        }
        Ok(())
    }

    /// Tells the new owner of a shard what is held in it.
    fn tell_shard(&mut self, olt: &OltId, key: &ShardKey) {
        let held: Vec<Arc<Allocation>> = self
            .in_shard(&key.pool, key.shard)
            .map(|allocation| Arc::new(allocation.clone()))
            .collect();
        for allocation in held {
            let events = self.log.add([olt.clone()], ChangeKind::Put, &allocation);
            self.effects.events.extend(events);
        }
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
    /// If the store cannot be read; nothing has changed then.
    fn save(&mut self, now: &Now, allocation: Allocation) -> Result<Arc<Allocation>, Refused> {
        let entry = (allocation.epoch.0, allocation.encode());
        self.replicate(now, &allocation.place.key(), Some(entry))?;
        let rest = rest(self.table(), &allocation.pool);
        let before = self
            .record
            .put(allocation.clone(), now.boot.saturating_add(rest));
        self.resolve_conflicts(&allocation);
        let concerned = self.concerned(&allocation);
        let allocation = Arc::new(allocation);
        if let Some(before) = before
            && before.olt != allocation.olt
            && !concerned.contains(&before.olt)
            && !before.olt.is_cluster()
        {
            let events = self
                .log
                .add([before.olt.clone()], ChangeKind::Deleted, &Arc::new(before));
            self.effects.events.extend(events);
        }
        let events = self.log.add(concerned, ChangeKind::Put, &allocation);
        self.effects.events.extend(events);
        Ok(allocation)
    }

    /// Forgets a released allocation.
    fn forget(&mut self, now: &Now, place: &Place) -> Result<(), Refused> {
        self.replicate(now, &place.key(), None)?;
        let Some(allocation) = self.record.remove(place) else {
            return Ok(());
        };
        let concerned = self.concerned(&allocation);
        let events = self
            .log
            .add(concerned, ChangeKind::Deleted, &Arc::new(allocation));
        self.effects.events.extend(events);
        Ok(())
    }

    /// Ends an allocation: at once if no registered OLT has it, else by asking that OLT.
    fn ask_back(
        &mut self,
        now: &Now,
        mut allocation: Allocation,
    ) -> Result<Arc<Allocation>, Refused> {
        let on_olt = self.table().olt(&allocation.olt).is_some();
        let again = allocation.state == AllocationState::Releasing;
        allocation.state = if on_olt {
            AllocationState::Releasing
        } else {
            AllocationState::Released
        };
        let olt = allocation.olt.clone();
        let allocation = if on_olt && again {
            Arc::new(allocation)
        } else {
            allocation.changed_at = crate::allocation::to_millisecond(now.wall);
            self.save(now, allocation)?
        };
        if on_olt {
            let events = self
                .log
                .add([olt], ChangeKind::ReleaseRequested, &allocation);
            self.effects.events.extend(events);
        }
        Ok(allocation)
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

    /// Writes an entry to the CLSet (fence and value), or deletes it.
    fn replicate(
        &mut self,
        now: &Now,
        key: &str,
        entry: Option<(u64, Vec<u8>)>,
    ) -> Result<(), Refused> {
        let written = match entry {
            Some((fence, value)) => self.replica.put(now, key, fence, &value),
            None => self.replica.delete(now, key),
        };
        let (ticket, rows) = written.map_err(|error| Refused::Store(error.to_string()))?;
        self.effects.puts = self.effects.puts.saturating_add(1);
        self.effects.ticket = Some(ticket);
        if !rows.is_empty() {
            self.effects.writes.push(rows);
        }
        Ok(())
    }

    /// Everything up to this change of the CLSet is durable.
    pub fn settle(&mut self, ticket: Ticket) {
        self.replica.settle(ticket);
    }

    /// The session of an OLT, if it is the current one.
    fn current_session(&self, olt: &OltId, session: &SessionId) -> Result<(), Refused> {
        let Some(view) = self.table().olt(olt) else {
            return Err(Refused::SessionOver(format!(
                "OLT {olt} is not registered: register it first"
            )));
        };
        if view.row.session == *session && !view.row.fenced {
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
        let before = log.clone();
        log.highest = log.highest.max(seq);
        log.acked_below = log.acked_below.max(acked_below);
        if *log != before {
            let log = log.clone();
            self.save_session(olt, &log);
        }
    }

    fn save_session(&mut self, olt: &OltId, log: &SessionLog) {
        match serde_json::to_vec(log) {
            Ok(value) => self
                .effects
                .put(SESSION_ROWS, olt.as_str().as_bytes(), value),
            Err(error) => tracing::error!(%olt, %error, "a session cannot be written"),
        }
    }

    /// Whether a command with this number may still be on its way as a copy.
    fn may_come_again(&self, allocation: &Allocation) -> bool {
        let Some(session) = &allocation.session else {
            return false;
        };
        let current = self.table().olt(&allocation.olt);
        current.is_some_and(|view| view.row.session == *session)
            && self
                .sessions
                .get(&allocation.olt)
                .is_none_or(|log| log.session != *session || log.acked_below <= allocation.seq)
    }

    /// Length of the OLTs' lease.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.settings.lease
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
