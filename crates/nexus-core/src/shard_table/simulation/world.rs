//! True time, the network, chaos, and the checker.

use std::collections::BTreeMap;
use std::time::Duration;

use nexus_random::Random;

use super::Bug;
use super::central::{Central, Question};
use super::grantor::{Grantor, LEADERLESS};
use super::host::{Answer, Config, Host};
use crate::id::{OltId, Seq, SessionId, ShardId};
use crate::lease::LeaseRule;
use crate::pool::PoolSpec;
use crate::resource::ResourceType;
use crate::shard::ShardKey;
use crate::shard_table::tests::{olt, pool_id};
use crate::shard_table::{Command, MoveReason, Refusal, UnitGrant};
use crate::time::BootTime;

pub const SECOND: u64 = 1_000_000_000;
const LEASE: Duration = Duration::from_secs(3600);
const HEARTBEAT: Duration = Duration::from_secs(300);

/// A boot-time clock that runs at 0.99 to 1.01 of true time.
pub struct Clock {
    local: u64,
    /// Parts per thousand of true time.
    rate: u64,
}

impl Clock {
    pub fn new(rng: &mut Random) -> Self {
        // The ends of what is allowed are the interesting rates.
        let rate = if rng.one_in(2) {
            990 + 20 * rng.below_u64(2)
        } else {
            990 + rng.below_u64(21)
        };
        Self {
            local: rng.below_u64(1_000_000) * SECOND,
            rate,
        }
    }

    pub fn now(&self) -> BootTime {
        BootTime::from_nanos(self.local)
    }

    pub fn reboot(&mut self) {
        self.local = 20 * SECOND;
    }

    pub fn advance(&mut self, true_nanos: u64) {
        self.local += true_nanos / 1000 * self.rate;
    }

    /// True time until the clock shows `at`.
    pub fn until(&self, at: BootTime) -> u64 {
        at.as_nanos().saturating_sub(self.local).div_ceil(self.rate) * 1000
    }
}

enum Message {
    Up {
        host: usize,
        session: SessionId,
        request: u64,
        command: Command,
    },
    Down {
        host: usize,
        session: SessionId,
        request: u64,
        answer: Answer,
    },
    /// A server proposes; with a question if it waits for the answer.
    Propose {
        question: Option<Question>,
        command: Command,
    },
    Proposed {
        question: Question,
        grant: Option<UnitGrant>,
    },
}

pub struct World {
    rng: Random,
    bug: Bug,
    now: u64,
    grantor: Grantor,
    central: Central,
    newest_grant: Seq,
    hosts: Vec<Host>,
    network: BTreeMap<(u64, u64), Message>,
    messages: u64,
    next_tick: u64,
    next_chaos: u64,
    next_central: u64,
    next_leader: u64,
    pub moved: usize,
    pub leases_ended: usize,
    pub grantor_restarts: usize,
    pub leader_changes: usize,
    pub units_granted: usize,
    pub units_freed: usize,
}

impl World {
    /// Four OLTs and three shards to share: whoever loses one loses it to another. A fifth host
    /// uses the id of the first.
    pub fn new(seed: u64, bug: Bug) -> Self {
        let mut rng = Random::at(seed);
        let names = ["olt-0", "olt-1", "olt-2", "olt-3", "olt-0"];
        let hosts = names
            .iter()
            .enumerate()
            .map(|(number, name)| Host::new(number, olt(name), Clock::new(&mut rng)))
            .collect();
        let mut world = Self {
            bug,
            now: 0,
            grantor: Grantor::new(&mut rng, bug, rule()),
            central: Central::default(),
            newest_grant: Seq(0),
            hosts,
            network: BTreeMap::new(),
            messages: 0,
            next_tick: 0,
            next_chaos: 0,
            next_central: 0,
            next_leader: u64::MAX,
            moved: 0,
            leases_ended: 0,
            grantor_restarts: 0,
            leader_changes: 0,
            units_granted: 0,
            units_freed: 0,
            rng,
        };
        let mut spec = PoolSpec::minimal(pool_id("vlans"), ResourceType::Vlan, "1-40");
        spec.shard_size = Some(10);
        let spec = Box::new(spec);
        world.command(Command::AddPool { spec }).unwrap().unwrap();
        world
    }

