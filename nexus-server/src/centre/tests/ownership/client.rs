//! The host's side of what hosts and servers say to each other: what the sidecar's centre client and edge task do, without tasks.

use std::time::Duration;

use nexus_core::edge::{ClockReading, Edge, Effects};
use nexus_core::id::Seq;
use nexus_core::time::BootTime;

use super::bug::Bug;
use super::host::Told;
use super::mail::{Event, Line, Reply, Request};
use super::world::World;
use crate::centre::Clocks;

/// How long a host waits for the answer to a command.
const CALL: u64 = 10_000;
/// Answers one after another within which clocks that run apart must be found.
const FOUND_WITHIN: u32 = 30;

impl World {
    pub fn host_event(&mut self, event: Event) {
        let host = match &event {
            Event::HostTick(host, _) | Event::Flush(host, _) | Event::Connect(host, _) => *host,
            Event::HostBeat(line) | Event::ToHost { line, .. } | Event::GiveUp(line, _) => {
                line.host
            }
            _ => return,
        };
        if self.hosts[host].stopped_until > self.now {
            // It waits in a queue until the process goes on.
            let after = self.hosts[host].stopped_until - self.now;
            self.schedule(after, event);
            return;
        }
        let place = &self.hosts[host];
        let process = place.process;
        let is_line = |line: &Line| {
            place.up && line.process == process && line.connection == place.connection
        };
        match event {
            Event::HostTick(_, life) if place.up && life == process => {
                self.schedule(1000, Event::HostTick(host, process));
                self.edge(host, Edge::tick);
            }
            Event::Flush(_, life) if life == process => self.flush(host),
            Event::Connect(_, life) if place.up && life == process && place.server.is_none() => {
                self.connect(host);
            }
            Event::HostBeat(line) if is_line(&line) && place.registered => {
                self.schedule(super::HEARTBEAT.as_millis() as u64, Event::HostBeat(line));
                let (sent, report) = self.report(host);
                self.ask_server(host, Request::Beat { sent, report });
            }
            Event::GiveUp(line, seq) if is_line(&line) && place.flying.contains(&seq) => {
                self.leave(host, 500);
            }
            Event::ToHost {
                line,
                stream,
                reply,
            } if is_line(&line) && stream.is_none_or(|stream| stream == place.stream) => {
                self.hear_reply(host, line, reply);
            }
            _ => {}
        }
    }

    pub fn line(&self, host: usize) -> Line {
        let place = &self.hosts[host];
        Line {
            host,
            process: place.process,
            connection: place.connection,
        }
    }

    /// Runs one event of a host; what it led to gets to the disk a moment later.
    pub fn edge<T>(
        &mut self,
        host: usize,
        act: impl FnOnce(&mut Edge, BootTime, &mut Effects) -> T,
    ) -> T {
        let local = self.hosts[host].local(self.now);
        let mut fx = Effects::new();
        let place = &mut self.hosts[host];
        let result = act(&mut place.edge, local, &mut fx);
        for action in &fx.actions {
            if let nexus_core::edge::Action::RemoveBinding(at) = action {
                place.remove(at);
            }
        }
        place.changed = true;
        place.queue.push_back((fx, None));
        let process = place.process;
        let after = self.random.between(0, 8);
        self.schedule(after, Event::Flush(host, process));
        result
    }

    pub fn mark(&mut self, host: usize, told: Told) {
        if let Some((_, mark)) = self.hosts[host].queue.back_mut() {
            *mark = Some(told);
        }
    }

    fn flush(&mut self, host: usize) {
        let early = self.bug == Some(Bug::AnswersBeforeDurable);
        let (sent, pull) = self.hosts[host].flush(early);
        let granted = self.hosts[host].accepted.len() as u64;
        self.life.accepted = self.life.accepted.max(granted);
        for outgoing in sent {
            let seq = outgoing.seq;
            if self.hosts[host].server.is_none() || !self.hosts[host].registered {
                self.edge(host, |edge, now, _| edge.lost(now, seq));
                continue;
            }
            self.hosts[host].flying.insert(seq);
            let line = self.line(host);
            self.schedule(CALL, Event::GiveUp(line, seq));
            self.ask_server(host, Request::Command(outgoing));
        }
        if pull && self.hosts[host].registered {
            self.watch(host);
        }
    }

