//! What the shard table can be told, and what it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pins::PinUnit;
use crate::id::{Epoch, OltId, PoolId, Seq, SessionId, ShardId, SubscriberId};
use crate::lease::{Keeping, LeaseRule};
use crate::pool::PoolSpec;
use crate::shard::{ShardKey, ShardRef};
use crate::time::ClusterTime;

/// A command. The same commands at the same cluster times give the same table, on whatever node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// An OLT enrols, or comes back after a restart. Starts or renews its lease.
    Register(Register),
    /// A heartbeat. Renews the lease.
    Renew(Renew),
    /// An OLT gives back shards that it will never again allocate from under that epoch. Shards
    /// that are not its own (any more) are passed over: the message may be an old copy.
    GiveBack {
        /// The OLT.
        olt: OltId,
        /// Its session.
        session: SessionId,
        /// The shards.
        shards: Vec<ShardRef>,
    },
    /// The OLT shall give back all its shards and gets no others.
    Drain {
        /// The OLT.
        olt: OltId,
    },
    /// The OLT shall not give back its shards after all.
    Activate {
        /// The OLT.
        olt: OltId,
    },
    /// Forgets an OLT. Refused while it is online and owns shards; the shards of an OLT that is
    /// offline stay frozen until its lease has ended.
    Deregister {
        /// The OLT.
        olt: OltId,
    },
    /// An operator states that the host is dead or cut off from its subscribers. Its shards are
    /// free at once. **If the statement is wrong, addresses are handed out twice.**
    Fence {
        /// The OLT.
        olt: OltId,
        /// Why the operator is certain; kept in the log.
        reason: String,
    },
    /// A new pool.
    AddPool {
        /// The pool.
        spec: Box<PoolSpec>,
    },
    /// Another specification of a pool, as far as [`Pool::change_to`](crate::pool::Pool::change_to) allows. One
    /// that has shards less waits until their owners have given them back.
    UpdatePool {
        /// The pool.
        spec: Box<PoolSpec>,
    },
    /// Asks all shards of a pool back; the pool goes with the last. See [`Applied::removed_pools`].
    RemovePool {
        /// The pool.
        pool: PoolId,
    },
    /// Other lengths for the leases that are granted from now on. Leases that were granted under a
    /// longer rule go on until their own end.
    SetRule {
        /// The lengths.
        rule: LeaseRule,
    },
    /// Takes a unit of a shard that the cluster keeps, for an allocation of the cluster's own. Whoever
    /// has it may take it again: under a new number, so that an older [`Command::FreeUnit`] does
    /// nothing. See [`Applied::unit`].
    TakeUnit {
        /// A shard of the cluster.
        shard: ShardKey,
        /// Which unit of it, from 0.
        unit: u64,
        /// Who gets it.
        holder: SubscriberId,
        /// Number of the server that makes the allocation: it alone knows for certain whether it did, and
        /// so frees what was taken for nothing. See [`ShardTable::taken_by`](super::ShardTable::taken_by).
        server: u32,
    },
    /// Gives a unit back. Without effect if it was taken under another number, or is free.
    FreeUnit {
        /// The shard.
        shard: ShardKey,
        /// Which unit of it.
        unit: u64,
        /// Number that it was taken under.
        seq: Seq,
    },
    /// Takes a unit of a pinned pool for a subscriber, on an OLT or until it comes to one. Whoever has it may
    /// take it again, under a new number, but on another OLT only after the one where it is has released it
    /// ([`Command::LeaveUnit`]) or is fenced. See [`Applied::unit`].
    PinUnit(PinUnit),
    /// The OLT on which a unit of a pinned pool is has released it. The subscriber keeps it, until
    /// [`Command::FreeUnit`]. Without effect if it was taken under another number since.
    LeaveUnit {
        /// The shard.
        shard: ShardKey,
        /// Which unit of it.
        unit: u64,
        /// Number that it was taken under.
        seq: Seq,
    },
    /// What an OLT in doubt knows for certain; to be proposed before its registration. See
    /// [`ShardTable::needs_vouching`](super::ShardTable::needs_vouching).
    Vouch(Vouch),
    /// All that was on record of an OLT whose time was over is released, and a majority knows it. Without effect
    /// if it is not the one that was meant.
    Reclaimed {
        /// The OLT.
        olt: OltId,
        /// When its time was over.
        until: ClusterTime,
    },
    /// Time has passed. To be sent at least once per heartbeat.
    Tick,
    /// Shards change hands as [placement](crate::placement) says. It was thought out by whoever proposes this,
    /// on a table that may be older: each step is checked, and one that does not hold (any more) is skipped.
    /// See [`ShardTable::steps`](super::ShardTable::steps).
    Place {
        /// At most [`MAX_STEPS`](super::MAX_STEPS); what is beyond is skipped.
        steps: Vec<Step>,
    },
}

