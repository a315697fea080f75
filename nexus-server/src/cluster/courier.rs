//! Carries messages between the owner of the state and the other servers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nexus_clset::{NodeId, Output};
use nexus_core::cluster::Members;
use nexus_p2p::{Answer, AskError, Event, Link, PeerAddress, Reason};
use nexus_quorum::Quorum;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::channel;
use super::membership::Membership;
use crate::actor::Handle;
use crate::centre::Heard;
use crate::confirm::Confirm;
use crate::metrics::Metrics;
use crate::refused::Refused;

/// Outputs of the owner that may wait for the link.
pub const OUTPUT_LIMIT: usize = 8192;
/// Answers that may wait for the owner; beyond that the oldest is let drop, and the peer asks again.
const MAX_WAITING: usize = 1024;
/// Fewest questions that are worked on at a time: proposals of others wait here until they are decided.
pub const MIN_WORKERS: usize = 64;
/// How long a peer may take to answer a question about entries.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the replica asks the others often after it was told that somebody waits.
const FLUSH_AGAIN: Duration = Duration::from_secs(5);
/// How often the replica gets a chance to send what has gathered.
const TICK: Duration = Duration::from_millis(10);

/// See the module.
pub struct Courier {
    /// The other servers.
    pub link: Link,
    /// The state.
    pub centre: Handle,
    /// The quorum, for its messages.
    pub quorum: Quorum,
    /// For those who want to join.
    pub membership: Membership,
    /// Where the questions are counted.
    pub metrics: Metrics,
    /// Who waits for a majority.
    pub confirm: Confirm,
    /// Whether they need no operator.
    pub auto_admit: bool,
    /// Questions of the quorum and of those who join that are worked on at a time.
    pub workers: usize,
}

impl Courier {
    /// Works until the owner or the link is gone.
    pub async fn run(self, mut events: mpsc::Receiver<Event>, mut outputs: mpsc::Receiver<Output>) {
        let workers = Arc::new(Semaphore::new(self.workers));
        let mut waiting: BTreeMap<u64, Answer> = BTreeMap::new();
        let mut next_id = 0_u64;
        let mut flushed = Instant::now();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let heard = tokio::select! {
                event = events.recv() => match event {
                    None => return,
                    Some(Event::Up(peer)) => {
                        tracing::info!(node = %peer.name, number = peer.number, address = %peer.address, "connected to another server");
                        Heard::Up(NodeId(peer.number))
                    }
                    Some(Event::Down { number, why, .. }) => {
                        tracing::info!(number, why, "another server is not connected any more");
                        Heard::Down(NodeId(number))
                    }
                    Some(Event::Changed(_)) => continue,
                    Some(Event::Gossip { .. }) if self.is_full() => continue,
                    Some(Event::Gossip { from, bytes }) => Heard::Gossip { from: NodeId(from), bytes },
                    Some(Event::Refused { peer_id, address, why, reason }) => {
                        // Also a dial that was given up, of a server that was faster itself.
                        if reason == Reason::Handshake {
                            tracing::info!(peer_id, address, %why, "a connection was not made");
                        } else {
                            tracing::warn!(peer_id, address, %why, "a connection was refused");
                        }
                        continue;
                    }
                    Some(Event::Asked { from, channel: channel::CLSET, bytes, answer }) => {
                        next_id = next_id.wrapping_add(1);
                        waiting.insert(next_id, answer);
                        while waiting.len() > MAX_WAITING {
                            waiting.pop_first();
                        }
                        Heard::Question { from: NodeId(from), id: next_id, bytes }
                    }
                    Some(Event::Asked { from, channel, bytes, answer }) => {
                        // No place: the answer is let drop, and the peer asks again.
                        if let Ok(place) = Arc::clone(&workers).try_acquire_owned() {
                            let (quorum, membership, admit) = (self.quorum.clone(), self.membership.clone(), self.auto_admit);
                            tokio::spawn(async move {
                                let reply = reply(&quorum, &membership, admit, from, channel, bytes).await;
                                if let Some(reply) = reply {
                                    answer.send(reply);
                                }
                                drop(place);
                            });
                        }
                        continue;
                    }
                },
                output = outputs.recv() => match output {
                    None => return,
                    Some(output) => {
                        self.carry(output, &mut waiting);
                        continue;
                    }
                },
                _ = ticks.tick() => {
                    if self.confirm.is_awaited() && flushed.elapsed() > FLUSH_AGAIN {
                        flushed = Instant::now();
                        Heard::Awaited
                    } else {
                        Heard::Tick
                    }
                }
            };
            if let Err(Refused::Stopping) = self.hear(heard).await {
                return;
            }
        }
    }

    /// Whether there is no room for what others have written: it is pulled when there is.
    fn is_full(&self) -> bool {
        self.membership.standing.reasons().disk.is_some()
    }

    async fn hear(&self, heard: Heard) -> Result<(), Refused> {
        self.centre
            .post(move |centre, now| centre.hear(&now, heard))
            .await
    }

    fn carry(&self, output: Output, waiting: &mut BTreeMap<u64, Answer>) {
        match output {
            Output::Publish(bytes) => {
                if let Err(error) = self.link.publish(bytes) {
                    tracing::debug!(%error, "gossip was not sent");
                }
            }
            Output::Answer { id, bytes } => {
                if let Some(answer) = waiting.remove(&id) {
                    answer.send(bytes);
                }
            }
            // The owner keeps these for itself.
            Output::Write(_) | Output::Report(_) => {}
            Output::Misbehaved { from, what } => self.link.misbehaved(from.0, &what),
            Output::Ask { to, id, bytes } => {
                let (link, centre) = (self.link.clone(), self.centre.clone());
                let (metrics, full) = (self.metrics.clone(), self.is_full());
                tokio::spawn(async move {
                    let started = std::time::Instant::now();
                    let answer = if full {
                        Err(AskError::Busy)
                    } else {
                        link.ask(to.0, channel::CLSET, bytes, PATIENCE).await
                    };
                    let heard = match answer {
                        Ok(bytes) => {
                            let now = std::time::Instant::now();
                            metrics.clset_synced(now.saturating_duration_since(started), now);
                            Heard::Answer {
                                from: to,
                                id,
                                bytes,
                            }
                        }
                        Err(error) => {
                            tracing::debug!(number = to.0, %error, "a question about entries was not answered");
                            Heard::Failed { from: to, id }
                        }
                    };
                    // If the owner is gone nobody waits.
                    let _ = centre
                        .post(move |centre, now| centre.hear(&now, heard))
                        .await;
                });
            }
        }
    }
}

