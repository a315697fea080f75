//! Random lives of a cluster: writes, lost and repeated messages, crashes with lost tails, wiped disks,
//! wrong clocks and collected tombstones. In the end all replicas are alike, and nothing came back.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

#[path = "sim/cluster.rs"]
mod cluster;

use cluster::Cluster;
use nexus_clset::{EntryKind, Error, Fence, TOMBSTONE_AGE, Write};
use proptest::prelude::*;

const NODES: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Write {
        node: usize,
        key: u8,
        put: bool,
        fence: Fence,
    },
    WriteTwo {
        node: usize,
        put: bool,
    },
    Flush {
        node: usize,
        changes: usize,
    },
    Deliver {
        index: usize,
        keep: bool,
    },
    Pull {
        from: usize,
        to: usize,
        max_bytes: usize,
        answers: usize,
    },
    Crash(usize),
    Wipe(usize),
    Clock {
        node: usize,
        by: i64,
    },
    Age,
    Collect {
        node: usize,
        steps: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0..NODES;
    prop_oneof![
        8 => (node.clone(), 0..4_u8, any::<bool>(), (0..3_u64, 0..2_u64))
            .prop_map(|(node, key, put, (epoch, seq))| Step::Write { node, key, put, fence: Fence { epoch, seq } }),
        1 => (node.clone(), any::<bool>()).prop_map(|(node, put)| Step::WriteTwo { node, put }),
        6 => (node.clone(), 1..5_usize).prop_map(|(node, changes)| Step::Flush { node, changes }),
        8 => (any::<usize>(), any::<bool>()).prop_map(|(index, keep)| Step::Deliver { index, keep }),
        4 => (node.clone(), 1..NODES, 1..400_usize, 1..4_usize).prop_map(
            |(from, distance, max_bytes, answers)| Step::Pull {
                from,
                to: (from + distance) % NODES,
                max_bytes,
                answers,
            }
        ),
        1 => node.clone().prop_map(Step::Crash),
        1 => node.clone().prop_map(Step::Wipe),
        1 => (node.clone(), -100_000..100_000_i64).prop_map(|(node, by)| Step::Clock { node, by }),
        1 => Just(Step::Age),
        2 => (node, 0..3_usize).prop_map(|(node, steps)| Step::Collect { node, steps }),
    ]
}

