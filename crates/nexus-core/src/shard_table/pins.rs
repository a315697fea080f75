//! Units of pinned pools: each belongs to one subscriber, and is on one OLT at a time. It leaves that OLT only by
//! the OLT's own word, or an operator's that the host is fenced: what an OLT that is cut off still serves is
//! nobody else's.

use serde::{Deserialize, Serialize};

use super::command::UnitGrant;
use super::reclaim::Reclaim;
use super::refusal::Refusal;
use super::taken::Taken;
use super::units::MAX_TAKEN_UNITS;
use super::{ShardTable, Touched};
use crate::id::{OltId, PoolId, Seq, SessionId, SubscriberId};
use crate::placement;
use crate::shard::ShardKey;

/// See [`Command::PinUnit`](super::Command::PinUnit).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinUnit {
    /// A shard of a pinned pool.
    pub shard: ShardKey,
    /// Which unit of it, from 0.
    pub unit: u64,
    /// Who gets it.
    pub holder: SubscriberId,
    /// As in [`Command::TakeUnit`](super::Command::TakeUnit).
    pub server: u32,
    /// The OLT that the subscriber is on; nowhere if it is kept for the subscriber until it comes.
    pub at: Option<Pin>,
}

/// Where a unit is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The OLT, which alone serves it.
    pub olt: OltId,
    /// Session of the OLT that asked for it, if it did so itself.
    pub session: Option<SessionId>,
    /// Highest number of a command that this session had used when it asked: a release with such a number is
    /// of something that it had before.
    pub after: Seq,
}

impl Pin {
    /// Whether a release by this session under this number was sent before the unit was given to it (again).
    #[must_use]
    pub fn is_later_than(&self, session: &SessionId, seq: Seq) -> bool {
        self.session.as_ref() == Some(session) && seq <= self.after
    }
}

impl ShardTable {
    pub(super) fn pin_unit(&mut self, t: &mut Touched, pin: PinUnit) -> Result<(), Refusal> {
        if let Some(left) = self.recovering() {
            return Err(Refusal::Recovering { left });
        }
        let PinUnit {
            shard: key,
            unit,
            holder,
            server,
            at,
        } = pin;
        let epoch = self
            .kept_epoch(&key)
            .ok_or_else(|| Refusal::NotKept(key.clone()))?;
        if let Some(at) = &at
            && self.is_gone(&at.olt)
        {
            return Err(Refusal::UnknownOlt(at.olt.clone()));
        }
        let full = self.units_taken() >= MAX_TAKEN_UNITS;
        let entry = self
            .pools
            .get(&key.pool)
            .filter(|entry| entry.pool.is_pinned())
            .ok_or_else(|| Refusal::NotKept(key.clone()))?;
        if !entry.pool.is_allocatable_unit(key.shard, unit) {
            return Err(Refusal::NoSuchUnit { key, unit });
        }
        let kept_for = entry.pool.static_holder(key.shard, unit);
        let known = entry.taken.get(key.shard, unit);
        let other = known.map(|known| &known.holder).or(kept_for);
        if let Some(other) = [other, kept_for]
            .into_iter()
            .flatten()
            .find(|o| **o != holder)
        {
            let holder = other.clone();
            return Err(Refusal::UnitTaken { key, unit, holder });
        }
        if let Some(there) = known.and_then(|known| known.at.as_ref())
            && at.as_ref().map(|at| &at.olt) != Some(&there.olt)
            && !self.is_gone(&there.olt)
        {
            let olt = there.olt.clone();
            return Err(Refusal::UnitElsewhere { key, unit, olt });
        }
        if known.is_none() && full {
            return Err(Refusal::Full {
                what: "the number of units that the cluster allocated".into(),
                bound: MAX_TAKEN_UNITS,
            });
        }
        let seq = self.counters.unit_seq.next();
        let taken = Taken {
            seq,
            holder,
            server,
            since: self.now,
            at,
        };
        if let Some(entry) = self.pools.get_mut(&key.pool) {
            entry.taken.insert(key.shard, unit, taken);
        }
        self.counters.unit_seq = seq;
        t.unit = Some(UnitGrant { epoch, seq });
        Ok(())
    }

    pub(super) fn leave_unit(&mut self, key: &ShardKey, unit: u64, seq: Seq) {
        if let Some(entry) = self.pools.get_mut(&key.pool)
            && let Some(taken) = entry.taken.get(key.shard, unit)
            && taken.seq == seq
        {
            entry.taken.move_to(key.shard, unit, None);
        }
    }

    /// Whether an OLT surely serves nothing: an operator has said so and it has not come back since, its time is
    /// [over](Reclaim), or it was forgotten, which is refused as long as units are on it.
    #[must_use]
    pub fn is_gone(&self, olt: &OltId) -> bool {
        self.olts
            .get(olt)
            .is_none_or(|entry| entry.row.fenced || entry.kept.state != Reclaim::Kept)
    }

    /// How many units of pinned pools are on an OLT.
    pub(super) fn units_on(&self, olt: &OltId) -> usize {
        let units = self.taken_units();
        units
            .filter(|taken| taken.at.is_some_and(|at| at.olt == *olt))
            .count()
    }

    /// A pinned pool stands in the configuration of every OLT of its region, whoever owns its shards.
    pub(super) fn tell_region(&self, t: &mut Touched, pool: &PoolId) {
        let Some(entry) = self.pools.get(pool).filter(|entry| entry.pool.is_pinned()) else {
            return;
        };
        let in_region = self
            .olts
            .iter()
            .filter(|(_, olt)| placement::serves_region(&entry.pool, &olt.row.region));
        t.reconfigured.extend(in_region.map(|(id, _)| id.clone()));
    }
}
