//! The ring and the shard table alone: how long a full plan, a join and a leave take.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use serde::Deserialize;

use super::{Row, as_f64, ask, example};
use crate::bench::Goal;

const OLTS: &str = "2000";
const SHARDS: &str = "16384";
/// An eighth of both, to see how it grows.
const FEWER_OLTS: &str = "250";
const FEWER_SHARDS: &str = "2048";
/// Goals of issue 5, in milliseconds.
const FULL_MS: f64 = 1000.0;
const CHANGE_MS: f64 = 50.0;
/// Goal of issue 5: loads are bounded.
const BALANCE: f64 = 1.25;

/// What the example of nexus-core prints.
#[derive(Deserialize)]
struct Placement {
    balance: Balance,
    moved_by_join: u64,
    owned_by_newcomer: u64,
    moved_by_leave: u64,
    owned_by_leaver_before: u64,
    full_plan_ms: Spread,
    join_ms: Spread,
    leave_ms: Spread,
    plan_of_join_ms: Spread,
}

#[derive(Deserialize)]
struct Balance {
    /// Shards of the OLT that has most, as a part of the fair share.
    most: f64,
}

#[derive(Deserialize)]
struct Spread {
    median: f64,
    max: f64,
}

/// Measures it at full size, and at an eighth of it as the reference.
pub fn measure(rows: &mut Vec<Row>, goals: &mut Vec<Goal>) -> Result<()> {
    let full = of(OLTS, SHARDS)?;
    let eighth = of(FEWER_OLTS, FEWER_SHARDS)?;
    let mut row = |name: &str, pick: fn(&Placement) -> &Spread| {
        let name = format!("{name}: 2,000 OLTs, 16,384 shards, against an eighth of both");
        rows.push(Row::compared(
            name,
            "ms",
            pick(&full).median,
            pick(&eighth).median,
        ));
    };
    row("a full plan", |all| &all.full_plan_ms);
    row("one OLT joins", |all| &all.join_ms);
    row("one OLT leaves", |all| &all.leave_ms);
    row("what a join would move, asked", |all| &all.plan_of_join_ms);
    rows.extend([
        Row::compared(
            "shards moved by a join, against those that the newcomer then has".to_owned(),
            "shards",
            as_f64(full.moved_by_join),
            as_f64(full.owned_by_newcomer),
        ),
        Row::compared(
            "shards moved by a leave, against those that the leaver had".to_owned(),
            "shards",
            as_f64(full.moved_by_leave),
            as_f64(full.owned_by_leaver_before),
        ),
    ]);
    let change = |pick: fn(&Spread) -> f64| pick(&full.join_ms).max(pick(&full.leave_ms));
    rows.extend([
        Row::alone(
            "a full plan, the slowest of five",
            "ms",
            full.full_plan_ms.max,
        ),
        Row::alone(
            "a join or leave, the slowest of ten",
            "ms",
            change(|all| all.max),
        ),
    ]);
    goals.extend([
        Goal::figure_at_most("a full plan, in ms", FULL_MS, full.full_plan_ms.median),
        Goal::figure_at_most(
            "one join or leave, in ms",
            CHANGE_MS,
            change(|all| all.median),
        ),
    ]);
    let most = full.balance.most;
    rows.push(Row::alone(
        "the most loaded OLT, as a part of its fair share",
        "times",
        most,
    ));
    goals.push(Goal::figure_at_most(
        "the most loaded OLT, of its fair share",
        BALANCE,
        most,
    ));
    Ok(())
}

fn of(olts: &str, shards: &str) -> Result<Placement> {
    let mut command = Command::new(example("placement"));
    command.args([olts, shards]);
    ask("placement", &mut command, Duration::from_secs(600))
}
