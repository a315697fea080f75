//! The field: real nexus-servers, real sidecars with real XDP maps, real RADIUS and DHCP. What never must be is looked
//! for in the kernels' maps themselves (`nexus_testkit::field`).
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

#[cfg(test)]
#[path = "field/random.rs"]
mod random;
#[cfg(test)]
#[path = "field/returned.rs"]
mod returned;
#[cfg(test)]
#[path = "field/sabotage.rs"]
mod sabotage;
#[cfg(test)]
#[path = "field/stage.rs"]
mod stage;
#[cfg(test)]
#[path = "field/stores.rs"]
mod stores;
