//! How a cluster comes about: who gets in, who does not, who comes back.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nexus_testkit::cluster::{ClusterBench, ClusterKey, LIMIT, NodePlan, PoolPlan, Role, Status};
use nexus_testkit::interrupt::wait_until;
use serde_json::json;

use super::formed::{on_formed, settle};
use super::stage::{POOL, listings, load, metric, on};

const NEEDLE: &str = "needle-in-no-haystack";

#[test]
#[ignore = "needs root: makes network namespaces"]
fn three_core_and_two_read_nodes_form_a_cluster_and_hold_the_same() {
    on_formed(NodePlan::cluster(3, 2), |bench| {
        let workload = load(bench, &[0, 1, 2], &[0, 1, 2, 3, 4])?;
        let report = settle(bench, workload, &[0, 1, 2, 3, 4])?;
        for (place, reads) in &report.reads {
            ensure!(reads.failed == 0, "node {place}: {reads:?}");
        }
        let leader = bench.wait_leader(&[0, 1, 2, 3, 4], LIMIT)?;
        ensure!(leader < 3, "a read node leads");
        for place in 0..5 {
            let status = bench.status(place)?;
            ensure!(
                status.members.len() == 5,
                "node {place} knows {:?}",
                status.members
            );
            let peers = metric(bench, place, "nexus_clset_peers_total")?;
            ensure!((peers - 4.0).abs() < 0.5, "node {place} has {peers} peers");
            let asked = "nexus_clset_sync_duration_seconds";
            for series in [
                format!("{asked}_count"),
                format!("{asked}_sum"),
                format!("{asked}{{quantile=\"0.5\"}}"),
                format!("{asked}{{quantile=\"1\"}}"),
            ] {
                let value = metric(bench, place, &series)?;
                ensure!(value > 0.0, "{series} of node {place} is {value}");
            }
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_node_waits_at_the_door_until_the_operator_lets_it_in() {
    let mut plans = NodePlan::cluster(2, 0);
    plans[0].auto_admit = false;
    on(plans, |bench| {
        bench.start_all()?;
        PoolPlan::large(POOL).create(&bench.client(0)?)?;
        let seen = wait_until("n2 is seen at the door", LIMIT, || {
            let members = bench.client(0)?.get("/api/v1/cluster/members")?.ok()?;
            Ok(members.to_string().contains("pending").then_some(members))
        })?;
        ensure!(seen.to_string().contains("\"n2\""), "{seen}");
        let pools = bench.client(1)?.get("/api/v1/pools")?;
        ensure!(
            !pools.body.to_string().contains(POOL),
            "who is not let in reads the pools: {}",
            pools.body
        );
        let admitted = bench
            .client(0)?
            .post("/api/v1/cluster/members", &json!({"name": "n2"}))?;
        ensure!((200..300).contains(&admitted.status), "{admitted:?}");
        bench.wait_converged(&[0, 1], LIMIT)?;
        has_pool(bench, 1)
    });
}

/// Waits until the node has the pool.
fn has_pool(bench: &ClusterBench, place: usize) -> Result<()> {
    wait_until("the pool", LIMIT, || {
        let pools = bench.client(place)?.get("/api/v1/pools")?;
        Ok(pools.body.to_string().contains(POOL).then_some(()))
    })
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_stranger_with_another_key_neither_reads_nor_writes() {
    let mut plans = NodePlan::cluster(3, 0);
    plans.push(NodePlan {
        key: Some(ClusterKey::of_byte(0x66)),
        ..NodePlan::member(3, Role::Core)
    });
    on(plans, |bench| {
        for place in 0..3 {
            bench.node_mut(place)?.start()?;
        }
        bench.wait_converged(&[0, 1, 2], LIMIT)?;
        PoolPlan::large(POOL).create(&bench.client(0)?)?;
        let report = load(bench, &[0, 1, 2], &[])?.stop()?;
        bench.node_mut(3)?.launch()?;
        bench.node_mut(3)?.wait_answers(LIMIT)?;
        // It tries again and again; several of its attempts are over by then.
        let before = bench.network().bytes_from_peers(3)?;
        wait_until("the stranger is answered", LIMIT, || {
            let now = bench.network().bytes_from_peers(3)?;
            Ok((now > before.saturating_add(1000)).then_some(()))
        })?;
        std::thread::sleep(Duration::from_secs(5));
        for place in 0..3 {
            let status = bench.status(place)?;
            ensure!(
                status.member("n4").is_none(),
                "a stranger is a member: {status:?}"
            );
        }
        let there = bench.client(3)?.get("/api/v1/allocations?limit=10")?;
        ensure!(
            !there.body.to_string().contains(POOL),
            "a stranger reads: {}",
            there.body
        );
        bench.wait_converged(&[0, 1, 2], LIMIT)?;
        super::stage::verify(bench, &report, &[0, 1, 2])
    });
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_removed_node_does_not_come_back() {
    on_formed(NodePlan::cluster(3, 1), |bench| {
        let workload = load(bench, &[0, 1], &[])?;
        let removed = bench.client(0)?.delete("/api/v1/cluster/members/n4")?;
        ensure!((200..300).contains(&removed.status), "{removed:?}");
        gone(bench, "n4")?;
        bench.node_mut(3)?.stop_or_ended()?;
        bench.node_mut(3)?.launch()?;
        // Whatever it says of itself: what happens from now on does not reach it.
        PoolPlan {
            cidr: "172.16.0.0/16".to_owned(),
            shard_size: 20,
            ..PoolPlan::large(NEEDLE)
        }
        .create(&bench.client(0)?)?;
        std::thread::sleep(Duration::from_secs(5));
        gone(bench, "n4")?;
        if bench.node_mut(3)?.is_running()? {
            let there = bench.client(3)?.get("/api/v1/pools");
            let leaked = there.is_ok_and(|answer| answer.body.to_string().contains(NEEDLE));
            ensure!(!leaked, "a removed node still hears what is decided");
        }
        settle(bench, workload, &[0, 1, 2]).map(drop)
    });
}

/// Waits until no member of the three counts that node as one of them.
fn gone(bench: &ClusterBench, name: &str) -> Result<()> {
    let is_member = |status: &Status| {
        let member = status.member(name);
        member.is_some_and(|member| member.state != "removed")
    };
    wait_until("it is no member any more", LIMIT, || {
        let all: Vec<Status> = (0..3).map(|at| bench.status(at)).collect::<Result<_>>()?;
        Ok((!all.iter().any(is_member)).then_some(()))
    })
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_node_that_lost_its_disk_comes_back_under_a_new_number_with_everything() {
    on_formed(NodePlan::cluster(3, 1), |bench| {
        let workload = load(bench, &[0, 1], &[])?;
        for place in [2, 3] {
            let before = bench.status(place)?.number;
            bench.node_mut(place)?.kill()?;
            bench.node_mut(place)?.wipe()?;
            workload.wait_progress(50, LIMIT)?;
            bench.node_mut(place)?.start()?;
            // A name is taken as long as it may be somebody's: only the operator knows that the disk is lost.
            let name = bench.node(place)?.name().to_owned();
            let status = wait_until("it is a node that nobody knows", LIMIT, || {
                let said = bench.client(place)?.get("/api/v1/cluster")?.body;
                // A node that takes writes says with what it takes none now who has to do what.
                let writes = said["writes"].as_str().unwrap_or_default();
                let says = place != 2 || writes.contains(&format!("cluster remove {name}"));
                Ok((says && said["state"].is_null()).then_some(said))
            })?;
            ensure!(
                status["number"] != before,
                "the number {before} was used twice"
            );
            let path = format!("/api/v1/cluster/members/{name}");
            let removed = bench.client(0)?.patience(LIMIT).delete(&path)?;
            ensure!((200..300).contains(&removed.status), "{removed:?}");
            bench
                .wait_together(&[0, 1, place], LIMIT)
                .context("with the wiped one")?;
        }
        settle(bench, workload, &[0, 1, 2, 3])?;
        ensure!(!listings(bench, &[3])?[0].1.is_empty());
        Ok(())
    });
}