    /// What a host says of itself, all of it durable.
    fn report(&mut self, host: usize) -> (BootTime, nexus_core::edge::Heartbeat) {
        self.flush(host);
        let sent = self.hosts[host].local(self.now);
        let report = self.hosts[host].edge.heartbeat(sent);
        (sent, report)
    }

    fn connect(&mut self, host: usize) {
        let server = self.random.below(self.servers.len());
        if !self.reaches(host, server) {
            let (after, process) = (self.random.between(300, 1500), self.hosts[host].process);
            self.schedule(after, Event::Connect(host, process));
            return;
        }
        self.hosts[host].server = Some(server);
        let (sent, report) = self.report(host);
        let lease_alive = report.lease_alive;
        self.ask_server(
            host,
            Request::Register {
                sent,
                report,
                lease_alive,
            },
        );
        // No answer: another one.
        let line = self.line(host);
        self.schedule(CALL, Event::GiveUp(line, Seq(0)));
        self.hosts[host].flying.insert(Seq(0));
    }

    fn ask_server(&mut self, host: usize, request: Request) {
        let Some(server) = self.hosts[host].server else {
            return;
        };
        let line = self.line(host);
        let session = self.hosts[host].edge.session().to_string();
        let life = self.servers[server].life;
        let lossy = !self.calm;
        if lossy && self.random.chance(15) {
            if matches!(request, Request::Watch { .. }) {
                self.breaks(line);
            }
            return;
        }
        let copies = if lossy && matches!(request, Request::Command(_)) && self.random.chance(50) {
            2
        } else {
            1
        };
        for copy in 0..copies {
            // A copy may come long after the answer.
            let late = if copy > 0 || (lossy && self.random.chance(20)) {
                20_000
            } else {
                20
            };
            let after = self.random.between(1, late);
            let (session, request) = (session.clone(), request.clone());
            self.schedule(
                after,
                Event::ToServer {
                    server,
                    life,
                    line,
                    session,
                    request,
                },
            );
        }
    }

    /// Something of a connection was lost, or its server has ended: it is of no more use, and the host finds that after a
    /// while.
    pub fn breaks(&mut self, line: Line) {
        if self.line(line.host) == line && self.hosts[line.host].flying.insert(Seq(0)) {
            self.schedule(CALL, Event::GiveUp(line, Seq(0)));
        }
    }

    /// Ends the connection and makes another one after a while.
    pub fn leave(&mut self, host: usize, after: u64) {
        let place = &mut self.hosts[host];
        place.connection += 1;
        place.server = None;
        place.registered = false;
        place.watching = false;
        let process = place.process;
        let flying = std::mem::take(&mut place.flying);
        for seq in flying.into_iter().filter(|seq| *seq != Seq(0)) {
            self.edge(host, |edge, now, _| edge.lost(now, seq));
        }
        self.edge(host, |edge, _, _| edge.cut_off());
        let after = after + self.random.between(0, 500);
        self.schedule(after, Event::Connect(host, process));
    }

    fn watch(&mut self, host: usize) {
        self.edge(host, |edge, _, _| edge.snapshot_begin());
        if self.bug == Some(Bug::NoWaitForRecords) {
            self.edge(host, Edge::snapshot_end);
        }
        let place = &mut self.hosts[host];
        place.stream += 1;
        place.watching = true;
        let (stream, revision) = (place.stream, place.edge.revision());
        self.ask_server(host, Request::Watch { revision, stream });
    }

    /// Of two hosts of one id the last one that registered counts: its session has replaced the other one's.
    fn supersede(&mut self, host: usize) {
        // What became of its bindings while another one had its id it learns from the records.
        self.hosts[host].doubtful |= self.hosts[host].superseded;
        let olt = self.hosts[host].olt.clone();
        for other in &mut self.hosts {
            if other.olt == olt {
                other.superseded = other.number != host;
            }
        }
    }

