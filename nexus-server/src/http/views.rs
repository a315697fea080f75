//! The JSON of the REST interface, in the customer's names.

use std::collections::BTreeMap;
use std::sync::Arc;

use nexus_core::duration::HumanDuration;
use nexus_core::pool::PoolSpec;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::allocation::Allocation;
use crate::centre::{Audit, HeartbeatAnswer, NodeInfo, Registered};
use crate::olt_config::OltConfig;

/// One resource bound to one subscriber.
#[derive(Debug, Serialize, ToSchema)]
pub struct AllocationView {
    pool_id: String,
    subscriber_id: String,
    /// An address, a prefix or a number.
    #[schema(example = "100.64.1.50")]
    resource: String,
    /// OLT that the subscriber is on; `nexus` if none was named.
    olt_id: String,
    /// When the allocation was made, RFC 3339, UTC.
    timestamp: String,
    metadata: BTreeMap<String, String>,
    /// ipv4, ipv6, vlan, svlan or port.
    #[serde(rename = "type")]
    kind: String,
    /// Shard of the pool that the resource lies in.
    shard: u32,
    /// Epoch of the shard under which it was allocated.
    epoch: u64,
    /// Number of the OLT's command; 0 if the centre chose the resource.
    seq: u64,
    /// active, releasing (the OLT was asked to release it) or released (it cools down).
    state: String,
    vrf: String,
}

impl From<&Allocation> for AllocationView {
    fn from(allocation: &Allocation) -> Self {
        Self {
            pool_id: allocation.pool.to_string(),
            subscriber_id: allocation.subscriber.to_string(),
            resource: allocation.place.resource.to_string(),
            olt_id: allocation.olt.to_string(),
            timestamp: allocation.made_at.to_string(),
            metadata: allocation.metadata.clone(),
            kind: allocation.place.resource.kind().to_string(),
            shard: allocation.shard.0,
            epoch: allocation.epoch.0,
            seq: allocation.command().0,
            state: allocation.state.as_str().to_owned(),
            vrf: allocation.place.vrf.clone(),
        }
    }
}

/// The JSON of several allocations.
#[must_use]
pub fn allocations(all: &[Arc<Allocation>]) -> Vec<AllocationView> {
    all.iter()
        .map(|allocation| AllocationView::from(allocation.as_ref()))
        .collect()
}

/// A pool as an operator writes it. Read and checked by the core; this is its description.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Pool)]
pub struct PoolDocument {
    /// 1 to 128 visible ASCII characters without / ? # % " \ and space.
    #[schema(example = "residential-ipv4")]
    id: String,
    /// ipv4, ipv6, vlan, svlan or port.
    #[serde(rename = "type")]
    #[schema(example = "ipv4")]
    kind: String,
    /// Address space (ipv4, ipv6).
    #[schema(example = "100.64.0.0/10")]
    cidr: Option<String>,
    /// Number space (vlan, svlan, port), both ends included.
    #[schema(example = "1000-2000")]
    range: Option<String>,
    /// Virtual nodes of an OLT on the ring; 100 if not given.
    #[schema(required = false)]
    sharding_factor: u32,
    /// Public addresses whose ports are handed out (port).
    #[schema(example = "203.0.113.0/24")]
    addresses: Option<String>,
    /// Ports of one subscriber, in a row (port); 1 if not given.
    block_size: Option<u16>,
    /// Parts that are never handed out.
    #[schema(required = false, example = json!(["100.64.0.0/24"]))]
    exclusions: Vec<String>,
    /// Parts that are never handed out because they serve something else.
    #[schema(required = false)]
    reserved: Vec<ReservedDocument>,
    /// When a subscriber gets something of the pool: session (with each session) or on-request (if the pool is
    /// named). If not given: session for ipv4 and ipv6, on-request for all others.
    #[schema(example = "session")]
    assign: Option<String>,
    /// Whether each unit is given out by the centre, so that a subscriber keeps it on whatever OLT it is; false if
    /// not given. Cannot change.
    #[schema(required = false)]
    pinned: bool,
    /// Who always gets which unit, in a pinned pool.
    #[serde(rename = "static")]
    #[schema(required = false)]
    fixed: Vec<StaticDocument>,
    /// Labels; `region` restricts the pool to the OLTs of that region.
    #[schema(required = false)]
    metadata: BTreeMap<String, String>,
    /// Routing context; `default` if not given.
    #[schema(required = false)]
    vrf: String,
    /// Size of a shard: prefix length (ipv4, ipv6) or how many numbers (vlan, svlan) or blocks (port).
    shard_size: Option<u32>,
    /// An OLT of whose units a smaller part (0 to 0.5) is free gets more; 0.1 if not given.
    #[schema(example = 0.1)]
    low_water: Option<f64>,
    /// OLTs get shards by use, and one of whose units a greater part (0.2 above low_water, to 1) is free gives
    /// shards back; never if not given.
    #[schema(example = 0.6)]
    high_water: Option<f64>,
    /// Length of the prefix of one subscriber (ipv6): 48 to 64, or 128 for single addresses; 56 if not given.
    delegated_length: Option<u8>,
    /// How long a released resource rests; 10m if not given.
    #[schema(required = false, example = "10m")]
    cool_down: String,
    /// What DHCP tells the subscribers (ipv4).
    #[schema(required = false)]
    dhcp: DhcpDocument,
}

