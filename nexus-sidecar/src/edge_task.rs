//! The one task that owns the machine, the store and the kernel's map.
//!
//! ```text
//! RADIUS, slow path, control socket --requests (1024; full: Busy)--+
//! centre client --events (256; full: the client waits)-------------+--> edge task
//! tick, once a second ---------------------------------------------+      |
//!                                      durable rows, then the map, then:  |
//! centre client <--commands (64, as many as may be on their way)----------+
//! centre client <--questions about pinned pools (64; full: the subscriber is not answered)
//! centre client <--pull (a number that grows: read all records again)-----+
//! routes task <--what is to be announced (the newest only)----------------+
//! ```
//! What waits in the queues is taken together, at most [`BATCH`] events, made durable with one flush, and
//! only then done and answered. If the store fails, the process ends: it goes on from the rows.

mod answer;
mod map;
mod note;
mod pinned;
mod report;
mod seen;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nexus_core::edge::{
    Action, ClockReading, Edge, EdgeConfig, Effects, Heartbeat, IN_FLIGHT_LIMIT, Outgoing, Place,
    Record, RecordKind, Refusal, Row, Start,
};
use nexus_core::id::{IdError, OltId, PoolId, Seq, SessionId, SubscriberId};
use nexus_core::time::BootTime;
use nexus_store::Store;
use tokio::sync::{mpsc, oneshot, watch};

use crate::binding_map::{Access, BindingMap, Interface};
use crate::clock::{self, ClockError, boot_id, boot_now, wall_millis};
use crate::edge_handle::{EdgeHandle, EdgeRequest};
use crate::fastpath::FastPathError;
use crate::interfaces;
use crate::metrics::Metrics;
use crate::origin::{Mark, Origin};
use crate::profiles::{Gateway, Profiles};
use crate::routes;
use crate::rows::{self, RowsError, Writer};
use crate::served::Served;
use crate::shutdown::Shutdown;
use answer::Answer;
pub use pinned::PinnedQuestion;
use pinned::QUESTIONS;

/// Most events that one flush covers.
pub const BATCH: usize = 64;
/// Most events of the centre that wait.
const EVENTS: usize = 256;
/// Time between two ticks.
const TICK: Duration = Duration::from_secs(1);

/// Why the edge task cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum EdgeTaskError {
    /// The store.
    #[error("the store of this host failed: {0}")]
    Rows(#[from] RowsError),
    /// The kernel's map.
    #[error(transparent)]
    Map(#[from] FastPathError),
    /// A clock.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// A session name.
    #[error(transparent)]
    Session(#[from] IdError),
    /// The store was written under another name.
    #[error(
        "the store belongs to OLT {stored}, but olt.id is {configured}: under another name this host would go on with a lease and bindings that are not its own; set olt.id back, or drain {stored} and give this host a new storage.path"
    )]
    OtherOlt {
        /// Whose the store is.
        stored: OltId,
        /// Who this host is said to be.
        configured: OltId,
    },
}

/// What the centre client tells the edge task.
#[derive(Debug)]
pub enum CentreEvent {
    /// This host was taken in.
    Registered {
        /// When the request was sent.
        sent_at: BootTime,
        /// Length of the lease.
        lease: Duration,
        /// The configuration.
        config: EdgeConfig,
        /// Who answered.
        endpoint: String,
    },
    /// The lease was renewed.
    Renewed {
        /// When the request was sent.
        sent_at: BootTime,
        /// Length of the lease.
        lease: Duration,
        /// Newest revision of the configuration.
        revision: u64,
    },
    /// A configuration.
    Config(EdgeConfig),
    /// The centre does not answer.
    CutOff,
    /// A command was recorded.
    Acked(Seq),
    /// A command was refused for good.
    Refused(Seq, Refusal, String),
    /// Nobody knows what became of a command.
    Lost(Seq),
    /// What the centre's clocks show, with the length of a lease; before the answer that it came with.
    Clocks(ClockReading, Duration),
    /// Another host with this OLT id is alive, and this one is not taken in.
    SecondHost(String),
    /// What the centre says of another host that tries to be this one; empty: there is none.
    OtherHost(String),
    /// All records are about to be asked for.
    SnapshotBegin,
    /// A record.
    Record(RecordKind, Record),
    /// All records have been read.
    SnapshotEnd,
    /// The store is not what the centre remembers: go on under this session.
    NewSession(SessionId),
    /// What shall the next registration or heartbeat say? Answered once it is durable.
    Report(oneshot::Sender<Heartbeat>),
}

