//! The leader's office: which leader this node sees, and, while it is the leader itself, stamping what is proposed and
//! writing it to the log in batches.
//!
//! openraft writes each entry to the disk by itself. Whatever waits while one is written goes into the next one together.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use openraft::ServerState;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use crate::config::{Clock, MAX_BATCH, MAX_COMMAND, Timing};
use crate::message::Refusal;
use crate::shared::Shared;
use crate::stamp::Stamper;
use crate::types::{Batch, Command, Metrics, Outcome, Raft};

/// Batches on their way through the log at a time.
const FLIGHTS: usize = 2;

/// A command for the log, and where to say what became of it (the index of its entry).
pub struct Submission {
    pub command: Command,
    pub done: oneshot::Sender<Result<u64, Refusal>>,
}

/// Where this node stands.
enum Stand {
    /// Not the leader, or one that cannot commit. What it stamped last counts if it goes on in the same term.
    Out(Option<(u64, Stamper)>),
    /// The leader; waits until all that was in the log has been applied.
    Settling { term: u64, upto: u64 },
    /// The leader, and what it stamps is greater than all that is in the log.
    In { term: u64, stamper: Stamper },
}

pub struct Office {
    pub raft: Raft,
    pub shared: Arc<Shared>,
    pub clock: Clock,
    pub timing: Timing,
    pub submissions: mpsc::Receiver<Submission>,
}

/// What the office is busy with.
struct Desk {
    stand: Stand,
    /// Batches on their way.
    flights: FuturesUnordered<BoxFuture<'static, ()>>,
    /// What did not fit into the last batch.
    carry: Option<Submission>,
}

