//! The own load generator, as a process on the load's end of a line.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nexus_testkit::load::{Plan, Report};
use nexus_testkit::{command, programs};

use super::line::Line;

/// What it takes beyond the plan's own time: its start, clients that renew, the last answers.
const MARGIN: Duration = Duration::from_secs(60);

/// Carries out a plan.
pub fn run(line: &Line, plan: &Plan) -> Result<Report> {
    let program = programs::directory().join("examples/dhcp_load");
    let text = serde_json::to_string(plan).context("cannot write a plan")?;
    let mut generator = line.load.command(&program.display().to_string());
    let limit = Duration::from_secs_f64(plan.seconds) + MARGIN;
    let finished = command::run(generator.arg(text), limit)?;
    ensure!(
        finished.status.success(),
        "the load generator failed: {}",
        finished.stderr.trim()
    );
    serde_json::from_str(&finished.stdout).context("cannot read the load generator's report")
}