fn run(cluster: &mut Cluster, step: &Step) {
    match *step {
        Step::Write {
            node,
            key,
            put,
            fence,
        } => {
            let key = [b'k', key];
            // Three keys without a fence, one with.
            let fence = if key[1] == 3 { fence } else { Fence::NONE };
            let value = format!("{node} {}", cluster.nodes[node].now);
            let write = Write {
                key: &key,
                value: put.then_some(value.as_bytes()),
                fence,
            };
            match cluster.write(node, &[write]) {
                Ok(()) | Err(Error::OlderFence { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        Step::WriteTwo { node, put } => {
            let value = put.then_some(&b"two"[..]);
            let write = |key| Write {
                key,
                value,
                fence: Fence::NONE,
            };
            cluster
                .write(node, &[write(b"k\0"), write(b"k\x01")])
                .unwrap();
        }
        Step::Flush { node, changes } => cluster.flush(node, changes),
        Step::Deliver { index, keep } => cluster.deliver(index, keep),
        Step::Pull {
            from,
            to,
            max_bytes,
            answers,
        } => {
            cluster.pull(from, to, max_bytes, answers);
        }
        Step::Crash(node) => cluster.crash(node),
        Step::Wipe(node) => cluster.wipe(node),
        Step::Clock { node, by } => {
            let now = &mut cluster.nodes[node].now;
            *now = now.saturating_add_signed(by);
        }
        Step::Age => {
            for node in &mut cluster.nodes {
                node.now += TOMBSTONE_AGE.as_millis() as u64 + 200_000;
            }
        }
        Step::Collect { node, steps } => cluster.collect(node, steps),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn any_life_of_a_cluster_ends_in_one_state(steps in prop::collection::vec(step(), 1..120)) {
        let mut cluster = Cluster::new(NODES as u32);
        for step in &steps {
            run(&mut cluster, step);
            cluster.check_seen();
            cluster.check_summaries();
        }
        // What is still in the network may arrive at any time.
        cluster.exchange_all();
        while !cluster.network.is_empty() {
            cluster.deliver(steps.len(), false);
        }
        cluster.exchange_all();
        cluster.check_seen();
        cluster.check_summaries();
        cluster.check_converged();
    }
}

#[test]
fn all_tombstones_are_gone_when_all_members_have_them_and_a_day_has_passed() {
    let mut cluster = Cluster::new(3);
    for n in 0..200_u16 {
        let key = n.to_be_bytes();
        cluster
            .write(usize::from(n) % 3, &[Write::put(&key, b"v", Fence::NONE)])
            .unwrap();
    }
    cluster.exchange_all();
    for n in 0..200_u16 {
        let key = n.to_be_bytes();
        cluster
            .write(usize::from(n / 7) % 3, &[Write::delete(&key, Fence::NONE)])
            .unwrap();
    }
    let late = std::mem::take(&mut cluster.network);
    cluster.exchange_all();
    cluster.collect(0, 100);
    assert_eq!(
        cluster.nodes[0].replica.fingerprint().count,
        200,
        "not old enough"
    );
    run(&mut cluster, &Step::Age);
    cluster.collect(0, 100);
    cluster.exchange_all();
    for node in &cluster.nodes {
        assert_eq!(node.replica.fingerprint(), Default::default());
    }
    // Old pushes that come now find nothing to bring back.
    cluster.network.extend(late);
    while !cluster.network.is_empty() {
        cluster.deliver(0, false);
    }
    cluster.exchange_all();
    for node in &cluster.nodes {
        assert_eq!(node.replica.fingerprint(), Default::default());
    }
    // A key that comes back stands above its collected tombstone everywhere.
    cluster
        .write(1, &[Write::put(&[0, 0], b"again", Fence::NONE)])
        .unwrap();
    cluster.exchange_all();
    for node in &cluster.nodes {
        let entry = node.replica.get_entry(&[0, 0]).unwrap().unwrap();
        assert!(entry.version.causal_length > 2 && entry.kind() == EntryKind::Put);
    }
}

#[test]
fn tombstones_wait_for_a_member_that_is_away() {
    let mut cluster = Cluster::new(3);
    cluster
        .write(0, &[Write::put(b"k", b"v", Fence::NONE)])
        .unwrap();
    cluster.exchange_all();
    cluster
        .write(0, &[Write::delete(b"k", Fence::NONE)])
        .unwrap();
    cluster.flush(0, 1);
    cluster.pull(0, 1, 1000, 1);
    run(&mut cluster, &Step::Age);
    // Node 2 is cut off and still has the value.
    cluster.collect(0, 10);
    assert_eq!(cluster.nodes[0].replica.fingerprint().count, 1);
    cluster.pull(0, 2, 1000, 1);
    cluster.collect(0, 10);
    assert_eq!(cluster.nodes[0].replica.fingerprint().count, 0);
    cluster.exchange_all();
    cluster.check_converged();
}

#[test]
fn a_newcomer_that_pulls_before_collected_tombstones_are_removed_still_writes_above_them() {
    let mut cluster = Cluster::new(3);
    cluster
        .write(0, &[Write::put(b"k", b"v", Fence::NONE)])
        .unwrap();
    cluster
        .write(0, &[Write::delete(b"k", Fence::NONE)])
        .unwrap();
    cluster.wipe(1);
    run(&mut cluster, &Step::Age);
    cluster.flush(0, 2);
    cluster.pull(0, 1, 1000, 1);
    cluster.pull(0, 2, 1000, 1);
    cluster.collect(1, 0);
    cluster.wipe(2);
    cluster.pull(1, 2, 1000, 1);
    cluster
        .write(2, &[Write::put(b"k", b"new", Fence::NONE)])
        .unwrap();
    cluster.check_seen();
    cluster.exchange_all();
    cluster.check_converged();
    assert_eq!(cluster.nodes[0].replica.get(b"k").unwrap().unwrap(), b"new");
}

#[test]
fn a_collected_tombstone_decides_nothing_even_where_it_was_not_removed_yet() {
    let mut cluster = Cluster::new(2);
    cluster
        .write(0, &[Write::put(b"k", b"v", Fence::epoch(7))])
        .unwrap();
    cluster
        .write(0, &[Write::delete(b"k", Fence::epoch(7))])
        .unwrap();
    cluster.exchange_all();
    run(&mut cluster, &Step::Age);
    // Both know that it is collected, only node 2 has removed it.
    cluster.collect(1, 10);
    cluster.flush(1, usize::MAX);
    cluster.pull(1, 0, 1000, 1);
    assert!(cluster.nodes[0].replica.get_entry(b"k").unwrap().is_some());
    // Its fence is forgotten with it.
    cluster
        .write(1, &[Write::put(b"k", b"anew", Fence::epoch(1))])
        .unwrap();
    cluster.pull(1, 0, 1000, 1);
    assert_eq!(
        cluster.nodes[0].replica.get(b"k").unwrap().unwrap(),
        b"anew"
    );
    cluster.exchange_all();
    cluster.check_converged();
}

#[test]
fn facts_that_come_while_a_newcomer_still_pulls_do_not_stop_it() {
    let mut cluster = Cluster::new(3);
    for key in [b"a", b"b", b"c"] {
        cluster
            .write(0, &[Write::put(key, b"v", Fence::NONE)])
            .unwrap();
    }
    cluster
        .write(0, &[Write::delete(b"b", Fence::NONE)])
        .unwrap();
    cluster.exchange_all();
    run(&mut cluster, &Step::Age);
    cluster.collect(0, 10);
    cluster.flush(0, usize::MAX);
    cluster.wipe(1);
    // Node 3 has not heard of the collection, node 1 has.
    cluster.pull(2, 1, 1, 1);
    cluster.pull(0, 1, 1, 1);
    cluster.exchange_all();
    cluster.check_converged();
    assert!(cluster.nodes.iter().all(|n| n.replica.is_complete()));
}

#[test]
fn a_put_wins_over_a_concurrent_delete_whatever_the_clocks_say() {
    for (putter, deleter) in [(0, 1), (1, 0)] {
        for ahead in [putter, deleter] {
            let mut cluster = Cluster::new(2);
            cluster
                .write(0, &[Write::put(b"k", b"old", Fence::NONE)])
                .unwrap();
            cluster.exchange_all();
            cluster.nodes[ahead].now += 1_000_000_000;
            cluster
                .write(putter, &[Write::put(b"k", b"new", Fence::NONE)])
                .unwrap();
            cluster
                .write(deleter, &[Write::delete(b"k", Fence::NONE)])
                .unwrap();
            cluster.exchange_all();
            for node in &cluster.nodes {
                assert_eq!(node.replica.get(b"k").unwrap().unwrap(), b"new");
            }
        }
    }
}

#[test]
fn a_replica_that_missed_collected_tombstones_is_told_to_start_over() {
    let mut cluster = Cluster::new(3);
    cluster
        .write(0, &[Write::put(b"k", b"v", Fence::NONE)])
        .unwrap();
    cluster.exchange_all();
    cluster
        .write(0, &[Write::delete(b"k", Fence::NONE)])
        .unwrap();
    run(&mut cluster, &Step::Age);
    let away = cluster.nodes.pop().unwrap();
    cluster.exchange_all();
    // Node 3 is no member any more.
    cluster.collect(0, 10);
    let digest = cluster.nodes[0].replica.digest();
    cluster.nodes.push(away);
    let from = cluster.nodes[0].id;
    let told = cluster.nodes[2].replica.receive_digest(from, &digest);
    assert!(matches!(told, Err(Error::LeftBehind { .. })), "{told:?}");
    assert!(cluster.nodes[2].replica.get(b"k").unwrap().is_some());
}

#[test]
fn two_replicas_under_one_node_id_are_found_out() {
    let mut cluster = Cluster::new(2);
    let mut twin = Cluster::new(2);
    cluster
        .write(0, &[Write::put(b"k", b"v", Fence::NONE)])
        .unwrap();
    cluster.exchange_all();
    let digest = cluster.nodes[1].replica.digest();
    let told = twin.nodes[0]
        .replica
        .receive_digest(cluster.nodes[1].id, &digest);
    assert!(matches!(told, Err(Error::OriginInUse { .. })), "{told:?}");
}
