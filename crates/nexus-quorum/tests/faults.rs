//! What goes wrong: cuts, losses, dead leaders, wrong clocks, a broken machine; and what holds all the same.
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

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ledger::{Op, State, Told, read};
use net::{Cluster, Net, Node, SOON, eventually, timing};
use nexus_quorum::{Applied, ProposeError, Quorum, QuorumError};
use rand::Rng as _;

fn add(by: i64) -> Op {
    Op::Add("n".to_owned(), by)
}

// A term that is no higher than the leader's unseats nobody. Whether the leader stays in office for other reasons depends
// on how busy the machine is, and is not asserted.

#[test]
fn a_voter_that_is_cut_off_does_not_raise_its_term_and_so_unseats_nobody() {
    let cluster = Cluster::of(3);
    for _ in 0..2 {
        let leader = cluster.leader_of_all();
        let cut = (1..=3).find(|number| *number != leader).unwrap();
        let others: Vec<u32> = (1..=3).filter(|number| *number != cut).collect();
        cluster.net.split(&[cut], &others);
        eventually("it notices", || {
            cluster.nodes[&cut].status().leader.is_none().then_some(())
        });
        // Long enough for several campaigns.
        std::thread::sleep(timing().election_max * 4);
        let away = cluster.nodes[&cut].status().term;
        assert!(away <= cluster.term(&others), "{away}");
        cluster.nodes[&others[0]].propose(&add(1)).unwrap();
        cluster.net.heal();
        cluster.leader_of_all();
    }
    cluster.expect_equal();
}

#[test]
fn a_voter_that_hears_no_leader_but_is_heard_itself_does_not_raise_its_term_either() {
    let cluster = Cluster::of(3);
    let leader = cluster.leader_of_all();
    let deaf = (1..=3).find(|number| *number != leader).unwrap();
    let others: Vec<u32> = (1..=3).filter(|number| *number != deaf).collect();
    for other in &others {
        cluster.net.cut_way(*other, deaf);
    }
    eventually("it notices", || {
        cluster.nodes[&deaf].status().leader.is_none().then_some(())
    });
    std::thread::sleep(timing().election_max * 4);
    let away = cluster.nodes[&deaf].status().term;
    assert!(away <= cluster.term(&others), "{away}");
    cluster.nodes[&others[0]].propose(&add(1)).unwrap();
    cluster.net.heal();
    cluster.leader_of_all();
    cluster.expect_equal();
}

#[test]
fn a_broken_machine_stops_every_node_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::new(&Net::default(), directory.path(), 1);
    node.start().unwrap();
    node.found().unwrap();
    node.propose(&add(1)).unwrap();
    let stopped = node.propose(&Op::Break);
    assert!(
        matches!(&stopped, Err(ProposeError::Stopped { why, certain: false }) if why.contains("broken on purpose")),
        "{stopped:?}"
    );
    let after = node.propose(&add(1));
    assert!(
        matches!(after, Err(ProposeError::Stopped { certain: true, .. })),
        "{after:?}"
    );
    assert!(node.status().stopped.unwrap().contains("broken on purpose"));
    node.stop();
    // It stands in the log: the next start meets it again, and says so.
    let refused = node.start();
    match refused {
        Err(QuorumError::Stopped(why)) => assert!(why.contains("broken on purpose"), "{why}"),
        Ok(()) => eventually("it stops", || {
            node.status()
                .stopped
                .filter(|why| why.contains("broken on purpose"))
        })
        .clear(),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn stopping_ends_what_is_on_its_way_and_frees_the_file() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.leader_of_all();
    let others: Vec<u32> = (1..=3).filter(|number| *number != leader).collect();
    cluster.net.split(&[leader], &others);
    let quorum = cluster.nodes[&leader].quorum().clone();
    let (said, hear) = std::sync::mpsc::channel();
    cluster.nodes[&leader].spawn(async move {
        said.send(quorum.propose(add(1).bytes(), SOON).await)
            .unwrap();
    });
    std::thread::sleep(Duration::from_millis(100));
    let node = cluster.nodes.get_mut(&leader).unwrap();
    node.run(|quorum| quorum.stop());
    let ended = hear.recv_timeout(SOON).unwrap();
    assert!(
        matches!(ended, Err(ProposeError::Stopped { .. })),
        "{ended:?}"
    );
    node.stop();
    node.start().unwrap();
}

