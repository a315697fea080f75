//! A disk that fills up on one node: its writes are refused and say why, everything else goes on.

use anyhow::ensure;
use nexus_testkit::cluster::{LIMIT, NodePlan};
use nexus_testkit::interrupt::wait_until;
use serde_json::json;

use super::formed::{on_formed, settle};
use super::stage::{POOL, goes_on, load};

#[test]
#[ignore = "needs root: makes network namespaces and mounts a tmpfs"]
fn a_full_disk_stops_the_writes_of_one_node_only_and_only_while_it_is_full() {
    let mut plans = NodePlan::cluster(3, 0);
    plans[2].disk = Some(96);
    on_formed(plans, |bench| {
        let workload = load(bench, &[0, 1, 2], &[0, 1, 2])?;
        // A tenth is what a server keeps in reserve.
        bench.node(2)?.disk()?.fill_but(6)?;
        let client = bench.client(2)?.patience(LIMIT);
        let write = |name: &str| {
            let body = json!({"pool_id": POOL, "subscriber_id": name});
            client.post("/api/v1/allocate", &body)
        };
        let mut count = 0;
        wait_until("a write is refused because of the disk", LIMIT, || {
            count += 1;
            // A majority that takes its time gives a 503 of its own.
            let answer = write(&format!("full-{count}"))?;
            let detail = answer.body["detail"].as_str().unwrap_or_default();
            Ok((answer.status == 503 && detail.contains("disk")).then_some(()))
        })?;
        goes_on(&workload)?;
        let read = client.get("/api/v1/allocations?limit=10")?;
        ensure!(read.status == 200, "reads do not go on: {read:?}");
        ensure!(
            bench.node_mut(2)?.is_running()?,
            "it did not survive its disk"
        );
        bench.node(2)?.disk()?.empty()?;
        wait_until("a write is taken again", LIMIT, || {
            count += 1;
            Ok((write(&format!("room-{count}"))?.status == 201).then_some(()))
        })?;
        goes_on(&workload)?;
        let report = settle(bench, workload, &[0, 1, 2])?;
        let reads = &report.reads[&2];
        ensure!(reads.failed == 0, "{reads:?}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root: makes network namespaces and mounts a tmpfs"]
fn a_disk_that_is_full_from_one_moment_to_the_next_costs_a_restart_and_nothing_else() {
    let mut plans = NodePlan::cluster(3, 0);
    plans[2].disk = Some(96);
    on_formed(plans, |bench| {
        let workload = load(bench, &[0, 1, 2], &[])?;
        bench.node(2)?.disk()?.fill()?;
        let client = bench.client(2)?.patience(LIMIT);
        let mut count = 0;
        wait_until("a write is refused, or the node is gone", LIMIT, || {
            count += 1;
            let body = json!({"pool_id": POOL, "subscriber_id": format!("full-{count}")});
            let answer = client.post("/api/v1/allocate", &body);
            Ok((!answer.is_ok_and(|answer| answer.status < 300)).then_some(()))
        })?;
        goes_on(&workload)?;
        bench.node(2)?.disk()?.empty()?;
        bench.node_mut(2)?.stop_or_ended()?;
        bench.node_mut(2)?.start()?;
        wait_until("a write is taken again", LIMIT, || {
            count += 1;
            let body = json!({"pool_id": POOL, "subscriber_id": format!("room-{count}")});
            Ok((client.post("/api/v1/allocate", &body)?.status == 201).then_some(()))
        })?;
        goes_on(&workload)?;
        settle(bench, workload, &[0, 1, 2]).map(drop)
    });
}
