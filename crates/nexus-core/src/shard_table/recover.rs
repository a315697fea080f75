//! Going on from less than all that was decided: from the rest of a cluster whose majority is lost, or from an old copy.
//!
//! What is missing may have moved any shard, granted any unit and renewed any lease. So nothing changes hands
//! until every lease that may have been granted has ended, and every OLT is in doubt. An OLT that
//! [vouches](super::Command::Vouch) keeps what it has: it works with the very configuration that is known
//! here, and its own lease has not ended, so that nothing of it can have moved without its knowledge, unless it was
//! fenced. Any other one gets its shards anew when the time has come. Epochs, revisions and numbers of
//! grants go on from far above all that can have been used.

use std::time::Duration;

use super::command::{MoveReason, Renew, Vouch};
use super::refusal::Refusal;
use super::row::Owner;
use super::{ShardTable, Touched};
use crate::id::{Epoch, OltId, Seq};
use crate::time::ClusterTime;

/// How far counters jump: more than any of them can have grown in what is missing.
pub(super) const JUMP: u64 = 1 << 32;

impl ShardTable {
    /// Nothing changes hands from now on, and all OLTs are in doubt.
    pub(crate) fn recover(&mut self) {
        let longest = self.leases.values().copied().max();
        let until = self
            .rule
            .grantor_end(self.now)
            .max(longest.unwrap_or(ClusterTime::ZERO));
        self.recovering = Some(self.recovering.map_or(until, |known| known.max(until)));
        let counters = &mut self.counters;
        counters.revision = counters.revision.saturating_add(JUMP);
        counters.epoch_floor = Epoch(counters.epoch_floor.0.saturating_add(JUMP));
        counters.unit_seq = Seq(counters.unit_seq.0.saturating_add(JUMP));
        for entry in self.olts.values_mut() {
            entry.doubtful = true;
        }
        self.promise_unknown(until);
    }

    /// An OLT says which configuration it works with, and whether its lease has not ended. One that knows more
    /// than is known here shows that part of what was decided is missing.
    pub(super) fn vouch(&mut self, vouch: &Vouch) {
        let Some(entry) = self.olts.get_mut(&vouch.olt) else {
            return;
        };
        let row = &entry.row;
        if row.session != vouch.session || row.fenced {
            return;
        }
        if vouch.config_revision > row.config_revision {
            entry.doubtful = true;
            // Once is enough: those who have vouched since are certain.
            if self.recovering.is_none() {
                self.recover();
            }
        } else if vouch.config_revision == row.config_revision && vouch.lease_alive {
            entry.doubtful = false;
        }
    }

    /// An OLT in doubt is told what it owns by registering, and so is one that knows more than is known here;
    /// nothing else counts before.
    pub(super) fn check_doubt(&self, renew: &Renew) -> Result<(), Refusal> {
        let in_doubt = self.olts.get(&renew.olt).is_some_and(|entry| {
            entry.doubtful || renew.config_revision > entry.row.config_revision
        });
        if in_doubt {
            let (olt, session) = (renew.olt.clone(), renew.session.clone());
            return Err(Refusal::NotCurrentSession { olt, session });
        }
        Ok(())
    }

    /// Who registers without having vouched owns nothing any more.
    pub(super) fn end_doubt(&mut self, t: &mut Touched, owner: &Owner) {
        let Some(entry) = self.olts.get_mut(&owner.olt).filter(|entry| entry.doubtful) else {
            return;
        };
        entry.doubtful = false;
        for key in self.keys_of(owner) {
            self.free(t, &key, MoveReason::Recovered);
            t.bereft.insert(owner.olt.clone());
        }
        t.reconfigured.insert(owner.olt.clone());
    }

    /// Ends the time in which nothing changes hands. Whoever is in doubt still has no lease any more.
    pub(super) fn recovered(&mut self, t: &mut Touched) {
        if self.recovering.is_none_or(|until| self.now < until) {
            return;
        }
        self.recovering = None;
        let doubtful: Vec<Owner> = self
            .olts
            .values()
            .filter(|entry| entry.doubtful)
            .map(|entry| entry.row.owner())
            .collect();
        for owner in doubtful {
            self.end_doubt(t, &owner);
        }
    }

    /// How long nothing changes hands yet, because part of what was decided is missing; `None` if it does.
    #[must_use]
    pub fn recovering(&self) -> Option<Duration> {
        let until = self.recovering?;
        Some(until.since(self.now))
    }

    /// Whether it is not certain what an OLT owns: it has to register.
    #[must_use]
    pub fn is_in_doubt(&self, olt: &OltId) -> bool {
        self.olts.get(olt).is_some_and(|entry| entry.doubtful)
    }

    /// Whether what an OLT vouches for makes a difference.
    #[must_use]
    pub fn needs_vouching(&self, vouch: &Vouch) -> bool {
        self.olts.get(&vouch.olt).is_some_and(|entry| {
            let behind = vouch.config_revision > entry.row.config_revision;
            entry.row.session == vouch.session && (entry.doubtful || behind)
        })
    }
}
