//! Replicas without servers around them: what the CLSet, its store and its link do by themselves.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nexus_testkit::{command, programs};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::Scale;
use crate::bench::{Goal, Row};

/// Entries of each of three replicas, and of the first copy on a large scale.
const ENTRIES: u64 = 1_000_000;
const LARGE_ENTRIES: u64 = 10_000_000;
/// Goals of issue 4.
const WRITES: f64 = 10_000.0;
const HEAL_RATIO: f64 = 1.5;
const HEAL_ONE_BYTES: f64 = 10_240.0;
/// What "bounded" is taken to mean: memory after all cycles against that after a tenth of them.
const BOUNDED: f64 = 1.5;
/// What "without lag growth" is taken to mean: writes that not all have yet, in the end against half-way.
const LAG_GROWTH: f64 = 1.25;
/// Keys that are created and deleted again and again.
const LIVE: u64 = 10_000;
/// Where stores lie; /tmp may be memory.
const STORES: &str = "/var/tmp";
const LIMIT: Duration = Duration::from_secs(3 * 3600);

#[derive(Deserialize)]
struct Replicas {
    alone_per_second: f64,
    per_second: f64,
    lag_half: f64,
    lag_end: f64,
    behind_seconds: f64,
    bytes_per_write: f64,
    heal: Healed,
    heal_one: Healed,
    #[serde(flatten)]
    cold: Cold,
}

#[derive(Deserialize)]
struct Cold {
    bootstrap: Healed,
    bootstrap_resident: f64,
    bootstrap_disk: f64,
}

#[derive(Deserialize)]
struct Healed {
    seconds: f64,
    bytes_in: f64,
    bytes_out: f64,
    payload: f64,
}

#[derive(Deserialize)]
struct Cycles {
    per_second: f64,
    resident_early: f64,
    resident_late: f64,
    rows_early: f64,
    rows_late: f64,
    entries_rested: f64,
    equal: bool,
}

/// Measures replicas on disk, then tombstones in memory.
pub fn measure(scale: Scale, rows: &mut Vec<Row>, goals: &mut Vec<Goal>) -> Result<()> {
    on_disk(rows, goals)?;
    if scale == Scale::Large {
        let plan = json!({"measure": "cold", "entries": LARGE_ENTRIES, "directory": STORES});
        let done: Cold = run(&plan)?;
        cold_rows(rows, LARGE_ENTRIES, &done);
    }
    cycles(scale, rows, goals)
}

fn on_disk(rows: &mut Vec<Row>, goals: &mut Vec<Goal>) -> Result<()> {
    let (entries, differing) = (ENTRIES, ENTRIES / 10);
    let plan = json!({"measure": "replicas", "entries": entries, "differing": differing, "directory": STORES});
    let done: Replicas = run(&plan)?;
    let name = |what: &str| format!("three replicas, {entries} entries: {what}");
    rows.extend([
        Row::compared(
            name("writes until all have them, against one alone"),
            "writes/s",
            done.per_second,
            done.alone_per_second,
        ),
        Row::alone(
            name("writes not everywhere yet, half-way"),
            "writes",
            done.lag_half,
        ),
        Row::alone(
            name("writes not everywhere yet, at the last answer"),
            "writes",
            done.lag_end,
        ),
        Row::alone(
            name("behind after the last answer"),
            "s",
            done.behind_seconds,
        ),
        Row::alone(name("traffic for one write"), "bytes", done.bytes_per_write),
    ]);
    rows.extend(healed_rows(
        &format!("healed, {differing} of {entries} differ"),
        &done.heal,
    ));
    rows.extend(healed_rows(
        &format!("healed, 1 of {entries} differs"),
        &done.heal_one,
    ));
    cold_rows(rows, entries, &done.cold);
    goals.extend([
        Goal::figure_at_least(
            "writes per second, batched, until all three have them",
            WRITES,
            done.per_second,
        ),
        Goal::figure_at_most(
            "writes not everywhere yet, at the last answer against half-way",
            LAG_GROWTH,
            done.lag_end / done.lag_half.max(1.0),
        ),
        Goal::figure_at_most(
            "healed: bytes received, against those of the entries that differ",
            HEAL_RATIO,
            done.heal.bytes_in / done.heal.payload,
        ),
        Goal::figure_at_most(
            "healed of one entry: bytes both ways",
            HEAL_ONE_BYTES,
            done.heal_one.bytes_in + done.heal_one.bytes_out,
        ),
    ]);
    Ok(())
}

fn healed_rows(what: &str, healed: &Healed) -> [Row; 3] {
    [
        Row::alone(format!("{what}: time"), "s", healed.seconds),
        Row::compared(
            format!("{what}: bytes received, against those of the entries"),
            "bytes",
            healed.bytes_in,
            healed.payload,
        ),
        Row::alone(format!("{what}: bytes sent"), "bytes", healed.bytes_out),
    ]
}

fn cold_rows(rows: &mut Vec<Row>, entries: u64, done: &Cold) {
    let what = format!("cold start, {entries} entries");
    rows.extend(healed_rows(&what, &done.bootstrap));
    rows.extend([
        Row::alone(
            format!("{what}: memory"),
            "MB",
            done.bootstrap_resident / 1e6,
        ),
        Row::alone(format!("{what}: disk"), "MB", done.bootstrap_disk / 1e6),
    ]);
}

fn cycles(scale: Scale, rows: &mut Vec<Row>, goals: &mut Vec<Goal>) -> Result<()> {
    let cycles = scale.cycles();
    let done: Cycles = run(&json!({"measure": "cycles", "cycles": cycles, "keys": LIVE}))?;
    ensure!(done.equal, "two replicas differ after {cycles} cycles");
    let name = |what: &str| format!("{cycles} creations and deletions over {LIVE} keys: {what}");
    rows.extend([
        Row::alone(name("cycles of two replicas"), "cycles/s", done.per_second),
        Row::compared(
            name("memory, against that after a tenth"),
            "MB",
            done.resident_late / 1e6,
            done.resident_early / 1e6,
        ),
        Row::compared(
            name("rows, against those after a tenth"),
            "rows",
            done.rows_late,
            done.rows_early,
        ),
        Row::alone(
            name("entries after two days of rest"),
            "entries",
            done.entries_rested,
        ),
    ]);
    goals.push(Goal::figure_at_most(
        "tombstones: memory after all cycles, against that after a tenth",
        BOUNDED,
        done.resident_late / done.resident_early,
    ));
    Ok(())
}

fn run<T: DeserializeOwned>(plan: &serde_json::Value) -> Result<T> {
    eprintln!("- {plan}");
    let program = programs::path("nexus-bench")?;
    let finished = command::run(
        std::process::Command::new(program).arg(plan.to_string()),
        LIMIT,
    )?;
    ensure!(
        finished.status.success(),
        "the replicas failed: {}",
        finished.stderr.trim()
    );
    serde_json::from_str(&finished.stdout).context("cannot read the replicas' report")
}