impl Office {
    /// Serve until the quorum stops.
    pub async fn run(mut self) {
        let mut desk = Desk {
            stand: Stand::Out(None),
            flights: FuturesUnordered::new(),
            carry: None,
        };
        let mut metrics = self.raft.metrics();
        let shared = Arc::clone(&self.shared);
        let mut tick = tokio::time::interval(self.timing.heartbeat);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let seen = metrics.borrow_and_update().clone();
            if let Err(fatal) = &seen.running_state {
                self.shared.stop(&fatal.to_string());
            }
            let led = shared.leads();
            desk.stand = self.look(desk.stand, &seen);
            if shared.leads()
                && !led
                && let Err(fatal) = self.raft.trigger().heartbeat().await
            {
                // The others should hear of it now and not with the next heartbeat.
                self.shared.stop(&fatal.to_string());
            }
            let room =
                desk.flights.len() < FLIGHTS && !matches!(desk.stand, Stand::Settling { .. });
            if room && let Some(first) = desk.carry.take() {
                self.take(first, &mut desk).await;
                continue;
            }
            let submission = tokio::select! {
                _ = shared.until_stopped() => break,
                Some(()) = desk.flights.next() => None,
                submission = self.submissions.recv(), if room => submission,
                changed = metrics.changed() => {
                    if changed.is_err() {
                        self.shared.stop("its core has ended");
                    }
                    None
                }
                () = shared.look.notified() => None,
                _ = tick.tick() => None,
            };
            if let Some(first) = submission {
                self.take(first, &mut desk).await;
            }
        }
        self.shared.leader.send_replace(None);
    }

    /// Where this node stands now; tells those who watch the leader.
    fn look(&self, stand: Stand, seen: &Metrics) -> Stand {
        let stand = self.step(stand, seen);
        let leader = match stand {
            Stand::In { .. } => Some(self.shared.number),
            _ if seen.state == ServerState::Leader => None,
            _ if self.shared.silence() >= self.timing.election_max || !self.shared.accepts() => {
                None
            }
            _ => seen
                .current_leader
                .filter(|leader| *leader != self.shared.number),
        };
        self.shared.leader.send_if_modified(|known| {
            let changed = *known != leader;
            *known = leader;
            changed
        });
        stand
    }

    fn step(&self, stand: Stand, seen: &Metrics) -> Stand {
        let now = (self.clock)();
        let term = seen.current_term;
        let hears_majority = seen
            .millis_since_quorum_ack
            .is_some_and(|millis| Duration::from_millis(millis) < self.timing.election_max);
        let leads = seen.state == ServerState::Leader
            && seen.running_state.is_ok()
            && hears_majority
            && !self.shared.is_aside();
        match stand {
            Stand::In { term: of, stamper } if leads && of == term => Stand::In { term, stamper },
            Stand::In { term, stamper } => Stand::Out(Some((term, stamper))),
            Stand::Out(before) if !leads => Stand::Out(before),
            // The same office goes on: the time without a majority is not counted.
            Stand::Out(Some((of, mut stamper))) if of == term => {
                stamper.resume(now);
                Stand::In { term, stamper }
            }
            Stand::Settling { .. } if !leads => Stand::Out(None),
            Stand::Settling { term: of, upto } if of == term => {
                if seen
                    .last_applied
                    .is_some_and(|applied| applied.index >= upto)
                {
                    tracing::info!(term, "this node leads the quorum");
                    Stand::In {
                        term,
                        stamper: Stamper::new(self.shared.greatest(), now),
                    }
                } else {
                    Stand::Settling { term, upto }
                }
            }
            // Newly elected: what the log holds now is all that others have stamped.
            Stand::Out(_) | Stand::Settling { .. } => Stand::Settling {
                term,
                upto: seen.last_log_index.unwrap_or(0),
            },
        }
    }

    /// Write what waits, in one entry as far as it fits; what does not fit is for the next one.
    async fn take(&mut self, first: Submission, desk: &mut Desk) {
        let mut next = Some(first);
        let Stand::In { term, stamper } = &mut desk.stand else {
            let leader = *self.shared.leader.borrow();
            while let Some(submission) = next {
                refuse(submission.done, Refusal::NotLeader { leader });
                next = self.submissions.try_recv().ok();
            }
            return;
        };
        let seen = self.raft.metrics().borrow().membership_config.clone();
        let members = seen.membership();
        let mut bytes = 0;
        let mut commands = Vec::new();
        let mut waiters = Vec::new();
        while let Some(Submission { command, done }) = next.take() {
            let fits = commands.is_empty() || bytes + command.bytes.len() <= MAX_COMMAND;
            if !fits || commands.len() >= MAX_BATCH {
                next = Some(Submission { command, done });
                break;
            }
            if members.get_node(&command.id.origin).is_none() {
                refuse(done, Refusal::NotMember);
            } else {
                bytes += command.bytes.len();
                commands.push(command);
                waiters.push(done);
            }
            next = self.submissions.try_recv().ok();
        }
        desk.carry = next;
        if commands.is_empty() {
            return;
        }
        let at = stamper.stamp((self.clock)());
        let batch = Batch {
            term: *term,
            leader: self.shared.number,
            at,
            commands,
        };
        // Handed over here and not in the flight, so that the log has them in the order of their stamps.
        let written = self.raft.client_write_ff(batch).await;
        desk.flights.push(Box::pin(async move {
            let outcome = match written {
                Ok(receiver) => receiver.await.ok().and_then(Result::ok),
                Err(_) => None,
            };
            for done in waiters {
                let answer = match &outcome {
                    Some(response) if response.data == Outcome::Void => {
                        Err(Refusal::NotLeader { leader: None })
                    }
                    Some(response) => Ok(response.log_id.index),
                    // Also when openraft names another leader: what it took out of this log may live on in another.
                    None => Err(Refusal::Unknown),
                };
                // The proposer may have stopped waiting.
                let _ = done.send(answer);
            }
        }));
    }
}

fn refuse(done: oneshot::Sender<Result<u64, Refusal>>, refusal: Refusal) {
    // The proposer may have stopped waiting.
    let _ = done.send(Err(refusal));
}
