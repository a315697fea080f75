//! Machines in one thread: a network with delays, losses and cuts, disks that take their time, clocks of their own.

mod bytes;
mod clocks;
mod faults;
mod first_copy;
mod growth;
mod lives;
mod ranges;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::{
    Change, Fence, Input, Member, MemoryRows, NodeId, Notice, Now, Options, Output, Replica,
    RowKind, Sync, UnixMillis, Write,
};

/// 2027-01-15, in milliseconds.
const START: u64 = 1_800_000_000_000;

const TICK: Duration = Duration::from_millis(10);

/// One machine.
struct Host {
    id: NodeId,
    rows: MemoryRows,
    replica: Replica<MemoryRows>,
    sync: Sync,
    disk: VecDeque<(Duration, Change)>,
    /// Who asked what, by the number that the question has here.
    askers: BTreeMap<u64, (usize, u64)>,
    /// How far its wall clock is ahead.
    clock: i64,
    notices: Vec<Notice>,
    misbehaved: Vec<String>,
    published: u64,
    asked: u64,
    /// It is there, and does nothing.
    hangs: bool,
}

enum Mail {
    Gossip(Vec<u8>),
    Question(u64, Vec<u8>),
    Answer(u64, Vec<u8>),
    Lost(u64),
}

struct Net {
    now: Duration,
    hosts: Vec<Host>,
    mail: BTreeMap<(Duration, u64), (usize, usize, Mail)>,
    number: u64,
    cut: BTreeSet<(usize, usize)>,
    members: Vec<Member>,
    epoch: u64,
    options: Options,
    delay: Duration,
    /// One publication in so many is lost on its way to each peer; 0 for none.
    loses: u64,
    bytes: u64,
}

fn options(seed: u64) -> Options {
    Options {
        rebroadcast: Duration::from_secs(2),
        seed,
        ..Options::default()
    }
}

impl Host {
    fn open(id: NodeId, rows: MemoryRows, options: &Options, clock: i64, boot: Duration) -> Self {
        let now = at(boot, clock);
        let (mut replica, change) = Replica::open(rows.clone(), id, now.wall).unwrap();
        let mut options = options.clone();
        options.seed = u64::from(id.0);
        let sync = Sync::new(options, &replica, now);
        rows.apply(&change.rows);
        replica.settle(change.ticket);
        Self {
            id,
            rows,
            replica,
            sync,
            disk: VecDeque::new(),
            askers: BTreeMap::new(),
            clock,
            notices: Vec::new(),
            misbehaved: Vec::new(),
            published: 0,
            asked: 0,
            hangs: false,
        }
    }
}

fn at(boot: Duration, clock: i64) -> Now {
    let wall = START + boot.as_millis() as u64;
    Now {
        boot,
        wall: UnixMillis(wall.saturating_add_signed(clock)),
    }
}

impl Net {
    /// Members, of which the first has founded the cluster; connected, and with their first copies.
    fn new(hosts: u32) -> Self {
        let mut net = Self::apart(hosts);
        net.connect_all();
        net.run_until("all are in sync", Duration::from_secs(60), Net::converged);
        net
    }

    fn apart(hosts: u32) -> Self {
        let options = options(0);
        let mut net = Self {
            now: Duration::from_secs(1000),
            hosts: Vec::new(),
            mail: BTreeMap::new(),
            number: 0,
            cut: BTreeSet::new(),
            members: Vec::new(),
            epoch: 1,
            options: options.clone(),
            delay: Duration::from_millis(1),
            loses: 0,
            bytes: 0,
        };
        for id in 1..=hosts {
            let host = Host::open(NodeId(id), MemoryRows::default(), &options, 0, net.now);
            net.hosts.push(host);
            net.members.push(Member {
                node: NodeId(id),
                admitted: id.into(),
            });
        }
        let change = net.hosts[0].replica.found();
        net.queue_write(0, change);
        net.tell_members();
        net
    }

    fn tell_members(&mut self) {
        let (epoch, members) = (self.epoch, self.members.clone());
        for host in 0..self.hosts.len() {
            let members = Input::Members {
                epoch,
                members: &members,
            };
            self.input(host, members);
        }
    }

    fn connect_all(&mut self) {
        for a in 0..self.hosts.len() {
            for b in 0..a {
                self.connect(a, b);
            }
        }
    }

