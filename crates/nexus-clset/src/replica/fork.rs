//! Copying a replica with all that it has in memory, for a model checker that tries every next step.

use crate::replica::Replica;
use crate::rows::MemoryRows;

impl Replica<MemoryRows> {
    /// This replica as it is, on a copy of its rows, and those. The two are one origin: a copy is for
    /// looking at what would happen, never to live beside this one.
    #[must_use]
    pub fn fork(&self) -> (Self, MemoryRows) {
        let (rows, image) = self.rows.fork();
        let fork = Self {
            rows,
            origin: self.origin,
            born: self.born,
            complete: self.complete,
            clock: self.clock,
            seen: self.seen.clone(),
            collected: self.collected.clone(),
            floor: self.floor,
            retired: self.retired.clone(),
            tombstone_age: self.tombstone_age,
            tombstones: self.tombstones,
            admitted: self.admitted,
            summary: self.summary.clone(),
            log: self.log.clone(),
            ticket: self.ticket,
            claims: self.claims.clone(),
            round: self.round.clone(),
            sweep: self.sweep.clone(),
        };
        (fork, image)
    }
}
