//! The load generator as a program: the plan is its only argument (JSON), the report its output (JSON).

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use nexus_testkit::{interrupt, load};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dhcp_load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    interrupt::install()?;
    let text = std::env::args().nth(1).context("give the plan (JSON)")?;
    let plan: load::Plan = serde_json::from_str(&text).context("the plan cannot be read")?;
    let report = load::run(&plan)?;
    let text = serde_json::to_string(&report).context("cannot write the report")?;
    println!("{text}");
    Ok(())
}
