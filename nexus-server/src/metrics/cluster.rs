//! The metrics of this server among others: replicas, connections, quorum.

use nexus_clset::NodeId;
use nexus_p2p::Counters;
use prometheus::{Gauge, GaugeVec, Opts, Registry};

use crate::cluster::status::ClusterStatus;

/// Gauges that are set at the moment of the scrape. What only grows is the count since the server started.
#[derive(Clone, Debug)]
pub struct ClusterMetrics {
    peers: Gauge,
    converged: Gauge,
    entries: Gauge,
    tombstones: Gauge,
    bootstrap: Gauge,
    clock: Gauge,
    refused_stamps: Gauge,
    lag_entries: GaugeVec,
    lag_seconds: GaugeVec,
    in_sync: GaugeVec,
    rounds: GaugeVec,
    bytes: GaugeVec,
    reconciliations: GaugeVec,
    traffic: GaugeVec,
    connections_refused: GaugeVec,
    members: GaugeVec,
    leader: Gauge,
    frozen: Gauge,
    log: GaugeVec,
    queues: GaugeVec,
}

impl ClusterMetrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// Only if two metrics have one name, which is a mistake in this file.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let one = |name: &str, help: &str| {
            let metric = Gauge::new(name, help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok::<_, prometheus::Error>(metric)
        };
        let many = |name: &str, help: &str, labels: &[&str]| {
            let metric = GaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok::<_, prometheus::Error>(metric)
        };
        Ok(Self {
            peers: one(
                "nexus_clset_peers_total",
                "Other replicas that this server is connected to.",
            )?,
            converged: one(
                "nexus_clset_converged",
                "1 if all members can be reached from here and hold the same entries, by their roots.",
            )?,
            entries: one("nexus_clset_entries", "Entries, tombstones among them.")?,
            tombstones: one(
                "nexus_clset_tombstones",
                "Deleted entries that are kept until all members know of it.",
            )?,
            bootstrap: one(
                "nexus_clset_bootstrap_ratio",
                "Share of all entries that are here, 0 to 1; 1 when nothing is fetched.",
            )?,
            clock: one(
                "nexus_clset_clock_ahead_seconds",
                "How far the wall clock is ahead of the other servers'; below 0: behind.",
            )?,
            refused_stamps: one(
                "nexus_clset_refused_stamps_total",
                "Messages with stamps too far ahead to set the own clock by.",
            )?,
            lag_entries: many(
                "nexus_clset_lag_entries",
                "Entries that one has and the other lacks; direction behind: the peer lacks them.",
                &["peer", "direction"],
            )?,
            lag_seconds: many(
                "nexus_clset_lag_seconds",
                "Since when that is so.",
                &["peer", "direction"],
            )?,
            in_sync: many(
                "nexus_clset_in_sync",
                "1 if the peer holds the same entries, by its root.",
                &["peer"],
            )?,
            rounds: many(
                "nexus_clset_rounds_total",
                "Digests that were exchanged with the peer.",
                &["peer"],
            )?,
            bytes: many(
                "nexus_clset_bytes_total",
                "Bytes of questions and answers, without gossip.",
                &["peer", "direction"],
            )?,
            reconciliations: many(
                "nexus_clset_reconciliations_total",
                "Times that ranges were compared with the peer.",
                &["peer"],
            )?,
            traffic: many(
                "nexus_clset_traffic_total",
                "Batches, pages, entries, bytes and failures by name.",
                &["what"],
            )?,
            connections_refused: many(
                "nexus_p2p_refused_total",
                "Connections that were refused, by reason.",
                &["reason"],
            )?,
            members: many(
                "nexus_cluster_members",
                "Servers of the cluster by role and state.",
                &["role", "state"],
            )?,
            frozen: one(
                "nexus_shard_moves_frozen_seconds",
                "How long no shard changes hands, because part of what was decided is missing; 0: they do.",
            )?,
            leader: one(
                "nexus_quorum_has_leader",
                "1 if this server knows a leader that can decide.",
            )?,
            queues: many(
                "nexus_queue_depth",
                "What waits: requests for the owner of the state, rows for the disk.",
                &["queue"],
            )?,
            log: many(
                "nexus_quorum_log_index",
                "Last entry of the quorum's log: written, committed, applied.",
                &["state"],
            )?,
        })
    }

    /// Sets everything to what it is now.
    pub fn show(&self, status: &ClusterStatus, counters: Option<&Counters>, requests: usize) {
        for (queue, depth) in [("requests", requests), ("rows", status.unsettled_rows)] {
            self.queues.with_label_values(&[queue]).set(depth as f64);
        }
        let replica = &status.replica;
        let number = |value: u64| value as f64;
        self.peers.set(status.peers.len() as f64);
        self.converged
            .set(f64::from(u8::from(status.why_not_converged().is_empty())));
        self.entries.set(number(replica.entries));
        self.tombstones.set(number(replica.tombstones));
        self.bootstrap
            .set(replica.bootstrap.map_or(1.0, |bootstrap| {
                number(bootstrap.entries) / number(bootstrap.entries_expected.max(1))
            }));
        self.clock
            .set(replica.clock.ahead_millis.unwrap_or(0) as f64 / 1000.0);
        self.refused_stamps
            .set(number(replica.clock.refused_stamps));
        for gauge in [
            &self.lag_entries,
            &self.lag_seconds,
            &self.in_sync,
            &self.rounds,
            &self.bytes,
            &self.reconciliations,
            &self.members,
        ] {
            gauge.reset();
        }
        for member in &status.members {
            let node = &member.node;
            self.members
                .with_label_values(&[node.role.as_str(), member.state.as_str()])
                .inc();
            let Some(peer) = replica.peers.get(&NodeId(node.number)) else {
                continue;
            };
            let name = node.name.as_str();
            let seconds = |time: Option<std::time::Duration>| time.map_or(0.0, |t| t.as_secs_f64());
            for (gauge, direction, value) in [
                (&self.lag_entries, "behind", number(peer.behind)),
                (&self.lag_entries, "ahead", number(peer.ahead)),
                (&self.lag_seconds, "behind", seconds(peer.behind_for)),
                (&self.lag_seconds, "ahead", seconds(peer.ahead_for)),
                (&self.bytes, "in", number(peer.bytes_in)),
                (&self.bytes, "out", number(peer.bytes_out)),
            ] {
                gauge.with_label_values(&[name, direction]).set(value);
            }
            for (gauge, value) in [
                (&self.in_sync, f64::from(u8::from(peer.in_sync))),
                (&self.rounds, number(peer.rounds)),
                (&self.reconciliations, number(peer.repairs)),
            ] {
                gauge.with_label_values(&[name]).set(value);
            }
        }
        let traffic = &replica.traffic;
        for (what, value) in [
            ("published_batches", traffic.published),
            ("published_bytes", traffic.published_bytes),
            ("received_batches", traffic.pushes),
            ("dropped_batches", traffic.dropped),
            ("strangers", traffic.strangers),
            ("pulled_pages", traffic.pages),
            ("pulled_entries", traffic.pulled_entries),
            ("failures", traffic.failures),
            ("reconciliation_bytes", traffic.repair_bytes),
        ] {
            self.traffic.with_label_values(&[what]).set(number(value));
        }
        if let Some(counters) = counters {
            for (reason, count) in &counters.refused {
                self.connections_refused
                    .with_label_values(&[reason.label()])
                    .set(number(*count));
            }
        }
        let quorum = &status.quorum;
        self.leader
            .set(f64::from(u8::from(quorum.leader.is_some())));
        let frozen = status.recovering.unwrap_or_default();
        self.frozen.set(frozen.as_secs_f64());
        for (state, index) in [
            ("written", quorum.last_index),
            ("committed", quorum.committed),
            ("applied", quorum.applied),
        ] {
            self.log
                .with_label_values(&[state])
                .set(number(index.unwrap_or(0)));
        }
    }
}
