//! Routes of what this host owns, in a kernel table of their own, for a routing daemon to announce.
//!
//! ```text
//! edge task --what is wanted (the newest only)--> routes task --netlink--> kernel
//! edge task <--how it stands (the newest only)--- routes task
//! ```
//! [`wanted`] says what is to be there, [`difference`] what has to change for that, [`kernel`] changes it, [`task`]
//! goes on until it is so. Routes stay when the sidecar ends, as the kernel's answers to subscribers do.

mod config;
mod difference;
mod feed;
mod kernel;
mod metrics;
mod task;
mod wanted;

pub use config::{AggregateKind, HostRoutes, RoutesSection};
pub use feed::{Feed, touches};
pub use kernel::RouteError;
pub use task::{RoutesTask, detach};
pub use wanted::{RouteKey, Target, Wanted};

use serde::{Deserialize, Serialize};

/// How the routes stand, for `nexus-sidecar status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutesReport {
    /// The kernel tables that they are in.
    pub tables: Vec<u32>,
    /// Aggregate routes that are there.
    pub aggregates: u64,
    /// Host routes that are there.
    pub hosts: u64,
    /// Routes that should be there and are not.
    pub missing: u64,
    /// Why the last try did not reach its end; `None`: it did.
    pub last_error: Option<String>,
}
