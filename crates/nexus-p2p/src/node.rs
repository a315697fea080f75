//! The one task that owns the swarm.

mod dials;
mod events;
mod ledger;
pub(crate) mod peers;
mod presence;
mod questions;
mod swarm;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId, Swarm};
use tokio::sync::{mpsc, oneshot, watch};

use crate::Reason;
use crate::address::Place;
use crate::dialler::{Dialler, Target};
use crate::event::{Event, Reply};
use crate::greeting::Say;
use crate::limits::{MOST_EXPLICIT, MOST_MEMBERS, MOST_QUESTIONS};
use crate::link::Shared;
use crate::network::Network;
use crate::options::{Hello, PeerAddress};
use crate::wire::WireHello;
use events::Outbox;
use ledger::{Asker, Ledger};
use peers::{Do, Peers};

/// How often pauses and deadlines are looked at.
const TICK: Duration = Duration::from_millis(100);

/// How long the end may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the link asks of the task.
pub(crate) enum Command {
    Ask {
        to: u32,
        channel: u8,
        bytes: Vec<u8>,
        reply: Asker,
    },
    Misbehaved {
        peer: u32,
        what: String,
    },
    Stop {
        done: oneshot::Sender<()>,
    },
}

/// The members as the owner told them last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(crate) members: Vec<PeerAddress>,
    pub(crate) removed: Vec<String>,
}

/// Both ends of a channel: the task gives away clones of the first.
type Both<T> = (mpsc::Sender<T>, mpsc::Receiver<T>);

type Resolved = (Target, Vec<(Option<PeerId>, Multiaddr)>, bool);

/// What the task gets from outside.
pub(crate) struct Inputs {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) gossip: mpsc::Receiver<Vec<u8>>,
    pub(crate) members: watch::Receiver<Membership>,
    pub(crate) hello: watch::Receiver<Hello>,
}

/// See the module.
pub(crate) struct Node {
    swarm: Swarm<Network>,
    topic: libp2p::gossipsub::IdentTopic,
    channels: BTreeSet<u8>,
    peers: Peers,
    dialler: Dialler,
    dials: BTreeMap<ConnectionId, (Target, Multiaddr)>,
    ledger: Ledger,
    outbox: Outbox,
    shared: Arc<Shared>,
    hello: Hello,
    boot: u64,
    members: BTreeSet<PeerId>,
    explicit: BTreeSet<PeerId>,
    /// Peers that are up, of which the owner hears when gossip reaches them, or at this time.
    arriving: BTreeMap<PeerId, (ConnectionId, Instant)>,
    replies: Both<(u64, Reply)>,
    resolved: Both<Resolved>,
}

impl Node {
    pub(crate) fn new(
        swarm: Swarm<Network>,
        topic: libp2p::gossipsub::IdentTopic,
        options: &crate::Options,
        bootstrap: Vec<Place>,
        shared: Arc<Shared>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let boot = rand::random();
        let cluster = options.cluster_key.fingerprint();
        let own = WireHello::new(&options.hello, &cluster, boot, &shared.addresses());
        let own_peer = *swarm.local_peer_id();
        Self {
            swarm,
            topic,
            channels: options.channels.iter().copied().collect(),
            peers: Peers::new(own_peer, own),
            dialler: Dialler::new(Instant::now(), bootstrap),
            dials: BTreeMap::new(),
            ledger: Ledger::default(),
            outbox: Outbox::new(events, shared.clone()),
            shared,
            hello: options.hello.clone(),
            boot,
            members: BTreeSet::new(),
            explicit: BTreeSet::new(),
            arriving: BTreeMap::new(),
            replies: mpsc::channel(MOST_QUESTIONS),
            // One answer of the resolver per target under way; the resolving tasks wait.
            resolved: mpsc::channel(64),
        }
    }

