//! When exchanges begin: so many per second, or so many at a time. Pure; times are nanoseconds from the start.

use super::plan::{self, Plan};

/// The pace of one thread.
#[derive(Clone, Debug)]
pub struct Pace {
    kind: Kind,
    begun: u64,
}

#[derive(Clone, Debug)]
enum Kind {
    Open { per_second: f64 },
    Closed { window: u64 },
}

impl Pace {
    /// The share of `thread` in the plan's pace.
    #[must_use]
    pub fn new(plan: &Plan, thread: u32) -> Self {
        let threads = plan.threads.max(1);
        let kind = match plan.pace {
            plan::Pace::Open { per_second } => Kind::Open {
                per_second: per_second / f64::from(threads),
            },
            plan::Pace::Closed { window } => Kind::Closed {
                window: u64::from((window + threads - 1 - thread.min(threads - 1)) / threads),
            },
        };
        Self { kind, begun: 0 }
    }

    /// How many exchanges shall begin at `now`, but not more than `most`; so many are `under_way`. They count as
    /// begun, whatever becomes of them: an open loop does not wait for anybody.
    pub fn due(&mut self, now: u64, under_way: u64, most: u64) -> u64 {
        let due = match self.kind {
            Kind::Open { per_second } => {
                let by_now = (now as f64 / 1e9 * per_second) as u64 + 1;
                by_now.saturating_sub(self.begun)
            }
            Kind::Closed { window } => window.saturating_sub(under_way),
        }
        .min(most);
        self.begun += due;
        due
    }

    /// When the next exchange shall begin; `None` if that depends on what comes back.
    #[must_use]
    pub fn next_at(&self) -> Option<u64> {
        match self.kind {
            Kind::Open { per_second } => Some((self.begun as f64 * 1e9 / per_second) as u64),
            Kind::Closed { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(pace: plan::Pace, threads: u32, thread: u32) -> Pace {
        let plan = Plan::new("x0", [2, 0, 0, 0, 0, 0], 100, pace);
        Pace::new(&Plan { threads, ..plan }, thread)
    }

    #[test]
    fn an_open_loop_keeps_its_rate_whatever_comes_back() {
        let mut pace = pace(plan::Pace::Open { per_second: 1000.0 }, 1, 0);
        assert_eq!(pace.due(0, 0, 1000), 1);
        assert_eq!(pace.next_at(), Some(1_000_000));
        assert_eq!(pace.due(999_999, 99, 1000), 0);
        assert_eq!(pace.due(1_000_000, 99, 1000), 1);
        // Late by 9 ms: all of them now.
        assert_eq!(pace.due(10_000_000, 99, 1000), 9);
        assert_eq!(pace.due(999_000_000, 0, 1000), 989);
    }

    #[test]
    fn a_closed_loop_fills_its_window() {
        let mut pace = pace(plan::Pace::Closed { window: 8 }, 1, 0);
        assert_eq!(pace.due(0, 0, 1000), 8);
        assert_eq!(pace.due(1, 8, 1000), 0);
        assert_eq!(pace.due(2, 5, 1000), 3);
        assert_eq!(pace.next_at(), None);
    }

    #[test]
    fn threads_share_the_pace() {
        let closed = plan::Pace::Closed { window: 5 };
        let both = [0, 1].map(|thread| pace(closed, 2, thread).due(0, 0, 1000));
        assert_eq!(both, [3, 2]);
        let mut open = pace(plan::Pace::Open { per_second: 1000.0 }, 2, 1);
        assert_eq!(open.due(1_000_000_000, 0, 1000), 501);
    }
}
