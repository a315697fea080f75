//! The centre: pools, shard leases, the OLT registry and the record of all allocations.

mod actor;
mod allocation;
mod centre;
mod clock;
mod cluster;
pub mod config;
mod confirm;
mod grants;
mod grpc;
mod http;
mod identity;
mod listen;
mod metrics;
mod olt_config;
mod record;
pub mod recover;
mod refused;
mod replica;
pub mod run;
mod seed;
mod service;
mod standing;
mod state;
mod watch;
