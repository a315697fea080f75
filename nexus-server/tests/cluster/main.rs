//! Real servers in network namespaces: links that are cut, processes that are killed and stopped, disks that fill up,
//! clocks that are stepped, all under load. Afterwards every replica holds the same, everything acknowledged is there,
//! nothing released came back, and no resource was ever two subscribers' at once.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

/// One room, so that the pass that runs one test at a time can leave it to the other one by its name.
#[path = "."]
mod clusters {
    mod alone;
    mod clock;
    mod disk;
    mod formation;
    mod formed;
    mod partition;
    #[path = "../shared/planted.rs"]
    mod planted;
    mod processes;
    mod racing;
    mod reading;
    mod recovery;
    mod stage;
    mod versions;
    mod watching;
}
