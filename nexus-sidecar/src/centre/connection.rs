//! One connection to a nexus-server: register, then heartbeats, both streams and the commands side by side.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use nexus_core::edge::ClockReading;
use nexus_core::id::Seq;
use nexus_proto::v1;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::calls::{self, Client, CommandEnd, Done, HeartbeatEnd};
use super::{CALL, EdgeGone, convert, report, tell};
use crate::config::OltSection;
use crate::edge_task::{CentreEvent, CentreSide, PinnedQuestion, new_session};
use crate::metrics::Metrics;

/// Pause before a stream that has ended is opened again.
const REOPEN: Duration = Duration::from_secs(1);
/// Heartbeats are never further apart or closer than this.
const HEARTBEAT_BOUNDS: (Duration, Duration) =
    (Duration::from_millis(10), Duration::from_secs(3600));
/// Longest message of the centre in bytes: a configuration with all pools.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// Why a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The centre answers, but the host has to register again.
    Register,
    /// It answers, and cannot take the host in yet.
    NotYet,
    /// It does not answer (any more). `worked`: it had taken the host in.
    Lost { worked: bool },
}

type Running = Pin<Box<dyn Future<Output = Done> + Send>>;

/// A connection.
pub(super) struct Connection<'a> {
    client: Client,
    endpoint: &'a str,
    olt: &'a OltSection,
    side: &'a mut CentreSide,
    metrics: &'a Metrics,
    session: String,
    heartbeat: &'a mut Duration,
    running: FuturesUnordered<Running>,
    /// Commands of which nobody knows yet what became of them.
    on_their_way: BTreeSet<Seq>,
    /// Last revision of the allocation stream; 0: read everything.
    revision: u64,
    /// Clocks ran too far apart to count a lease on when this connection was made.
    apart: bool,
}

impl<'a> Connection<'a> {
    pub(super) fn new(
        channel: Channel,
        endpoint: &'a str,
        (olt, metrics): (&'a OltSection, &'a Metrics),
        side: &'a mut CentreSide,
        heartbeat: &'a mut Duration,
    ) -> Self {
        Self {
            client: Client::new(channel).max_decoding_message_size(MAX_MESSAGE),
            endpoint,
            olt,
            side,
            metrics,
            session: String::new(),
            heartbeat,
            running: FuturesUnordered::new(),
            on_their_way: BTreeSet::new(),
            revision: 0,
            apart: false,
        }
    }

    pub(super) async fn run(mut self) -> Result<End, EdgeGone> {
        if let Some(end) = self.register().await? {
            return Ok(end);
        }
        let end = self.serve().await;
        // Dropping the calls leaves open what became of them.
        for seq in std::mem::take(&mut self.on_their_way) {
            tell(&self.side.events, CentreEvent::Lost(seq)).await?;
        }
        end
    }

    /// Registers; an end, if that was not possible.
    async fn register(&mut self) -> Result<Option<End>, EdgeGone> {
        let report = report(&self.side.events).await?;
        self.apart = report.clocks_stop();
        let request = convert::registration(self.olt, &report, &self.side.instance);
        let endpoint = self.endpoint;
        match calls::register(&mut self.client, request).await {
            Ok((sent_at, clocks, answer)) => {
                self.metrics.centre("Register", "OK");
                let config = answer.config.unwrap_or_default();
                self.note_interval(config.heartbeat_interval_ms);
                self.session = report.session.to_string();
                let terms = convert::terms(answer.lease_ms, answer.keeping);
                tracing::info!(
                    endpoint,
                    lease_secs = terms.lease.as_secs(),
                    revision = config.revision,
                    pools = config.pools.len(),
                    "registered"
                );
                self.tell_clocks(clocks, terms.lease).await?;
                let event = CentreEvent::Registered {
                    sent_at,
                    terms,
                    config: convert::config(config),
                    endpoint: endpoint.to_owned(),
                };
                tell(&self.side.events, event).await?;
                Ok(None)
            }
            Err(status) => {
                self.count("Register", &status);
                let problem = status.message();
                match status.code() {
                    // The one refusal that a new session mends; the words are part of the contract.
                    Code::FailedPrecondition if problem.contains("start a new session") => {
                        tracing::error!(
                            endpoint,
                            problem,
                            "the centre refuses this store's session"
                        );
                        if let Ok(session) = new_session() {
                            tell(&self.side.events, CentreEvent::NewSession(session)).await?;
                        }
                        Ok(Some(End::Register))
                    }
                    Code::AlreadyExists => {
                        tracing::error!(
                            endpoint,
                            problem,
                            "another host with this olt.id is alive, or this host has lost its store a moment ago: nothing is given or served here; trying again"
                        );
                        let event = CentreEvent::SecondHost(problem.to_owned());
                        tell(&self.side.events, event).await?;
                        Ok(Some(End::NotYet))
                    }
                    Code::Unavailable => {
                        tracing::warn!(endpoint, problem, "registration failed");
                        Ok(Some(End::NotYet))
                    }
                    Code::InvalidArgument => {
                        tracing::error!(
                            endpoint,
                            problem,
                            "the centre does not accept the section olt: of the configuration: correct it"
                        );
                        Ok(Some(End::Lost { worked: false }))
                    }
                    _ => {
                        tracing::warn!(endpoint, problem, "registration failed");
                        Ok(Some(End::Lost { worked: false }))
                    }
                }
            }
        }
    }

