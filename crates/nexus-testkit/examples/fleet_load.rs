//! The load of `cargo xtask bench ownership` as a program: the plan is its only argument (JSON), the report its output
//! (JSON).

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use nexus_testkit::cluster::{FleetPlan, fleet};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fleet_load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let text = std::env::args().nth(1).context("give the plan (JSON)")?;
    let plan: FleetPlan = serde_json::from_str(&text).context("the plan cannot be read")?;
    let report = fleet(&plan)?;
    let text = serde_json::to_string(&report).context("cannot write the report")?;
    println!("{text}");
    Ok(())
}
