//! The edge: RADIUS, local allocation, the binding maps and the DHCP slow path on one OLT host.

pub mod edge_handle;
pub mod fastpath;
pub mod metrics;
pub mod radius;
pub mod shutdown;
pub mod slowpath;
pub mod status;