/// A part of a pool that is kept for something else.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Reserved)]
pub struct ReservedDocument {
    /// An address, prefix, number or range, as in `exclusions`.
    #[schema(example = "100.64.7.10")]
    resource: String,
    /// What for.
    #[schema(example = "monitoring probe")]
    reason: String,
}

/// A unit that is kept for one subscriber.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Static)]
pub struct StaticDocument {
    /// Who.
    #[schema(example = "sub-12345")]
    subscriber: String,
    /// One address, prefix, number or block of ports of the pool.
    #[schema(example = "203.0.113.7")]
    resource: String,
}

/// What DHCP tells the subscribers of a pool.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Dhcp)]
pub struct DhcpDocument {
    /// Default gateway; the first address of the pool if not given.
    router: Option<String>,
    /// Name servers.
    #[schema(required = false)]
    dns: Vec<String>,
    /// Lease time; 1h if not given.
    #[schema(required = false)]
    lease_time: String,
    /// Domain name.
    domain_name: Option<String>,
    /// Time servers.
    #[schema(required = false)]
    ntp: Vec<String>,
    /// Interface MTU.
    mtu: Option<u16>,
    /// Where clients that boot over the network go next (`siaddr`).
    next_server: Option<String>,
    /// A client that asks for it gets its lease in one exchange (option 80); false if not given.
    #[schema(required = false)]
    rapid_commit: bool,
    /// What a DHCPRELEASE does: cool-down (the binding ends and its address cools down) or keep (it stays);
    /// cool-down if not given.
    #[schema(required = false, example = "cool-down")]
    release: String,
    /// How long a client may be silent before its binding ends, at least the lease time; never if not given.
    #[schema(example = "24h")]
    idle_release: Option<String>,
    /// Further options: code to value in hexadecimal digits.
    #[schema(required = false)]
    options: BTreeMap<String, String>,
}

/// One OLT host.
#[derive(Debug, Serialize, ToSchema)]
pub struct NodeView {
    id: String,
    name: String,
    region: String,
    address: String,
    /// Most subscribers that it serves.
    capacity: u32,
    assigned_shards: Vec<AssignedShards>,
    /// bootstrapping, active, draining or offline.
    state: String,
    /// RFC 3339, UTC; absent before the first heartbeat since the server started.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_heartbeat: Option<String>,
    /// Subscribers with a session, from the last heartbeat.
    active_subscribers: u32,
    /// Allocations that are held on it.
    allocations: u64,
    /// Newest revision of its configuration.
    config_revision: u64,
    /// Revision that it works with, from the last heartbeat.
    running_revision: u64,
    /// Values of its own, from the last heartbeat.
    metrics: BTreeMap<String, f64>,
    /// Whether an operator has stated that its host hands out nothing any more (POST /api/v1/nodes/{id}/fence).
    fenced: bool,
    /// What is left until it is empty, while it is drained.
    #[serde(skip_serializing_if = "Option::is_none")]
    drain: Option<DrainView>,
    /// Another host has tried to be this OLT lately, and was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    other_host: Option<String>,
    /// Which clocks run further apart than leases allow for, as it said with its last heartbeat.
    #[serde(skip_serializing_if = "Option::is_none")]
    clocks_apart: Option<String>,
}

