//! Real servers with a fleet of OLTs: what heartbeats cost, how fast another OLT serves, memory of an allocation.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nexus_testkit::cluster::{
    Calls, ClusterBench, Fleet, FleetPlan, FleetReport, FloodPlan, LIMIT, NodePlan, PoolPlan,
};

use super::{Row, as_f64, ask, example};
use crate::bench::dhcp::machine;
use crate::bench::{Goal, median};

const NODES: usize = 3;
/// The fleet of issue 5, and how often each of it is heard.
const OLTS: usize = 2000;
const EVERY: f64 = 10.0;
const SECONDS: f64 = 40.0;
/// Heartbeats of the OLTs whose failover is measured, in seconds, and how many are missed before one is offline.
const FAST: f64 = 1.0;
const MISSED: u32 = 3;
const FAILOVERS: usize = 5;
/// Goal of issue 5: seconds beyond the offline time.
const BEYOND: f64 = 2.0;
/// Allocations that are recorded to see what one takes.
const WRITES: usize = 100_000;

/// For the fleet: heartbeats of ten seconds, and nobody is offline because this machine is slow.
const SLOW: &str = "olt: {heartbeat_interval: 10s, offline_after: 30, lease: 24h}\n";

/// Measures one server alone, then the cluster.
pub fn measure(rows: &mut Vec<Row>, goals: &mut Vec<Goal>) -> Result<()> {
    let alone = Beats::of("alone", vec![NodePlan::alone("n1")])?;
    let cluster = Beats::of("cluster", NodePlan::cluster(NODES, 0))?;
    let mut row = |name: &str, unit, pick: fn(&Beats) -> f64| {
        let name =
            format!("2,000 OLTs, a heartbeat every 10 s, {name}: three servers against one alone");
        rows.push(Row::compared(name, unit, pick(&cluster), pick(&alone)));
    };
    row("processors of all servers", "%", |all| all.processors);
    row("memory of the largest server", "MiB", |all| all.memory);
    row("answered, p50", "ms", |all| all.calls.p50_ms);
    row("answered, p99", "ms", |all| all.calls.p99_ms);
    row("all registered", "s", |all| all.registered);
    let failed = as_f64(u64::try_from(cluster.calls.failed + alone.calls.failed)?);
    goals.push(Goal::figure_at_most("heartbeats that failed", 0.0, failed));
    failover(rows, goals)?;
    memory(rows)
}

/// What heartbeats of the whole fleet cost.
struct Beats {
    calls: Calls,
    /// Hundredths of one processor.
    processors: f64,
    /// MiB of the server that has most.
    memory: f64,
    /// Seconds until all were registered.
    registered: f64,
}

impl Beats {
    fn of(name: &str, plans: Vec<NodePlan>) -> Result<Self> {
        let bench = started("fleet", plans, SLOW)?;
        let fleet = Fleet {
            nodes: nodes(&bench)?,
            olts: OLTS,
        };
        let registered = calls(&bench, &FleetPlan::Register(fleet.clone()))?;
        ensure!(registered.failed == 0, "{:?}", registered.first_failure);
        // One pool for all of them, placed as a whole.
        let pool = PoolPlan {
            id: "fleet".to_owned(),
            cidr: "10.0.0.0/10".to_owned(),
            shard_size: 24,
        };
        pool.create(&bench.client(0)?)?;
        wait(&bench)?;
        let warm = |seconds| FleetPlan::Beat {
            fleet: fleet.clone(),
            every: EVERY,
            seconds,
        };
        // The first round fetches configurations.
        calls(&bench, &warm(EVERY))?;
        let before = used(&bench)?;
        let beats = calls(&bench, &warm(SECONDS))?;
        let after = used(&bench)?;
        let processors = (after - before) / 1e9 / beats.seconds * 100.0;
        let sizes: Vec<u64> = (0..bench.size())
            .map(|place| Ok(bench.node(place)?.resident()))
            .collect::<Result<_>>()?;
        let largest = sizes.into_iter().max().unwrap_or(0);
        eprintln!(
            "- {name}: {} heartbeats, {} failed, {processors:.1}% of a processor",
            beats.answered, beats.failed
        );
        if let Some(why) = &beats.first_failure {
            eprintln!("- the first that failed: {why}");
        }
        Ok(Self {
            calls: beats,
            processors,
            memory: as_f64(largest) / 1024.0 / 1024.0,
            registered: registered.seconds,
        })
    }
}

