//! A wall clock that is stepped on one node: it says so and stops writing, and nothing is lost or given out twice.

use anyhow::{Context as _, ensure};
use nexus_testkit::cluster::{LIMIT, NodePlan};
use nexus_testkit::interrupt::wait_until;
use serde_json::json;

use super::formed::{on_formed, settle};
use super::stage::{POOL, goes_on, load};

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_clock_that_is_an_hour_wrong_stops_the_writes_of_that_node_and_no_other() {
    let mut plans = NodePlan::cluster(3, 1);
    plans[1].own_clock = true;
    on_formed(plans, |bench| {
        let workload = load(bench, &[0, 1, 2], &[0, 1, 2, 3])?;
        let mut count = 0;
        for hour in [3600, -3600] {
            let mut write = |place: usize| {
                count += 1;
                let name = format!("clock-{count}");
                let body = json!({"pool_id": POOL, "subscriber_id": name});
                bench.client(place)?.post("/api/v1/allocate", &body)
            };
            bench.node(1)?.clock()?.step(hour)?;
            wait_until("a write is refused because of the clock", LIMIT, || {
                // One that was under way when the clock was stepped may get no answer.
                let refused = write(1).ok().filter(|answer| answer.status == 503);
                let detail = refused.map(|answer| answer.body["detail"].to_string());
                Ok(detail.filter(|detail| detail.contains("clock")))
            })
            .with_context(|| format!("with a clock that is {hour} s wrong"))?;
            for other in [0, 2] {
                wait_until("a write is taken by a right clock", LIMIT, || {
                    // A majority that takes its time gives a 503 of its own.
                    let answer = write(other)?;
                    let detail = answer.body["detail"].to_string();
                    ensure!(
                        !detail.contains("clock"),
                        "a right clock is blamed for a wrong one: {answer:?}"
                    );
                    Ok((answer.status == 201).then_some(()))
                })?;
            }
            goes_on(&workload)?;
            bench.node(1)?.clock()?.step(0)?;
            wait_until("a write is taken again", LIMIT, || {
                Ok(write(1)
                    .is_ok_and(|answer| answer.status == 201)
                    .then_some(()))
            })?;
            goes_on(&workload)?;
        }
        let report = settle(bench, workload, &[0, 1, 2, 3])?;
        for (place, reads) in &report.reads {
            ensure!(reads.failed == 0, "node {place}: {reads:?}");
        }
        Ok(())
    });
}
