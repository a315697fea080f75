//! What happens by itself as time passes: leases end, OLTs go offline, released resources become free.

use std::time::Duration;

use nexus_clset::Input;
use nexus_core::shard::ShardKey;
use nexus_core::shard_table::{Command, Reclaim};

use super::Centre;
use super::idempotency::KEYS_PREFIX;
use crate::allocation::{Allocation, Place};
use crate::clock::Now;
use crate::refused::Refused;

/// Most rows of one kind that one tick removes; what is left waits for the next.
const MAX_PER_TICK: usize = 1000;
/// After this time a unit that was taken should be in use, and how often that is looked at.
const UNUSED_AFTER: Duration = Duration::from_secs(60);
/// How long a released resource waits once more if it is not yet certain that no older command is on its way.
const WAIT_FOR_COPIES: Duration = Duration::from_secs(60);

impl Centre {
    /// Lets time pass. To be called every second or so.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn tick(&mut self, now: &Now) -> Result<(), Refused> {
        self.hosts.tick(now);
        self.disputes.pass(self.cluster.table());
        self.walk_on(now);
        if self.is_steward() {
            self.reclaim(now)?;
            self.forget_cooled(now)?;
            for key in self.keys.over(now.wall, MAX_PER_TICK) {
                self.replicate(now, &format!("{KEYS_PREFIX}{key}"), None)?;
            }
            self.follow(now);
        }
        if self.units_due <= now.boot {
            self.units_due = now.boot.saturating_add(UNUSED_AFTER);
            self.free_unused(now)?;
        }
        self.step(now, Input::Tick);
        Ok(())
    }

    /// Forgets what was released and has cooled down. One server does it for all.
    fn forget_cooled(&mut self, now: &Now) -> Result<(), Refused> {
        for place in self.record.cooled(now.boot, MAX_PER_TICK) {
            let Some(known) = self.record.get(&place).cloned() else {
                continue;
            };
            // As long as a copy of an old command could arrive, its successor must stay on record; and a release that the
            // host must not miss, until a majority knows it.
            let reclaiming = self.table().reclaim_of(&known.olt) == Reclaim::Running;
            if reclaiming || self.may_come_again(&known) {
                let later = now.boot.saturating_add(WAIT_FOR_COPIES);
                self.record.cool_longer(&place, later);
                continue;
            }
            self.forget(now, &place)?;
            self.free(&known);
        }
        Ok(())
    }

    /// Gives the units free that this server took and has no allocation of: it stopped in between, or the
    /// answer was lost.
    /// Those of pinned pools that were on record before are recorded as they were taken last.
    fn free_unused(&mut self, now: &Now) -> Result<(), Refused> {
        if !self.replica.is_complete() {
            return Ok(());
        }
        let before = self.table().now().saturating_sub(UNUSED_AFTER);
        let taken = self.table().taken_by(self.replica.origin().node.0, before);
        let unused: Vec<Command> = taken
            .filter(|taken| {
                let pool = self.table().pool(&taken.shard.pool);
                let place = pool.and_then(|pool| {
                    Some(Place {
                        vrf: pool.vrf().to_owned(),
                        resource: pool.resource(taken.shard.shard, taken.unit)?,
                    })
                });
                place.is_some_and(|place| self.record.get(&place).is_none())
            })
            .take(MAX_PER_TICK)
            .map(|taken| Command::FreeUnit {
                shard: taken.shard,
                unit: taken.unit,
                seq: taken.grant.seq,
            })
            .collect();
        self.effects.proposals.extend(unused);
        let taken = self.table().taken_by(self.replica.origin().node.0, before);
        let pinned = taken
            .filter(|taken| {
                let pool = self.table().pool(&taken.shard.pool);
                pool.is_some_and(nexus_core::pool::Pool::is_pinned)
            })
            .map(|taken| (taken.shard, taken.unit))
            .collect();
        self.finish_pins(now, pinned)
    }

    /// Gives a unit of the cluster's own shards free that was forgotten. Whoever took it since has a newer
    /// right, which stays.
    fn free(&mut self, known: &Allocation) {
        if !known.is_central() {
            return;
        }
        let located = self
            .table()
            .pool(&known.pool)
            .and_then(|pool| pool.locate(&known.place.resource));
        if let Some((shard, unit)) = located {
            let shard = ShardKey {
                pool: known.pool.clone(),
                shard,
            };
            let seq = known.seq;
            self.effects
                .proposals
                .push(Command::FreeUnit { shard, unit, seq });
        }
    }
}
