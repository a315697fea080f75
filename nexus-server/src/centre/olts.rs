//! The OLT registry: register, heartbeat, drain, deregister, and what an OLT may watch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nexus_core::cluster::Answer;
use nexus_core::id::{OltId, PoolId, Seq, SessionId, ShardId};
use nexus_core::lease::Keeping;
use nexus_core::shard::ShardRef;
use nexus_core::shard_table::{Command, OltState, Reclaim, Register, Renew, Vouch};

use super::effects::{Change, ChangeKind};
use super::lifecycle::DrainProgress;
use super::{Centre, Clocks};
use crate::allocation::AllocationState;
use crate::clock::Now;
use crate::olt_config::OltConfig;
use crate::refused::Refused;

/// Most subscribers that one host may say it serves.
const MAX_CAPACITY: u32 = 1_000_000;
/// Most values of its own that a heartbeat may carry.
const MAX_METRICS: usize = 64;
/// Longest name of such a value, in bytes.
const MAX_METRIC_NAME: usize = 128;
/// Longest text of a heartbeat for people, in bytes.
const MAX_TEXT: usize = 4096;

/// What is known of an OLT from its heartbeats; not kept over a restart.
#[derive(Clone, Debug, Default)]
pub(super) struct Live {
    last_heartbeat: Option<Timestamp>,
    active_subscribers: u32,
    metrics: BTreeMap<String, f64>,
    config_revision: u64,
    clocks_apart: Option<String>,
}

/// An OLT enrols, or comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The OLT.
    pub olt: OltId,
    /// A name for people.
    pub name: String,
    /// Region label.
    pub region: String,
    /// Where it can be reached.
    pub address: String,
    /// Most subscribers that it serves.
    pub capacity: u32,
    /// Its session.
    pub session: SessionId,
    /// Highest number of a command that it has used in this session.
    pub last_seq: Seq,
    /// Made at random by the process; empty: not known.
    pub instance: String,
    /// Revision of the newest configuration that it has; 0 if it does not say.
    pub config_revision: u64,
    /// Whether its lease had not ended, as it counts itself, when it sent this.
    pub lease_alive: bool,
    /// Number of the rule that it keeps acknowledged bindings under; `None`: it never ends them.
    pub keeping: Option<u64>,
}

/// What a registered OLT is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Registered {
    /// The OLT as the centre knows it.
    pub node: NodeInfo,
    /// Its configuration.
    pub config: Arc<OltConfig>,
    /// Length of its lease, counted by the OLT from the moment it sent the registration.
    pub lease: Duration,
    /// What outlives it.
    pub keeping: Keeping,
    /// The clocks of the centre, read after the registration had come.
    pub clocks: Clocks,
}

/// Fill of one shard, as its owner reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardUse {
    /// The shard.
    pub shard: ShardRef,
    /// Units in use.
    pub allocated: u64,
}

/// A sign of life of an OLT.
#[derive(Clone, Debug, PartialEq)]
pub struct Heartbeat {
    /// The OLT.
    pub olt: OltId,
    /// Its session; without it nothing but the report is taken, and no lease is renewed.
    pub session: Option<SessionId>,
    /// Subscribers with a session now.
    pub active_subscribers: u32,
    /// Values of its own, for people to look at.
    pub metrics: BTreeMap<String, f64>,
    /// Revision of the configuration that it works with.
    pub config_revision: u64,
    /// Fill of its shards.
    pub shard_use: Vec<ShardUse>,
    /// Made at random by the process; empty: not known.
    pub instance: String,
    /// Shards that it gives back.
    pub released: Vec<ShardRef>,
    /// As [`Registration::keeping`].
    pub keeping: Option<u64>,
    /// Highest number of a command that it has used in this session.
    pub last_seq: Seq,
    /// What it says of clocks that run apart; empty: of none.
    pub clocks_apart: String,
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatAnswer {
    /// Length of the renewed lease; `None` if it was not renewed.
    pub lease: Option<Duration>,
    /// What outlives it, if it was.
    pub keeping: Option<Keeping>,
    /// Newest revision of the OLT's configuration.
    pub config_revision: u64,
    /// State of the OLT.
    pub state: OltState,
    /// For a person: that another host has tried to be this OLT.
    pub other_host: Option<String>,
    /// The clocks of the centre, read after the heartbeat had come.
    pub clocks: Clocks,
}

/// An OLT as people and the API see it.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeInfo {
    /// The OLT.
    pub id: OltId,
    /// A name for people.
    pub name: String,
    /// Region label.
    pub region: String,
    /// Where it can be reached.
    pub address: String,
    /// Most subscribers that it serves.
    pub capacity: u32,
    /// Its session.
    pub session: SessionId,
    /// What it is doing.
    pub state: OltState,
    /// Shards that it owns.
    pub shards: BTreeMap<PoolId, Vec<ShardId>>,
    /// When it was heard of last; `None` if not since this server started.
    pub last_heartbeat: Option<Timestamp>,
    /// Subscribers with a session, from its last heartbeat.
    pub active_subscribers: u32,
    /// Allocations that are held on it.
    pub allocations: u64,
    /// Values of its own, from its last heartbeat.
    pub metrics: BTreeMap<String, f64>,
    /// Newest revision of its configuration.
    pub config_revision: u64,
    /// Revision that it works with, from its last heartbeat.
    pub running_revision: u64,
    /// Whether an operator has stated that its host hands out nothing any more.
    pub fenced: bool,
    /// Whether what is acknowledged to it is its own.
    pub reclaim: Reclaim,
    /// How long it will be so if nothing is heard of it; `None`: without an end, or it is over.
    pub reclaim_in: Option<Duration>,
    /// What is left until it is empty, if it is drained.
    pub drain: Option<DrainProgress>,
    /// For a person: that another host has tried to be this OLT lately.
    pub other_host: Option<String>,
    /// For a person: which clocks run apart, as it said with its last heartbeat.
    pub clocks_apart: Option<String>,
}

