//! The shard table: the only authority over who owns which shard, under which epoch.
//!
//! A deterministic state machine, part of the one that the cluster's log drives
//! ([`ClusterState`](crate::cluster::ClusterState)). [`ShardTable::apply`] takes the cluster time and a
//! command, and says what has changed. Its one promise (design part 6): a shard gets another owner only after the old
//! one gave it back, was declared fenced, or can have no lease any more, however wrong clocks are
//! within 1% and whatever the network does to messages.
//!
//! Two rules together keep it. A session's lease is counted from the last *accepted* renewal
//! ([`LeaseRule::grantor_end`]), and a shorter one never ends a longer one whose holder may not have
//! heard of it. And a session that has lost a shard without giving it back is not
//! renewed before it knows: each OLT's configuration is numbered, and a renewal says which number
//! the OLT works with.

mod command;
mod image;
mod olts;
mod pins;
mod placing;
mod plan;
mod pools;
mod reclaim;
mod recover;
mod refusal;
mod row;
mod shards;
#[cfg(test)]
mod simulation;
mod taken;
#[cfg(test)]
pub(crate) mod tests;
mod units;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use command::{
    Applied, Command, MoveReason, OwnerChange, Register, Renew, Step, UnitGrant, Vouch,
};
pub(crate) use image::Image;
pub use image::RestoreError;
pub use olts::{MAX_OLTS, MAX_SUPERSEDED};
pub use pins::{Pin, PinUnit};
pub use placing::MAX_STEPS;
pub use plan::{Balance, Plan, PlannedChange, PlannedMove};
pub use pools::MAX_POOLS;
pub use reclaim::Reclaim;
pub use refusal::Refusal;
pub use row::{OltRow, Owner, ShardRow};
pub use units::{MAX_TAKEN_UNITS, TakenUnit};
pub use view::{OltState, OltView, OwnedShard};

use crate::id::{OltId, PoolId, ShardId};
use crate::lease::{Keeping, LeaseRule};
use crate::pool::Pool;
use crate::time::ClusterTime;
use reclaim::Kept;
use row::Counters;
use taken::TakenUnits;

/// The table. See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardTable {
    rule: LeaseRule,
    now: ClusterTime,
    counters: Counters,
    pools: BTreeMap<PoolId, PoolEntry>,
    olts: BTreeMap<OltId, OltEntry>,
    /// When the lease of each session has surely ended, whatever rule it was granted under.
    leases: BTreeMap<Owner, ClusterTime>,
    /// Until when nothing changes hands, because part of what was decided is missing.
    recovering: Option<ClusterTime>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct PoolEntry {
    pool: Pool,
    removing: bool,
    /// What the pool becomes once its last shards have come back.
    shrink_to: Option<Pool>,
    /// Shards that have or had an owner; all others are free at the epoch that the pool began with.
    shards: BTreeMap<ShardId, ShardRow>,
    unsettled: Unsettled,
    /// Units of the cluster's own shards that somebody has.
    taken: TakenUnits,
}

/// Whether placement may have something to do in a pool: what it depends on has changed, or it had something
/// to do when it was asked last. A note of whoever asks, and no part of the table: no command depends on it.
#[derive(Clone, Copy, Debug)]
struct Unsettled(bool);

impl PartialEq for Unsettled {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Unsettled {}

#[derive(Clone, Debug, PartialEq, Eq)]
struct OltEntry {
    row: OltRow,
    heard: ClusterTime,
    /// Whether a heartbeat followed the registration.
    active: bool,
    online: bool,
    in_use: BTreeMap<PoolId, u64>,
    /// Its shards in which nothing is in use, of pools that care.
    idle: BTreeMap<PoolId, BTreeSet<ShardId>>,
    /// Whether it is not certain what it owns, since part of what was decided is missing.
    doubtful: bool,
    /// Until when what is acknowledged to it is its own.
    kept: Kept,
}

/// What one command touches while it is carried out.
#[derive(Default)]
struct Touched {
    reconfigured: BTreeSet<OltId>,
    /// OLTs that have lost a shard without giving it back.
    bereft: BTreeSet<OltId>,
    moves: Vec<OwnerChange>,
    removed_pools: Vec<PoolId>,
    went_offline: Vec<OltId>,
    reclaimed: Vec<OltId>,
    lease: Option<Duration>,
    keeping: Option<Keeping>,
    unit: Option<UnitGrant>,
    unit_is_new: bool,
}

impl ShardTable {
    /// An empty table.
    #[must_use]
    pub fn new(rule: LeaseRule) -> Self {
        Self {
            rule,
            now: ClusterTime::ZERO,
            counters: Counters::default(),
            pools: BTreeMap::new(),
            olts: BTreeMap::new(),
            leases: BTreeMap::new(),
            recovering: None,
        }
    }

