//! The handle: opening, founding, proposing, changing the members, stopping.

use std::sync::Arc;
use std::time::Duration;

use openraft::SnapshotPolicy;
use openraft::error::{InitializeError, RaftError};
use tokio::sync::{Mutex, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use crate::config::{Limits, MAX_IN_FLIGHT, MAX_WAITING, Options, REPLICATE_ENTRIES, Timing};
use crate::error::{ChangeError, ProposeError, QuorumError};
use crate::log::Log;
use crate::machine::{Machine, Network};
use crate::message::Change;
use crate::office::{Office, Submission};
use crate::peers::Peers;
use crate::serve::Incoming;
use crate::shared::Shared;
use crate::state::State;
use crate::store::{Cluster, Store};
use crate::types::Raft;
use crate::watch::Status;
use crate::{campaign, watch as chores};

/// A command that was carried out, on this node too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its place in the log; commands that were written together share it.
    pub index: u64,
    /// The how-manyth command of the cluster it is, from 1.
    pub ordinal: u64,
    /// What this node's machine answered.
    pub answer: Vec<u8>,
}

/// This node's place in a Raft group. Copies are cheap and mean the same one; when the last is dropped it stops.
#[derive(Clone)]
pub struct Quorum {
    handle: Arc<Handle>,
}

/// Ends the tasks with the last copy.
struct Handle {
    inner: Arc<Inner>,
    tasks: std::sync::Mutex<Vec<JoinHandle<()>>>,
}

/// What the tasks of one quorum share.
pub(crate) struct Inner {
    pub(crate) raft: Raft,
    pub(crate) store: Arc<Store>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) peers: Peers,
    pub(crate) office: mpsc::Sender<Submission>,
    pub(crate) timing: Timing,
    pub(crate) limits: Limits,
    /// Places for this node's own proposals.
    pub(crate) places: Semaphore,
    /// Held while the membership is changed.
    pub(crate) changing: Mutex<()>,
    /// Held while it is settled to which cluster this node belongs.
    pub(crate) founding: Mutex<()>,
    pub(crate) incoming: Mutex<Option<Incoming>>,
}

impl Quorum {
    /// Open the file (or make it) and take part. A node that belongs to no cluster yet waits quietly until `found` is
    /// called or a leader calls it.
    ///
    /// `machine` is called before this returns: with the last snapshot, then with each committed command after it.
    pub async fn open(
        options: Options,
        machine: Arc<dyn Machine>,
        network: Arc<dyn Network>,
    ) -> Result<Self, QuorumError> {
        options.timing.check()?;
        options.limits.check()?;
        let config = config(&options.timing, &options.limits)?;
        let (path, number) = (options.path.clone(), options.number);
        let opened = tokio::task::spawn_blocking(move || Store::open(&path, number)).await;
        let store = Arc::new(opened.map_err(|error| QuorumError::Stopped(error.to_string()))??);
        let opened = Self::begin(options, config, machine, network, Arc::clone(&store)).await;
        if opened.is_err() {
            // The first reason is the one that helps; the file is left alone either way.
            let _ = store.close();
        }
        opened
    }

    async fn begin(
        options: Options,
        config: openraft::Config,
        machine: Arc<dyn Machine>,
        network: Arc<dyn Network>,
        store: Arc<Store>,
    ) -> Result<Self, QuorumError> {
        let Options {
            number,
            timing,
            limits,
            clock,
            ..
        } = options;
        let shared = Arc::new(Shared::new(number, store.boot()));
        let peers = Peers::new(
            network,
            Arc::clone(&store),
            Arc::clone(&shared),
            timing.heartbeat,
        );
        let state = State::open(machine, Arc::clone(&store), Arc::clone(&shared)).await?;
        let raft = Raft::new(
            shared.number,
            Arc::new(config),
            peers.clone(),
            Log(Arc::clone(&store)),
            state,
        )
        .await
        .map_err(|fatal| {
            QuorumError::Stopped(shared.why_stopped().unwrap_or_else(|| fatal.to_string()))
        })?;
        let (office, submissions) = mpsc::channel(MAX_WAITING);
        let inner = Arc::new(Inner {
            raft: raft.clone(),
            store,
            shared: Arc::clone(&shared),
            peers,
            office,
            timing,
            limits,
            places: Semaphore::new(MAX_IN_FLIGHT),
            changing: Mutex::new(()),
            founding: Mutex::new(()),
            incoming: Mutex::new(None),
        });
        let office = Office {
            raft,
            shared,
            clock,
            timing,
            submissions,
        };
        let tasks = vec![
            tokio::spawn(office.run()),
            tokio::spawn(campaign::run(Arc::clone(&inner))),
            tokio::spawn(chores::run(Arc::clone(&inner))),
        ];
        Ok(Self {
            handle: Arc::new(Handle {
                inner,
                tasks: std::sync::Mutex::new(tasks),
            }),
        })
    }

