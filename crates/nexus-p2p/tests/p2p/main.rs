//! Real links over loopback in one process: real sockets, real key files, nothing replaced.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(clippy::panic, reason = "helpers of tests")]
#![allow(clippy::indexing_slicing, reason = "helpers of tests")]

mod admission;
mod gossip;
mod greeting;
mod hostile;
mod insider;
mod questions;
mod restart;
mod support;
