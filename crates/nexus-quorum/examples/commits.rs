//! How many commands a second the quorum commits: `cargo run --release -p nexus-quorum --example commits [directory]`.
//!
//! One node and three in one process (without a network between them: what is measured is openraft, the file and this
//! crate), one proposer and many, commands of 200 bytes. Each durable before it is answered.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measuring program"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nexus_quorum::{
    BoxFuture, CallError, Entry, Limits, Machine, MachineError, Network, Options, Quorum, Timing,
};

const PATIENCE: Duration = Duration::from_secs(60);

struct Nothing;

impl Machine for Nothing {
    fn apply(&self, entries: Vec<Entry>) -> BoxFuture<Result<Vec<Vec<u8>>, MachineError>> {
        Box::pin(std::future::ready(Ok(entries
            .iter()
            .map(|_| Vec::new())
            .collect())))
    }

    fn snapshot(&self) -> BoxFuture<Result<Vec<u8>, MachineError>> {
        Box::pin(std::future::ready(Ok(vec![0; 100_000])))
    }

    fn install(&self, _snapshot: Vec<u8>) -> BoxFuture<Result<(), MachineError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

#[derive(Clone, Default)]
struct Direct {
    own: u32,
    all: Arc<Mutex<BTreeMap<u32, Quorum>>>,
}

impl Network for Direct {
    fn call(
        &self,
        to: u32,
        message: Vec<u8>,
        _: Duration,
    ) -> BoxFuture<Result<Vec<u8>, CallError>> {
        let (own, peer) = (self.own, self.all.lock().unwrap().get(&to).cloned());
        Box::pin(async move {
            match peer {
                Some(peer) => Ok(peer.answer(own, message).await),
                None => Err(CallError::NotSent("nobody there".to_owned())),
            }
        })
    }
}

async fn measure(directory: &Path, nodes: u32) {
    let all = Direct::default();
    let began = Instant::now();
    for number in 1..=nodes {
        let options = Options {
            number,
            path: directory.join(format!("{nodes}-{number}.redb")),
            timing: Timing::default(),
            clock: Arc::new(move || began.elapsed()),
            limits: Limits::default(),
        };
        let network = Direct {
            own: number,
            all: Arc::clone(&all.all),
        };
        let quorum = Quorum::open(options, Arc::new(Nothing), Arc::new(network))
            .await
            .unwrap();
        all.all.lock().unwrap().insert(number, quorum);
    }
    let node = |number: u32| all.all.lock().unwrap().get(&number).cloned().unwrap();
    let first = node(1);
    first.found().await.unwrap();
    for number in 2..=nodes {
        first.add_learner(number).await.unwrap();
        while first.promote(number).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    for (at, name) in [(1, "the leader"), (nodes, "a follower")] {
        for proposers in [1_u32, 16, 256] {
            let each = 10_000 / proposers / if proposers == 1 { 5 } else { 1 };
            let began = Instant::now();
            let tasks: Vec<_> = (0..proposers)
                .map(|_| {
                    let quorum = node(at);
                    tokio::spawn(async move {
                        let mut took = Vec::new();
                        for _ in 0..each {
                            let began = Instant::now();
                            quorum.propose(vec![1; 200], PATIENCE).await.unwrap();
                            took.push(began.elapsed());
                        }
                        took
                    })
                })
                .collect();
            let mut took = Vec::new();
            for task in tasks {
                took.extend(task.await.unwrap());
            }
            let passed = began.elapsed();
            took.sort();
            let rate = f64::from(each * proposers) / passed.as_secs_f64();
            let of = |percent: usize| {
                took.get(took.len() * percent / 100)
                    .copied()
                    .unwrap_or_default()
            };
            println!(
                "{nodes} node(s), {proposers:>3} proposer(s) on {name}: {rate:>6.0} commands/s, p50 {:?}, p99 {:?}",
                of(50),
                of(99)
            );
        }
        if nodes == 1 {
            break;
        }
    }
    if nodes > 1 {
        // The leader is gone from one moment to the next: how long until something is committed again?
        let leader = first.status().leader.unwrap();
        let other = node(leader % nodes + 1);
        let gone = all.all.lock().unwrap().remove(&leader).unwrap();
        let began = Instant::now();
        gone.stop().await;
        other.propose(vec![1; 200], PATIENCE).await.unwrap();
        println!(
            "{nodes} nodes, the leader gone: committed again after {:?}",
            began.elapsed()
        );
    }
    let rest: Vec<Quorum> = std::mem::take(&mut *all.all.lock().unwrap())
        .into_values()
        .collect();
    for quorum in rest {
        quorum.stop().await;
    }
}

#[tokio::main]
async fn main() {
    let given = std::env::args().nth(1).map(std::path::PathBuf::from);
    let directory = tempfile::tempdir_in(given.unwrap_or_else(std::env::temp_dir)).unwrap();
    measure(directory.path(), 1).await;
    for round in 0..5 {
        let directory = directory.path().join(round.to_string());
        std::fs::create_dir(&directory).unwrap();
        measure(&directory, 3).await;
    }
}
