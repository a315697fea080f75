//! What nodes send each other: on its way, lost, late, twice, and arriving.

use std::time::Duration;

use nexus_clset::{Input, NodeId, Output};

use crate::bug::{self, Bug};
use crate::host::Job;
use crate::world::{Event, Mail, World};

impl World {
    /// Does what a machine wants done.
    pub fn carry_out(&mut self, at: usize, outputs: Vec<Output>) {
        let node = self.hosts[at].id;
        let bug = self.bug;
        let facts = |bytes: Vec<u8>| match bug {
            Some(Bug::FactsDropped) => bug::without_facts(&bytes),
            _ => bytes,
        };
        for output in outputs {
            match output {
                Output::Publish(bytes) => self.publish(at, &facts(bytes)),
                Output::Ask { to, id, bytes } => {
                    if bug != Some(Bug::PullForgotten) || !bug::is_pull(&bytes) {
                        self.ask(at, to, id, facts(bytes));
                    }
                }
                Output::Answer { id, bytes } => self.answer(at, id, &facts(bytes)),
                Output::Write(change) => {
                    let ticket = change.ticket;
                    if let Some(running) = &mut self.hosts[at].running {
                        running.queue.push_back(Job { change, own: false });
                    }
                    self.queued(at, ticket);
                }
                Output::Misbehaved { from, what } => {
                    let why = format!("node {} says that node {} {what}", node.0, from.0);
                    self.oracle.fail(why);
                }
                Output::Report(notice) => {
                    self.say(|| format!("node {}: {notice:?}", node.0));
                }
            }
        }
        self.start_flush(at);
        self.start_over_if_told(at);
    }

    fn publish(&mut self, at: usize, bytes: &[u8]) {
        let from = self.hosts[at].id;
        for to in (0..self.hosts.len()).filter(|to| *to != at) {
            let link = self.network.link(at, to);
            if link.cut || self.random.chance(link.loss) {
                continue;
            }
            for arrival in link.arrivals(self.now, bytes.len(), &mut self.random) {
                let bytes = bytes.to_vec();
                let mail = Mail::Gossip { from, bytes };
                self.at(arrival, Event::Mail { to, mail });
            }
        }
    }

    fn ask(&mut self, asker: usize, to: NodeId, id: u64, bytes: Vec<u8>) {
        let life = self.hosts[asker].life;
        let target = self.hosts.iter().position(|host| host.id == to);
        let target = target.filter(|target| {
            let link = self.network.link(asker, *target);
            !link.cut && !self.random.chance(link.loss / 4)
        });
        let Some(target) = target else {
            // Sometimes nobody says so.
            if self.random.chance(500) {
                let after = self.random.millis(1, 3000);
                let mail = Mail::Failed { life, from: to, id };
                self.schedule(after, Event::Mail { to: asker, mail });
            }
            return;
        };
        let link = self.network.link(asker, target);
        let arrival = link.arrival(self.now, bytes.len(), &mut self.random);
        let mail = Mail::Question {
            asker,
            life,
            id,
            bytes,
        };
        self.at(arrival, Event::Mail { to: target, mail });
    }

    fn answer(&mut self, at: usize, number: u64, bytes: &[u8]) {
        let Some((asker, life, id)) = self.questions.remove(&number) else {
            return;
        };
        let (from, answering) = (self.hosts[at].id, (at, self.hosts[at].life));
        let link = self.network.link(at, asker);
        if link.cut || self.random.chance(link.loss / 4) {
            return;
        }
        for arrival in link.arrivals(self.now, bytes.len(), &mut self.random) {
            let mail = Mail::Answer {
                life,
                from,
                answering,
                id,
                bytes: bytes.to_vec(),
            };
            self.at(arrival, Event::Mail { to: asker, mail });
        }
    }

    pub fn arrives(&mut self, to: usize, mail: Mail) {
        match mail {
            Mail::Gossip { from, bytes } => {
                if self.bug == Some(Bug::ClockDragged) {
                    self.hosts[to].drag(&bytes);
                }
                self.input(
                    to,
                    Input::Gossip {
                        from,
                        bytes: &bytes,
                    },
                );
            }
            Mail::Question {
                asker,
                life,
                id,
                bytes,
            } => {
                if !self.lives(asker, life) {
                    return;
                }
                let from = self.hosts[asker].id;
                if self.hosts[to].running.is_none() {
                    let from = self.hosts[to].id;
                    let mail = Mail::Failed { life, from, id };
                    self.schedule(Duration::from_millis(1), Event::Mail { to: asker, mail });
                    return;
                }
                let number = self.number();
                self.questions.insert(number, (asker, life, id));
                let bytes = &bytes;
                let question = Input::Question {
                    from,
                    id: number,
                    bytes,
                };
                self.input(to, question);
                self.questions.remove(&number);
            }
            Mail::Answer {
                life,
                from,
                answering: (other, other_life),
                id,
                bytes,
            } => {
                if self.lives(to, life) && self.lives(other, other_life) {
                    let bytes = &bytes;
                    self.input(to, Input::Answer { from, id, bytes });
                }
            }
            Mail::Failed { life, from, id } => {
                if self.lives(to, life) {
                    self.input(to, Input::Failed { from, id });
                }
            }
        }
    }
}
