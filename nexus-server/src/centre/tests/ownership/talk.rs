//! What hosts and servers say to each other: what `service` does on the one side and the sidecar's centre client on
//! the other, without tasks.

use nexus_core::edge::{
    Edge, EdgeConfig, Effects, Outgoing, PoolGrant, Record, RecordKind, Refusal, ShardGrant,
    What as Said,
};
use nexus_core::id::{Seq, SessionId};
use nexus_core::shard::ShardState;
use nexus_core::time::BootTime;

use super::bug::Bug;
use super::host::{Told, request, subscriber};
use super::mail::{Event, Line, Reply, Request};
use super::server::{Waiting, What, now};
use super::world::World;
use crate::allocation::AllocationState;
use crate::centre::effects::{Change, ChangeKind};
use crate::centre::{Claim, Heartbeat, Registration, Release, ShardUse};
use crate::olt_config::OltConfig;
use crate::refused::{Class, Refused};

/// How long a server keeps a host waiting.
const PATIENCE: u64 = 5000;
/// How long a host waits for the answer to a command.
const CALL: u64 = 10_000;

/// As the sidecar reads it.
pub fn edge_config(config: &OltConfig) -> EdgeConfig {
    let pools = config.pools.iter().map(|part| PoolGrant {
        spec: part.spec.clone(),
        shards: part
            .shards
            .iter()
            .map(|owned| ShardGrant {
                shard: owned.shard,
                epoch: owned.epoch,
                draining: owned.state != ShardState::Owned,
            })
            .collect(),
    });
    EdgeConfig {
        revision: config.revision,
        pools: pools.collect(),
    }
}

/// As the sidecar reads it.
pub fn replies(change: &Change) -> Vec<Reply> {
    let Some(allocation) = &change.allocation else {
        return vec![Reply::SnapshotEnd];
    };
    let kind = match change.kind {
        ChangeKind::Put if allocation.state == AllocationState::Released => RecordKind::Released,
        ChangeKind::Put => RecordKind::Put,
        ChangeKind::ReleaseRequested => RecordKind::ReleaseRequested,
        ChangeKind::Deleted => RecordKind::Deleted,
        ChangeKind::SnapshotEnd => return vec![Reply::SnapshotEnd],
    };
    let record = Record {
        pool: allocation.pool.clone(),
        resource: allocation.place.resource,
        subscriber: allocation.subscriber.clone(),
        olt: allocation.olt.clone(),
        epoch: allocation.epoch,
        seq: allocation.seq,
    };
    vec![Reply::Record(kind, record)]
}

impl World {
    // The server's side.

    pub fn serve(&mut self, server: usize, line: Line, session: String, request: Request) {
        let outcome = self.try_serve(server, line, &session, request);
        self.drain(server);
        let reply = match outcome {
            Ok(()) => return,
            Err(Refused::AliveElsewhere(_)) => Reply::Second,
            Err(Refused::RolledBack(_)) => Reply::StartOver,
            Err(Refused::SessionOver(why)) if why.contains("start a new session") => {
                Reply::StartOver
            }
            Err(Refused::SessionOver(_) | Refused::UnknownOlt(_)) => Reply::Over,
            Err(_) => Reply::Elsewhere,
        };
        self.reply(line, None, reply);
    }

