//! Tombstones: the same keys created and deleted again and again by two replicas with rows in memory, over days of a
//! time of its own; what that leaves in memory.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use nexus_clset::{
    Change, Error, Fence, Input, Member, MemoryRows, NodeId, Now, Options, Output, Replica,
    RowKind, Sync, UnixMillis,
};
use serde::{Deserialize, Serialize};

use crate::resident;

/// Time between two cycles: ten million take a week, so that tombstones come of age (a day).
const BETWEEN: Duration = Duration::from_millis(60);
/// Cycles between two ticks.
const TICK_EVERY: u64 = 100;
const START: UnixMillis = UnixMillis(1_800_000_000_000);

/// What to do.
#[derive(Clone, Debug, Deserialize)]
pub struct Plan {
    /// Creations, each with the deletion of the same key.
    pub cycles: u64,
    /// Keys.
    pub keys: u64,
}

/// What came of it, of both replicas together.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Cycles per second.
    pub per_second: f64,
    /// Days that went by.
    pub days: f64,
    /// Resident memory in bytes after a tenth of the cycles, and after all of them.
    pub resident_early: u64,
    /// The same in the end.
    pub resident_late: u64,
    /// Rows of both replicas after a tenth of the cycles.
    pub rows_early: u64,
    /// The same in the end.
    pub rows_late: u64,
    /// Entries of one replica in the end, tombstones among them.
    pub entries: u64,
    /// Entries once everything has rested for two more days.
    pub entries_rested: u64,
    /// Whether both replicas held the same in the end.
    pub equal: bool,
}

/// Carries out a plan.
pub fn run(plan: &Plan) -> Result<Report> {
    let mut world = World::new()?;
    let began = Instant::now();
    let mut early = (0, 0);
    for cycle in 0..plan.cycles {
        let key = format!("allocations/default/ipv4/{:08}", cycle % plan.keys.max(1));
        let writer = usize::try_from(cycle % 2).unwrap_or(0);
        world.put(writer, key.as_bytes())?;
        world.delete(writer, key.as_bytes())?;
        world.now.boot += BETWEEN;
        world.now.wall.0 += u64::try_from(BETWEEN.as_millis()).unwrap_or(0);
        if cycle % TICK_EVERY == 0 {
            world.tick()?;
        }
        if cycle == plan.cycles / 10 {
            early = (resident(), world.rows());
        }
    }
    let took = began.elapsed().as_secs_f64();
    world.rest(Duration::from_secs(60))?;
    let (resident_late, rows_late) = (resident(), world.rows());
    let entries = world.roots()[0].0;
    world.rest(Duration::from_secs(2 * 24 * 3600))?;
    let [one, other] = world.roots();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let per_second = plan.cycles as f64 / took;
    Ok(Report {
        per_second,
        days: world.now.boot.as_secs_f64() / 86_400.0,
        resident_early: early.0,
        resident_late,
        rows_early: early.1,
        rows_late,
        entries,
        entries_rested: one.0,
        equal: one == other,
    })
}

struct Node {
    rows: MemoryRows,
    replica: Replica<MemoryRows>,
    sync: Sync,
}

enum Message {
    Gossip(Vec<u8>),
    Question(u64, Vec<u8>),
    Answer(u64, Vec<u8>),
}

/// Two replicas that reach each other at once.
struct World {
    nodes: [Node; 2],
    now: Now,
    /// To whom; emptied after each input.
    sent: VecDeque<(usize, Message)>,
}

const IDS: [NodeId; 2] = [NodeId(1), NodeId(2)];

fn broken(error: &Error<Infallible>) -> anyhow::Error {
    anyhow!("a replica stopped: {error}")
}

impl World {
    fn new() -> Result<Self> {
        let now = Now {
            boot: Duration::from_secs(1),
            wall: START,
        };
        let mut world = Self {
            nodes: [Node::open(IDS[0], now)?, Node::open(IDS[1], now)?],
            now,
            sent: VecDeque::new(),
        };
        let founded = world.nodes[0].replica.found();
        world.nodes[0].write(&founded);
        world.input(0, Input::Durable(founded.ticket))?;
        let members = IDS.map(|node| Member { node, admitted: 1 });
        for (place, other) in [(0, IDS[1]), (1, IDS[0])] {
            let members = &members;
            world.input(place, Input::Members { epoch: 1, members })?;
            world.input(place, Input::Up(other))?;
        }
        world.rest(Duration::from_secs(60))?;
        Ok(world)
    }

    fn put(&mut self, place: usize, key: &[u8]) -> Result<()> {
        let wall = self.now.wall;
        let node = self.nodes.get_mut(place).context("no such replica")?;
        let change = node
            .replica
            .put(key, &[0x2a; 96], Fence::NONE, wall)
            .map_err(|error| broken(&error))?;
        self.wrote(place, change)
    }

