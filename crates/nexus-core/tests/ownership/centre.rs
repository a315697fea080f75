//! The centre of the model: the real shard table, and a record that is a plain map with the rules of
//! `nexus-server/src/centre/claims.rs`.

use std::collections::BTreeMap;

use nexus_core::edge::{
    Command, EdgeConfig, Outgoing, PoolGrant, Record, RecordKind, Refusal, ShardGrant, What,
};
use nexus_core::id::{Epoch, OltId, PoolId, Seq, SessionId, ShardId, SubscriberId};
use nexus_core::lease::LeaseRule;
use nexus_core::pool::PoolSpec;
use nexus_core::resource::{Resource, ResourceType};
use nexus_core::shard::{ShardRef, ShardState};
use nexus_core::shard_table::{self, Applied, ShardTable};
use nexus_core::time::ClusterTime;

use crate::bug::Bug;
use crate::world::{DHCP_LEASE, HEARTBEAT, LEASE};

/// What is on record of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub subscriber: SubscriberId,
    pub olt: OltId,
    pub session: SessionId,
    pub epoch: Epoch,
    pub seq: Seq,
    pub state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Active,
    /// Its OLT is asked to release it.
    Releasing,
    /// Remembered until then, in cluster time.
    Released(ClusterTime),
}

impl Entry {
    pub fn is_held(&self) -> bool {
        !matches!(self.state, State::Released(_))
    }
}

#[derive(Clone, Debug)]
pub struct Centre {
    pub table: ShardTable,
    pub record: BTreeMap<Resource, Entry>,
    acked_below: BTreeMap<SessionId, Seq>,
}

/// What became of a command.
pub enum Verdict {
    Answer(Option<Refusal>),
    /// The session is over.
    RegisterAgain,
}

pub fn pool_id() -> PoolId {
    PoolId::new("p").unwrap()
}

/// Four shards of two addresses; nothing of the first can be given, and the cluster keeps the last.
fn spec() -> PoolSpec {
    let mut spec = PoolSpec::minimal(pool_id(), ResourceType::Ipv4, "10.0.0.0/29");
    spec.shard_size = Some(31);
    spec.cool_down = nexus_core::duration::HumanDuration::from_secs(20);
    spec.dhcp.lease_time = nexus_core::duration::HumanDuration::from_secs(DHCP_LEASE.as_secs());
    spec
}

impl Centre {
    pub fn new() -> Self {
        let rule = LeaseRule::new(LEASE, HEARTBEAT).unwrap();
        let mut table = ShardTable::new(rule);
        let add = shard_table::Command::AddPool {
            spec: Box::new(spec()),
        };
        let _ = table.drive(ClusterTime::ZERO, add).unwrap();
        Self {
            table,
            record: BTreeMap::new(),
            acked_below: BTreeMap::new(),
        }
    }

    pub fn apply(
        &mut self,
        now: ClusterTime,
        command: shard_table::Command,
    ) -> Result<Applied, shard_table::Refusal> {
        self.table.drive(now, command)
    }

    /// The highest number that is on record of a session.
    pub fn recorded_seq(&self, session: &SessionId) -> Seq {
        let of = self.record.values().filter(|e| e.session == *session);
        of.map(|entry| entry.seq).max().unwrap_or(Seq(0))
    }

    pub fn config(&self, olt: &OltId) -> EdgeConfig {
        let pools = self.table.shards_of(olt).into_iter().map(|(id, shards)| {
            let grant = |owned: shard_table::OwnedShard| ShardGrant {
                shard: owned.shard,
                epoch: owned.epoch,
                draining: owned.state != ShardState::Owned,
            };
            PoolGrant {
                spec: self.table.pool(&id).unwrap().spec().clone(),
                shards: shards.into_iter().map(grant).collect(),
            }
        });
        EdgeConfig {
            revision: self.revision(olt),
            pools: pools.collect(),
        }
    }

    pub fn shards_of(&self, olt: &OltId) -> Vec<ShardId> {
        let shards = self.table.shards_of(olt).remove(&pool_id());
        shards.into_iter().flatten().map(|o| o.shard).collect()
    }

    pub fn revision(&self, olt: &OltId) -> u64 {
        let view = self.table.olt(olt);
        view.map_or(0, |view| view.row.config_revision)
    }

    /// What an OLT reads: everything that is on it or in its shards.
    pub fn records_for(&self, olt: &OltId) -> Vec<(RecordKind, Record)> {
        let shards = self.shards_of(olt);
        let pool = self.table.pool(&pool_id()).unwrap();
        let concerns = |(resource, entry): &(&Resource, &Entry)| {
            let shard = pool.locate(resource).unwrap().0;
            entry.olt == *olt || shards.contains(&shard)
        };
        let all = self.record.iter().filter(concerns);
        all.flat_map(|(resource, entry)| {
            let put = if entry.is_held() {
                RecordKind::Put
            } else {
                RecordKind::Released
            };
            let ask = entry.state == State::Releasing && entry.olt == *olt;
            let ask = ask.then_some(RecordKind::ReleaseRequested);
            let record = as_record(*resource, entry);
            std::iter::once(put)
                .chain(ask)
                .map(move |kind| (kind, record.clone()))
        })
        .collect()
    }

