//! All nodes and what is between them, in virtual time: one queue of events, one source of chance.

use std::collections::BTreeMap;
use std::time::Duration;

use nexus_clset::{Input, Member, NodeId, Options};
use nexus_random::Random;

use crate::bug::Bug;
use crate::host::{Host, List};
use crate::network::Network;
use crate::oracle::Oracle;

/// What happens at a moment.
#[derive(Debug)]
pub enum Event {
    Tick {
        host: usize,
        life: u64,
    },
    Flushed {
        host: usize,
        life: u64,
    },
    Mail {
        to: usize,
        mail: Mail,
    },
    Restart {
        host: usize,
    },
    /// Nodes find out whom they can reach, and hear of members.
    Look,
    Write,
    Fault,
    Check,
}

#[derive(Debug)]
pub enum Mail {
    Gossip {
        from: NodeId,
        bytes: Vec<u8>,
    },
    Question {
        asker: usize,
        life: u64,
        id: u64,
        bytes: Vec<u8>,
    },
    Answer {
        life: u64,
        from: NodeId,
        /// Who answered, at which of its boots: the connection ends with either side.
        answering: (usize, u64),
        id: u64,
        bytes: Vec<u8>,
    },
    Failed {
        life: u64,
        from: NodeId,
        id: u64,
    },
}

pub struct World {
    pub random: Random,
    pub now: Duration,
    pub hosts: Vec<Host>,
    pub network: Network,
    /// What the quorum decided last.
    pub list: List,
    pub options: Options,
    pub tombstone_age: Duration,
    pub tick: (u64, u64),
    /// The longest time between two faults in milliseconds.
    pub fault_pause: u64,
    pub oracle: Oracle,
    pub bug: Option<Bug>,
    /// Faults and writes go on.
    pub chaos: bool,
    pub numbers: u32,
    pub loud: bool,
    pub events: u64,
    /// Newest epoch and command of each owned key.
    pub commands: [(u64, u64); 6],
    queue: BTreeMap<(Duration, u64), Event>,
    /// Questions that wait for an answer: who asked, at which boot, under which number.
    pub questions: BTreeMap<u64, (usize, u64, u64)>,
    next: u64,
}

impl World {
    pub fn new(seed: u64, bug: Option<Bug>, loud: bool) -> Self {
        let mut random = Random::new(seed);
        let options = Options {
            rebroadcast: random.millis(500, 3000),
            page_bytes: *random.pick(&[200, 2000, 20_000]).unwrap(),
            pulls: random.between(1, 3) as usize,
            patience: random.millis(2000, 10_000),
            bootstrap_rate: random.chance(300).then_some(100_000),
            scrub: random.chance(500).then_some(Duration::from_secs(10)),
            ..Options::default()
        };
        let slowest = random.between(20, 150);
        Self {
            now: Duration::from_secs(random.between(10, 100_000)),
            hosts: Vec::new(),
            network: Network::default(),
            list: List {
                epoch: 1,
                members: Vec::new(),
            },
            options,
            tombstone_age: random.millis(5000, 40_000),
            tick: (10, slowest),
            fault_pause: random.between(1000, 6000),
            oracle: Oracle::default(),
            bug,
            chaos: false,
            numbers: 0,
            loud,
            events: 0,
            commands: [(1, 0); 6],
            queue: BTreeMap::new(),
            questions: BTreeMap::new(),
            next: 0,
            random,
        }
    }

    pub fn say(&self, what: impl FnOnce() -> String) {
        if self.loud {
            println!("{:10.3} {}", self.now.as_secs_f64(), what());
        }
    }

    pub fn schedule(&mut self, after: Duration, event: Event) {
        let at = self.now + after;
        self.at(at, event);
    }

    /// Something is to happen at this time.
    pub fn at(&mut self, at: Duration, event: Event) {
        let number = self.number();
        self.queue.insert((at, number), event);
    }

    /// A number that was not given before.
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A new node, booted, and a member from now on.
    pub fn admit_new(&mut self, writes: bool) -> usize {
        self.numbers += 1;
        let at = self.hosts.len();
        self.hosts.push(Host::new(NodeId(self.numbers), writes));
        self.admit(at);
        self.boot(at, self.numbers == 1);
        at
    }

    pub fn admit(&mut self, at: usize) {
        self.list.epoch += 1;
        let member = Member {
            node: self.hosts[at].id,
            admitted: self.list.epoch,
        };
        self.list.members.push(member);
        self.say(|| format!("node {} is admitted: {:?}", member.node.0, self.list));
    }

