//! The one task that owns the centre's state, and the way into it.
//!
//! ```text
//! REST, gRPC --jobs (bounded)--> [owner: state] --commits, answers (bounded)--> [teller] --> answers
//!      ^  full: Overloaded             |                                          |
//!      |                               v store queue (bounded)                    v watch queues (bounded)
//!      +---- answer                 [sled writer]                              watchers; full: cut off
//! ```
//!
//! The owner carries out one job after the other and hands the rows to the store in that order. The teller
//! waits until they are durable and only then gives the answer and tells watchers, in the same order, so
//! that nobody ever learns of something that a crash could undo. Reads take the same way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nexus_clset::{Output, Ticket};
use nexus_core::cluster::Members;
use nexus_core::id::{OltId, SessionId};
use nexus_core::shard_table::Command;
use nexus_store::{
    Batch, Commit, MAX_BATCH_OPERATIONS, MAX_COMMIT_BATCHES, Slot, Store, StoreError,
};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::centre::Centre;
use crate::centre::effects::{Change, Effects, Event, Write};
use crate::clock::Now;
use crate::cluster::barrier::Progress;
use crate::confirm::Confirm;
use crate::metrics::Metrics;
use crate::olt_config::OltConfig;
use crate::refused::Refused;
use crate::watch::{End, Feed, Feeds};

/// Jobs that may wait for the owner.
const JOB_LIMIT: usize = 1024;
/// Answers that may wait for the store.
const ANSWER_LIMIT: usize = 1024;
/// How long a request waits for a place among the jobs before it is turned away.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most bytes of one batch; the store allows somewhat more.
const MAX_BATCH_BYTES: usize = 512 * 1024;

type Job = Box<dyn FnOnce(&mut Centre, Now) -> Tell + Send>;
type Tell = Box<dyn FnOnce(Result<(), Refused>, &mut Hub) + Send>;

/// The way into the owner's task. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    jobs: mpsc::Sender<Job>,
    closing: Arc<Notify>,
}

/// The streams that are open.
#[derive(Default)]
struct Hub {
    configs: Feeds<Arc<OltConfig>>,
    allocations: Feeds<Change>,
}

struct Answer {
    commits: Vec<Commit>,
    ticket: Option<Ticket>,
    events: Vec<Event>,
    tell: Tell,
}

/// Where the owner hands on what it cannot wait for.
pub struct Outlets {
    /// What the quorum shall decide. Full: dropped, the next tick makes it again.
    pub proposals: mpsc::Sender<Command>,
    /// What other servers shall hear. Full: dropped and counted, replicas repair it.
    pub outputs: mpsc::Sender<Output>,
    /// Who is a member.
    pub members: watch::Sender<Members>,
    /// How far the moves of shards may be told.
    pub barrier: watch::Sender<Progress>,
    /// Who waits for a majority.
    pub confirm: Confirm,
}

/// Why the owner has ended without a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Nobody can reach it any more.
    Done,
    /// Its record must be thrown away and fetched anew.
    StartOver(String),
    /// Its record cannot be read any more.
    Failed(String),
}

/// The owner's task, not yet running.
pub struct Owner {
    centre: Centre,
    store: Store,
    metrics: Metrics,
    tick: Duration,
    outlets: Outlets,
    jobs: mpsc::Receiver<Job>,
    closing: Arc<Notify>,
}