impl Centre {
    /// What must be decided before an OLT is registered, because part of what was decided is missing, or because the OLT
    /// shows that it is.
    #[must_use]
    pub fn prepare_vouch(&self, registration: &Registration) -> Option<Command> {
        let vouch = Vouch {
            olt: registration.olt.clone(),
            session: registration.session.clone(),
            config_revision: registration.config_revision,
            lease_alive: registration.lease_alive,
        };
        self.table()
            .needs_vouching(&vouch)
            .then_some(Command::Vouch(vouch))
    }

    /// Looks whether an OLT can enrol, and gives the command that does it.
    ///
    /// # Errors
    /// What is wrong with the registration.
    pub fn prepare_register(
        &mut self,
        now: &Now,
        registration: Registration,
    ) -> Result<Command, Refused> {
        if !(1..=MAX_CAPACITY).contains(&registration.capacity) {
            let problem =
                format!("must be 1 to {MAX_CAPACITY}: most subscribers that this host serves");
            return Err(Refused::invalid("capacity", problem));
        }
        self.check_instance(
            now,
            &registration.olt,
            &registration.session,
            &registration.instance,
        )?;
        let recorded_seq = self.recorded_seq(&registration.olt, &registration.session);
        Ok(Command::Register(Register {
            olt: registration.olt,
            name: registration.name,
            region: registration.region,
            address: registration.address,
            capacity: registration.capacity,
            session: registration.session,
            last_seq: registration.last_seq,
            recorded_seq,
            acked_below: Seq(0),
            keeping: registration.keeping,
        }))
    }

    /// Highest number of a command that the record has of a session.
    fn recorded_seq(&self, olt: &OltId, session: &SessionId) -> Seq {
        let told = self
            .sessions
            .get(olt)
            .filter(|log| log.session == *session)
            .map_or(Seq(0), |log| log.highest);
        self.record
            .of_olt(olt, None)
            .filter(|allocation| allocation.session.as_ref() == Some(session))
            .map(|allocation| allocation.seq)
            .fold(told, Seq::max)
    }

    /// What a registered OLT is told.
    ///
    /// # Errors
    /// [`Refused::UnknownOlt`] if it was deregistered meanwhile.
    pub fn registered(
        &self,
        now: &Now,
        olt: &OltId,
        granted: Answer,
    ) -> Result<Registered, Refused> {
        Ok(Registered {
            node: self.node(olt)?,
            config: Arc::new(self.config(olt)?),
            lease: granted.lease.unwrap_or_default(),
            keeping: granted.keeping.unwrap_or_default(),
            clocks: self.clocks(now),
        })
    }

