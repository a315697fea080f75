//! Processes that are killed, stopped, and restarted one after the other, under load.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nexus_clset::Fence;
use nexus_testkit::cluster::{ClusterBench, LIMIT, Load, NodePlan, Outcome, Workload};
use nexus_testkit::interrupt::wait_until;
use serde_json::{Value, json};

use super::formed::{on_formed, settle};
use super::planted::copy_entry;
use super::stage::{POOL, goes_on, load, metric, verify};

const ALL: [usize; 5] = [0, 1, 2, 3, 4];
const CORE: [usize; 3] = [0, 1, 2];

/// Places of nodes in an order that looks like chance and is the same in every run.
const CHANCE: [usize; 8] = [2, 0, 4, 1, 2, 3, 0, 1];

#[test]
#[ignore = "needs root: makes network namespaces"]
fn nodes_that_are_killed_at_random_lose_nothing_that_was_acknowledged() {
    on_formed(NodePlan::cluster(3, 2), |bench| {
        let workload = load(bench, &CORE, &[])?;
        for place in CHANCE {
            bench.node_mut(place)?.kill()?;
            goes_on(&workload)?;
            bench.node_mut(place)?.start()?;
            goes_on(&workload)?;
        }
        settle(bench, workload, &ALL).map(drop)
    });
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn all_nodes_killed_at_once_come_back_with_everything() {
    on_formed(NodePlan::cluster(3, 2), |bench| {
        let workload = load(bench, &CORE, &[])?;
        for place in ALL {
            bench.node_mut(place)?.kill()?;
        }
        for place in ALL {
            bench.node_mut(place)?.start()?;
        }
        goes_on(&workload)?;
        settle(bench, workload, &ALL).map(drop)
    });
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_leader_that_hangs_is_replaced_and_hands_out_nothing_twice_when_it_goes_on() {
    on_formed(NodePlan::cluster(3, 2), |bench| {
        let workload = load(bench, &CORE, &[])?;
        for _ in 0..2 {
            let leader = bench.wait_leader(&ALL, LIMIT)?;
            bench.node_mut(leader)?.pause()?;
            let rest: Vec<usize> = ALL.into_iter().filter(|at| *at != leader).collect();
            let next = wait_until("another leads", LIMIT, || {
                let now = bench.status(rest[0])?.leader;
                let changed = now.is_some_and(|now| now != format!("n{}", leader + 1));
                Ok(changed.then_some(()))
            });
            next.context("the one that hangs was not replaced")?;
            goes_on(&workload)?;
            bench.node_mut(leader)?.resume()?;
            goes_on(&workload)?;
        }
        settle(bench, workload, &ALL).map(drop)
    });
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_rolling_restart_under_load_loses_nothing_and_reads_are_served_meanwhile() {
    on_formed(NodePlan::cluster(3, 2), |bench| {
        let workload = load(bench, &CORE, &[])?;
        for place in ALL {
            let (status, _) = bench.node_mut(place)?.stop()?;
            ensure!(status.success(), "node {place} ended with {status}");
            for other in ALL.into_iter().filter(|at| *at != place) {
                let read = bench.client(other)?.get("/api/v1/allocations?limit=10")?;
                ensure!(
                    read.status == 200,
                    "node {other} does not serve reads: {read:?}"
                );
            }
            goes_on(&workload)?;
            bench.node_mut(place)?.start()?;
            // The next one goes when this one is back, as Kubernetes does it.
            wait_until("ready", LIMIT, || {
                let ready = bench.client(place)?.get("/ready");
                Ok(ready.is_ok_and(|answer| answer.status == 200).then_some(()))
            })?;
        }
        goes_on(&workload)?;
        settle(bench, workload, &ALL).map(drop)
    });
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn who_goes_in_peace_leaves_everything_that_it_accepted_with_another() {
    on_formed(NodePlan::cluster(3, 0), |bench| {
        // Only node 2 is written to, so that everything has to go through it.
        let workload = load(bench, &[2], &[])?;
        goes_on(&workload)?;
        let report = {
            let stop = std::thread::scope(|scope| {
                let stopping = scope.spawn(|| bench.node_mut(2)?.stop());
                // The load ends while the node does: what it was told last is what matters.
                std::thread::sleep(Duration::from_millis(200));
                let report = workload.stop();
                (stopping.join().unwrap(), report)
            });
            let (stopped, report) = stop;
            let (status, took) = stopped?;
            eprintln!("it went after {took:?} with {status}");
            ensure!(status.success(), "it ended with {status}");
            report?
        };
        // It does not come back. What it acknowledged is on the others, now or after they have talked.
        bench.wait_same(&[0, 1], LIMIT)?;
        wait_until("one peer is left", LIMIT, || {
            let peers = metric(bench, 0, "nexus_clset_peers_total")?;
            Ok(((peers - 1.0).abs() < 0.5).then_some(()))
        })?;
        verify(bench, &report, &[0, 1])
    });
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn who_goes_unheard_says_what_it_alone_has_and_brings_it_back() {
    on_formed(NodePlan::cluster(3, 0), |bench| {
        let workload = load(bench, &[2], &[])?;
        bench.network().isolate(2)?;
        // What it takes now, it takes alone; nobody is told that it is done.
        std::thread::sleep(Duration::from_secs(3));
        let report = workload.stop()?;
        let before = bench.node(2)?.log().len();
        bench.node_mut(2)?.stop()?;
        let said = bench.node(2)?.log().split_off(before);
        ensure!(
            said.contains("WARN") || said.contains("ERROR"),
            "it alone has some of what it accepted, and did not say so: {said}"
        );
        bench.network().heal()?;
        bench.node_mut(2)?.start()?;
        bench.wait_converged(&CORE, LIMIT)?;
        verify(bench, &report, &CORE)?;
        displaced_is_seen(bench)
    });
}

/// The last node is stopped, and comes back with an entry in the place of another OLT's, under the same epoch, as if
/// both had claimed one resource on servers that had not heard of each other. Nothing of the load is right after that.
fn displaced_is_seen(bench: &mut ClusterBench) -> Result<()> {
    let rows = bench.client(0)?.allocations()?;
    let of_olts = || rows.iter().filter(|row| row["olt_id"] != "nexus");
    let before = of_olts().next().context("no OLT holds anything")?;
    let after = of_olts()
        .find(|row| row["olt_id"] != before["olt_id"] && row["epoch"] == before["epoch"])
        .context("only one OLT holds anything")?;
    let key = |row: &Value| {
        let resource = row["resource"].as_str().unwrap_or_default();
        format!("/allocations/default/ipv4/{resource}")
    };
    let number = |field: &str| before[field].as_u64().context("no number");
    let fence = Fence {
        epoch: number("epoch")?,
        seq: number("seq")? + 1,
    };
    bench.node_mut(2)?.stop()?;
    copy_entry(&bench.node(2)?.store(), &key(after), &key(before), fence);
    bench.node_mut(2)?.start()?;
    let holder =
        |row: &Value| json!({"subscriber_id": row["subscriber_id"], "olt_id": row["olt_id"]});
    let expected = json!([{
        "vrf": "default", "resource": before["resource"], "kind": "displaced",
        "holders": [holder(after), holder(before)],
    }]);
    for place in [0, 1] {
        let found = wait_until("the displaced one is named", LIMIT, || {
            let audit = bench.client(place)?.get("/api/v1/audit")?.ok()?;
            let found = audit["duplicates"].clone();
            Ok((found != json!([])).then_some(found))
        })?;
        ensure!(found == expected, "{found} is not {expected}");
        let count = metric(bench, place, "nexus_duplicate_allocations")?;
        ensure!((count - 1.0).abs() < 0.5, "node {place} counts {count}");
    }
    Ok(())
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn two_of_three_gone_means_no_decisions_and_no_lies() {
    on_formed(NodePlan::cluster(3, 1), |bench| {
        let workload = load(bench, &CORE, &[])?;
        bench.node_mut(0)?.kill()?;
        bench.node_mut(1)?.kill()?;
        // What clients try meanwhile is not acknowledged by one of three, or is found on all of them in the end.
        std::thread::sleep(Duration::from_secs(3));
        let report = workload.stop()?;
        let pool = serde_json::json!({"id": "late", "type": "ipv4", "cidr": "172.16.0.0/24"});
        let refused = bench
            .client(2)?
            .patience(LIMIT)
            .post("/api/v1/pools", &pool)?;
        ensure!(
            refused.status == 503,
            "one of three has decided: {refused:?}"
        );
        bench.node_mut(0)?.start()?;
        bench.node_mut(1)?.start()?;
        let again = Workload::start(
            bench,
            &Load {
                name: "b".to_owned(),
                ..Load::new(POOL, &CORE, &[])
            },
        )?;
        goes_on(&again)?;
        let later = settle(bench, again, &[0, 1, 2, 3])?;
        let unknown = later.history.count(|o| matches!(o, Outcome::Unknown(_)));
        eprintln!("{unknown} unknown after both were back");
        verify(bench, &report, &[0, 1, 2, 3])
    });
}