    /// Carries out a command at the cluster time `now`.
    ///
    /// # Errors
    /// Why the command is refused; then nothing has changed but the time.
    pub fn apply(&mut self, now: ClusterTime, command: Command) -> Result<Applied, Refusal> {
        self.advance(now);
        let mut touched = Touched::default();
        let t = &mut touched;
        match command {
            Command::Register(register) => self.register(t, register)?,
            Command::Renew(renew) => self.renew(t, renew)?,
            Command::GiveBack {
                olt,
                session,
                shards,
            } => {
                self.give_back(t, &olt, &session, &shards)?;
            }
            Command::Drain { olt } => self.drain(t, &olt)?,
            Command::Activate { olt } => self.activate(t, &olt)?,
            Command::Deregister { olt } => self.deregister(t, &olt)?,
            Command::Fence { olt, reason } => self.fence(t, &olt, &reason)?,
            Command::AddPool { spec } => {
                let id = spec.id.clone();
                self.add_pool(*spec)?;
                self.tell_region(t, &id);
            }
            Command::UpdatePool { spec } => {
                let id = spec.id.clone();
                self.update_pool(t, *spec)?;
                self.tell_region(t, &id);
            }
            Command::RemovePool { pool } => {
                self.remove_pool(t, &pool)?;
                self.tell_region(t, &pool);
            }
            Command::SetRule { rule } => self.set_rule(rule),
            Command::TakeUnit {
                shard,
                unit,
                holder,
                server,
            } => self.take_unit(t, &shard, unit, (holder, server))?,
            Command::FreeUnit { shard, unit, seq } => self.free_unit(t, &shard, unit, seq),
            Command::PinUnit(pin) => self.pin_unit(t, pin)?,
            Command::LeaveUnit { shard, unit, seq } => self.leave_unit(&shard, unit, seq),
            Command::Vouch(vouch) => self.vouch(&vouch),
            Command::Reclaimed { olt, until } => self.reclaimed(&olt, until),
            Command::Tick => self.tick(t),
            Command::Place { steps } => self.carry_out(t, steps),
        }
        self.finish_removals(&mut touched);
        self.finish_shrinks(&mut touched);
        Ok(self.finish(touched))
    }

    /// The time never runs backwards: a stamp that is older than one before it must not shorten a lease.
    pub(crate) fn advance(&mut self, now: ClusterTime) -> ClusterTime {
        self.now = self.now.max(now);
        self.now
    }

    /// Numbers the new configurations.
    fn finish(&mut self, touched: Touched) -> Applied {
        for olt in &touched.reconfigured {
            let Some(entry) = self.olts.get_mut(olt) else {
                continue;
            };
            self.counters.revision = self.counters.revision.saturating_add(1);
            entry.row.config_revision = self.counters.revision;
            if touched.bereft.contains(olt) {
                entry.row.needs_revision = self.counters.revision;
            }
        }
        let mut reconfigured = touched.reconfigured;
        reconfigured.retain(|olt| self.olts.contains_key(olt));
        Applied {
            reconfigured,
            moves: touched.moves,
            removed_pools: touched.removed_pools,
            went_offline: touched.went_offline,
            reclaimed: touched.reclaimed,
            lease: touched.lease,
            keeping: touched.keeping,
            unit: touched.unit,
            unit_is_new: touched.unit_is_new,
        }
    }
}