    /// Takes a command of an OLT.
    pub fn command(
        &mut self,
        now: ClusterTime,
        olt: &OltId,
        session: &SessionId,
        outgoing: &Outgoing,
        bug: Option<Bug>,
    ) -> Verdict {
        let view = self.table.olt(olt);
        let current = view.is_some_and(|v| v.row.session == *session && !v.row.fenced);
        if !current {
            return Verdict::RegisterAgain;
        }
        let seq = outgoing.seq;
        let floor = self.acked_below.entry(session.clone()).or_default();
        if seq < *floor && bug != Some(Bug::ReleaseWithoutSequence) {
            return Verdict::Answer(Some(Refusal::Stale));
        }
        let answer = match outgoing.command.what {
            What::Allocate { .. } => self.claim(olt, session, outgoing, bug),
            What::Deallocate { .. } => self.release(now, olt, session, outgoing, bug),
        };
        if answer.is_none() {
            let floor = self.acked_below.entry(session.clone()).or_default();
            *floor = (*floor).max(outgoing.acked_below);
        }
        Verdict::Answer(answer)
    }

    fn claim(
        &mut self,
        olt: &OltId,
        session: &SessionId,
        outgoing: &Outgoing,
        bug: Option<Bug>,
    ) -> Option<Refusal> {
        let (seq, command) = (outgoing.seq, &outgoing.command);
        let owns = self
            .table
            .check_owner(olt, session, &shard(command))
            .is_ok();
        let known = self.record.get(&command.resource);
        if let Some(known) = known.filter(|k| k.session == *session) {
            if known.seq == seq && known.subscriber == command.subscriber && known.is_held() {
                return (!owns).then_some(Refusal::Stale);
            }
            if known.seq >= seq {
                return Some(Refusal::Stale);
            }
        }
        if !owns && bug != Some(Bug::NoEpochCheck) {
            return Some(Refusal::Stale);
        }
        if let Some(known) = known.filter(|k| k.is_held()) {
            let released_elsewhere = known.session == *session && known.seq < outgoing.acked_below;
            let newer_owner = command.epoch > known.epoch;
            if known.subscriber != command.subscriber && !released_elsewhere && !newer_owner {
                return Some(Refusal::Taken);
            }
        }
        let others = self.record.iter_mut().filter(|(resource, other)| {
            other.subscriber == command.subscriber
                && other.state == State::Active
                && **resource != command.resource
        });
        for (_, other) in others {
            if other.session == *session {
                return Some(Refusal::Stale);
            }
            other.state = State::Releasing;
        }
        let entry = Entry {
            subscriber: command.subscriber.clone(),
            olt: olt.clone(),
            session: session.clone(),
            epoch: command.epoch,
            seq,
            state: State::Active,
        };
        self.record.insert(command.resource, entry);
        None
    }

    fn release(
        &mut self,
        now: ClusterTime,
        olt: &OltId,
        session: &SessionId,
        outgoing: &Outgoing,
        bug: Option<Bug>,
    ) -> Option<Refusal> {
        let (seq, command) = (outgoing.seq, &outgoing.command);
        let pool = self.table.pool(&pool_id()).unwrap();
        let released = State::Released(now + pool.rest());
        let owns = self
            .table
            .check_owner(olt, session, &shard(command))
            .is_ok();
        match self.record.get_mut(&command.resource) {
            Some(known) if known.subscriber != command.subscriber && known.is_held() => None,
            Some(known) if known.olt != *olt => known.is_held().then_some(Refusal::Stale),
            Some(known) => {
                let same = known.session == *session;
                let unordered = bug == Some(Bug::ReleaseWithoutSequence);
                if same && known.seq > seq && !unordered {
                    return Some(Refusal::Stale);
                }
                if !same && !known.is_held() {
                    return None;
                }
                known.seq = if same { known.seq.max(seq) } else { seq };
                known.session = session.clone();
                known.state = released;
                None
            }
            None if !owns => None,
            None => {
                let mark = Entry {
                    subscriber: command.subscriber.clone(),
                    olt: olt.clone(),
                    session: session.clone(),
                    epoch: command.epoch,
                    seq,
                    state: released,
                };
                self.record.insert(command.resource, mark);
                None
            }
        }
    }

    /// Forgets what has rested, unless a copy of an old command may still come.
    pub fn forget_rested(&mut self, now: ClusterTime) {
        let (table, below) = (&self.table, &self.acked_below);
        self.record.retain(|_, entry| {
            let State::Released(until) = entry.state else {
                return true;
            };
            let current = table
                .olt(&entry.olt)
                .is_some_and(|v| v.row.session == entry.session);
            let floor = below.get(&entry.session).copied().unwrap_or_default();
            now < until || (current && floor <= entry.seq)
        });
    }
}

pub fn as_record(resource: Resource, entry: &Entry) -> Record {
    Record {
        pool: pool_id(),
        resource,
        shard: ShardId(0),
        subscriber: entry.subscriber.clone(),
        olt: entry.olt.clone(),
        session: Some(entry.session.clone()),
        epoch: entry.epoch,
        seq: entry.seq,
    }
}

fn shard(command: &Command) -> ShardRef {
    ShardRef {
        pool: command.pool.clone(),
        shard: command.shard,
        epoch: command.epoch,
    }
}
