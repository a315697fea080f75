//! The edge: RADIUS, local allocation, the binding maps and the DHCP slow path on one OLT host.

pub mod binding_map;
pub mod centre;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod edge_handle;
pub mod edge_task;
pub mod fastpath;
pub mod host;
pub mod interfaces;
pub mod ipoe;
mod line;
pub mod metrics;
pub mod metrics_http;
pub mod origin;
pub mod packet_events;
pub mod profiles;
pub mod radius;
pub mod routes;
pub mod rows;
pub mod run;
pub mod served;
pub mod shutdown;
pub mod slowpath;
pub mod status;
mod yaml;
