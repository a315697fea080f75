//! Watchers on every node see every change once and in order, whatever happens to the nodes meanwhile.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use nexus_testkit::cluster::{Follower, LIMIT, NodePlan};

use super::formed::{on_formed, settle};
use super::stage::{POOL, goes_on, load};

const ALL: [usize; 4] = [0, 1, 2, 3];

#[test]
#[ignore = "needs root: makes network namespaces"]
fn watchers_see_every_change_once_and_in_order_across_cuts_and_restarts() {
    on_formed(NodePlan::cluster(3, 1), |bench| {
        let workload = load(bench, &[0, 1, 2], &[])?;
        let followers = ALL
            .iter()
            .map(|place| Follower::start(bench, *place, "olt-a-0"))
            .collect::<Result<Vec<_>>>()?;
        goes_on(&workload)?;
        bench.network().cut(&[0], &[1, 2])?;
        goes_on(&workload)?;
        bench.network().heal()?;
        bench.node_mut(1)?.kill()?;
        goes_on(&workload)?;
        bench.node_mut(1)?.start()?;
        goes_on(&workload)?;
        settle(bench, workload, &ALL)?;
        for (place, follower) in ALL.into_iter().zip(followers) {
            let list = bench
                .client(place)?
                .get("/api/v1/allocations?olt_id=olt-a-0&limit=1000")?
                .ok()?;
            let rows = list["allocations"].as_array().context("no list")?;
            let text =
                |row: &serde_json::Value, field: &str| row[field].as_str().unwrap().to_owned();
            let held: BTreeMap<String, String> = rows
                .iter()
                .filter(|row| row["pool_id"] == POOL)
                .map(|row| (text(row, "resource"), text(row, "subscriber_id")))
                .collect();
            let followed = follower
                .finish(&held, LIMIT)
                .with_context(|| format!("on node {place}"))?;
            eprintln!(
                "node {place}: {} changes, {} snapshots, {} streams",
                followed.changes, followed.snapshots, followed.streams
            );
            ensure!(followed.changes > 0, "it saw no change");
            // Only a node that lost what it had in memory may say: start over.
            let most = if place == 1 { 2 } else { 1 };
            ensure!(
                followed.snapshots <= most,
                "told to start over: {followed:?}"
            );
        }
        Ok(())
    });
}