    fn connect(&mut self, a: usize, b: usize) {
        self.cut.remove(&(a, b));
        self.cut.remove(&(b, a));
        let (at_a, at_b) = (self.hosts[a].id, self.hosts[b].id);
        self.input(a, Input::Up(at_b));
        self.input(b, Input::Up(at_a));
    }

    fn disconnect(&mut self, a: usize, b: usize) {
        self.cut.insert((a, b));
        self.cut.insert((b, a));
        let (at_a, at_b) = (self.hosts[a].id, self.hosts[b].id);
        self.input(a, Input::Down(at_b));
        self.input(b, Input::Down(at_a));
    }

    fn isolate(&mut self, host: usize) {
        for other in (0..self.hosts.len()).filter(|other| *other != host) {
            self.disconnect(host, other);
        }
    }

    fn reunite(&mut self, host: usize) {
        for other in (0..self.hosts.len()).filter(|other| *other != host) {
            self.connect(host, other);
        }
    }

    fn put(&mut self, host: usize, key: &str, value: &str) {
        self.write(
            host,
            &[Write::put(key.as_bytes(), value.as_bytes(), Fence::NONE)],
        );
    }

    fn delete(&mut self, host: usize, key: &str) {
        self.write(host, &[Write::delete(key.as_bytes(), Fence::NONE)]);
    }

