//! What `status` and `bindings` say.

use std::collections::BTreeMap;

use nexus_abi::Outcome;
use nexus_core::edge::ShardView;
use nexus_core::id::{PoolId, SubscriberId};
use nexus_core::time::BootTime;

use super::EdgeTask;
use crate::binding_map::{BindingMap, Interface};
use crate::clock::wall_now;
use crate::routes::Feed;
use crate::status::{
    BindingReport, ClockReport, InterfaceReport, Mode, PoolReport, ShardReport, StatusReport,
};

impl<M: BindingMap> EdgeTask<M> {
    pub(super) fn status(&self, now: BootTime) -> StatusReport {
        let view = self.edge.view(now);
        let mode = match (view.lease_until, view.connected) {
            (None, _) => Mode::LeaseEnded,
            (Some(_), true) => Mode::Connected,
            (Some(_), false) => Mode::CutOff,
        };
        let unread = view.shards.iter().any(|shard| !shard.synced);
        let cannot_allocate = if view.refused.is_some() {
            Some("another host with this olt.id is alive, and this one is the second")
        } else if view.clocks_apart.as_ref().is_some_and(|apart| apart.stops) {
            Some("clocks run too far apart to count a lease on")
        } else if view.lease_until.is_none() {
            Some(
                "there is no lease: no nexus-server has been reached since it ended or since this host booted",
            )
        } else if view.shards.is_empty() {
            Some("this host owns no shards")
        } else if view.shards.iter().all(|shard| shard.draining) {
            Some("this host is being drained")
        } else if unread
            && !view
                .shards
                .iter()
                .any(|shard| shard.synced && !shard.draining)
        {
            Some("the centre's records of this host's shards are being read")
        } else {
            None
        };
        let shards = view.shards.iter().map(|shard| ShardReport {
            pool: shard.shard.pool.to_string(),
            shard: shard.shard.shard.0,
            range: shard.range.clone(),
            epoch: shard.shard.epoch.0,
            state: if shard.draining { "draining" } else { "owned" }.to_owned(),
            allocated: shard.held,
            available: shard.available,
        });
        StatusReport {
            olt: self.edge.olt().to_string(),
            session: view.session.to_string(),
            mode,
            cannot_allocate: cannot_allocate.map(str::to_owned),
            lease_left_secs: view.lease_until.map(|end| end.since(now).as_secs()),
            kept_left_secs: view.kept.until.map(|end| end.since(now).as_secs()),
            unread: view.unread,
            second_host: view.refused.clone(),
            other_host: self.other_host.clone(),
            clock: ClockReport {
                boot_secs: now.since(BootTime::ZERO).as_secs(),
                wall: wall_now(),
                apart: view.clocks_apart.clone().map(|apart| apart.what),
                stops: view.clocks_apart.is_some_and(|apart| apart.stops),
            },
            pools: self.pool_reports(&view.shards),
            endpoint: self.endpoint.clone(),
            config_revision: view.revision,
            shards: shards.collect(),
            acked: view.acked,
            unacked: view.unacked,
            suspended: view.suspended,
            pending_releases: view.pending_releases,
            interfaces: self.access.interfaces().map(interface_report).collect(),
            routes: self.routes.as_ref().map(Feed::report).unwrap_or_default(),
            kernel_outcomes: self.kernel_outcomes(),
            slow_outcomes: Outcome::ALL
                .iter()
                .map(|outcome| (outcome.label(), self.metrics.dhcp_slow_count(*outcome)))
                .filter(|(_, count)| *count > 0)
                .map(|(label, count)| (label.to_owned(), count))
                .collect(),
        }
    }

    fn pool_reports(&self, shards: &[ShardView]) -> Vec<PoolReport> {
        let mut pools: BTreeMap<&PoolId, PoolReport> = BTreeMap::new();
        for shard in shards {
            let id = &shard.shard.pool;
            let Some(pool) = self.edge.pool(id) else {
                continue;
            };
            let report = pools.entry(id).or_insert_with(|| PoolReport {
                pool: id.to_string(),
                kind: pool.kind().to_string(),
                allocated: 0,
                available: 0,
            });
            report.allocated = report.allocated.saturating_add(shard.held);
            report.available = report.available.saturating_add(shard.available);
        }
        pools.into_values().collect()
    }

    pub(super) fn binding_reports(
        &self,
        now: BootTime,
        subscriber: Option<&SubscriberId>,
    ) -> Vec<BindingReport> {
        self.edge
            .bindings(subscriber)
            .map(|binding| BindingReport {
                subscriber: binding.row.subscriber.to_string(),
                pool: binding.pool.to_string(),
                kind: binding.resource.kind().to_string(),
                address: binding.resource.to_string(),
                line: binding
                    .row
                    .key
                    .as_ref()
                    .map_or_else(|| "none".to_owned(), ToString::to_string),
                mac: binding.row.key.as_ref().map(|key| key.mac),
                shard: binding.row.shard.0,
                epoch: binding.row.epoch.0,
                seq: binding.row.seq.0,
                acked: binding.row.acked,
                valid_for_secs: binding.valid_until.map(|end| end.since(now).as_secs()),
                suspended: binding.suspended,
            })
            .collect()
    }

    fn kernel_outcomes(&self) -> BTreeMap<String, u64> {
        match self.map.counters() {
            Ok(counters) => counters
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .map(|(outcome, count)| (outcome.label().to_owned(), count))
                .collect(),
            Err(error) => {
                tracing::warn!(%error, "the kernel's counters cannot be read");
                BTreeMap::new()
            }
        }
    }
}

fn interface_report(interface: &Interface) -> InterfaceReport {
    let identity = interface.identity.iter().map(|identity| identity.as_str());
    InterfaceReport {
        name: interface.name.clone(),
        number: interface.number,
        xdp_mode: interface.mode.as_str().to_owned(),
        identity: identity.map(str::to_owned).collect(),
    }
}
