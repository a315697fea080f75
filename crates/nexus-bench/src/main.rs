//! For `cargo xtask bench cluster`: replicas of the CLSet in one process, each with sled below and libp2p over loopback
//! between them, and nothing else; where the servers' interface would be what is measured.
//!
//! The plan is the only argument (JSON), the report the output (JSON).

mod cycles;
mod measure;
mod station;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// What to measure.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "measure")]
enum Plan {
    /// Writes, a healed split and a cold start, over entries on disk.
    Replicas(measure::Plan),
    /// The first copy of a second replica.
    Cold(measure::ColdPlan),
    /// Creating and deleting the same keys again and again, with rows in memory and time of its own.
    Cycles(cycles::Plan),
}

#[derive(Serialize)]
#[serde(untagged)]
enum Report {
    Replicas(measure::Report),
    Cold(measure::ColdReport),
    Cycles(cycles::Report),
}

fn main() -> ExitCode {
    match run() {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("nexus-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<String> {
    let text = std::env::args().nth(1).context("give the plan (JSON)")?;
    let report = match serde_json::from_str(&text).context("the plan cannot be read")? {
        Plan::Replicas(plan) => Report::Replicas(measure::run(&plan)?),
        Plan::Cold(plan) => Report::Cold(measure::cold(&plan)?),
        Plan::Cycles(plan) => Report::Cycles(cycles::run(&plan)?),
    };
    serde_json::to_string(&report).context("cannot write the report")
}

/// Resident memory of this process in bytes; 0 if the kernel does not tell.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0).saturating_mul(1024)
}
