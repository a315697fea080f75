//! The real server program over real HTTP and gRPC on loopback ports.

mod api;
mod concurrency;
mod durability;
mod harness;
mod ownership;
mod startup;
mod watching;
