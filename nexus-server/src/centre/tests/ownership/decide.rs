//! The log that a majority agrees on, who leads it, and a server's own time.

use nexus_core::cluster::{Answer, ClusterCommand, decode_outcome};
use nexus_core::shard_table::Command;
use nexus_core::time::{BootTime, ClusterTime};

use super::Kind;
use super::bug::Bug;
use super::mail::Event;
use super::world::World;
use crate::centre::Heard;
use crate::refused::Refused;

impl World {
    pub fn server_tick(&mut self, server: usize, life: u32) {
        if !self.servers[server].up || self.servers[server].life != life {
            return;
        }
        self.schedule(1000, Event::ServerTick(server, life));
        let at = self.servers[server].now(self.now);
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

    pub fn connected(&self, a: usize, b: usize) -> bool {
        self.groups[a] == self.groups[b]
    }

    pub fn reaches(&self, host: usize, server: usize) -> bool {
        let place = &self.hosts[host];
        // Other lives have no sites.
        let there = self.kind != Kind::Sites || place.site == self.groups[server];
        self.servers[server].up && !place.cut_off && there
    }

    /// Somebody of this server's group leads.
    fn lead(&mut self, server: usize) {
        let leads = |leader: usize| self.servers[leader].up && self.connected(server, leader);
        if !self.leader.is_some_and(leads) {
            // Time without a leader does not count.
            let last = self.log.last().map_or(ClusterTime::ZERO, |(at, _)| *at);
            self.leader = Some(server);
            self.office = (self.servers[server].counts.boot(self.now), last);
        }
    }

    fn cluster_now(&self) -> ClusterTime {
        let shown = self.leader.map_or(BootTime::ZERO, |leader| {
            self.servers[leader].counts.boot(self.now)
        });
        let passed = shown.since(self.office.0);
        let runs = if self.bug == Some(Bug::MovesEarly) {
            2
        } else {
            1
        };
        self.office.1 + passed * runs
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
        let at = self.cluster_now();
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

    pub fn catch_up(&mut self, server: usize) {
        while self.servers[server].applied < self.log.len() {
            self.apply_next(server);
        }
    }

    fn apply_next(&mut self, server: usize) -> Vec<u8> {
        let (at, bytes) = self.log[self.servers[server].applied].clone();
        self.servers[server].applied += 1;
        let here = self.servers[server].now(self.now);
        let outcome = self.servers[server]
            .centre
            .decided(&here, at, &bytes)
            .unwrap();
        self.drain(server);
        outcome
    }

    /// A server's process ends.
    pub fn crash(&mut self, server: usize) {
        self.servers[server].up = false;
        self.life.restarts += 1;
        self.meet(server);
        let connected = |host: &usize| self.hosts[*host].server == Some(server);
        let connected: Vec<usize> = (0..self.hosts.len()).filter(connected).collect();
        for host in connected {
            self.breaks(self.line(host));
        }
    }

    /// It starts again.
    pub fn start(&mut self, server: usize) {
        let at = self.now;
        self.records_changed = true;
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
}
