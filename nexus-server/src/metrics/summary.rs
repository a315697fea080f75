//! A Prometheus summary over a sliding window, which the `prometheus` crate does not have: quantiles of
//! the newest observations, bounded in number and in age.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType, Quantile, Summary};

/// Quantiles that are exported.
pub const QUANTILES: [f64; 4] = [0.5, 0.9, 0.99, 1.0];
/// Most observations that one series looks back on.
const WINDOW: usize = 1024;
/// Oldest observation that a quantile takes into account.
const MAX_AGE: Duration = Duration::from_secs(600);
/// Most series of one summary; observations of further label values go uncounted.
const MAX_SERIES: usize = 4096;

/// A summary with labels. Cheap to clone; all clones observe into the same series.
#[derive(Clone, Debug)]
pub struct SummaryVec {
    desc: Desc,
    labels: Arc<[&'static str]>,
    series: Arc<Mutex<BTreeMap<Vec<String>, Series>>>,
}

#[derive(Debug, Default)]
struct Series {
    count: u64,
    sum: f64,
    newest: VecDeque<(Instant, f64)>,
}

impl SummaryVec {
    /// A summary called `name`. Without labels its one series exists from the start.
    ///
    /// # Errors
    /// If the name or a label is not a valid Prometheus name.
    pub fn new(
        name: &str,
        help: &str,
        labels: &'static [&'static str],
    ) -> Result<Self, prometheus::Error> {
        let names = labels.iter().map(|label| (*label).to_owned()).collect();
        let desc = Desc::new(name.to_owned(), help.to_owned(), names, Default::default())?;
        let summary = Self {
            desc,
            labels: labels.into(),
            series: Arc::default(),
        };
        if labels.is_empty() {
            summary.lock().insert(Vec::new(), Series::default());
        }
        Ok(summary)
    }

    /// Counts one observation of `seconds` for the series with these label values, given in the order of
    /// the labels.
    pub fn observe(&self, values: &[&str], seconds: f64, now: Instant) {
        let mut all = self.lock();
        let key: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        if all.len() >= MAX_SERIES && !all.contains_key(&key) {
            return;
        }
        let series = all.entry(key).or_default();
        series.count = series.count.saturating_add(1);
        series.sum += seconds;
        if series.newest.len() >= WINDOW {
            series.newest.pop_front();
        }
        series.newest.push_back((now, seconds));
    }

    /// Forgets the series for which `keep` says no, given their label values.
    pub fn retain(&self, keep: impl Fn(&[String]) -> bool) {
        self.lock().retain(|values, _| keep(values));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Vec<String>, Series>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn family(&self, now: Instant) -> MetricFamily {
        let metrics = self
            .lock()
            .iter_mut()
            .map(|(values, series)| {
                let labels = self.labels.iter().zip(values).map(|(name, value)| {
                    let mut pair = LabelPair::default();
                    pair.set_name((*name).to_owned());
                    pair.set_value(value.clone());
                    pair
                });
                let mut metric = Metric::from_label(labels.collect());
                metric.set_summary(series.summary(now));
                metric
            })
            .collect::<Vec<_>>();
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(MetricType::SUMMARY);
        family.set_metric(metrics);
        family
    }
}

impl Collector for SummaryVec {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        vec![self.family(Instant::now())]
    }
}

impl Series {
    fn summary(&mut self, now: Instant) -> Summary {
        while let Some((at, _)) = self.newest.front()
            && now.saturating_duration_since(*at) > MAX_AGE
        {
            self.newest.pop_front();
        }
        let mut sorted: Vec<f64> = self.newest.iter().map(|(_, seconds)| *seconds).collect();
        sorted.sort_by(f64::total_cmp);
        let quantiles = QUANTILES.iter().map(|at| {
            let mut quantile = Quantile::default();
            quantile.set_quantile(*at);
            quantile.set_value(nearest_rank(&sorted, *at));
            quantile
        });
        let mut summary = Summary::default();
        summary.set_sample_count(self.count);
        summary.set_sample_sum(self.sum);
        summary.set_quantile(quantiles.collect());
        summary
    }
}

/// The smallest value that at least the share `at` of all values does not exceed; NaN of none.
fn nearest_rank(sorted: &[f64], at: f64) -> f64 {
    let rank = (at * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(summary: &SummaryVec, now: Instant) -> String {
        use prometheus::Encoder as _;
        let mut out = Vec::new();
        prometheus::TextEncoder::new()
            .encode(&[summary.family(now)], &mut out)
            .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn quantiles_are_the_nearest_ranks_of_what_was_observed() {
        let summary = SummaryVec::new("t_seconds", "help", &["path"]).unwrap();
        let now = Instant::now();
        for value in 1..=100 {
            summary.observe(&["/a"], f64::from(value), now);
        }
        let text = text(&summary, now);
        assert!(text.contains("# TYPE t_seconds summary"), "{text}");
        assert!(text.contains("t_seconds{path=\"/a\",quantile=\"0.5\"} 50\n"));
        assert!(text.contains("t_seconds{path=\"/a\",quantile=\"0.99\"} 99\n"));
        assert!(text.contains("t_seconds{path=\"/a\",quantile=\"1\"} 100\n"));
        assert!(text.contains("t_seconds_sum{path=\"/a\"} 5050\n"));
        assert!(text.contains("t_seconds_count{path=\"/a\"} 100\n"));
    }

    #[test]
    fn old_observations_leave_the_quantiles_but_stay_in_the_count() {
        let summary = SummaryVec::new("t_seconds", "help", &[]).unwrap();
        let then = Instant::now();
        summary.observe(&[], 9.0, then);
        let now = then + MAX_AGE + Duration::from_secs(1);
        summary.observe(&[], 1.0, now);
        let text = text(&summary, now);
        assert!(text.contains("t_seconds{quantile=\"1\"} 1\n"), "{text}");
        assert!(text.contains("t_seconds_count 2\n"), "{text}");
    }

    #[test]
    fn memory_is_bounded_in_observations_and_in_series() {
        let summary = SummaryVec::new("t_seconds", "help", &["who"]).unwrap();
        let now = Instant::now();
        for value in 0..(WINDOW * 2) {
            summary.observe(&["one"], value as f64, now);
        }
        for value in 0..(MAX_SERIES + 10) {
            summary.observe(&[&value.to_string()], 1.0, now);
        }
        let all = summary.lock();
        assert_eq!(all.len(), MAX_SERIES);
        assert_eq!(all[&vec!["one".to_owned()]].newest.len(), WINDOW);
    }
}
