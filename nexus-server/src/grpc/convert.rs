//! Messages of `nexus.proto` to and from the centre's own types; what makes no sense is refused by field.

use std::collections::BTreeMap;

use jiff::Timestamp;
use nexus_core::id::{Epoch, OltId, PoolId, Seq, SessionId, ShardId, SubscriberId};
use nexus_core::lease::Keeping;
use nexus_core::shard::ShardRef;
use nexus_core::shard_table::OltState;
use nexus_proto::v1;

use crate::allocation::Allocation;
use crate::centre::effects::{Change, ChangeKind};
use crate::centre::{
    Asker, CentralRequest, Claim, Clocks, Heartbeat, HeartbeatAnswer, NodeInfo, Registered,
    Registration, Release, ShardUse,
};
use crate::olt_config::OltConfig;
use crate::refused::Refused;

type Converted<T> = Result<T, Refused>;

pub fn olt(field: &str, id: String) -> Converted<OltId> {
    OltId::new(id).map_err(|error| Refused::invalid(field, error))
}

fn pool(id: String) -> Converted<PoolId> {
    PoolId::new(id).map_err(|error| Refused::invalid("pool_id", error))
}

fn subscriber(id: String) -> Converted<SubscriberId> {
    SubscriberId::new(id).map_err(|error| Refused::invalid("subscriber_id", error))
}

fn session(id: String) -> Converted<SessionId> {
    SessionId::new(id).map_err(|error| Refused::invalid("session", error))
}

pub fn optional_session(id: String) -> Converted<Option<SessionId>> {
    (!id.is_empty()).then(|| session(id)).transpose()
}

pub fn registration(request: v1::RegisterRequest) -> Converted<Registration> {
    Ok(Registration {
        olt: olt("id", request.id)?,
        name: request.name,
        region: request.region,
        address: request.address,
        capacity: request.capacity,
        session: session(request.session)?,
        last_seq: Seq(request.last_seq),
        config_revision: request.config_revision,
        lease_alive: request.lease_alive,
        keeping: request.keeping_rule,
        instance: request.instance,
    })
}

pub fn registered(registered: Registered) -> Converted<v1::RegisterResponse> {
    let pools = registered.config.pool_ids();
    Ok(v1::RegisterResponse {
        olt: Some(node(registered.node)),
        assigned_pools: pools.iter().map(ToString::to_string).collect(),
        config: Some(config(&registered.config)?),
        lease_ms: millis(registered.lease),
        keeping: Some(keeping(registered.keeping)),
        clock: Some(clocks(registered.clocks)),
    })
}

fn keeping(keeping: Keeping) -> v1::Keeping {
    v1::Keeping {
        after_ms: keeping.after.map(millis),
        rule: keeping.rule,
    }
}

fn clocks(clocks: Clocks) -> v1::ServerClock {
    v1::ServerClock {
        server: clocks.server,
        mark: clocks.mark,
        boot_ns: clocks.boot.as_nanos(),
        cluster_ns: clocks.cluster.as_nanos(),
    }
}

fn node(node: NodeInfo) -> v1::Olt {
    let shards = node
        .shards
        .into_iter()
        .map(|(pool, shards)| v1::AssignedShards {
            pool: pool.to_string(),
            shards: shards.into_iter().map(|shard| shard.0).collect(),
        });
    v1::Olt {
        id: node.id.to_string(),
        name: node.name,
        region: node.region,
        address: node.address,
        capacity: node.capacity,
        assigned_shards: shards.collect(),
        state: node.state.as_str().to_owned(),
        last_heartbeat: node
            .last_heartbeat
            .map(|at| at.to_string())
            .unwrap_or_default(),
    }
}

pub fn heartbeat(request: v1::HeartbeatRequest) -> Converted<Heartbeat> {
    let shard_use = request
        .shard_use
        .into_iter()
        .filter_map(|part| Some((part.shard?, part.allocated)))
        .map(|(shard, allocated)| {
            Ok(ShardUse {
                shard: shard_ref(shard)?,
                allocated,
            })
        });
    Ok(Heartbeat {
        olt: olt("olt_id", request.olt_id)?,
        session: Some(session(request.session)?),
        active_subscribers: request.active_subscribers,
        metrics: request.metrics.into_iter().collect(),
        config_revision: request.config_revision,
        shard_use: shard_use.collect::<Converted<_>>()?,
        instance: request.instance,
        released: request
            .released_shards
            .into_iter()
            .map(shard_ref)
            .collect::<Converted<_>>()?,
        last_seq: Seq(request.last_seq),
        keeping: request.keeping_rule,
        clocks_apart: request.clocks_apart,
    })
}

fn shard_ref(shard: v1::ShardRef) -> Converted<ShardRef> {
    Ok(ShardRef {
        pool: pool(shard.pool_id)?,
        shard: ShardId(shard.shard),
        epoch: Epoch(shard.epoch),
    })
}