async fn reply(
    quorum: &Quorum,
    membership: &Membership,
    admit: bool,
    from: u32,
    channel: u8,
    question: Vec<u8>,
) -> Option<Vec<u8>> {
    match channel {
        channel::QUORUM => Some(quorum.answer(from, question).await),
        channel::SEEN => {
            let seen = membership.centre.run_ahead(|centre, _| centre.seen()).await;
            seen.ok()
        }
        channel::JOIN => {
            let answer = membership.answer(from, question, admit).await;
            serde_json::to_vec(&answer).ok()
        }
        _ => None,
    }
}

/// Tells the link who is a member and who was, so that it dials the ones and refuses the others.
pub async fn introduce_members(link: Link, mut members: watch::Receiver<Members>) {
    while members.changed().await.is_ok() {
        let (there, removed) = {
            let members = members.borrow_and_update();
            let there = members
                .iter()
                .map(|member| PeerAddress {
                    number: member.node.number,
                    peer_id: member.node.peer_id.clone(),
                    addresses: member.node.addresses.clone(),
                })
                .collect();
            let removed = members
                .removed()
                .iter()
                .filter_map(|removed| removed.peer_id.clone())
                .collect();
            (there, removed)
        };
        link.set_members(there, removed);
    }
}

/// Before this server goes: waits until what it has accepted is on another core server, and says what is not.
pub async fn hand_over(centre: &Handle, deadline: Instant) {
    loop {
        let Ok(left) = centre.patient(|centre, now| centre.hand_over(&now)).await else {
            return;
        };
        match left {
            None => {
                return tracing::info!("what this server has accepted is on another core server");
            }
            Some(left) if Instant::now() >= deadline => {
                return tracing::warn!(
                    left,
                    "this server goes although not all that it has accepted is on another core server; it is on its own disk"
                );
            }
            Some(_) => tokio::time::sleep(TICK).await,
        }
    }
}
