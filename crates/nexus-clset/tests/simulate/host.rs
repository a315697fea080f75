//! One node: the real replica and machine, a disk that takes its time, clocks of its own, and a watcher.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use nexus_clset::{
    Change, Delta, Fingerprint, Input, Member, MemoryRows, NodeId, Now, Options, Output, Replica,
    Revision, RowKind, RowWrite, Sync, UnixMillis, wipe,
};

use crate::bug::Bug;

/// 2027-01-15, in milliseconds.
pub const START: u64 = 1_800_000_000_000;

/// A list of members, as the quorum decided it.
#[derive(Clone, Debug)]
pub struct List {
    pub epoch: u64,
    pub members: Vec<Member>,
}

/// A change on its way to the disk.
pub struct Job {
    pub change: Change,
    /// Made here, not received.
    pub own: bool,
}

/// What runs until the power fails.
pub struct Running {
    pub replica: Replica<MemoryRows>,
    pub sync: Sync,
    pub queue: VecDeque<Job>,
    /// How many of them the disk is busy with.
    pub flushing: usize,
    pub watcher: Watcher,
}

/// Follows all changes and keeps what they say.
pub struct Watcher {
    pub at: Revision,
    pub map: BTreeMap<Vec<u8>, Vec<u8>>,
}

pub struct Host {
    pub id: NodeId,
    /// Whether it takes writes of clients.
    pub writes: bool,
    pub disk: MemoryRows,
    pub running: Option<Running>,
    /// Number of its boots: what belongs to an earlier one is void.
    pub life: u64,
    /// The list of members that it was told last.
    pub list: Option<List>,
    /// How far its wall clock is ahead, and whether it was ever off.
    pub clock: i64,
    pub was_off: bool,
    /// Flushes take so long.
    pub flush: (u64, u64),
    /// What this node held since its last boot.
    pub roots: BTreeSet<(u64, u128)>,
    pub booted_at: Duration,
    /// It was in no list of members for a while, so it may have to start over.
    pub was_removed: bool,
    pub gone: bool,
    /// The greatest stamp that came, for a planted fault.
    pub dragged_to: u64,
}

impl Host {
    pub fn new(id: NodeId, writes: bool) -> Self {
        Self {
            id,
            writes,
            disk: MemoryRows::default(),
            running: None,
            life: 0,
            list: None,
            clock: 0,
            was_off: false,
            flush: (1, 5),
            roots: BTreeSet::new(),
            booted_at: Duration::ZERO,
            was_removed: false,
            gone: false,
            dragged_to: 0,
        }
    }

    /// A wall clock that is right.
    pub fn wall(boot: Duration) -> u64 {
        START + boot.as_millis() as u64
    }

    pub fn now(&self, boot: Duration) -> Now {
        let wall = Self::wall(boot);
        Now {
            boot,
            wall: UnixMillis(wall.saturating_add_signed(self.clock).max(self.dragged_to)),
        }
    }

    /// Boots what is on the disk. `founds` a cluster once.
    pub fn boot(
        &mut self,
        now: Now,
        options: &Options,
        age: Duration,
        founds: bool,
        bug: Option<Bug>,
    ) {
        self.life += 1;
        let mut wall = now.wall;
        if bug == Some(Bug::IncarnationReused)
            && let Some(before) = self.take_incarnation_back()
        {
            wall = before;
        }
        let (mut replica, change) = Replica::open(self.disk.clone(), self.id, wall).unwrap();
        self.disk.apply(&change.rows);
        replica.settle(change.ticket);
        replica.set_tombstone_age(age);
        let sync = Sync::new(options.clone(), &replica, now);
        let mut queue = VecDeque::new();
        if founds {
            let change = replica.found();
            queue.push_back(Job { change, own: false });
        }
        let watcher = Watcher::from_start(&replica);
        self.running = Some(Running {
            replica,
            sync,
            queue,
            flushing: 0,
            watcher,
        });
        self.roots.clear();
        self.note_root();
    }

    /// Makes the next boot take the incarnation of the last one. Says what the wall clock has to show then.
    fn take_incarnation_back(&self) -> Option<UnixMillis> {
        let rows = self.disk.all(RowKind::Meta);
        let (key, mut value) = rows.into_iter().find(|(key, _)| key == b"node")?;
        let (_, incarnation) = value.split_at_mut(5);
        let last = u32::from_be_bytes(incarnation.try_into().unwrap());
        incarnation.copy_from_slice(&(last - 1).to_be_bytes());
        self.disk.apply(&[RowWrite {
            kind: RowKind::Meta,
            key,
            value: Some(value),
        }]);
        Some(UnixMillis(u64::from(last) * 1000))
    }

