//! What the edge tells the centre: allocations and releases, numbered, and the order in which they may be sent.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::departed::Former;
use crate::id::{Epoch, PoolId, Seq, ShardId, SubscriberId};
use crate::resource::Resource;

/// Most unacknowledged commands. At the limit nothing new is allocated; releases are still taken, of
/// which there cannot be more than allocations.
pub const OUTBOX_LIMIT: usize = 65_536;

/// Most commands that are on their way at a time.
pub const IN_FLIGHT_LIMIT: usize = 256;

/// What the centre is to record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Allocation or release.
    pub what: What,
    /// Pool of the resource.
    pub pool: PoolId,
    /// Who gets or had it.
    pub subscriber: SubscriberId,
    /// The resource.
    pub resource: Resource,
    /// Its shard.
    pub shard: ShardId,
    /// Epoch under which it was given or released.
    pub epoch: Epoch,
}

impl Command {
    /// Whose what is or was.
    pub(super) fn former(&self) -> Former {
        (self.pool.clone(), self.resource, self.subscriber.clone())
    }
}

/// Allocation or release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// The subscriber holds the resource.
    Allocate {
        /// For the record.
        metadata: BTreeMap<String, String>,
        /// When, RFC 3339.
        timestamp: String,
    },
    /// The subscriber holds it no more.
    Deallocate {
        /// Why: `session-stop`, `dhcp-release`, ...
        reason: String,
    },
}

/// A command on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Sequence number.
    pub seq: Seq,
    /// Every command with a lower number has been acknowledged, and durably so.
    pub acked_below: Seq,
    /// The command.
    pub command: Command,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Subscriber(SubscriberId),
    Resource(PoolId, Resource),
}

/// Commands that the centre has not acknowledged. Two of one subscriber or of one resource are never
/// on their way together, so the centre sees each lane in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox {
    pending: BTreeMap<Seq, Command>,
    lanes: BTreeMap<Lane, BTreeSet<Seq>>,
    ready: BTreeSet<Seq>,
    flying: BTreeSet<Seq>,
}

impl Outbox {
    pub(super) fn push(&mut self, seq: Seq, command: Command) {
        for lane in lanes(&command) {
            self.lanes.entry(lane).or_default().insert(seq);
        }
        self.pending.insert(seq, command);
        self.note_ready(seq);
    }

    pub(super) fn get(&self, seq: Seq) -> Option<&Command> {
        self.pending.get(&seq)
    }

    /// Commands about a resource.
    pub(super) fn about(&self, pool: &PoolId, resource: Resource) -> usize {
        let lane = Lane::Resource(pool.clone(), resource);
        self.lanes.get(&lane).map_or(0, BTreeSet::len)
    }

    /// Takes a command out: it was acknowledged or refused.
    pub(super) fn remove(&mut self, seq: Seq) -> Option<Command> {
        let command = self.pending.remove(&seq)?;
        self.ready.remove(&seq);
        self.flying.remove(&seq);
        let mut next = Vec::new();
        for lane in lanes(&command) {
            if let Some(seqs) = self.lanes.get_mut(&lane) {
                seqs.remove(&seq);
                next.extend(seqs.first().copied());
                if seqs.is_empty() {
                    self.lanes.remove(&lane);
                }
            }
        }
        for seq in next {
            self.note_ready(seq);
        }
        Some(command)
    }

    /// The next command to send, if one may be; it counts as on its way from now on.
    pub(super) fn next(&mut self, last_seq: Seq) -> Option<Outgoing> {
        if self.flying.len() >= IN_FLIGHT_LIMIT {
            return None;
        }
        let seq = self.ready.pop_first()?;
        let command = self.pending.get(&seq)?.clone();
        self.flying.insert(seq);
        let acked_below = self
            .pending
            .first_key_value()
            .map_or(last_seq.next(), |(seq, _)| *seq);
        Some(Outgoing {
            seq,
            acked_below,
            command,
        })
    }

    /// A command did not get through: it may be sent again.
    pub(super) fn landed(&mut self, seq: Seq) {
        if self.flying.remove(&seq) {
            self.note_ready(seq);
        }
    }

    /// None is on its way any more: all may be sent again.
    pub(super) fn all_landed(&mut self) {
        for seq in std::mem::take(&mut self.flying) {
            self.note_ready(seq);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn releases(&self) -> usize {
        self.pending
            .values()
            .filter(|command| matches!(command.what, What::Deallocate { .. }))
            .count()
    }

    pub(super) fn concerns(&self, pool: &PoolId, shard: ShardId) -> bool {
        self.pending
            .values()
            .any(|command| command.pool == *pool && command.shard == shard)
    }

    fn note_ready(&mut self, seq: Seq) {
        let Some(command) = self.pending.get(&seq) else {
            return;
        };
        let first = lanes(command).into_iter().all(|lane| {
            self.lanes
                .get(&lane)
                .is_none_or(|seqs| seqs.first() == Some(&seq))
        });
        if first && !self.flying.contains(&seq) {
            self.ready.insert(seq);
        }
    }
}

fn lanes(command: &Command) -> [Lane; 2] {
    [
        Lane::Subscriber(command.subscriber.clone()),
        Lane::Resource(command.pool.clone(), command.resource),
    ]
}
