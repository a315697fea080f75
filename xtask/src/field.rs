//! `cargo xtask field`: the Jepsen-like run with real servers, sidecars and kernels' maps, for as long as one likes.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::Args;

use crate::test::tee;
use crate::{build_ebpf, console, prepare, shell};

/// Which run.
#[derive(Args)]
#[command(after_long_help = LONG)]
pub struct Options {
    /// How long the nemesis goes on; it goes at least once through all that it can do, about two minutes.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Decides who does what, and what goes wrong in which order.
    #[arg(long, default_value_t = 5)]
    seed: u64,
    /// Subscribers. There are four addresses for each.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(100..=10_000))]
    subscribers: u32,
}

const LONG: &str = "\
Three nexus-servers, four OLT hosts with nexus-sidecar and its XDP program, each in a network
namespace of its own, and subscribers that come up over RADIUS, renew and start anew over DHCP,
move to other OLTs and leave. Meanwhile a nemesis cuts hosts and servers off, stops them for
longer than a lease, kills them, steps clocks, fills disks, puts old copies of stores in place and
brings up second hosts with the same id; the last lines say how often each was seen to take
effect. A checker reads what every client was told and what the kernels' maps held. The run fails
if two subscribers had one address, if anything acknowledged was lost, if a known subscriber was
not served, if servers, sidecars and kernels differ in the end, or if something that the nemesis
does never took effect. The rules, and what each is proved by:
docs/decisions/2026-11-22-the-field.md.

Needs root, bpftool and nft. If it fails, stores, logs and the whole history are kept; the last
lines say what is wrong and where they are.";

const TEST: &str =
    "field::random::whatever_goes_wrong_nobody_shares_an_address_and_nothing_acknowledged_is_lost";

/// What a run takes besides the nemesis, on a slow machine.
const AROUND: Duration = Duration::from_secs(3600);

/// Runs it.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    if !shell::is_root() {
        bail!("the field makes network namespaces and loads XDP programs: run it as root");
    }
    prepare::run()?;
    build_ebpf::run(root)?;
    let mut build = shell::cargo(root);
    let programs = ["-p", "nexus-server", "-p", "nexus-sidecar"];
    shell::show(build.args(["build", "--locked", "-q"]).args(programs))?;
    let mut cargo = shell::cargo(root);
    cargo.args(["test", "--locked", "-q", "-p", "nexus-sidecar"]);
    cargo.args(["--test", "field", "--", "--ignored", "--nocapture"]);
    cargo.args(["--exact", TEST]);
    cargo
        .env("NEXUS_FIELD_SECONDS", options.seconds.to_string())
        .env("NEXUS_FIELD_SEED", options.seed.to_string())
        .env("NEXUS_FIELD_SUBSCRIBERS", options.subscribers.to_string());
    let limit = AROUND + Duration::from_secs(options.seconds);
    let (results, succeeded) = tee(&mut cargo, limit)?;
    ensure!(
        succeeded && results.counts.failed == 0,
        "a promise was broken, or something could not be done: see above"
    );
    // A filter that matches no test is no run.
    ensure!(results.counts.passed == 1, "the test {TEST} did not run");
    eprintln!("{} every promise was kept", console::tick());
    Ok(())
}