    fn hear_reply(&mut self, host: usize, line: Line, reply: Reply) {
        match reply {
            Reply::Registered {
                sent,
                terms,
                config,
                clocks,
            } => {
                self.hosts[host].flying.remove(&Seq(0));
                self.hosts[host].registered = true;
                self.supersede(host);
                self.compare_clocks(host, sent, clocks, terms.lease);
                self.edge(host, |edge, now, fx| {
                    edge.registered(now, sent, terms, config, fx)
                });
                self.watch(host);
                self.schedule(super::HEARTBEAT.as_millis() as u64, Event::HostBeat(line));
            }
            Reply::Renewed {
                sent,
                terms,
                revision,
                clocks,
            } => {
                if self.compare_clocks(host, sent, clocks, terms.lease) {
                    self.leave(host, 200);
                    return;
                }
                self.edge(host, |edge, now, fx| {
                    edge.renewed(now, sent, terms, revision, fx);
                });
                if revision > self.hosts[host].edge.revision() {
                    self.ask_server(host, Request::Config);
                }
                if !self.hosts[host].watching {
                    self.watch(host);
                }
            }
            Reply::Config(config) => {
                self.edge(host, |edge, now, fx| edge.configure(now, config, fx))
            }
            Reply::Second => {
                self.life.seconds += 1;
                self.edge(host, |edge, _, fx| {
                    edge.refused_as_second("another host", fx)
                });
                // From here on it serves nothing before it has read the records.
                self.flush(host);
                self.hosts[host].doubtful = false;
                self.leave(host, 2000);
            }
            Reply::StartOver => {
                self.hosts[host].unaware_until = 0;
                let session = self.hosts[host].new_session();
                self.edge(host, |edge, _, fx| edge.new_session(session, fx));
                self.leave(host, 200);
            }
            Reply::Over | Reply::Elsewhere => self.leave(host, 200),
            Reply::Recorded(seq) => {
                self.hosts[host].flying.remove(&seq);
                self.life.acknowledged += 1;
                self.edge(host, |edge, now, fx| edge.acked(now, seq, fx));
            }
            Reply::Refused(seq, refusal) => {
                self.hosts[host].flying.remove(&seq);
                self.edge(host, |edge, now, fx| {
                    edge.refused(now, seq, refusal, "refused", fx)
                });
            }
            Reply::Record(kind, record) => {
                self.edge(host, |edge, now, fx| edge.record(now, kind, &record, fx));
            }
            Reply::SnapshotEnd => {
                self.edge(host, Edge::snapshot_end);
                if self.hosts[host].doubtful {
                    self.flush(host);
                    self.hosts[host].doubtful = false;
                    self.life.put_right += 1;
                }
            }
            Reply::Ended => self.hosts[host].watching = false,
        }
    }

    /// What an answer says of the centre's clocks; true if the host has just found that they run apart.
    fn compare_clocks(
        &mut self,
        host: usize,
        sent: BootTime,
        clocks: Clocks,
        lease: Duration,
    ) -> bool {
        // Hosts would find cluster time that runs ahead, and stop.
        let looks = ![Some(Bug::DriftIsNotLookedAt), Some(Bug::MovesEarly)].contains(&self.bug);
        if looks {
            let stopped = self.hosts[host].stops();
            self.edge(host, |edge, now, fx| {
                let reading = ClockReading {
                    sent_at: sent,
                    received_at: now,
                    server: clocks.server,
                    mark: clocks.mark,
                    boot: clocks.boot,
                    cluster: clocks.cluster,
                };
                edge.hear_clock(&reading, lease, fx);
            });
            if self.hosts[host].stops() {
                self.hosts[host].astray = None;
                self.life.stopped += u64::from(!stopped);
                return !stopped;
            }
        }
        if let Some(answers) = &mut self.hosts[host].astray {
            *answers += 1;
            if *answers > FOUND_WITHIN {
                self.fault = Some(format!(
                    "the clock of host {host} runs {} thousandths fast, and it has not found that in {FOUND_WITHIN} answers",
                    self.hosts[host].clock.rate()
                ));
            }
        }
        false
    }
}
