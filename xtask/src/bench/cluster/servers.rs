//! Real servers under a load of OLTs: what they take, and when it is to be seen everywhere.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nexus_testkit::cluster::{
    ClusterBench, FloodPlan, FloodReport, LIMIT, NodePlan, PoolPlan, Spread,
};
use nexus_testkit::{command, programs};

use crate::bench::dhcp::machine;
use crate::bench::{Goal, Row, median};

/// Nodes of the cluster.
const NODES: usize = 3;
/// OLTs that write.
const OLTS: usize = 8;
/// Writes on their way at once: enough that a flush of the disk serves many.
const WINDOW: usize = 256;
/// Writes of one round as fast as they are taken, and how long that may take.
const FLOOD_WRITES: usize = 40_000;
const FLOOD_SECONDS: f64 = 30.0;
/// The steady load (issue 4).
const STEADY: f64 = 2000.0;
const STEADY_SECONDS: f64 = 10.0;
const ROUNDS: usize = 3;
/// Goals of issue 4.
const SEEN_P50_MS: f64 = 20.0;
const SEEN_P99_MS: f64 = 200.0;

const POOL: &str = "bench";

/// Measures one server alone, then the cluster.
pub fn measure(rows: &mut Vec<Row>, goals: &mut Vec<Goal>) -> Result<()> {
    let alone = Measured::of("alone", vec![NodePlan::alone("n1")])?;
    let cluster = Measured::of("cluster", NodePlan::cluster(NODES, 0))?;
    cluster.report(&alone, rows, goals);
    Ok(())
}

/// Medians over the rounds.
struct Measured {
    /// Acknowledged writes per second as fast as they are taken.
    acknowledged: f64,
    /// The same until every node has them.
    everywhere: f64,
    /// Seconds from the last acknowledgement until every node has everything.
    behind: f64,
    answered: Spread,
    seen: Spread,
    /// Processor time of all servers for one write, in microseconds.
    cost: f64,
    /// Bytes between the servers for one write.
    bytes: f64,
}

impl Measured {
    fn of(name: &str, plans: Vec<NodePlan>) -> Result<Self> {
        let bench = started(plans)?;
        let all: Vec<usize> = (0..bench.size()).collect();
        let mut rounds = Vec::new();
        for round in 0..ROUNDS {
            let measured = one_round(&bench, &all, &format!("{name}-{round}"))?;
            eprintln!(
                "- {name}, round {}: {:.0} writes/s, seen after {:.1} ms",
                round + 1,
                measured.acknowledged,
                measured.seen.p50
            );
            rounds.push(measured);
        }
        let of = |pick: fn(&Self) -> f64| median(rounds.iter().map(pick).collect());
        Ok(Self {
            acknowledged: of(|round| round.acknowledged),
            everywhere: of(|round| round.everywhere),
            behind: of(|round| round.behind),
            answered: Spread {
                p50: of(|round| round.answered.p50),
                p99: of(|round| round.answered.p99),
                max: of(|round| round.answered.max),
            },
            seen: Spread {
                p50: of(|round| round.seen.p50),
                p99: of(|round| round.seen.p99),
                max: of(|round| round.seen.max),
            },
            cost: of(|round| round.cost),
            bytes: of(|round| round.bytes),
        })
    }

    fn report(&self, alone: &Self, rows: &mut Vec<Row>, goals: &mut Vec<Goal>) {
        let mut row = |name: &str, unit, pick: fn(&Self) -> f64| {
            let name = format!("{name}: three servers against one alone");
            rows.push(Row::compared(name, unit, pick(self), pick(alone)));
        };
        row("writes taken, as fast as they come", "writes/s", |m| {
            m.acknowledged
        });
        row("answered at 2000 writes/s, p50", "ms", |m| m.answered.p50);
        row("answered at 2000 writes/s, p99", "ms", |m| m.answered.p99);
        row("processor time of all servers for one write", "us", |m| {
            m.cost
        });
        rows.extend([
            Row::alone(
                "writes taken until all three have them",
                "writes/s",
                self.everywhere,
            ),
            Row::alone(
                "behind after the last answer, at full load",
                "s",
                self.behind,
            ),
            Row::alone(
                "seen on all three after the answer, at 2000 writes/s, p50",
                "ms",
                self.seen.p50,
            ),
            Row::alone(
                "seen on all three after the answer, at 2000 writes/s, p99",
                "ms",
                self.seen.p99,
            ),
            Row::alone("traffic between servers for one write", "bytes", self.bytes),
        ]);
        goals.extend([
            Goal::figure_at_most("seen on all three, p50 in ms", SEEN_P50_MS, self.seen.p50),
            Goal::figure_at_most("seen on all three, p99 in ms", SEEN_P99_MS, self.seen.p99),
        ]);
    }
}

