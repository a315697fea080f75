//! `cargo xtask bench ownership`: who may hand out what, how fast that is decided, and what it costs (issue 5).
//!
//! ```text
//!  placement:  the shard table alone, 2,000 OLTs and 16,384 shards (example of nexus-core)
//!  edge:       the edge task with a real store, no network (example of nexus-sidecar)
//!  fleet:      2,000 OLTs (gRPC) --> nexus-server x 3, each in a namespace; and one server alone
//! ```

mod edge;
mod fleet;
mod placement;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nexus_testkit::{command, netns, programs};
use serde::de::DeserializeOwned;

use super::{Report, Row};
use crate::bench::dhcp::machine;
use crate::{build_ebpf, prepare, shell};

/// Measures everything.
pub fn run(root: &Path) -> Result<Report> {
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
    let (mut rows, mut goals) = (Vec::new(), Vec::new());
    placement::measure(&mut rows, &mut goals)?;
    edge::measure(&mut rows, &mut goals)?;
    fleet::measure(&mut rows, &mut goals)?;
    eprintln!(
        "- measured in {:.0} s; {}",
        began.elapsed().as_secs_f64(),
        machine::description()
    );
    Ok(Report {
        bench: "ownership",
        rows,
        goals,
    })
}

/// Optimised, both what is measured and what measures.
fn build(root: &Path) -> Result<()> {
    build_ebpf::run(root)?;
    for what in [
        ["-p", "nexus-server", "--bins"].as_slice(),
        &["-p", "nexus-core", "--example", "placement"],
        &["-p", "nexus-sidecar", "--example", "edge_meter"],
        &["-p", "nexus-testkit", "--example", "fleet_load"],
    ] {
        let mut cargo = shell::cargo(root);
        cargo.args(["build", "--locked", "--release"]);
        shell::show(cargo.args(what))?;
    }
    Ok(())
}

/// Runs a built example and reads the JSON that it prints.
fn ask<T: DeserializeOwned>(name: &str, command: &mut Command, limit: Duration) -> Result<T> {
    let finished = command::run(command, limit)?;
    ensure!(
        finished.status.success(),
        "{name} failed: {}",
        finished.stderr.trim()
    );
    serde_json::from_str(&finished.stdout)
        .with_context(|| format!("cannot read the report of {name}"))
}

/// A built example.
fn example(name: &str) -> String {
    let path = programs::directory().join("examples").join(name);
    path.display().to_string()
}

fn as_f64(count: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let count = count as f64;
    count
}
