//! Messages of `nexus.proto` to and from the machine's own types.

use std::time::Duration;

use nexus_core::edge::{
    EdgeConfig, Heartbeat, Outgoing, PoolGrant, Record, RecordKind, ShardGrant, What,
};
use nexus_core::id::{Epoch, OltId, PoolId, Seq, SessionId, ShardId, SubscriberId};
use nexus_core::lease::{Keeping, Terms};
use nexus_core::pool::PoolSpec;
use nexus_core::resource::{Resource, ResourceType};
use nexus_core::shard::ShardRef;
use nexus_proto::v1;

use crate::config::OltSection;
use crate::edge_task::PinnedQuestion;

/// A configuration; a pool that this version does not understand is named and left out.
pub(super) fn config(config: v1::OltConfig) -> EdgeConfig {
    let mut pools = Vec::new();
    for pool in config.pools {
        let spec: PoolSpec = match serde_json::from_str(&pool.spec_json) {
            Ok(spec) => spec,
            Err(error) => {
                tracing::error!(
                    pool = %pool.id.escape_default(), %error,
                    "a pool of the configuration is not understood and not used"
                );
                continue;
            }
        };
        let shards = pool.shards.into_iter().map(|grant| ShardGrant {
            shard: ShardId(grant.shard),
            epoch: Epoch(grant.epoch),
            // Whatever is not plainly ours to allocate from is not allocated from.
            draining: grant.state != "owned",
        });
        pools.push(PoolGrant {
            spec,
            shards: shards.collect(),
        });
    }
    EdgeConfig {
        revision: config.revision,
        pools,
    }
}

pub(super) fn registration(
    olt: &OltSection,
    report: &Heartbeat,
    instance: &str,
) -> v1::RegisterRequest {
    v1::RegisterRequest {
        id: olt.id.to_string(),
        name: olt.name.clone(),
        region: olt.region.clone(),
        address: olt.address.clone(),
        capacity: olt.capacity,
        session: report.session.to_string(),
        last_seq: report.last_seq.0,
        instance: instance.to_owned(),
        config_revision: report.config_revision,
        lease_alive: report.lease_alive,
        keeping_rule: Some(report.keeping),
    }
}

pub(super) fn heartbeat(report: Heartbeat, instance: String) -> v1::HeartbeatRequest {
    v1::HeartbeatRequest {
        olt_id: report.olt.to_string(),
        session: report.session.to_string(),
        active_subscribers: report.active_subscribers,
        metrics: std::collections::HashMap::new(),
        config_revision: report.config_revision,
        shard_use: report
            .shard_use
            .iter()
            .map(|(shard, allocated, available)| v1::ShardUse {
                shard: Some(shard_ref(shard)),
                allocated: *allocated,
                available: *available,
            })
            .collect(),
        released_shards: report.released.iter().map(shard_ref).collect(),
        last_seq: report.last_seq.0,
        instance,
        clocks_apart: report
            .clocks_apart
            .map(|apart| apart.what)
            .unwrap_or_default(),
        keeping_rule: Some(report.keeping),
    }
}

/// What an answer grants. A server of an older version says nothing of what outlives the lease.
pub(super) fn terms(lease_ms: u64, keeping: Option<v1::Keeping>) -> Terms {
    let keeping = keeping.map(|keeping| Keeping {
        after: keeping.after_ms.map(Duration::from_millis),
        rule: keeping.rule,
    });
    Terms {
        lease: Duration::from_millis(lease_ms),
        keeping: keeping.unwrap_or_default(),
    }
}

fn shard_ref(shard: &ShardRef) -> v1::ShardRef {
    v1::ShardRef {
        pool_id: shard.pool.to_string(),
        shard: shard.shard.0,
        epoch: shard.epoch.0,
    }
}

/// A command as a request.
pub(super) enum Request {
    Allocate(v1::AllocateRequest),
    Deallocate(v1::DeallocateRequest),
}

pub(super) fn command(olt: &OltId, session: &str, outgoing: Outgoing) -> Request {
    let Outgoing {
        seq,
        acked_below,
        command,
    } = outgoing;
    match command.what {
        What::Allocate {
            metadata,
            timestamp,
        } => Request::Allocate(v1::AllocateRequest {
            pool_id: command.pool.to_string(),
            subscriber_id: command.subscriber.to_string(),
            olt_id: olt.to_string(),
            metadata: metadata.into_iter().collect(),
            resource: command.resource.to_string(),
            shard: command.shard.0,
            epoch: command.epoch.0,
            session: session.to_owned(),
            seq: seq.0,
            acked_below: acked_below.0,
            timestamp,
        }),
        What::Deallocate { reason } => Request::Deallocate(v1::DeallocateRequest {
            subscriber_id: command.subscriber.to_string(),
            pool_id: command.pool.to_string(),
            olt_id: olt.to_string(),
            resource: command.resource.to_string(),
            shard: command.shard.0,
            epoch: command.epoch.0,
            session: session.to_owned(),
            seq: seq.0,
            acked_below: acked_below.0,
            reason,
        }),
    }
}

