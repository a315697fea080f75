//! Faults that the simulator found in this crate, each as the shortest life that shows it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use nexus_clset::{
    Change, Incarnation, MemoryRows, NodeId, Origin, Replica, UnixMillis, VersionVector,
};

/// 2027-01-15, in milliseconds.
const START: u64 = 1_800_000_000_000;

/// So old are tombstones here before they are collected.
const AGE: Duration = Duration::from_secs(10);

struct Node {
    rows: MemoryRows,
    replica: Replica<MemoryRows>,
}

impl Node {
    fn boot(id: u32, rows: MemoryRows, now: u64) -> Self {
        let (mut replica, boot) = Replica::open(rows.clone(), NodeId(id), UnixMillis(now)).unwrap();
        replica.set_tombstone_age(AGE);
        let mut node = Self { rows, replica };
        node.write(boot);
        node
    }

    fn write(&mut self, change: Change) {
        self.rows.apply(&change.rows);
        self.replica.settle(change.ticket);
    }

    /// Pulls all that the other has.
    fn pull(&mut self, from: &Self, now: u64) {
        let peer = from.replica.origin().node;
        let (received, request) = self
            .replica
            .receive_digest(peer, &from.replica.digest())
            .unwrap();
        received.changes.into_iter().for_each(|c| self.write(c));
        if let Some(request) = request {
            let answer = from.replica.answer(&request, usize::MAX).unwrap();
            let received = self
                .replica
                .receive_answer(peer, &answer, UnixMillis(now))
                .unwrap();
            received.changes.into_iter().for_each(|c| self.write(c));
        }
    }

    fn origins(&self) -> Vec<Origin> {
        self.replica.seen().origins().collect()
    }
}

fn founder() -> Node {
    let mut node = Node::boot(1, MemoryRows::default(), START);
    let change = node.replica.found();
    node.write(change);
    node
}

fn boots(nodes: &[&Node]) -> BTreeMap<NodeId, Incarnation> {
    let origins = nodes.iter().map(|node| node.replica.origin());
    origins.map(|o| (o.node, o.incarnation)).collect()
}

/// Seed 13387: a member lost power between the row that says that a writer is forgotten and those that
/// went because of it. It never was in sync again.
#[test]
fn a_power_failure_while_a_writer_is_forgotten_leaves_nothing_of_it() {
    let mut first = founder();
    let change = first
        .replica
        .put(b"k", b"v", Default::default(), UnixMillis(START))
        .unwrap();
    first.write(change);
    let forgotten = first.replica.origin();
    let mut first = Node::boot(1, first.rows, START + 1000);
    let now = START + 2000;
    let change = first
        .replica
        .put(b"k", b"w", Default::default(), UnixMillis(now))
        .unwrap();
    first.write(change);
    let mut second = Node::boot(2, MemoryRows::default(), now);
    second.pull(&first, now);
    assert!(second.origins().contains(&forgotten));

    let later = UnixMillis(START + 60_000);
    let seen = second.replica.seen().clone();
    let current = boots(&[&first, &second]);
    let changes = first
        .replica
        .propose_collection_and_retirement(&[&seen], &current, later)
        .unwrap();
    changes.into_iter().for_each(|change| first.write(change));
    assert!(first.replica.retired().contains(forgotten));

    // The second one hears of it, and writes only the first of what follows from that.
    let digest = first.replica.digest();
    let (received, _) = second.replica.receive_digest(NodeId(1), &digest).unwrap();
    assert!(received.changes.len() > 1);
    second.rows.apply(&received.changes[0].rows);
    let mut second = Node::boot(2, second.rows.image(), START + 61_000);
    assert!(second.replica.retired().contains(forgotten));
    assert!(!second.origins().contains(&forgotten));
    // And its rows are gone with the boot, so that the next one finds none either.
    second.pull(&first, START + 62_000);
    assert_eq!(second.replica.seen(), first.replica.seen());
    assert_eq!(
        second.replica.digest().retired,
        first.replica.digest().retired
    );
}

