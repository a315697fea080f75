//! Nodes in one process: each has its own runtime (dropping it is as hard as a crash can be here), its own file, and a
//! channel network between them that can be cut one way or both, delayed and made to lose messages.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nexus_quorum::{
    Applied, BoxFuture, CallError, Limits, Network, Options, ProposeError, Quorum, QuorumError,
    Status, Timing,
};
use rand::Rng as _;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

use super::ledger::{Ledger, Op};

/// A deadline for what should happen soon; generous, because the machine may be busy.
pub const SOON: Duration = Duration::from_secs(180);

type Delivery = (u32, Vec<u8>, oneshot::Sender<Vec<u8>>);

/// What is between the nodes.
#[derive(Default)]
struct Between {
    ends: BTreeMap<u32, mpsc::Sender<Delivery>>,
    cuts: BTreeSet<(u32, u32)>,
    delay: Duration,
    /// Of 1000 messages, so many are lost on each way.
    loss: u32,
    /// If wanted: what was sent, from whom to whom.
    heard: Option<Vec<(u32, u32, Vec<u8>)>>,
}

#[derive(Clone, Default)]
pub struct Net(Arc<Mutex<Between>>);

impl Net {
    /// Nothing gets from `a` to `b`, nor back.
    pub fn cut(&self, a: u32, b: u32) {
        self.cut_way(a, b);
        self.cut_way(b, a);
    }

    pub fn cut_way(&self, from: u32, to: u32) {
        self.0.lock().unwrap().cuts.insert((from, to));
    }

    /// `side` and all others cannot talk to each other.
    pub fn split(&self, side: &[u32], others: &[u32]) {
        for a in side {
            for b in others {
                self.cut(*a, *b);
            }
        }
    }

    pub fn heal(&self) {
        self.0.lock().unwrap().cuts.clear();
    }

    pub fn worsen(&self, delay: Duration, loss: u32) {
        let mut between = self.0.lock().unwrap();
        between.delay = delay;
        between.loss = loss;
    }

    /// Begin to listen in.
    pub fn listen(&self) {
        self.0.lock().unwrap().heard = Some(Vec::new());
    }

    /// What was heard until now.
    pub fn heard(&self) -> Vec<(u32, u32, Vec<u8>)> {
        self.0.lock().unwrap().heard.take().unwrap_or_default()
    }

    fn passes(&self, from: u32, to: u32) -> bool {
        let between = self.0.lock().unwrap();
        !between.cuts.contains(&(from, to)) && !rand::rng().random_ratio(between.loss, 1000)
    }

    async fn travel(&self) {
        let most = self.0.lock().unwrap().delay;
        if most > Duration::ZERO {
            let delay = rand::rng().random_range(Duration::ZERO..most);
            tokio::time::sleep(delay).await;
        }
    }
}

struct Way {
    net: Net,
    from: u32,
}

impl Network for Way {
    fn call(
        &self,
        to: u32,
        message: Vec<u8>,
        patience: Duration,
    ) -> BoxFuture<Result<Vec<u8>, CallError>> {
        assert!(
            message.len() < 4 << 20,
            "{} bytes in one message",
            message.len()
        );
        let (net, from) = (self.net.clone(), self.from);
        if let Some(heard) = &mut net.0.lock().unwrap().heard
            && heard.len() < 5000
        {
            heard.push((from, to, message.clone()));
        }
        let call = async move {
            let lost = || CallError::NoAnswer("lost".to_owned());
            net.travel().await;
            if !net.passes(from, to) {
                tokio::time::sleep(patience).await;
                return Err(lost());
            }
            let end = net.0.lock().unwrap().ends.get(&to).cloned();
            let Some(end) = end else {
                return Err(CallError::NotSent("nobody there".to_owned()));
            };
            let (reply, answer) = oneshot::channel();
            end.send((from, message, reply)).await.map_err(|_| lost())?;
            let answer = answer.await.map_err(|_| lost())?;
            net.travel().await;
            if !net.passes(to, from) {
                tokio::time::sleep(patience).await;
                return Err(lost());
            }
            Ok(answer)
        };
        Box::pin(async move {
            tokio::time::timeout(patience, call)
                .await
                .unwrap_or_else(|_| Err(CallError::NoAnswer("too slow".to_owned())))
        })
    }
}