/// A question: no resource is named, and `seq` is the last one that was used.
pub(super) fn question(report: &Heartbeat, question: &PinnedQuestion) -> v1::AllocateRequest {
    v1::AllocateRequest {
        pool_id: question.pool.to_string(),
        subscriber_id: question.subscriber.to_string(),
        olt_id: report.olt.to_string(),
        metadata: question.metadata.clone().into_iter().collect(),
        session: report.session.to_string(),
        seq: report.last_seq.0,
        ..v1::AllocateRequest::default()
    }
}

/// What an update says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Update {
    Record(RecordKind, Record),
    SnapshotEnd,
}

/// An update; what makes no sense is said and left out.
pub(super) fn update(update: v1::AllocationUpdate) -> Result<Update, String> {
    use v1::allocation_update::Kind;
    let kind = match update.kind() {
        Kind::SnapshotEnd => return Ok(Update::SnapshotEnd),
        Kind::Put => RecordKind::Put,
        Kind::ReleaseRequested => RecordKind::ReleaseRequested,
        Kind::Deleted => RecordKind::Deleted,
        Kind::Unspecified => return Err(format!("update of kind {}", update.kind)),
    };
    let allocation = update.allocation.ok_or("an update without allocation")?;
    // Kept at the centre for a while: nobody holds it, but it rests.
    let kind = if allocation.state == "released" && kind == RecordKind::Put {
        RecordKind::Released
    } else {
        kind
    };
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let resource_type: ResourceType = allocation.r#type.parse().map_err(|e| text(&e))?;
    let record = Record {
        pool: PoolId::new(allocation.pool_id).map_err(|e| text(&e))?,
        resource: Resource::parse(resource_type, &allocation.resource).map_err(|e| text(&e))?,
        shard: ShardId(allocation.shard),
        subscriber: SubscriberId::new(allocation.subscriber_id).map_err(|e| text(&e))?,
        olt: OltId::new(allocation.olt_id).map_err(|e| text(&e))?,
        session: (!allocation.session.is_empty())
            .then(|| SessionId::new(allocation.session))
            .transpose()
            .map_err(|e| text(&e))?,
        epoch: Epoch(allocation.epoch),
        seq: Seq(allocation.seq),
    };
    Ok(Update::Record(kind, record))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_record_says_that_its_resource_rests() {
        let allocation = v1::Allocation {
            pool_id: "p".to_owned(),
            subscriber_id: "s".to_owned(),
            resource: "10.0.0.2".to_owned(),
            olt_id: "olt-1".to_owned(),
            r#type: "ipv4".to_owned(),
            state: "released".to_owned(),
            epoch: 2,
            seq: 9,
            ..v1::Allocation::default()
        };
        let put = |allocation| v1::AllocationUpdate {
            revision: 1,
            kind: v1::allocation_update::Kind::Put.into(),
            allocation,
        };
        let Ok(Update::Record(kind, record)) = update(put(Some(allocation.clone()))) else {
            panic!("a record");
        };
        assert_eq!((kind, record.seq), (RecordKind::Released, Seq(9)));
        assert!(update(put(None)).is_err());
        let wrong = v1::Allocation {
            resource: "10.0.0".to_owned(),
            ..allocation
        };
        assert!(update(put(Some(wrong))).unwrap_err().contains("10.0.0"));
    }

    #[test]
    fn a_pool_that_is_not_understood_does_not_take_the_others_with_it() {
        let pool = |id: &str, spec: &str| v1::PoolConfig {
            id: id.to_owned(),
            r#type: "ipv4".to_owned(),
            spec_json: spec.to_owned(),
            shards: vec![v1::ShardGrant {
                shard: 3,
                range: String::new(),
                epoch: 7,
                state: "owned".to_owned(),
            }],
        };
        let config = config(v1::OltConfig {
            revision: 5,
            pools: vec![
                pool("a", "{\"id\": \"a\", \"colour\": 1}"),
                pool(
                    "b",
                    "{\"id\": \"b\", \"type\": \"ipv4\", \"cidr\": \"10.0.0.0/16\"}",
                ),
            ],
            ..v1::OltConfig::default()
        });
        assert_eq!(config.pools.len(), 1);
        assert_eq!(
            config.pools[0].shards,
            [ShardGrant {
                shard: ShardId(3),
                epoch: Epoch(7),
                draining: false
            }]
        );
    }
}
