//! Links that are cut, in both directions and in one, and what the two sides do meanwhile.

use anyhow::{Context as _, Result, ensure};
use nexus_testkit::cluster::{ClusterBench, LIMIT, NodePlan, PoolPlan};
use nexus_testkit::interrupt::wait_until;

use super::formed::{on_formed, settle};
use super::stage::{goes_on, load};

/// Three core nodes (0, 1, 2) and two read nodes (3, 4).
const ALL: [usize; 5] = [0, 1, 2, 3, 4];

/// A pool apart from that of the load.
fn another(id: &str, third: u8) -> PoolPlan {
    PoolPlan {
        id: id.to_owned(),
        cidr: format!("172.16.{third}.0/24"),
        shard_size: 26,
    }
}

/// The core nodes but this one.
fn others(of: usize) -> Vec<usize> {
    [0, 1, 2].into_iter().filter(|at| *at != of).collect()
}

/// Creates a pool at whichever of these nodes takes it: after a change of leaders that may take a moment.
fn create_at_one(bench: &ClusterBench, places: &[usize], pool: &PoolPlan) -> Result<()> {
    let mut last = String::new();
    wait_until("a pool is created", LIMIT, || {
        for place in places {
            match pool.create(&bench.client(*place)?) {
                Ok(()) => return Ok(Some(())),
                // An earlier attempt of which nobody knew what became of it.
                Err(error) if error.to_string().contains("pool-exists") => return Ok(Some(())),
                Err(error) => last = error.to_string(),
            }
        }
        Ok(None)
    })
    .context(last)
}

fn has_pool(bench: &ClusterBench, place: usize, id: &str) -> Result<bool> {
    let pools = bench.client(place)?.get("/api/v1/pools")?.ok()?;
    Ok(pools.to_string().contains(&format!("\"{id}\"")))
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_majority_decides_and_a_minority_does_not_and_healed_they_agree() {
    on_formed(NodePlan::cluster(3, 2), |bench| {
        let workload = load(bench, &[0, 1, 2], &ALL)?;
        for round in 0..2_u8 {
            let away = bench.wait_leader(&ALL, LIMIT)?;
            let rest = others(away);
            bench.network().cut(&[away, 4], &[rest[0], rest[1], 3])?;
            goes_on(&workload)?;
            let decided = format!("decided-{round}");
            create_at_one(bench, &rest, &another(&decided, round))?;
            let refused = another(&format!("minority-{round}"), 100 + round)
                .create(&bench.client(away)?.patience(LIMIT));
            ensure!(refused.is_err(), "one of three has decided alone");
            ensure!(
                !has_pool(bench, away, &decided)?,
                "the cut is none: {decided} has crossed it"
            );
            goes_on(&workload)?;
            bench.network().heal()?;
            bench.wait_together(&ALL, LIMIT)?;
            for place in ALL {
                wait_until(&format!("node {place} has {decided}"), LIMIT, || {
                    Ok(has_pool(bench, place, &decided)?.then_some(()))
                })?;
            }
        }
        let report = settle(bench, workload, &ALL)?;
        for (place, reads) in &report.reads {
            ensure!(
                reads.failed == 0,
                "node {place} did not serve reads while it was cut off: {reads:?}"
            );
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_leader_that_is_not_heard_is_replaced_and_one_that_is_deaf_does_no_harm() {
    on_formed(NodePlan::cluster(3, 2), |bench| {
        let workload = load(bench, &[0, 1, 2], &[])?;
        for (round, mute) in [(0, true), (1, false)] {
            let odd = bench.wait_leader(&ALL, LIMIT)?;
            for other in ALL.into_iter().filter(|at| *at != odd) {
                if mute {
                    bench.network().cut_one_way(odd, other)?;
                } else {
                    bench.network().cut_one_way(other, odd)?;
                }
            }
            goes_on(&workload)?;
            create_at_one(
                bench,
                &others(odd),
                &another(&format!("one-way-{round}"), round),
            )?;
            goes_on(&workload)?;
            bench.network().heal()?;
            bench.wait_together(&ALL, LIMIT)?;
        }
        settle(bench, workload, &ALL).map(drop)
    });
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn one_link_that_is_cut_in_one_direction_keeps_nobody_from_anything() {
    on_formed(NodePlan::cluster(3, 2), |bench| {
        let workload = load(bench, &[0, 1, 2], &[])?;
        for (from, to) in [(1, 2), (2, 1), (0, 3), (3, 0)] {
            bench.network().cut_one_way(from, to)?;
            goes_on(&workload)?;
        }
        bench.network().heal()?;
        settle(bench, workload, &ALL).map(drop)
    });
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_slow_line_and_a_long_one_only_take_longer() {
    on_formed(NodePlan::cluster(3, 2), |bench| {
        let workload = load(bench, &[0, 1, 2], &[])?;
        bench
            .network()
            .delay(4, std::time::Duration::from_millis(150))?;
        bench.network().limit_rate(2, Some("4mbit"))?;
        goes_on(&workload)?;
        goes_on(&workload)?;
        let report = settle(bench, workload, &ALL)?;
        ensure!(report.history.acknowledged() > 100);
        Ok(())
    });
}
