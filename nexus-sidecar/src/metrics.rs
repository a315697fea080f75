//! The Prometheus metrics of the sidecar, `nexus_sidecar_*`, and how tasks count into them.

use nexus_abi::Outcome;
use prometheus::{
    Encoder as _, Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::status::{Mode, StatusReport};

/// All metrics of one sidecar. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    bindings: IntGaugeVec,
    pending_releases: IntGauge,
    lease_left: Gauge,
    kept_left: Gauge,
    clocks_apart: IntGauge,
    mode: IntGaugeVec,
    shard_allocated: IntGaugeVec,
    shard_available: IntGaugeVec,
    radius: IntCounterVec,
    dhcp_slow: IntCounterVec,
    dhcp_slow_dropped: IntCounterVec,
    ipoe: IntCounterVec,
    dhcp_kernel: IntCounterVec,
    allocations: IntCounterVec,
    centre: IntCounterVec,
    line_conflicts: IntCounterVec,
    map_repairs: IntCounterVec,
    resources_missing: IntCounterVec,
    queue_full: IntCounter,
}

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// Only if two metrics have one name, which is a mistake in this file.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let gauge = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let bindings = gauges(
            "nexus_sidecar_bindings",
            "Bindings by state: acked, unacked, suspended.",
            &["state"],
        )?;
        let mode = gauges(
            "nexus_sidecar_mode",
            "1 for the mode this host is in: connected, cut-off, lease-ended.",
            &["mode"],
        )?;
        let shard_allocated = gauges(
            "nexus_sidecar_shard_allocated",
            "Units of a shard held by subscribers.",
            &["pool_id", "shard"],
        )?;
        let shard_available = gauges(
            "nexus_sidecar_shard_available",
            "Units of a shard that could be given now.",
            &["pool_id", "shard"],
        )?;
        let dhcp_kernel = counters(
            "nexus_sidecar_dhcp_kernel_packets_total",
            "Packets seen by the XDP program since its maps were made, by outcome.",
            &["outcome"],
        )?;
        let radius = counters(
            "nexus_sidecar_radius_packets_total",
            "RADIUS packets by outcome.",
            &["outcome"],
        )?;
        let dhcp_slow = counters(
            "nexus_sidecar_dhcp_slow_packets_total",
            "Packets handled by the slow path, by outcome.",
            &["outcome"],
        )?;
        let dhcp_slow_dropped = counters(
            "nexus_sidecar_dhcp_slow_dropped_total",
            "Packets that the slow path did not look at, by reason: socket (its buffer was full), known (too many RELEASE and DECLINE in work).",
            &["reason"],
        )?;
        let ipoe = counters(
            "nexus_sidecar_ipoe_packets_total",
            "Packets of clients without a binding, by what became of them: accept, reject, attached, rejected-before, too-many, no-username, or why nobody could say.",
            &["result"],
        )?;
        let allocations = counters(
            "nexus_sidecar_allocations_total",
            "Requests for an address by result: new, known, or why there was none.",
            &["result"],
        )?;
        let centre = counters(
            "nexus_sidecar_centre_calls_total",
            "Calls to nexus-server by method and result.",
            &["method", "result"],
        )?;
        let map_repairs = counters(
            "nexus_sidecar_map_repairs_total",
            "Entries of the kernel's map put right at start, by kind: added, replaced, removed.",
            &["kind"],
        )?;
        let pending_releases = IntGauge::new(
            "nexus_sidecar_pending_releases",
            "Releases that the centre has not acknowledged.",
        )?;
        let lease_left = Gauge::new(
            "nexus_sidecar_lease_left_seconds",
            "Seconds until the lease on this host's shards ends; 0 without a lease.",
        )?;
        let line_conflicts = counters(
            "nexus_sidecar_line_conflicts_total",
            "Subscribers on another line (moved), with another MAC (mac-changed) or on another one's line (line-taken), by the policy that decided: take-over, refuse, quarantine.",
            &["conflict", "policy"],
        )?;
        let resources_missing = counters(
            "nexus_sidecar_resources_missing_total",
            "Units that subscribers went without, by the pool that had none; unknown: a pool that is not in the configuration.",
            &["pool_id"],
        )?;
        let queue_full = IntCounter::new(
            "nexus_sidecar_edge_queue_full_total",
            "Requests dropped because the edge task's queue was full.",
        )?;
        registry.register(Box::new(pending_releases.clone()))?;
        registry.register(Box::new(lease_left.clone()))?;
        let kept_left = Gauge::new(
            "nexus_sidecar_acknowledged_left_seconds",
            "Seconds until acknowledged bindings end if no server is reached; +Inf if they have no end.",
        )?;
        registry.register(Box::new(kept_left.clone()))?;
        let clocks_apart = IntGauge::new(
            "nexus_sidecar_clocks_apart",
            "1 if nothing new is given because clocks run further apart than leases allow for.",
        )?;
        registry.register(Box::new(clocks_apart.clone()))?;
        registry.register(Box::new(queue_full.clone()))?;
        Ok(Self {
            registry,
            bindings,
            pending_releases,
            lease_left,
            kept_left,
            clocks_apart,
            mode,
            shard_allocated,
            shard_available,
            radius,
            dhcp_slow,
            dhcp_slow_dropped,
            ipoe,
            dhcp_kernel,
            allocations,
            centre,
            line_conflicts,
            map_repairs,
            resources_missing,
            queue_full,
        })
    }

    /// Adds metrics of another module.
    ///
    /// # Errors
    /// If a metric of that name is there already.
    pub(crate) fn register(
        &self,
        collector: Box<dyn prometheus::core::Collector>,
    ) -> Result<(), prometheus::Error> {
        self.registry.register(collector)
    }

    /// Counts a RADIUS packet; `outcome` is one of a fixed set of labels (`accept`, `reject`, `bad-secret`, ...).
    pub fn radius(&self, outcome: &str) {
        self.radius.with_label_values(&[outcome]).inc();
    }

    /// Counts a packet of the slow path.
    pub fn dhcp_slow(&self, outcome: Outcome) {
        self.dhcp_slow.with_label_values(&[outcome.label()]).inc();
    }

    /// Counts packets that the slow path did not look at; `reason` is one of a fixed set.
    pub fn dhcp_slow_dropped(&self, reason: &str, count: u64) {
        self.dhcp_slow_dropped
            .with_label_values(&[reason])
            .inc_by(count);
    }

    /// Counts a packet of a client without a binding; `result` is one of a fixed set.
    pub fn ipoe(&self, result: &str) {
        self.ipoe.with_label_values(&[result]).inc();
    }

    /// Packets of the slow path by outcome so far, without those that never happened.
    #[must_use]
    pub fn dhcp_slow_count(&self, outcome: Outcome) -> u64 {
        self.dhcp_slow.with_label_values(&[outcome.label()]).get()
    }

    /// Counts the result of a request for an address.
    pub fn allocation(&self, result: &str) {
        self.allocations.with_label_values(&[result]).inc();
    }

    /// Counts a call to the centre.
    pub fn centre(&self, method: &str, result: &str) {
        self.centre.with_label_values(&[method, result]).inc();
    }

    /// Counts a subscriber on another line, with another MAC or on another one's line, by what was done.
    pub fn line_conflict(&self, conflict: &str, policy: &str) {
        self.line_conflicts
            .with_label_values(&[conflict, policy])
            .inc();
    }

    /// Counts entries of the map that were put right.
    pub fn map_repairs(&self, kind: &str, count: u64) {
        self.map_repairs.with_label_values(&[kind]).inc_by(count);
    }

    /// Counts something that a subscriber went without; `pool` is of the configuration, or `unknown`.
    pub fn resource_missing(&self, pool: &str) {
        self.resources_missing.with_label_values(&[pool]).inc();
    }

    /// Counts a request that found the queue full.
    pub fn queue_full(&self) {
        self.queue_full.inc();
    }

    /// Sets the gauges to what `status` says.
    pub fn observe(&self, status: &StatusReport) {
        let int = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        for (state, count) in [
            ("acked", status.acked),
            ("unacked", status.unacked),
            ("suspended", status.suspended),
        ] {
            self.bindings.with_label_values(&[state]).set(int(count));
        }
        for (label, mode) in [
            ("connected", Mode::Connected),
            ("cut-off", Mode::CutOff),
            ("lease-ended", Mode::LeaseEnded),
        ] {
            self.mode
                .with_label_values(&[label])
                .set(i64::from(mode == status.mode));
        }
        self.pending_releases.set(int(status.pending_releases));
        self.clocks_apart.set(i64::from(status.clock.stops));
        #[allow(clippy::cast_precision_loss, reason = "seconds, far below 2^52")]
        let float = |secs: u64| secs as f64;
        self.kept_left
            .set(status.kept_left_secs.map_or(f64::INFINITY, float));
        self.lease_left
            .set(float(status.lease_left_secs.unwrap_or(0)));
        // Shards that are gone must not stay in the output.
        self.shard_allocated.reset();
        self.shard_available.reset();
        for shard in &status.shards {
            let labels = [shard.pool.as_str(), &shard.shard.to_string()];
            self.shard_allocated
                .with_label_values(&labels)
                .set(int(shard.allocated));
            self.shard_available
                .with_label_values(&labels)
                .set(int(shard.available));
        }
        for (label, count) in &status.kernel_outcomes {
            // The kernel counts on when the sidecar restarts; ours follows it.
            let counter = self.dhcp_kernel.with_label_values(&[label]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }

    /// The text format of Prometheus.
    ///
    /// # Errors
    /// If a metric cannot be encoded.
    pub fn encode(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}