    /// Goes to the next event in true time and lets it happen.
    pub fn step(&mut self) {
        let deadline = self
            .grantor
            .until_deadline()
            .map_or(u64::MAX, |wait| self.now + wait);
        let tick = self.next_tick.min(deadline);
        let beat = self
            .hosts
            .iter()
            .map(|h| (h.next_beat, h.number))
            .min()
            .unwrap();
        let arrival = self.network.keys().next().copied().unwrap_or((u64::MAX, 0));
        let next = tick
            .min(beat.0)
            .min(arrival.0)
            .min(self.next_chaos)
            .min(self.next_central)
            .min(self.next_leader)
            .max(self.now);
        self.advance(next - self.now);
        if arrival.0 <= next {
            let message = self.network.remove(&arrival).unwrap();
            self.deliver(message);
        } else if tick <= next {
            self.next_tick = self.now + 60 * SECOND;
            self.tick();
        } else if beat.0 <= next {
            self.beat(beat.1);
        } else if self.next_central <= next {
            self.allocate();
        } else if self.next_leader <= next {
            self.elect();
        } else {
            self.next_chaos = self.now + self.rng.below_u64(1800) * SECOND;
            self.chaos();
        }
    }

    /// Who believes to own what, in true time; and whether the table knows of it.
    pub fn check(&self) -> Result<(), String> {
        let mut believers: BTreeMap<ShardId, usize> = BTreeMap::new();
        for host in &self.hosts {
            for (shard, epoch) in host.believes() {
                if let Some(other) = believers.insert(shard, host.number) {
                    return Err(format!(
                        "hosts {other} and {} both believe in shard {shard} at {} ns",
                        host.number, self.now
                    ));
                }
                let key = ShardKey {
                    pool: pool_id("vlans"),
                    shard,
                };
                let known = self.grantor.table().shard(&key).is_some_and(|row| {
                    let of_host = |o: &crate::shard_table::Owner| {
                        o.olt == host.olt && o.session == host.session
                    };
                    row.epoch == epoch && row.owner.as_ref().is_some_and(of_host)
                });
                // With a bug planted only the plain violation counts.
                if !known && self.bug == Bug::None {
                    return Err(format!(
                        "host {} believes in shard {shard} at {} ns, the table does not",
                        host.number, self.now
                    ));
                }
            }
        }
        self.central.check(self.grantor.table(), self.bug)
    }

    fn advance(&mut self, nanos: u64) {
        // Rounded up to whole microseconds, so that no clock loses parts of a step.
        let nanos = nanos.div_ceil(1000) * 1000;
        self.now += nanos;
        self.grantor.advance(nanos);
        for host in &mut self.hosts {
            host.clock.advance(nanos);
        }
    }

    fn beat(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        let beat = u64::try_from(HEARTBEAT.as_nanos()).unwrap();
        host.next_beat = self.now + beat / 2 + self.rng.below_u64(beat);
        let (request, command) = host.speak(&mut self.rng, self.bug);
        let (host, session) = (host.number, host.session.clone());
        self.send(host, || Message::Up {
            host,
            session: session.clone(),
            request,
            command: command.clone(),
        });
    }

    /// A subscriber comes or goes at some server, and servers sweep.
    fn allocate(&mut self) {
        self.next_central = self.now + self.rng.below_u64(600) * SECOND;
        if let Some((question, command)) = self.central.act(self.now, &mut self.rng) {
            self.send_freely(|| Message::Propose {
                question: Some(question.clone()),
                command: command.clone(),
            });
        }
        for command in self.central.sweep(self.grantor.table(), self.bug) {
            self.send_freely(|| Message::Propose {
                question: None,
                command: command.clone(),
            });
        }
    }

    fn tick(&mut self) {
        if let Some(outcome) = self.command(Command::Tick) {
            outcome.unwrap();
        }
    }

    fn lose_leader(&mut self) {
        self.grantor.lose_leader();
        self.next_leader = self.now + self.rng.below_u64(LEADERLESS.as_secs()) * SECOND;
    }

    fn elect(&mut self) {
        self.next_leader = u64::MAX;
        self.leader_changes += 1;
        self.grantor.elect(&mut self.rng);
    }

    fn send(&mut self, host: usize, message: impl Fn() -> Message) {
        if !self.hosts[host].cut_off {
            self.send_freely(message);
        }
    }

