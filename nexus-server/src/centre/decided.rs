//! What the quorum has decided, carried out in its order on this server's one copy of the cluster's state.

use std::sync::Arc;

use nexus_core::cluster::{
    Applied, ClusterCommand, ClusterState, Outcome, Refusal, encode_outcome,
};
use nexus_core::id::{OltId, PoolId, SessionId};
use nexus_core::shard::ShardKey;
use nexus_core::shard_table::{self, Command, Reclaim};
use nexus_core::time::ClusterTime;

use super::effects::{ChangeKind, Event};
use super::{Centre, rest};
use crate::allocation::{Allocation, AllocationState, Place};
use crate::clock::Now;
use crate::olt_config::OltConfig;

impl Centre {
    /// Carries out a command of the quorum's log. Gives the outcome for who proposed it, as bytes.
    ///
    /// # Errors
    /// A command that this version of the program does not know: it must not go on, because its state
    /// would differ from that of the others.
    pub fn decided(
        &mut self,
        now: &Now,
        at: ClusterTime,
        command: &[u8],
    ) -> Result<Vec<u8>, String> {
        let command = match ClusterCommand::decode(command) {
            Ok(command) => command,
            Err(error) if error.is_other_format() => return Err(error.to_string()),
            // The same on every server: nothing comes of it.
            Err(error) => {
                let outcome: Outcome = Err(Refusal::Unreadable(error.to_string()));
                return encode_outcome(&outcome).map_err(|error| error.to_string());
            }
        };
        let olt = match &command {
            ClusterCommand::Table(Command::Register(register)) => Some(register.olt.clone()),
            ClusterCommand::Table(Command::Deregister { olt }) => Some(olt.clone()),
            _ => None,
        };
        let pool = match &command {
            ClusterCommand::Table(Command::AddPool { spec } | Command::UpdatePool { spec }) => {
                Some(spec.id.clone())
            }
            _ => None,
        };
        let address = match &command {
            ClusterCommand::Table(Command::Register(register)) => register.address.clone(),
            _ => String::new(),
        };
        let before = olt.as_ref().and_then(|olt| self.session_of(olt));
        let was_reclaimed = olt
            .as_ref()
            .is_some_and(|olt| self.table().reclaim_of(olt) != Reclaim::Kept);
        let outcome = self.cluster.apply(at, command);
        if let (Some(olt), Err(Refusal::Table(shard_table::Refusal::AlreadyAlive { .. }))) =
            (&olt, &outcome)
        {
            self.hosts.refused(now, olt, &address);
        }
        if let Some(olt) = olt {
            self.session_may_be_over(&olt, before);
            // It learns what it has lost, on whatever server that was released.
            if was_reclaimed && outcome.is_ok() {
                self.hold_back_session(&olt);
            }
        }
        let outcome: Outcome = outcome.map(|applied| {
            if let Some(pool) = pool {
                self.rest_anew(now, Some(&pool));
            }
            let answer = applied.answer();
            self.take_over(now, applied);
            answer
        });
        encode_outcome(&outcome).map_err(|error| error.to_string())
    }

    /// Everything that the quorum has decided so far.
    ///
    /// # Errors
    /// If that is more than a snapshot may have.
    pub fn decided_so_far(&self) -> Result<Vec<u8>, String> {
        self.cluster.snapshot().map_err(|error| error.to_string())
    }

    /// Takes over everything that the quorum has decided, in the place of what is here.
    ///
    /// # Errors
    /// Bytes that are no snapshot.
    pub fn take_snapshot(&mut self, now: &Now, snapshot: &[u8]) -> Result<(), String> {
        let state = ClusterState::restore(snapshot).map_err(|error| error.to_string())?;
        let olts: Vec<(OltId, Option<SessionId>)> = self
            .table()
            .olts()
            .map(|view| (view.row.id.clone(), Some(view.row.session.clone())))
            .collect();
        self.cluster = state;
        for (olt, before) in olts {
            // It may have come back for what it had lost.
            self.hold_back_session(&olt);
            self.session_may_be_over(&olt, before);
        }
        self.rest_anew(now, None);
        // What was decided in between is not known one by one.
        self.effects.events.push(Event::StartOver);
        self.tell_members(now);
        let owned: Vec<(OltId, ShardKey)> = self
            .table()
            .olts()
            .flat_map(|view| {
                let olt = view.row.id.clone();
                let shards = self.table().shards_of(&olt).into_iter();
                shards.flat_map(move |(pool, owned)| {
                    let olt = olt.clone();
                    owned.into_iter().map(move |owned| {
                        let (pool, shard) = (pool.clone(), owned.shard);
                        (olt.clone(), ShardKey { pool, shard })
                    })
                })
            })
            .collect();
        // Whoever watches starts over, so that an only server has nothing to add.
        if !self.other_voters().is_empty() {
            for (olt, key) in owned {
                self.hold_back(&olt, &key);
            }
        }
        Ok(())
    }

