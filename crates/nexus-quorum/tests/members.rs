//! Who is in the cluster, who may come and go, and how one that is far behind gets there.
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

use std::collections::BTreeSet;
use std::time::Duration;

use ledger::{Op, read};
use net::{Cluster, Net, Node, eventually};
use nexus_quorum::{ChangeError, Limits, ProposeError, QuorumError};

fn add(by: i64) -> Op {
    Op::Add("n".to_owned(), by)
}

fn keep(name: &str, size: usize, with: u8) -> Op {
    Op::Keep(name.to_owned(), vec![with; size])
}

fn small() -> Limits {
    Limits {
        snapshot_entries: 20,
        keep_entries: 4,
        ..Limits::default()
    }
}

fn set(numbers: &[u32]) -> BTreeSet<u32> {
    numbers.iter().copied().collect()
}

fn remove(by: &Node, number: u32) -> Result<(), ChangeError> {
    by.run(move |quorum| async move { quorum.remove(number).await })
}

/// On a busy machine a change may have to be asked for more than once.
fn removed(by: &Node, number: u32) {
    eventually("removal", || remove(by, number).ok());
}

fn demote(by: &Node, number: u32) -> Result<(), ChangeError> {
    by.run(move |quorum| async move { quorum.demote(number).await })
}

fn promote(by: &Node, number: u32) -> Result<(), ChangeError> {
    by.run(move |quorum| async move { quorum.promote(number).await })
}

fn add_learner(by: &Node, number: u32) -> Result<(), ChangeError> {
    by.run(move |quorum| async move { quorum.add_learner(number).await })
}

#[test]
fn a_fresh_learner_gets_the_snapshot_in_pieces() {
    let mut cluster = Cluster::with(1, small());
    for piece in 0..8 {
        cluster.nodes[&1]
            .propose(&keep(&piece.to_string(), 900_000, piece))
            .unwrap();
    }
    for _ in 0..60 {
        cluster.nodes[&1].propose(&add(1)).unwrap();
    }
    // 7 MB through a bad line: pieces are lost and come late.
    cluster.net.worsen(Duration::from_millis(5), 30);
    cluster.add(2, small());
    add_learner(&cluster.nodes[&1], 2).unwrap();
    eventually("the learner has it all", || {
        (cluster.nodes[&2].ledger.counter("n") == 60).then_some(())
    });
    cluster.net.worsen(Duration::ZERO, 0);
    assert_eq!(*cluster.nodes[&2].ledger.installed.lock().unwrap(), 1);
    cluster.expect_equal();
    let status = cluster.nodes[&1].status();
    assert_eq!((status.voters, status.learners), (set(&[1]), set(&[2])));
    // A learner proposes like any member.
    assert_eq!(
        read(&cluster.nodes[&2].propose(&add(1)).unwrap().answer),
        (true, 61)
    );
}

#[test]
fn a_node_that_was_away_too_long_gets_a_snapshot_too() {
    let mut cluster = Cluster::with(3, small());
    cluster.nodes.get_mut(&3).unwrap().kill();
    for _ in 0..200 {
        cluster.nodes[&1].propose(&add(1)).unwrap();
    }
    cluster.nodes.get_mut(&3).unwrap().start().unwrap();
    eventually("it catches up", || {
        (cluster.nodes[&3].ledger.counter("n") == 200).then_some(())
    });
    assert!(*cluster.nodes[&3].ledger.installed.lock().unwrap() >= 1);
    cluster.expect_equal();
    let told = cluster.nodes[&3].ledger.told.lock().unwrap().len();
    assert!(told < 150, "{told} commands came one by one");
    // And what it got so is there after a restart.
    cluster.nodes.get_mut(&3).unwrap().kill();
    cluster.nodes.get_mut(&3).unwrap().start().unwrap();
    assert!(cluster.nodes[&3].ledger.counter("n") >= 150);
    cluster.expect_equal();
}

