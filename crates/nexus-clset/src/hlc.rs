//! Hybrid logical time: close to the wall clock, never running backwards, not to be dragged away by others.
//!
//! After Kulkarni et al., "Logical Physical Clocks" (OPODIS 2014), with 48 bits of milliseconds and a
//! 16-bit counter in one number.

use std::time::Duration;

/// Milliseconds since 1970 as the wall clock shows them. An argument, never asked for in here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

/// How far ahead of the wall clock a stamp from elsewhere may move ours.
pub const MAX_LEAD: Duration = Duration::from_millis(500);

const COUNTER_BITS: u32 = 16;

/// A stamp: milliseconds since 1970 in the upper 48 bits, a counter in the lower 16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The first stamp of a millisecond; the last there is, if that lies beyond 48 bits (the year 10889).
    #[must_use]
    pub const fn at(now: UnixMillis) -> Self {
        if now.0 >> (64 - COUNTER_BITS) == 0 {
            Self(now.0 << COUNTER_BITS)
        } else {
            Self(u64::MAX)
        }
    }

    /// The millisecond of this stamp.
    #[must_use]
    pub const fn millis(self) -> UnixMillis {
        UnixMillis(self.0 >> COUNTER_BITS)
    }
}

/// What became of a stamp from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Our clock is at least as far now.
    Followed,
    /// It lies too far ahead of our wall clock: the entry is merged, our clock stays where it was.
    TooFarAhead {
        /// By how much.
        lead: Duration,
    },
}

/// The clock of one replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    last: Hlc,
}

impl Clock {
    /// A clock that goes on behind the greatest stamp that was ever made durable.
    #[must_use]
    pub const fn restart(high_water: Hlc) -> Self {
        Self { last: high_water }
    }

    /// A stamp greater than all before. Where the wall clock stands still or was set back, only the
    /// counter grows (and carries into the milliseconds).
    pub fn tick(&mut self, now: UnixMillis) -> Hlc {
        self.last = Hlc(self.last.0.saturating_add(1)).max(Hlc::at(now));
        self.last
    }

    /// Takes note of a stamp from elsewhere.
    pub fn observe(&mut self, stamp: Hlc, now: UnixMillis) -> Observed {
        let lead = Duration::from_millis(stamp.millis().0.saturating_sub(now.0));
        if lead > MAX_LEAD {
            return Observed::TooFarAhead { lead };
        }
        self.last = self.last.max(stamp);
        Observed::Followed
    }

    /// The greatest stamp so far.
    #[must_use]
    pub const fn last(&self) -> Hlc {
        self.last
    }

    /// How far this clock runs ahead of the wall clock: much of it means that the wall clock was
    /// ahead once and has been set back, or is behind now.
    #[must_use]
    pub const fn lead(&self, now: UnixMillis) -> Duration {
        Duration::from_millis(self.last.millis().0.saturating_sub(now.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_grow_while_the_wall_clock_stands_still_or_goes_back() {
        let mut clock = Clock::default();
        let mut last = Hlc(0);
        for now in [1000, 1000, 1000, 400, 0, 1000, 1001, 5] {
            let stamp = clock.tick(UnixMillis(now));
            assert!(stamp > last);
            last = stamp;
        }
        assert_eq!(last.millis(), UnixMillis(1001));
    }

    #[test]
    fn a_full_counter_carries_into_the_milliseconds() {
        let mut clock = Clock::restart(Hlc((7 << 16) | 0xffff));
        assert_eq!(clock.tick(UnixMillis(7)), Hlc(8 << 16));
        assert_eq!(Hlc::at(UnixMillis(u64::MAX)), Hlc(u64::MAX));
    }

    #[test]
    fn a_stamp_far_ahead_does_not_drag_the_clock() {
        let mut clock = Clock::default();
        let now = UnixMillis(1_000_000);
        clock.tick(now);
        let near = Hlc::at(UnixMillis(1_000_500));
        assert_eq!(clock.observe(near, now), Observed::Followed);
        assert!(clock.tick(now) > near);
        let far = Hlc::at(UnixMillis(1_000_501));
        assert_eq!(
            clock.observe(far, now),
            Observed::TooFarAhead {
                lead: Duration::from_millis(501)
            }
        );
        assert!(clock.tick(now) < far);
        assert_eq!(clock.lead(now), Duration::from_millis(500));
    }

    #[test]
    fn a_restarted_clock_goes_on_behind_its_high_water_mark() {
        let mark = Hlc::at(UnixMillis(9_000));
        let mut clock = Clock::restart(mark);
        assert!(clock.tick(UnixMillis(8_000)) > mark);
    }
}