    fn write(&mut self, host: usize, writes: &[Write<'_>]) {
        let now = at(self.now, self.hosts[host].clock);
        let change = self.hosts[host].replica.write(writes, now.wall).unwrap();
        self.queue_write(host, change);
    }

    fn queue_write(&mut self, host: usize, change: Change) {
        let done = self.now + Duration::from_millis(2);
        self.hosts[host].disk.push_back((done, change));
    }

    fn post(&mut self, from: usize, to: usize, mail: Mail) {
        self.number += 1;
        let at = self.now + self.delay;
        self.mail.insert((at, self.number), (from, to, mail));
    }

    fn input(&mut self, host: usize, input: Input<'_>) {
        let now = at(self.now, self.hosts[host].clock);
        let target = &mut self.hosts[host];
        let outputs = target.sync.step(&mut target.replica, now, input).unwrap();
        for output in outputs {
            self.output(host, output);
        }
    }

    fn output(&mut self, host: usize, output: Output) {
        match output {
            Output::Publish(bytes) => {
                assert!(bytes.len() <= 256 * 1024);
                self.hosts[host].published += 1;
                for to in (0..self.hosts.len()).filter(|to| *to != host) {
                    let lost =
                        self.loses > 0 && (self.number + to as u64).is_multiple_of(self.loses);
                    if !lost && !self.cut.contains(&(host, to)) {
                        self.bytes += bytes.len() as u64;
                        self.post(host, to, Mail::Gossip(bytes.clone()));
                    } else {
                        self.number += 1;
                    }
                }
            }
            Output::Ask { to, id, bytes } => {
                assert!(bytes.len() <= 4 * 1024 * 1024);
                self.hosts[host].asked += 1;
                let to = self.hosts.iter().position(|h| h.id == to).unwrap();
                self.bytes += bytes.len() as u64;
                self.post(host, to, Mail::Question(id, bytes));
            }
            Output::Answer { id, bytes } => {
                assert!(bytes.len() <= 4 * 1024 * 1024);
                self.bytes += bytes.len() as u64;
                let (asker, id) = self.hosts[host].askers.remove(&id).unwrap();
                self.post(host, asker, Mail::Answer(id, bytes));
            }
            Output::Write(change) => self.queue_write(host, change),
            Output::Misbehaved { what, .. } => self.hosts[host].misbehaved.push(what),
            Output::Report(notice) => self.hosts[host].notices.push(notice),
        }
    }

    fn deliver(&mut self, from: usize, to: usize, mail: Mail) {
        if self.cut.contains(&(from, to)) || self.hosts[to].hangs {
            if let Mail::Question(id, _) = mail
                && !self.hosts[to].hangs
            {
                self.post(to, from, Mail::Lost(id));
            }
            return;
        }
        let sender = self.hosts[from].id;
        match mail {
            Mail::Gossip(bytes) => self.input(
                to,
                Input::Gossip {
                    from: sender,
                    bytes: &bytes,
                },
            ),
            Mail::Question(id, bytes) => {
                self.number += 1;
                let number = self.number;
                self.hosts[to].askers.insert(number, (from, id));
                let question = Input::Question {
                    from: sender,
                    id: number,
                    bytes: &bytes,
                };
                self.input(to, question);
            }
            Mail::Answer(id, bytes) => self.input(
                to,
                Input::Answer {
                    from: sender,
                    id,
                    bytes: &bytes,
                },
            ),
            Mail::Lost(id) => self.input(to, Input::Failed { from: sender, id }),
        }
    }

    /// Ten milliseconds.
    fn tick(&mut self) {
        let end = self.now + TICK;
        while let Some((&(due, _), _)) = self.mail.first_key_value()
            && due <= end
        {
            let (_, (from, to, mail)) = self.mail.pop_first().unwrap();
            self.now = self.now.max(due);
            self.deliver(from, to, mail);
            self.disks();
        }
        self.now = end;
        self.disks();
        for host in 0..self.hosts.len() {
            if !self.hosts[host].hangs {
                self.input(host, Input::Tick);
            }
        }
    }

    fn disks(&mut self) {
        for host in 0..self.hosts.len() {
            while let Some((done, _)) = self.hosts[host].disk.front()
                && *done <= self.now
            {
                let (_, change) = self.hosts[host].disk.pop_front().unwrap();
                assert!(change.rows.len() <= crate::MAX_CHANGE_ROWS);
                self.hosts[host].rows.apply(&change.rows);
                self.input(host, Input::Durable(change.ticket));
                if let Some(delta) = change.delta {
                    self.input(host, Input::Wrote(delta));
                }
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.tick();
        }
    }

    fn run_until(
        &mut self,
        what: &str,
        at_most: Duration,
        done: impl Fn(&Net) -> bool,
    ) -> Duration {
        let start = self.now;
        while !done(self) {
            self.tick();
            assert!(
                self.now - start <= at_most,
                "not within {at_most:?}: {what}\n{}",
                self.told()
            );
        }
        self.now - start
    }

    fn told(&self) -> String {
        let told = self.hosts.iter().map(|host| {
            format!(
                "{:?} {:?} {:#?}\n",
                host.id,
                host.notices,
                host.sync.report()
            )
        });
        told.collect()
    }

    fn converged(&self) -> bool {
        let at_rest = |host: &Host| host.disk.is_empty() && host.sync.report().converged;
        if !self.hosts.iter().all(at_rest) {
            return false;
        }
        let root = self.hosts[0].replica.fingerprint();
        assert!(self.hosts.iter().all(|h| h.replica.fingerprint() == root));
        true
    }

    /// Kills a host: what was not written is lost. It opens its rows again.
    fn restart(&mut self, host: usize) {
        let old = &self.hosts[host];
        let (id, rows, clock) = (old.id, old.rows.clone(), old.clock);
        self.replace(host, id, rows, clock);
    }

    /// Takes all its rows away, as the machine asks for it.
    fn wipe(&mut self, host: usize) {
        let rows = self.hosts[host].rows.clone();
        loop {
            let gone = crate::wipe(&rows).unwrap();
            rows.apply(&gone);
            if gone.is_empty() {
                break;
            }
        }
        self.restart(host);
    }

    fn replace(&mut self, host: usize, id: NodeId, rows: MemoryRows, clock: i64) {
        let cut: Vec<_> = (0..self.hosts.len())
            .filter(|other| *other != host && !self.cut.contains(&(host, *other)))
            .collect();
        for other in &cut {
            self.disconnect(host, *other);
        }
        self.mail
            .retain(|_, (from, to, _)| *from != host && *to != host);
        self.hosts[host] = Host::open(id, rows, &self.options, clock, self.now);
        let (epoch, members) = (self.epoch, self.members.clone());
        let members = Input::Members {
            epoch,
            members: &members,
        };
        self.input(host, members);
        for other in cut {
            self.connect(host, other);
        }
    }

    fn value(&self, host: usize, key: &str) -> Option<String> {
        let value = self.hosts[host].replica.get(key.as_bytes()).unwrap();
        value.map(|value| String::from_utf8(value).unwrap())
    }

    fn stands(&self, host: usize, kind: RowKind) -> usize {
        self.hosts[host].rows.all(kind).len()
    }

    /// Whether the fingerprint of each host is that of its rows.
    fn check_summaries(&self) {
        for host in &self.hosts {
            let image = host.rows.image();
            for (_, change) in &host.disk {
                image.apply(&change.rows);
            }
            let (fresh, _) = Replica::open(image, host.id, UnixMillis(START)).unwrap();
            assert_eq!(fresh.fingerprint(), host.replica.fingerprint());
            assert_eq!(fresh.tombstones(), host.replica.tombstones());
        }
    }
}
