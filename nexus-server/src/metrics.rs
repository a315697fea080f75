//! The Prometheus metrics of the centre, by the names and labels of the customer's document.

use std::time::{Duration, Instant};

use prometheus::{
    Encoder as _, Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

use crate::metrics::cluster::ClusterMetrics;
use crate::metrics::summary::SummaryVec;

pub mod cluster;
pub mod summary;

/// All metrics of one server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    pool_total: GaugeVec,
    pool_allocated: GaugeVec,
    pool_available: GaugeVec,
    pool_utilization: GaugeVec,
    allocations: IntCounterVec,
    allocation_duration: SummaryVec,
    races_lost: IntCounter,
    nodes: GaugeVec,
    node_subscribers: GaugeVec,
    node_last_heartbeat: GaugeVec,
    node_other_host: GaugeVec,
    node_clocks_apart: GaugeVec,
    cluster: ClusterMetrics,
    clset_sync: SummaryVec,
    clset_dropped: IntCounter,
    clset_puts: IntCounter,
    clset_gets: IntCounter,
    api_requests: IntCounterVec,
    api_duration: SummaryVec,
    duplicates: IntGauge,
    audit_walked_at: Gauge,
    reclaimed: IntCounter,
    watchers: IntGauge,
    watchers_cut_off: IntCounter,
}

/// What the gauges show, taken from the state at the moment of the scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// One entry for each pool.
    pub pools: Vec<PoolGauges>,
    /// One entry for each OLT.
    pub olts: Vec<OltGauges>,
    /// (role, state, how many) of servers and OLTs.
    pub nodes: Vec<(String, String, u64)>,
    /// Watch streams that are open.
    pub watchers: usize,
    /// Resources that more than one subscriber holds.
    pub duplicates: usize,
    /// Unix time of the end of the audit's last walk over all that is held; `None` before the first.
    pub audit_walked_at: Option<f64>,
}

/// Fill of one pool in units (addresses, delegated prefixes, VLANs, ports).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolGauges {
    /// Pool id.
    pub pool: String,
    /// Resource type, as in the API.
    pub kind: String,
    /// Units that may be allocated at all.
    pub total: u64,
    /// Units that somebody holds.
    pub allocated: u64,
    /// Units that nobody holds and that are not cooling down.
    pub available: u64,
}

