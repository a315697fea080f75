//! The task that keeps the kernel's tables as the edge wants them.
//!
//! It works on a change, every ten seconds (a route by an interface that went down is gone, and somebody may have
//! removed ours), and after a failure again and again with growing pauses. It waits for the kernel, never the
//! edge task for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use tokio::sync::watch;
use tokio::time::timeout;

use super::RoutesReport;
use super::config::{AggregateKind, RoutesSection};
use super::difference::{Shape, Step, steps};
use super::feed::Feed;
use super::kernel::{Kernel, RouteError};
use super::metrics::RouteMetrics;
use super::wanted::{LIMIT, RouteKey, Target, Wanted};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

/// How often the tables are looked at when all is well.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Pause after the first failure; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Longest time for one go; the next one goes on where it ended.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many refusals end a go: the rest would be refused as well.
const MOST_REFUSALS: u64 = 100;

/// The task, ready to run.
#[derive(Debug)]
pub struct RoutesTask {
    section: RoutesSection,
    wanted: watch::Receiver<Option<Arc<Wanted>>>,
    report: watch::Sender<RoutesReport>,
    metrics: RouteMetrics,
}

impl RoutesTask {
    /// The task, and the end that the edge task keeps. Nothing happens before the edge task has said what it wants.
    ///
    /// # Errors
    /// If the metrics are registered already.
    pub fn new(
        section: RoutesSection,
        metrics: &Metrics,
    ) -> Result<(Self, Feed), prometheus::Error> {
        let (wanted, wanted_receiver) = watch::channel(None);
        let (report, report_receiver) = watch::channel(RoutesReport::default());
        let feed = Feed::new(section.clone(), wanted, report_receiver);
        let task = Self {
            section,
            wanted: wanted_receiver,
            report,
            metrics: RouteMetrics::new(metrics)?,
        };
        Ok((task, feed))
    }

    /// Works until `shutdown`. The routes stay.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        let mut pause = LOOK_EVERY;
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                changed = self.wanted.changed() => if changed.is_err() {
                    return shutdown.wait().await;
                },
                () = tokio::time::sleep(pause) => {}
            }
            let Some(wanted) = self.wanted.borrow_and_update().clone() else {
                continue;
            };
            let report = tokio::select! {
                biased;
                () = shutdown.wait() => return,
                report = self.go(&wanted) => report,
            };
            pause = match report.last_error {
                None if !self.section.enabled => return shutdown.wait().await,
                None => LOOK_EVERY,
                Some(_) if pause == LOOK_EVERY => FIRST_PAUSE,
                Some(_) => pause.saturating_mul(2).min(LONGEST_PAUSE),
            };
            self.tell(report);
        }
    }

    /// Says how it stands, and logs a failure when it is a new one.
    fn tell(&self, report: RoutesReport) {
        self.metrics.observe(&report);
        let old = self.report.borrow().last_error.clone();
        match (&report.last_error, &old) {
            (Some(error), _) if old.as_ref() != Some(error) => {
                tracing::warn!(missing = report.missing, %error, "routes are missing; trying again");
            }
            (None, Some(_)) => tracing::info!("the routes are right again"),
            _ => {}
        }
        self.report.send_replace(report);
    }

    /// One go.
    async fn go(&self, wanted: &Wanted) -> RoutesReport {
        let mut count = Count::of(wanted);
        let done = timeout(PATIENCE, self.change(wanted, &mut count)).await;
        let problem = match done {
            Ok(Ok(())) => count.problem.take().map(|problem| problem.to_string()),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(RouteError::Slow(PATIENCE.as_secs()).to_string()),
        };
        let left_out = || {
            let left_out = wanted.left_out;
            (left_out > 0).then(|| format!("{left_out} routes are left out: {LIMIT} is the most"))
        };
        let tables = if self.section.enabled {
            self.section.tables().into_iter().collect()
        } else {
            Vec::new()
        };
        RoutesReport {
            tables,
            aggregates: count.aggregates,
            hosts: count.hosts,
            missing: count.missing.saturating_add(wanted.left_out),
            last_error: problem.or_else(left_out),
        }
    }

    async fn change(&self, wanted: &Wanted, count: &mut Count) -> Result<(), RouteError> {
        let section = &self.section;
        let kernel = Kernel::open(section.protocol)?;
        let have = kernel.list(&section.tables()).await?;
        let want = shapes(wanted, section.aggregates, count);
        let all = steps(&have, &want, section.metric);
        let to_come: BTreeSet<RouteKey> = all
            .iter()
            .filter(|step| !matches!(step, Step::Remove(_)))
            .map(|step| step.route().key)
            .collect();
        for key in want.keys().filter(|key| !to_come.contains(*key)) {
            count.is_there(wanted, key);
        }
        let mut refusals = 0_u64;
        for step in &all {
            match kernel.apply(step).await {
                Ok(()) => {
                    self.metrics.changed(step.label());
                    if !matches!(step, Step::Remove(_)) {
                        count.is_there(wanted, &step.route().key);
                    }
                }
                Err(error) => {
                    count.problem.get_or_insert(error);
                    refusals = refusals.saturating_add(1);
                    if refusals == MOST_REFUSALS {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

/// How far a go has come.
struct Count {
    aggregates: u64,
    hosts: u64,
    missing: u64,
    problem: Option<RouteError>,
}

impl Count {
    fn of(wanted: &Wanted) -> Self {
        Self {
            aggregates: 0,
            hosts: 0,
            missing: u64::try_from(wanted.routes.len()).unwrap_or(u64::MAX),
            problem: None,
        }
    }

    fn is_there(&mut self, wanted: &Wanted, key: &RouteKey) {
        let kind = match wanted.routes.get(key) {
            Some(Target::Aggregate) => &mut self.aggregates,
            Some(Target::Host(_)) => &mut self.hosts,
            None => return,
        };
        *kind = kind.saturating_add(1);
        self.missing = self.missing.saturating_sub(1);
    }
}

/// The wanted routes as the kernel knows them. Those by an interface that is not there are left out.
fn shapes(
    wanted: &Wanted,
    aggregates: AggregateKind,
    count: &mut Count,
) -> BTreeMap<RouteKey, Shape> {
    let mut indices: BTreeMap<&str, Option<u32>> = BTreeMap::new();
    let mut all = BTreeMap::new();
    for (key, target) in &wanted.routes {
        let shape = match (target, aggregates) {
            (Target::Aggregate, AggregateKind::Unreachable) => Shape::Unreachable,
            (Target::Aggregate, AggregateKind::Blackhole) => Shape::Blackhole,
            (Target::Host(name), _) => {
                let index = indices
                    .entry(name)
                    .or_insert_with(|| if_nametoindex(&**name).ok());
                let Some(index) = index else {
                    let problem = || RouteError::NoInterface(name.to_string());
                    count.problem.get_or_insert_with(problem);
                    continue;
                };
                Shape::Device(*index)
            }
        };
        all.insert(*key, shape);
    }
    all
}

/// Removes all routes of ours; returns how many there were. For a sidecar that does not run: one that does puts them
/// back.
///
/// # Errors
/// What the kernel does not let go, and why.
pub async fn detach(section: &RoutesSection) -> Result<usize, RouteError> {
    let kernel = Kernel::open(section.protocol)?;
    let have = kernel.list(&section.tables()).await?;
    let all = steps(&have, &BTreeMap::new(), section.metric);
    for step in &all {
        kernel.apply(step).await?;
    }
    Ok(all.len())
}

#[cfg(test)]
mod tests;
