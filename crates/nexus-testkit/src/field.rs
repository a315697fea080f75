//! The field: three nexus-servers, four OLT hosts with real sidecars and real XDP maps, thousands of subscribers, and a
//! nemesis; and a checker that reads what all of them did and what the kernels' maps held meanwhile.
//!
//! ```text
//! servers n1 n2 n3 --- switch --- OLT hosts o1..o4 [sidecar, XDP on access0] --- line --- stations
//!        ^ cuts, kills, clocks, disks      ^ cuts, kills, SIGSTOP, disks, old copies      ^ RADIUS, DHCP
//!                                          | maps, read twice a second --> tracker --> checker <-- history
//! ```
//!
//! [`history`], [`tracker`] and [`checker`] are pure.

pub mod bench;
pub mod checker;
pub mod doors;
pub mod finals;
pub mod history;
pub mod host;
pub mod journal;
pub mod moment;
pub mod nemesis;
pub mod plan;
pub mod run;
pub mod servers;
pub mod station;
pub mod subscribers;
pub mod tracker;
pub mod workload;