/// The centre client's side of the queues.
#[derive(Debug)]
pub struct CentreSide {
    /// To the edge task.
    pub events: mpsc::Sender<CentreEvent>,
    /// Commands to send.
    pub commands: mpsc::Receiver<Outgoing>,
    /// Grows whenever all records have to be read again.
    pub pull: watch::Receiver<u64>,
    /// What the centre is to be asked for.
    pub questions: mpsc::Receiver<PinnedQuestion>,
    /// Made at random by this process, so that two of them can be told apart.
    pub instance: String,
}

/// The task, ready to run.
#[derive(Debug)]
pub struct EdgeTask<M> {
    edge: Edge,
    store: Store,
    map: M,
    /// The same as the map, for the slow path.
    served: Served,
    access: Access,
    profiles: Profiles,
    metrics: Metrics,
    requests: mpsc::Receiver<EdgeRequest>,
    events: mpsc::Receiver<CentreEvent>,
    commands: mpsc::Sender<Outgoing>,
    pull: watch::Sender<u64>,
    questions: mpsc::Sender<PinnedQuestion>,
    /// Whom the centre was asked about lately, and when.
    asked: BTreeMap<(PoolId, SubscriberId), BootTime>,
    /// Where what is to be announced goes, if it is.
    routes: Option<routes::Feed>,
    endpoint: Option<String>,
    /// Numbers the flushes.
    mark: Mark,
    clock: clock::Watch,
    /// What the centre says of another host that tries to be this one.
    other_host: Option<String>,
    /// When it was last read who was seen.
    seen_read: BootTime,
    /// Entries of this batch that the kernel did not take.
    map_errors: BTreeMap<Place, String>,
    /// Places at which the kernel may not have what the machine says.
    unwritten: BTreeSet<Place>,
}

/// Something to work on.
enum Input {
    Request(EdgeRequest),
    Event(CentreEvent),
    Tick,
    Stop,
}

impl<M: BindingMap> EdgeTask<M> {
    /// Restores the machine from its rows and makes the kernel's map equal to it; what is right in the map
    /// is not touched.
    ///
    /// # Errors
    /// Rows that cannot be read or written, a map that cannot be changed, a clock that cannot be read.
    pub async fn start(
        olt: OltId,
        store: Store,
        map: M,
        access: Access,
        origin: &Origin,
        metrics: Metrics,
    ) -> Result<(Self, EdgeHandle, CentreSide), EdgeTaskError> {
        let rows = rows::load(&store)?;
        check_owner(&rows, &olt)?;
        let access = number_interfaces(access, &store).await?;
        let profiles = Profiles::new(gateways(&access), rows::load_profiles(&store)?);
        let stored = rows::load_origin(&store)?;
        let boot_id = boot_id()?;
        let (mark, wrong) = Mark::open(origin, &boot_id, &access, stored.as_ref());
        if let Some(why) = &wrong {
            tracing::warn!(%why, "the store is not gone on from as it is: this host starts a new session and allocates once the centre's record has been read");
        }
        let start = Start {
            olt,
            boot_id,
            new_session: new_session()?,
            rolled_back: wrong.is_some(),
        };
        let mut fx = Effects::new();
        let mut edge = Edge::restore(boot_now()?, start, rows, &mut fx);
        edge.serve_interfaces(access.interfaces().map(|one| one.name.clone()));
        let served = Served::default();
        let (handle, requests) = EdgeHandle::channel(served.clone(), metrics.clone());
        let (event_sender, events) = mpsc::channel(EVENTS);
        let (commands, command_receiver) = mpsc::channel(IN_FLIGHT_LIMIT);
        let (questions, question_receiver) = mpsc::channel(QUESTIONS);
        let (pull, pull_receiver) = watch::channel(0);
        let mut task = Self {
            edge,
            store,
            map,
            served,
            access,
            profiles,
            metrics,
            requests,
            events,
            commands,
            pull,
            questions,
            asked: BTreeMap::new(),
            routes: None,
            endpoint: None,
            mark,
            clock: clock::Watch::default(),
            other_host: None,
            seen_read: BootTime::ZERO,
            map_errors: BTreeMap::new(),
            unwritten: BTreeSet::new(),
        };
        for entry in task.edge.map_entries() {
            task.profiles.want(&entry.pool, &entry.key.interface);
        }
        task.settle(vec![fx]).await?;
        let repairs = task.reconcile()?;
        tracing::info!(
            kept = repairs.kept,
            added = repairs.added,
            replaced = repairs.replaced,
            removed = repairs.removed,
            failed = repairs.failed.len(),
            "bindings restored"
        );
        let centre = CentreSide {
            events: event_sender,
            commands: command_receiver,
            pull: pull_receiver,
            questions: question_receiver,
            instance: new_session()?.to_string(),
        };
        Ok((task, handle, centre))
    }

    /// The interfaces, with their numbers.
    pub const fn access(&self) -> &Access {
        &self.access
    }