pub fn heartbeat_answer(answer: HeartbeatAnswer) -> v1::HeartbeatResponse {
    // An OLT that has just been heard of is active or draining, nothing else.
    let state = match answer.state {
        OltState::Draining => OltState::Draining,
        OltState::Bootstrapping | OltState::Active | OltState::Offline => OltState::Active,
    };
    v1::HeartbeatResponse {
        other_host: answer.other_host.unwrap_or_default(),
        clock: Some(clocks(answer.clocks)),
        lease_ms: answer.lease.map_or(0, millis),
        keeping: answer.keeping.map(keeping),
        config_revision: answer.config_revision,
        state: state.as_str().to_owned(),
    }
}

pub fn config(config: &OltConfig) -> Converted<v1::OltConfig> {
    let pools = config
        .pools
        .iter()
        .map(|part| {
            let spec_json = serde_json::to_string(&part.spec)
                .map_err(|error| Refused::Store(format!("pool {}: {error}", part.spec.id)))?;
            Ok(v1::PoolConfig {
                id: part.spec.id.to_string(),
                r#type: part.spec.kind.to_string(),
                spec_json,
                shards: part
                    .shards
                    .iter()
                    .map(|owned| v1::ShardGrant {
                        shard: owned.shard.0,
                        range: owned.range.to_string(),
                        epoch: owned.epoch.0,
                        state: owned.state.to_string(),
                    })
                    .collect(),
            })
        })
        .collect::<Converted<Vec<_>>>()?;
    Ok(v1::OltConfig {
        olt_id: config.olt.to_string(),
        revision: config.revision,
        nexus_endpoints: config.endpoints.clone(),
        pools,
        heartbeat_interval_ms: millis(config.heartbeat_interval),
        config_watch: true,
        routes: config.routes.clone(),
        policies: config.policies.clone().into_iter().collect(),
    })
}

pub fn central(request: v1::AllocateRequest) -> Converted<CentralRequest> {
    let olt = (!request.olt_id.is_empty()).then(|| olt("olt_id", request.olt_id));
    let session = optional_session(request.session)?;
    Ok(CentralRequest {
        asker: session.map(|session| Asker {
            session,
            last_seq: Seq(request.seq),
        }),
        pool: pool(request.pool_id)?,
        subscriber: subscriber(request.subscriber_id)?,
        olt: olt.transpose()?,
        metadata: request.metadata.into_iter().collect(),
        key: None,
    })
}

pub fn claim(request: v1::AllocateRequest) -> Converted<Claim> {
    let made_at = (!request.timestamp.is_empty())
        .then(|| request.timestamp.parse::<Timestamp>())
        .transpose()
        .map_err(|error| Refused::invalid("timestamp", format!("must be RFC 3339: {error}")))?;
    let metadata: BTreeMap<String, String> = request.metadata.into_iter().collect();
    Ok(Claim {
        olt: olt("olt_id", request.olt_id)?,
        session: session(request.session)?,
        seq: Seq(request.seq),
        acked_below: Seq(request.acked_below),
        pool: pool(request.pool_id)?,
        subscriber: subscriber(request.subscriber_id)?,
        resource: request.resource,
        shard: ShardId(request.shard),
        epoch: Epoch(request.epoch),
        metadata,
        made_at,
    })
}

pub fn release(request: v1::DeallocateRequest) -> Converted<Release> {
    Ok(Release {
        olt: olt("olt_id", request.olt_id)?,
        session: session(request.session)?,
        seq: Seq(request.seq),
        acked_below: Seq(request.acked_below),
        pool: pool(request.pool_id)?,
        subscriber: subscriber(request.subscriber_id)?,
        resource: request.resource,
        shard: ShardId(request.shard),
        epoch: Epoch(request.epoch),
        reason: request.reason,
    })
}

pub fn get_allocation(
    request: v1::GetAllocationRequest,
) -> Converted<(SubscriberId, Option<PoolId>)> {
    let pool = (!request.pool_id.is_empty()).then(|| pool(request.pool_id));
    Ok((subscriber(request.subscriber_id)?, pool.transpose()?))
}

pub fn allocation(allocation: &Allocation) -> v1::Allocation {
    v1::Allocation {
        pool_id: allocation.pool.to_string(),
        subscriber_id: allocation.subscriber.to_string(),
        resource: allocation.place.resource.to_string(),
        olt_id: allocation.olt.to_string(),
        timestamp: allocation.made_at.to_string(),
        metadata: allocation.metadata.clone().into_iter().collect(),
        r#type: allocation.place.resource.kind().to_string(),
        shard: allocation.shard.0,
        epoch: allocation.epoch.0,
        seq: allocation.command().0,
        state: allocation.state.as_str().to_owned(),
        vrf: allocation.place.vrf.clone(),
        session: allocation
            .session
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
    }
}

pub fn change(change: &Change) -> v1::AllocationUpdate {
    use v1::allocation_update::Kind;
    let kind = match change.kind {
        ChangeKind::Put => Kind::Put,
        ChangeKind::ReleaseRequested => Kind::ReleaseRequested,
        ChangeKind::Deleted => Kind::Deleted,
        ChangeKind::SnapshotEnd => Kind::SnapshotEnd,
    };
    v1::AllocationUpdate {
        revision: change.revision,
        kind: kind.into(),
        allocation: change
            .allocation
            .as_ref()
            .map(|changed| allocation(changed)),
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
