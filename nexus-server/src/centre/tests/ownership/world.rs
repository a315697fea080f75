//! Virtual time: what happens when, the log that a majority agrees on, and what servers tell each other.

use std::collections::{BTreeMap, BinaryHeap};
use std::net::Ipv4Addr;

use nexus_clset::{Digest, NodeId, Output};
use nexus_core::cluster::{
    Answer, ClusterCommand, Introduction, MemberCommand, Role, decode_outcome,
};
use nexus_core::id::{NodeName, OltId, SubscriberId};
use nexus_core::lease::LeaseRule;
use nexus_core::shard_table::Command;
use nexus_core::time::ClusterTime;

use super::bug::Bug;
use super::host::Host;
use super::mail::{Due, Event, Line, Reply};
use super::random::Random;
use super::server::{self, Server, now};
use super::{HEARTBEAT, LEASE, check};
use crate::centre::Heard;
use crate::centre::effects::Event as Told;
use crate::refused::Refused;

/// What a life was like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Life {
    pub events: u64,
    pub accepted: u64,
    pub acknowledged: u64,
    pub restarts: u64,
    /// Hosts with an old disk, or a copy of one, that were put right.
    pub put_right: u64,
    /// Second hosts of one id that were turned away.
    pub seconds: u64,
}

pub struct World {
    pub now: u64,
    pub random: Random,
    pub bug: Option<Bug>,
    pub loud: bool,
    due: BinaryHeap<Due>,
    number: u64,
    pub servers: Vec<Server>,
    pub hosts: Vec<Host>,
    /// Servers of one group reach each other.
    pub groups: Vec<usize>,
    log: Vec<(ClusterTime, Vec<u8>)>,
    leader: Option<usize>,
    /// True time and cluster time at which the leader took office.
    office: (u64, ClusterTime),
    drifts: Vec<i64>,
    asked: BTreeMap<u64, (usize, u32, u64)>,
    pub clients: BTreeMap<Ipv4Addr, (SubscriberId, u64, usize)>,
    pub calm: bool,
    /// No subscriber comes or goes any more.
    pub quiet: bool,
    pub life: Life,
    pub fault: Option<String>,
}

impl World {
    pub fn new(seed: u64, bug: Option<Bug>, loud: bool) -> Self {
        let mut random = Random::new(seed);
        let servers = if random.chance(250) { 1 } else { 3 };
        let drifts = (0..servers).map(|_| drift(&mut random)).collect();
        let mut world = Self {
            now: 1_000_000,
            random,
            bug,
            loud,
            due: BinaryHeap::new(),
            number: 0,
            servers: Vec::new(),
            hosts: Vec::new(),
            groups: vec![0; servers],
            log: Vec::new(),
            leader: None,
            office: (0, ClusterTime::ZERO),
            drifts,
            asked: BTreeMap::new(),
            clients: BTreeMap::new(),
            calm: true,
            quiet: false,
            life: Life::default(),
            fault: None,
        };
        for index in 0..servers {
            let number = u32::try_from(index).unwrap() + 1;
            world.servers.push(Server::new(number, world.now));
        }
        world.found();
        world
    }

    fn found(&mut self) {
        let first = MemberCommand::Found(introduction(1));
        self.decide(0, first).unwrap();
        self.servers[0].centre.found().unwrap();
        self.drain(0);
        for index in 0..self.servers.len() {
            let life = self.servers[index].life;
            self.schedule(0, Event::ServerTick(index, life));
            self.meet(index);
        }
        for index in 1..self.servers.len() {
            let number = u32::try_from(index).unwrap() + 1;
            let join = MemberCommand::Join {
                node: introduction(number),
                admit: true,
                replace: false,
            };
            self.decide(0, join).unwrap();
        }
        self.run(20_000);
        for index in 1..self.servers.len() {
            let number = u32::try_from(index).unwrap() + 1;
            self.decide(0, MemberCommand::CaughtUp { number }).unwrap();
        }
        let rule = LeaseRule::new(LEASE, HEARTBEAT).unwrap();
        self.decide(0, Command::SetRule { rule }).unwrap();
        let create = self.servers[0]
            .centre
            .prepare_create(super::pool_spec())
            .unwrap();
        self.decide(0, create).unwrap();
        let hosts = self.random.between(2, 4);
        for index in 0..usize::try_from(hosts).unwrap() {
            self.add_host(&format!("olt-{index}"));
        }
        self.schedule(5000, Event::Subscriber);
        self.run(8000);
    }