/// How far an OLT host is drained.
#[derive(Debug, Serialize, ToSchema)]
pub struct DrainView {
    /// Shards that it has yet to give back.
    shards: u64,
    /// Allocations that are held on it.
    allocations: u64,
    /// Whether it can be taken away, and deregistered.
    done: bool,
}

/// Shards of one pool that an OLT owns.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssignedShards {
    pool: String,
    shards: Vec<u32>,
}

impl From<NodeInfo> for NodeView {
    fn from(node: NodeInfo) -> Self {
        let shards = node
            .shards
            .into_iter()
            .map(|(pool, shards)| AssignedShards {
                pool: pool.to_string(),
                shards: shards.into_iter().map(|shard| shard.0).collect(),
            });
        Self {
            id: node.id.to_string(),
            name: node.name,
            region: node.region,
            address: node.address,
            capacity: node.capacity,
            assigned_shards: shards.collect(),
            state: node.state.as_str().to_owned(),
            last_heartbeat: node.last_heartbeat.map(|at| at.to_string()),
            active_subscribers: node.active_subscribers,
            allocations: node.allocations,
            config_revision: node.config_revision,
            running_revision: node.running_revision,
            metrics: node.metrics,
            fenced: node.fenced,
            drain: node.drain.map(|left| DrainView {
                shards: left.shards,
                allocations: left.allocations,
                done: left.is_done(),
            }),
            other_host: node.other_host,
            clocks_apart: node.clocks_apart,
        }
    }
}

/// What an OLT works with.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConfigView {
    olt_id: String,
    /// Grows with each change.
    revision: u64,
    /// gRPC endpoints, host:port.
    nexus_endpoints: Vec<String>,
    pools: Vec<ConfigPool>,
    /// Aggregate routes of what the OLT owns.
    routes: Vec<String>,
    policies: BTreeMap<String, String>,
    #[schema(example = "30s")]
    heartbeat_interval: String,
    /// Whether the OLT shall watch for changes.
    config_watch: bool,
}

/// An OLT's part of one pool.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConfigPool {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    local_shards: Vec<u32>,
    /// Shard to what it covers.
    #[schema(example = json!({"0": "100.64.0.0/18"}))]
    shard_ranges: BTreeMap<u32, String>,
    /// Shard to its epoch.
    shard_epochs: BTreeMap<u32, u64>,
    /// Shards from which nothing new may be allocated.
    draining_shards: Vec<u32>,
    /// The pool itself.
    #[schema(value_type = PoolDocument)]
    spec: PoolSpec,
}

impl From<&OltConfig> for ConfigView {
    fn from(config: &OltConfig) -> Self {
        use nexus_core::shard::ShardState;
        let pools = config.pools.iter().map(|part| {
            let shards = &part.shards;
            ConfigPool {
                id: part.spec.id.to_string(),
                kind: part.spec.kind.to_string(),
                local_shards: shards.iter().map(|owned| owned.shard.0).collect(),
                shard_ranges: shards
                    .iter()
                    .map(|owned| (owned.shard.0, owned.range.to_string()))
                    .collect(),
                shard_epochs: shards
                    .iter()
                    .map(|owned| (owned.shard.0, owned.epoch.0))
                    .collect(),
                draining_shards: shards
                    .iter()
                    .filter(|owned| owned.state == ShardState::Draining)
                    .map(|owned| owned.shard.0)
                    .collect(),
                spec: part.spec.clone(),
            }
        });
        Self {
            olt_id: config.olt.to_string(),
            revision: config.revision,
            nexus_endpoints: config.endpoints.clone(),
            pools: pools.collect(),
            routes: config.routes.clone(),
            policies: config.policies.clone(),
            heartbeat_interval: HumanDuration::new(config.heartbeat_interval).to_string(),
            config_watch: true,
        }
    }
}

