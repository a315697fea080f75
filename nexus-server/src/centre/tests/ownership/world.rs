//! Virtual time: what happens when, the log that a majority agrees on, and what servers tell each other.

use std::collections::{BTreeMap, BinaryHeap};

use nexus_core::cluster::{Introduction, MemberCommand, Role};
use nexus_core::id::NodeName;
use nexus_core::shard_table::Command;
use nexus_core::time::{BootTime, ClusterTime};

use super::bug::Bug;
use super::clock::Clock;
use super::host::Host;
use super::mail::{Due, Event};
use super::random::Random;
use super::server::Server;
use super::used::Clients;
use super::{Kind, check};

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
    /// Clocks of hosts that began to run wrong.
    pub wrong_clocks: u64,
    /// Hosts that have found that clocks run apart.
    pub stopped: u64,
    pub pool_changes: u64,
    /// Sites that were cut off, with the hosts there.
    pub sites_cut: u64,
    /// Servers that were put back to an older copy, and found that out.
    pub copies_found: u64,
    /// Allocations of hosts that were away for longer than `reclaim_after`.
    pub reclaimed: u64,
}

impl Life {
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.accepted = self.accepted.max(other.accepted);
        self.acknowledged += other.acknowledged;
        self.restarts += other.restarts;
        self.put_right += other.put_right;
        self.seconds += other.seconds;
        self.wrong_clocks += other.wrong_clocks;
        self.stopped += other.stopped;
        self.pool_changes += other.pool_changes;
        self.sites_cut += other.sites_cut;
        self.copies_found += other.copies_found;
        self.reclaimed += other.reclaimed;
    }
}

pub struct World {
    pub now: u64,
    pub random: Random,
    pub bug: Option<Bug>,
    pub loud: bool,
    pub kind: Kind,
    due: BinaryHeap<Due>,
    pub number: u64,
    pub servers: Vec<Server>,
    pub hosts: Vec<Host>,
    /// Servers of one group reach each other.
    pub groups: Vec<usize>,
    /// Sites are cut off for longer than leases.
    pub long_cuts: bool,
    /// How often each server's site was cut off.
    pub cuts: Vec<u32>,
    pub log: Vec<(ClusterTime, Vec<u8>)>,
    pub leader: Option<usize>,
    /// What the leader's clock and cluster time showed when it took office.
    pub office: (BootTime, ClusterTime),
    pub asked: BTreeMap<u64, (usize, u32, u64)>,
    pub clients: Clients,
    /// What servers have on record may have changed since it was looked at last.
    pub records_changed: bool,
    pub calm: bool,
    /// No subscriber comes or goes any more.
    pub quiet: bool,
    pub life: Life,
    pub fault: Option<String>,
}

impl World {
    pub fn new(seed: u64, bug: Option<Bug>, loud: bool) -> Self {
        let kind = Kind::of(seed);
        let mut random = Random::new(seed);
        let servers = if random.chance(250) { 1 } else { 3 };
        let drifts: Vec<i64> = (0..servers).map(|_| drift(&mut random)).collect();
        let mut world = Self {
            now: 1_000_000,
            random,
            bug,
            loud,
            kind,
            due: BinaryHeap::new(),
            number: 0,
            servers: Vec::new(),
            hosts: Vec::new(),
            groups: vec![0; servers],
            long_cuts: seed.is_multiple_of(2),
            cuts: vec![0; servers],
            log: Vec::new(),
            leader: None,
            office: (BootTime::ZERO, ClusterTime::ZERO),
            asked: BTreeMap::new(),
            clients: Clients::default(),
            records_changed: false,
            calm: true,
            quiet: false,
            life: Life::default(),
            fault: None,
        };
        for (number, drift) in (1..).zip(drifts) {
            let counts = Clock::new(world.now, world.now * 1_000_000, drift);
            // In lives of before other clocks were looked at, only cluster time drifts at the servers.
            let clock = if kind == Kind::Wide {
                counts.clone()
            } else {
                Clock::new(world.now, world.now * 1_000_000, 0)
            };
            world
                .servers
                .push(Server::new(number, clock, counts, world.now));
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
        let rule = self.first_rule();
        self.decide(0, Command::SetRule { rule }).unwrap();
        let spec = self.first_spec();
        let create = self.servers[0].centre.prepare_create(spec).unwrap();
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
            event: Box::new(event),
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
            let event = *self.due.pop().unwrap().event;
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
                    let at = self.servers[server].now(self.now);
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
                } else {
                    self.breaks(line);
                }
            }
            Event::Subscriber => self.subscriber(),
            Event::Fault => self.chaos(),
            Event::WideFault => self.wide_chaos(),
            Event::SiteFault => self.site_chaos(),
            Event::Mend(None) => {
                self.groups.iter_mut().for_each(|group| *group = 0);
                (0..self.servers.len()).for_each(|server| self.meet(server));
            }
            Event::MendSite(server, cut) => self.mend_site(server, cut),
            Event::Mend(Some(host)) => self.hosts[host].cut_off = false,
            of_host => self.host_event(of_host),
        }
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
