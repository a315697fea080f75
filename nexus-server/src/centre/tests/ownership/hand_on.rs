//! What a server's state has brought about: to its disk, to the hosts, to the other servers.

use nexus_clset::{Digest, NodeId, Output};
use nexus_core::id::OltId;

use super::mail::{Event, Line, Reply};
use super::server;
use super::world::World;
use crate::centre::Heard;
use crate::centre::effects::Event as Told;

impl World {
    /// Hands on what a server's state has brought about.
    pub fn drain(&mut self, server: usize) {
        let at = self.servers[server].now(self.now);
        loop {
            let mut effects = self.servers[server].centre.take_effects();
            let progress = effects.barrier.take();
            let is_empty = effects.writes.is_empty()
                && effects.ticket.is_none()
                && effects.events.is_empty()
                && effects.outputs.is_empty()
                && effects.proposals.is_empty()
                && progress.is_none();
            self.records_changed |= !effects.writes.is_empty();
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
            self.life.reclaimed += effects.reclaimed;
            if let Some(why) = effects.failed {
                self.fault = Some(format!("server {server} stops: {why}"));
            }
            if let Some(why) = effects.start_over {
                self.start_over(server, &why);
                return;
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
        let server = self.hosts[line.host].server;
        if self.hosts[line.host].cut_off || server.is_some_and(|s| !self.reaches(line.host, s)) {
            self.breaks(line);
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

    pub fn ask(&mut self, server: usize, life: u32) {
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
