//! Commands of and about OLTs: register, renew, give back, drain, deregister, fence.

use std::collections::BTreeMap;

use super::command::{MoveReason, Register, Renew};
use super::reclaim::Reclaim;
use super::refusal::Refusal;
use super::row::{OltRow, Owner};
use super::{OltEntry, ShardTable, Touched};
use crate::id::{OltId, Seq, SessionId};
use crate::shard::{ShardRef, ShardState};
use crate::time::ClusterTime;

/// Most OLTs of a cluster.
pub const MAX_OLTS: usize = 16_384;
/// How many replaced sessions of an OLT are remembered and refused.
pub const MAX_SUPERSEDED: usize = 8;
/// Longest name, region or address of an OLT, in bytes.
const MAX_TEXT: usize = 256;

impl ShardTable {
    pub(super) fn register(&mut self, t: &mut Touched, register: Register) -> Result<(), Refusal> {
        self.check_register(&register)?;
        let Register {
            olt: id,
            name,
            region,
            address,
            capacity,
            session,
            last_seq,
            acked_below,
            keeping,
            ..
        } = register;
        let old = self.olts.remove(&id);
        let old_row = old.as_ref().map(|entry| entry.row.clone());
        let mut row = old_row.clone().unwrap_or_else(|| OltRow {
            id: id.clone(),
            session: session.clone(),
            fenced: false,
            name: String::new(),
            region: String::new(),
            address: String::new(),
            capacity: 0,
            superseded: Vec::new(),
            last_seq: Seq(0),
            acked_below: Seq(0),
            draining: false,
            config_revision: 0,
            needs_revision: 0,
        });
        if row.session != session {
            self.retire(t, &row.owner());
            row.superseded
                .push(std::mem::replace(&mut row.session, session));
            let excess = row.superseded.len().saturating_sub(MAX_SUPERSEDED);
            row.superseded.drain(..excess);
            row.acked_below = Seq(0);
        }
        row.acked_below = row.acked_below.max(acked_below);
        row.fenced = false;
        (row.name, row.region, row.address) = (name, region, address);
        (row.capacity, row.last_seq) = (capacity, last_seq);
        // Who comes back for what it lost is told by a configuration that no server has told it before.
        let reclaimed = old
            .as_ref()
            .is_some_and(|old| old.kept.state != Reclaim::Kept);
        if old_row.is_none() || reclaimed {
            t.reconfigured.insert(id.clone());
        }
        // A restart keeps what is known of it; another session starts from nothing.
        let same_session = old_row
            .as_ref()
            .is_some_and(|old| old.session == row.session);
        let known_well = old.as_ref().is_some_and(|old| old.online && old.row == row);
        let doubtful = old.as_ref().is_some_and(|old| old.doubtful);
        let kept = old.as_ref().map(|old| old.kept);
        let (active, in_use, idle) = match old {
            Some(old) if same_session => (old.active, old.in_use, old.idle),
            _ => (false, BTreeMap::new(), BTreeMap::new()),
        };
        let owner = row.owner();
        let lease_end = self.lease(t, owner.clone());
        let kept = self.promise(kept, keeping, lease_end);
        self.olts.insert(
            id,
            OltEntry {
                row,
                heard: self.now,
                active,
                online: true,
                in_use,
                idle,
                doubtful,
                kept,
            },
        );
        self.end_doubt(t, &owner);
        if !known_well {
            self.unsettle();
        }
        Ok(())
    }

    fn check_register(&self, register: &Register) -> Result<(), Refusal> {
        let Register {
            olt,
            name,
            region,
            address,
            session,
            last_seq,
            recorded_seq,
            ..
        } = register;
        if olt.is_cluster() {
            return Err(Refusal::ReservedId(olt.clone()));
        }
        self.check_reclaim(olt)?;
        for (field, text) in [("name", name), ("region", region), ("address", address)] {
            if text.len() > MAX_TEXT {
                let (olt, len) = (olt.clone(), text.len());
                return Err(Refusal::TooLong {
                    olt,
                    field: field.into(),
                    len,
                    max: MAX_TEXT,
                });
            }
        }
        let owner = Owner {
            olt: olt.clone(),
            session: session.clone(),
        };
        let Some(entry) = self.olts.get(olt) else {
            if self.olts.len() >= MAX_OLTS {
                return Err(Refusal::Full {
                    what: "the number of OLTs".into(),
                    bound: MAX_OLTS,
                });
            }
            // A forgotten OLT may come back while its old shards are frozen. Under its old session
            // the lease that they wait for would go on.
            if self.leases.contains_key(&owner) {
                return Err(Refusal::Superseded {
                    olt: owner.olt,
                    session: owner.session,
                });
            }
            return self.check_seq(olt, *last_seq, *recorded_seq);
        };
        let row = &entry.row;
        if row.session == *session {
            return self.check_seq(olt, *last_seq, row.last_seq.max(*recorded_seq));
        }
        if row.superseded.contains(session) || self.leases.contains_key(&owner) {
            return Err(Refusal::Superseded {
                olt: owner.olt,
                session: owner.session,
            });
        }
        let heard = self.now.since(entry.heard);
        if !row.fenced && heard < self.rule.offline_after() {
            let wait = self.rule.offline_after().saturating_sub(heard);
            return Err(Refusal::AlreadyAlive {
                olt: olt.clone(),
                heard,
                wait,
            });
        }
        self.check_seq(olt, *last_seq, *recorded_seq)
    }