/// Enrols an OLT.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BootstrapRequest {
    /// Name of the OLT.
    #[schema(example = "olt-east-01")]
    pub id: String,
    /// A name for people.
    #[serde(default)]
    pub name: String,
    /// Region label.
    #[serde(default)]
    pub region: String,
    /// Where it can be reached.
    #[serde(default)]
    #[schema(example = "10.1.1.10:9000")]
    pub address: String,
    /// Most subscribers that it serves.
    #[schema(example = 2000)]
    pub capacity: u32,
    /// Session of the host's store. Without it the server makes one and answers with it; to enrol again
    /// after a restart, send it.
    #[serde(default)]
    pub session: Option<String>,
    /// Highest number of a command that was used in this session.
    #[serde(default)]
    pub last_seq: u64,
    /// Revision of the newest configuration that the host has. Higher than what it was given here means that the
    /// centre was restored from an older copy.
    #[serde(default)]
    pub config_revision: u64,
    /// Its lease had not ended, as the host counts it, when it sent this.
    #[serde(default)]
    pub lease_alive: bool,
}

/// An OLT is enrolled.
#[derive(Debug, Serialize, ToSchema)]
pub struct BootstrapResponse {
    olt: NodeView,
    /// Pools in which the OLT owns shards.
    assigned_pools: Vec<String>,
    config: ConfigView,
    /// Session to send with every heartbeat.
    session: String,
    /// Length of the lease in milliseconds, counted from the moment the request was sent.
    lease_ms: u64,
}

