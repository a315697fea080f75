//! The JSON that OLT hosts enrol and report with, in the customer's names.

use std::collections::BTreeMap;

use nexus_core::duration::HumanDuration;
use nexus_core::pool::PoolSpec;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::centre::{HeartbeatAnswer, Registered};
use crate::http::nodes::NodeView;
use crate::http::pools::PoolDocument;
use crate::olt_config::OltConfig;

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