    fn send_freely(&mut self, message: impl Fn() -> Message) {
        let copies = if self.rng.one_in(8) {
            0
        } else {
            1 + u64::from(self.rng.one_in(8))
        };
        for _ in 0..copies {
            let delay = match self.rng.below_u64(10) {
                0 => self.rng.below_u64(2 * 3600) * SECOND,
                1 => self.rng.below_u64(60) * SECOND,
                _ => self.rng.below_u64(SECOND),
            };
            self.messages += 1;
            self.network
                .insert((self.now + delay, self.messages), message());
        }
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Up {
                host,
                session,
                request,
                command,
            } => {
                let renews = matches!(command, Command::Renew(_));
                let Some(outcome) = self.command(command) else {
                    return;
                };
                let answer = match outcome {
                    Ok(_) if renews => Answer::Renewed,
                    Ok(_) => Answer::Registered(self.config(&self.hosts[host].olt)),
                    Err(Refusal::Superseded { .. } | Refusal::RolledBack { .. }) => {
                        Answer::StartOver
                    }
                    Err(Refusal::AlreadyAlive { .. }) => Answer::Wait,
                    Err(_) => Answer::RegisterAgain,
                };
                self.send(host, || Message::Down {
                    host,
                    session: session.clone(),
                    request,
                    answer: answer.clone(),
                });
            }
            Message::Down {
                host,
                session,
                request,
                answer,
            } => {
                self.hosts[host].hear(&session, request, answer, self.bug, LEASE);
            }
            Message::Propose { question, command } => {
                let Some(outcome) = self.command(command) else {
                    return;
                };
                let Some(question) = question else {
                    self.units_freed += usize::from(outcome.is_ok());
                    return;
                };
                let grant = outcome.ok().flatten();
                self.send_freely(|| Message::Proposed {
                    question: question.clone(),
                    grant,
                });
            }
            Message::Proposed { question, grant } => {
                let took = self.central.hear(self.now, &question, grant, self.bug);
                self.units_granted += usize::from(took);
            }
        }
    }

    /// The grantor carries a command out and tells whom it concerns. `None` if nobody
    /// leads: then nothing happens, and nobody hears why.
    fn command(&mut self, command: Command) -> Option<Result<Option<UnitGrant>, Refusal>> {
        let applied = match self.grantor.carry_out(command)? {
            Ok(applied) => applied,
            Err(refusal) => return Some(Err(refusal)),
        };
        self.moved += applied.moves.len();
        self.leases_ended += applied
            .moves
            .iter()
            .filter(|m| m.reason == MoveReason::LeaseEnded)
            .count();
        for olt in applied.reconfigured {
            let config = self.config(&olt);
            let session = self.grantor.table().olt(&olt).unwrap().row.session.clone();
            for host in 0..self.hosts.len() {
                if self.hosts[host].olt == olt {
                    let answer = Answer::Configured(config.clone());
                    self.send(host, || Message::Down {
                        host,
                        session: session.clone(),
                        request: 0,
                        answer: answer.clone(),
                    });
                }
            }
        }
        if let Some(grant) = applied.unit {
            assert!(grant.seq > self.newest_grant, "{}", grant.seq);
            self.newest_grant = grant.seq;
        }
        Some(Ok(applied.unit))
    }

    fn config(&self, olt: &OltId) -> Config {
        let shards = self
            .grantor
            .table()
            .shards_of(olt)
            .remove(&pool_id("vlans"))
            .unwrap_or_default();
        Config {
            revision: self
                .grantor
                .table()
                .olt(olt)
                .map_or(0, |view| view.row.config_revision),
            shards: shards
                .into_iter()
                .map(|s| (s.shard, s.epoch, s.state))
                .collect(),
        }
    }

    fn chaos(&mut self) {
        let number = usize::try_from(self.rng.below_u64(self.hosts.len() as u64)).unwrap();
        let name = self.hosts[number].olt.clone();
        match self.rng.below_u64(20) {
            0..=6 => self.hosts[number].cut_off ^= true,
            7..=9 => self.hosts[number].restart(),
            10 => self.hosts[number].reboot(),
            11 => self.hosts[number].lose_store(),
            12..=14 => self.restart_grantor(),
            18 => self.lose_leader(),
            15 => drop(self.command(Command::Drain { olt: name })),
            16 => drop(self.command(Command::Deregister { olt: name })),
            17 if self.rng.one_in(3) => {
                // The operator's statement is true: all hosts of that name have lost their stores.
                self.hosts
                    .iter_mut()
                    .filter(|h| h.olt == name)
                    .for_each(Host::lose_store);
                drop(self.command(Command::Fence {
                    olt: name,
                    reason: "burnt down".into(),
                }));
            }
            _ => self.hosts.iter_mut().for_each(|host| host.cut_off = false),
        }
    }

    fn restart_grantor(&mut self) {
        self.grantor_restarts += 1;
        self.grantor.restart(&mut self.rng);
        self.lose_leader();
    }
}

fn rule() -> LeaseRule {
    LeaseRule::new(LEASE, HEARTBEAT).unwrap()
}