/// A clock that a test can make run wrong: real time, times `per_mille`, plus `ahead`.
pub struct Skew {
    started: Instant,
    pub per_mille: AtomicU64,
    pub ahead_millis: AtomicU64,
}

impl Skew {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            per_mille: AtomicU64::new(1000),
            ahead_millis: AtomicU64::new(1_000_000),
        })
    }

    fn now(&self) -> Duration {
        let passed = self.started.elapsed()
            * u32::try_from(self.per_mille.load(Ordering::Relaxed)).unwrap()
            / 1000;
        passed + Duration::from_millis(self.ahead_millis.load(Ordering::Relaxed))
    }
}

pub struct Node {
    pub number: u32,
    pub path: PathBuf,
    pub clock: Arc<Skew>,
    pub ledger: Arc<Ledger>,
    pub limits: Limits,
    net: Net,
    running: Option<(Runtime, Quorum)>,
}

pub fn timing() -> Timing {
    Timing {
        heartbeat: Duration::from_millis(60),
        election_min: Duration::from_millis(400),
        election_max: Duration::from_millis(800),
    }
}

impl Node {
    /// A node that is not started yet.
    pub fn new(net: &Net, directory: &std::path::Path, number: u32) -> Self {
        Self {
            number,
            path: directory.join(format!("quorum-{number}.redb")),
            clock: Skew::new(),
            ledger: Arc::default(),
            limits: Limits::default(),
            net: net.clone(),
            running: None,
        }
    }