    /// Works until the connection is of no more use.
    async fn serve(&mut self) -> Result<End, EdgeGone> {
        let mut configs: Option<Streaming<v1::ConfigUpdate>> = None;
        let mut allocations: Option<Streaming<v1::AllocationUpdate>> = None;
        // Registration has asked for all records where they are needed; the stream below begins there.
        self.side.pull.mark_unchanged();
        let mut reopen = Instant::now();
        let mut next_heartbeat = Instant::now() + *self.heartbeat;
        let mut heartbeat_runs = false;
        loop {
            if (configs.is_none() || allocations.is_none()) && Instant::now() >= reopen {
                if configs.is_none() {
                    configs = self.watch_config().await?;
                }
                if allocations.is_none() {
                    allocations = self.watch_allocations().await?;
                }
                reopen = Instant::now() + REOPEN;
            }
            let streams_wait = configs.is_none() || allocations.is_none();
            tokio::select! {
                () = tokio::time::sleep_until(reopen), if streams_wait => {}
                () = tokio::time::sleep_until(next_heartbeat), if !heartbeat_runs => {
                    self.start_heartbeat().await?;
                    heartbeat_runs = true;
                }
                changed = self.side.pull.changed() => {
                    changed.map_err(|_| EdgeGone)?;
                    self.revision = 0;
                    allocations = None;
                    reopen = Instant::now();
                }
                outgoing = self.side.commands.recv() => {
                    let outgoing = outgoing.ok_or(EdgeGone)?;
                    self.on_their_way.insert(outgoing.seq);
                    let (client, olt) = (self.client.clone(), self.olt.id.clone());
                    let session = self.session.clone();
                    self.running.push(Box::pin(async move {
                        let seq = outgoing.seq;
                        Done::Command(seq, calls::command(client, olt, session, outgoing).await)
                    }));
                }
                question = self.side.questions.recv() => {
                    let question = question.ok_or(EdgeGone)?;
                    let report = report(&self.side.events).await?;
                    let client = self.client.clone();
                    self.running.push(Box::pin(async move {
                        let (question, answer) = calls::ask(client, report, question).await;
                        Done::Asked(question, answer)
                    }));
                }
                Some(done) = self.running.next(), if !self.running.is_empty() => {
                    if matches!(done, Done::Heartbeat(_)) {
                        heartbeat_runs = false;
                        next_heartbeat = Instant::now() + self.heartbeat.mul_f64(rand::random_range(0.9..=1.0));
                    }
                    if let Some(end) = self.done(done).await? {
                        return Ok(end);
                    }
                }
                message = next(&mut configs), if configs.is_some() => match message {
                    Ok(update) => self.config(update).await?,
                    Err(status) => {
                        if let Some(end) = self.stream_ended("WatchConfig", &status) {
                            return Ok(end);
                        }
                        configs = None;
                        reopen = Instant::now() + REOPEN;
                    }
                },
                message = next(&mut allocations), if allocations.is_some() => match message {
                    Ok(update) => self.allocation(update).await?,
                    Err(status) => {
                        if let Some(end) = self.stream_ended("WatchAllocations", &status) {
                            return Ok(end);
                        }
                        allocations = None;
                        reopen = Instant::now() + REOPEN;
                    }
                },
            }
        }
    }

    /// How long a heartbeat may take: with a short interval the lease may be short too, and another
    /// endpoint shall have its turn before it ends.
    fn patience(&self) -> Duration {
        (*self.heartbeat).clamp(Duration::from_secs(1), CALL)
    }

