//! What all tests here share: a cluster that is torn down with its logs shown, and the questions at the end.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nexus_testkit::cluster::{
    ClusterBench, LIMIT, Listing, Load, NodePlan, Workload, WorkloadReport, check, listing,
    same_listings,
};

/// The pool of every test.
pub const POOL: &str = "residential";

/// Runs a test on a cluster of these nodes; if it fails, the end of every node's log is shown.
pub fn on(plans: Vec<NodePlan>, test: impl FnOnce(&mut ClusterBench) -> Result<()>) {
    let mut bench = ClusterBench::create("cluster", plans).unwrap();
    let done = catch_unwind(AssertUnwindSafe(|| test(&mut bench)));
    if !matches!(done, Ok(Ok(()))) {
        eprintln!("{}", bench.logs(40));
        if std::env::var_os("NEXUS_KEEP").is_some() {
            eprintln!(
                "stores and logs are left in {}",
                bench.keep_directory().display()
            );
        }
    }
    match done {
        Ok(done) => done.unwrap(),
        Err(panic) => resume_unwind(panic),
    }
}

/// Load that writes to and reads from the nodes at these places.
pub fn load(bench: &ClusterBench, writers: &[usize], readers: &[usize]) -> Result<Workload> {
    let workload = Workload::start(bench, &Load::new(POOL, writers, readers))?;
    workload.wait_progress(50, LIMIT)?;
    Ok(workload)
}

/// Goes on under load for as long as `fifty` more writes take.
pub fn goes_on(workload: &Workload) -> Result<()> {
    workload.wait_progress(50, LIMIT)
}

/// Checks what was acknowledged against what the nodes at these places hold.
pub fn verify(bench: &ClusterBench, report: &WorkloadReport, nodes: &[usize]) -> Result<()> {
    let listings = listings(bench, nodes)?;
    same_listings(&listings)?;
    check(&report.history, &listings)?;
    for place in nodes {
        let audit = bench.client(*place)?.get("/api/v1/audit")?.ok()?;
        let duplicates = audit.get("duplicates").and_then(|list| list.as_array());
        ensure!(
            duplicates.is_some_and(Vec::is_empty),
            "node {place} has found duplicates: {audit}"
        );
    }
    ensure!(
        report.history.acknowledged() > 0,
        "nothing was acknowledged, so nothing was checked"
    );
    Ok(())
}

/// The value of a series as Prometheus reads it of a node.
pub fn metric(bench: &ClusterBench, place: usize, series: &str) -> Result<f64> {
    let text = bench.client(place)?.metrics()?;
    let of_series = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
    let value = text.lines().find_map(of_series);
    value.with_context(|| format!("no {series} among the metrics of node {place}"))
}

/// What the nodes at these places hold.
pub fn listings(bench: &ClusterBench, nodes: &[usize]) -> Result<Vec<(String, Listing)>> {
    nodes
        .iter()
        .map(|place| {
            let name = bench.node(*place)?.name().to_owned();
            let client = bench.client(*place)?.patience(Duration::from_secs(30));
            let listing = listing(&client).with_context(|| format!("the list of {name}"))?;
            Ok((name, listing))
        })
        .collect()
}
