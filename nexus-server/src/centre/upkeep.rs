//! What happens by itself as time passes: leases end, OLTs go offline, released resources become free.

use std::time::Duration;

use nexus_clset::Input;
use nexus_core::shard::ShardKey;
use nexus_core::shard_table::{Command, Reclaim};

use super::Centre;
use super::idempotency::KEYS_PREFIX;
use crate::allocation::Allocation;
use crate::clock::Now;
use crate::refused::Refused;

/// Most rows of one kind that one tick removes; what is left waits for the next.
pub(super) const MAX_PER_TICK: usize = 1000;
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
        self.look_for_unused(now)?;
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
