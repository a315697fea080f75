//! The server's side of what hosts and servers say to each other: what `service` does, without tasks.

use nexus_core::cluster::Answer;
use nexus_core::edge::{Outgoing, Refusal, What as Said};
use nexus_core::id::SessionId;
use nexus_core::lease::Terms;

use super::bug::Bug;
use super::mail::{Line, Reply, Request};
use super::server::{Waiting, What};
use super::talk::{edge_config, replies};
use super::world::World;
use crate::centre::{Claim, Heartbeat, Registration, Release, ShardUse};
use crate::refused::{Class, Refused};

/// How long a server keeps a host waiting.
const PATIENCE: u64 = 5000;

impl World {
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
        let at = self.servers[server].now(self.now);
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
                    keeping: Some(report.keeping),
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
                    What::Told(session.to_owned(), Box::new(request), granted, 0),
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
                    keeping: Some(report.keeping),
                    clocks_apart: report
                        .clocks_apart
                        .as_ref()
                        .map_or_else(String::new, |apart| apart.what.clone()),
                };
                let command = self.servers[server]
                    .centre
                    .prepare_heartbeat(&at, &heartbeat)?;
                let granted = self.decide(server, command.unwrap())?;
                let answer = self.servers[server].centre.heard(&at, heartbeat, granted)?;
                let (sent, revision) = (*sent, answer.config_revision);
                if let (Some(lease), Some(keeping)) = (answer.lease, answer.keeping) {
                    self.reply(
                        line,
                        None,
                        Reply::Renewed {
                            sent,
                            terms: Terms { lease, keeping },
                            revision,
                            clocks: answer.clocks,
                        },
                    );
                }
            }
            Request::Config => {
                let answer = Answer::default();
                self.wait_for(
                    server,
                    line,
                    What::Told(session.to_owned(), Box::new(request), answer, 0),
                );
            }
            Request::Watch { revision, .. } => {
                let view = self.servers[server].centre.table().olt(&olt);
                if view.is_some_and(|view| view.row.config_revision < *revision) {
                    return Err(Refused::NotNow(
                        "does not know that configuration".to_owned(),
                    ));
                }
                let known = self.servers[server].centre.ask_majority();
                let answer = Answer::default();
                self.wait_for(
                    server,
                    line,
                    What::Told(session.to_owned(), Box::new(request), answer, known),
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
        let (at, seq) = (self.servers[server].now(self.now), outgoing.seq);
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
                let place = centre.record_release(&at, release);
                place.and_then(|place| place.map_or(Ok(None), |place| centre.stands_by(&place)))
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
            let passed = self.servers[server].progress.passed;
            let ready = match &what {
                What::Told(.., known) => {
                    passed >= *known && centre.waits_for_move(&self.hosts[line.host].olt) == 0
                }
                What::Confirmed(dot, _) => centre.acks().cover(*dot),
            };
            match what {
                What::Confirmed(_, seq) if ready => self.reply(line, None, Reply::Recorded(seq)),
                What::Told(session, request, answer, _) if ready => {
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
        answer: Answer,
    ) {
        let olt = self.hosts[line.host].olt.clone();
        let session = SessionId::new(session).unwrap();
        let at = self.servers[server].now(self.now);
        let centre = &self.servers[server].centre;
        match request {
            Request::Register { sent, .. } => {
                let terms = answer.lease.zip(answer.keeping);
                let registered = centre.registered(&at, &olt, answer);
                if let (Ok(registered), Some((lease, keeping))) = (registered, terms) {
                    let config = edge_config(&registered.config);
                    self.reply(
                        line,
                        None,
                        Reply::Registered {
                            sent: *sent,
                            terms: Terms { lease, keeping },
                            config,
                            clocks: registered.clocks,
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
                        // Of two of one connection the one that was opened later goes on, whichever was heard first.
                        streams.retain(|(other, opened)| {
                            other.host != line.host || (*other == line && opened > stream)
                        });
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
}