    async fn start_heartbeat(&mut self) -> Result<(), EdgeGone> {
        let report = report(&self.side.events).await?;
        let (client, limit) = (self.client.clone(), self.patience());
        let instance = self.side.instance.clone();
        self.running.push(Box::pin(async move {
            Done::Heartbeat(calls::heartbeat(client, report, instance, limit).await)
        }));
        Ok(())
    }

    async fn done(&mut self, done: Done) -> Result<Option<End>, EdgeGone> {
        match done {
            Done::Heartbeat(end) => self.heartbeat_done(end).await,
            Done::Command(seq, end) => self.command_done(seq, end).await,
            Done::Asked(question, answer) => {
                self.asked(&question, answer);
                Ok(None)
            }
        }
    }

    fn asked(&self, question: &PinnedQuestion, answer: Result<(), Status>) {
        match answer {
            Ok(()) => self.metrics.centre("Ask", "OK"),
            Err(status) => {
                self.count("Ask", &status);
                tracing::warn!(
                    pool = %question.pool,
                    subscriber = %question.subscriber,
                    problem = status.message(),
                    "the centre gives nothing of a pinned pool now"
                );
            }
        }
    }

    async fn heartbeat_done(&mut self, end: HeartbeatEnd) -> Result<Option<End>, EdgeGone> {
        match end {
            HeartbeatEnd::Renewed {
                sent_at,
                terms,
                revision,
                other_host,
                clocks,
            } => {
                self.metrics.centre("Heartbeat", "OK");
                tell(&self.side.events, CentreEvent::OtherHost(other_host)).await?;
                self.tell_clocks(clocks, terms.lease).await?;
                let event = CentreEvent::Renewed {
                    sent_at,
                    terms,
                    revision,
                };
                tell(&self.side.events, event).await?;
                let report = report(&self.side.events).await?;
                if revision > report.config_revision {
                    self.fetch_config().await?;
                }
                if report.clocks_stop() && !self.apart {
                    // Another server may agree with this host's clock, and then it can go on.
                    tracing::warn!(
                        endpoint = self.endpoint,
                        "asking another nexus-server for the time"
                    );
                    return Ok(Some(End::Lost { worked: true }));
                }
                Ok(None)
            }
            HeartbeatEnd::Register(status) => {
                self.count("Heartbeat", &status);
                tracing::warn!(problem = status.message(), "registering again");
                Ok(Some(End::Register))
            }
            HeartbeatEnd::Failed(status) => {
                self.count("Heartbeat", &status);
                tracing::warn!(
                    endpoint = self.endpoint,
                    problem = status.message(),
                    "a heartbeat was not answered"
                );
                Ok(Some(End::Lost { worked: true }))
            }
        }
    }

    async fn tell_clocks(
        &mut self,
        clocks: Option<ClockReading>,
        lease: Duration,
    ) -> Result<(), EdgeGone> {
        match clocks {
            Some(clocks) => tell(&self.side.events, CentreEvent::Clocks(clocks, lease)).await,
            None => Ok(()),
        }
    }

    async fn command_done(&mut self, seq: Seq, end: CommandEnd) -> Result<Option<End>, EdgeGone> {
        let event = match end {
            CommandEnd::Recorded => {
                self.metrics.centre("Command", "OK");
                CentreEvent::Acked(seq)
            }
            CommandEnd::Refused(refusal, status) => {
                self.count("Command", &status);
                CentreEvent::Refused(seq, refusal, status.message().to_owned())
            }
            CommandEnd::Doubtful(status) => {
                self.count("Command", &status);
                let report = report(&self.side.events).await?;
                let (client, instance) = (self.client.clone(), self.side.instance.clone());
                let heartbeat = calls::heartbeat(client, report, instance, self.patience()).await;
                if let Some(end) = self.heartbeat_done(heartbeat).await? {
                    return Ok(Some(end));
                }
                // The session lives, so the refusal is about the command.
                let why = status.message().to_owned();
                CentreEvent::Refused(seq, nexus_core::edge::Refusal::Stale, why)
            }
            CommandEnd::Unknown(status) => {
                self.count("Command", &status);
                CentreEvent::Lost(seq)
            }
        };
        self.on_their_way.remove(&seq);
        tell(&self.side.events, event).await?;
        Ok(None)
    }

