//! The search for the highest rate at which a server still holds a limit. Pure.

/// Narrow enough: the rate that failed is at most this much above the one that held.
const RESOLUTION: f64 = 1.06;
/// Rates below this are not looked at.
const LEAST: f64 = 1.0;

/// Doubles until a rate fails (or halves until one holds), then bisects, in a bounded number of trials.
#[derive(Clone, Debug)]
pub struct Search {
    next: f64,
    most: f64,
    trials_left: u32,
    held: Option<f64>,
    failed: Option<f64>,
}

impl Search {
    /// Begins at `start`, never asks for more than `most`, and makes at most `trials` trials.
    #[must_use]
    pub fn new(start: f64, most: f64, trials: u32) -> Self {
        Self {
            next: start.clamp(LEAST, most),
            most,
            trials_left: trials,
            held: None,
            failed: None,
        }
    }

    /// The rate to try now; `None` when the search is over.
    #[must_use]
    pub fn next(&self) -> Option<f64> {
        let narrow = match (self.held, self.failed) {
            (Some(held), Some(failed)) => failed <= held * RESOLUTION,
            (Some(held), None) => held >= self.most,
            (None, Some(failed)) => failed <= LEAST,
            (None, None) => false,
        };
        (self.trials_left > 0 && !narrow).then_some(self.next)
    }

    /// What came of the rate that [`Search::next`] named.
    pub fn record(&mut self, holds: bool) {
        self.trials_left = self.trials_left.saturating_sub(1);
        if holds {
            self.held = Some(self.held.map_or(self.next, |held| held.max(self.next)));
        } else {
            let failed = self
                .failed
                .map_or(self.next, |failed| failed.min(self.next));
            self.failed = Some(failed);
        }
        self.next = match (self.held, self.failed) {
            // The mean of their logarithms: rates are compared by ratio.
            (Some(held), Some(failed)) => (held * failed).sqrt(),
            (Some(held), None) => held * 2.0,
            (None, Some(failed)) => failed / 2.0,
            (None, None) => self.next,
        }
        .clamp(LEAST, self.most);
    }

    /// The highest rate that held, if any did.
    #[must_use]
    pub fn best(&self) -> Option<f64> {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches for `limit`; the rates that were tried.
    fn search(mut search: Search, limit: f64) -> (Option<f64>, Vec<f64>) {
        let mut tried = Vec::new();
        while let Some(rate) = search.next() {
            tried.push(rate);
            search.record(rate <= limit);
        }
        (search.best(), tried)
    }

    #[test]
    fn a_limit_above_the_start_is_found_from_below() {
        let (best, tried) = search(Search::new(1000.0, 1e9, 20), 7300.0);
        let best = best.unwrap();
        assert!(
            best <= 7300.0 && best * RESOLUTION >= 7300.0,
            "{best} {tried:?}"
        );
        assert_eq!(
            tried.get(..4),
            Some([1000.0, 2000.0, 4000.0, 8000.0].as_slice())
        );
    }

    #[test]
    fn a_limit_below_the_start_is_found_from_above() {
        let (best, tried) = search(Search::new(1000.0, 1e9, 20), 130.0);
        let best = best.unwrap();
        assert!(
            best <= 130.0 && best * RESOLUTION >= 130.0,
            "{best} {tried:?}"
        );
    }

    #[test]
    fn trials_are_bounded_and_the_best_so_far_counts() {
        let (best, tried) = search(Search::new(1000.0, 1e9, 3), 1e6);
        assert_eq!((best, tried.len()), (Some(4000.0), 3));
    }

    #[test]
    fn nothing_above_the_most_is_tried() {
        let (best, tried) = search(Search::new(1000.0, 3000.0, 20), 1e6);
        assert_eq!(best, Some(3000.0));
        assert_eq!(tried, [1000.0, 2000.0, 3000.0]);
    }

    #[test]
    fn a_server_that_never_holds_ends_the_search_without_a_rate() {
        let (best, tried) = search(Search::new(8.0, 1e9, 20), 0.0);
        assert_eq!(best, None);
        assert_eq!(tried, [8.0, 4.0, 2.0, 1.0]);
    }
}