impl Handle {
    /// Jobs that wait.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.jobs
            .max_capacity()
            .saturating_sub(self.jobs.capacity())
    }

    /// Has the owner end once it has done everything that was asked so far.
    pub fn close(&self) {
        self.closing.notify_one();
    }

    /// Has a piece of work done on the state, and gives its outcome once everything it changed is durable.
    ///
    /// # Errors
    /// The refusal of the work itself, or [`Refused::Overloaded`], [`Refused::Stopping`],
    /// [`Refused::Store`].
    pub async fn run<T, F>(&self, work: F) -> Result<T, Refused>
    where
        T: Send + 'static,
        F: FnOnce(&mut Centre, Now) -> Result<T, Refused> + Send + 'static,
    {
        let (done, outcome) = oneshot::channel();
        let job: Job = Box::new(move |centre, now| {
            let result = work(centre, now);
            Box::new(move |durable, _| {
                // Nobody waits any more if the client has hung up.
                let _ = done.send(durable.and(result));
            })
        });
        self.submit(job).await?;
        outcome.await.unwrap_or(Err(Refused::Stopping))
    }

    /// As [`Handle::run`], but gives the outcome before what was changed is durable: for what is told to
    /// nobody outside until then.
    ///
    /// # Errors
    /// As [`Handle::run`].
    pub async fn run_ahead<T, F>(&self, work: F) -> Result<T, Refused>
    where
        T: Send + 'static,
        F: FnOnce(&mut Centre, Now) -> Result<T, Refused> + Send + 'static,
    {
        let (job, outcome) = ahead(work);
        self.submit(job).await?;
        outcome.await.unwrap_or(Err(Refused::Stopping))
    }

    /// As [`Handle::run_ahead`], for those who cannot be turned away: waits for a place as long as it takes.
    ///
    /// # Errors
    /// The refusal of the work itself, or [`Refused::Stopping`].
    pub async fn patient<T, F>(&self, work: F) -> Result<T, Refused>
    where
        T: Send + 'static,
        F: FnOnce(&mut Centre, Now) -> Result<T, Refused> + Send + 'static,
    {
        let (job, outcome) = ahead(work);
        self.jobs.send(job).await.map_err(|_| Refused::Stopping)?;
        outcome.await.unwrap_or(Err(Refused::Stopping))
    }

    /// Has a piece of work done for which nobody waits. Waits for a place as long as it takes.
    ///
    /// # Errors
    /// [`Refused::Stopping`].
    pub async fn post(
        &self,
        work: impl FnOnce(&mut Centre, Now) + Send + 'static,
    ) -> Result<(), Refused> {
        let job: Job = Box::new(move |centre, now| {
            work(centre, now);
            Box::new(|_, _| ())
        });
        self.jobs.send(job).await.map_err(|_| Refused::Stopping)
    }

    /// Opens a stream of an OLT's configuration.
    ///
    /// # Errors
    /// An unknown OLT or session; else as [`Handle::run`].
    pub async fn watch_config(
        &self,
        olt: OltId,
        session: Option<SessionId>,
    ) -> Result<Feed<Arc<OltConfig>>, Refused> {
        let (done, outcome) = oneshot::channel();
        let job: Job = Box::new(move |centre, _| {
            let first = centre.read_config(&olt, session.as_ref());
            let tell: Tell = Box::new(move |durable, hub: &mut Hub| {
                let feed = durable
                    .and(first)
                    .map(|first| hub.configs.open(&olt, vec![first]));
                let _ = done.send(feed);
            });
            tell
        });
        self.submit(job).await?;
        outcome.await.unwrap_or(Err(Refused::Stopping))
    }

    /// Opens a stream of an OLT's allocations.
    ///
    /// # Errors
    /// An unknown OLT or session; else as [`Handle::run`].
    pub async fn watch_allocations(
        &self,
        olt: OltId,
        session: Option<SessionId>,
        revision: u64,
    ) -> Result<Feed<Change>, Refused> {
        let (done, outcome) = oneshot::channel();
        let job: Job = Box::new(move |centre, _| {
            let first = centre.watch_allocations(&olt, session.as_ref(), revision);
            let tell: Tell = Box::new(move |durable, hub: &mut Hub| {
                let feed = durable
                    .and(first)
                    .map(|first| hub.allocations.open(&olt, first));
                let _ = done.send(feed);
            });
            tell
        });
        self.submit(job).await?;
        outcome.await.unwrap_or(Err(Refused::Stopping))
    }

    /// Number of streams that are open.
    ///
    /// # Errors
    /// As [`Handle::run`].
    pub async fn watchers(&self) -> Result<usize, Refused> {
        let (done, outcome) = oneshot::channel();
        self.tell(move |hub| {
            let _ = done.send(hub.configs.count().saturating_add(hub.allocations.count()));
        })
        .await?;
        outcome.await.map_err(|_| Refused::Stopping)
    }

    /// Ends all streams, and every one that is opened later.
    ///
    /// # Errors
    /// As [`Handle::run`].
    pub async fn stop_watchers(&self) -> Result<(), Refused> {
        self.tell(|hub| {
            hub.configs.stop();
            hub.allocations.stop();
        })
        .await
    }

    async fn tell(&self, work: impl FnOnce(&mut Hub) + Send + 'static) -> Result<(), Refused> {
        let job: Job = Box::new(move |_, _| {
            let tell: Tell = Box::new(move |_, hub: &mut Hub| work(hub));
            tell
        });
        self.submit(job).await
    }

    async fn submit(&self, job: Job) -> Result<(), Refused> {
        use mpsc::error::SendTimeoutError;
        self.jobs
            .send_timeout(job, PATIENCE)
            .await
            .map_err(|error| match error {
                SendTimeoutError::Timeout(_) => Refused::Overloaded {
                    what: "the queue of requests",
                },
                SendTimeoutError::Closed(_) => Refused::Stopping,
            })
    }
}

