//! Clients that go on writing and reading whatever happens to the cluster, and write down what they were told.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use super::ClusterBench;
use super::history::{Action, History, Op, Outcome};
use super::olt::{OltClient, Place, Refusal};
use super::rest::{self, Client};

/// How long a client goes on trying one command before it writes down that nobody knows.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a reader waits for an answer: longer than a node on a machine that does much else may take.
const READ_PATIENCE: Duration = Duration::from_secs(10);
/// How often an OLT reports.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// What clients there are.
#[derive(Clone, Debug)]
pub struct Load {
    /// Pool that they allocate from.
    pub pool: String,
    /// OLTs, each with one command on its way.
    pub olts: usize,
    /// Clients that let the centre choose, over REST.
    pub centrals: usize,
    /// Nodes that are written to.
    pub writers: Vec<usize>,
    /// Nodes that are read from, each by one client.
    pub readers: Vec<usize>,
    /// Addresses that an OLT uses over and over.
    pub window: usize,
    /// Pause of a client after each operation.
    pub pause: Duration,
    /// Tells the ids of this load's OLTs and subscribers from those of another in the same cluster.
    pub name: String,
}

impl Load {
    /// Four OLTs and two REST clients that write to `writers`, a reader on each of `readers`.
    #[must_use]
    pub fn new(pool: &str, writers: &[usize], readers: &[usize]) -> Self {
        Self {
            pool: pool.to_owned(),
            olts: 4,
            centrals: 2,
            writers: writers.to_vec(),
            readers: readers.to_vec(),
            window: 200,
            pause: Duration::from_millis(5),
            name: "a".to_owned(),
        }
    }
}

/// Clients at work. Dropped, they end.
#[derive(Debug)]
pub struct Workload {
    shared: Arc<Shared>,
    writers: Vec<JoinHandle<Result<History>>>,
    readers: Vec<(usize, JoinHandle<Result<Reads>>)>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    acknowledged: AtomicU64,
    began: Instant,
    namespace: PathBuf,
}

/// What came of it.
#[derive(Debug)]
pub struct WorkloadReport {
    /// What writers were told.
    pub history: History,
    /// What readers got, by node.
    pub reads: BTreeMap<usize, Reads>,
    /// How long it went on.
    pub took: Duration,
}

/// What a reader got.
#[derive(Clone, Debug, Default)]
pub struct Reads {
    /// Answers.
    pub served: u64,
    /// Requests without one, or with an error.
    pub failed: u64,
    /// The first of those.
    pub first_failure: Option<String>,
}