    /// Start it with an empty machine.
    pub fn start(&mut self) -> Result<(), QuorumError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        self.ledger = Arc::default();
        let clock = Arc::clone(&self.clock);
        let options = Options {
            number: self.number,
            path: self.path.clone(),
            timing: timing(),
            clock: Arc::new(move || clock.now()),
            limits: self.limits,
        };
        let way = Way {
            net: self.net.clone(),
            from: self.number,
        };
        let opened = runtime.block_on(Quorum::open(
            options,
            Arc::<Ledger>::clone(&self.ledger) as _,
            Arc::new(way),
        ));
        let quorum = match opened {
            Ok(quorum) => quorum,
            Err(error) => {
                runtime.shutdown_timeout(SOON);
                return Err(error);
            }
        };
        let (end, mut deliveries) = mpsc::channel::<Delivery>(256);
        let served = quorum.clone();
        runtime.spawn(async move {
            while let Some((from, message, reply)) = deliveries.recv().await {
                let quorum = served.clone();
                tokio::spawn(async move {
                    let _ = reply.send(quorum.answer(from, message).await);
                });
            }
        });
        self.net.0.lock().unwrap().ends.insert(self.number, end);
        self.running = Some((runtime, quorum));
        Ok(())
    }

    pub fn quorum(&self) -> &Quorum {
        &self.running.as_ref().unwrap().1
    }

    pub fn is_up(&self) -> bool {
        self.running.is_some()
    }

    pub fn status(&self) -> Status {
        self.quorum().status()
    }

    /// Run something on this node's runtime and wait for it.
    pub fn run<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        work: impl FnOnce(Quorum) -> F,
    ) -> T {
        let (runtime, quorum) = self.running.as_ref().unwrap();
        let work = work(quorum.clone());
        let (done, result) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let _ = done.send(work.await);
        });
        result.recv_timeout(SOON * 2).unwrap()
    }

    /// Start something on this node's runtime.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.running.as_ref().unwrap().0.spawn(work);
    }

    pub fn propose_for(&self, op: &Op, patience: Duration) -> Result<Applied, ProposeError> {
        let bytes = op.bytes();
        self.run(move |quorum| async move { quorum.propose(bytes, patience).await })
    }

    pub fn propose(&self, op: &Op) -> Result<Applied, ProposeError> {
        self.propose_for(op, SOON)
    }

    pub fn found(&self) -> Result<(), QuorumError> {
        self.run(|quorum| async move { quorum.found().await })
    }

    /// Orderly.
    pub fn stop(&mut self) {
        if let Some((runtime, quorum)) = self.running.take() {
            self.net.0.lock().unwrap().ends.remove(&self.number);
            runtime.block_on(quorum.stop());
            runtime.shutdown_timeout(SOON);
        }
    }

    /// From one moment to the next: no task of it gets to say anything more.
    pub fn kill(&mut self) {
        if let Some((runtime, quorum)) = self.running.take() {
            self.net.0.lock().unwrap().ends.remove(&self.number);
            runtime.shutdown_timeout(SOON);
            drop(quorum);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Wait until `check` gives something.
pub fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {SOON:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A cluster whose members are the first `voters` of its nodes.
pub struct Cluster {
    pub net: Net,
    pub nodes: BTreeMap<u32, Node>,
    pub directory: tempfile::TempDir,
}

impl Cluster {
    /// Nodes 1 to `count`, all of them voters.
    pub fn of(count: u32) -> Self {
        Self::with(count, Limits::default())
    }

    pub fn with(count: u32, limits: Limits) -> Self {
        let mut cluster = Self {
            net: Net::default(),
            nodes: BTreeMap::new(),
            directory: tempfile::tempdir().unwrap(),
        };
        for number in 1..=count {
            cluster.add(number, limits);
        }
        cluster.nodes[&1].found().unwrap();
        for number in 2..=count {
            cluster.admit(number);
        }
        cluster
    }

    /// A new node, started, not a member.
    pub fn add(&mut self, number: u32, limits: Limits) -> &mut Node {
        let mut node = Node::new(&self.net, self.directory.path(), number);
        node.limits = limits;
        node.start().unwrap();
        self.nodes.insert(number, node);
        self.nodes.get_mut(&number).unwrap()
    }

    /// Make it a learner and then a voter, asked for on node 1.
    pub fn admit(&self, number: u32) {
        let first = &self.nodes[&1];
        eventually("admission", || {
            first
                .run(move |quorum| async move { quorum.add_learner(number).await })
                .ok()
        });
        eventually("promotion", || {
            first
                .run(move |quorum| async move { quorum.promote(number).await })
                .ok()
        });
    }

    /// The highest term that one of `among` is in.
    pub fn term(&self, among: &[u32]) -> u64 {
        among
            .iter()
            .map(|number| self.nodes[number].status().term)
            .max()
            .unwrap()
    }

    pub fn up(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(|node| node.is_up())
    }

    /// The leader on which all of `among` agree.
    pub fn leader(&self, among: &[u32]) -> u32 {
        eventually("a leader", || {
            let seen: BTreeSet<_> = among
                .iter()
                .map(|number| self.nodes[number].status().leader)
                .collect();
            match seen.iter().copied().collect::<Vec<_>>().as_slice() {
                [Some(leader)] if among.contains(leader) => Some(*leader),
                _ => None,
            }
        })
    }

    pub fn leader_of_all(&self) -> u32 {
        let up: Vec<u32> = self.up().map(|node| node.number).collect();
        self.leader(&up)
    }

    /// All machines that are up hold the same, byte for byte, and all of it has been applied.
    pub fn expect_equal(&self) -> Vec<u8> {
        let up: Vec<u32> = self.up().map(|node| node.number).collect();
        self.expect_equal_of(&up)
    }

    /// The machines of `among` hold the same.
    pub fn expect_equal_of(&self, among: &[u32]) -> Vec<u8> {
        eventually("equal machines", || {
            let nodes = || among.iter().map(|number| &self.nodes[number]);
            let applied: BTreeSet<_> = nodes().map(|node| node.status().applied).collect();
            let bytes: BTreeSet<_> = nodes().map(|node| node.ledger.bytes()).collect();
            (applied.len() == 1 && bytes.len() == 1).then(|| bytes.into_iter().next().unwrap())
        })
    }
}
