//! What hosts and servers tell each other, as the sidecar reads it.

use nexus_core::edge::{EdgeConfig, PoolGrant, Record, RecordKind, ShardGrant};
use nexus_core::shard::ShardState;

use super::mail::Reply;
use crate::allocation::AllocationState;
use crate::centre::effects::{Change, ChangeKind};
use crate::olt_config::OltConfig;

pub fn edge_config(config: &OltConfig) -> EdgeConfig {
    let pools = config.pools.iter().map(|part| PoolGrant {
        spec: part.spec.clone(),
        shards: part
            .shards
            .iter()
            .map(|owned| ShardGrant {
                shard: owned.shard,
                epoch: owned.epoch,
                draining: owned.state != ShardState::Owned,
            })
            .collect(),
    });
    EdgeConfig {
        revision: config.revision,
        pools: pools.collect(),
    }
}

pub fn replies(change: &Change) -> Vec<Reply> {
    let Some(allocation) = &change.allocation else {
        return vec![Reply::SnapshotEnd];
    };
    let kind = match change.kind {
        ChangeKind::Put if allocation.state == AllocationState::Released => RecordKind::Released,
        ChangeKind::Put => RecordKind::Put,
        ChangeKind::ReleaseRequested => RecordKind::ReleaseRequested,
        ChangeKind::Deleted => RecordKind::Deleted,
        ChangeKind::SnapshotEnd => return vec![Reply::SnapshotEnd],
    };
    let record = Record {
        pool: allocation.pool.clone(),
        resource: allocation.place.resource,
        shard: allocation.shard,
        subscriber: allocation.subscriber.clone(),
        olt: allocation.olt.clone(),
        session: allocation.session.clone(),
        epoch: allocation.epoch,
        seq: allocation.seq,
    };
    vec![Reply::Record(kind, record)]
}
