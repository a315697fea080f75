//! Whole clusters in one process: real openraft, real files, a channel network that can be cut.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

#[path = "cluster/ledger.rs"]
#[allow(dead_code, reason = "each test program uses its part")]
mod ledger;
#[path = "cluster/net.rs"]
#[allow(dead_code, reason = "each test program uses its part")]
mod net;

use std::time::Duration;

use ledger::{Op, read};
use net::{Cluster, Net, Node, SOON, eventually};
use nexus_quorum::{Limits, ProposeError, QuorumError};

fn add(by: i64) -> Op {
    Op::Add("n".to_owned(), by)
}

#[test]
fn a_single_node_founds_a_cluster_and_keeps_what_it_answered() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::new(&Net::default(), directory.path(), 7);
    node.start().unwrap();
    assert_eq!(node.propose(&add(1)), Err(ProposeError::NotMember));
    node.found().unwrap();
    for expected in 1..=20 {
        let applied = node.propose(&add(1)).unwrap();
        assert_eq!(read(&applied.answer), (true, expected));
        assert_eq!(applied.ordinal, u64::try_from(expected).unwrap());
    }
    assert!(matches!(node.found(), Err(QuorumError::AlreadyMember)));
    node.stop();
    node.start().unwrap();
    assert_eq!(
        node.ledger.counter("n"),
        20,
        "all of it is there when `open` returns"
    );
    assert_eq!(read(&node.propose(&add(1)).unwrap().answer), (true, 21));
    assert!(matches!(node.found(), Err(QuorumError::AlreadyMember)));
}

#[test]
fn three_nodes_elect_replicate_and_forward() {
    let cluster = Cluster::of(3);
    cluster.leader_of_all();
    for round in 0..5 {
        for number in 1..=3 {
            let applied = cluster.nodes[&number].propose(&add(1)).unwrap();
            let expected = i64::from(round * 3 + number);
            assert_eq!(read(&applied.answer), (true, expected));
            assert_eq!(
                cluster.nodes[&number].ledger.counter("n"),
                expected,
                "applied where it was proposed"
            );
        }
    }
    cluster.expect_equal();
}

#[test]
fn a_leader_that_dies_is_replaced_and_catches_up_when_it_is_back() {
    let mut cluster = Cluster::of(3);
    for round in 0..3 {
        let leader = cluster.leader_of_all();
        cluster.nodes.get_mut(&leader).unwrap().kill();
        let others: Vec<u32> = cluster.up().map(|node| node.number).collect();
        for number in &others {
            cluster.nodes[number].propose(&add(1)).unwrap();
        }
        assert_ne!(cluster.leader(&others), leader);
        cluster.nodes.get_mut(&leader).unwrap().start().unwrap();
        let expected = 2 * (round + 1);
        eventually("the old leader catches up", || {
            (cluster.nodes[&leader].ledger.counter("n") == expected).then_some(())
        });
        cluster.expect_equal();
    }
}

#[test]
fn a_minority_cannot_commit_and_says_so() {
    let cluster = Cluster::of(3);
    let leader = cluster.leader_of_all();
    let others: Vec<u32> = (1..=3).filter(|number| *number != leader).collect();
    cluster.net.split(&[leader], &others);
    let patience = Duration::from_millis(300);
    // At first it does not know that it is alone.
    let first = cluster.nodes[&leader].propose_for(&add(100), patience);
    assert!(
        matches!(first, Err(ProposeError::Timeout | ProposeError::NoLeader)),
        "{first:?}"
    );
    eventually("the old leader notices", || {
        cluster.nodes[&leader]
            .status()
            .leader
            .is_none()
            .then_some(())
    });
    assert_eq!(
        cluster.nodes[&leader].propose_for(&add(1000), patience),
        Err(ProposeError::NoLeader)
    );
    cluster.leader(&others);
    cluster.nodes[&others[0]].propose(&add(1)).unwrap();
    cluster.net.heal();
    cluster.leader_of_all();
    cluster.nodes[&leader].propose(&add(1)).unwrap();
    let counter = cluster.nodes[&leader].ledger.counter("n");
    // What was certainly not done is not; what nobody knew may be, once.
    assert!([2, 102].contains(&counter), "{counter}");
    cluster.expect_equal();
}

#[test]
fn without_a_majority_nothing_is_granted_and_with_it_all_goes_on() {
    let mut cluster = Cluster::of(5);
    cluster.nodes[&1].propose(&add(1)).unwrap();
    for number in [3, 4, 5] {
        cluster.nodes.get_mut(&number).unwrap().kill();
    }
    for number in [1, 2] {
        eventually("no leader", || {
            cluster.nodes[&number]
                .status()
                .leader
                .is_none()
                .then_some(())
        });
        let refused = cluster.nodes[&number].propose_for(&add(100), Duration::from_millis(200));
        assert_eq!(refused, Err(ProposeError::NoLeader));
    }
    cluster.nodes.get_mut(&3).unwrap().start().unwrap();
    assert_eq!(
        read(&cluster.nodes[&1].propose(&add(1)).unwrap().answer),
        (true, 2)
    );
    for number in [4, 5] {
        cluster.nodes.get_mut(&number).unwrap().start().unwrap();
    }
    cluster.leader_of_all();
    cluster.expect_equal();
}

#[test]
fn all_nodes_restart_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::of(3);
    for turn in 1..=3 {
        for number in 1..=3 {
            cluster.nodes[&number].propose(&add(1)).unwrap();
        }
        for node in cluster.nodes.values_mut() {
            if turn == 2 { node.stop() } else { node.kill() }
        }
        for node in cluster.nodes.values_mut() {
            node.start().unwrap();
        }
        assert_eq!(
            read(&cluster.nodes[&1].propose(&add(0)).unwrap().answer),
            (true, 3 * turn)
        );
        cluster.expect_equal();
    }
}

#[test]
fn the_log_stays_bounded_over_fifty_thousand_commands() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::new(&Net::default(), directory.path(), 1);
    node.limits = Limits {
        snapshot_entries: 64,
        keep_entries: 16,
        ..Limits::default()
    };
    node.start().unwrap();
    node.found().unwrap();
    let quorum = node.quorum().clone();
    node.run(move |_| async move {
        let mut tasks = Vec::new();
        for _ in 0..500 {
            let quorum = quorum.clone();
            tasks.push(tokio::spawn(async move {
                for _ in 0..100 {
                    quorum.propose(add(1).bytes(), SOON).await.unwrap();
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert_eq!(node.ledger.counter("n"), 50_000);
    let status = node.status();
    assert!(status.log_bytes < 2 << 20, "{status:?}");
    assert!(std::fs::metadata(&node.path).unwrap().len() < 16 << 20);
    node.kill();
    node.start().unwrap();
    // The last of it is agreed on anew after a crash.
    eventually("all of it", || {
        (node.ledger.counter("n") == 50_000).then_some(())
    });
}