/// A step of placement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// A free shard goes to an OLT, or to the cluster itself.
    Grant {
        /// The shard.
        shard: ShardKey,
        /// Who gets it.
        to: OltId,
    },
    /// The owner of a shard is asked to use it up and to give it back.
    Drain {
        /// The shard.
        shard: ShardKey,
        /// Its owner.
        from: OltId,
    },
}

/// See [`Command::Register`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// The OLT.
    pub olt: OltId,
    /// A name for people.
    pub name: String,
    /// Region that it stands in.
    pub region: String,
    /// Where it can be reached.
    pub address: String,
    /// Most subscribers that it serves.
    pub capacity: u32,
    /// Its session.
    pub session: SessionId,
    /// Highest sequence number that it has used in this session.
    pub last_seq: Seq,
    /// Highest sequence number that the record of allocations has of this OLT and session; filled
    /// in by the server.
    pub recorded_seq: Seq,
    /// All commands of the session below have been acknowledged to the OLT.
    #[serde(default)]
    pub acked_below: Seq,
    /// Number of the rule that the host keeps acknowledged bindings under, 0 if it was told none; `None`: it
    /// never ends them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keeping: Option<u64>,
}

/// See [`Command::Renew`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renew {
    /// The OLT.
    pub olt: OltId,
    /// Its session.
    pub session: SessionId,
    /// Revision of the configuration that it worked with when it sent this.
    pub config_revision: u64,
    /// Highest sequence number that it has used in this session.
    pub last_seq: Seq,
    /// Resources in use, for each pool.
    pub in_use: BTreeMap<PoolId, u64>,
    /// Shards in which nothing is in use, of pools with a high-water mark: asked back first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub idle: BTreeMap<PoolId, BTreeSet<ShardId>>,
    /// As [`Command::GiveBack`].
    pub released: Vec<ShardRef>,
    /// All commands of the session below have been acknowledged to the OLT.
    #[serde(default)]
    pub acked_below: Seq,
    /// As [`Register::keeping`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keeping: Option<u64>,
}

/// See [`Command::Vouch`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vouch {
    /// The OLT.
    pub olt: OltId,
    /// Its session.
    pub session: SessionId,
    /// Revision of the newest configuration that it has.
    pub config_revision: u64,
    /// Whether its lease had not ended, as it counts itself, when it said this.
    pub lease_alive: bool,
}

/// What a command has done: on every node alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "whom it concerns must be told"]
pub struct Applied {
    /// OLTs whose configuration has a new revision.
    pub reconfigured: BTreeSet<OltId>,
    /// Every change of ownership, in order, for log and metrics.
    pub moves: Vec<OwnerChange>,
    /// Pools that are gone, with all their shards.
    pub removed_pools: Vec<PoolId>,
    /// OLTs that have missed too many heartbeats since the last command.
    pub went_offline: Vec<OltId>,
    /// OLTs of which what is on record is to be released from now on.
    pub reclaimed: Vec<OltId>,
    /// Length of the lease that a [`Command::Register`] or [`Command::Renew`] has granted. To be told to
    /// the OLT as it is: the rule may have changed by the time of the answer.
    pub lease: Option<Duration>,
    /// What outlives that lease; to be told with it.
    pub keeping: Option<Keeping>,
    /// What a [`Command::TakeUnit`] has granted.
    pub unit: Option<UnitGrant>,
    /// Nobody had the right to that unit before, not even its holder: whoever does not use it may free it at once.
    pub unit_is_new: bool,
}

impl Applied {
    /// Adds what a later command has done.
    pub(crate) fn followed_by(&mut self, later: Self) {
        self.reconfigured.extend(later.reconfigured);
        self.moves.extend(later.moves);
        self.removed_pools.extend(later.removed_pools);
        self.went_offline.extend(later.went_offline);
        self.reclaimed.extend(later.reclaimed);
        self.lease = later.lease.or(self.lease);
        self.keeping = later.keeping.or(self.keeping);
        if later.unit.is_some() {
            (self.unit, self.unit_is_new) = (later.unit, later.unit_is_new);
        }
    }
}

/// The right to one unit of a shard that the cluster keeps: fence of the allocation in CLSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UnitGrant {
    /// Epoch under which the cluster owns the shard.
    pub epoch: Epoch,
    /// Number of the grant; greater than that of any grant before, whatever shard it was in.
    pub seq: Seq,
}

/// A change of ownership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerChange {
    /// Which shard.
    pub key: ShardKey,
    /// Owner before; `None`: it was free.
    pub from: Option<OltId>,
    /// Owner now; `None`: it is free.
    pub to: Option<OltId>,
    /// Epoch now.
    pub epoch: Epoch,
    /// Why.
    pub reason: MoveReason,
}

/// Why a shard changed its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveReason {
    /// Placement gave it to an OLT or to the cluster.
    Placed,
    /// Its owner gave it back.
    GivenBack,
    /// The lease of its owner has ended.
    LeaseEnded,
    /// An operator stated that its owner is fenced.
    Fenced,
    /// Its pool is gone.
    PoolRemoved,
    /// Part of what was decided is missing, and its owner did not know that it still has it.
    Recovered,
}
