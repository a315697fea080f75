//! One replica at work: store, replica, machine and link, driven by a task of its own, as a server drives them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow};
use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, StreamExt as _};
use nexus_clset::{
    Change, Delta, Fence, Input, Member, NodeId, Now, Options, Output, Replica, Sync, Ticket,
    UnixMillis, Write,
};
use nexus_p2p::{Answer, ClusterKey, Event, Hello, Link, PeerAddress};
use nexus_store::{Batch, ReplicaRows, Store, StoreError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

/// The channel of the replicas' questions.
const CHANNEL: u8 = 1;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(10);
/// Changes on their way to the disk before no more writes are taken.
const MOST_COMMITS: usize = 256;
/// Commands and answers that may wait.
const QUEUE: usize = 1024;

/// Keys and values of one write.
pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

enum Command {
    /// All in one change; answered when it is durable.
    Write(Pairs, oneshot::Sender<()>),
    Members(Vec<Member>, u64),
    /// Hears and reaches none of these from now on.
    Cut(BTreeSet<u32>),
}

/// What a replica shows of itself, every few milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Entries and their sum.
    pub root: (u64, u128),
    /// Whether it has had its first copy.
    pub complete: bool,
    /// Whether every member is in sync with it.
    pub converged: bool,
    /// Why it has given up, if it has.
    pub failed: Option<String>,
    /// What the machine wanted an operator to read, the last of it.
    pub notice: Option<String>,
}

/// The station.
pub struct Station {
    /// Its number.
    pub number: u32,
    link: Link,
    commands: mpsc::Sender<Command>,
    view: watch::Receiver<View>,
}

impl Station {
    /// Starts a replica with its store below `directory`. `peers` are addresses to dial; with none of them it is
    /// the first one.
    pub async fn start(number: u32, directory: &Path, peers: Vec<String>) -> Result<Self> {
        let home = directory.join(format!("r{number}"));
        std::fs::create_dir_all(&home).context("cannot make a directory")?;
        let store = Store::open(&home.join("store"), nexus_store::Options::default())
            .context("cannot open a store")?;
        let first = peers.is_empty();
        let (link, events) = Link::start(nexus_p2p::Options {
            hello: Hello {
                number,
                name: format!("r{number}"),
                role: "core".to_owned(),
                versions: 1..=1,
                extra: Vec::new(),
            },
            key_file: home.join("node.key"),
            cluster_key: ClusterKey::from_hex(&"5a".repeat(32)).context("a key")?,
            listen: "127.0.0.1:0".parse().context("an address")?,
            bootstrap: peers,
            allowed_peers: Vec::new(),
            topic: "nexus-bench".to_owned(),
            advertise: Vec::new(),
            channels: vec![CHANNEL],
        })
        .await
        .context("cannot listen")?;
        let clock = Clock(Instant::now());
        let now = clock.now();
        let (mut replica, boot) =
            Replica::open(ReplicaRows::from(store.clone()), NodeId(number), now.wall)
                .map_err(|error| anyhow!("cannot open a replica: {error}"))?;
        store.commit(Batch::from(&boot)).await?;
        replica.settle(boot.ticket);
        if first {
            let founded = replica.found();
            store.commit(Batch::from(&founded)).await?;
            replica.settle(founded.ticket);
        }
        let options = Options {
            seed: u64::from(number),
            ..Options::default()
        };
        let sync = Sync::new(options, &replica, now);
        let (commands, taken) = mpsc::channel(QUEUE);
        let (shown, view) = watch::channel(View::default());
        let (answers, answered) = mpsc::channel(QUEUE);
        let work = Work {
            store,
            replica,
            sync,
            link: link.clone(),
            clock,
            commits: FuturesOrdered::new(),
            unsent: VecDeque::new(),
            acknowledgements: VecDeque::new(),
            waiting: BTreeMap::new(),
            next_id: 0,
            answers,
            cut: BTreeSet::new(),
            up: BTreeSet::new(),
            notice: None,
        };
        tokio::spawn(work.run(events, taken, answered, shown));
        Ok(Self {
            number,
            link,
            commands,
            view,
        })
    }

    /// Where it can be dialled, over TCP.
    pub fn addresses(&self) -> Vec<String> {
        let all = self.link.addresses();
        all.into_iter().filter(|at| at.contains("/tcp/")).collect()
    }