impl Owner {
    /// The owner of a state, and the way into it. `tick` is how often time is let pass.
    #[must_use]
    pub fn new(
        centre: Centre,
        store: Store,
        metrics: Metrics,
        tick: Duration,
        outlets: Outlets,
    ) -> (Self, Handle) {
        let (sender, jobs) = mpsc::channel(JOB_LIMIT);
        let closing = Arc::new(Notify::new());
        let owner = Self {
            centre,
            store,
            metrics,
            tick,
            outlets,
            jobs,
            closing: Arc::clone(&closing),
        };
        let handle = Handle {
            jobs: sender,
            closing,
        };
        (owner, handle)
    }

    /// Works until it is closed or all handles are gone, then makes sure that everything is durable.
    ///
    /// # Errors
    /// The failure of the store, after which nothing more can be accepted.
    pub async fn run(mut self) -> Result<Stopped, StoreError> {
        let (answers, receiver) = mpsc::channel(ANSWER_LIMIT);
        let settled = Arc::new(AtomicU64::new(0));
        let teller = tokio::spawn(teller(receiver, Arc::clone(&settled), self.metrics.clone()));
        let outcome = self.work(&answers, &settled).await;
        drop(answers);
        let told = teller.await.unwrap_or(Err(StoreError::Closed));
        told.and(outcome)
    }

    async fn work(
        &mut self,
        answers: &mpsc::Sender<Answer>,
        settled: &AtomicU64,
    ) -> Result<Stopped, StoreError> {
        let mut ticks = interval(self.tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let job = tokio::select! {
                biased;
                // Time must pass however much there is to do.
                _ = ticks.tick() => tick_job(),
                () = self.closing.notified() => {
                    self.jobs.close();
                    continue;
                }
                job = self.jobs.recv() => match job {
                    Some(job) => job,
                    None => return Ok(Stopped::Done),
                },
            };
            // The place in the store's queue comes first: once the state has changed its rows must follow.
            let slot = self.store.reserve().await?;
            let Ok(now) = Now::read() else {
                return Err(StoreError::Closed);
            };
            self.centre
                .settle(&now, Ticket(settled.load(Ordering::Acquire)));
            let tell = job(&mut self.centre, now);
            let mut effects = self.centre.take_effects();
            self.metrics.clset_puts(effects.puts);
            self.metrics.clset_gets(effects.gets);
            self.metrics.reclaimed(effects.reclaimed);
            let ticket = effects.ticket;
            self.hand_on(&mut effects);
            if let Some(why) = effects.failed.take() {
                return Ok(Stopped::Failed(why));
            }
            if let Some(why) = effects.start_over.take() {
                return Ok(Stopped::StartOver(why));
            }
            let (commits, events) = self.commit(slot, effects).await?;
            let answer = Answer {
                commits,
                ticket,
                events,
                tell,
            };
            if answers.send(answer).await.is_err() {
                // The teller ends only after a failure of the store.
                return self.store.health().map(|()| Stopped::Done);
            }
        }
    }

    fn hand_on(&self, effects: &mut Effects) {
        if let Some(progress) = effects.barrier {
            self.outlets.barrier.send_replace(progress);
        }
        if effects.members || self.outlets.confirm.is_awaited() {
            self.outlets.confirm.note(self.centre.acks());
        }
        if effects.members {
            self.outlets
                .members
                .send_replace(self.centre.members().clone());
        }
        for command in effects.proposals.drain(..) {
            if self.outlets.proposals.try_send(command).is_err() {
                tracing::debug!("a proposal was dropped, there are too many");
            }
        }
        for output in effects.outputs.drain(..) {
            // Closed: this server runs alone.
            if let Err(mpsc::error::TrySendError::Full(_)) = self.outlets.outputs.try_send(output) {
                self.metrics.clset_dropped();
            }
        }
    }