    fn check_seq(&self, olt: &OltId, given: Seq, recorded: Seq) -> Result<(), Refusal> {
        if given < recorded {
            return Err(Refusal::RolledBack {
                olt: olt.clone(),
                given,
                recorded,
            });
        }
        Ok(())
    }

    pub(super) fn renew(&mut self, t: &mut Touched, renew: Renew) -> Result<(), Refusal> {
        self.check_doubt(&renew)?;
        let Renew {
            olt,
            session,
            config_revision,
            last_seq,
            in_use,
            idle,
            released,
            acked_below,
            keeping,
        } = renew;
        self.current(&olt, &session)?;
        let known_pools = |pool: &_| self.pools.contains_key(pool);
        let in_use: BTreeMap<_, _> = in_use
            .into_iter()
            .filter(|(pool, _)| known_pools(pool))
            .collect();
        let idle: BTreeMap<_, _> = idle
            .into_iter()
            .filter(|(pool, _)| known_pools(pool))
            .collect();
        let now = self.now;
        let entry = self
            .olts
            .get_mut(&olt)
            .ok_or_else(|| Refusal::UnknownOlt(olt.clone()))?;
        let needed = entry.row.needs_revision;
        if config_revision < needed {
            return Err(Refusal::StaleConfiguration {
                olt,
                given: config_revision,
                needed,
            });
        }
        // Heartbeats overtake each other, so that a lower number is no sign of a rollback here.
        entry.row.last_seq = entry.row.last_seq.max(last_seq);
        entry.row.acked_below = entry.row.acked_below.max(acked_below);
        let arrived = !entry.online;
        let before = std::mem::replace(&mut entry.in_use, in_use.clone());
        let idle_before = std::mem::replace(&mut entry.idle, idle.clone());
        (entry.heard, entry.active, entry.online) = (now, true, true);
        // Every heartbeat has other figures; placement looks at those of a second together.
        for (pool, entry) in &mut self.pools {
            entry.unsettled.0 |=
                before.get(pool) != in_use.get(pool) || idle_before.get(pool) != idle.get(pool);
        }
        let owner = Owner { olt, session };
        if arrived {
            self.unsettle();
        }
        self.take_back(t, &owner, &released);
        let lease_end = self.lease(t, owner.clone());
        let before = self.olts.get(&owner.olt).map(|entry| entry.kept);
        let kept = self.promise(before, keeping, lease_end);
        if let Some(entry) = self.olts.get_mut(&owner.olt) {
            entry.kept = kept;
        }
        Ok(())
    }

    /// A lease of the rule's length from now on. The answer may be lost: then the holder goes on under the
    /// lease that it had. Gives when it has surely ended.
    fn lease(&mut self, t: &mut Touched, owner: Owner) -> ClusterTime {
        t.lease = Some(self.rule.length());
        t.keeping = Some(self.keeping());
        let end = self.rule.grantor_end(self.now);
        let until = self.leases.entry(owner).or_insert(end);
        *until = end.max(*until);
        *until
    }

    pub(super) fn give_back(
        &mut self,
        t: &mut Touched,
        olt: &OltId,
        session: &SessionId,
        shards: &[ShardRef],
    ) -> Result<(), Refusal> {
        self.current(olt, session)?;
        self.take_back(
            t,
            &Owner {
                olt: olt.clone(),
                session: session.clone(),
            },
            shards,
        );
        Ok(())
    }

    fn take_back(&mut self, t: &mut Touched, owner: &Owner, shards: &[ShardRef]) {
        for given in shards {
            let key = given.key();
            let theirs = self
                .shard(&key)
                .is_some_and(|row| row.epoch == given.epoch && row.owner.as_ref() == Some(owner));
            if theirs {
                self.free(t, &key, MoveReason::GivenBack);
            }
        }
    }