    pub fn remove(&mut self, at: usize) {
        self.list.epoch += 1;
        let node = self.hosts[at].id;
        self.list.members.retain(|member| member.node != node);
        self.hosts[at].was_removed = true;
        self.oracle.forget_what_only_one_had(&self.hosts, at);
        self.say(|| format!("node {} is removed: {:?}", node.0, self.list));
    }

    pub fn is_listed(&self, at: usize) -> bool {
        let node = self.hosts[at].id;
        self.list.members.iter().any(|member| member.node == node)
    }

    /// Nodes in the list.
    pub fn members(&self) -> Vec<usize> {
        (0..self.hosts.len())
            .filter(|at| self.is_listed(*at))
            .collect()
    }

    pub fn boot(&mut self, at: usize, founds: bool) {
        let seed = self.random.number();
        let host = &mut self.hosts[at];
        let now = host.now(self.now);
        let options = Options {
            seed,
            ..self.options.clone()
        };
        host.booted_at = self.now;
        host.boot(now, &options, self.tombstone_age, founds, self.bug);
        let (life, node) = (host.life, host.id);
        self.say(|| format!("node {} boots", node.0));
        for other in 0..self.hosts.len() {
            self.network.told.insert((at, other), false);
            self.tell_reach(other, at, false);
        }
        if let Err(why) = self.oracle.check_words(&self.hosts, at) {
            self.oracle.fail(why);
        }
        if let Some(list) = self.hosts[at].list.clone() {
            self.tell_list(at, list);
        }
        let first = self.random.millis(0, self.tick.1);
        self.schedule(first, Event::Tick { host: at, life });
        self.start_flush(at);
    }

    /// The process or its machine dies; it comes back later.
    pub fn crash(&mut self, at: usize, back_after: Duration) {
        let flushing = self.hosts[at].running.as_ref().map_or(0, |r| r.flushing);
        let kept = self.random.below(flushing + 1);
        let node = self.hosts[at].id;
        self.say(|| format!("node {} dies for {back_after:?}", node.0));
        self.hosts[at].crash(kept);
        self.schedule(back_after, Event::Restart { host: at });
    }

    /// Gives a node an input and carries out what it wants.
    pub fn input(&mut self, at: usize, input: Input<'_>) {
        let now = self.hosts[at].now(self.now);
        match self.hosts[at].step(now, input) {
            Ok(outputs) => self.carry_out(at, outputs),
            Err(why) => self.oracle.fail(why),
        }
    }

    /// Something waits for the disk.
    pub fn queued(&mut self, at: usize, ticket: nexus_clset::Ticket) {
        if self.bug == Some(Bug::DurableEarly) {
            self.input(at, Input::Durable(ticket));
        }
        self.start_flush(at);
    }

    pub fn start_flush(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        let (life, flush) = (host.life, host.flush);
        if let Some(running) = &mut host.running
            && running.flushing == 0
            && !running.queue.is_empty()
        {
            running.flushing = running.queue.len().min(64);
            let takes = self.random.millis(flush.0, flush.1);
            self.schedule(takes, Event::Flushed { host: at, life });
        }
    }

    pub fn start_over_if_told(&mut self, at: usize) {
        let host = &self.hosts[at];
        let why = host.running.as_ref().and_then(|r| r.sync.must_start_over());
        let Some(why) = why.map(str::to_owned) else {
            return;
        };
        let node = host.id;
        if !host.was_removed {
            let why = format!(
                "node {} was never removed and must start over: {why}",
                node.0
            );
            self.oracle.fail(why);
            return;
        }
        self.say(|| format!("node {} starts over: {why}", node.0));
        self.oracle.forget_what_only_one_had(&self.hosts, at);
        self.hosts[at].crash(0);
        let host = &mut self.hosts[at];
        // The power may fail on the way.
        let batches = if self.random.chance(200) {
            1
        } else {
            usize::MAX
        };
        host.wipe(batches);
        let after = self.random.millis(1000, 3000);
        self.schedule(after, Event::Restart { host: at });
    }