    async fn fetch_config(&mut self) -> Result<(), EdgeGone> {
        let request = v1::ConfigRequest {
            olt_id: self.olt.id.to_string(),
            session: self.session.clone(),
        };
        match calls::within(CALL, self.client.get_config(request)).await {
            Ok(answer) => {
                self.metrics.centre("GetConfig", "OK");
                self.take_config(answer.config.unwrap_or_default()).await
            }
            // The stream or the next heartbeat brings it.
            Err(status) => {
                self.count("GetConfig", &status);
                Ok(())
            }
        }
    }

    async fn watch_config(&mut self) -> Result<Option<Streaming<v1::ConfigUpdate>>, EdgeGone> {
        let known = report(&self.side.events).await?.config_revision;
        let request = self.watch_request(known);
        let opened = calls::within(CALL, self.client.watch_config(request)).await;
        Ok(self.opened("WatchConfig", opened))
    }

    async fn watch_allocations(
        &mut self,
    ) -> Result<Option<Streaming<v1::AllocationUpdate>>, EdgeGone> {
        // Before the question, so that whatever is recorded before the answer counts as expected in it.
        // If the centre can go on from our revision there is no snapshot, and this is forgotten.
        tell(&self.side.events, CentreEvent::SnapshotBegin).await?;
        let request = v1::WatchRequest {
            config_revision: report(&self.side.events).await?.config_revision,
            ..self.watch_request(self.revision)
        };
        let opened = calls::within(CALL, self.client.watch_allocations(request)).await;
        Ok(self.opened("WatchAllocations", opened))
    }

    fn watch_request(&self, revision: u64) -> v1::WatchRequest {
        v1::WatchRequest {
            olt_id: self.olt.id.to_string(),
            revision,
            session: self.session.clone(),
            config_revision: 0,
        }
    }

    fn opened<T>(
        &self,
        method: &str,
        opened: Result<Streaming<T>, Status>,
    ) -> Option<Streaming<T>> {
        match opened {
            Ok(stream) => {
                self.metrics.centre(method, "OK");
                Some(stream)
            }
            Err(status) => {
                self.count(method, &status);
                tracing::warn!(
                    method,
                    problem = status.message(),
                    "a stream was not opened"
                );
                None
            }
        }
    }

    /// What the end of a stream means for the connection.
    fn stream_ended(&self, method: &str, status: &Status) -> Option<End> {
        self.count(method, status);
        match status.code() {
            Code::FailedPrecondition => Some(End::Register),
            Code::Unavailable | Code::Unknown => {
                tracing::warn!(
                    endpoint = self.endpoint,
                    problem = status.message(),
                    "the connection has ended"
                );
                Some(End::Lost { worked: true })
            }
            _ => None,
        }
    }

    async fn config(&mut self, update: v1::ConfigUpdate) -> Result<(), EdgeGone> {
        self.take_config(update.config.unwrap_or_default()).await
    }

    async fn take_config(&mut self, config: v1::OltConfig) -> Result<(), EdgeGone> {
        self.note_interval(config.heartbeat_interval_ms);
        tell(
            &self.side.events,
            CentreEvent::Config(convert::config(config)),
        )
        .await
    }

    async fn allocation(&mut self, update: v1::AllocationUpdate) -> Result<(), EdgeGone> {
        let revision = update.revision;
        let event = match convert::update(update) {
            Ok(convert::Update::SnapshotEnd) => CentreEvent::SnapshotEnd,
            Ok(convert::Update::Record(kind, record)) => CentreEvent::Record(kind, record),
            Err(problem) => {
                tracing::error!(problem, "a record of the centre is not understood");
                return Ok(());
            }
        };
        tell(&self.side.events, event).await?;
        // Each server counts on its own: after a change of server the numbers may be smaller. Rows of a
        // snapshot carry none.
        if revision > 0 {
            self.revision = revision;
        }
        Ok(())
    }

    fn note_interval(&mut self, millis: u64) {
        if millis > 0 {
            let (least, most) = HEARTBEAT_BOUNDS;
            *self.heartbeat = Duration::from_millis(millis).clamp(least, most);
        }
    }

    fn count(&self, method: &str, status: &Status) {
        self.metrics.centre(method, &format!("{:?}", status.code()));
    }
}

/// The next message of an open stream; its end is an error too.
async fn next<T>(stream: &mut Option<Streaming<T>>) -> Result<T, Status> {
    let Some(stream) = stream else {
        return std::future::pending().await;
    };
    match stream.message().await {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(Status::aborted("the stream has ended")),
        Err(status) => Err(status),
    }
}