    pub(super) fn drain(&mut self, t: &mut Touched, olt: &OltId) -> Result<(), Refusal> {
        let entry = self
            .olts
            .get_mut(olt)
            .ok_or_else(|| Refusal::UnknownOlt(olt.clone()))?;
        if entry.row.draining {
            return Ok(());
        }
        entry.row.draining = true;
        let owner = entry.row.owner();
        for key in self.keys_of(&owner) {
            let owned = self
                .shard_mut(&key)
                .filter(|row| row.state == ShardState::Owned);
            if let Some(row) = owned {
                row.state = ShardState::Draining;
            }
        }
        t.reconfigured.insert(olt.clone());
        self.unsettle();
        Ok(())
    }

    pub(super) fn activate(&mut self, t: &mut Touched, olt: &OltId) -> Result<(), Refusal> {
        let entry = self
            .olts
            .get_mut(olt)
            .ok_or_else(|| Refusal::UnknownOlt(olt.clone()))?;
        if !entry.row.draining {
            return Ok(());
        }
        entry.row.draining = false;
        let owner = entry.row.owner();
        // What others wait for is asked for again by placement.
        for pool in self.pools.values_mut().filter(|pool| !pool.removing) {
            let stays = pool.shrink_to.as_ref().unwrap_or(&pool.pool).shard_count();
            let rows = pool
                .shards
                .values_mut()
                .filter(|row| row.key.shard.0 < stays);
            for row in rows.filter(|row| row.owner.as_ref() == Some(&owner)) {
                if row.state == ShardState::Draining {
                    row.state = ShardState::Owned;
                }
            }
        }
        t.reconfigured.insert(olt.clone());
        self.unsettle();
        Ok(())
    }

    pub(super) fn deregister(&mut self, t: &mut Touched, olt: &OltId) -> Result<(), Refusal> {
        let entry = self
            .olts
            .get(olt)
            .ok_or_else(|| Refusal::UnknownOlt(olt.clone()))?;
        let silent = self.now.since(entry.heard) >= self.rule.offline_after();
        let owner = entry.row.owner();
        let shards = self.keys_of(&owner).len();
        if shards > 0 && !silent {
            return Err(Refusal::NotDrained {
                olt: olt.clone(),
                shards,
            });
        }
        let units = self.units_on(olt);
        if units > 0 && !entry.row.fenced {
            let olt = olt.clone();
            return Err(Refusal::HasUnits { olt, units });
        }
        self.retire(t, &owner);
        self.olts.remove(olt);
        self.unsettle();
        Ok(())
    }

    pub(super) fn fence(
        &mut self,
        t: &mut Touched,
        olt: &OltId,
        reason: &str,
    ) -> Result<(), Refusal> {
        if reason.trim().is_empty() {
            return Err(Refusal::ReasonMissing(olt.clone()));
        }
        let has_leases = self.leases.keys().any(|owner| owner.olt == *olt);
        if !self.olts.contains_key(olt) && !has_leases {
            return Err(Refusal::UnknownOlt(olt.clone()));
        }
        let owners: Vec<_> = self
            .leases
            .keys()
            .filter(|owner| owner.olt == *olt)
            .cloned()
            .collect();
        for owner in owners {
            self.end_lease(t, &owner, MoveReason::Fenced);
        }
        if let Some(entry) = self.olts.get_mut(olt) {
            // It must register before it is renewed: what it is told then is what it owns.
            entry.row.fenced = true;
            entry.kept.state = Reclaim::Kept;
            entry.online = false;
            t.reconfigured.insert(olt.clone());
            t.bereft.insert(olt.clone());
        }
        self.unsettle();
        Ok(())
    }

    /// A session that another one replaces, or whose OLT is forgotten: what it owns stays frozen
    /// until its lease has ended.
    fn retire(&mut self, t: &mut Touched, owner: &Owner) {
        let keys = self.keys_of(owner);
        if keys.is_empty() {
            self.leases.remove(owner);
            return;
        }
        for key in keys {
            if let Some(row) = self.shard_mut(&key) {
                row.state = ShardState::Frozen;
            }
        }
        t.reconfigured.insert(owner.olt.clone());
        t.bereft.insert(owner.olt.clone());
    }

    fn current(&self, olt: &OltId, session: &SessionId) -> Result<(), Refusal> {
        let entry = self
            .olts
            .get(olt)
            .ok_or_else(|| Refusal::UnknownOlt(olt.clone()))?;
        if entry.row.superseded.contains(session) {
            return Err(Refusal::Superseded {
                olt: olt.clone(),
                session: session.clone(),
            });
        }
        let gone = entry.row.fenced || entry.kept.state != Reclaim::Kept;
        if entry.row.session != *session || gone {
            let (olt, session) = (olt.clone(), session.clone());
            return Err(Refusal::NotCurrentSession { olt, session });
        }
        Ok(())
    }
}
