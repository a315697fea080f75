//! The centre: pools, shard leases, the OLT registry and the record of all allocations.

pub mod config;
pub mod metrics;