#[test]
fn the_log_is_bounded_in_bytes_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::new(&Net::default(), directory.path(), 1);
    node.limits = Limits {
        snapshot_bytes: 4 << 20,
        ..Limits::default()
    };
    node.start().unwrap();
    node.found().unwrap();
    for round in 0..40 {
        node.propose(&keep("one", 900_000, round)).unwrap();
    }
    eventually("the log is short again", || {
        (node.status().log_bytes <= 4 << 20).then_some(())
    });
    node.kill();
    node.start().unwrap();
    node.propose(&add(1)).unwrap();
    assert_eq!(
        node.ledger.state.lock().unwrap().kept["one"],
        vec![39; 900_000]
    );
}

#[test]
fn members_come_rise_fall_go_and_come_again_under_a_new_number() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.leader_of_all();
    let other = (1..=3).find(|number| *number != leader).unwrap();
    cluster.nodes[&1].propose(&add(1)).unwrap();
    // Asked for on any node, done once, harmless to repeat.
    demote(&cluster.nodes[&leader], other).unwrap();
    demote(&cluster.nodes[&other], other).unwrap();
    let status = cluster.nodes[&leader].status();
    assert_eq!(
        (status.voters.len(), status.learners, status.changing),
        (2, set(&[other]), false)
    );
    promote(&cluster.nodes[&other], other).unwrap();
    remove(&cluster.nodes[&other], other).unwrap();
    remove(&cluster.nodes[&leader], other).unwrap();
    assert!(!cluster.nodes[&leader].status().voters.contains(&other));
    eventually("it hears that it is out", || {
        cluster.nodes[&other].status().removed.then_some(())
    });
    assert!(!cluster.nodes[&other].status().member || cluster.nodes[&other].status().removed);
    assert_eq!(
        cluster.nodes[&other].propose(&add(100)),
        Err(ProposeError::NotMember)
    );
    cluster.nodes.get_mut(&other).unwrap().stop();

    cluster.add(17, Limits::default());
    add_learner(&cluster.nodes[&17], 17).unwrap_err();
    add_learner(&cluster.nodes[&leader], 17).unwrap();
    eventually("it has caught up", || {
        promote(&cluster.nodes[&leader], 17).ok()
    });
    assert_eq!(cluster.nodes[&leader].status().voters.len(), 3);
    cluster.nodes[&17].propose(&add(1)).unwrap();
    cluster.leader_of_all();
    cluster.expect_equal();
}

#[test]
fn a_leader_that_is_to_leave_hands_over_first() {
    let mut cluster = Cluster::of(3);
    for left in [2, 1] {
        let leader = cluster.leader_of_all();
        removed(&cluster.nodes[&leader], leader);
        let rest: Vec<u32> = cluster
            .up()
            .map(|node| node.number)
            .filter(|number| *number != leader)
            .collect();
        let next = cluster.leader(&rest);
        assert_ne!(next, leader);
        assert_eq!(
            cluster.nodes[&next].status().voters,
            rest.iter().copied().collect()
        );
        assert_eq!(rest.len(), left);
        cluster.nodes[&next].propose(&add(1)).unwrap();
        eventually("it hears that it is out", || {
            cluster.nodes[&leader].status().removed.then_some(())
        });
        cluster.nodes.get_mut(&leader).unwrap().stop();
    }
    let last = cluster.leader_of_all();
    assert_eq!(
        remove(&cluster.nodes[&last], last),
        Err(ChangeError::LastVoter(last))
    );
    assert_eq!(
        demote(&cluster.nodes[&last], last),
        Err(ChangeError::LastVoter(last))
    );
    assert_eq!(
        read(&cluster.nodes[&last].propose(&add(1)).unwrap().answer),
        (true, 3)
    );
}

