//! What the routes task counts.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};

use super::RoutesReport;
use crate::metrics::Metrics;

/// Metrics of the routes.
#[derive(Clone, Debug)]
pub(super) struct RouteMetrics {
    routes: IntGaugeVec,
    missing: IntGauge,
    changes: IntCounterVec,
    failures: IntCounter,
}

impl RouteMetrics {
    /// Registers them. Errors: they are registered already.
    pub fn new(metrics: &Metrics) -> Result<Self, prometheus::Error> {
        let routes = IntGaugeVec::new(
            Opts::new(
                "nexus_sidecar_routes",
                "Routes in the kernel's tables for a routing daemon to announce, by kind: aggregate, host.",
            ),
            &["kind"],
        )?;
        let missing = IntGauge::new(
            "nexus_sidecar_routes_missing",
            "Routes that should be in the kernel's tables and are not.",
        )?;
        let changes = IntCounterVec::new(
            Opts::new(
                "nexus_sidecar_route_changes_total",
                "Changes of the kernel's tables: added, replaced, removed.",
            ),
            &["change"],
        )?;
        let failures = IntCounter::new(
            "nexus_sidecar_route_failures_total",
            "Tries to bring the kernel's tables up to date that did not reach their end.",
        )?;
        metrics.register(Box::new(routes.clone()))?;
        metrics.register(Box::new(missing.clone()))?;
        metrics.register(Box::new(changes.clone()))?;
        metrics.register(Box::new(failures.clone()))?;
        Ok(Self {
            routes,
            missing,
            changes,
            failures,
        })
    }

    /// Counts a change.
    pub fn changed(&self, change: &str) {
        self.changes.with_label_values(&[change]).inc();
    }

    /// Shows how it stands after a try.
    pub fn observe(&self, report: &RoutesReport) {
        let int = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        for (kind, count) in [("aggregate", report.aggregates), ("host", report.hosts)] {
            self.routes.with_label_values(&[kind]).set(int(count));
        }
        self.missing.set(int(report.missing));
        if report.last_error.is_some() {
            self.failures.inc();
        }
    }
}