    /// Found a new cluster of this node alone, which leads it at once. Refused if it belongs, or ever belonged, to one.
    pub async fn found(&self) -> Result<(), QuorumError> {
        let inner = &self.handle.inner;
        let stopped = |why: String| QuorumError::Stopped(why);
        if let Some(why) = inner.shared.why_stopped() {
            return Err(stopped(why));
        }
        let _founding = inner.founding.lock().await;
        let was_begun = inner
            .raft
            .is_initialized()
            .await
            .map_err(|fatal| stopped(fatal.to_string()))?;
        // Own, but without a log: a crash came between the two, and it is founded now. Another's: a leader has called.
        match inner.store.cluster() {
            _ if was_begun => return Err(QuorumError::AlreadyMember),
            Some(Cluster { own: false, .. }) => return Err(QuorumError::AlreadyMember),
            Some(_) => {}
            None => {
                let cluster = Cluster {
                    name: rand::random(),
                    own: true,
                };
                let joined = inner.store.run(move |store| store.join(cluster)).await;
                joined.map_err(|error| stopped(error.to_string()))?;
            }
        }
        match inner
            .raft
            .initialize(std::collections::BTreeSet::from([inner.shared.number]))
            .await
        {
            Ok(()) => {
                let mut leader = inner.shared.leader.subscribe();
                // It elects itself in a moment; it is founded either way.
                let leads = leader.wait_for(Option::is_some);
                let _ = tokio::time::timeout(inner.timing.election_max * 4, leads).await;
                Ok(())
            }
            Err(RaftError::APIError(
                InitializeError::NotAllowed(_) | InitializeError::NotInMembers(_),
            )) => Err(QuorumError::AlreadyMember),
            Err(RaftError::Fatal(fatal)) => Err(stopped(fatal.to_string())),
        }
    }

    /// Have `command` (at most 1 MiB) carried out by the cluster, exactly once if this returns a result.
    ///
    /// May be called on any member. Returns when this node's own machine has applied it, so that what is read there
    /// afterwards includes it. Looks for a leader, and asks the next one if one is lost, until `patience` ends. At most
    /// 1024 proposals of a node are on their way at a time; one more is refused with [`ProposeError::Full`] at once.
    /// Whether an error leaves the outcome open says [`ProposeError::is_certain`].
    pub async fn propose(
        &self,
        command: Vec<u8>,
        patience: Duration,
    ) -> Result<Applied, ProposeError> {
        self.handle.inner.propose(command, patience).await
    }

    /// What a peer's [`Network::call`] brought, and the bytes to answer it with. `from` must be proved by the network.
    pub async fn answer(&self, from: u32, message: Vec<u8>) -> Vec<u8> {
        self.handle.inner.answer(from, &message).await
    }

    /// Let node `number` follow the log. Returns when that is agreed on, not when it has caught up.
    pub async fn add_learner(&self, number: u32) -> Result<(), ChangeError> {
        self.handle.inner.change(Change::AddLearner(number)).await
    }

    /// Let a learner vote. Refused while it is too far behind ([`Limits::promote_lag`]).
    pub async fn promote(&self, number: u32) -> Result<(), ChangeError> {
        self.handle.inner.change(Change::Promote(number)).await
    }

    /// Make a voter a learner. The last voter cannot be; a leader hands over first.
    pub async fn demote(&self, number: u32) -> Result<(), ChangeError> {
        self.handle.inner.change(Change::Demote(number)).await
    }

    /// Take a node out. The last voter cannot be; a leader hands over first. A removed number must not come back.
    pub async fn remove(&self, number: u32) -> Result<(), ChangeError> {
        self.handle.inner.change(Change::Remove(number)).await
    }

    /// Where this node stands.
    pub fn status(&self) -> Status {
        self.handle.inner.status()
    }

    /// The leader that can be reached and accepts proposals, as far as this node knows. This node's own number while it
    /// leads and hears a majority.
    pub fn leadership(&self) -> watch::Receiver<Option<u32>> {
        self.handle.inner.shared.leader.subscribe()
    }

    /// Why the quorum has stopped, once it has: by `stop`, or because the machine or the disk failed.
    pub fn stopped(&self) -> watch::Receiver<Option<String>> {
        self.handle.inner.shared.stopped.subscribe()
    }

    /// Stop, and close the file. What is on its way ends with [`ProposeError::Stopped`]. The others notice by the silence.
    pub async fn stop(self) {
        let inner = &self.handle.inner;
        inner.shared.stop("it was told to stop");
        // It only fails if the core's task panicked, which has been told already.
        let _ = inner.raft.shutdown().await;
        let tasks = std::mem::take(&mut *lock(&self.handle.tasks));
        for task in tasks {
            let _ = task.await;
        }
        if let Err(error) = inner.store.run(Store::close).await {
            tracing::warn!(%error, "the quorum file was not closed in order");
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inner.shared.stop("it was dropped");
        for task in lock(&self.tasks).drain(..) {
            task.abort();
        }
        let inner = Arc::clone(&self.inner);
        // Outside of a runtime its tasks have ended with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = inner.raft.shutdown().await;
                let _ = inner.store.run(Store::close).await;
            });
        }
    }
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn config(timing: &Timing, limits: &Limits) -> Result<openraft::Config, QuorumError> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    openraft::Config {
        cluster_name: "nexus".to_owned(),
        heartbeat_interval: millis(timing.heartbeat),
        // For openraft this is the patience for votes, and below it is how long a voter keeps to its leader.
        election_timeout_min: millis(timing.heartbeat) + 1,
        election_timeout_max: millis(timing.election_min)
            .saturating_sub(millis(timing.heartbeat / 2)),
        // Elections are held by `campaign`.
        enable_elect: false,
        max_payload_entries: REPLICATE_ENTRIES as u64,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(limits.snapshot_entries),
        max_in_snapshot_log_to_keep: limits.keep_entries,
        replication_lag_threshold: limits.snapshot_entries.saturating_mul(2),
        purge_batch_size: 1,
        ..openraft::Config::default()
    }
    .validate()
    .map_err(|error| QuorumError::Settings(error.to_string()))
}
