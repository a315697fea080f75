//! The centre: pools, shard leases, the OLT registry and the record of all allocations.

mod actor;
mod allocation;
mod centre;
mod clock;
pub mod config;
mod grantor;
mod grpc;
mod http;
mod listen;
mod metrics;
mod olt_config;
mod record;
mod refused;
mod replica;
pub mod run;
mod service;
mod watch;