    /// Looks at a sign of life, and gives the command that renews the lease of the session that sent it;
    /// none if it names no session.
    ///
    /// # Errors
    /// An unknown OLT, or values that make no sense.
    pub fn prepare_heartbeat(
        &mut self,
        now: &Now,
        heartbeat: &Heartbeat,
    ) -> Result<Option<Command>, Refused> {
        check_metrics(&heartbeat.metrics)?;
        check_text(&heartbeat.clocks_apart)?;
        if self.table().olt(&heartbeat.olt).is_none() {
            return Err(Refused::UnknownOlt(heartbeat.olt.clone()));
        }
        let Some(session) = heartbeat.session.clone() else {
            return Ok(None);
        };
        self.check_instance(now, &heartbeat.olt, &session, &heartbeat.instance)?;
        let mut in_use: BTreeMap<PoolId, u64> = BTreeMap::new();
        for shard_use in &heartbeat.shard_use {
            let count = in_use.entry(shard_use.shard.pool.clone()).or_default();
            *count = count.saturating_add(shard_use.allocated);
        }
        let mut idle: BTreeMap<PoolId, BTreeSet<ShardId>> = BTreeMap::new();
        for shard_use in heartbeat
            .shard_use
            .iter()
            .filter(|used| used.allocated == 0)
        {
            let shard = &shard_use.shard;
            // Only these pools ask for what is not used.
            let pool = self.table().pool(&shard.pool);
            if pool.is_some_and(|pool| pool.high_water().is_some()) {
                let of_pool = idle.entry(shard.pool.clone()).or_default();
                of_pool.insert(shard.shard);
            }
        }
        let acked_below = self.acked_below(&heartbeat.olt, &session);
        Ok(Some(Command::Renew(Renew {
            olt: heartbeat.olt.clone(),
            session,
            config_revision: heartbeat.config_revision,
            last_seq: heartbeat.last_seq,
            in_use,
            idle,
            released: heartbeat.released.clone(),
            acked_below,
            keeping: heartbeat.keeping,
        })))
    }

    /// Takes what a sign of life reports, and answers it.
    ///
    /// # Errors
    /// [`Refused::UnknownOlt`] if it was deregistered meanwhile.
    pub fn heard(
        &mut self,
        now: &Now,
        heartbeat: Heartbeat,
        granted: Answer,
    ) -> Result<HeartbeatAnswer, Refused> {
        let olt = heartbeat.olt;
        let live = Live {
            last_heartbeat: Some(now.wall),
            active_subscribers: heartbeat.active_subscribers,
            metrics: heartbeat.metrics,
            config_revision: heartbeat.config_revision,
            clocks_apart: (!heartbeat.clocks_apart.is_empty()).then_some(heartbeat.clocks_apart),
        };
        if live.clocks_apart.is_some()
            && self
                .live
                .get(&olt)
                .is_none_or(|before| before.clocks_apart.is_none())
        {
            let what = live
                .clocks_apart
                .as_deref()
                .unwrap_or_default()
                .escape_default();
            tracing::error!(%olt, %what, "an OLT host says that clocks run further apart than leases allow for");
        }
        let view = self
            .table()
            .olt(&olt)
            .ok_or_else(|| Refused::UnknownOlt(olt.clone()))?;
        let answer = HeartbeatAnswer {
            lease: granted.lease,
            keeping: granted.keeping,
            config_revision: view.row.config_revision,
            state: view.state,
            other_host: self.hosts.warning(&olt),
            clocks: self.clocks(now),
        };
        self.live.insert(olt, live);
        Ok(answer)
    }

    /// Looks whether an OLT can be forgotten, because it is drained and holds nothing, or fenced, and gives
    /// the command that does it.
    ///
    /// # Errors
    /// [`Refused::DrainFirst`], [`Refused::UnknownOlt`].
    pub fn prepare_deregister(&self, olt: &OltId) -> Result<Command, Refused> {
        let node = self.node(olt)?;
        let shards = node.shards.values().map(Vec::len).sum::<usize>();
        let draining = self.table().olt(olt).is_some_and(|view| view.row.draining);
        let empty = draining && node.allocations == 0 && shards == 0;
        // Nothing is held on it any more, and nothing will be: it has to register before.
        let reclaimed = node.reclaim == Reclaim::Done && node.allocations == 0;
        if !empty && !node.fenced && !reclaimed {
            return Err(Refused::DrainFirst {
                olt: olt.clone(),
                state: node.state.as_str(),
                allocations: node.allocations,
                shards: u64::try_from(shards).unwrap_or(u64::MAX),
            });
        }
        Ok(Command::Deregister { olt: olt.clone() })
    }

    /// The newest configuration of an OLT.
    ///
    /// # Errors
    /// [`Refused::UnknownOlt`].
    pub fn config(&self, olt: &OltId) -> Result<OltConfig, Refused> {
        self.build_config(olt)
            .ok_or_else(|| Refused::UnknownOlt(olt.clone()))
    }

