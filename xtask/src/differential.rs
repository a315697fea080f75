//! `cargo xtask differential`: kernel and host over as many generated and spoilt frames as one likes.

use std::path::Path;

use anyhow::{Result, bail};
use clap::Args;

use crate::{build_ebpf, shell};

/// How many, and which.
#[derive(Args)]
pub struct Options {
    /// Frames, over all processors.
    #[arg(long, default_value_t = 5_000_000)]
    cases: u64,
    /// Repeats the run that printed this seed.
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the test of that name with the wanted number of cases.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    if !shell::is_root() {
        bail!("not root: the kernel's verdicts are asked for with BPF_PROG_TEST_RUN");
    }
    build_ebpf::run(root)?;
    let mut cargo = shell::cargo(root);
    cargo.args([
        "test",
        "--locked",
        "-p",
        "nexus-sidecar",
        "--test",
        "golden",
    ]);
    cargo.args(["--", "--ignored", "--nocapture", "generated_and_spoilt"]);
    cargo.env("NEXUS_DIFFERENTIAL_CASES", options.cases.to_string());
    if let Some(seed) = options.seed {
        cargo.env("NEXUS_DIFFERENTIAL_SEED", seed.to_string());
    }
    shell::show(&mut cargo)
}