    /// What it shows now.
    pub fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// Bytes read from and written to its peers since its start, all protocols, without encryption.
    pub fn bytes(&self) -> (u64, u64) {
        let peers = self.link.peers();
        let sum = |of: fn(&nexus_p2p::PeerInfo) -> u64| peers.iter().map(of).sum();
        (sum(|peer| peer.bytes_in), sum(|peer| peer.bytes_out))
    }

    /// Writes all in one change; the receiver is told when that is durable here.
    pub async fn write(&self, pairs: Pairs) -> Result<oneshot::Receiver<()>> {
        let (done, durable) = oneshot::channel();
        self.send(Command::Write(pairs, done)).await?;
        Ok(durable)
    }

    /// Tells it who belongs to the cluster, itself among them.
    pub async fn members(&self, all: &[Self], epoch: u64) -> Result<()> {
        let addresses = all.iter().map(|station| PeerAddress {
            number: station.number,
            peer_id: station.link.peer_id().to_owned(),
            addresses: station.addresses(),
        });
        self.link.set_members(addresses.collect(), Vec::new());
        let members = all.iter().map(|station| Member {
            node: NodeId(station.number),
            admitted: u64::from(station.number),
        });
        self.send(Command::Members(members.collect(), epoch)).await
    }

    /// From now on it neither hears nor reaches these. Connections stay; what they carry is dropped.
    pub async fn cut(&self, numbers: &[u32]) -> Result<()> {
        self.send(Command::Cut(numbers.iter().copied().collect()))
            .await
    }

    async fn send(&self, command: Command) -> Result<()> {
        let sent = self.commands.send(command).await;
        sent.map_err(|_| anyhow!("replica {} has given up: {:?}", self.number, self.view()))
    }
}

#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn now(self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        let wall = wall.unwrap_or_default().as_millis();
        Now {
            boot: self.0.elapsed(),
            wall: UnixMillis(u64::try_from(wall).unwrap_or(u64::MAX)),
        }
    }
}

type Commits = FuturesOrdered<BoxFuture<'static, (Ticket, Result<(), StoreError>)>>;
/// Who answered which question; nothing: not at all.
type Answered = (NodeId, u64, Option<Vec<u8>>);

struct Work {
    store: Store,
    replica: Replica<ReplicaRows>,
    sync: Sync,
    link: Link,
    clock: Clock,
    /// In the order of their tickets.
    commits: Commits,
    /// Own changes that are not durable yet; no more than commits.
    unsent: VecDeque<(Ticket, Delta)>,
    acknowledgements: VecDeque<(Ticket, oneshot::Sender<()>)>,
    /// Questions of peers; the link bounds them.
    waiting: BTreeMap<u64, Answer>,
    next_id: u64,
    answers: mpsc::Sender<Answered>,
    cut: BTreeSet<u32>,
    up: BTreeSet<u32>,
    notice: Option<String>,
}