    fn delete(&mut self, place: usize, key: &[u8]) -> Result<()> {
        let wall = self.now.wall;
        let node = self.nodes.get_mut(place).context("no such replica")?;
        let change = node
            .replica
            .delete(key, Fence::NONE, wall)
            .map_err(|error| broken(&error))?;
        self.wrote(place, change)
    }

    fn wrote(&mut self, place: usize, mut change: Change) -> Result<()> {
        if let Some(node) = self.nodes.get_mut(place) {
            node.write(&change);
        }
        self.input(place, Input::Durable(change.ticket))?;
        if let Some(delta) = change.delta.take() {
            self.input(place, Input::Wrote(delta))?;
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<()> {
        self.input(0, Input::Tick)?;
        self.input(1, Input::Tick)
    }

    /// Lets so much time go by with nothing written.
    fn rest(&mut self, time: Duration) -> Result<()> {
        let steps = 2000_u32;
        for _ in 0..steps {
            self.now.boot += time / steps;
            self.now.wall.0 += u64::try_from((time / steps).as_millis()).unwrap_or(0);
            self.tick()?;
        }
        Ok(())
    }

    /// Takes an input, and everything that follows from it.
    fn input(&mut self, place: usize, input: Input<'_>) -> Result<()> {
        self.step(place, input)?;
        while let Some((to, message)) = self.sent.pop_front() {
            let from = *IDS.get(1 - to).context("no such replica")?;
            match message {
                Message::Gossip(bytes) => self.step(
                    to,
                    Input::Gossip {
                        from,
                        bytes: &bytes,
                    },
                )?,
                Message::Question(id, bytes) => self.step(
                    to,
                    Input::Question {
                        from,
                        id,
                        bytes: &bytes,
                    },
                )?,
                Message::Answer(id, bytes) => self.step(
                    to,
                    Input::Answer {
                        from,
                        id,
                        bytes: &bytes,
                    },
                )?,
            }
        }
        Ok(())
    }

    fn step(&mut self, place: usize, input: Input<'_>) -> Result<()> {
        let mut outputs = VecDeque::from(self.node(place)?.step(input)?);
        let other = 1 - place;
        while let Some(output) = outputs.pop_front() {
            match output {
                Output::Write(change) => {
                    let (node, _) = self.node(place)?;
                    node.write(&change);
                    outputs.extend(self.node(place)?.step(Input::Durable(change.ticket))?);
                }
                Output::Publish(bytes) => self.sent.push_back((other, Message::Gossip(bytes))),
                Output::Ask { id, bytes, .. } => {
                    self.sent.push_back((other, Message::Question(id, bytes)));
                }
                Output::Answer { id, bytes } => {
                    self.sent.push_back((other, Message::Answer(id, bytes)));
                }
                Output::Misbehaved { what, .. } => return Err(anyhow!("garbage: {what}")),
                Output::Report(_) => {}
            }
        }
        Ok(())
    }

    fn node(&mut self, place: usize) -> Result<(&mut Node, Now)> {
        let now = self.now;
        let node = self.nodes.get_mut(place).context("no such replica")?;
        Ok((node, now))
    }

    /// Rows of both.
    fn rows(&self) -> u64 {
        let kinds = [
            RowKind::Entry,
            RowKind::Dot,
            RowKind::Tombstone,
            RowKind::Meta,
        ];
        let of = |node: &Node| {
            kinds
                .iter()
                .map(|kind| node.rows.all(*kind).len())
                .sum::<usize>()
        };
        u64::try_from(self.nodes.iter().map(of).sum::<usize>()).unwrap_or(u64::MAX)
    }

    fn roots(&self) -> [(u64, u128); 2] {
        [0, 1].map(|place: usize| {
            let node = self.nodes.get(place);
            let root = node.map(|node| node.replica.fingerprint());
            root.map_or((0, 0), |root| (root.count, root.sum))
        })
    }
}

trait Step {
    fn step(self, input: Input<'_>) -> Result<Vec<Output>>;
}

impl Step for (&mut Node, Now) {
    fn step(self, input: Input<'_>) -> Result<Vec<Output>> {
        let (node, now) = self;
        node.sync
            .step(&mut node.replica, now, input)
            .map_err(|error| broken(&error))
    }
}

impl Node {
    fn open(id: NodeId, now: Now) -> Result<Self> {
        let rows = MemoryRows::default();
        let (mut replica, boot) =
            Replica::open(rows.clone(), id, now.wall).map_err(|error| broken(&error))?;
        rows.apply(&boot.rows);
        replica.settle(boot.ticket);
        let options = Options {
            seed: u64::from(id.0),
            ..Options::default()
        };
        let sync = Sync::new(options, &replica, now);
        Ok(Self {
            rows,
            replica,
            sync,
        })
    }

    fn write(&self, change: &Change) {
        self.rows.apply(&change.rows);
    }
}