    /// An OLT as people see it.
    ///
    /// # Errors
    /// [`Refused::UnknownOlt`].
    pub fn node(&self, olt: &OltId) -> Result<NodeInfo, Refused> {
        let table = self.table();
        let view = table
            .olt(olt)
            .ok_or_else(|| Refused::UnknownOlt(olt.clone()))?;
        let live = self.live.get(olt).cloned().unwrap_or_default();
        let shards = table
            .shards_of(olt)
            .into_iter()
            .map(|(pool, shards)| (pool, shards.iter().map(|owned| owned.shard).collect()))
            .collect();
        Ok(NodeInfo {
            id: olt.clone(),
            name: view.row.name.clone(),
            region: view.row.region.clone(),
            address: view.row.address.clone(),
            capacity: view.row.capacity,
            session: view.row.session.clone(),
            state: view.state,
            shards,
            last_heartbeat: live.last_heartbeat,
            active_subscribers: live.active_subscribers,
            allocations: self.record.olt_counts(olt).held(),
            metrics: live.metrics,
            config_revision: view.row.config_revision,
            running_revision: live.config_revision,
            fenced: view.row.fenced,
            reclaim: table.reclaim_of(olt),
            reclaim_in: table
                .reclaimed_at(olt)
                .filter(|_| table.reclaim_of(olt) == Reclaim::Kept)
                .map(|at| at.since(table.now())),
            drain: self.drain_progress(olt),
            other_host: self.hosts.warning(olt),
            clocks_apart: live.clocks_apart,
        })
    }

    /// All OLTs in the order of their names.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeInfo> {
        self.table()
            .olts()
            .filter_map(|view| self.node(&view.row.id).ok())
            .collect()
    }

    /// The newest configuration, for a session: what is configured is the current one's.
    ///
    /// # Errors
    /// An unknown OLT, or a session that is not the current one.
    pub fn read_config(
        &self,
        olt: &OltId,
        session: Option<&SessionId>,
    ) -> Result<Arc<OltConfig>, Refused> {
        if let Some(session) = session {
            self.current_session(olt, session)?;
            if self.table().is_in_doubt(olt) {
                return Err(Refused::NotNow(format!(
                    "it is not certain what OLT {olt} owns: let it register first"
                )));
            }
        }
        self.config(olt).map(Arc::new)
    }

    /// What an OLT that watches its allocations reads first: the changes after `revision` if they are still
    /// known, else everything that is on it or in its shards, and the end of the snapshot.
    ///
    /// # Errors
    /// An unknown OLT, or a session that is not the current one.
    pub fn watch_allocations(
        &self,
        olt: &OltId,
        session: Option<&SessionId>,
        revision: u64,
    ) -> Result<Vec<Change>, Refused> {
        if let Some(session) = session {
            self.current_session(olt, session)?;
        } else if self.table().olt(olt).is_none() {
            return Err(Refused::UnknownOlt(olt.clone()));
        }
        if let Some(changes) = self.log.after(olt, revision) {
            return Ok(changes);
        }
        Ok(self.snapshot(olt))
    }

    fn snapshot(&self, olt: &OltId) -> Vec<Change> {
        let revision = self.log.revision();
        let in_shards = self
            .table()
            .shards_of(olt)
            .into_iter()
            .flat_map(|(pool, shards)| shards.into_iter().map(move |owned| (pool.clone(), owned)))
            .flat_map(|(pool, owned)| self.in_shard(&pool, owned.shard).collect::<Vec<_>>());
        let all: BTreeMap<_, _> = self
            .record
            .of_olt(olt, None)
            .chain(in_shards)
            .map(|allocation| (&allocation.place, allocation))
            .collect();
        let mut changes = Vec::with_capacity(all.len().saturating_add(1));
        for allocation in all.into_values() {
            let shared = Some(Arc::new(allocation.clone()));
            let change = |kind| Change {
                // Only the end of a snapshot is a place to resume from.
                revision: 0,
                kind,
                allocation: shared.clone(),
            };
            changes.push(change(ChangeKind::Put));
            // The OLT may have been away when it was asked.
            if allocation.state == AllocationState::Releasing && allocation.olt == *olt {
                changes.push(change(ChangeKind::ReleaseRequested));
            }
        }
        changes.push(Change {
            revision,
            kind: ChangeKind::SnapshotEnd,
            allocation: None,
        });
        changes
    }
}

fn check_text(text: &str) -> Result<(), Refused> {
    if text.len() > MAX_TEXT {
        let problem = format!("takes at most {MAX_TEXT} bytes, not {}", text.len());
        return Err(Refused::invalid("clocks_apart", problem));
    }
    Ok(())
}

fn check_metrics(metrics: &BTreeMap<String, f64>) -> Result<(), Refused> {
    if metrics.len() > MAX_METRICS {
        let problem = format!(
            "{} values are too many: at most {MAX_METRICS}",
            metrics.len()
        );
        return Err(Refused::invalid("metrics", problem));
    }
    let bad = |(name, value): &(&String, &f64)| {
        name.is_empty() || name.len() > MAX_METRIC_NAME || !value.is_finite()
    };
    match metrics.iter().find(bad) {
        None => Ok(()),
        Some((name, _)) => Err(Refused::invalid(
            "metrics",
            format!(
                "`{}`: names take 1 to {MAX_METRIC_NAME} bytes, values are finite numbers",
                name.escape_default()
            ),
        )),
    }
}
