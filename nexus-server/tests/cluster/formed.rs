//! A cluster that has formed, and how a test on one ends.

use anyhow::Result;
use nexus_testkit::cluster::{ClusterBench, LIMIT, NodePlan, PoolPlan, Workload, WorkloadReport};
use nexus_testkit::interrupt::wait_until;

use super::stage::{POOL, on, verify};

/// Runs a test on a cluster that has formed and has the pool.
pub fn on_formed(plans: Vec<NodePlan>, test: impl FnOnce(&mut ClusterBench) -> Result<()>) {
    on(plans, |bench| {
        bench.start_all()?;
        let all: Vec<usize> = (0..bench.size()).collect();
        bench.wait_converged(&all, LIMIT)?;
        PoolPlan::large(POOL).create(&bench.client(0)?)?;
        for place in all {
            let client = bench.client(place)?;
            wait_until("every node has the pool", LIMIT, || {
                let pools = client.get("/api/v1/pools")?;
                Ok(pools.body.to_string().contains(POOL).then_some(()))
            })?;
        }
        test(bench)
    });
}

/// Ends the load, waits until the nodes at these places agree, and asks everything that is asked in the end.
pub fn settle(bench: &ClusterBench, workload: Workload, nodes: &[usize]) -> Result<WorkloadReport> {
    let report = workload.stop()?;
    eprintln!("load of {:?}: {}", report.took, report.history.brief());
    let took = bench.wait_converged(nodes, LIMIT)?;
    eprintln!("agreed after {took:?}");
    verify(bench, &report, nodes)?;
    Ok(report)
}