#[test]
fn who_is_too_far_behind_or_unknown_does_not_become_a_voter() {
    let mut cluster = Cluster::with(
        1,
        Limits {
            promote_lag: 3,
            ..Limits::default()
        },
    );
    for _ in 0..10 {
        cluster.nodes[&1].propose(&add(1)).unwrap();
    }
    assert_eq!(
        promote(&cluster.nodes[&1], 9),
        Err(ChangeError::NotMember(9))
    );
    assert_eq!(
        demote(&cluster.nodes[&1], 9),
        Err(ChangeError::NotMember(9))
    );
    // It is not even there.
    add_learner(&cluster.nodes[&1], 9).unwrap();
    assert_eq!(promote(&cluster.nodes[&1], 9), Err(ChangeError::Silent(9)));
    // It was there once, and is far behind.
    cluster.add(9, Limits::default());
    eventually("it has caught up", || {
        (cluster.nodes[&9].ledger.counter("n") == 10).then_some(())
    });
    cluster.nodes.get_mut(&9).unwrap().kill();
    for _ in 0..10 {
        cluster.nodes[&1].propose(&add(1)).unwrap();
    }
    let refused = promote(&cluster.nodes[&1], 9).unwrap_err();
    assert!(
        matches!(refused, ChangeError::Lagging { number: 9, lag, most: 3 } if lag > 3),
        "{refused}"
    );
    assert!(refused.to_string().contains("entries behind"), "{refused}");
    // The cluster goes on as before, and once the node is there it is promoted.
    cluster.nodes[&1].propose(&add(1)).unwrap();
    cluster.nodes.get_mut(&9).unwrap().start().unwrap();
    eventually("it has caught up", || promote(&cluster.nodes[&1], 9).ok());
    assert_eq!(
        cluster.nodes[&1]
            .status()
            .lag
            .keys()
            .copied()
            .collect::<Vec<_>>(),
        [9]
    );
}

#[test]
fn a_node_that_nobody_admitted_waits_quietly() {
    let mut cluster = Cluster::of(1);
    cluster.add(5, Limits::default());
    let term = cluster.nodes[&1].status().term;
    std::thread::sleep(net::timing().election_max * 3);
    let waiting = cluster.nodes[&5].status();
    assert_eq!(
        (
            waiting.term,
            waiting.leader,
            waiting.member,
            waiting.removed
        ),
        (0, None, false, false)
    );
    assert_eq!(cluster.nodes[&1].status().term, term);
    assert_eq!(
        cluster.nodes[&5].propose(&add(1)),
        Err(ProposeError::NotMember)
    );
}

#[test]
fn a_node_removed_behind_its_back_disturbs_nobody_and_finds_out() {
    let cluster = Cluster::of(3);
    let leader = cluster.leader_of_all();
    let gone = (1..=3).find(|number| *number != leader).unwrap();
    let others: Vec<u32> = (1..=3).filter(|number| *number != gone).collect();
    cluster.net.split(&[gone], &others);
    remove(&cluster.nodes[&leader], gone).unwrap();
    std::thread::sleep(net::timing().election_max * 3);
    assert!(!cluster.nodes[&gone].status().removed, "it cannot know yet");
    let away = cluster.nodes[&gone].status().term;
    assert!(
        away <= cluster.term(&others),
        "alone it does not raise its term: {away}"
    );
    cluster.net.heal();
    eventually("it finds out", || {
        cluster.nodes[&gone].status().removed.then_some(())
    });
    std::thread::sleep(net::timing().election_max * 3);
    let away = cluster.nodes[&gone].status().term;
    assert!(away <= cluster.term(&others), "{away}");
    cluster.nodes[&others[0]].propose(&add(1)).unwrap();
}

#[test]
fn a_node_of_another_cluster_is_not_taken_over() {
    let mut cluster = Cluster::of(1);
    cluster.nodes[&1].propose(&add(5)).unwrap();
    let other = cluster.add(8, Limits::default());
    other.found().unwrap();
    other.propose(&add(1)).unwrap();
    add_learner(&cluster.nodes[&1], 8).unwrap();
    std::thread::sleep(net::timing().election_max * 2);
    assert_eq!(cluster.nodes[&8].ledger.counter("n"), 1);
    assert_eq!(
        read(&cluster.nodes[&8].propose(&add(1)).unwrap().answer),
        (true, 2)
    );
    let refused = promote(&cluster.nodes[&1], 8).unwrap_err();
    assert_eq!(refused, ChangeError::Silent(8));
    cluster.nodes[&1].propose(&add(1)).unwrap();
    assert_eq!(cluster.nodes[&8].status().voters, set(&[8]));
}