    /// Power fails: of what the disk is busy with, the first `kept` changes are on it.
    pub fn crash(&mut self, kept: usize) {
        if let Some(running) = self.running.take() {
            for job in running.queue.iter().take(kept.min(running.flushing)) {
                self.disk.apply(&job.change.rows);
            }
        }
    }

    /// Takes all rows away, as far as `batches` go. Says whether that was all.
    pub fn wipe(&mut self, batches: usize) -> bool {
        for _ in 0..batches {
            let rows = wipe(&self.disk).unwrap();
            if rows.is_empty() {
                return true;
            }
            self.disk.apply(&rows);
        }
        false
    }

    /// Goes on with taking away rows if the power failed on the way.
    pub fn wipe_on(&mut self) {
        let meta = self.disk.all(RowKind::Meta);
        if meta.iter().any(|(key, _)| key == b"wiping") {
            self.wipe(usize::MAX);
        }
    }

    /// Lets the wall clock follow what a publication is stamped with.
    pub fn drag(&mut self, publication: &[u8]) {
        if let Ok(delta) = Delta::decode(&publication[2..]) {
            let stamps = delta
                .entries
                .iter()
                .map(|(_, entry)| entry.version.hlc.millis().0);
            self.dragged_to = self.dragged_to.max(stamps.max().unwrap_or(0));
        }
    }

    pub fn is_member_by_its_list(&self) -> bool {
        let listed = |list: &List| list.members.iter().any(|member| member.node == self.id);
        self.list.as_ref().is_some_and(listed)
    }

    pub fn step(&mut self, now: Now, input: Input<'_>) -> Result<Vec<Output>, String> {
        let Some(running) = &mut self.running else {
            return Ok(Vec::new());
        };
        let outputs = running.sync.step(&mut running.replica, now, input);
        self.note_root();
        outputs.map_err(|error| format!("node {}: {error}", self.id.0))
    }

    /// Remembers what this node held.
    pub fn note_root(&mut self) {
        if let Some(root) = self.root() {
            self.roots.insert((root.count, root.sum));
        }
    }

    pub fn root(&self) -> Option<Fingerprint> {
        self.running.as_ref().map(|r| r.replica.fingerprint())
    }

    /// What of its own the disk has now, to be published; and the last of all changes.
    pub fn flushed(&mut self, bug: Option<Bug>) -> (Vec<Change>, Vec<Delta>) {
        let mut changes = Vec::new();
        let mut deltas = Vec::new();
        let Some(running) = &mut self.running else {
            return (changes, deltas);
        };
        for _ in 0..std::mem::take(&mut running.flushing) {
            let Some(job) = running.queue.pop_front() else {
                break;
            };
            let forgotten = bug == Some(Bug::ChangeNotWritten)
                && !job.own
                && job.change.rows.iter().any(|row| row.kind == RowKind::Entry)
                && job.change.ticket.0.is_multiple_of(16);
            if !forgotten {
                self.disk.apply(&job.change.rows);
            }
            if job.own {
                deltas.extend(job.change.delta.clone());
            }
            changes.push(job.change);
        }
        (changes, deltas)
    }
}

impl Watcher {
    /// Notes the revision, then reads everything.
    pub fn from_start(replica: &Replica<MemoryRows>) -> Self {
        let at = replica.revision();
        let page = replica.query(b"", None, usize::MAX).unwrap();
        Self {
            at,
            map: page.rows.into_iter().collect(),
        }
    }

    /// Takes what changed since; says what is wrong with it.
    pub fn follow(
        &mut self,
        replica: &Replica<MemoryRows>,
        limit: usize,
        bug: Option<Bug>,
    ) -> Result<(), String> {
        loop {
            let changes = match replica.changes(b"", self.at, limit) {
                Ok(changes) => changes,
                Err(over) => return Err(format!("a watcher is told to start over: {over}")),
            };
            let done = changes.events.is_empty();
            let mut last = self.at;
            for event in changes.events {
                if event.revision <= last {
                    return Err(format!("event {:?} comes behind {last:?}", event.revision));
                }
                last = event.revision;
                match event.value {
                    Some(value) => self.map.insert(event.key.to_vec(), value.to_vec()),
                    None => self.map.remove(&*event.key),
                };
            }
            self.at = changes.next;
            if bug == Some(Bug::EventSkipped) && !done && replica.revision().0.is_multiple_of(8) {
                self.at = replica.revision();
            }
            if done {
                return Ok(());
            }
        }
    }

    /// Whether what events said is what there is.
    pub fn check(&self, replica: &Replica<MemoryRows>) -> Result<(), String> {
        let page = replica.query(b"", None, usize::MAX).unwrap();
        let now: BTreeMap<_, _> = page.rows.into_iter().collect();
        if now == self.map {
            return Ok(());
        }
        Err("what a watcher was told does not add up to what there is".to_owned())
    }
}
