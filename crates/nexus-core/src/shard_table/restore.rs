//! The table out of its rows, and the rows out of the table.

use std::collections::BTreeMap;

use thiserror::Error;

use super::row::{MetaRow, Row};
use super::{OltEntry, PoolEntry, ShardTable};
use crate::lease::{LeaseRule, grantor_end};
use crate::pool::{Pool, PoolError};
use crate::shard::ShardKey;
use crate::time::ClusterTime;

/// Why rows do not make a table.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RestoreError {
    /// A pool is no longer understood.
    #[error("the stored shard table has a pool that is not valid: {0}")]
    Pool(#[from] PoolError),
    /// A shard of a pool that is not there, or beyond its end.
    #[error(
        "the stored shard table has {0}, which does not exist: restore the store from a backup"
    )]
    StrayShard(ShardKey),
    /// Parts that do not go together, or too many of something.
    #[error("the shard table does not hold together: {0}; take it from another node or a backup")]
    Inconsistent(String),
}

impl ShardTable {
    /// All rows of the table, in the order of their keys.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Row> {
        // Like every other row, this one is there once it was changed.
        let meta = (self.meta != MetaRow::default()).then_some(Row::Meta(self.meta));
        let olts = self
            .olts
            .values()
            .map(|entry| Row::Olt(Box::new(entry.row.clone())));
        let pools = self.pools.values().map(PoolEntry::row);
        let shards = self
            .pools
            .values()
            .flat_map(|entry| entry.shards.values().cloned().map(Row::Shard));
        meta.into_iter()
            .chain(olts)
            .chain(pools)
            .chain(shards)
            .collect()
    }

    /// Makes the table again out of its rows, in whatever order they come. They do not say when a
    /// renewal was accepted last, so that every lease is counted from `now`, as long as the longest that
    /// was granted; nor which units are taken. An exact copy is a snapshot of
    /// [`ClusterState`](crate::cluster::ClusterState).
    ///
    /// # Errors
    /// The rows do not fit together.
    pub fn restore(
        rule: LeaseRule,
        rows: impl IntoIterator<Item = Row>,
        now: ClusterTime,
    ) -> Result<Self, RestoreError> {
        let mut table = Self::new(rule);
        table.now = now;
        let mut shards = Vec::new();
        let mut owners = Vec::new();
        for row in rows {
            match row {
                Row::Meta(row) => table.meta = row,
                Row::Pool(row) => {
                    let pool = Pool::new(row.spec)?;
                    let id = pool.id().clone();
                    let entry = PoolEntry {
                        pool,
                        removing: row.removing,
                        unsettled: true,
                        shards: BTreeMap::new(),
                        taken: BTreeMap::new(),
                    };
                    table.pools.insert(id, entry);
                }
                Row::Olt(row) => {
                    let id = row.id.clone();
                    if !row.fenced {
                        owners.push(row.owner());
                    }
                    let entry = OltEntry {
                        online: !row.fenced,
                        row: *row,
                        heard: now,
                        active: true,
                        in_use: BTreeMap::new(),
                    };
                    table.olts.insert(id, entry);
                }
                Row::Shard(row) => shards.push(row),
            }
        }
        for row in shards {
            let entry = table
                .pools
                .get_mut(&row.key.pool)
                .filter(|entry| entry.pool.units(row.key.shard) > 0)
                .ok_or_else(|| RestoreError::StrayShard(row.key.clone()))?;
            if let Some(owner) = row.owner.clone().filter(|owner| !owner.olt.is_cluster()) {
                owners.push(owner);
            }
            entry.shards.insert(row.key.shard, row);
        }
        let longest = table.meta.longest_lease.max(rule.length());
        let until = grantor_end(now, longest);
        table.longer_until = (longest > rule.length()).then_some(until);
        table.leases = owners.into_iter().map(|owner| (owner, until)).collect();
        Ok(table)
    }
}
