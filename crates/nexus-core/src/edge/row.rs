//! What the edge keeps on disk: the rows from which a restarted process goes on exactly where it stood.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::command::Command;
use super::earlier::Earlier;
use super::keeping::Kept;
use super::key::LineKey;
use super::resting::Rests;
use crate::id::{Epoch, OltId, PoolId, Seq, SessionId, ShardId, SubscriberId};
use crate::pool::PoolSpec;
use crate::resource::Resource;
use crate::time::BootTime;

/// One row. All boot times are of the boot that [`EdgeRow::boot_id`] names.
// There are few pools, and no row lives longer than it takes to write it.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "row", rename_all = "snake_case")]
pub enum Row {
    /// The edge itself; one row.
    Edge(EdgeRow),
    /// A pool of the configuration.
    Pool(PoolSpec),
    /// A shard that this host owns.
    Shard(ShardRow),
    /// A unit that is bound, rests or is reserved.
    Unit(UnitRow),
    /// A command that the centre has not acknowledged.
    Command(CommandRow),
}

/// Which row: the same key means the same row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowKey {
    /// [`Row::Edge`].
    Edge,
    /// [`Row::Pool`].
    Pool(PoolId),
    /// [`Row::Shard`].
    Shard(PoolId, ShardId),
    /// [`Row::Unit`].
    Unit(PoolId, Resource),
    /// [`Row::Command`].
    Command(Seq),
}

/// What there is once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeRow {
    /// Host that the rows belong to; its shards and bindings are not another one's.
    pub olt: OltId,
    /// Session of this store.
    pub session: SessionId,
    /// Boot that the times in all rows belong to (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// Highest sequence number used.
    pub last_seq: Seq,
    /// Revision of the configuration in the pool and shard rows.
    pub revision: u64,
    /// The lease, if there was one.
    pub lease: Option<LeaseRow>,
    /// The session is new and what the store says of acknowledged bindings has to be confirmed.
    pub unconfirmed: bool,
    /// Another host had this OLT id, and the centre's records have not been read since: nothing is served.
    #[serde(default)]
    pub unread: bool,
    /// Whether somebody may still use what an earlier session gave.
    #[serde(default)]
    pub earlier: Earlier,
    /// From when on rests count.
    #[serde(default)]
    pub rests: Rests,
    /// How long acknowledged bindings outlive the lease.
    #[serde(default)]
    pub kept: Kept,
}

/// The lease as the holder counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRow {
    /// When the request that renewed it last was sent.
    pub sent_at: BootTime,
    /// End of the lease.
    pub until: BootTime,
}

/// Ownership of one shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardRow {
    /// Pool of the shard.
    pub pool: PoolId,
    /// Its index.
    pub shard: ShardId,
    /// Epoch of the ownership.
    pub epoch: Epoch,
    /// The centre wants it back: nothing new is allocated from it.
    pub draining: bool,
    /// The centre's records of it have been read.
    pub synced: bool,
    /// It was given back and will never be allocated from under this epoch.
    pub given_back: bool,
    /// No unit from here on was ever given. Runs ahead of the truth, so that it is seldom written.
    pub fresh: u64,
}

/// One unit that is not free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitRow {
    /// Pool of the unit.
    pub pool: PoolId,
    /// The unit.
    pub resource: Resource,
    /// What about it.
    pub state: UnitState,
}

/// Why a unit is not free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum UnitState {
    /// A subscriber has it.
    Bound(BindingRow),
    /// It cools down after `former`, who may have it back.
    Cooling {
        /// Who had it.
        former: SubscriberId,
        /// End of the cool-down.
        until: BootTime,
    },
    /// Somebody else answers for it on the line.
    Quarantined {
        /// End of the quarantine.
        until: BootTime,
    },
    /// The centre's record says whose it is; no line is known yet.
    Reserved {
        /// Whose it is.
        subscriber: SubscriberId,
        /// The record names this host as the holder's.
        ours: bool,
        /// Epoch of the record.
        epoch: Epoch,
        /// Sequence number of the record.
        seq: Seq,
        /// It is one of an earlier session of this host.
        #[serde(default)]
        earlier: bool,
    },
}

/// One binding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingRow {
    /// Who.
    pub subscriber: SubscriberId,
    /// Shard of the resource.
    pub shard: ShardId,
    /// Epoch it was given under.
    pub epoch: Epoch,
    /// Sequence number of its first Allocate: any from it on, once recorded, acknowledges it.
    pub since: Seq,
    /// Sequence number of its last Allocate.
    pub seq: Seq,
    /// The centre has recorded it.
    pub acked: bool,
    /// The line; `None`: another subscriber has taken the line over.
    pub key: Option<LineKey>,
    /// What stands in the centre's record.
    pub metadata: BTreeMap<String, String>,
    /// When it was given, RFC 3339.
    pub timestamp: String,
}

/// A command and its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRow {
    /// Sequence number.
    pub seq: Seq,
    /// What the centre is to record.
    pub command: Command,
}

impl Row {
    /// Which row it is.
    #[must_use]
    pub fn key(&self) -> RowKey {
        match self {
            Self::Edge(_) => RowKey::Edge,
            Self::Pool(spec) => RowKey::Pool(spec.id.clone()),
            Self::Shard(row) => RowKey::Shard(row.pool.clone(), row.shard),
            Self::Unit(row) => RowKey::Unit(row.pool.clone(), row.resource),
            Self::Command(row) => RowKey::Command(row.seq),
        }
    }
}
