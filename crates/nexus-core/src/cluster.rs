//! The exclusive facts of a cluster: the shard table and the list of members, as one deterministic state
//! machine that the cluster's log drives.
//!
//! Every node applies the same commands at the same cluster times and so has the same state, byte for byte;
//! nothing here depends on a node's configuration, clock or chance. A node that installed a
//! [snapshot](ClusterState::snapshot) goes on exactly like one that applied the log.

mod codec;
mod member;
mod members;
mod refusal;
mod snapshot;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use codec::{CodecError, MAX_COMMAND_BYTES, Outcome, decode_outcome, encode_outcome};
pub use member::{
    Introduction, Member, MemberCommand, MemberState, RemovedMember, Role, UnknownRole,
};
pub use members::{
    MAX_ADDRESSES, MAX_MEMBERS, MAX_PENDING, MAX_REMOVED, MAX_TEXT, MemberChange, Members,
};
pub use refusal::{MemberRefusal, Refusal};
pub use snapshot::{MAX_SNAPSHOT_BYTES, SnapshotError};

use crate::lease::Keeping;
use crate::shard_table::{self, Command, ShardTable, Step, UnitGrant};
use crate::time::ClusterTime;

/// A command of the cluster's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterCommand {
    /// For the shard table.
    Table(Command),
    /// For the list of members.
    Member(MemberCommand),
    /// One server goes on alone from what it has, which may be less than all that was decided: the first command of the
    /// cluster that it makes. See [`ShardTable::recovering`].
    Recover {
        /// Its number. All other members are gone for good.
        server: u32,
        /// Why, as the operator said; kept in the log.
        reason: String,
    },
}

impl From<Command> for ClusterCommand {
    fn from(command: Command) -> Self {
        Self::Table(command)
    }
}

impl From<MemberCommand> for ClusterCommand {
    fn from(command: MemberCommand) -> Self {
        Self::Member(command)
    }
}

/// What a command has done, on every node alike: log it, tell the OLTs, follow the members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "whom it concerns must be told"]
pub struct Applied {
    /// What has changed in the shard table.
    pub table: shard_table::Applied,
    /// Every member that has changed.
    pub members: Vec<MemberChange>,
    /// State of the member that a [`MemberCommand`] was about; `None`: it is none any more.
    pub member: Option<MemberState>,
}

impl Applied {
    /// The part that goes back to whoever proposed the command.
    #[must_use]
    pub fn answer(&self) -> Answer {
        Answer {
            lease: self.table.lease,
            keeping: self.table.keeping,
            unit: self.table.unit,
            unit_is_new: self.table.unit_is_new,
            member: self.member,
        }
    }
}

/// What whoever proposed a command has to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// See [`shard_table::Applied::lease`].
    pub lease: Option<Duration>,
    /// See [`shard_table::Applied::keeping`].
    #[serde(default)]
    pub keeping: Option<Keeping>,
    /// See [`shard_table::Applied::unit`].
    pub unit: Option<UnitGrant>,
    /// See [`shard_table::Applied::unit_is_new`].
    #[serde(default)]
    pub unit_is_new: bool,
    /// See [`Applied::member`].
    pub member: Option<MemberState>,
}

/// The state machine. See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterState {
    table: ShardTable,
    members: Members,
}

impl ClusterState {
    /// The state before the first command: no member, no pool, the default lengths of leases.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Carries out a command that the leader has stamped with `now`.
    ///
    /// # Errors
    /// Why the command is refused; then nothing has changed but the time.
    pub fn apply(&mut self, now: ClusterTime, command: ClusterCommand) -> Result<Applied, Refusal> {
        match command {
            ClusterCommand::Table(command) => Ok(Applied {
                table: self.table.apply(now, command)?,
                ..Applied::default()
            }),
            ClusterCommand::Member(command) => {
                let now = self.table.advance(now);
                let (member, members) = self.members.apply(now, command)?;
                Ok(Applied {
                    members,
                    member,
                    ..Applied::default()
                })
            }
            ClusterCommand::Recover { server, .. } => {
                let now = self.table.advance(now);
                self.table.recover();
                Ok(Applied {
                    members: self.members.keep_only(now, server),
                    ..Applied::default()
                })
            }
        }
    }

    /// Who owns which shard.
    #[must_use]
    pub fn table(&self) -> &ShardTable {
        &self.table
    }

    /// See [`ShardTable::steps`].
    pub fn steps(&mut self) -> Vec<Step> {
        self.table.steps()
    }

    /// Who belongs to the cluster.
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Time of the newest command.
    #[must_use]
    pub fn now(&self) -> ClusterTime {
        self.table.now()
    }
}