impl Workload {
    /// Starts them; returns once each has something to do.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn start(bench: &ClusterBench, load: &Load) -> Result<Self> {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            began: Instant::now(),
            namespace: bench.network().switch_path(),
        });
        let nodes = load
            .writers
            .iter()
            .map(|place| Ok((*place, bench.node(*place)?.address())))
            .collect::<Result<Vec<_>>>()?;
        let mut workload = Self {
            shared,
            writers: Vec::new(),
            readers: Vec::new(),
        };
        for number in 0..load.olts {
            let (shared, load) = (Arc::clone(&workload.shared), load.clone());
            // Each begins with another node.
            let mut nodes = nodes.clone();
            let count = nodes.len().max(1);
            nodes.rotate_left(number % count);
            let work = move || olt_thread(&shared, &load, number, &nodes);
            workload.writers.push(std::thread::spawn(work));
        }
        for number in 0..load.centrals {
            let (shared, load, nodes) = (Arc::clone(&workload.shared), load.clone(), nodes.clone());
            let work = move || central_thread(&shared, &load, number, &nodes);
            workload.writers.push(std::thread::spawn(work));
        }
        for place in &load.readers {
            let shared = Arc::clone(&workload.shared);
            let address = bench.node(*place)?.address();
            let work = move || read_thread(&shared, address);
            workload.readers.push((*place, std::thread::spawn(work)));
        }
        Ok(workload)
    }

    /// Writes acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Time since the history began.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.shared.began.elapsed()
    }

    /// Waits until so many more writes are acknowledged.
    ///
    /// # Errors
    /// If that does not happen within `timeout`.
    pub fn wait_progress(&self, more: u64, timeout: Duration) -> Result<()> {
        let goal = self.acknowledged().saturating_add(more);
        crate::interrupt::wait_until(&format!("{more} more writes"), timeout, || {
            Ok((self.acknowledged() >= goal).then_some(()))
        })
    }

    /// Ends them and gives what they wrote down.
    ///
    /// # Errors
    /// If a client could not begin at all.
    pub fn stop(mut self) -> Result<WorkloadReport> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut history = History::default();
        for thread in self.writers.drain(..) {
            let part = thread.join().map_err(|_| anyhow!("a writer panicked"))??;
            history.append(part);
        }
        let mut reads = BTreeMap::new();
        for (place, thread) in self.readers.drain(..) {
            reads.insert(
                place,
                thread.join().map_err(|_| anyhow!("a reader panicked"))??,
            );
        }
        Ok(WorkloadReport {
            history,
            reads,
            took: self.shared.began.elapsed(),
        })
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.writers.drain(..) {
            let _ = thread.join();
        }
        for (_, thread) in self.readers.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn acknowledge(&self, outcome: &Outcome) {
        if *outcome == Outcome::Ok {
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What an OLT believes of an address.
#[derive(Clone)]
enum Belief {
    Free,
    /// This subscriber has it, or may have it: its end is the next thing to ask for.
    Taken(String),
}

fn olt_thread(
    shared: &Shared,
    load: &Load,
    number: usize,
    nodes: &[(usize, Ipv4Addr)],
) -> Result<History> {
    rest::enter(&shared.namespace)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot make a runtime")?;
    runtime.block_on(async {
        let id = format!("olt-{}-{number}", load.name);
        let mut olt = OltClient::new(&id, &load.pool, nodes, PATIENCE)?;
        olt.register().await?;
        work_as_olt(shared, load, number, &mut olt).await
    })
}

async fn work_as_olt(
    shared: &Shared,
    load: &Load,
    number: usize,
    olt: &mut OltClient,
) -> Result<History> {
    let mut random = SmallRng::seed_from_u64(u64::try_from(number).unwrap_or(0));
    let mut addresses: Vec<(Place, Belief)> = olt
        .places(load.window)
        .into_iter()
        .map(|place| (place, Belief::Free))
        .collect();
    let mut history = History::default();
    let (mut made, mut reported) = (0_u64, Instant::now());
    while shared.goes_on() {
        if reported.elapsed() >= HEARTBEAT {
            // Whether it arrives is no part of what is checked; a lease is much longer.
            let _ = olt.heartbeat().await;
            reported = Instant::now();
        }
        let index = random.random_range(0..addresses.len().max(1));
        let (place, belief) = addresses
            .get_mut(index)
            .context("a shard without addresses")?;
        let began = shared.began.elapsed();
        let (action, subscriber, done) = match belief {
            Belief::Free => {
                made += 1;
                let subscriber = format!("{}-{made}", olt.id());
                let done = olt.allocate(&subscriber, place).await;
                (Action::Allocate, subscriber, done)
            }
            Belief::Taken(subscriber) => {
                let subscriber = subscriber.clone();
                let done = olt.release(&subscriber, place).await;
                (Action::Release, subscriber, done)
            }
        };
        *belief = match (action, &done) {
            (Action::Release, Ok(())) | (Action::Allocate, Err(Refusal::Refused(_))) => {
                Belief::Free
            }
            _ => Belief::Taken(subscriber.clone()),
        };
        let refused = matches!(done, Err(Refusal::Refused(_)));
        let outcome = match done {
            Ok(()) => Outcome::Ok,
            Err(Refusal::Refused(why)) => Outcome::Refused(why),
            Err(Refusal::Unknown(why)) => Outcome::Unknown(why),
        };
        shared.acknowledge(&outcome);
        history.ops.push(Op {
            chain: place.resource.clone(),
            action,
            pool: load.pool.clone(),
            subscriber,
            resource: Some(place.resource.clone()),
            began,
            ended: shared.began.elapsed(),
            node: olt.node(),
            outcome,
        });
        if refused {
            // A node may have forgotten who this is, or have another epoch for its shard.
            let _ = olt.register().await;
        }
        tokio::time::sleep(load.pause).await;
    }
    Ok(history)
}

fn central_thread(
    shared: &Shared,
    load: &Load,
    number: usize,
    nodes: &[(usize, Ipv4Addr)],
) -> Result<History> {
    rest::enter(&shared.namespace)?;
    let clients: Vec<(usize, Client)> = nodes
        .iter()
        .map(|(place, address)| {
            let client = Client::new(shared.namespace.clone(), *address);
            (*place, client.patience(Duration::from_secs(5)))
        })
        .collect();
    let mut random = SmallRng::seed_from_u64(0x00c3_0000 + u64::try_from(number).unwrap_or(0));
    let mut history = History::default();
    let mut held: Vec<(String, Option<String>)> = Vec::new();
    let mut made = 0_u64;
    while shared.goes_on() {
        let (place, client) = clients
            .get(random.random_range(0..clients.len().max(1)))
            .context("no node to write to")?;
        let began = shared.began.elapsed();
        let release = held.len() > 20 && random.random_bool(0.4);
        let (action, subscriber, before) = if release {
            let (subscriber, resource) = held.swap_remove(random.random_range(0..held.len()));
            (Action::Release, subscriber, resource)
        } else {
            made += 1;
            (
                Action::Allocate,
                format!("sub-{}-{number}-{made}", load.name),
                None,
            )
        };
        let (outcome, resource) = ask_centre(client, &load.pool, action, &subscriber);
        shared.acknowledge(&outcome);
        let resource = resource.or(before);
        // Whatever else came of it is not asked for again: a request that hangs somewhere may still be done later.
        if action == Action::Allocate && outcome == Outcome::Ok {
            held.push((subscriber.clone(), resource.clone()));
        }
        history.ops.push(Op {
            chain: subscriber.clone(),
            action,
            pool: load.pool.clone(),
            subscriber,
            resource,
            began,
            ended: shared.began.elapsed(),
            node: *place,
            outcome,
        });
        std::thread::sleep(load.pause);
    }
    Ok(history)
}

fn ask_centre(
    client: &Client,
    pool: &str,
    action: Action,
    subscriber: &str,
) -> (Outcome, Option<String>) {
    let answer = match action {
        Action::Allocate => {
            let body = json!({"pool_id": pool, "subscriber_id": subscriber});
            client.post_here("/api/v1/allocate", &body)
        }
        Action::Release => {
            client.delete_here(&format!("/api/v1/allocate/{subscriber}?pool_id={pool}"))
        }
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return (Outcome::Unknown(format!("{error:#}")), None),
    };
    let resource = answer.body.pointer("/allocation/resource");
    let resource = resource.and_then(Value::as_str).map(str::to_owned);
    let why = || format!("HTTP {} {}", answer.status, answer.body);
    match answer.status {
        200 | 201 => (Outcome::Ok, resource),
        400..=407 | 409..=499 => (Outcome::Refused(why()), None),
        _ => (Outcome::Unknown(why()), None),
    }
}

fn read_thread(shared: &Shared, address: Ipv4Addr) -> Result<Reads> {
    rest::enter(&shared.namespace)?;
    let client = Client::new(shared.namespace.clone(), address).patience(READ_PATIENCE);
    let mut reads = Reads::default();
    while shared.goes_on() {
        let failure = match client.get_here("/api/v1/allocations?limit=50") {
            Ok(answer) if answer.status == 200 => None,
            Ok(answer) => Some(format!("HTTP {} {}", answer.status, answer.body)),
            Err(error) => Some(format!("{error:#}")),
        };
        match failure {
            None => reads.served += 1,
            Some(why) => {
                reads.failed += 1;
                reads.first_failure.get_or_insert(why);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(reads)
}