/// How long the subscribers of an OLT that ended wait, if the one that they come to is full.
fn failover(rows: &mut Vec<Row>, goals: &mut Vec<Goal>) -> Result<()> {
    let olt = format!("olt: {{heartbeat_interval: 1s, offline_after: {MISSED}, lease: 10m}}\n");
    let bench = started("failover", NodePlan::cluster(NODES, 0), &olt)?;
    let mut all = Vec::new();
    for round in 0..FAILOVERS {
        let pool = PoolPlan {
            id: format!("home-{round}"),
            cidr: format!("10.{}.0.0/16", 64 + round),
            shard_size: 24,
        };
        pool.create(&bench.client(0)?)?;
        let plan = FleetPlan::Failover {
            nodes: nodes(&bench)?,
            pool: pool.id,
            name: format!("round-{round}"),
            every: FAST,
        };
        match load(&bench, &plan)? {
            FleetReport::Failover { seconds } => all.push(seconds),
            _ => bail!("the load has answered something else"),
        }
    }
    let worst = all.iter().copied().fold(0.0, f64::max);
    let offline = f64::from(MISSED) * FAST;
    rows.push(Row::compared(
        "from the last heartbeat to a subscriber served elsewhere out of the reserve, against the offline time"
            .to_owned(),
        "s",
        median(all),
        offline,
    ));
    goals.push(Goal::figure_at_most(
        "served elsewhere after the last heartbeat, the slowest, in s",
        offline + BEYOND,
        worst,
    ));
    Ok(())
}

/// Memory of an allocation at the centre.
fn memory(rows: &mut Vec<Row>) -> Result<()> {
    let mut each = Vec::new();
    for (name, plans) in [
        ("alone", vec![NodePlan::alone("n1")]),
        ("cluster", NodePlan::cluster(NODES, 0)),
    ] {
        let bench = started("memory", plans, SLOW)?;
        PoolPlan::large("bench").create(&bench.client(0)?)?;
        // The first writes bring buffers and caches up to their size.
        flood(&bench, "warm", WRITES / 10)?;
        let before = resident(&bench)?;
        flood(&bench, name, WRITES)?;
        let grown = resident(&bench)? - before;
        let servers = as_f64(u64::try_from(bench.size())?);
        each.push(grown / servers / as_f64(u64::try_from(WRITES)?));
    }
    let [alone, cluster] = each.as_slice() else {
        bail!("two were measured");
    };
    rows.push(Row::compared(
        "memory of a server for one allocation: three servers against one alone".to_owned(),
        "bytes",
        *cluster,
        *alone,
    ));
    Ok(())
}

fn flood(bench: &ClusterBench, name: &str, writes: usize) -> Result<()> {
    let plan = FleetPlan::Flood(FloodPlan {
        watched: Vec::new(),
        nodes: nodes(bench)?,
        pool: "bench".to_owned(),
        olts: 8,
        name: name.to_owned(),
        window: 256,
        per_second: None,
        writes,
        seconds: 300.0,
    });
    match load(bench, &plan)? {
        FleetReport::Flood(report) => {
            ensure!(
                report.acknowledged == writes,
                "{} of {writes} writes were taken: {:?}",
                report.acknowledged,
                report.first_failure
            );
            wait(bench)
        }
        _ => bail!("the load has answered something else"),
    }
}

fn resident(bench: &ClusterBench) -> Result<f64> {
    let mut sum = 0;
    for place in 0..bench.size() {
        sum += bench.node(place)?.resident();
    }
    Ok(as_f64(sum))
}

fn started(name: &str, mut plans: Vec<NodePlan>, olt: &str) -> Result<ClusterBench> {
    for plan in &mut plans {
        olt.clone_into(&mut plan.more);
    }
    let mut bench = ClusterBench::create(name, plans)?;
    bench.start_all()?;
    wait(&bench)?;
    Ok(bench)
}

/// Until all have the same; one alone has.
fn wait(bench: &ClusterBench) -> Result<()> {
    if bench.size() > 1 {
        bench.wait_converged(&(0..bench.size()).collect::<Vec<_>>(), LIMIT)?;
    }
    Ok(())
}

fn nodes(bench: &ClusterBench) -> Result<Vec<Ipv4Addr>> {
    (0..bench.size())
        .map(|place| Ok(bench.node(place)?.address()))
        .collect()
}

/// Nanoseconds of processor time of all servers so far.
fn used(bench: &ClusterBench) -> Result<f64> {
    let mut sum = 0.0;
    for place in 0..bench.size() {
        sum += as_f64(machine::process_time(bench.node(place)?.pid())?);
    }
    Ok(sum)
}

fn calls(bench: &ClusterBench, plan: &FleetPlan) -> Result<Calls> {
    match load(bench, plan)? {
        FleetReport::Calls(calls) => Ok(calls),
        _ => bail!("the load has answered something else"),
    }
}

/// Carries out a plan in the switch's namespace, with a connection for each OLT.
fn load(bench: &ClusterBench, plan: &FleetPlan) -> Result<FleetReport> {
    let text = serde_json::to_string(plan).context("cannot write a plan")?;
    let mut command = bench.network().switch().command("sh");
    command.args(["-c", "ulimit -n 16384 && exec \"$0\" \"$1\""]);
    command.arg(example("fleet_load")).arg(text);
    ask("fleet_load", &mut command, Duration::from_secs(900))
}
