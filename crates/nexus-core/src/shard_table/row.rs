//! What the shard table knows of an OLT and of a shard.

use serde::{Deserialize, Serialize};

use crate::id::{Epoch, OltId, Seq, SessionId};
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
pub(super) struct Counters {
    /// Revision of the newest configuration of any OLT.
    pub revision: u64,
    /// Epoch that shards of new pools start at: no shard of a removed pool was beyond it.
    pub epoch_floor: Epoch,
    /// How often the rule of leases was changed.
    #[serde(default)]
    pub rule: u64,
    /// Number of the newest grant of a unit of the cluster's own shards.
    pub unit_seq: Seq,
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

impl ShardRow {
    /// Whether the cluster keeps it for allocations of its own, and may make some.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.state == ShardState::Owned && self.is_clusters()
    }

    /// Whether the cluster itself owns it.
    #[must_use]
    pub fn is_clusters(&self) -> bool {
        self.owner
            .as_ref()
            .is_some_and(|owner| owner.olt.is_cluster())
    }
}