impl Work {
    async fn run(
        mut self,
        mut events: mpsc::Receiver<Event>,
        mut commands: mpsc::Receiver<Command>,
        mut answered: mpsc::Receiver<Answered>,
        shown: watch::Sender<View>,
    ) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                Some((ticket, done)) = self.commits.next(), if !self.commits.is_empty() => match done {
                    Ok(()) => self.durable(ticket).await,
                    Err(error) => Err(error.into()),
                },
                event = events.recv() => match event {
                    Some(event) => self.event(event).await,
                    None => return,
                },
                Some((from, id, bytes)) = answered.recv() => {
                    let input = match &bytes {
                        Some(bytes) if !self.cut.contains(&from.0) => Input::Answer { from, id, bytes },
                        _ => Input::Failed { from, id },
                    };
                    self.step(input).await
                }
                command = commands.recv(), if self.commits.len() < MOST_COMMITS => match command {
                    Some(command) => self.command(command).await,
                    None => return,
                },
                _ = ticks.tick() => self.step(Input::Tick).await,
            };
            let failed = done.err().map(|error| format!("{error:#}"));
            let over = failed.is_some();
            shown.send_replace(self.view(failed));
            if over {
                return;
            }
        }
    }

    fn view(&self, failed: Option<String>) -> View {
        let fingerprint = self.replica.fingerprint();
        let failed = failed.or_else(|| self.sync.must_start_over().map(str::to_owned));
        View {
            root: (fingerprint.count, fingerprint.sum),
            complete: self.replica.is_complete(),
            converged: self.sync.report().converged,
            failed,
            notice: self.notice.clone(),
        }
    }

    async fn command(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Members(members, epoch) => {
                let members = &members;
                self.step(Input::Members { epoch, members }).await
            }
            Command::Cut(cut) => {
                let before = std::mem::replace(&mut self.cut, cut);
                for number in self.up.clone() {
                    let node = NodeId(number);
                    match (before.contains(&number), self.cut.contains(&number)) {
                        (false, true) => self.step(Input::Down(node)).await?,
                        (true, false) => self.step(Input::Up(node)).await?,
                        _ => {}
                    }
                }
                Ok(())
            }
            Command::Write(pairs, done) => {
                let writes: Vec<Write<'_>> = pairs
                    .iter()
                    .map(|(key, value)| Write::put(key, value, Fence::NONE))
                    .collect();
                let now = self.clock.now();
                let mut change = self
                    .replica
                    .write(&writes, now.wall)
                    .map_err(|error| anyhow!("cannot write: {error}"))?;
                if let Some(delta) = change.delta.take() {
                    self.unsent.push_back((change.ticket, delta));
                }
                self.acknowledgements.push_back((change.ticket, done));
                self.commit(&change).await
            }
        }
    }

    async fn event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Up(peer) => {
                self.up.insert(peer.number);
                if self.cut.contains(&peer.number) {
                    return Ok(());
                }
                self.step(Input::Up(NodeId(peer.number))).await
            }
            Event::Down { number, .. } => {
                self.up.remove(&number);
                self.step(Input::Down(NodeId(number))).await
            }
            Event::Gossip { from, bytes } if !self.cut.contains(&from) => {
                let from = NodeId(from);
                self.step(Input::Gossip {
                    from,
                    bytes: &bytes,
                })
                .await
            }
            Event::Asked {
                from,
                bytes,
                answer,
                ..
            } if !self.cut.contains(&from) => {
                self.next_id += 1;
                self.waiting.insert(self.next_id, answer);
                let (from, id) = (NodeId(from), self.next_id);
                self.step(Input::Question {
                    from,
                    id,
                    bytes: &bytes,
                })
                .await
            }
            _ => Ok(()),
        }
    }

    async fn durable(&mut self, ticket: Ticket) -> Result<()> {
        self.step(Input::Durable(ticket)).await?;
        while self.unsent.front().is_some_and(|(at, _)| *at <= ticket) {
            if let Some((_, delta)) = self.unsent.pop_front() {
                self.step(Input::Wrote(delta)).await?;
            }
        }
        while self
            .acknowledgements
            .front()
            .is_some_and(|(at, _)| *at <= ticket)
        {
            if let Some((_, done)) = self.acknowledgements.pop_front() {
                // Whoever asked may be gone.
                let _ = done.send(());
            }
        }
        Ok(())
    }

    async fn step(&mut self, input: Input<'_>) -> Result<()> {
        let now = self.clock.now();
        let outputs = self
            .sync
            .step(&mut self.replica, now, input)
            .map_err(|error| anyhow!("the machine stopped: {error}"))?;
        for output in outputs {
            match output {
                Output::Write(change) => self.commit(&change).await?,
                Output::Publish(bytes) => {
                    // Best effort: what is not sent is pulled.
                    let _ = self.link.publish(bytes);
                }
                Output::Ask { to, id, bytes } => {
                    let (link, answers) = (self.link.clone(), self.answers.clone());
                    tokio::spawn(async move {
                        let answer = link.ask(to.0, CHANNEL, bytes, PATIENCE).await;
                        // The station may be gone.
                        let _ = answers.send((to, id, answer.ok())).await;
                    });
                }
                Output::Answer { id, bytes } => {
                    if let Some(answer) = self.waiting.remove(&id) {
                        answer.send(bytes);
                    }
                }
                Output::Misbehaved { from, what } => {
                    return Err(anyhow!("replica {} misbehaved: {what}", from.0));
                }
                Output::Report(notice) => self.notice = Some(format!("{notice:?}")),
            }
        }
        Ok(())
    }

    /// Queues the rows of a change behind those of all changes before it.
    async fn commit(&mut self, change: &Change) -> Result<()> {
        let ticket = change.ticket;
        let batch = Batch::from(change);
        if batch.is_empty() {
            self.commits
                .push_back(Box::pin(async move { (ticket, Ok(())) }));
            return Ok(());
        }
        let commit = self.store.reserve().await?.submit(batch)?;
        self.commits
            .push_back(Box::pin(async move { (ticket, commit.await) }));
        Ok(())
    }
}
