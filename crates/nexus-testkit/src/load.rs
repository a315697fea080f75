//! A load generator for DHCP servers: thousands of clients on one interface, every transaction accounted for.
//!
//! ```text
//! Plan --> [worker, one for each thread: Pace says when, Sessions say what, Composer writes frames]
//!                |  sendmmsg, batches of 64         ^  recvmmsg, batches of 64
//!                v                                  |
//!             packet socket on the interface, filtered to the transactions of this thread
//! ```
//!
//! [`sessions`], [`pace`], [`compose`], [`reply`] and [`search`] are pure; [`socket`] and `worker` are not.
//! Buffers and tables have the size of the plan: what comes late, twice or from elsewhere is counted and dropped,
//! and an exchange for which no client is idle is counted as withheld.

pub mod compose;
pub mod pace;
pub mod plan;
pub mod reply;
pub mod report;
pub mod search;
pub mod sessions;
pub mod socket;
mod worker;

use std::time::Instant;

use anyhow::{Result, anyhow};

pub use self::plan::{Exchange, Pace, Plan};
pub use self::report::Report;

/// Does what the plan says, on an interface of the namespace that this thread is in.
///
/// # Errors
/// If the plan cannot be carried out: a value of it, no such interface, not root, a socket that fails.
pub fn run(plan: &Plan) -> Result<Report> {
    plan.check()?;
    // All threads count from here; the transaction ids of two runs differ.
    let began = Instant::now();
    let salt = std::time::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.subsec_nanos());
    let tallies = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.threads)
            .map(|thread| scope.spawn(move || worker::run(plan, thread, salt, began)))
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(anyhow!("a thread of the generator panicked")))
            })
            .collect::<Result<Vec<_>>>()
    })?;
    Ok(Report::of(tallies))
}