impl From<Registered> for BootstrapResponse {
    fn from(registered: Registered) -> Self {
        let pools = registered.config.pool_ids();
        Self {
            session: registered.node.session.to_string(),
            olt: registered.node.into(),
            assigned_pools: pools.iter().map(ToString::to_string).collect(),
            config: ConfigView::from(registered.config.as_ref()),
            lease_ms: u64::try_from(registered.lease.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// A sign of life.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatRequest {
    /// Subscribers with a session now.
    #[serde(default)]
    pub active_subscribers: u32,
    /// Values of its own.
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
    /// Session from the bootstrap. Without it the report is taken, but no lease is renewed.
    #[serde(default)]
    pub session: Option<String>,
    /// Revision of the configuration that the OLT works with.
    #[serde(default)]
    pub config_revision: u64,
    /// Highest number of a command that was used in this session.
    #[serde(default)]
    pub last_seq: u64,
}

/// The answer to a sign of life.
#[derive(Debug, Serialize, ToSchema)]
pub struct HeartbeatResponse {
    /// Length of the renewed lease in milliseconds, counted from the moment the heartbeat was sent; 0 if no
    /// session was given.
    lease_ms: u64,
    /// Newest revision of the OLT's configuration.
    config_revision: u64,
    /// State of the OLT.
    state: String,
    /// Another host has tried to be this OLT lately, and was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    other_host: Option<String>,
}

impl From<HeartbeatAnswer> for HeartbeatResponse {
    fn from(answer: HeartbeatAnswer) -> Self {
        Self {
            lease_ms: answer.lease.map_or(0, |lease| {
                u64::try_from(lease.as_millis()).unwrap_or(u64::MAX)
            }),
            config_revision: answer.config_revision,
            state: answer.state.as_str().to_owned(),
            other_host: answer.other_host,
        }
    }
}

/// Asks the centre for a resource.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AllocateRequest {
    /// Pool to take it from.
    pub pool_id: String,
    /// Who gets it.
    pub subscriber_id: String,
    /// OLT that the subscriber is on.
    #[serde(default)]
    pub olt_id: Option<String>,
    /// Labels.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// What the subscriber has.
#[derive(Debug, Serialize, ToSchema)]
pub struct AllocateResponse {
    /// The allocation.
    pub allocation: AllocationView,
}

/// What has been or will be released.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeallocateResponse {
    /// The first of them.
    pub allocation: Option<AllocationView>,
    /// All of them, in the order of their pools.
    pub allocations: Vec<AllocationView>,
}

/// All that a subscriber holds.
#[derive(Debug, Serialize, ToSchema)]
pub struct SubscriberView {
    /// Who.
    pub subscriber_id: String,
    /// What, in the order of the pools.
    pub allocations: Vec<AllocationView>,
}

/// A page of allocations.
#[derive(Debug, Serialize, ToSchema)]
pub struct AllocationPage {
    /// In the order of vrf, type and resource.
    pub allocations: Vec<AllocationView>,
    /// `cursor` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// All pools.
#[derive(Debug, Serialize, ToSchema)]
pub struct PoolList {
    /// In the order of their ids.
    #[schema(value_type = Vec<PoolDocument>)]
    pub pools: Vec<PoolSpec>,
}

/// All OLTs.
#[derive(Debug, Serialize, ToSchema)]
pub struct NodeList {
    /// In the order of their ids.
    pub nodes: Vec<NodeView>,
}

/// What the audit has found.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditView {
    /// Allocations that were looked at.
    checked: u64,
    /// Must be empty.
    duplicates: Vec<DuplicateView>,
}

/// A resource that more than one subscriber holds.
#[derive(Debug, Serialize, ToSchema)]
pub struct DuplicateView {
    vrf: String,
    resource: String,
    holders: Vec<HolderView>,
}

/// One of the holders.
#[derive(Debug, Serialize, ToSchema)]
pub struct HolderView {
    subscriber_id: String,
    olt_id: String,
}

impl From<Audit> for AuditView {
    fn from(audit: Audit) -> Self {
        let duplicates = audit.duplicates.into_iter().map(|duplicate| DuplicateView {
            vrf: duplicate.place.vrf,
            resource: duplicate.place.resource.to_string(),
            holders: duplicate
                .holders
                .into_iter()
                .map(|(subscriber_id, olt_id)| HolderView {
                    subscriber_id,
                    olt_id,
                })
                .collect(),
        });
        Self {
            checked: audit.checked,
            duplicates: duplicates.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use nexus_core::id::PoolId;
    use nexus_core::resource::ResourceType;
    use utoipa::PartialSchema;

    use super::*;

    fn properties<T: PartialSchema>() -> BTreeSet<String> {
        let schema = serde_json::to_value(T::schema()).unwrap();
        schema["properties"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect()
    }

    #[test]
    fn the_description_of_a_pool_has_exactly_the_fields_that_are_read() {
        let mut spec =
            PoolSpec::minimal(PoolId::new("p").unwrap(), ResourceType::Ipv4, "10.0.0.0/8");
        spec.range = Some(String::new());
        spec.addresses = Some(String::new());
        spec.block_size = Some(1);
        spec.exclusions = vec![String::new()];
        spec.reserved = vec![nexus_core::pool::Reserved {
            resource: String::new(),
            reason: String::new(),
        }];
        spec.assign = Some(nexus_core::pool::Assign::Session);
        spec.pinned = true;
        spec.fixed = vec![nexus_core::pool::StaticEntry {
            subscriber: "s".parse().unwrap(),
            resource: String::new(),
        }];
        spec.metadata.insert(String::new(), String::new());
        spec.shard_size = Some(1);
        spec.delegated_length = Some(1);
        spec.low_water = nexus_core::pool::Share::from_per_mille(100);
        spec.high_water = nexus_core::pool::Share::from_per_mille(600);
        spec.dhcp.router = Some(String::new());
        spec.dhcp.dns = vec![String::new()];
        spec.dhcp.domain_name = Some(String::new());
        spec.dhcp.ntp = vec![String::new()];
        spec.dhcp.mtu = Some(1);
        spec.dhcp.next_server = Some(String::new());
        spec.dhcp.rapid_commit = true;
        spec.dhcp.release = nexus_core::pool::Release::Keep;
        spec.dhcp.idle_release = Some(spec.dhcp.lease_time);
        spec.dhcp.options.insert(1, String::new());
        let json = serde_json::to_value(&spec).unwrap();
        let keys = |value: &serde_json::Value| -> BTreeSet<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(properties::<PoolDocument>(), keys(&json));
        assert_eq!(properties::<DhcpDocument>(), keys(&json["dhcp"]));
        assert_eq!(properties::<ReservedDocument>(), keys(&json["reserved"][0]));
        assert_eq!(properties::<StaticDocument>(), keys(&json["static"][0]));
    }
}
