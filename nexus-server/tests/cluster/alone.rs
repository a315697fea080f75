//! One node that runs alone: what the harder tests rest on.

use std::time::Duration;

use anyhow::ensure;
use nexus_testkit::cluster::{Load, NodePlan, PoolPlan, Workload};

use super::stage::{POOL, goes_on, load, on, verify};

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_node_that_is_killed_again_and_again_loses_nothing_that_it_acknowledged() {
    on(vec![NodePlan::alone("n1")], |bench| {
        bench.start_all()?;
        PoolPlan::large(POOL).create(&bench.client(0)?)?;
        let workload = load(bench, &[0], &[0])?;
        for _ in 0..3 {
            goes_on(&workload)?;
            bench.node_mut(0)?.kill()?;
            bench.node_mut(0)?.start()?;
        }
        goes_on(&workload)?;
        let report = workload.stop()?;
        verify(bench, &report, &[0])
    });
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_node_that_hangs_for_a_while_goes_on_where_it_was() {
    on(vec![NodePlan::alone("n1")], |bench| {
        bench.start_all()?;
        PoolPlan::large(POOL).create(&bench.client(0)?)?;
        let workload = load(bench, &[0], &[0])?;
        bench.node_mut(0)?.pause()?;
        // Longer than anybody waits for one answer, so that commands are repeated.
        std::thread::sleep(Duration::from_secs(12));
        bench.node_mut(0)?.resume()?;
        goes_on(&workload)?;
        let report = workload.stop()?;
        ensure!(
            report.reads[&0].failed > 0,
            "nobody noticed that the node hung"
        );
        verify(bench, &report, &[0])
    });
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn the_checker_finds_out_a_node_that_lost_its_disk() {
    on(vec![NodePlan::alone("n1")], |bench| {
        bench.start_all()?;
        PoolPlan::large(POOL).create(&bench.client(0)?)?;
        let report = load(bench, &[0], &[])?.stop()?;
        verify(bench, &report, &[0])?;
        bench.node_mut(0)?.kill()?;
        bench.node_mut(0)?.wipe()?;
        bench.node_mut(0)?.start()?;
        let found = verify(bench, &report, &[0]);
        ensure!(
            found.is_err(),
            "everything acknowledged is gone, and nobody noticed"
        );
        Ok(())
    });
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn two_loads_with_names_of_their_own_do_not_meet() {
    on(vec![NodePlan::alone("n1")], |bench| {
        bench.start_all()?;
        PoolPlan::large(POOL).create(&bench.client(0)?)?;
        let other = Load {
            name: "b".to_owned(),
            ..Load::new(POOL, &[0], &[])
        };
        let (one, other) = (load(bench, &[0], &[])?, Workload::start(bench, &other)?);
        goes_on(&other)?;
        let (mut one, other) = (one.stop()?, other.stop()?);
        one.history.append(other.history);
        verify(bench, &one, &[0])
    });
}