    /// Goes on until `done` says so at a look round, or for `most`. Says whether it was done.
    pub fn run(
        &mut self,
        most: Duration,
        done: impl Fn(&mut Self) -> bool,
    ) -> Result<bool, String> {
        let end = self.now + most;
        loop {
            let Some(((at, _), event)) = self.queue.pop_first() else {
                return Err("nothing happens any more".to_owned());
            };
            if at > end {
                self.schedule(at - self.now, event);
                self.now = end;
                return Ok(false);
            }
            self.now = self.now.max(at);
            self.events += 1;
            let look = matches!(event, Event::Look);
            self.happens(event);
            if let Some(why) = self.oracle.failure.take() {
                return Err(why);
            }
            if look && done(self) {
                return Ok(true);
            }
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Tick { host, life } => {
                if self.lives(host, life) {
                    self.input(host, Input::Tick);
                    let next = self.random.millis(self.tick.0, self.tick.1);
                    self.schedule(next, Event::Tick { host, life });
                }
            }
            Event::Flushed { host, life } => {
                if self.lives(host, life) {
                    self.flushed(host);
                }
            }
            Event::Restart { host } => {
                let node = &mut self.hosts[host];
                if node.running.is_none() && !node.gone {
                    node.wipe_on();
                    self.boot(host, false);
                }
            }
            Event::Mail { to, mail } => self.arrives(to, mail),
            Event::Look => {
                self.look();
                self.schedule(Duration::from_millis(300), Event::Look);
            }
            Event::Write => self.write_somewhere(),
            Event::Fault => self.fault(),
            Event::Check => {
                if let Err(why) = self
                    .oracle
                    .check_always(&mut self.hosts, self.now, self.bug)
                {
                    self.oracle.fail(why);
                }
                let next = self.random.millis(200, 2000);
                self.schedule(next, Event::Check);
            }
        }
    }

    pub fn lives(&self, at: usize, life: u64) -> bool {
        self.hosts[at].life == life && self.hosts[at].running.is_some()
    }

    fn flushed(&mut self, at: usize) {
        let (changes, deltas) = self.hosts[at].flushed(self.bug);
        if self.bug != Some(Bug::AcknowledgedEarly) {
            let listed = self.is_listed(at);
            deltas
                .iter()
                .for_each(|delta| self.oracle.accepted(delta, listed));
        }
        if let Some(last) = changes.last() {
            self.input(at, Input::Durable(last.ticket));
        }
        for delta in deltas {
            self.input(at, Input::Wrote(delta));
        }
        self.start_flush(at);
    }

    /// `at` loses its connection to `other`, if it has one.
    pub fn disconnect(&mut self, at: usize, other: usize) {
        self.tell_reach(at, other, false);
    }

    fn tell_reach(&mut self, at: usize, other: usize, up: bool) {
        let told = self.network.told.insert((at, other), up).unwrap_or(false);
        if told != up && at != other {
            let node = self.hosts[other].id;
            self.input(
                at,
                if up {
                    Input::Up(node)
                } else {
                    Input::Down(node)
                },
            );
        }
    }

    fn tell_list(&mut self, at: usize, list: List) {
        let mut members = list.members.clone();
        if self.bug == Some(Bug::AdmissionHidden) {
            members.iter_mut().for_each(|member| member.admitted = 1);
        }
        let epoch = list.epoch;
        self.hosts[at].list = Some(list);
        self.input(
            at,
            Input::Members {
                epoch,
                members: &members,
            },
        );
        let id = self.hosts[at].id;
        let admitted = members.iter().find(|member| member.node == id);
        let host = &mut self.hosts[at];
        let is_in = |running: &crate::host::Running| {
            running.replica.admitted() == admitted.map(|member| member.admitted)
                && running.sync.must_start_over().is_none()
        };
        if admitted.is_some()
            && host.running.as_ref().is_some_and(is_in)
            && epoch == self.list.epoch
        {
            host.was_removed = false;
        }
    }

    /// Connections come and go as links do, some time later; lists of members reach who is connected to
    /// more than half of the members.
    fn look(&mut self) {
        for a in 0..self.hosts.len() {
            for b in 0..self.hosts.len() {
                let (first, second) = (
                    self.hosts[a].running.is_some(),
                    self.hosts[b].running.is_some(),
                );
                let works = first && second && self.network.is_open(a, b);
                if first && a != b && self.random.chance(400) {
                    self.tell_reach(a, b, works);
                }
            }
        }
        let members = self.members();
        for at in 0..self.hosts.len() {
            let known = self.hosts[at].list.as_ref().map_or(0, |list| list.epoch);
            if self.hosts[at].running.is_none() || known == self.list.epoch {
                continue;
            }
            let reaches = |other: &&usize| {
                self.hosts[**other].running.is_some() && self.network.is_open(at, **other)
            };
            let reached = members.iter().filter(reaches).count();
            // Who was removed may never hear of it before it is back.
            let told = self.is_listed(at) || self.random.chance(100);
            if reached * 2 > members.len() && told && self.random.chance(300) {
                let list = self.list.clone();
                self.tell_list(at, list);
            }
        }
    }
}
