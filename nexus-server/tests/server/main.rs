//! The real server program over real HTTP and gRPC on loopback ports.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

mod api;
mod concurrency;
mod durability;
mod harness;
mod lifecycle;
mod metrics;
mod ownership;
#[path = "../shared/planted.rs"]
mod planted;
mod shards;
mod startup;
mod watching;