    fn try_serve(
        &mut self,
        server: usize,
        line: Line,
        session: &str,
        request: Request,
    ) -> Result<(), Refused> {
        let olt = self.hosts[line.host].olt.clone();
        let session_id = SessionId::new(session).unwrap();
        let at = now(self.now);
        let instance = format!("{}-{}", line.host, line.process);
        match &request {
            Request::Register {
                report,
                lease_alive,
                ..
            } => {
                let registration = Registration {
                    olt: olt.clone(),
                    name: String::new(),
                    region: String::new(),
                    address: String::new(),
                    capacity: 8,
                    session: session_id,
                    last_seq: report.last_seq,
                    config_revision: report.config_revision,
                    lease_alive: *lease_alive,
                    instance,
                };
                if let Some(vouch) = self.servers[server].centre.prepare_vouch(&registration) {
                    self.decide(server, vouch)?;
                }
                let command = self.servers[server]
                    .centre
                    .prepare_register(&at, registration)?;
                let granted = self.decide(server, command)?;
                for command in self.servers[server].centre.first_shards(&olt) {
                    let _ = self.decide(server, command);
                }
                self.wait_for(
                    server,
                    line,
                    What::Told(session.to_owned(), Box::new(request), granted),
                );
            }
            Request::Beat { sent, report } => {
                let heartbeat = Heartbeat {
                    olt: olt.clone(),
                    session: Some(session_id),
                    active_subscribers: 0,
                    metrics: std::collections::BTreeMap::new(),
                    config_revision: report.config_revision,
                    shard_use: report
                        .shard_use
                        .iter()
                        .map(|(shard, allocated, _)| ShardUse {
                            shard: shard.clone(),
                            allocated: *allocated,
                        })
                        .collect(),
                    released: report.released.clone(),
                    last_seq: report.last_seq,
                    instance,
                    clocks_apart: String::new(),
                };
                let command = self.servers[server]
                    .centre
                    .prepare_heartbeat(&at, &heartbeat)?;
                let granted = self.decide(server, command.unwrap())?;
                let answer = self.servers[server].centre.heard(&at, heartbeat, granted)?;
                let (sent, revision) = (*sent, answer.config_revision);
                if let Some(lease) = answer.lease {
                    self.reply(
                        line,
                        None,
                        Reply::Renewed {
                            sent,
                            lease,
                            revision,
                        },
                    );
                }
            }
            Request::Config => {
                let answer = nexus_core::cluster::Answer::default();
                self.wait_for(
                    server,
                    line,
                    What::Told(session.to_owned(), Box::new(request), answer),
                );
            }
            Request::Watch { revision, .. } => {
                let view = self.servers[server].centre.table().olt(&olt);
                if view.is_some_and(|view| view.row.config_revision < *revision) {
                    return Err(Refused::NotNow(
                        "does not know that configuration".to_owned(),
                    ));
                }
                let answer = nexus_core::cluster::Answer::default();
                self.wait_for(
                    server,
                    line,
                    What::Told(session.to_owned(), Box::new(request), answer),
                );
            }
            Request::Command(outgoing) => self.record(server, line, &session_id, outgoing),
        }
        Ok(())
    }

    fn wait_for(&mut self, server: usize, line: Line, what: What) {
        let until = self.now + PATIENCE;
        self.servers[server]
            .waiting
            .push(Waiting { until, line, what });
        self.look_after_waiting(server);
    }

    fn record(&mut self, server: usize, line: Line, session: &SessionId, outgoing: &Outgoing) {
        let (at, seq) = (now(self.now), outgoing.seq);
        let olt = self.hosts[line.host].olt.clone();
        let command = outgoing.command.clone();
        let centre = &mut self.servers[server].centre;
        let outcome = match command.what {
            Said::Allocate {
                metadata,
                timestamp,
            } => {
                let claim = Claim {
                    olt,
                    session: session.clone(),
                    seq,
                    acked_below: outgoing.acked_below,
                    pool: command.pool,
                    subscriber: command.subscriber,
                    resource: command.resource.to_string(),
                    shard: command.shard,
                    epoch: command.epoch,
                    metadata,
                    made_at: timestamp.parse().ok(),
                };
                centre
                    .record_claim(&at, claim)
                    .and_then(|(allocation, _)| centre.stands_by(&allocation.place))
            }
            Said::Deallocate { reason } => {
                let release = Release {
                    olt,
                    session: session.clone(),
                    seq,
                    acked_below: outgoing.acked_below,
                    pool: command.pool,
                    subscriber: command.subscriber,
                    resource: command.resource.to_string(),
                    shard: command.shard,
                    epoch: command.epoch,
                    reason,
                };
                centre.record_release(&at, release).map(|()| None)
            }
        };
        match outcome {
            Ok(Some(dot)) if self.bug != Some(Bug::AcksWithoutMajority) => {
                self.wait_for(server, line, What::Confirmed(dot, seq));
            }
            Ok(_) => self.reply(line, None, Reply::Recorded(seq)),
            Err(Refused::SessionOver(_)) => self.reply(line, None, Reply::Over),
            Err(refused) => {
                let refusal = match refused.class() {
                    Class::Exists => Refusal::Taken,
                    Class::Invalid => Refusal::Invalid,
                    Class::Conflict | Class::NotFound => Refusal::Stale,
                    // Nothing is said: the host gives up and repeats it.
                    _ => return,
                };
                self.reply(line, None, Reply::Refused(seq, refusal));
            }
        }
    }

