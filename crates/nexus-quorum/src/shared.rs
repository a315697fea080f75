//! What the parts of one node's quorum know in common.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot, watch};

use crate::config::WINDOW;
use crate::quorum::Applied;
use crate::types::ProposalId;

/// One per open quorum.
pub struct Shared {
    pub number: u32,
    pub boot: u64,
    proposals: Mutex<Proposals>,
    greatest: AtomicU64,
    ordinal: AtomicU64,
    heard: Mutex<Instant>,
    /// Something has changed that the office should look at.
    pub look: Notify,
    /// The leader that is heard accepts proposals.
    accepts: AtomicBool,
    /// Another node has said that this one is no longer a member.
    removed: AtomicBool,
    /// The leader stands aside for another voter.
    aside: AtomicBool,
    /// The leader that can be reached and accepts proposals, as far as this node knows.
    pub leader: watch::Sender<Option<u32>>,
    /// Why the quorum has stopped.
    pub stopped: watch::Sender<Option<String>>,
}

/// This node's own proposals that are on their way.
#[derive(Default)]
struct Proposals {
    next: u64,
    open: BTreeMap<u64, oneshot::Sender<Applied>>,
}

impl Shared {
    pub fn new(number: u32, boot: u64) -> Self {
        Self {
            number,
            boot,
            proposals: Mutex::default(),
            greatest: AtomicU64::new(0),
            ordinal: AtomicU64::new(0),
            heard: Mutex::new(Instant::now()),
            look: Notify::new(),
            accepts: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            aside: AtomicBool::new(false),
            leader: watch::Sender::new(None),
            stopped: watch::Sender::new(None),
        }
    }

    /// Name a new proposal; nothing if the oldest open one is too far back.
    pub fn begin(&self, done: oneshot::Sender<Applied>) -> Option<ProposalId> {
        let mut proposals = self.proposals();
        let seq = proposals.next;
        let floor = proposals.open.keys().next().copied().unwrap_or(seq);
        if seq - floor >= WINDOW {
            return None;
        }
        proposals.next += 1;
        proposals.open.insert(seq, done);
        Some(ProposalId {
            origin: self.number,
            boot: self.boot,
            seq,
            floor,
        })
    }

    /// The proposal has been applied here. Without effect if nobody waits for it.
    pub fn complete(&self, seq: u64, applied: Applied) {
        if let Some(done) = self.proposals().open.remove(&seq) {
            // Whoever proposed it may have stopped waiting a moment ago.
            let _ = done.send(applied);
        }
    }

    /// Nobody waits for the proposal any more.
    pub fn give_up(&self, seq: u64) {
        self.proposals().open.remove(&seq);
    }

    /// Whether this start of this node can have made the proposal.
    pub fn may_have_proposed(&self, id: ProposalId) -> bool {
        id.origin != self.number
            || id.boot < self.boot
            || (id.boot == self.boot && id.seq < self.proposals().next)
    }

    /// Greatest stamp and number of commands applied here.
    pub fn set_applied(&self, greatest: u64, ordinal: u64) {
        self.greatest.store(greatest, Ordering::Release);
        self.ordinal.store(ordinal, Ordering::Release);
    }

    /// Greatest stamp applied here, in nanoseconds.
    pub fn greatest(&self) -> u64 {
        self.greatest.load(Ordering::Acquire)
    }

    /// Commands applied since the cluster was founded.
    pub fn ordinal(&self) -> u64 {
        self.ordinal.load(Ordering::Acquire)
    }

    /// A leader has been heard, or a vote has been given: no reason to campaign for a while.
    pub fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.removed.store(false, Ordering::Release);
    }

    /// How long no leader has been heard.
    pub fn silence(&self) -> Duration {
        self.heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed()
    }

    /// Whether this node leads and accepts proposals.
    pub fn leads(&self) -> bool {
        *self.leader.borrow() == Some(self.number)
    }

    pub fn set_accepts(&self, accepts: bool) {
        if self.accepts.swap(accepts, Ordering::AcqRel) != accepts {
            self.look.notify_one();
        }
    }

    pub fn accepts(&self) -> bool {
        self.accepts.load(Ordering::Acquire)
    }

    pub fn set_removed(&self) {
        self.removed.store(true, Ordering::Release);
    }

    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    pub fn set_aside(&self, aside: bool) {
        self.aside.store(aside, Ordering::Release);
    }

    pub fn is_aside(&self) -> bool {
        self.aside.load(Ordering::Acquire)
    }

    /// The first reason stays.
    pub fn stop(&self, why: &str) {
        self.stopped.send_if_modified(|stopped| {
            let first = stopped.is_none();
            if first {
                *stopped = Some(why.to_owned());
            }
            first
        });
    }

    /// Ends when the quorum stops; why.
    pub async fn until_stopped(&self) -> String {
        let mut stopped = self.stopped.subscribe();
        let why = stopped.wait_for(Option::is_some).await;
        why.ok().and_then(|why| why.clone()).unwrap_or_default()
    }

    pub fn why_stopped(&self) -> Option<String> {
        self.stopped.borrow().clone()
    }

    fn proposals(&self) -> MutexGuard<'_, Proposals> {
        self.proposals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
