//! What goes wrong besides in lives from [`SITES_FROM`](super::SITES_FROM) on: a site is cut off, a server together with hosts
//! that reach no other one; acknowledged bindings end soon, and the rule for that changes; the store of one server is put back
//! to an older copy.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use nexus_clset::Digest;
use nexus_core::lease::LeaseRule;
use nexus_core::pool::PoolSpec;
use nexus_core::shard_table::Command;

use super::super::Memory;
use super::mail::Event;
use super::server;
use super::world::World;
use super::{HEARTBEAT, Kind, LEASE};
use crate::replica;

impl World {
    /// In every second life with sites what is acknowledged ends soon after the lease.
    pub fn first_rule(&mut self) -> LeaseRule {
        let rule = LeaseRule::new(LEASE, HEARTBEAT).unwrap();
        if self.kind == Kind::Sites && self.random.chance(500) {
            let after = self.random.between(1, 120);
            rule.reclaiming_after(Some(Duration::from_secs(after)))
                .unwrap()
        } else {
            rule
        }
    }

    /// Half of the addresses of other lives, so that an address is soon given again.
    pub fn first_spec(&self) -> PoolSpec {
        let mut spec = super::pool_spec();
        if self.kind == Kind::Sites {
            spec.cidr = Some("10.0.0.0/27".to_owned());
        }
        spec
    }

    pub fn site_chaos(&mut self) {
        if self.calm {
            return;
        }
        self.clients_go_on();
        let after = self.random.between(2000, 25_000);
        self.schedule(after, Event::SiteFault);
        let server = self.random.below(self.servers.len());
        match self.random.below(10) {
            0..=3 => self.cut_site(server),
            4 => self.change_rule(server),
            5 | 6 => self.copy_store(server),
            _ => self.put_back_copy(server),
        }
    }

    /// A server is cut off from the others, and with it the hosts that talk to it, and some more.
    pub fn cut_site(&mut self, server: usize) {
        // Without a majority anywhere nothing changes hands: seldom enough, and not for long.
        let another = self.groups.iter().any(|group| *group != 0);
        if another && !self.random.chance(50) {
            return;
        }
        let site = server + 1;
        self.groups[server] = site;
        for host in 0..self.hosts.len() {
            if self.hosts[host].server == Some(server) || self.random.chance(200) {
                self.hosts[host].site = site;
            }
        }
        self.cuts[server] += 1;
        self.life.sites_cut += 1;
        (0..self.servers.len()).for_each(|server| self.meet(server));
        // Many of these last longer than a lease, and than what outlives it; in other lives there is time for copies.
        let longest = if self.long_cuts { 170_000 } else { 15_000 };
        let lasts = self.random.between(1000, longest);
        self.schedule(lasts, Event::MendSite(server, self.cuts[server]));
    }

    pub fn mend_site(&mut self, server: usize, cut: u32) {
        if self.cuts[server] != cut {
            return;
        }
        let site = server + 1;
        self.groups[server] = 0;
        for host in self.hosts.iter_mut().filter(|host| host.site == site) {
            host.site = 0;
        }
        (0..self.servers.len()).for_each(|server| self.meet(server));
    }

    /// As a configuration with another `olt.reclaim_after` does, at the leader.
    fn change_rule(&mut self, server: usize) {
        let after = [Some(5), Some(40), Some(100), Some(86_400), None][self.random.below(5)];
        let rule = LeaseRule::new(LEASE, HEARTBEAT)
            .unwrap()
            .reclaiming_after(after.map(Duration::from_secs))
            .unwrap();
        let _ = self.decide(server, Command::SetRule { rule });
    }

    /// The store of a server is copied while it is stopped for a moment.
    fn copy_store(&mut self, server: usize) {
        let rows = self.servers[server].memory.0.lock().unwrap().clone();
        self.servers[server].copy = Some(rows);
    }

    /// The copy is put back, under a quorum that goes on: the others have all that it had, so that nothing is lost, and tell
    /// it that it is an old one. That all servers are one is what `nexusctl cluster status` says before.
    fn put_back_copy(&mut self, server: usize) {
        if self.servers.len() < 3 || !self.is_converged() {
            return;
        }
        let Some(copy) = self.servers[server].copy.take() else {
            return;
        };
        self.crash(server);
        self.servers[server].memory = Memory(Arc::new(Mutex::new(copy)));
        let after = self.random.between(500, 5000);
        self.schedule(after, Event::Start(server));
    }

    fn is_converged(&self) -> bool {
        let together = self.groups.iter().all(|group| *group == 0);
        let mut seen = self.servers.iter().map(|server| {
            let digest = server.centre.seen().ok().filter(|_| server.up)?;
            Some(Digest::decode(&digest).unwrap().seen)
        });
        let first = seen.next().unwrap();
        together && first.is_some() && seen.all(|other| other == first)
    }

    /// A server throws its record away and starts anew, as its process does.
    pub fn start_over(&mut self, server: usize, why: &str) {
        if self.kind != Kind::Sites {
            self.fault = Some(format!("server {server} starts over: {why}"));
            return;
        }
        self.life.copies_found += 1;
        self.crash(server);
        let memory = self.servers[server].memory.clone();
        loop {
            let rows = replica::wipe(Arc::new(memory.clone())).unwrap();
            if rows.is_empty() {
                break;
            }
            server::write(&memory, rows);
        }
        let after = self.random.between(100, 2000);
        self.schedule(after, Event::Start(server));
    }
}
