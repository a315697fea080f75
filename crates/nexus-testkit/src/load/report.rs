//! What came out of a run: counts of every transaction, and percentiles of time.

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// What became of all exchanges and of everything received. `begun` = `completed` + `lost`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Counts {
    /// Exchanges that began.
    pub begun: u64,
    /// Of these, ended with the ACK.
    pub completed: u64,
    /// Of these, ended without.
    pub lost: u64,
    /// Exchanges that were due when no client was idle: every one under way.
    pub withheld: u64,
    /// NAKs.
    pub refused: u64,
    /// Messages sent again.
    pub repeated: u64,
    /// Replies to exchanges that were over.
    pub late: u64,
    /// Replies that had come before.
    pub duplicates: u64,
    /// Replies with another MAC address or another address than the client's.
    pub wrong: u64,
    /// Frames that are no reply to this run.
    pub strange: u64,
    /// Messages that the interface did not take.
    pub unsent: u64,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        let Self {
            begun,
            completed,
            lost,
            withheld,
            refused,
            repeated,
            late,
            duplicates,
            wrong,
            strange,
            unsent,
        } = other;
        self.begun += begun;
        self.completed += completed;
        self.lost += lost;
        self.withheld += withheld;
        self.refused += refused;
        self.repeated += repeated;
        self.late += late;
        self.duplicates += duplicates;
        self.wrong += wrong;
        self.strange += strange;
        self.unsent += unsent;
    }
}

/// What one thread has counted.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Events.
    pub counts: Counts,
    /// From a message to its reply, in nanoseconds.
    round_trips: Histogram<u64>,
    /// From the first message of an exchange to its ACK, in nanoseconds.
    exchanges: Histogram<u64>,
    /// When the last exchange was completed.
    last: u64,
}

impl Tally {
    /// Nothing counted.
    ///
    /// # Errors
    /// If the histograms cannot be made.
    pub fn new() -> Result<Self> {
        // Three digits, up to a quarter of an hour.
        let histogram = Histogram::new_with_bounds(1, 1_000_000_000_000, 3)
            .context("cannot make a histogram")?;
        Ok(Self {
            counts: Counts::default(),
            round_trips: histogram.clone(),
            exchanges: histogram,
            last: 0,
        })
    }

    /// A message was answered after so many nanoseconds.
    pub fn record_round_trip(&mut self, nanoseconds: u64) {
        self.round_trips.saturating_record(nanoseconds);
    }

    /// An exchange was completed at `now` after so many nanoseconds.
    pub fn record_exchange(&mut self, nanoseconds: u64, now: u64) {
        self.exchanges.saturating_record(nanoseconds);
        self.last = self.last.max(now);
    }
}

/// Percentiles of a time in nanoseconds; all 0 if nothing was measured. Three digits are exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Percentiles {
    /// Measured.
    pub count: u64,
    /// Half of them took no longer.
    pub p50: u64,
    /// 99 of 100 took no longer.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

impl Percentiles {
    fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        Self {
            count: histogram.len(),
            p50: histogram.value_at_quantile(0.5),
            p99: histogram.value_at_quantile(0.99),
            max: histogram.max(),
        }
    }
}

/// What came out of a run.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Report {
    /// Events.
    pub counts: Counts,
    /// From a message to its reply; repeated messages are left out.
    pub round_trip: Percentiles,
    /// From the first message of an exchange to its ACK.
    pub exchange: Percentiles,
    /// From the start to the last ACK, in seconds.
    pub seconds: f64,
}

impl Report {
    pub(super) fn of(tallies: Vec<Tally>) -> Self {
        let mut tallies = tallies.into_iter();
        let Some(mut sum) = tallies.next() else {
            return Self {
                counts: Counts::default(),
                round_trip: Percentiles::default(),
                exchange: Percentiles::default(),
                seconds: 0.0,
            };
        };
        for tally in tallies {
            sum.counts.add(&tally.counts);
            // They have the same bounds, so this cannot fail.
            let _ = sum.round_trips.add(&tally.round_trips);
            let _ = sum.exchanges.add(&tally.exchanges);
            sum.last = sum.last.max(tally.last);
        }
        Self {
            counts: sum.counts,
            round_trip: Percentiles::of(&sum.round_trips),
            exchange: Percentiles::of(&sum.exchanges),
            seconds: sum.last as f64 / 1e9,
        }
    }

    /// Completed exchanges per second until the last one was completed.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        if self.seconds > 0.0 {
            self.counts.completed as f64 / self.seconds
        } else {
            0.0
        }
    }

    /// The share of exchanges that were due and not completed, 0 to 1.
    #[must_use]
    pub fn loss(&self) -> f64 {
        let due = self.counts.begun + self.counts.withheld;
        if due == 0 {
            return 1.0;
        }
        1.0 - self.counts.completed as f64 / due as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_measured_times() {
        let mut tally = Tally::new().unwrap();
        for microseconds in 1..=1000 {
            tally.record_round_trip(microseconds * 1000);
        }
        let report = Report::of(vec![tally]);
        let Percentiles {
            count,
            p50,
            p99,
            max,
        } = report.round_trip;
        assert_eq!(count, 1000);
        for (value, right) in [(p50, 500_000.0), (p99, 990_000.0), (max, 1_000_000.0)] {
            assert!(
                (value as f64 / right - 1.0).abs() < 0.002,
                "{value} for {right}"
            );
        }
        assert_eq!(report.exchange, Percentiles::default());
    }

    #[test]
    fn threads_add_up() {
        let tally = |completed, at| {
            let mut tally = Tally::new().unwrap();
            tally.counts.begun = 10;
            tally.counts.completed = completed;
            tally.counts.lost = 10 - completed;
            for _ in 0..completed {
                tally.record_exchange(1000, at);
            }
            tally
        };
        let report = Report::of(vec![tally(10, 500_000_000), tally(8, 2_000_000_000)]);
        assert_eq!(report.counts.completed, 18);
        assert_eq!(report.exchange.count, 18);
        assert!((report.per_second() - 9.0).abs() < 1e-9);
        assert!((report.loss() - 0.1).abs() < 1e-9);
    }

    #[test]
    fn what_was_withheld_is_lost_too() {
        let mut tally = Tally::new().unwrap();
        tally.counts.begun = 50;
        tally.counts.completed = 50;
        tally.counts.withheld = 50;
        assert!((Report::of(vec![tally]).loss() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_run_in_which_nothing_was_due_has_not_held_anything() {
        assert!((Report::of(Vec::new()).loss() - 1.0).abs() < 1e-9);
    }
}