#[test]
fn a_large_command_and_one_too_many_are_refused() {
    let mut cluster = Cluster::of(3);
    let leader = cluster.leader_of_all();
    let name = |size: usize| Op::Keep("k".to_owned(), vec![1; size]);
    let over = cluster.nodes[&leader].propose(&name(1 << 20));
    assert!(
        matches!(over, Err(ProposeError::TooLarge { size, limit: 1_048_576 }) if size > 1 << 20),
        "{over:?}"
    );
    let follower = (1..=3).find(|number| *number != leader).unwrap();
    for node in [leader, follower] {
        cluster.nodes[&node].propose(&name((1 << 20) - 64)).unwrap();
    }
    // Nobody there to agree with: proposals wait, and there are places for 1024.
    for number in 1..=3 {
        if number != follower {
            cluster.nodes.get_mut(&number).unwrap().kill();
        }
    }
    eventually("no leader", || {
        cluster.nodes[&follower]
            .status()
            .leader
            .is_none()
            .then_some(())
    });
    let results = cluster.nodes[&follower].run(|quorum| async move {
        let all = (0..1100).map(|_| quorum.propose(add(1).bytes(), Duration::from_secs(2)));
        futures::future::join_all(all).await
    });
    let count = |error: &ProposeError| {
        results
            .iter()
            .filter(|result| result.as_ref().err() == Some(error))
            .count()
    };
    assert_eq!(
        (count(&ProposeError::Full), count(&ProposeError::NoLeader)),
        (76, 1024)
    );
}

/// What a proposal was, when it was under way, and what came of it.
#[derive(Clone, Debug)]
struct Try {
    tag: u64,
    began: Instant,
    ended: Instant,
    result: Result<Applied, ProposeError>,
}