    /// Runs until it is told to stop, or every link is gone.
    pub(crate) async fn run(mut self, mut inputs: Inputs) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let done = loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_swarm(event),
                command = inputs.commands.recv() => match command {
                    Some(Command::Stop { done }) => break Some(done),
                    Some(command) => self.on_command(command),
                    None => break None,
                },
                Some(bytes) = inputs.gossip.recv() => self.publish(bytes),
                Some((id, reply)) = self.replies.1.recv() => self.on_reply(id, reply),
                Some(resolved) = self.resolved.1.recv() => self.on_resolved(resolved),
                Ok(()) = inputs.members.changed() => {
                    let members = inputs.members.borrow_and_update().clone();
                    self.on_members(&members);
                }
                Ok(()) = inputs.hello.changed() => {
                    self.hello = inputs.hello.borrow_and_update().clone();
                    self.renew_hello();
                }
                () = self.outbox.deliver() => {}
                _ = tick.tick() => self.on_tick(),
            }
        };
        self.farewell().await;
        // Whoever waits finds the port free.
        drop(self);
        if let Some(done) = done {
            let _ = done.send(());
        }
    }

    async fn farewell(&mut self) {
        let peers: BTreeSet<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let gone = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        let _ = tokio::time::timeout(FAREWELL, gone).await;
        self.shared.clear_peers();
    }

    fn on_tick(&mut self) {
        let now = Instant::now();
        let todo = self.peers.tick(now);
        self.carry_out(todo);
        self.arrive_late(now);
        let connected = self.connected();
        let todo = self.dialler.due(now, &connected);
        self.dial(todo);
    }

    fn connected(&self) -> BTreeSet<PeerId> {
        self.peers.all_up().map(|(peer, _)| peer).collect()
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Ask {
                to,
                channel,
                bytes,
                reply,
            } => self.ask(to, channel, bytes, reply),
            Command::Misbehaved { peer, what } => {
                self.shared.counters.misbehaved.add();
                if let Some(peer) = self.peers.peer_of(peer) {
                    self.strike(peer, &what);
                }
            }
            Command::Stop { .. } => {}
        }
    }

    fn publish(&mut self, bytes: Vec<u8>) {
        use libp2p::gossipsub::PublishError;
        let counters = &self.shared.counters;
        let gossip = self.swarm.behaviour_mut().gossip.inner();
        match gossip.publish(self.topic.hash(), bytes) {
            Ok(_) => counters.gossip_published.add(),
            Err(PublishError::NoPeersSubscribedToTopic) => counters.gossip_unheard.add(),
            Err(PublishError::Duplicate) => counters.gossip_repeated.add(),
            Err(PublishError::AllQueuesFull(_)) => counters.gossip_overflowed.add(),
            Err(error) => {
                counters.gossip_refused.add();
                tracing::error!(%error, "gossip could not be published");
            }
        }
    }

    fn renew_hello(&mut self) {
        let cluster = self.peers.own().cluster.clone();
        let own = WireHello::new(&self.hello, &cluster, self.boot, &self.shared.addresses());
        let todo = self.peers.set_own(own);
        self.carry_out(todo);
    }

    fn on_members(&mut self, membership: &Membership) {
        let now = Instant::now();
        let counters = &self.shared.counters;
        let own = *self.swarm.local_peer_id();
        let mut targets = BTreeMap::new();
        let mut numbers = BTreeMap::new();
        for member in membership.members.iter().take(MOST_MEMBERS) {
            let Ok(peer) = member.peer_id.parse::<PeerId>() else {
                counters.addresses_ignored.add();
                continue;
            };
            numbers.insert(member.number, peer);
            if peer == own {
                continue;
            }
            let places: Vec<Place> = member
                .addresses
                .iter()
                .take(crate::wire::MOST_ADDRESSES)
                .filter_map(|text| match Place::parse(text) {
                    Ok(place) if place.peer.is_none_or(|there| there == peer) => Some(place),
                    _ => {
                        counters.addresses_ignored.add();
                        None
                    }
                })
                .collect();
            targets.insert(peer, places);
        }
        let removed: BTreeSet<PeerId> = membership
            .removed
            .iter()
            .take(MOST_MEMBERS)
            .filter_map(|text| text.parse().ok())
            .collect();
        self.members = targets.keys().copied().collect();
        self.peers.set_numbers(numbers);
        self.dialler.set_members(now, targets);
        let rules = &mut self.swarm.behaviour_mut().admission.rules;
        rules.set_members(self.members.clone(), removed);
        let out: BTreeSet<PeerId> = self
            .peers
            .peers()
            .filter(|peer| rules.is_removed(peer))
            .collect();
        for peer in out {
            self.cut_off(peer, Reason::Removed, "it was removed from the cluster");
        }
        self.set_explicit();
    }

    /// Members are explicit peers of gossipsub, as long as they are few.
    fn set_explicit(&mut self) {
        let wanted = if self.members.len() <= MOST_EXPLICIT {
            self.members.clone()
        } else {
            BTreeSet::new()
        };
        let gossip = self.swarm.behaviour_mut().gossip.inner();
        for peer in self.explicit.difference(&wanted) {
            gossip.remove_explicit_peer(peer);
        }
        for peer in wanted.difference(&self.explicit) {
            gossip.add_explicit_peer(peer);
        }
        self.explicit = wanted;
    }

    fn cut_off(&mut self, peer: PeerId, reason: Reason, why: &str) {
        let address = self.peers.up(&peer).map(|one| one.address.to_string());
        self.refused(
            Some(peer),
            address.unwrap_or_default(),
            reason,
            why.to_owned(),
        );
        let _ = self.swarm.disconnect_peer_id(peer);
    }

    fn strike(&mut self, peer: PeerId, what: &str) {
        let now = Instant::now();
        let time = self.swarm.behaviour_mut().admission.rules.ban(now, peer);
        self.shared.counters.bans.add();
        tracing::warn!(%peer, ban_secs = time.as_secs(), what, "a peer misbehaved: cut off and banned");
        let _ = self.swarm.disconnect_peer_id(peer);
    }

    fn refused(&mut self, peer: Option<PeerId>, address: String, reason: Reason, why: String) {
        self.shared.counters.refused(reason);
        // Conflicts of numbers and versions need an operator; the rest may be anybody's noise.
        if matches!(
            reason,
            Reason::OwnNumber | Reason::NumberTaken | Reason::Version
        ) {
            tracing::error!(?peer, address, why, "a peer is refused");
        } else {
            tracing::debug!(?peer, address, %reason, why, "refused");
        }
        let peer_id = peer.map(|peer| peer.to_base58());
        self.outbox.refused(Event::Refused {
            peer_id,
            address,
            reason,
            why,
        });
    }

    /// Carries out what the table of peers decided, in order.
    fn carry_out(&mut self, todo: Vec<Do>) {
        for one in todo {
            match one {
                Do::Greet(peer, id) => {
                    let hello = Say::Hello(self.peers.own().encode());
                    self.swarm.behaviour_mut().greeting.tell(peer, id, hello);
                }
                Do::Answer(peer, id, verdict) => {
                    let verdict = Say::Verdict(verdict.encode());
                    self.swarm.behaviour_mut().greeting.tell(peer, id, verdict);
                }
                // The gates are asked before the greeting whenever the swarm is polled, so they are
                // installed before the verdict leaves.
                Do::Install(peer, id) => {
                    let network = self.swarm.behaviour_mut();
                    network.gossip.install(peer, id);
                    network.questions.install(peer, id);
                }
                Do::Open(peer, id) => {
                    let network = self.swarm.behaviour_mut();
                    network.gossip.open(peer, id);
                    network.questions.open(peer, id);
                }
                Do::Close(_, id) => {
                    self.swarm.close_connection(id);
                }
                Do::Up(peer, id) => self.on_up(peer, id),
                Do::Changed(peer, id) => self.on_changed(peer, id),
                Do::Down { peer, number, why } => self.on_down(peer, number, why),
                Do::Refused {
                    peer,
                    address,
                    reason,
                    why,
                } => {
                    if reason == Reason::Garbage {
                        self.shared.counters.garbage.add();
                    }
                    self.refused(Some(peer), address.to_string(), reason, why);
                }
                Do::Strike(peer, what) => self.strike(peer, &what),
                Do::Duplicate => self.shared.counters.duplicate_connections.add(),
            }
        }
    }
}