/// Seed 12107: a round of collection waited for writes that only a member knew of which was removed
/// meanwhile. No tombstone was collected any more.
#[test]
fn a_round_does_not_wait_for_what_only_a_removed_member_had() {
    let mut first = founder();
    let now = UnixMillis(START);
    for value in [Some(&b"v"[..]), None] {
        let change = match value {
            Some(value) => first
                .replica
                .put(b"k", value, Default::default(), now)
                .unwrap(),
            None => first.replica.delete(b"k", Default::default(), now).unwrap(),
        };
        first.write(change);
    }
    let mut second = Node::boot(2, MemoryRows::default(), START);
    second.pull(&first, START);
    let mut removed = Node::boot(3, MemoryRows::default(), START);
    removed.pull(&first, START);
    let change = removed
        .replica
        .put(b"other", b"v", Default::default(), now)
        .unwrap();
    removed.write(change);

    let later = UnixMillis(START + 60_000);
    let second_has = second.replica.seen().clone();
    let removed_has = removed.replica.seen().clone();
    let propose = |node: &mut Node, members: &[&VersionVector]| {
        let changes = node.replica.propose_collection(members, later).unwrap();
        changes.into_iter().for_each(|change| node.write(change));
    };
    propose(&mut first, &[&second_has, &removed_has]);
    assert!(first.replica.digest().collected.is_empty());
    // The third one is removed; nobody has its write.
    propose(&mut first, &[&second_has]);
    assert!(!first.replica.digest().collected.is_empty());
}

/// Seeds 12 and 543: the first write of a node was told to nobody, its second one was; then it was removed. The
/// tombstone behind the gap stayed for ever, and so did its writer.
#[test]
fn what_nobody_has_of_a_removed_writer_holds_up_nothing() {
    let mut first = founder();
    let now = UnixMillis(START);
    let change = first
        .replica
        .put(b"k", b"v", Default::default(), now)
        .unwrap();
    first.write(change);
    let mut second = Node::boot(2, MemoryRows::default(), START);
    second.pull(&first, START);
    let mut removed = Node::boot(3, MemoryRows::default(), START);
    removed.pull(&first, START);
    let unheard = removed
        .replica
        .put(b"unheard", b"v", Default::default(), now)
        .unwrap();
    removed.write(unheard);
    let heard = removed
        .replica
        .delete(b"k", Default::default(), now)
        .unwrap();
    let heard = heard.delta.unwrap();
    for node in [&mut first, &mut second] {
        let received = node.replica.receive(&heard, now).unwrap();
        received.changes.into_iter().for_each(|c| node.write(c));
    }
    let gone = removed.replica.origin();

    let later = START + 60_000;
    let step = |first: &mut Node, second: &mut Node, current: &BTreeMap<_, _>| {
        let has = second.replica.seen().clone();
        let changes = first
            .replica
            .propose_collection_and_retirement(&[&has], current, UnixMillis(later))
            .unwrap();
        changes.into_iter().for_each(|change| first.write(change));
        second.pull(first, later);
        for node in [first, second] {
            while let Some(change) = node.replica.collect().unwrap() {
                node.write(change);
            }
        }
    };
    // As long as it is a member, what it has may come.
    let all = boots(&[&first, &second, &removed]);
    for _ in 0..4 {
        step(&mut first, &mut second, &all);
    }
    assert_eq!(first.replica.tombstones(), 1);
    // Then it cannot.
    let left = boots(&[&first, &second]);
    for _ in 0..4 {
        step(&mut first, &mut second, &left);
    }
    for node in [&first, &second] {
        assert_eq!(node.replica.tombstones(), 0);
        assert!(!node.origins().contains(&gone), "it is forgotten as well");
    }
    assert_eq!(first.replica.seen(), second.replica.seen());
}
