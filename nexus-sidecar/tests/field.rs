//! The field: real nexus-servers, real sidecars with real XDP maps, real RADIUS and DHCP. What never must be is looked
//! for in the kernels' maps themselves (`nexus_testkit::field`).
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

/// One room, so that the pass that runs one test at a time can leave it to the other one by its name: each test has a
/// network of its own and mostly waits, so several run at once.
#[path = "field"]
mod field {
    mod ownership;
    mod random;
    mod returned;
    mod sabotage;
    mod stage;
    mod stores;
}