/// Propose one thing after the other until told to stop.
async fn keep_proposing(
    quorum: Quorum,
    tags: Arc<AtomicU64>,
    halt: Arc<AtomicBool>,
    tries: Arc<Mutex<Vec<Try>>>,
) {
    while !halt.load(Ordering::Relaxed) {
        let tag = tags.fetch_add(1, Ordering::Relaxed);
        let value = i64::try_from(tag).unwrap();
        let op = if tag.is_multiple_of(3) {
            Op::Swap("s".to_owned(), value % 5, (value + 1) % 5)
        } else {
            add(1)
        };
        let patience = Duration::from_millis(if tag.is_multiple_of(7) { 50 } else { 5000 });
        let began = Instant::now();
        let result = quorum.propose(op.tagged(tag), patience).await;
        let ended = Instant::now();
        let is_over = matches!(
            result,
            Err(ProposeError::Stopped { .. } | ProposeError::NotMember)
        );
        tries.lock().unwrap().push(Try {
            tag,
            began,
            ended,
            result,
        });
        if is_over {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A cluster under load and a record of all that was said and done.
struct History {
    cluster: Cluster,
    tags: Arc<AtomicU64>,
    halt: Arc<AtomicBool>,
    tries: Arc<Mutex<Vec<Try>>>,
    /// What each start of each node was told.
    told: Vec<Vec<Told>>,
}

impl History {
    fn begin(nodes: u32) -> Self {
        let history = Self {
            cluster: Cluster::of(nodes),
            tags: Arc::default(),
            halt: Arc::default(),
            tries: Arc::default(),
            told: Vec::new(),
        };
        for number in 1..=nodes {
            history.load(number);
        }
        history
    }

    fn load(&self, number: u32) {
        let node = &self.cluster.nodes[&number];
        for _ in 0..3 {
            node.spawn(keep_proposing(
                node.quorum().clone(),
                Arc::clone(&self.tags),
                Arc::clone(&self.halt),
                Arc::clone(&self.tries),
            ));
        }
    }

    fn restart(&mut self, number: u32, pause: Duration) {
        let node = self.cluster.nodes.get_mut(&number).unwrap();
        node.kill();
        self.told.push(node.ledger.told.lock().unwrap().clone());
        std::thread::sleep(pause);
        node.start().unwrap();
        self.load(number);
    }

    /// Stop the load; all there is to know: the commands in their order, and the tries.
    fn end(mut self) -> (BTreeMap<u64, Told>, Vec<Try>) {
        self.cluster.net.heal();
        self.cluster.net.worsen(Duration::ZERO, 0);
        self.halt.store(true, Ordering::Relaxed);
        self.cluster.leader_of_all();
        // Whatever still is on its way comes before this.
        let number = 1;
        self.cluster.nodes[&number]
            .propose(&Op::Keep("end".to_owned(), vec![]))
            .unwrap();
        std::thread::sleep(Duration::from_secs(6));
        let bytes = self.cluster.expect_equal();
        for node in self.cluster.nodes.values() {
            self.told.push(node.ledger.told.lock().unwrap().clone());
        }
        let mut order: BTreeMap<u64, Told> = BTreeMap::new();
        for told in self.told.iter().flatten() {
            let first = order.entry(told.ordinal).or_insert_with(|| told.clone());
            assert_eq!(
                first, told,
                "all nodes, in all their lives, were told the same"
            );
        }
        // The order explains the state that all nodes ended in.
        let mut state = State::default();
        for (ordinal, told) in &order {
            assert_eq!(*ordinal, state.ordinal + 1, "no gaps");
            state.ordinal = *ordinal;
            state.at = told.at;
            state.carry_out(&told.op).unwrap();
        }
        assert_eq!(postcard::to_allocvec(&state).unwrap(), bytes);
        let tries = self.tries.lock().unwrap().clone();
        (order, tries)
    }
}

/// One order explains every answer, nothing is done twice, and what was over before another began stands before it.
fn expect_linear(order: &BTreeMap<u64, Told>, tries: &[Try]) {
    let mut state = State::default();
    let mut answers = BTreeMap::new();
    let mut places: BTreeMap<u64, u64> = BTreeMap::new();
    for told in order.values() {
        answers.insert(told.ordinal, state.carry_out(&told.op).unwrap());
        if !matches!(told.op, Op::Keep(..)) {
            let twice = places.insert(told.tag, told.ordinal);
            assert_eq!(twice, None, "{told:?} was carried out twice");
        }
    }
    let mut done = Vec::new();
    for attempt in tries {
        match &attempt.result {
            Ok(applied) => {
                assert_eq!(
                    places.get(&attempt.tag),
                    Some(&applied.ordinal),
                    "{attempt:?}"
                );
                assert_eq!(
                    read(&applied.answer),
                    answers[&applied.ordinal],
                    "{attempt:?}"
                );
                done.push((attempt.began, attempt.ended, applied.ordinal));
            }
            Err(error) if error.is_certain() => {
                assert_eq!(
                    places.get(&attempt.tag),
                    None,
                    "said to be certainly not done: {attempt:?}"
                );
            }
            Err(_) => {}
        }
    }
    // Going by when they ended: no later one may have begun after it and stand before it.
    let mut by_begin = done.clone();
    by_begin.sort_by_key(|(began, ..)| *began);
    let mut by_end = done;
    by_end.sort_by_key(|(_, ended, _)| *ended);
    let mut highest = 0;
    let mut ended = by_end.into_iter().peekable();
    for (began, _, ordinal) in by_begin {
        while let Some((_, _, over)) = ended.next_if(|(_, end, _)| *end < began) {
            highest = highest.max(over);
        }
        assert!(
            ordinal > highest,
            "command {ordinal} began after {highest} was over"
        );
    }
}

#[test]
fn under_cuts_losses_delays_and_crashes_each_answer_fits_one_order() {
    let mut history = History::begin(3);
    let mut rng = rand::rng();
    let rounds: u32 = std::env::var("QUORUM_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(8);
    for round in 0..rounds {
        let victim = rng.random_range(1..=3);
        let others: Vec<u32> = (1..=3).filter(|number| *number != victim).collect();
        match round % 4 {
            0 => history.cluster.net.split(&[victim], &others),
            1 => history.restart(victim, Duration::from_millis(rng.random_range(0..500))),
            2 => history.cluster.net.worsen(Duration::from_millis(20), 100),
            _ => history.cluster.net.cut_way(victim, others[0]),
        }
        std::thread::sleep(Duration::from_millis(rng.random_range(300..1500)));
        history.cluster.net.heal();
        history.cluster.net.worsen(Duration::ZERO, 0);
        std::thread::sleep(Duration::from_millis(rng.random_range(0..500)));
    }
    let (order, tries) = history.end();
    let done = tries
        .iter()
        .filter(|attempt| attempt.result.is_ok())
        .count();
    println!(
        "{} commands, {} tries, {done} done",
        order.len(),
        tries.len()
    );
    assert!(
        done > 100,
        "{done} of {} tries: too few to say anything",
        tries.len()
    );
    expect_linear(&order, &tries);
}

#[test]
fn five_nodes_agree_with_two_of_them_coming_and_going() {
    let mut history = History::begin(5);
    for victim in [1, 4, 2] {
        history.cluster.net.split(
            &[victim],
            &(1..=5)
                .filter(|number| *number != victim)
                .collect::<Vec<_>>(),
        );
        history.restart(victim % 5 + 1, Duration::from_millis(600));
        history.cluster.net.heal();
        std::thread::sleep(Duration::from_millis(400));
    }
    let (order, tries) = history.end();
    expect_linear(&order, &tries);
}

/// The stamp of every acknowledged command, with the real time that it was under way.
fn stamps(order: &BTreeMap<u64, Told>, tries: &[Try]) -> Vec<(Duration, Instant, Instant)> {
    let mut all: Vec<_> = tries
        .iter()
        .filter_map(|attempt| {
            let applied = attempt.result.as_ref().ok()?;
            let at = Duration::from_nanos(order[&applied.ordinal].at);
            Some((applied.ordinal, at, attempt.began, attempt.ended))
        })
        .collect();
    all.sort_by_key(|(ordinal, ..)| *ordinal);
    all.into_iter()
        .map(|(_, at, began, ended)| (at, began, ended))
        .collect()
}

#[test]
fn cluster_time_never_outruns_the_clocks_over_leaders_that_die_and_clocks_that_differ() {
    let mut history = History::begin(3);
    // Clocks that stand anywhere, and drift by 1% either way.
    for (number, (rate, ahead)) in [
        (1_u32, (1010, 5_000_000)),
        (2, (990, 10)),
        (3, (1000, 999_999_999)),
    ] {
        let clock = &history.cluster.nodes[&number].clock;
        clock.per_mille.store(rate, Ordering::Relaxed);
        clock.ahead_millis.store(ahead, Ordering::Relaxed);
    }
    // Their clocks jumped while they were in office; from here on time is measured.
    let leader = history.cluster.leader_of_all();
    history.restart(leader, Duration::from_millis(10));
    history.cluster.leader_of_all();
    let measured_from = Instant::now();
    let mut leaders = BTreeSet::new();
    for _ in 0..4 {
        let leader = history.cluster.leader_of_all();
        leaders.insert(leader);
        std::thread::sleep(Duration::from_millis(500));
        history.restart(leader, Duration::from_millis(1500));
    }
    assert!(leaders.len() > 1, "{leaders:?}");
    let (order, tries) = history.end();
    let rises = order
        .values()
        .zip(order.values().skip(1))
        .all(|(before, after)| before.at <= after.at);
    assert!(rises, "stamps never sink along the log");
    let stamps: Vec<_> = stamps(&order, &tries)
        .into_iter()
        .filter(|(_, began, _)| *began > measured_from)
        .collect();
    assert!(stamps.len() > 50, "{}", stamps.len());
    // The fastest clock runs 1% fast: between any two, no more than that.
    for step in [1, 7, 50] {
        for (before, after) in stamps.iter().zip(stamps.iter().skip(step)) {
            let passed = after.2.duration_since(before.1);
            let counted = after.0.saturating_sub(before.0);
            assert!(
                counted <= passed * 101 / 100,
                "{counted:?} counted in {passed:?}"
            );
        }
    }
}

#[test]
fn time_without_a_majority_is_not_counted() {
    let cluster = Cluster::of(3);
    let leader = cluster.leader_of_all();
    let stamp = |node: &Node| {
        node.propose(&add(1)).unwrap();
        node.ledger.told.lock().unwrap().last().unwrap().at
    };
    let before = (stamp(&cluster.nodes[&leader]), Instant::now());
    for number in 1..=3 {
        let others: Vec<u32> = (1..=3).filter(|other| *other != number).collect();
        cluster.net.split(&[number], &others);
    }
    let cut = Instant::now();
    eventually("nobody leads", || {
        cluster
            .up()
            .all(|node| node.status().leader.is_none())
            .then_some(())
    });
    std::thread::sleep(Duration::from_secs(4));
    let outage = cut.elapsed();
    cluster.net.heal();
    cluster.leader_of_all();
    let after = stamp(&cluster.nodes[&leader]);
    let counted = Duration::from_nanos(after - before.0);
    let passed = before.1.elapsed();
    // A leader counts on until it notices.
    let most = passed - outage + timing().election_max + timing().heartbeat * 4;
    assert!(
        counted <= most,
        "{counted:?} counted of {passed:?}, {outage:?} of them without a leader"
    );
}
