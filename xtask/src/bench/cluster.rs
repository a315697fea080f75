//! `cargo xtask bench cluster`: three servers on this machine, and replicas alone where the servers' interface would be
//! what is measured.
//!
//! ```text
//!  servers:   OLTs (gRPC) --> nexus-server x 3, each in a namespace --> watchers on each of them
//!  replicas:  one process, three replicas with sled below and libp2p over loopback between them
//! ```
//!
//! The reference of the servers is one server that runs alone, under the same load in the same run.

mod replicas;
mod servers;

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use nexus_testkit::{netns, programs};

use super::{Goal, Report, Row};
use crate::bench::dhcp::machine;
use crate::{prepare, shell};

/// How much of everything.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Minutes.
    Usual,
    /// A first copy of ten million entries and ten million cycles besides: a quarter of an hour more, and 11 GB of disk
    /// and of memory.
    Large,
}

impl Scale {
    fn cycles(self) -> u64 {
        match self {
            Self::Usual => 1_000_000,
            Self::Large => 10_000_000,
        }
    }
}

/// Measures everything.
pub fn run(root: &Path, scale: Scale) -> Result<Report> {
    if !shell::is_root() {
        bail!("this makes network namespaces: run it as root");
    }
    prepare::ensure(prepare::TOOLS)?;
    netns::sweep();
    build(root)?;
    programs::use_profile("release");

    let began = Instant::now();
    eprintln!("- {}", machine::description());
    let _precedence = machine::Precedence::take()?;
    let (mut rows, mut goals): (Vec<Row>, Vec<Goal>) = (Vec::new(), Vec::new());
    servers::measure(&mut rows, &mut goals)?;
    replicas::measure(scale, &mut rows, &mut goals)?;
    eprintln!(
        "- measured in {:.0} s; {}",
        began.elapsed().as_secs_f64(),
        machine::description()
    );
    Ok(Report {
        bench: "cluster",
        rows,
        goals,
    })
}

/// Optimised, both what is measured and what measures.
fn build(root: &Path) -> Result<()> {
    let mut server = shell::cargo(root);
    server.args(["build", "--locked", "--release"]);
    shell::show(server.args(["-p", "nexus-server", "-p", "nexus-bench"]))?;
    let mut load = shell::cargo(root);
    load.args(["build", "--locked", "--release", "-p", "nexus-testkit"]);
    shell::show(load.args(["--example", "cluster_load"]))
}