    pub fn add_host(&mut self, olt: &str) {
        let drift = drift(&mut self.random);
        let index = self.hosts.len();
        self.hosts.push(Host::new(index, olt, drift, self.now));
        self.schedule(0, Event::HostTick(index, 0));
        self.schedule(10, Event::Connect(index, 0));
    }

    pub fn schedule(&mut self, after: u64, event: Event) {
        self.number += 1;
        self.due.push(Due {
            at: self.now + after,
            number: self.number,
            event,
        });
    }

    /// Lets so much time pass.
    pub fn run(&mut self, millis: u64) {
        let until = self.now + millis;
        while self.fault.is_none() {
            let Some(due) = self.due.peek().filter(|due| due.at <= until) else {
                break;
            };
            self.now = due.at;
            let event = self.due.pop().unwrap().event;
            self.life.events += 1;
            if self.loud {
                println!("{:>9} {event:.160?}", self.now);
            }
            self.happen(event);
            self.fault = check::look(self);
        }
        self.now = until;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ServerTick(server, life) => self.server_tick(server, life),
            Event::Hear {
                server,
                life,
                heard,
            } => {
                if self.servers[server].up && self.servers[server].life == life {
                    let at = now(self.now);
                    self.servers[server].centre.hear(&at, heard);
                    self.drain(server);
                }
            }
            Event::CatchUp(server) => {
                if self.servers[server].up && self.has_majority(server) {
                    self.catch_up(server);
                }
            }
            Event::Start(server) => {
                if !self.servers[server].up {
                    self.start(server);
                }
            }
            Event::Barrier(server, life) => self.ask(server, life),
            Event::BarrierSaid {
                server,
                life,
                number,
                seen,
            } => {
                if self.servers[server].up && self.servers[server].life == life {
                    self.servers[server].centre.majority_had(number, &seen);
                    self.drain(server);
                }
            }
            Event::ToServer {
                server,
                life,
                line,
                session,
                request,
            } => {
                let there = self.servers[server].up && self.servers[server].life == life;
                if there && self.reaches(line.host, server) {
                    self.serve(server, line, session, request);
                }
            }
            Event::Subscriber => self.subscriber(),
            Event::Fault => self.chaos(),
            Event::Mend(None) => {
                self.groups.iter_mut().for_each(|group| *group = 0);
                (0..self.servers.len()).for_each(|server| self.meet(server));
            }
            Event::Mend(Some(host)) => self.hosts[host].cut_off = false,
            of_host => self.host_event(of_host),
        }
    }

    fn server_tick(&mut self, server: usize, life: u32) {
        if !self.servers[server].up || self.servers[server].life != life {
            return;
        }
        self.schedule(1000, Event::ServerTick(server, life));
        let at = now(self.now);
        if self.has_majority(server) {
            self.catch_up(server);
            self.lead(server);
        }
        let leads = self.leader == Some(server) && self.has_majority(server);
        self.servers[server].centre.look(leads);
        if leads {
            let _ = self.decide(server, Command::Tick);
            for command in self.servers[server].centre.placement() {
                let _ = self.decide(server, command);
            }
        }
        self.servers[server].centre.tick(&at).unwrap();
        self.servers[server].centre.hear(&at, Heard::Tick);
        if !self.servers[server].waiting.is_empty() {
            self.servers[server].centre.hear(&at, Heard::Awaited);
        }
        self.drain(server);
    }

    pub fn has_majority(&self, server: usize) -> bool {
        let there = |other: &usize| self.servers[*other].up && self.connected(server, *other);
        let count = (0..self.servers.len()).filter(there).count();
        self.servers[server].up && count * 2 > self.servers.len()
    }

    fn connected(&self, a: usize, b: usize) -> bool {
        self.groups[a] == self.groups[b]
    }

    pub fn reaches(&self, host: usize, server: usize) -> bool {
        self.servers[server].up && !self.hosts[host].cut_off
    }

    /// Somebody of this server's group leads.
    fn lead(&mut self, server: usize) {
        let leads = |leader: usize| self.servers[leader].up && self.connected(server, leader);
        if !self.leader.is_some_and(leads) {
            // Time without a leader does not count.
            let last = self.log.last().map_or(ClusterTime::ZERO, |(at, _)| *at);
            self.leader = Some(server);
            self.office = (self.now, last);
        }
    }

    fn cluster_now(&self) -> ClusterTime {
        let drift = self.leader.map_or(0, |leader| self.drifts[leader]);
        let passed = i64::try_from(self.now - self.office.0).unwrap() * 1000 * (1000 + drift);
        ClusterTime(self.office.1.0 + u64::try_from(passed).unwrap())
    }

    /// Has a command decided, and carried out at once where it was proposed.
    pub fn decide(
        &mut self,
        server: usize,
        command: impl Into<ClusterCommand>,
    ) -> Result<Answer, Refused> {
        if !self.has_majority(server) {
            return Err(Refused::NoQuorum("cut off".to_owned()));
        }
        self.lead(server);
        self.catch_up(server);
        let bytes = command.into().encode().unwrap();
        let early = self.bug == Some(Bug::MovesEarly);
        let at = ClusterTime(self.cluster_now().0 + if early { 12_000_000_000 } else { 0 });
        self.log.push((at, bytes));
        let outcome = self.apply_next(server);
        for other in (0..self.servers.len()).filter(|other| *other != server) {
            let after = self.random.between(1, 400);
            self.schedule(after, Event::CatchUp(other));
        }
        if !self.calm && self.random.chance(5) {
            return Err(Refused::OutcomeUnknown("the answer was lost".to_owned()));
        }
        decode_outcome(&outcome).unwrap().map_err(Refused::from)
    }

    fn catch_up(&mut self, server: usize) {
        while self.servers[server].applied < self.log.len() {
            self.apply_next(server);
        }
    }

    fn apply_next(&mut self, server: usize) -> Vec<u8> {
        let (at, bytes) = self.log[self.servers[server].applied].clone();
        self.servers[server].applied += 1;
        let outcome = self.servers[server]
            .centre
            .decided(&now(self.now), at, &bytes)
            .unwrap();
        self.drain(server);
        outcome
    }

    /// Hands on what a server's state has brought about.
    pub fn drain(&mut self, server: usize) {
        let at = now(self.now);
        loop {
            let mut effects = self.servers[server].centre.take_effects();
            let progress = effects.barrier.take();
            let is_empty = effects.writes.is_empty()
                && effects.ticket.is_none()
                && effects.events.is_empty()
                && effects.outputs.is_empty()
                && effects.proposals.is_empty()
                && progress.is_none();
            for rows in effects.writes {
                server::write(&self.servers[server].memory, rows);
            }
            if let Some(ticket) = effects.ticket {
                self.servers[server].centre.settle(&at, ticket);
            }
            if let Some(progress) = progress {
                self.servers[server].progress = progress;
                if progress.passed < progress.moved {
                    let (after, life) = (self.random.between(5, 60), self.servers[server].life);
                    self.schedule(after, Event::Barrier(server, life));
                }
            }
            for event in effects.events {
                self.tell(server, event);
            }
            for output in effects.outputs {
                self.carry(server, output);
            }
            if let Some(why) = effects.failed.or(effects.start_over) {
                self.fault = Some(format!("server {server} stops: {why}"));
            }
            for command in effects.proposals {
                let _ = self.decide(server, command);
            }
            if is_empty {
                break;
            }
        }
        self.look_after_waiting(server);
    }

    fn tell(&mut self, server: usize, event: Told) {
        match event {
            Told::Allocation(olt, change) => {
                let lines = self.servers[server]
                    .streams
                    .get(&olt)
                    .cloned()
                    .unwrap_or_default();
                for (line, stream) in lines {
                    for reply in super::talk::replies(&change) {
                        self.reply(line, Some(stream), reply);
                    }
                }
            }
            Told::Config(olt, config) => {
                let lines = self.servers[server]
                    .streams
                    .get(&olt)
                    .cloned()
                    .unwrap_or_default();
                for (line, stream) in lines {
                    let config = super::talk::edge_config(&config);
                    self.reply(line, Some(stream), Reply::Config(config));
                }
            }
            Told::SessionOver(olt) => {
                let lines = self.servers[server]
                    .streams
                    .remove(&olt)
                    .unwrap_or_default();
                for (line, stream) in lines {
                    self.reply(line, Some(stream), Reply::Over);
                }
            }
            Told::StartOver => {
                let all: Vec<OltId> = self.servers[server].streams.keys().cloned().collect();
                for olt in all {
                    let lines = self.servers[server]
                        .streams
                        .remove(&olt)
                        .unwrap_or_default();
                    for (line, stream) in lines {
                        self.reply(line, Some(stream), Reply::Ended);
                    }
                }
            }
        }
    }

    /// Sends to a host, in order.
    pub fn reply(&mut self, line: Line, stream: Option<u32>, reply: Reply) {
        let at = self.now + self.random.between(1, 20);
        let host = &mut self.hosts[line.host];
        host.last_mail = host.last_mail.max(at);
        let after = host.last_mail - self.now;
        if self.hosts[line.host].cut_off {
            return;
        }
        self.schedule(
            after,
            Event::ToHost {
                line,
                stream,
                reply,
            },
        );
    }

    fn carry(&mut self, from: usize, output: Output) {
        let me = NodeId(self.servers[from].number);
        match output {
            Output::Publish(bytes) => {
                for to in (0..self.servers.len()).filter(|to| *to != from) {
                    if self.random.chance(970) {
                        let bytes = bytes.clone();
                        self.hear(from, to, Heard::Gossip { from: me, bytes });
                    }
                }
            }
            Output::Ask { to, id, bytes } => {
                let peer = usize::try_from(to.0).unwrap() - 1;
                self.number += 1;
                let question = self.number;
                self.asked
                    .insert(question, (from, self.servers[from].life, id));
                let there = self.servers[peer].up && self.connected(from, peer);
                if there && self.random.chance(980) {
                    self.hear(
                        from,
                        peer,
                        Heard::Question {
                            from: me,
                            id: question,
                            bytes,
                        },
                    );
                } else {
                    let life = self.servers[from].life;
                    let heard = Heard::Failed { from: to, id };
                    self.schedule(
                        500,
                        Event::Hear {
                            server: from,
                            life,
                            heard,
                        },
                    );
                }
            }
            Output::Answer { id, bytes } => {
                let Some((to, life, id)) = self.asked.remove(&id) else {
                    return;
                };
                if self.servers[to].life == life {
                    self.hear(
                        from,
                        to,
                        Heard::Answer {
                            from: me,
                            id,
                            bytes,
                        },
                    );
                }
            }
            Output::Misbehaved { what, .. } => self.fault = Some(what),
            Output::Write(_) | Output::Report(_) => {}
        }
    }

    fn hear(&mut self, from: usize, to: usize, heard: Heard) {
        if self.servers[to].up && self.connected(from, to) {
            let (after, life) = (self.random.between(1, 30), self.servers[to].life);
            self.schedule(
                after,
                Event::Hear {
                    server: to,
                    life,
                    heard,
                },
            );
        }
    }

    /// A server and those that it reaches are connected; it is not to the others.
    pub fn meet(&mut self, server: usize) {
        for other in (0..self.servers.len()).filter(|other| *other != server) {
            let there = self.servers[other].up && self.servers[server].up;
            let up = there && self.connected(server, other);
            for (at, peer) in [(server, other), (other, server)] {
                let node = NodeId(self.servers[peer].number);
                let heard = if up {
                    Heard::Up(node)
                } else {
                    Heard::Down(node)
                };
                let life = self.servers[at].life;
                self.schedule(
                    1,
                    Event::Hear {
                        server: at,
                        life,
                        heard,
                    },
                );
            }
        }
        let after = self.random.between(1, 2000);
        self.schedule(after, Event::CatchUp(server));
    }

    /// A server's process ends.
    pub fn crash(&mut self, server: usize) {
        self.servers[server].up = false;
        self.life.restarts += 1;
        self.meet(server);
    }

    /// It starts again.
    pub fn start(&mut self, server: usize) {
        let at = self.now;
        self.servers[server].restart(at);
        let life = self.servers[server].life;
        self.schedule(10, Event::ServerTick(server, life));
        // What it had carried out before is in its snapshot or its log.
        let known = self.log.len().saturating_sub(self.random.below(3));
        while self.servers[server].applied < known {
            self.apply_next(server);
        }
        self.meet(server);
    }

    fn ask(&mut self, server: usize, life: u32) {
        let place = &self.servers[server];
        if !place.up || place.life != life || place.progress.passed >= place.progress.moved {
            return;
        }
        let (number, needed) = (place.progress.moved, place.centre.acks().needed);
        let others: Vec<usize> = (0..self.servers.len())
            .filter(|o| *o != server && self.servers[*o].up && self.connected(server, *o))
            .collect();
        let seen: Vec<_> = others
            .into_iter()
            .filter_map(|other| self.servers[other].centre.seen().ok())
            .map(|bytes| Digest::decode(&bytes).unwrap().seen)
            .collect();
        if seen.len() >= needed {
            let after = self.random.between(1, 40);
            self.schedule(
                after,
                Event::BarrierSaid {
                    server,
                    life,
                    number,
                    seen,
                },
            );
        }
        self.schedule(250, Event::Barrier(server, life));
    }
}

fn drift(random: &mut Random) -> i64 {
    i64::try_from(random.between(0, 20)).unwrap() - 10
}

fn introduction(number: u32) -> Introduction {
    Introduction {
        number,
        name: NodeName::new(format!("n{number}")).unwrap(),
        role: Role::Core,
        peer_id: format!("peer-{number}"),
        addresses: Vec::new(),
        http: format!("n{number}:9000"),
        grpc: format!("n{number}:9001"),
    }
}