    /// The kernel's map, to attach the program once the map is right.
    pub const fn map_mut(&mut self) -> &mut M {
        &mut self.map
    }

    /// From now on `feed` hears what is to be announced.
    ///
    /// # Errors
    /// If the clock cannot be read.
    pub fn announce(&mut self, mut feed: routes::Feed) -> Result<(), EdgeTaskError> {
        feed.serve_interfaces(self.access.interfaces().map(|one| one.name.as_str()));
        feed.observe(&self.edge, boot_now()?, true);
        self.routes = Some(feed);
        Ok(())
    }

    /// Works until `shutdown`. The map and what is attached stay as they are.
    ///
    /// # Errors
    /// If the store or a clock fails; nothing was answered that is not durable.
    pub async fn run(mut self, mut shutdown: Shutdown) -> Result<(), EdgeTaskError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let first = tokio::select! {
                biased;
                () = shutdown.wait() => Input::Stop,
                _ = tick.tick() => Input::Tick,
                Some(event) = self.events.recv() => Input::Event(event),
                request = self.requests.recv() => request.map_or(Input::Stop, Input::Request),
            };
            if matches!(first, Input::Stop) {
                break;
            }
            self.batch(first).await?;
        }
        tracing::info!("edge task stopped; the kernel goes on answering");
        let store = self.store;
        // Everything that was answered is durable already.
        tokio::task::spawn_blocking(move || store.flush_and_close())
            .await
            .unwrap_or(Ok(()))
            .map_err(RowsError::from)?;
        Ok(())
    }

    async fn batch(&mut self, first: Input) -> Result<(), EdgeTaskError> {
        let mut effects = Vec::new();
        let mut answers = Vec::new();
        self.take(first, &mut effects, &mut answers)?;
        // The centre's word first: an acknowledgement is work that is done, a request is work to come.
        while effects.len() < BATCH
            && let Ok(event) = self.events.try_recv()
        {
            self.take(Input::Event(event), &mut effects, &mut answers)?;
        }
        while effects.len() < BATCH
            && let Ok(request) = self.requests.try_recv()
        {
            self.take(Input::Request(request), &mut effects, &mut answers)?;
        }
        let touched = routes::touches(&effects);
        self.settle(effects).await?;
        let now = boot_now()?;
        let withdrawn = self.withdraw_unserved(now, &mut answers);
        if !withdrawn.is_empty() {
            self.settle(vec![withdrawn]).await?;
        }
        for answer in answers {
            self.answer(now, answer);
        }
        self.map_errors.clear();
        self.mend();
        if let Some(feed) = &mut self.routes {
            feed.observe(&self.edge, now, touched);
        }
        Ok(())
    }

    fn take(
        &mut self,
        input: Input,
        effects: &mut Vec<Effects>,
        answers: &mut Vec<Answer>,
    ) -> Result<(), ClockError> {
        let now = boot_now()?;
        let mut fx = Effects::new();
        if let Some(ahead) = self.clock.ran_ahead(now, wall_millis()) {
            tracing::warn!(
                ahead_secs = ahead.as_secs(),
                "the wall clock has run ahead of the boot clock: this machine may have stood still, so the lease counts as ended until it is renewed"
            );
            self.edge.end_lease(&mut fx);
        }
        match input {
            Input::Request(request) => answers.push(self.request(now, request, &mut fx)),
            Input::Event(event) => answers.extend(self.event(now, event, &mut fx)),
            Input::Tick => {
                self.read_seen(now);
                self.edge.tick(now, &mut fx);
                self.metrics.observe(&self.status(now));
            }
            Input::Stop => {}
        }
        effects.push(fx);
        Ok(())
    }

    fn event(&mut self, now: BootTime, event: CentreEvent, fx: &mut Effects) -> Option<Answer> {
        match event {
            CentreEvent::Registered {
                sent_at,
                lease,
                config,
                endpoint,
            } => {
                self.endpoint = Some(endpoint);
                self.clock.renewed(now, wall_millis());
                self.edge.registered(now, sent_at, lease, config, fx);
            }
            CentreEvent::Renewed {
                sent_at,
                lease,
                revision,
            } => {
                self.clock.renewed(now, wall_millis());
                self.edge.renewed(now, sent_at, lease, revision, fx);
            }
            CentreEvent::Clocks(clocks, lease) => self.compare_clocks(&clocks, lease, fx),
            CentreEvent::Config(config) => self.edge.configure(now, config, fx),
            CentreEvent::CutOff => self.edge.cut_off(),
            CentreEvent::Acked(seq) => self.edge.acked(now, seq, fx),
            CentreEvent::Refused(seq, refusal, why) => {
                self.edge.refused(now, seq, refusal, &why, fx);
            }
            CentreEvent::Lost(seq) => self.edge.lost(now, seq),
            CentreEvent::SecondHost(why) => self.edge.refused_as_second(&why, fx),
            CentreEvent::OtherHost(what) => self.hear_of_another(what),
            CentreEvent::SnapshotBegin => self.edge.snapshot_begin(),
            CentreEvent::Record(kind, record) => self.edge.record(now, kind, &record, fx),
            CentreEvent::SnapshotEnd => self.edge.snapshot_end(now, fx),
            CentreEvent::NewSession(session) => {
                tracing::warn!(
                    %session,
                    "the centre does not know this store as it is: going on with a new session"
                );
                self.edge.new_session(session, fx);
            }
            CentreEvent::Report(reply) => return Some(Answer::Report(reply)),
        }
        None
    }

    /// Makes all changes durable, then does what is to be done, in order. What leaves the map leaves it
    /// before as well: its rest has begun, and the disk may be slow. A restart puts back what was not
    /// written.
    async fn settle(&mut self, effects: Vec<Effects>) -> Result<(), EdgeTaskError> {
        for action in effects.iter().flat_map(|fx| &fx.actions) {
            match action {
                Action::RemoveBinding(place) => self.remove(place),
                Action::PutBinding(entry) => {
                    self.profiles.want(&entry.pool, &entry.key.interface);
                }
                _ => {}
            }
        }
        let (changes, writes, problems) = self.profiles.follow(self.edge.pools());
        let mut writer = Writer::new(&self.store);
        writer.profiles(&changes).await?;
        for fx in &effects {
            writer.event(&fx.changes).await?;
        }
        let numbered = effects.iter().any(|fx| !fx.changes.is_empty());
        if numbered {
            writer.origin(self.mark.number()).await?;
        }
        writer.finish().await?;
        if numbered {
            self.mark.done();
        }
        for (id, profile) in writes {
            self.map.put_profile(id, &profile)?;
            self.served.put_profile(id, &profile);
        }
        for problem in problems {
            tracing::error!(%problem, "subscribers of this pool are not served");
        }
        for action in effects.into_iter().flat_map(|fx| fx.actions) {
            self.act(action);
        }
        Ok(())
    }

    /// Said once for each change of what is said.
    fn hear_of_another(&mut self, what: String) {
        let what = (!what.is_empty()).then_some(what);
        if what != self.other_host
            && let Some(what) = &what
        {
            tracing::error!(%what, "another host tries to be this OLT");
        }
        self.other_host = what;
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::PutBinding(entry) => self.put(&entry),
            Action::RemoveBinding(place) => self.remove(&place),
            Action::Send(outgoing) => {
                // As many places as may be on their way, so there is always one.
                if let Err(error) = self.commands.try_send(outgoing) {
                    let (mpsc::error::TrySendError::Full(outgoing)
                    | mpsc::error::TrySendError::Closed(outgoing)) = error;
                    if let Ok(now) = boot_now() {
                        self.edge.lost(now, outgoing.seq);
                    }
                }
            }
            Action::PullRecords => self
                .pull
                .send_modify(|number| *number = number.wrapping_add(1)),
            Action::Note(note) => self.note(&note),
        }
    }
}

