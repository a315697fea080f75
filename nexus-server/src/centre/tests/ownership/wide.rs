//! What goes wrong besides in lives from [`WIDE_FROM`](super::WIDE_FROM) on: clocks run wrong or are set, the pool changes while it
//! is used.

use nexus_core::pool::PoolSpec;

use super::DHCP_LEASE;
use super::mail::Event;
use super::world::World;

/// For how many milliseconds a client may go on that hears nothing.
const CLIENT: u64 = DHCP_LEASE.as_secs() * 1000;

/// Rates of clocks that run wrong, in thousandths fast: outside of what leases allow for, whatever the server's clock does.
const WRONG: [i64; 6] = [-250, -120, -45, 45, 120, 250];

impl World {
    pub fn wide_chaos(&mut self) {
        if self.calm {
            return;
        }
        self.clients_go_on();
        let after = self.random.between(2000, 15_000);
        self.schedule(after, Event::WideFault);
        let host = self.random.below(self.hosts.len());
        let server = self.random.below(self.servers.len());
        match self.random.below(10) {
            0 | 1 => self.run_wrong(host),
            2 => self.run_right(host),
            3 => {
                let ahead = self.wall_step();
                self.hosts[host].clock.wall_ahead = ahead;
            }
            4 => {
                let ahead = self.wall_step();
                self.servers[server].clock.wall_ahead = ahead;
            }
            _ => self.change_pool(server),
        }
    }

    /// A host's clock begins to run wrong. Before the host can have found that: if it is slow, its rights reach too far, which
    /// cannot be held and is not looked at; if it is fast, what it gives has rested too short, by what it has gained.
    fn run_wrong(&mut self, host: usize) {
        if self.hosts[host].dead {
            return;
        }
        let rate = WRONG[self.random.below(WRONG.len())];
        let now = self.now;
        let place = &mut self.hosts[host];
        place.rested_short = (now + CLIENT, place.rests_short_by(now));
        place.clock.run_at(now, rate);
        place.astray = Some(0);
        self.life.wrong_clocks += 1;
    }

    /// It runs right again; what it did meanwhile, if its rights ended too late, is put right by the records, as after an old
    /// disk.
    pub fn run_right(&mut self, host: usize) {
        let now = self.now;
        let place = &mut self.hosts[host];
        if !place.clock.is_wrong() {
            return;
        }
        let (short, overstayed) = (place.rests_short_by(now), place.overstays());
        place.clock.run_at(now, 0);
        if place.astray.take().is_some() {
            // What has rested too short by then nobody finds out any more.
            place.rested_short = (now + CLIENT, short);
            place.doubtful = overstayed;
            self.begin_again(host, true, false);
        }
    }

    /// Some hours either way, or a second.
    fn wall_step(&mut self) -> i64 {
        let most = if self.random.chance(500) {
            1000
        } else {
            10_000_000
        };
        let step = i64::try_from(self.random.between(0, 2 * most)).unwrap();
        step - i64::try_from(most).unwrap()
    }

    /// As `PUT /api/v1/pools/{id}` with `drain` does.
    fn change_pool(&mut self, server: usize) {
        if !self.has_majority(server) {
            return;
        }
        let spec = self.other_spec();
        let id = spec.id.clone();
        let Ok(change) = self.servers[server].centre.prepare_update(&id, spec, None) else {
            return;
        };
        if self.decide(server, change.command).is_ok() {
            let at = self.servers[server].now(self.now);
            let places = change.affected.places;
            self.servers[server]
                .centre
                .ask_back_all(&at, &places)
                .unwrap();
            self.drain(server);
            self.life.pool_changes += 1;
        }
    }

    /// Half as large, twice as large, or with other exclusions.
    fn other_spec(&mut self) -> PoolSpec {
        let mut spec = super::pool_spec();
        let range = ["10.0.0.0/26", "10.0.0.0/27", "10.0.0.0/25"][self.random.below(3)];
        spec.cidr = Some(range.to_owned());
        if self.random.chance(600) {
            let first = self.random.between(2, 28);
            spec.exclusions = vec![format!("10.0.0.{first}-10.0.0.{}", first + 3)];
        }
        spec
    }

    /// Wall clocks are right again, and in every second life the clocks of hosts as well: the others must stop.
    pub fn set_clocks(&mut self) {
        let stay = self.random.chance(500);
        for host in 0..self.hosts.len() {
            self.hosts[host].clock.wall_ahead = 0;
            if !stay {
                self.run_right(host);
            }
        }
        for server in &mut self.servers {
            server.clock.wall_ahead = 0;
        }
    }
}
