//! The clocks of one machine: boot time, which runs at a rate of its own, and the wall clock, which somebody sets.

use std::time::Duration;

use jiff::Timestamp;
use nexus_core::time::BootTime;

#[derive(Clone, Debug)]
pub struct Clock {
    /// True time in milliseconds at which it showed `shown` nanoseconds.
    at: u64,
    shown: u64,
    /// How many thousandths it is fast.
    rate: i64,
    /// How many milliseconds the wall clock is ahead of true time.
    pub wall_ahead: i64,
}

impl Clock {
    pub const fn new(at: u64, shown: u64, rate: i64) -> Self {
        Self {
            at,
            shown,
            rate,
            wall_ahead: 0,
        }
    }

    pub fn boot(&self, now: u64) -> BootTime {
        let passed = i64::try_from(now - self.at).unwrap() * 1000 * (1000 + self.rate);
        BootTime::from_nanos(self.shown + u64::try_from(passed).unwrap())
    }

    /// When it shows that, as it runs now; not before it began to run so.
    pub fn true_time(&self, shown: BootTime) -> u64 {
        let nanos = shown.as_nanos().saturating_sub(self.shown);
        let per_milli = u64::try_from(1000 * (1000 + self.rate)).unwrap();
        self.at + nanos / per_milli
    }

    pub fn wall(&self, now: u64) -> Timestamp {
        let true_wall = 1_800_000_000_000 + i64::try_from(now).unwrap();
        Timestamp::from_millisecond(true_wall + self.wall_ahead).unwrap()
    }

    pub const fn rate(&self) -> i64 {
        self.rate
    }

    /// Whether it runs further apart from a right one than rules allow for.
    pub const fn is_wrong(&self) -> bool {
        self.rate.abs() > 10
    }

    /// By how many milliseconds so much time by it is too short.
    pub fn gains(&self, time: Duration) -> u64 {
        let shown = u64::try_from(time.as_millis()).unwrap();
        let fast = u64::try_from(self.rate.max(0)).unwrap();
        (shown * fast).div_ceil(1000 + fast)
    }

    /// From now on it runs at another rate.
    pub fn run_at(&mut self, now: u64, rate: i64) {
        self.shown = self.boot(now).as_nanos();
        self.at = now;
        self.rate = rate;
    }

    /// The machine boots.
    pub fn reboot(&mut self, now: u64) {
        self.shown = 0;
        self.at = now;
    }
}
