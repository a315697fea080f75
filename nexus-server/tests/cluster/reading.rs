//! Read nodes: they serve what the others have, and send writers elsewhere.

use anyhow::{Context as _, ensure};
use nexus_testkit::cluster::{LIMIT, NodePlan};
use nexus_testkit::interrupt::wait_until;
use serde_json::json;

use super::formed::on_formed;
use super::stage::POOL;

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_read_node_refuses_a_write_and_names_who_takes_it() {
    on_formed(NodePlan::cluster(1, 1), |bench| {
        let body = json!({"pool_id": POOL, "subscriber_id": "sub-1"});
        let refused = bench.client(1)?.post("/api/v1/allocate", &body)?;
        ensure!(
            (refused.status, refused.problem()) == (403, "read-only-replica"),
            "{refused:?}"
        );
        let writers = refused.body["writers"].as_array().context("no writers")?;
        let writer = writers.first().and_then(|writer| writer.as_str());
        let writer = writer.context("an empty list of writers")?;
        let address = bench.node(0)?.address().to_string();
        ensure!(writer.contains(&address), "{writer} is not {address}");
        for (what, refused) in [
            (
                "a pool",
                bench.client(1)?.post(
                    "/api/v1/pools",
                    &json!({"id": "x", "type": "ipv4", "cidr": "172.16.0.0/24"}),
                )?,
            ),
            (
                "a release",
                bench.client(1)?.delete("/api/v1/allocate/sub-1")?,
            ),
        ] {
            ensure!(
                refused.problem() == "read-only-replica",
                "{what}: {refused:?}"
            );
        }
        let made = bench.client(0)?.post("/api/v1/allocate", &body)?;
        ensure!(made.status == 201, "{made:?}");
        let there = wait_until("the read node has it", LIMIT, || {
            let answer = bench.client(1)?.get("/api/v1/allocations/sub-1")?;
            Ok((answer.status == 200).then_some(answer.body))
        })?;
        ensure!(
            there["allocations"][0] == made.body["allocation"],
            "{there}"
        );
        Ok(())
    });
}
