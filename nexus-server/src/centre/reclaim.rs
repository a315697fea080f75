//! What is on record of an OLT that was away for longer than `reclaim_after` is released. The quorum says of which OLTs
//! ([`Reclaim`]); the server that leads it does the work, a part with each tick, and any other one goes on where it stopped.
//!
//! While that is under way the host is not taken in. It is over when nothing is held on the OLT any more and a majority of
//! the servers knows every release, so that a host that comes back then reads from no server that it still has
//! something.

use nexus_core::id::OltId;
use nexus_core::shard_table::{Command, Reclaim};

use super::Centre;
use crate::allocation::{Allocation, AllocationState, Place, to_millisecond};
use crate::clock::Now;
use crate::refused::Refused;

/// Most allocations that one tick releases, and most releases that it looks at whether they are known.
const MAX_PER_TICK: usize = 1000;

impl Centre {
    /// Does the next part, if this server leads.
    pub(super) fn reclaim(&mut self, now: &Now) -> Result<(), Refused> {
        if !self.replica.is_complete() {
            return Ok(());
        }
        let olts: Vec<OltId> = self.table().reclaimed_olts().cloned().collect();
        self.reclaim_known.retain(|olt, _| olts.contains(olt));
        let mut left = MAX_PER_TICK;
        for olt in olts {
            let held: Vec<Place> = self
                .record
                .of_olt(&olt, None)
                .filter(|known| known.state.is_held())
                .take(left)
                .map(|known| known.place.clone())
                .collect();
            left = left.saturating_sub(held.len());
            for place in &held {
                self.reclaim_one(now, &olt, place)?;
            }
            if self.record.olt_counts(&olt).held() == 0 {
                self.reclaimed(&olt)?;
            }
        }
        Ok(())
    }

    fn reclaim_one(&mut self, now: &Now, olt: &OltId, place: &Place) -> Result<(), Refused> {
        let Some(known) = self.record.get(place).cloned() else {
            return Ok(());
        };
        if known.olt != *olt || !known.state.is_held() {
            return Ok(());
        }
        self.effects.reclaimed = self.effects.reclaimed.saturating_add(1);
        let pinned = self
            .table()
            .pool(&known.pool)
            .is_some_and(nexus_core::pool::Pool::is_pinned);
        if pinned && known.state == AllocationState::Active {
            // It stays its subscriber's, and is on no OLT until that one comes to one.
            let kept = Allocation {
                olt: OltId::cluster(),
                session: None,
                changed_at: to_millisecond(now.wall),
                ..known
            };
            let fence = self.fence(place)?;
            return self.save(now, fence, kept).map(drop);
        }
        tracing::info!(
            %olt, subscriber = %known.subscriber, pool = %known.pool, resource = %place.resource,
            reason = "reclaimed", "allocation released"
        );
        self.end_on_dead(now, known)
    }

    /// Ends what is held on an OLT whose host surely serves nobody any more.
    pub(super) fn end_on_dead(&mut self, now: &Now, known: Allocation) -> Result<(), Refused> {
        let released = Allocation {
            state: AllocationState::Released,
            changed_at: to_millisecond(now.wall),
            ..known
        };
        let fence = self.fence(&released.place)?;
        self.save(now, fence, released).map(drop)
    }

    /// Says so to the quorum once a majority knows that nothing is held on an OLT.
    fn reclaimed(&mut self, olt: &OltId) -> Result<(), Refused> {
        if self.table().reclaim_of(olt) != Reclaim::Running {
            return Ok(());
        }
        let after = self.reclaim_known.get(olt).cloned();
        let released: Vec<Place> = self
            .record
            .of_olt(olt, after.as_ref())
            .take(MAX_PER_TICK)
            .map(|known| known.place.clone())
            .collect();
        let acks = self.acks();
        let is_through = released.len() < MAX_PER_TICK;
        for place in released {
            if !self.stands_by(&place)?.is_none_or(|dot| acks.cover(dot)) {
                return Ok(());
            }
            self.reclaim_known.insert(olt.clone(), place);
        }
        if let Some(until) = self.table().reclaimed_at(olt).filter(|_| is_through) {
            let olt = olt.clone();
            let done = Command::Reclaimed { olt, until };
            self.effects.proposals.push(done);
        }
        Ok(())
    }
}