    /// Answers those for whom what they wait for has come, and turns the others away after a while.
    pub fn look_after_waiting(&mut self, server: usize) {
        let mut still = Vec::new();
        for waiting in std::mem::take(&mut self.servers[server].waiting) {
            let Waiting { until, line, what } = waiting;
            let centre = &self.servers[server].centre;
            let ready = match &what {
                What::Told(..) => centre.waits_for_move(&self.hosts[line.host].olt) == 0,
                What::Confirmed(dot, _) => centre.acks().cover(*dot),
            };
            match what {
                What::Confirmed(_, seq) if ready => self.reply(line, None, Reply::Recorded(seq)),
                What::Told(session, request, answer) if ready => {
                    self.told(server, line, &session, &request, answer);
                }
                What::Told(..) if until <= self.now => self.reply(line, None, Reply::Elsewhere),
                what if until > self.now => still.push(Waiting { until, line, what }),
                What::Confirmed(..) | What::Told(..) => {}
            }
        }
        self.servers[server].waiting.extend(still);
    }

    fn told(
        &mut self,
        server: usize,
        line: Line,
        session: &str,
        request: &Request,
        answer: nexus_core::cluster::Answer,
    ) {
        let olt = self.hosts[line.host].olt.clone();
        let session = SessionId::new(session).unwrap();
        let centre = &self.servers[server].centre;
        match request {
            Request::Register { sent, .. } => {
                let lease = answer.lease;
                let registered = centre.registered(&now(self.now), &olt, answer);
                if let (Ok(registered), Some(lease)) = (registered, lease) {
                    let config = edge_config(&registered.config);
                    self.reply(
                        line,
                        None,
                        Reply::Registered {
                            sent: *sent,
                            lease,
                            config,
                        },
                    );
                }
            }
            Request::Watch { stream, .. } => {
                match centre.watch_allocations(&olt, Some(&session), 0) {
                    Ok(changes) => {
                        for reply in changes.iter().flat_map(replies) {
                            self.reply(line, Some(*stream), reply);
                        }
                        let streams = self.servers[server].streams.entry(olt).or_default();
                        streams.retain(|(other, _)| other.host != line.host);
                        streams.push((line, *stream));
                    }
                    Err(_) => self.reply(line, None, Reply::Over),
                }
            }
            _ => match centre.read_config(&olt, Some(&session)) {
                Ok(config) => self.reply(line, None, Reply::Config(edge_config(&config))),
                Err(_) => self.reply(line, None, Reply::Over),
            },
        }
    }

    // The host's side.

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
                place.map.remove(at);
            }
        }
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
                lease,
                config,
            } => {
                self.hosts[host].flying.remove(&Seq(0));
                self.hosts[host].registered = true;
                self.supersede(host);
                self.edge(host, |edge, now, fx| {
                    edge.registered(now, sent, lease, config, fx)
                });
                self.watch(host);
                self.schedule(super::HEARTBEAT.as_millis() as u64, Event::HostBeat(line));
            }
            Reply::Renewed {
                sent,
                lease,
                revision,
            } => {
                self.edge(host, |edge, now, fx| {
                    edge.renewed(now, sent, lease, revision, fx);
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

    // Subscribers.

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
                let timestamp = now(self.now).wall.to_string();
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
            let timestamp = now(self.now).wall.to_string();
            self.edge(host, |edge, now, fx| {
                edge.dhcp_decline(now, &key.place(), resource, timestamp, fx)
            });
        } else {
            // Whoever gives an address back does not use it any more.
            if let nexus_core::resource::Resource::Ipv4(address) = resource {
                self.clients.remove(&address);
            }
            self.edge(host, |edge, now, fx| {
                edge.dhcp_release(now, &key.place(), resource, fx)
            });
        }
        self.mark(host, Told::Ended(who));
    }
}
