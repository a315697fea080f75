//! Peers that send nonsense, and messages in names they were not sent in.
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

use ledger::Op;
use net::{Cluster, Node, eventually};
use nexus_quorum::Limits;
use rand::Rng as _;

fn add(by: i64) -> Op {
    Op::Add("n".to_owned(), by)
}

fn answer(node: &Node, from: u32, message: Vec<u8>) -> Vec<u8> {
    node.run(move |quorum| async move { quorum.answer(from, message).await })
}

/// A cluster that has said one thing of each kind, and what it said.
fn talkative() -> (Cluster, Vec<(u32, u32, Vec<u8>)>) {
    let limits = Limits {
        snapshot_entries: 10,
        keep_entries: 2,
        ..Limits::default()
    };
    let mut cluster = Cluster::with(1, limits);
    for _ in 0..30 {
        cluster.nodes[&1].propose(&add(1)).unwrap();
    }
    cluster.net.listen();
    for number in [2, 3] {
        cluster.add(number, limits);
        cluster.admit(number);
    }
    let leader = cluster.leader_of_all();
    for number in 1..=3 {
        cluster.nodes[&number].propose(&add(1)).unwrap();
    }
    // A change that a follower asks the leader for, and its undoing.
    let follower = &cluster.nodes[&(leader % 3 + 1)];
    eventually("a learner", || {
        follower
            .run(|quorum| async move { quorum.add_learner(77).await })
            .ok()
    });
    eventually("none", || {
        follower
            .run(|quorum| async move { quorum.remove(77).await })
            .ok()
    });
    cluster.nodes.get_mut(&leader).unwrap().kill();
    cluster.nodes.get_mut(&leader).unwrap().start().unwrap();
    cluster.leader_of_all();
    let mut heard = cluster.net.heard();
    heard.retain(|(_, to, _)| *to != 77);
    assert!(heard.len() > 20, "{}", heard.len());
    (cluster, heard)
}

#[test]
fn noise_and_messages_in_wrong_names_change_nothing() {
    let (cluster, heard) = talkative();
    let leader = cluster.leader_of_all();
    let before = cluster.nodes[&leader].status();
    cluster.expect_equal();
    let counter = cluster.nodes[&1].ledger.counter("n");
    let mut rng = rand::rng();
    for round in 0..3000 {
        let victim = &cluster.nodes[&rng.random_range(1..=3)];
        let (from, _, mut message) = heard[rng.random_range(0..heard.len())].clone();
        match round % 4 {
            // Noise.
            0 => {
                message = (0..rng.random_range(0..200))
                    .map(|_| rng.random())
                    .collect()
            }
            // Cut short.
            1 => message.truncate(rng.random_range(0..message.len())),
            // Too long.
            2 => message.extend((0..rng.random_range(1..50)).map(|_| rng.random::<u8>())),
            // Whole, but in the name of another, or in the victim's own.
            _ => {
                let other = (1..=4)
                    .filter(|number| *number != from)
                    .nth(rng.random_range(0..3))
                    .unwrap();
                // What binds nobody may be asked by anybody.
                if message.len() < 60 {
                    continue;
                }
                assert!(!answer(victim, other, message).is_empty());
                continue;
            }
        }
        assert!(
            !answer(victim, from, message).is_empty(),
            "there is always an answer"
        );
    }
    assert_eq!(cluster.nodes[&leader].status().voters, before.voters);
    for number in 1..=3 {
        cluster.nodes[&number].propose(&add(1)).unwrap();
    }
    cluster.expect_equal();
    assert_eq!(
        cluster.nodes[&1].ledger.counter("n"),
        counter + 3,
        "nothing was carried out"
    );
}

#[test]
fn old_messages_again_and_in_any_order_change_nothing() {
    let (cluster, heard) = talkative();
    let mut rng = rand::rng();
    cluster.expect_equal();
    let counter = cluster.nodes[&1].ledger.counter("n");
    for _ in 0..2000 {
        let (from, to, message) = heard[rng.random_range(0..heard.len())].clone();
        answer(&cluster.nodes[&to], from, message);
    }
    cluster.leader_of_all();
    for number in 1..=3 {
        cluster.nodes[&number].propose(&add(1)).unwrap();
    }
    cluster.expect_equal();
    assert_eq!(
        cluster.nodes[&1].ledger.counter("n"),
        counter + 3,
        "nothing was carried out again"
    );
}

/// A member that lies is not what Raft protects from: it may bring a node to a stop. Never the process.
#[test]
fn flipped_bytes_from_a_true_member_end_in_an_answer() {
    let (cluster, heard) = talkative();
    let victim = &cluster.nodes[&2];
    let mut rng = rand::rng();
    let mine: Vec<_> = heard.into_iter().filter(|(_, to, _)| *to == 2).collect();
    for _ in 0..1500 {
        let (from, _, mut message) = mine[rng.random_range(0..mine.len())].clone();
        for _ in 0..rng.random_range(1..4) {
            let place = rng.random_range(0..message.len());
            message[place] ^= rng.random_range(1..=255_u8);
        }
        assert!(
            !answer(victim, from, message).is_empty(),
            "there is always an answer"
        );
    }
    println!("stopped: {:?}", victim.status().stopped);
    // Whatever it believes now, it still says where it stands.
    eventually("a status", || Some(victim.status()));
}

#[test]
fn who_is_no_member_changes_nothing_and_proposes_nothing() {
    let (mut cluster, heard) = talkative();
    let leader = cluster.leader_of_all();
    // Number 9 has the messages of a member: it knows the cluster's name, and says the same in its own name.
    cluster.add(9, Limits::default());
    let before = (
        cluster.nodes[&leader].status().voters,
        cluster.expect_equal_of(&[1, 2, 3]),
    );
    // Backwards, so that what was undone would be done again.
    for (_, _, message) in heard.into_iter().rev() {
        answer(&cluster.nodes[&leader], 9, message);
    }
    assert_eq!(
        (
            cluster.nodes[&leader].status().voters,
            cluster.expect_equal_of(&[1, 2, 3])
        ),
        before
    );
    assert!(cluster.nodes[&leader].status().learners.is_empty());
}
