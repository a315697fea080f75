//! `cargo xtask field`: the Jepsen-like run with real servers, sidecars and kernels' maps, for as long as one likes.

use std::path::Path;

use anyhow::{Result, bail};
use clap::Args;

use crate::{build_ebpf, console, shell};

/// Which run.
#[derive(Args)]
pub struct Options {
    /// How long the nemesis goes on; it goes at least once through all that it can do, about two minutes.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Decides who does what, and what goes wrong in which order.
    #[arg(long, default_value_t = 5)]
    seed: u64,
    /// Subscribers, up to 3000: the pool has 4096 addresses.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(100..=3000))]
    subscribers: u32,
}

const TEST: &str = "whatever_goes_wrong_nobody_shares_an_address_and_nothing_acknowledged_is_lost";

/// Runs it.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    if !shell::is_root() {
        bail!("the field makes network namespaces and loads XDP programs: run it as root");
    }
    build_ebpf::run(root)?;
    let mut build = shell::cargo(root);
    shell::show(build.args([
        "build",
        "--locked",
        "-q",
        "-p",
        "nexus-server",
        "-p",
        "nexus-sidecar",
    ]))?;
    let mut cargo = shell::cargo(root);
    cargo.args([
        "test",
        "--locked",
        "-q",
        "-p",
        "nexus-sidecar",
        "--test",
        "field",
        "--",
    ]);
    cargo.args(["--ignored", "--nocapture", "--exact"]);
    cargo.arg(format!("random::{TEST}"));
    cargo
        .env("NEXUS_FIELD_SECONDS", options.seconds.to_string())
        .env("NEXUS_FIELD_SEED", options.seed.to_string())
        .env("NEXUS_FIELD_SUBSCRIBERS", options.subscribers.to_string());
    shell::show(&mut cargo)?;
    eprintln!("{} every promise was kept", console::tick());
    Ok(())
}
