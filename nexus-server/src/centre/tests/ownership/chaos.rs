//! What goes wrong.

use std::collections::BTreeMap;

use nexus_core::shard_table::Command;

use super::Kind;
use super::host::subscriber;
use super::mail::Event;
use super::world::World;

impl World {
    pub fn chaos(&mut self) {
        if self.calm {
            return;
        }
        self.clients_go_on();
        let after = self.random.between(500, 6000);
        self.schedule(after, Event::Fault);
        let host = self.random.below(self.hosts.len());
        let server = self.random.below(self.servers.len());
        if self.hosts[host].dead {
            return;
        }
        match self.random.below(24) {
            0..=3 => {
                // Some of these last longer than a lease.
                self.hosts[host].cut_off = true;
                let lasts = self.random.between(1000, 110_000);
                self.schedule(lasts, Event::Mend(Some(host)));
            }
            4..=6 if self.kind == Kind::Sites => self.cut_site(server),
            4..=6 => {
                self.groups[server] = server + 1;
                (0..self.servers.len()).for_each(|server| self.meet(server));
                let lasts = self.random.between(1000, 90_000);
                self.schedule(lasts, Event::Mend(None));
            }
            7 | 8 if self.servers[server].up => {
                self.crash(server);
                let lasts = self.random.between(500, 30_000);
                self.schedule(lasts, Event::Start(server));
            }
            9..=11 => self.restart_host(host, false),
            12 => self.restart_host(host, true),
            13 | 14 => {
                // Stopped, some longer than a lease; what comes meanwhile waits.
                let lasts = self.random.between(500, 100_000);
                self.hosts[host].stopped_until = self.now + lasts;
            }
            15 => self.hosts[host].image = Some(self.hosts[host].rows.clone()),
            16 => self.put_back_image(host),
            17 if self.random.chance(300) => {
                self.hosts[host].rows = BTreeMap::new();
                self.hosts[host].accepted.clear();
                self.restart_host(host, false);
            }
            18 | 19 => {
                let olt = self.hosts[host].olt.clone();
                let _ = self.decide(server, Command::Drain { olt });
            }
            20 if self.random.chance(150) && self.hosts.len() > 2 => self.kill(host, server),
            21 => {
                let who = subscriber(self.random.below(super::SUBSCRIBERS));
                if self.servers[server].up {
                    let at = self.servers[server].now(self.now);
                    let _ = self.servers[server].centre.deallocate(&at, &who, None);
                    self.drain(server);
                }
            }
            22 if self.hosts.len() < 5 && self.random.chance(200) => {
                // A second host with the id of another one, and a disk of its own.
                let olt = self.hosts[host].olt.to_string();
                self.add_host(&olt);
            }
            23 => self.copy_disk(host),
            _ => {}
        }
    }

    fn restart_host(&mut self, host: usize, reboot: bool) {
        self.begin_again(host, reboot, false);
    }

    pub fn begin_again(&mut self, host: usize, reboot: bool, rolled_back: bool) {
        self.life.restarts += 1;
        let at = self.now;
        self.hosts[host].restart(at, reboot, rolled_back);
        let process = self.hosts[host].process;
        let after = self.random.between(1, 1000);
        self.schedule(0, Event::Flush(host, process));
        self.schedule(after, Event::HostTick(host, process));
        self.schedule(after, Event::Connect(host, process));
    }

    /// An old image of the disk is put back, and the machine boots from it. It cannot know, and nobody can tell
    /// it until it reaches a server: until then what it serves is in doubt.
    fn put_back_image(&mut self, host: usize) {
        let Some(image) = self.hosts[host].image.take() else {
            return;
        };
        // Of what is on its way nothing arrives: it takes longer than any call.
        self.hosts[host].doubtful = true;
        self.hosts[host].rows = image;
        self.hosts[host].accepted.clear();
        // Without a reboot the mark that the boot keeps tells.
        let reboot = self.random.chance(500);
        if reboot {
            let lease = u64::try_from(super::LEASE.as_millis()).unwrap();
            self.hosts[host].unaware_until = self.now + lease;
        }
        self.begin_again(host, reboot, !reboot);
    }

    /// The disk of a host is copied into a new one, which starts beside it: other hardware, so that it says so.
    fn copy_disk(&mut self, host: usize) {
        if self.hosts.len() >= 5 || !self.random.chance(100) {
            return;
        }
        let (olt, rows) = (
            self.hosts[host].olt.to_string(),
            self.hosts[host].rows.clone(),
        );
        self.add_host(&olt);
        let copy = self.hosts.len() - 1;
        self.hosts[copy].rows = rows;
        self.hosts[copy].doubtful = true;
        self.begin_again(copy, true, true);
    }

    /// The host is dead, as an operator states; its clients are cut off with it.
    fn kill(&mut self, host: usize, server: usize) {
        let olt = self.hosts[host].olt.clone();
        let alone = self.hosts.iter().filter(|other| other.olt == olt).count() == 1;
        if !alone || !self.has_majority(server) {
            return;
        }
        self.clients.stop_all(host);
        self.hosts[host].dead = true;
        self.hosts[host].up = false;
        let reason = "burnt down".to_owned();
        let _ = self.decide(server, Command::Fence { olt, reason });
    }

    /// Everything is put right.
    pub fn heal(&mut self) {
        self.clients_go_on();
        self.calm = true;
        self.quiet = true;
        self.happen_mended();
        if self.kind == Kind::Wide {
            self.set_clocks();
        }
        for server in 0..self.servers.len() {
            if !self.servers[server].up {
                self.start(server);
            }
        }
        (0..self.servers.len()).for_each(|server| self.meet(server));
        for host in 0..self.hosts.len() {
            self.hosts[host].cut_off = false;
            self.hosts[host].stopped_until = 0;
        }
    }

    /// Clients have renewed up to now by clocks as they ran up to now.
    pub fn clients_go_on(&mut self) {
        self.clients.pass(&self.hosts, self.now);
    }

    fn happen_mended(&mut self) {
        self.groups.iter_mut().for_each(|group| *group = 0);
        self.hosts.iter_mut().for_each(|host| host.site = 0);
    }
}
