//! The gate to openraft and redb: a replicated log of commands with one cluster time.
//!
//! A [`Quorum`] is this node's place in a Raft group. What the group agrees on is a log of commands; every node feeds
//! the same commands, in the same order, to its own [`Machine`]. Commands are proposed on any node
//! ([`Quorum::propose`]), are applied at most once however often they had to be sent, and carry a [`ClusterTime`] that
//! never runs faster than a clock and never backwards.
//!
//! The crate owns one redb file (log, vote, snapshot). Bytes between nodes go through the [`Network`] that the caller
//! supplies; what a peer's call brings goes into [`Quorum::answer`].

mod campaign;
mod change;
mod codec;
mod config;
mod error;
mod log;
mod machine;
mod message;
mod office;
mod peers;
mod proposals;
mod quorum;
mod recover;
mod rows;
mod serve;
mod sessions;
mod shared;
mod stamp;
mod state;
mod store;
mod types;
mod watch;

pub use config::{Clock, Limits, Options, Timing};
pub use error::{CallError, ChangeError, MachineError, ProposeError, QuorumError};
pub use machine::{BoxFuture, ClusterTime, Entry, Machine, Network};
pub use quorum::{Applied, Quorum};
pub use recover::{Recovered, go_on_alone, last_entry};
pub use watch::Status;