fn started(plans: Vec<NodePlan>) -> Result<ClusterBench> {
    let mut bench = ClusterBench::create("bench", plans)?;
    bench.start_all()?;
    wait(&bench, &(0..bench.size()).collect::<Vec<_>>())?;
    PoolPlan::large(POOL).create(&bench.client(0)?)?;
    Ok(bench)
}

/// Until all have the same; one alone has.
fn wait(bench: &ClusterBench, all: &[usize]) -> Result<()> {
    if all.len() > 1 {
        bench.wait_converged(all, LIMIT)?;
    }
    Ok(())
}

fn one_round(bench: &ClusterBench, all: &[usize], name: &str) -> Result<Measured> {
    let before = used(bench, all)?;
    let flood = load(bench, all, name, None, FLOOD_WRITES, FLOOD_SECONDS)?;
    let answered = Instant::now();
    wait(bench, all)?;
    let behind = answered.elapsed().as_secs_f64();
    let after = used(bench, all)?;

    let writes = as_f64(u64::try_from(flood.acknowledged)?);
    let name = format!("{name}-steady");
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a small positive number"
    )]
    let most = (STEADY * STEADY_SECONDS) as usize;
    let steady = load(bench, all, &name, Some(STEADY), most, STEADY_SECONDS * 2.0)?;
    Ok(Measured {
        acknowledged: flood.per_second(),
        everywhere: writes / (flood.seconds + behind),
        behind,
        answered: steady.answered,
        seen: steady.seen.unwrap_or_default(),
        cost: (after.0 - before.0) / 1000.0 / writes,
        bytes: (after.1 - before.1) / writes,
    })
}

/// Nanoseconds of processor time of all servers, and bytes between them, so far.
fn used(bench: &ClusterBench, all: &[usize]) -> Result<(f64, f64)> {
    let (mut time, mut bytes) = (0.0, 0.0);
    for place in all {
        time += as_f64(machine::process_time(bench.node(*place)?.pid())?);
        bytes += as_f64(bench.network().bytes_from_peers(*place)?);
    }
    Ok((time, bytes))
}

/// Carries out a load in the switch's namespace.
fn load(
    bench: &ClusterBench,
    all: &[usize],
    name: &str,
    per_second: Option<f64>,
    writes: usize,
    seconds: f64,
) -> Result<FloodReport> {
    let nodes = all
        .iter()
        .map(|place| Ok(bench.node(*place)?.address()))
        .collect::<Result<Vec<_>>>()?;
    let plan = FloodPlan {
        watched: if per_second.is_some() {
            nodes.clone()
        } else {
            Vec::new()
        },
        nodes,
        pool: POOL.to_owned(),
        olts: OLTS,
        name: name.to_owned(),
        window: WINDOW,
        per_second,
        writes,
        seconds,
    };
    let program = programs::directory().join("examples/cluster_load");
    let text = serde_json::to_string(&plan).context("cannot write a plan")?;
    let mut command = bench
        .network()
        .switch()
        .command(&program.display().to_string());
    let limit = Duration::from_secs_f64(seconds) + Duration::from_secs(180);
    let finished = command::run(command.arg(text), limit)?;
    ensure!(
        finished.status.success(),
        "the load failed: {}",
        finished.stderr.trim()
    );
    let report: FloodReport =
        serde_json::from_str(&finished.stdout).context("cannot read the load's report")?;
    ensure!(
        report.failed == 0 && report.unseen == 0,
        "{} writes failed ({}), {} were not seen everywhere",
        report.failed,
        report.first_failure.unwrap_or_default(),
        report.unseen
    );
    Ok(report)
}

fn as_f64(count: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let count = count as f64;
    count
}
