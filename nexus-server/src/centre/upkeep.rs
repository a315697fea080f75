//! What happens by itself as time passes: leases end, OLTs go offline, released resources become free.

use nexus_core::shard_table::Command;

use super::Centre;
use crate::clock::Now;
use crate::refused::Refused;

/// Most rows of one kind that one tick removes; what is left waits for the next.
const MAX_PER_TICK: usize = 1000;

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
                    let later = now.boot.saturating_add(std::time::Duration::from_secs(60));
                    self.record.cool_longer(&place, later);
                }
                _ => self.forget(now, &place)?,
            }
        }
        let writes = self.keys.expire(now.wall, MAX_PER_TICK);
        self.effects
            .writes
            .extend(writes.into_iter().map(|write| vec![write]));
        Ok(())
    }
}
