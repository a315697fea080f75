//! Subscribers come, go, and give their addresses back.

use super::host::{Told, request, subscriber};
use super::mail::Event;
use super::world::World;

impl World {
    pub fn subscriber(&mut self) {
        if self.quiet {
            return;
        }
        let after = self.random.between(20, 1200);
        self.schedule(after, Event::Subscriber);
        let host = self.random.below(self.hosts.len());
        let number = self.random.below(super::SUBSCRIBERS);
        let place = &self.hosts[host];
        if !place.up || place.dead || place.stopped_until > self.now {
            return;
        }
        let who = subscriber(number);
        match self.random.below(10) {
            0..=5 => {
                let timestamp = self.hosts[host].clock.wall(self.now).to_string();
                let asked = request(number, timestamp);
                let granted = self.edge(host, |edge, now, fx| edge.authorize(now, &asked, fx));
                if let Ok(granted) = granted {
                    self.mark(host, Told::Granted(who, granted.ipv4.resource));
                }
            }
            6 | 7 => {
                self.edge(host, |edge, now, fx| {
                    edge.end_session(now, &who, "stop", fx)
                });
                self.mark(host, Told::Ended(who));
            }
            8 => self.dhcp(host, number, false),
            _ => self.dhcp(host, number, true),
        }
    }

    fn dhcp(&mut self, host: usize, number: usize, declines: bool) {
        let who = subscriber(number);
        let bindings = self.hosts[host].edge.bindings(Some(&who));
        let held = bindings
            .filter_map(|view| Some((view.resource, view.row.key.clone()?)))
            .next();
        let Some((resource, key)) = held else { return };
        if declines {
            let timestamp = self.hosts[host].clock.wall(self.now).to_string();
            self.edge(host, |edge, now, fx| {
                edge.dhcp_decline(now, &key.place(), resource, timestamp, fx)
            });
        } else {
            // Whoever gives an address back does not use it any more.
            if let nexus_core::resource::Resource::Ipv4(address) = resource {
                self.clients.stop(address, host);
            }
            self.edge(host, |edge, now, fx| {
                edge.dhcp_release(now, &key.place(), resource, fx)
            });
        }
        self.mark(host, Told::Ended(who));
    }
}
