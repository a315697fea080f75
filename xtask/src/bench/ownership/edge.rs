//! Allocation at the edge: durable before the answer, many requests at a time.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use serde::Deserialize;
use serde_json::json;

use super::{Row, ask, example};
use crate::bench::{Goal, median};

/// Subscribers of one round: enough that rates and memory are steady.
const SUBSCRIBERS: u32 = 100_000;
/// Requests on their way at once; the queue of the edge task takes 1,024.
const WINDOW: u32 = 512;
const ROUNDS: usize = 3;
/// Goal of issue 5, allocations per second.
const PER_SECOND: f64 = 20_000.0;

#[derive(Deserialize)]
struct Edge {
    per_second: f64,
    acked_per_second: f64,
    disk_p50_us: f64,
    disk_p99_us: f64,
    p50_us: f64,
    p99_us: f64,
    alone_p50_us: f64,
    alone_p99_us: f64,
    machine_per_second: f64,
    memory_bytes: f64,
    disk_bytes: f64,
}

/// Measures it, with the machine that decides, alone, as the reference.
pub fn measure(rows: &mut Vec<Row>, goals: &mut Vec<Goal>) -> Result<()> {
    let mut rounds: Vec<Edge> = Vec::new();
    for round in 1..=ROUNDS {
        let plan = json!({
            "subscribers": SUBSCRIBERS,
            "window": WINDOW,
            "directory": std::env::temp_dir(),
        });
        let mut command = Command::new(example("edge_meter"));
        command.arg(plan.to_string());
        let one: Edge = ask("edge_meter", &mut command, Duration::from_secs(600))?;
        eprintln!(
            "- edge, round {round}: {:.0} allocations/s ({:.0} until acknowledged), p99 {:.0} us; the disk alone {:.0} us",
            one.per_second, one.acked_per_second, one.p99_us, one.disk_p50_us
        );
        rounds.push(one);
    }
    let of = |pick: fn(&Edge) -> f64| median(rounds.iter().map(pick).collect());
    let per_second = of(|one| one.per_second);
    rows.extend([
        Row::compared(
            "allocations at the edge, each durable, 512 at a time, against the machine without task and disk"
                .to_owned(),
            "1/s",
            per_second,
            of(|one| one.machine_per_second),
        ),
        Row::alone(
            "the same until the centre has acknowledged the last one",
            "1/s",
            of(|one| one.acked_per_second),
        ),
        Row::alone(
            "the disk alone: 256 KiB appended and fdatasync, p50",
            "us",
            of(|one| one.disk_p50_us),
        ),
        Row::alone(
            "the disk alone: 256 KiB appended and fdatasync, p99",
            "us",
            of(|one| one.disk_p99_us),
        ),
        Row::compared(
            "from request to answer, 512 at a time against one, p50".to_owned(),
            "us",
            of(|one| one.p50_us),
            of(|one| one.alone_p50_us),
        ),
        Row::compared(
            "from request to answer, 512 at a time against one, p99".to_owned(),
            "us",
            of(|one| one.p99_us),
            of(|one| one.alone_p99_us),
        ),
        Row::alone(
            "memory of the edge for one binding, without the kernel's map",
            "bytes",
            of(|one| one.memory_bytes),
        ),
        Row::alone("disk of the edge for one binding", "bytes", of(|one| one.disk_bytes)),
    ]);
    goals.push(Goal::figure_at_least(
        "durable allocations at the edge, per second",
        PER_SECOND,
        per_second,
    ));
    Ok(())
}