    fn session_of(&self, olt: &OltId) -> Option<SessionId> {
        self.table().olt(olt).map(|view| view.row.session.clone())
    }

    /// Ends the streams of a session that another one has replaced, before anything is told to that one.
    fn session_may_be_over(&mut self, olt: &OltId, before: Option<SessionId>) {
        let after = self.session_of(olt);
        if before == after {
            return;
        }
        match &after {
            Some(session) => {
                tracing::info!(%olt, %session, "OLT registered with a new session");
                self.hold_back_session(olt);
            }
            None => {
                tracing::info!(%olt, "OLT deregistered");
                self.hosts_known(olt);
            }
        }
        self.live.remove(olt);
        if self
            .sessions
            .get(olt)
            .is_some_and(|log| Some(&log.session) != after.as_ref())
        {
            self.sessions.remove(olt);
        }
        if before.is_some() {
            self.effects
                .events
                .insert(0, Event::SessionOver(olt.clone()));
        }
    }

    fn take_over(&mut self, now: &Now, applied: Applied) {
        let shards = applied.table;
        for change in &applied.members {
            tracing::info!(
                node = %change.name, number = change.number,
                from = change.from.map(tracing::field::display), to = change.to.map(tracing::field::display),
                "member of the cluster changed"
            );
        }
        if !applied.members.is_empty() {
            self.tell_members(now);
        }
        for moved in &shards.moves {
            tracing::info!(
                pool = %moved.key.pool, shard = %moved.key.shard, epoch = %moved.epoch,
                from = moved.from.as_ref().map(tracing::field::display),
                to = moved.to.as_ref().map(tracing::field::display),
                reason = ?moved.reason, "shard changed its owner"
            );
            if let Some(olt) = moved.to.as_ref().filter(|olt| !olt.is_cluster()) {
                self.hold_back(olt, &moved.key);
            }
        }
        for pool in &shards.removed_pools {
            self.cursors.remove(pool);
        }
        for olt in &shards.went_offline {
            tracing::warn!(%olt, "OLT has missed its heartbeats and counts as offline");
        }
        for olt in &shards.reclaimed {
            tracing::warn!(%olt, allocations = self.record.olt_counts(olt).held(),
                "OLT was away for longer than reclaim_after: what was held on it is reclaimed");
        }
        for olt in &shards.reconfigured {
            self.tell_config(olt);
        }
        if !applied.members.is_empty() {
            // Where the OLTs find servers that take their commands.
            let olts: Vec<OltId> = self
                .table()
                .olts()
                .map(|view| view.row.id.clone())
                .collect();
            for olt in olts {
                self.tell_config(&olt);
            }
        }
    }

    /// Tells an OLT its configuration, unless that waits for what this server has yet to learn.
    pub(super) fn tell_config(&mut self, olt: &OltId) {
        if self.waits_for_move(olt) > 0 {
            return;
        }
        if let Some(config) = self.build_config(olt) {
            let event = Event::Config(olt.clone(), Arc::new(config));
            self.effects.events.push(event);
        }
    }

    /// The newest configuration of an OLT, with the servers that take writes unless others are configured.
    pub(super) fn build_config(&self, olt: &OltId) -> Option<OltConfig> {
        let mut config = OltConfig::build(self.table(), &self.settings, olt)?;
        if config.endpoints.is_empty() {
            config.endpoints = self.writers(|member| &member.node.grpc);
        }
        Some(config)
    }

    /// Tells the new owner of a shard what is held in it.
    pub(super) fn tell_shard(&mut self, olt: &OltId, key: &ShardKey) {
        let held: Vec<Arc<Allocation>> = self
            .in_shard(&key.pool, key.shard)
            .map(|allocation| Arc::new(allocation.clone()))
            .collect();
        for allocation in held {
            let events = self.log.add([olt.clone()], ChangeKind::Put, &allocation);
            self.effects.events.extend(events);
        }
    }

    /// Lets what was released rest as long as its pool says now, counted from now, or as long as it was to
    /// rest before, if that is longer; of all pools if none is named. The time since the release is not known
    /// after a restart.
    fn rest_anew(&mut self, now: &Now, pool: Option<&PoolId>) {
        let released: Vec<(Place, PoolId)> = self
            .record
            .all(None)
            .filter(|known| known.state == AllocationState::Released)
            .filter(|known| pool.is_none_or(|pool| known.pool == *pool))
            .map(|known| (known.place.clone(), known.pool.clone()))
            .collect();
        for (place, pool) in released {
            let rest = rest(self.table(), &pool);
            self.record
                .cool_longer(&place, now.boot.saturating_add(rest));
        }
    }
}