#[test]
fn only_one_change_is_made_at_a_time() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.leader_of_all();
    for number in [21, 22, 23, 24] {
        cluster.add(number, Limits::default());
    }
    let results = cluster.nodes[&leader].run(|quorum| async move {
        let changes = [21, 22, 23, 24].map(|number| {
            let quorum = quorum.clone();
            async move { quorum.add_learner(number).await }
        });
        futures::future::join_all(changes).await
    });
    let done = results.iter().filter(|result| result.is_ok()).count();
    assert!(done >= 1, "{results:?}");
    assert!(
        results
            .iter()
            .all(|result| matches!(result, Ok(()) | Err(ChangeError::Busy))),
        "{results:?}"
    );
    assert_eq!(cluster.nodes[&leader].status().learners.len(), done);
}

#[test]
fn a_change_after_which_no_majority_is_there_is_refused() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.leader_of_all();
    let others: Vec<u32> = (1..=3).filter(|number| *number != leader).collect();
    cluster.nodes.get_mut(&others[0]).unwrap().kill();
    let refused = remove(&cluster.nodes[&leader], others[1]).unwrap_err();
    assert!(
        matches!(&refused, ChangeError::NoMajority { silent, .. } if *silent == [others[0]]),
        "{refused}"
    );
    cluster.nodes[&leader].propose(&add(1)).unwrap();
    // The one that is gone can be removed.
    remove(&cluster.nodes[&leader], others[0]).unwrap();
    assert_eq!(cluster.nodes[&leader].status().voters.len(), 2);
    cluster.nodes[&others[1]].propose(&add(1)).unwrap();
}

#[test]
fn when_a_majority_is_lost_for_good_one_node_goes_on_alone_and_others_join_it() {
    let mut cluster = Cluster::of(3);
    for _ in 0..10 {
        cluster.nodes[&1].propose(&add(1)).unwrap();
    }
    cluster.expect_equal();
    let file = cluster.nodes[&1].path.clone();
    let in_use = nexus_quorum::go_on_alone(&file, 1, add(100).bytes());
    assert!(
        matches!(in_use, Err(QuorumError::InUse { .. })),
        "{in_use:?}"
    );
    for node in cluster.nodes.values_mut() {
        node.kill();
    }
    let last = nexus_quorum::last_entry(&file, 1).unwrap();
    assert!(last.is_some_and(|(_, index)| index >= 10), "{last:?}");
    assert!(nexus_quorum::last_entry(&file.with_file_name("none.redb"), 1).is_err());

    let recovered = nexus_quorum::go_on_alone(&file, 1, add(100).bytes()).unwrap();
    assert_eq!(Some(recovered.last_index), last.map(|(_, index)| index));
    cluster.nodes.get_mut(&1).unwrap().start().unwrap();
    assert_eq!(
        read(&cluster.nodes[&1].propose(&add(1)).unwrap().answer),
        (true, 111),
        "the command that came with it counts once, before all others"
    );
    let status = cluster.nodes[&1].status();
    assert_eq!((status.voters, status.learners), (set(&[1]), set(&[])));

    // One of the old ones comes back after all: it is of another cluster, and changes nothing.
    cluster.nodes.get_mut(&2).unwrap().start().unwrap();
    cluster.nodes.get_mut(&3).unwrap().start().unwrap();
    std::thread::sleep(net::timing().election_max * 3);
    assert_eq!(cluster.nodes[&1].status().leader, Some(1));
    for number in [2, 3] {
        cluster.nodes.get_mut(&number).unwrap().kill();
    }
    cluster.add(12, Limits::default());
    cluster.admit(12);
    cluster.nodes[&12].propose(&add(1)).unwrap();
    assert_eq!(cluster.nodes[&12].ledger.counter("n"), 112);
    cluster.expect_equal();
}

#[test]
fn a_node_that_was_never_in_a_cluster_has_nothing_to_go_on_with() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::new(&Net::default(), directory.path(), 1);
    node.start().unwrap();
    node.stop();
    let refused = nexus_quorum::go_on_alone(&node.path, 1, add(100).bytes());
    assert!(
        matches!(refused, Err(QuorumError::NeverMember { .. })),
        "{refused:?}"
    );
    node.start().unwrap();
    node.found().unwrap();
}