/// Gives every interface its number, durably.
async fn number_interfaces(access: Access, store: &Store) -> Result<Access, RowsError> {
    let names = access.interfaces().map(|one| one.name.clone()).collect();
    let (numbers, changes) = interfaces::number(rows::load_interfaces(store)?, &names);
    let mut writer = Writer::new(store);
    writer.interfaces(&changes).await?;
    writer.finish().await?;
    Ok(access.numbered(&numbers))
}

fn gateways(access: &Access) -> BTreeMap<String, Gateway> {
    let gateway = |one: &Interface| Gateway {
        mac: one.mac,
        server_id: one.server_id,
    };
    access
        .interfaces()
        .map(|one| (one.name.clone(), gateway(one)))
        .collect()
}

/// Whether the rows are of this host.
fn check_owner(rows: &[Row], olt: &OltId) -> Result<(), EdgeTaskError> {
    let stored = rows.iter().find_map(|row| match row {
        Row::Edge(row) => Some(&row.olt),
        _ => None,
    });
    match stored {
        Some(stored) if stored != olt => Err(EdgeTaskError::OtherOlt {
            stored: stored.clone(),
            configured: olt.clone(),
        }),
        _ => Ok(()),
    }
}

/// A session name made at random.
///
/// # Errors
/// Never: hexadecimal digits are a valid name.
pub fn new_session() -> Result<SessionId, IdError> {
    let random: [u8; 16] = rand::random();
    SessionId::new(hex::encode(random))
}

#[cfg(test)]
mod tests;
