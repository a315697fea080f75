//! What can be read from the shard table.

use std::collections::BTreeMap;

use super::reclaim::Reclaim;
use super::refusal::Refusal;
use super::row::{OltRow, Owner, ShardRow};
use super::{OltEntry, ShardTable};
use crate::id::{Epoch, OltId, PoolId, SessionId, ShardId};
use crate::lease::LeaseRule;
use crate::pool::Pool;
use crate::shard::{ShardKey, ShardRange, ShardRef, ShardState};
use crate::time::ClusterTime;

/// What an OLT is doing, as the customer's document names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OltState {
    /// Registered, no heartbeat yet.
    Bootstrapping,
    /// Heard of lately.
    Active,
    /// To lose all of its shards.
    Draining,
    /// Has missed too many heartbeats.
    Offline,
}

impl OltState {
    /// Name as it stands in the API and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bootstrapping => "bootstrapping",
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Offline => "offline",
        }
    }
}

/// An OLT as the table knows it.
#[derive(Clone, Copy, Debug)]
pub struct OltView<'a> {
    /// What it said of itself, and what it was told.
    pub row: &'a OltRow,
    /// What it is doing.
    pub state: OltState,
    /// When it was last heard of.
    pub heard: ClusterTime,
}

/// A shard in the configuration of its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedShard {
    /// Index in the pool.
    pub shard: ShardId,
    /// What it covers.
    pub range: ShardRange,
    /// Epoch of the ownership.
    pub epoch: Epoch,
    /// `Owned` or `Draining`.
    pub state: ShardState,
}

impl ShardTable {
    /// The lengths that leases are counted with.
    #[must_use]
    pub fn rule(&self) -> &LeaseRule {
        &self.rule
    }

    /// Time of the newest command.
    #[must_use]
    pub fn now(&self) -> ClusterTime {
        self.now
    }

    /// Revision of the newest configuration of any OLT.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.counters.revision
    }

    /// All pools in the order of their names, those that are being removed included.
    pub fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.pools.values().map(|entry| &entry.pool)
    }

    /// A pool.
    #[must_use]
    pub fn pool(&self, id: &PoolId) -> Option<&Pool> {
        self.pools.get(id).map(|entry| &entry.pool)
    }

    /// Whether a pool is only waiting for its shards to come back.
    #[must_use]
    pub fn is_being_removed(&self, id: &PoolId) -> bool {
        self.pools.get(id).is_some_and(|entry| entry.removing)
    }

    /// What a pool becomes once its last shards have come back, if it shrinks.
    #[must_use]
    pub fn shrinks_to(&self, id: &PoolId) -> Option<&Pool> {
        self.pools.get(id)?.shrink_to.as_ref()
    }

    /// All OLTs in the order of their names.
    pub fn olts(&self) -> impl Iterator<Item = OltView<'_>> {
        self.olts.values().map(OltEntry::view)
    }

    /// An OLT.
    #[must_use]
    pub fn olt(&self, id: &OltId) -> Option<OltView<'_>> {
        self.olts.get(id).map(OltEntry::view)
    }

    /// A shard that has or had an owner; `None` for one that never had.
    #[must_use]
    pub fn shard(&self, key: &ShardKey) -> Option<&ShardRow> {
        self.pools.get(&key.pool)?.shards.get(&key.shard)
    }

    /// All shards of a pool that have or had an owner, in order.
    pub fn shards(&self, pool: &PoolId) -> impl Iterator<Item = &ShardRow> {
        self.pools
            .get(pool)
            .into_iter()
            .flat_map(|entry| entry.shards.values())
    }

    /// Shards of a pool from `from` on that the cluster keeps and may allocate from, in order.
    pub fn kept_shards(&self, pool: &PoolId, from: ShardId) -> impl Iterator<Item = ShardId> {
        let entry = self.pools.get(pool);
        let rows = entry
            .into_iter()
            .flat_map(move |entry| entry.shards.range(from..));
        rows.filter(|(_, row)| row.is_kept())
            .map(|(shard, _)| *shard)
    }

    /// What the configuration of an OLT lists: the shards of its current session, by pool. The
    /// cluster's own shards come under [`OltId::cluster`].
    #[must_use]
    pub fn shards_of(&self, olt: &OltId) -> BTreeMap<PoolId, Vec<OwnedShard>> {
        let owner = if olt.is_cluster() {
            Owner::cluster()
        } else {
            self.olts.get(olt).map(|entry| entry.row.owner())
        };
        let mut shards: BTreeMap<PoolId, Vec<OwnedShard>> = BTreeMap::new();
        if owner.is_none() {
            return shards;
        }
        for (id, entry) in &self.pools {
            let own = entry.shards.values().filter(|row| row.owner == owner);
            let listed: Vec<_> = own
                .filter_map(|row| {
                    let range = entry.pool.shard_range(row.key.shard)?;
                    let (epoch, state) = (row.epoch, row.state);
                    Some(OwnedShard {
                        shard: row.key.shard,
                        range,
                        epoch,
                        state,
                    })
                })
                .collect();
            if !listed.is_empty() {
                shards.insert(id.clone(), listed);
            }
        }
        shards
    }

    /// Checks that a command about a resource of `shard` comes from its owner in its current
    /// session, under the current epoch.
    ///
    /// # Errors
    /// [`Refusal::NotOwner`].
    pub fn check_owner(
        &self,
        olt: &OltId,
        session: &SessionId,
        shard: &ShardRef,
    ) -> Result<(), Refusal> {
        let key = shard.key();
        let is_owner = self.shard(&key).is_some_and(|row| {
            row.epoch == shard.epoch
                && matches!(row.state, ShardState::Owned | ShardState::Draining)
                && row
                    .owner
                    .as_ref()
                    .is_some_and(|o| o.olt == *olt && o.session == *session)
        });
        if is_owner {
            Ok(())
        } else {
            Err(Refusal::NotOwner {
                key,
                epoch: shard.epoch,
                olt: olt.clone(),
            })
        }
    }

    /// When, at the earliest, a [`Command::Tick`](super::Command::Tick) will find something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<ClusterTime> {
        let leases = self.leases.values().copied();
        let online = self.olts.values().filter(|entry| entry.online);
        let kept = self
            .olts
            .values()
            .filter(|entry| entry.kept.state == Reclaim::Kept && !entry.row.fenced)
            .filter_map(|entry| entry.kept.until);
        leases
            .chain(kept)
            .chain(online.map(|entry| entry.heard + self.rule.offline_after()))
            .min()
    }
}

impl OltEntry {
    fn view(&self) -> OltView<'_> {
        let state = if !self.online {
            OltState::Offline
        } else if self.row.draining {
            OltState::Draining
        } else if self.active {
            OltState::Active
        } else {
            OltState::Bootstrapping
        };
        OltView {
            row: &self.row,
            state,
            heard: self.heard,
        }
    }
}
