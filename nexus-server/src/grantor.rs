//! Who decides about shards: one interface, behind which a single node or a quorum can stand.

use futures::future::BoxFuture;
use nexus_core::lease::LeaseRule;
use nexus_core::shard_table::{Applied, Command, Refusal, RestoreError, Row, ShardTable};
use nexus_core::time::{BootTime, ClusterTime};

/// The only authority over (pool, shard) -> owner, epoch, state.
pub trait Grantor: Send + Sync {
    /// Has a command carried out. What it gives back has been decided for good, but for a single node it is
    /// only safe once the caller has made `changes` durable: nothing may be answered before.
    ///
    /// # Errors
    /// Why the command was refused; then nothing has changed.
    fn propose<'a>(
        &'a mut self,
        now: BootTime,
        command: Command,
    ) -> BoxFuture<'a, Result<Applied, Refusal>>;

    /// The table as this server knows it.
    fn table(&self) -> &ShardTable;
}

/// The grantor of a server that runs alone: its table is the authority.
#[derive(Debug)]
pub struct SingleGrantor {
    table: ShardTable,
}

impl SingleGrantor {
    /// Takes up the table from its rows. Every lease is counted from `now` on.
    ///
    /// # Errors
    /// If the rows make no table.
    pub fn restore(
        rule: LeaseRule,
        rows: impl IntoIterator<Item = Row>,
        now: BootTime,
    ) -> Result<Self, RestoreError> {
        Ok(Self {
            table: ShardTable::restore(rule, rows, ClusterTime(now.0))?,
        })
    }
}

impl Grantor for SingleGrantor {
    fn propose<'a>(
        &'a mut self,
        now: BootTime,
        command: Command,
    ) -> BoxFuture<'a, Result<Applied, Refusal>> {
        let outcome = self.table.apply(ClusterTime(now.0), command);
        Box::pin(std::future::ready(outcome))
    }

    fn table(&self) -> &ShardTable {
        &self.table
    }
}
