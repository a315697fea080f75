//! The rows that make up the shard table, as they are persisted and restored.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{Epoch, OltId, PoolId, Seq, SessionId};
use crate::pool::PoolSpec;
use crate::shard::{ShardKey, ShardState};

/// Who owns a shard: one session of one OLT.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// The OLT, or [`OltId::cluster`].
    pub olt: OltId,
    /// Its session.
    pub session: SessionId,
}

impl Owner {
    /// The cluster itself, whose right never ends.
    #[must_use]
    pub fn cluster() -> Option<Self> {
        Some(Self {
            olt: OltId::cluster(),
            session: SessionId::new("cluster").ok()?,
        })
    }
}

/// What the whole table counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaRow {
    /// Revision of the newest configuration of any OLT.
    pub revision: u64,
    /// Epoch that shards of new pools start at: no shard of a removed pool was beyond it.
    pub epoch_floor: Epoch,
    /// No lease that may not have ended is longer; zero: as the rule.
    #[serde(default)]
    pub longest_lease: Duration,
    /// Number of the newest grant of a unit of the cluster's own shards.
    #[serde(default)]
    pub unit_seq: Seq,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRow {
    /// The pool as its operator wrote it.
    pub spec: PoolSpec,
    /// Whether it goes as soon as all its shards have come back.
    pub removing: bool,
}

/// An OLT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OltRow {
    /// Its name.
    pub id: OltId,
    /// A name for people.
    pub name: String,
    /// Region that it stands in.
    pub region: String,
    /// Where it can be reached; not used by the table.
    pub address: String,
    /// Most subscribers that it serves.
    pub capacity: u32,
    /// Its session.
    pub session: SessionId,
    /// Whether an operator stated that it is fenced; it is not renewed before it registers again.
    pub fenced: bool,
    /// Sessions that were replaced, the newest last; they are refused.
    pub superseded: Vec<SessionId>,
    /// Highest sequence number that it said it had used in its session.
    pub last_seq: Seq,
    /// All commands of its session below have been acknowledged to it.
    #[serde(default)]
    pub acked_below: Seq,
    /// Whether it is to lose all of its shards.
    pub draining: bool,
    /// Revision of its configuration.
    pub config_revision: u64,
    /// It must know at least this revision of its configuration before its lease is renewed: at
    /// that revision it lost a shard that it had not given back.
    pub needs_revision: u64,
}

impl OltRow {
    /// The OLT in its current session.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner {
            olt: self.id.clone(),
            session: self.session.clone(),
        }
    }
}

/// A shard that has or had an owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardRow {
    /// Which shard.
    pub key: ShardKey,
    /// How often it changed its owner.
    pub epoch: Epoch,
    /// Its state; `Free` exactly if there is no owner.
    pub state: ShardState,
    /// Who owns it.
    pub owner: Option<Owner>,
}

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "row", rename_all = "lowercase")]
pub enum Row {
    /// See [`MetaRow`].
    Meta(MetaRow),
    /// See [`PoolRow`].
    Pool(Box<PoolRow>),
    /// See [`OltRow`].
    Olt(Box<OltRow>),
    /// See [`ShardRow`].
    Shard(ShardRow),
}

impl Row {
    /// Key that the row is kept under.
    #[must_use]
    pub fn key(&self) -> RowKey {
        match self {
            Self::Meta(_) => RowKey::Meta,
            Self::Pool(row) => RowKey::Pool(row.spec.id.clone()),
            Self::Olt(row) => RowKey::Olt(row.id.clone()),
            Self::Shard(row) => RowKey::Shard(row.key.clone()),
        }
    }
}

/// Key of a row. Prints as a text that is unique, has no spaces and sorts like the key:
/// `meta`, `olt/<id>`, `pool/<id>`, `shard/<pool>/<8 hexadecimal digits>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKey {
    /// The one [`MetaRow`].
    Meta,
    /// An OLT.
    Olt(OltId),
    /// A pool.
    Pool(PoolId),
    /// A shard.
    Shard(ShardKey),
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Meta => f.write_str("meta"),
            Self::Olt(id) => write!(f, "olt/{id}"),
            Self::Pool(id) => write!(f, "pool/{id}"),
            Self::Shard(key) => write!(f, "shard/{}/{:08x}", key.pool, key.shard.0),
        }
    }
}

/// What must be persisted, all of it at once, before a command is answered: the new row, or `None`
/// if the row is gone.
pub type Changes = BTreeMap<RowKey, Option<Row>>;
