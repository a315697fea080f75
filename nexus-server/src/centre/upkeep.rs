//! What happens by itself as time passes: leases end, OLTs go offline, released resources become free.

use std::time::Duration;

use nexus_core::shard_table::Command;

use super::Centre;
use crate::clock::Now;
use crate::refused::Refused;

/// Most rows of one kind that one tick removes; what is left waits for the next.
const MAX_PER_TICK: usize = 1000;
/// How often old tombstones are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// How long a released resource waits once more if it is not yet certain that no older command is on its way.
const WAIT_FOR_COPIES: Duration = Duration::from_secs(60);

impl Centre {
    /// Lets time pass. To be called every second or so.
    ///
    /// # Errors
    /// If the grantor cannot decide now.
    pub async fn tick(&mut self, now: &Now) -> Result<(), Refused> {
        self.grant(now, Command::Tick).await?;
        for place in self.record.cooled(now.boot, MAX_PER_TICK) {
            // As long as a copy of an old command could arrive, its successor must stay on record.
            match self.record.get(&place) {
                Some(known) if self.may_come_again(known) => {
                    let later = now.boot.saturating_add(WAIT_FOR_COPIES);
                    self.record.cool_longer(&place, later);
                }
                _ => self.forget(now, &place)?,
            }
        }
        if self.sweep_due <= now.boot {
            self.sweep_due = now.boot.saturating_add(SWEEP_INTERVAL);
            let swept = self.replica.sweep(now);
            for (ticket, rows) in swept.map_err(|error| Refused::Store(error.to_string()))? {
                self.effects.ticket = Some(ticket);
                self.effects.writes.push(rows);
            }
        }
        let writes = self.keys.expire(now.wall, MAX_PER_TICK);
        self.effects
            .writes
            .extend(writes.into_iter().map(|write| vec![write]));
        Ok(())
    }
}
