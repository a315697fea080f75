//! The leader's cluster time: counted on from the greatest stamp of the log with the leader's own clock.
//!
//! Why time never runs faster than the clocks: take two stamps `s` before `t` in the log. If one leader gave both in one
//! office, their distance is the distance on its clock. If not, `t` was counted from the greatest stamp that its leader
//! had applied when it took office, and it had applied all there was: so from `s` or something later, whose own distance
//! to `s` is no more than the time that passed until then. What passes between two offices is not counted at all.

use std::time::Duration;

/// One office of one leader. Made when all that was in the log has been applied.
#[derive(Clone, Debug)]
pub struct Stamper {
    base: u64,
    since: Duration,
    last: u64,
}

impl Stamper {
    /// Take office at `now` (time since boot), `greatest` being the greatest stamp in the log.
    pub fn new(greatest: u64, now: Duration) -> Self {
        Self {
            base: greatest,
            since: now,
            last: greatest,
        }
    }

    /// The stamp for what is accepted at `now`. Never smaller than the one before, whatever the clock does.
    pub fn stamp(&mut self, now: Duration) -> u64 {
        let passed = u64::try_from(now.saturating_sub(self.since).as_nanos()).unwrap_or(u64::MAX);
        self.last = self.last.max(self.base.saturating_add(passed));
        self.last
    }

    /// Begin counting anew at `now`: what passed since the last stamp is not counted (this leader could not commit).
    pub fn resume(&mut self, now: Duration) {
        self.base = self.last;
        self.since = now;
    }
}

#[cfg(test)]
mod tests;
