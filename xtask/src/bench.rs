//! `cargo xtask bench`: ours and the reference in one run, medians and ratios, goals and whether they hold.

mod cluster;
mod dhcp;
mod fastpath;
mod ownership;

use std::path::Path;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde::Serialize;

use self::cluster::Scale;
use crate::console;

/// What can be measured.
#[derive(Clone, Copy, ValueEnum)]
pub enum Bench {
    /// Three servers against one: writes, when they are seen everywhere, what a split and a new node take.
    Cluster,
    /// Full exchanges, round trips, processor time, storms and first contact, against Kea, dnsmasq and ISC dhcpd.
    Dhcp,
    /// The kernel program's time per frame over live traffic, against trivial programs.
    Fastpath,
    /// Placement of 16,384 shards on 2,000 OLTs, allocation at the edge, a fleet's heartbeats, failover, memory.
    Ownership,
}

/// What came out; `--json` prints it as it is.
#[derive(Serialize)]
pub struct Report {
    bench: &'static str,
    rows: Vec<Row>,
    goals: Vec<Goal>,
}

/// One measured figure.
#[derive(Serialize)]
pub struct Row {
    name: String,
    /// Median.
    value: f64,
    unit: &'static str,
    /// Median of what it is compared with, if it is.
    reference: Option<f64>,
    /// `value / reference`.
    ratio: Option<f64>,
}

impl Row {
    /// A figure with what it is compared with.
    fn compared(name: String, unit: &'static str, value: f64, reference: f64) -> Self {
        Self {
            name,
            value,
            unit,
            reference: Some(reference),
            ratio: Some(value / reference),
        }
    }

    /// A figure on its own.
    fn alone(name: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self {
            name: name.into(),
            value,
            unit,
            reference: None,
            ratio: None,
        }
    }
}

/// A goal of an issue, and how far it is reached.
#[derive(Serialize)]
pub struct Goal {
    name: &'static str,
    /// `<= 4.5`
    goal: String,
    /// The worst of the figures that it speaks of.
    value: f64,
    holds: bool,
}

impl Goal {
    /// No ratio of `rows` may be above `most`. `None` if there are no rows.
    fn at_most<'a>(
        name: &'static str,
        most: f64,
        rows: impl Iterator<Item = &'a Row>,
    ) -> Option<Self> {
        let worst = rows.filter_map(|row| row.ratio).reduce(f64::max)?;
        Some(Self {
            name,
            goal: format!("<= {most}"),
            value: worst,
            holds: worst <= most,
        })
    }

    /// `value` may not be above `most`.
    fn figure_at_most(name: &'static str, most: f64, value: f64) -> Self {
        Self {
            name,
            goal: format!("<= {most}"),
            value,
            holds: value <= most,
        }
    }

    /// `value` may not be below `least`.
    fn figure_at_least(name: &'static str, least: f64, value: f64) -> Self {
        Self {
            name,
            goal: format!(">= {least}"),
            value,
            holds: value >= least,
        }
    }

    /// No ratio of `rows` may be below `least`. `None` if there are no rows.
    fn at_least<'a>(
        name: &'static str,
        least: f64,
        rows: impl Iterator<Item = &'a Row>,
    ) -> Option<Self> {
        let worst = rows.filter_map(|row| row.ratio).reduce(f64::min)?;
        Some(Self {
            name,
            goal: format!(">= {least}"),
            value: worst,
            holds: worst >= least,
        })
    }
}

/// `cargo xtask bench`. A goal that does not hold is a result, not a failure.
pub fn run(root: &Path, bench: Bench, json: bool, large: bool) -> Result<()> {
    let scale = if large { Scale::Large } else { Scale::Usual };
    let report = match bench {
        Bench::Cluster => cluster::run(root, scale)?,
        Bench::Dhcp => dhcp::run(root)?,
        Bench::Fastpath => fastpath::run(root)?,
        Bench::Ownership => ownership::run(root)?,
    };
    if json {
        let text = serde_json::to_string(&report).context("cannot write the report as JSON")?;
        println!("{text}");
    } else {
        print!("{}", table(&report));
    }
    Ok(())
}

/// The report as a person reads it, and as `docs/PERFORMANCE.md` has it.
fn table(report: &Report) -> String {
    let mut lines = vec![
        "| what | median | reference | ratio |".to_owned(),
        "|---|--:|--:|--:|".to_owned(),
    ];
    for Row {
        name,
        value,
        unit,
        reference,
        ratio,
    } in &report.rows
    {
        let value = figure(*value);
        let reference = reference.map_or_else(String::new, figure);
        let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        lines.push(format!(
            "| {name} | {value} {unit} | {reference} | {ratio} |"
        ));
    }
    lines.extend([
        String::new(),
        "| goal | wanted | worst | holds |".to_owned(),
        "|---|--:|--:|---|".to_owned(),
    ]);
    for Goal {
        name,
        goal,
        value,
        holds,
    } in &report.goals
    {
        let mark = if *holds {
            format!("{} yes", console::tick())
        } else {
            format!("{} no", console::cross())
        };
        lines.push(format!("| {name} | {goal} | {value:.2} | {mark} |"));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// Whole numbers, but no fewer than two digits of a small one.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 10.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.1}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.3}"),
    }
}

/// The middle one; of two middle ones the mean. 0 if there is none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let upper = values.len() / 2;
    let lower = values.len().saturating_sub(1) / 2;
    match (values.get(lower), values.get(upper)) {
        (Some(lower), Some(upper)) => f64::midpoint(*lower, *upper),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_or_the_mean_of_the_two_middle_ones() {
        assert!((median(vec![9.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0, 2.0, 9.0]) - 3.0).abs() < 1e-9);
        assert!(median(Vec::new()).abs() < 1e-9);
    }

    #[test]
    fn small_figures_keep_their_digits() {
        assert_eq!(
            [0.0, 0.0625, 3.04, 297.4].map(figure),
            ["0", "0.062", "3.0", "297"]
        );
    }

    #[test]
    fn a_goal_holds_only_if_its_worst_row_does() {
        let row = |value| Row::compared(String::new(), "ns", value, 100.0);
        let rows = [row(300.0), row(500.0)];
        let at_most = Goal::at_most("x", 4.5, rows.iter()).unwrap();
        assert!(!at_most.holds && (at_most.value - 5.0).abs() < 1e-9);
        assert!(Goal::at_most("x", 5.0, rows.iter()).unwrap().holds);
        assert!(Goal::at_least("x", 3.0, rows.iter()).unwrap().holds);
        assert!(!Goal::at_least("x", 3.1, rows.iter()).unwrap().holds);
    }

    #[test]
    fn a_goal_without_figures_is_not_said_to_hold() {
        assert!(Goal::at_most("x", 1.0, [].iter()).is_none());
        let alone = [Row::alone("x", "bytes", 1.0)];
        assert!(Goal::at_least("x", 1.0, alone.iter()).is_none());
    }
}
