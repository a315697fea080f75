//! `cargo xtask simulate`: random lives of a cluster of replicas in virtual time, and every life of a small one; with
//! `--ownership` lives of OLT hosts and servers instead.

use std::path::Path;

use anyhow::Result;
use clap::Args;

use crate::{console, shell};

/// Which lives.
#[derive(Args)]
pub struct Options {
    /// Only this one, telling what happens.
    #[arg(long, conflicts_with_all = ["seeds", "from", "model"])]
    seed: Option<u64>,
    /// How many. With --ownership a third of them have wrong clocks and changing pools (from seed 1000000 on), and a third
    /// sites that are cut off, ends of acknowledged bindings and old copies of servers (from seed 2000000 on), unless --from
    /// names the first.
    #[arg(long, default_value_t = 20_000, conflicts_with = "model")]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1, conflicts_with = "model")]
    from: u64,
    /// Instead let the model checker try every life of a small cluster, with larger budgets than in CI
    /// (minutes, and gigabytes of memory).
    #[arg(long)]
    model: bool,
    /// Who may hand out what: lives of OLT hosts and servers, and every life of two small hosts.
    #[arg(long)]
    ownership: bool,
}

/// Runs them.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    if options.ownership {
        return ownership(root, options);
    }
    let mut cargo = shell::cargo(root);
    cargo.args(["test", "--locked", "-q", "-p", "nexus-clset", "--test"]);
    if options.model {
        cargo.env("NEXUS_MODEL", "deep");
        cargo.args(["model", "--", "--nocapture", "--test-threads=1"]);
    } else {
        match options.seed {
            Some(seed) => cargo.env("NEXUS_SIMULATE_SEED", seed.to_string()),
            None => cargo
                .env("NEXUS_SIMULATE_SEEDS", options.seeds.to_string())
                .env("NEXUS_SIMULATE_FROM", options.from.to_string()),
        };
        cargo.args(["simulate", "--", "--nocapture", "whatever_goes_wrong"]);
    }
    shell::show(&mut cargo)?;
    eprintln!("{} every promise was kept", console::tick());
    Ok(())
}

fn ownership(root: &Path, options: &Options) -> Result<()> {
    let mut cargo = shell::cargo(root);
    cargo.args(["test", "--locked", "-q", "-p"]);
    if options.model {
        cargo.env("NEXUS_MODEL", "deep");
        cargo.args([
            "nexus-core",
            "--test",
            "ownership",
            "--",
            "--nocapture",
            "--test-threads=1",
        ]);
    } else {
        match options.seed {
            Some(seed) => cargo.env("NEXUS_OWNERSHIP_SEED", seed.to_string()),
            None => cargo
                .env("NEXUS_OWNERSHIP_SEEDS", options.seeds.to_string())
                .env("NEXUS_OWNERSHIP_FROM", options.from.to_string()),
        };
        cargo.args(["nexus-server", "--release", "--lib", "--", "--nocapture"]);
        cargo.arg("whatever_goes_wrong_no_address");
    }
    shell::show(&mut cargo)?;
    eprintln!("{} every promise was kept", console::tick());
    Ok(())
}
