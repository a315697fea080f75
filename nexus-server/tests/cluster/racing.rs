//! Servers that allocate from one pool at once: they get out of each other's way.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use nexus_testkit::cluster::{Answer, Client, LIMIT, Load, NodePlan, Outcome, Workload};
use nexus_testkit::interrupt::wait_until;
use serde_json::{Value, json};

use super::formed::{on_formed, settle};
use super::stage::{POOL, metric};

/// Clients that allocate at once.
const CLIENTS: u32 = 12;
/// Subscribers that ask everywhere.
const ROUNDS: usize = 60;

#[test]
#[ignore = "needs root: makes network namespaces"]
fn servers_that_allocate_from_one_pool_at_once_seldom_try_the_same_unit() {
    on_formed(NodePlan::cluster(3, 0), |bench| {
        let load = Load {
            olts: 0,
            centrals: CLIENTS.try_into()?,
            pause: Duration::ZERO,
            ..Load::new(POOL, &[0, 1, 2], &[])
        };
        let workload = Workload::start(bench, &load)?;
        workload.wait_progress(500, LIMIT)?;
        let report = settle(bench, workload, &[0, 1, 2])?;
        // Nobody is told that what another server has answered is not there.
        let refused = report
            .history
            .count(|outcome| matches!(outcome, Outcome::Refused(_)));
        ensure!(refused == 0, "{}", report.history.brief());
        let mut lost = 0.0;
        for place in [0, 1, 2] {
            lost += metric(bench, place, "nexus_allocation_races_lost_total")?;
        }
        eprintln!("{lost} races lost");
        // Each may lose a few until the servers have found places of their own; of 500 without that, about 450.
        ensure!(
            lost <= f64::from(5 * CLIENTS),
            "{lost} times two servers tried the same unit"
        );
        Ok(())
    });
}

/// Asks until something was decided, as a client is to do that gets a 503.
fn until_told(client: &Client, body: &Value) -> Result<Answer> {
    wait_until("an answer other than 503", LIMIT, || {
        let answer = client.post("/api/v1/allocate", body)?;
        Ok((answer.status != 503).then_some(answer))
    })
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_subscriber_that_asks_all_servers_at_once_gets_one_address_and_any_server_ends_it() {
    on_formed(NodePlan::cluster(3, 0), |bench| {
        let client = |place| anyhow::Ok(bench.client(place)?.patience(LIMIT));
        let clients: [Client; 3] = [client(0)?, client(1)?, client(2)?];
        for round in 0..ROUNDS {
            let name = format!("everywhere-{round}");
            let body = json!({"pool_id": POOL, "subscriber_id": name});
            let answers: Vec<Answer> = std::thread::scope(|scope| {
                let asked = clients
                    .iter()
                    .map(|client| scope.spawn(|| until_told(client, &body)));
                let asked: Vec<_> = asked.collect();
                asked
                    .into_iter()
                    .map(|thread| thread.join().expect("a client panicked"))
                    .collect::<Result<_>>()
            })?;
            let told: BTreeSet<&str> = answers
                .iter()
                .filter_map(|answer| answer.body.pointer("/allocation/resource")?.as_str())
                .collect();
            ensure!(told.len() == 1, "{name} was told of {told:?}: {answers:?}");
            for answer in &answers {
                ensure!([200, 201].contains(&answer.status), "{name}: {answer:?}");
            }
            let path = format!("/api/v1/allocate/{name}?pool_id={POOL}");
            let place: usize = round % clients.len();
            let ended = clients[place].delete(&path)?;
            // A majority that takes its time gives a 503.
            ensure!(
                [200, 503].contains(&ended.status),
                "{name} at {place}: {ended:?}"
            );
            if ended.status == 503 {
                wait_until("it has ended", LIMIT, || {
                    Ok([200, 404]
                        .contains(&clients[place].delete(&path)?.status)
                        .then_some(()))
                })?;
            }
        }
        bench.wait_converged(&[0, 1, 2], LIMIT)?;
        for client in &clients {
            let left: Vec<Value> = client
                .allocations()?
                .into_iter()
                .filter(|allocation| allocation["state"] == "active")
                .collect();
            ensure!(left.is_empty(), "not ended: {left:?}");
        }
        Ok(())
    });
}