    /// Hands the rows to the store, with one flush for all. What one batch does not hold goes into several, in the
    /// order in which it was given; that order is made so that a crash in between does no harm.
    async fn commit(
        &self,
        slot: Slot,
        effects: Effects,
    ) -> Result<(Vec<Commit>, Vec<Event>), StoreError> {
        let Effects { writes, events, .. } = effects;
        let mut commits = Vec::new();
        let mut slot = Some(slot);
        let mut batches = batches(writes);
        while !batches.is_empty() {
            let rest = batches.split_off(batches.len().min(MAX_COMMIT_BATCHES));
            let slot = match slot.take() {
                Some(slot) => slot,
                None => self.store.reserve().await?,
            };
            commits.push(slot.submit_all(batches)?);
            batches = rest;
        }
        Ok((commits, events))
    }
}

/// A job that gives its outcome as soon as it is done.
fn ahead<T, F>(work: F) -> (Job, oneshot::Receiver<Result<T, Refused>>)
where
    T: Send + 'static,
    F: FnOnce(&mut Centre, Now) -> Result<T, Refused> + Send + 'static,
{
    let (done, outcome) = oneshot::channel();
    let job: Job = Box::new(move |centre, now| {
        // Nobody waits any more if who asked is gone.
        let _ = done.send(work(centre, now));
        Box::new(|_, _| ())
    });
    (job, outcome)
}

fn tick_job() -> Job {
    Box::new(|centre, now| {
        if let Err(refused) = centre.tick(&now) {
            tracing::warn!(%refused, "time could not be let pass");
        }
        Box::new(|_, _| ())
    })
}

/// What stands together goes into one batch, with as many neighbours as fit.
fn batches(writes: Vec<Vec<Write>>) -> Vec<Batch> {
    let mut batches = Vec::new();
    let mut batch = Batch::new();
    let mut bytes = 0_usize;
    for together in writes {
        let size: usize = together.iter().map(Write::size).sum();
        let operations = batch.operations().saturating_add(together.len());
        let full =
            operations > MAX_BATCH_OPERATIONS || bytes.saturating_add(size) > MAX_BATCH_BYTES;
        if full && !batch.is_empty() {
            batches.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        bytes = bytes.saturating_add(size);
        for write in together {
            write.add_to(&mut batch);
        }
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

async fn teller(
    mut answers: mpsc::Receiver<Answer>,
    settled: Arc<AtomicU64>,
    metrics: Metrics,
) -> Result<(), StoreError> {
    let mut hub = Hub::default();
    while let Some(answer) = answers.recv().await {
        let Answer {
            commits,
            ticket,
            events,
            tell,
        } = answer;
        let durable = durable(commits).await;
        if let Err(error) = durable {
            let refused = || Refused::Store(error.to_string());
            tell(Err(refused()), &mut hub);
            answers.close();
            while let Some(answer) = answers.recv().await {
                (answer.tell)(Err(refused()), &mut hub);
            }
            hub.configs.stop();
            hub.allocations.stop();
            return Err(error);
        }
        if let Some(ticket) = ticket {
            settled.store(ticket.0, Ordering::Release);
        }
        for event in events {
            let cut_off = hub.publish(event);
            for _ in 0..cut_off {
                metrics.watcher_cut_off();
            }
        }
        tell(Ok(()), &mut hub);
    }
    hub.configs.stop();
    hub.allocations.stop();
    Ok(())
}

async fn durable(commits: Vec<Commit>) -> Result<(), StoreError> {
    for commit in commits {
        commit.await?;
    }
    Ok(())
}

impl Hub {
    /// Tells an event to whom it concerns. Gives the number of streams that were cut off.
    fn publish(&mut self, event: Event) -> u64 {
        match event {
            Event::Allocation(olt, change) => self.allocations.publish(&olt, &change),
            Event::Config(olt, config) => self.configs.publish(&olt, &config),
            Event::SessionOver(olt) => {
                self.configs.end(&olt, End::SessionOver);
                self.allocations.end(&olt, End::SessionOver);
                0
            }
            Event::StartOver => {
                self.configs.end_all(End::StartOver);
                self.allocations.end_all(End::StartOver);
                0
            }
        }
    }
}