/// One OLT as its last heartbeat described it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OltGauges {
    /// OLT id.
    pub olt: String,
    /// Active subscribers.
    pub subscribers: u32,
    /// Whether another host has tried to be this OLT lately.
    pub other_host: bool,
    /// Whether it says that clocks run further apart than leases allow for.
    pub clocks_apart: bool,
    /// Unix time of the last heartbeat; `None` before the first since this server started.
    pub last_heartbeat: Option<f64>,
}

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// Only if two metrics have one name, which is a mistake in this file.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let metric = GaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok::<_, prometheus::Error>(metric)
        };
        let gauge = |name: &str, help: &str| {
            let metric = IntGauge::new(name, help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok::<_, prometheus::Error>(metric)
        };
        let counter = |name: &str, help: &str| {
            let metric = IntCounter::new(name, help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok::<_, prometheus::Error>(metric)
        };
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok::<_, prometheus::Error>(metric)
        };
        let summary = |name: &str, help: &str, labels: &'static [&'static str]| {
            let metric = SummaryVec::new(name, help, labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok::<_, prometheus::Error>(metric)
        };
        let pool = ["pool_id", "type"];
        let cluster = ClusterMetrics::new(&registry)?;
        Ok(Self {
            cluster,
            clset_sync: summary(
                "nexus_clset_sync_duration_seconds",
                "Time of one question to another replica and its answer.",
                &[],
            )?,
            clset_dropped: counter(
                "nexus_clset_outputs_dropped_total",
                "Messages to other replicas that were dropped because too many waited.",
            )?,
            pool_total: gauges(
                "nexus_pool_total",
                "Units that the pool can hand out.",
                &pool,
            )?,
            pool_allocated: gauges("nexus_pool_allocated", "Units that are held.", &pool)?,
            pool_available: gauges(
                "nexus_pool_available",
                "Units that are neither held nor cooling down after a release.",
                &pool,
            )?,
            pool_utilization: gauges(
                "nexus_pool_utilization_ratio",
                "Held units as a share of all units, 0 to 1.",
                &pool,
            )?,
            allocations: counters(
                "nexus_allocations_total",
                "Allocations asked of the centre, by result: ok, repeated, or the slug of the refusal.",
                &["pool_id", "olt_id", "result"],
            )?,
            allocation_duration: summary(
                "nexus_allocation_duration_seconds",
                "Time from an allocation's arrival at the centre until it was durable.",
                &["pool_id"],
            )?,
            races_lost: counter(
                "nexus_allocation_races_lost_total",
                "Units of the cluster's own shards that another server took first, so that another one was tried.",
            )?,
            nodes: gauges(
                "nexus_nodes_total",
                "Nodes by role (core, write, read: servers; olt) and state.",
                &["role", "state"],
            )?,
            node_subscribers: gauges(
                "nexus_node_subscribers",
                "Active subscribers, from the OLT's last heartbeat.",
                &["olt_id"],
            )?,
            node_other_host: gauges(
                "nexus_node_other_host",
                "1 if another host has tried to be this OLT in the last ten minutes.",
                &["olt_id"],
            )?,
            node_clocks_apart: gauges(
                "nexus_node_clocks_apart",
                "1 if the OLT said with its last heartbeat that clocks run further apart than leases allow for.",
                &["olt_id"],
            )?,
            node_last_heartbeat: gauges(
                "nexus_node_last_heartbeat_seconds",
                "Unix time of the OLT's last heartbeat, in seconds.",
                &["olt_id"],
            )?,
            clset_puts: counter("nexus_clset_puts_total", "Entries written to the CLSet.")?,
            clset_gets: counter("nexus_clset_gets_total", "Entries read from the CLSet.")?,
            api_requests: counters(
                "nexus_api_requests_total",
                "Requests by method, route and status; gRPC with method GRPC and the name of its status code.",
                &["method", "path", "status"],
            )?,
            api_duration: summary(
                "nexus_api_request_duration_seconds",
                "Time from a request's arrival to its answer.",
                &["method", "path"],
            )?,
            duplicates: gauge(
                "nexus_duplicate_allocations",
                "Resources held by more than one subscriber, found by the running audit. Must be 0.",
            )?,
            audit_walked_at: {
                let metric = Gauge::new(
                    "nexus_audit_last_walk_seconds",
                    "Unix time of the end of the audit's last walk over all that is held; 0 before the first.",
                )?;
                registry.register(Box::new(metric.clone()))?;
                metric
            },
            reclaimed: counter(
                "nexus_reclaimed_allocations_total",
                "Allocations that this server released because their OLT was away for longer than reclaim_after.",
            )?,
            watchers: gauge("nexus_watchers", "Watch streams that are open.")?,
            watchers_cut_off: counter(
                "nexus_watchers_cut_off_total",
                "Watch streams that were ended because their reader was too slow.",
            )?,
            registry,
        })
    }

    /// Counts one allocation asked of the centre. Only ids that exist may be given, so that a caller cannot
    /// make label values; anything else is `unknown`.
    pub fn allocation(
        &self,
        pool: Option<&str>,
        olt: Option<&str>,
        result: &str,
        took: Duration,
        now: Instant,
    ) {
        let pool_label = pool.unwrap_or("unknown");
        self.allocations
            .with_label_values(&[pool_label, olt.unwrap_or("unknown"), result])
            .inc();
        if pool.is_some() {
            self.allocation_duration
                .observe(&[pool_label], took.as_secs_f64(), now);
        }
    }

    /// Counts a unit that another server took first.
    pub fn race_lost(&self) {
        self.races_lost.inc();
    }

    /// Counts one answered request; `path` is the route's template, never the path itself.
    pub fn request(&self, method: &str, path: &str, status: &str, took: Duration, now: Instant) {
        self.api_requests
            .with_label_values(&[method, path, status])
            .inc();
        self.api_duration
            .observe(&[method, path], took.as_secs_f64(), now);
    }

    /// Counts entries written to the CLSet.
    pub fn clset_puts(&self, count: u64) {
        self.clset_puts.inc_by(count);
    }

    /// Counts entries read from the CLSet.
    pub fn clset_gets(&self, count: u64) {
        self.clset_gets.inc_by(count);
    }

    /// Counts a message to other replicas that was dropped.
    pub fn clset_dropped(&self) {
        self.clset_dropped.inc();
    }

    /// Counts a question to another replica and its answer.
    pub fn clset_synced(&self, took: Duration, now: Instant) {
        self.clset_sync.observe(&[], took.as_secs_f64(), now);
    }

    /// The metrics of this server among others.
    #[must_use]
    pub fn cluster(&self) -> &ClusterMetrics {
        &self.cluster
    }

    /// Counts allocations of OLTs that were away for too long.
    pub fn reclaimed(&self, count: u64) {
        self.reclaimed.inc_by(count);
    }

    /// Counts a watch stream that was ended because its reader was too slow.
    pub fn watcher_cut_off(&self) {
        self.watchers_cut_off.inc();
    }

    /// Sets the gauges and writes everything in the Prometheus text format.
    ///
    /// # Errors
    /// If the encoder refuses a metric.
    pub fn render(&self, snapshot: &Snapshot) -> Result<String, prometheus::Error> {
        self.show(snapshot);
        let mut text = String::new();
        TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// Content type of what [`Metrics::render`] writes.
    pub fn content_type(&self) -> String {
        TextEncoder::new().format_type().to_owned()
    }

    fn show(&self, snapshot: &Snapshot) {
        for gauge in [
            &self.pool_total,
            &self.pool_allocated,
            &self.pool_available,
            &self.pool_utilization,
            &self.nodes,
            &self.node_subscribers,
            &self.node_last_heartbeat,
            &self.node_other_host,
            &self.node_clocks_apart,
        ] {
            gauge.reset();
        }
        for pool in &snapshot.pools {
            let labels = [pool.pool.as_str(), pool.kind.as_str()];
            let ratio = if pool.total == 0 {
                0.0
            } else {
                pool.allocated as f64 / pool.total as f64
            };
            for (gauge, value) in [
                (&self.pool_total, pool.total as f64),
                (&self.pool_allocated, pool.allocated as f64),
                (&self.pool_available, pool.available as f64),
                (&self.pool_utilization, ratio),
            ] {
                gauge.with_label_values(&labels).set(value);
            }
        }
        for (role, state, count) in &snapshot.nodes {
            self.nodes
                .with_label_values(&[role, state])
                .set(*count as f64);
        }
        for olt in &snapshot.olts {
            let labels = [olt.olt.as_str()];
            self.node_subscribers
                .with_label_values(&labels)
                .set(f64::from(olt.subscribers));
            let other = if olt.other_host { 1.0 } else { 0.0 };
            self.node_other_host.with_label_values(&labels).set(other);
            let apart = if olt.clocks_apart { 1.0 } else { 0.0 };
            self.node_clocks_apart.with_label_values(&labels).set(apart);
            if let Some(at) = olt.last_heartbeat {
                self.node_last_heartbeat.with_label_values(&labels).set(at);
            }
        }
        for (gauge, count) in [
            (&self.watchers, snapshot.watchers),
            (&self.duplicates, snapshot.duplicates),
        ] {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.audit_walked_at
            .set(snapshot.audit_walked_at.unwrap_or(0.0));
        self.allocation_duration.retain(|values| {
            values
                .iter()
                .any(|value| snapshot.pools.iter().any(|pool| pool.pool == *value))
        });
    }
}

#[cfg(test)]
mod tests;
