//! One OLT host of the simulation: what it knows, what it believes, what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nexus_random::Random;

use super::Bug;
use super::world::Clock;
use crate::id::{Epoch, OltId, Seq, SessionId, ShardId};
use crate::lease::holder_end;
use crate::shard::{ShardRef, ShardState};
use crate::shard_table::tests::{pool_id, register, session};
use crate::shard_table::{Command, Renew};
use crate::time::BootTime;

/// The configuration of one session, as it travels.
#[derive(Clone, Debug)]
pub struct Config {
    pub revision: u64,
    pub shards: Vec<(ShardId, Epoch, ShardState)>,
}

/// What the grantor answers, or tells unasked.
#[derive(Clone, Debug)]
pub enum Answer {
    Registered(Config),
    Renewed,
    Configured(Config),
    RegisterAgain,
    StartOver,
    /// Another host is alive under this id.
    Wait,
}

pub struct Host {
    pub number: usize,
    pub olt: OltId,
    pub session: SessionId,
    pub clock: Clock,
    pub cut_off: bool,
    pub next_beat: u64,
    lives: u32,
    registered: bool,
    revision: u64,
    shards: BTreeMap<ShardId, (Epoch, ShardState)>,
    given_back: BTreeSet<(ShardId, Epoch)>,
    lease_end: BootTime,
    requests: u64,
    sent: BTreeMap<u64, BootTime>,
}

impl Host {
    pub fn new(number: usize, olt: OltId, clock: Clock) -> Self {
        Self {
            number,
            olt,
            session: session(&format!("s-{number}-0")),
            clock,
            cut_off: false,
            next_beat: 0,
            lives: 0,
            registered: false,
            revision: 0,
            shards: BTreeMap::new(),
            given_back: BTreeSet::new(),
            lease_end: BootTime::ZERO,
            requests: 0,
            sent: BTreeMap::new(),
        }
    }

    /// The shards that it believes to have a right to at this moment of true time.
    pub fn believes(&self) -> impl Iterator<Item = (ShardId, Epoch)> {
        let alive = self.clock.now() < self.lease_end;
        self.shards
            .iter()
            .filter(move |_| alive)
            .map(|(shard, (epoch, _))| (*shard, *epoch))
    }

    /// The store is lost: everything starts from nothing, under another session.
    pub fn lose_store(&mut self) {
        self.lives += 1;
        self.session = session(&format!("s-{}-{}", self.number, self.lives));
        self.registered = false;
        self.revision = 0;
        self.shards.clear();
        self.given_back.clear();
        self.lease_end = BootTime::ZERO;
        self.sent.clear();
    }

    /// The process starts again; boot time and store go on.
    pub fn restart(&mut self) {
        self.registered = false;
        self.sent.clear();
    }

    /// The machine starts again: the clock too, and a lease of the old boot means nothing.
    pub fn reboot(&mut self) {
        self.restart();
        self.clock.reboot();
        self.lease_end = BootTime::ZERO;
    }

    /// The next heartbeat, or a registration; with the number of the request.
    pub fn speak(&mut self, rng: &mut Random, bug: Bug) -> (u64, Command) {
        let released = self.empty_some(rng, bug);
        self.requests += 1;
        self.sent.insert(self.requests, self.clock.now());
        while self.sent.len() > 50 {
            self.sent.pop_first();
        }
        let command = if self.registered {
            Command::Renew(Renew {
                olt: self.olt.clone(),
                session: self.session.clone(),
                config_revision: if bug == Bug::HidesItsRevision {
                    u64::MAX
                } else {
                    self.revision
                },
                last_seq: Seq(0),
                idle: BTreeMap::new(),
                in_use: BTreeMap::new(),
                released,
                acked_below: Seq(0),
                keeping: None,
            })
        } else {
            Command::Register(register(self.olt.as_str(), self.session.as_str()))
        };
        (self.requests, command)
    }

    /// Draining shards become empty one day; some hosts also give back without being asked.
    fn empty_some(&mut self, rng: &mut Random, bug: Bug) -> Vec<ShardRef> {
        let mut released = Vec::new();
        self.shards.retain(|shard, (epoch, state)| {
            let gives = rng.one_in(if *state == ShardState::Draining {
                3
            } else {
                60
            });
            if gives {
                if bug != Bug::ForgetsWhatItGaveBack {
                    self.given_back.insert((*shard, *epoch));
                }
                released.push((*shard, *epoch));
            }
            !gives
        });
        // What was given back is said again with every heartbeat: an answer may have been lost.
        released.extend(self.given_back.iter().copied());
        released
            .into_iter()
            .map(|(shard, epoch)| ShardRef {
                pool: pool_id("vlans"),
                shard,
                epoch,
            })
            .collect()
    }

    pub fn hear(
        &mut self,
        of: &SessionId,
        request: u64,
        answer: Answer,
        bug: Bug,
        lease: Duration,
    ) {
        if *of != self.session {
            return;
        }
        match answer {
            Answer::Registered(config) => {
                self.registered = true;
                self.adopt(config);
                self.extend(request, bug, lease);
            }
            Answer::Renewed => self.extend(request, bug, lease),
            Answer::Configured(config) => self.adopt(config),
            Answer::RegisterAgain => self.registered = false,
            Answer::StartOver => self.lose_store(),
            Answer::Wait => {}
        }
    }

    fn extend(&mut self, request: u64, bug: Bug, lease: Duration) {
        let Some(sent) = self.sent.remove(&request) else {
            return;
        };
        let end = match bug {
            Bug::CountsFromReceipt => holder_end(self.clock.now(), lease),
            Bug::NoDriftMargin => sent + lease,
            _ => holder_end(sent, lease),
        };
        self.lease_end = self.lease_end.max(end);
    }

    fn adopt(&mut self, config: Config) {
        let repeats = self.revision == config.revision && !self.given_back.is_empty();
        if config.revision < self.revision || repeats {
            return;
        }
        self.revision = config.revision;
        self.shards = config
            .shards
            .into_iter()
            .filter(|(shard, epoch, _)| !self.given_back.contains(&(*shard, *epoch)))
            .map(|(shard, epoch, state)| (shard, (epoch, state)))
            .collect();
    }
}
