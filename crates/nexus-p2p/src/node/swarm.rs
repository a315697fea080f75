//! What the swarm reports.

use std::error::Error;
use std::time::Instant;

use libp2p::core::ConnectedPoint;
use libp2p::gossipsub::{self, MessageAcceptance};
use libp2p::swarm::{ConnectionId, DialError, ListenError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, noise, ping};

use super::Node;
use crate::Reason;
use crate::admission::Denied;
use crate::dialler::Outcome;
use crate::event::Event;
use crate::greeting::{Heard, Told};
use crate::network::NetworkEvent;

impl Node {
    pub(super) fn on_swarm(&mut self, event: SwarmEvent<NetworkEvent>) {
        let now = Instant::now();
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => {
                self.shared.counters.connections.add();
                let dialled = endpoint.is_dialer();
                let address = far_end(&endpoint);
                if self.outbox.is_behind() {
                    // The owner does not keep up even with comings and goings: none more comes.
                    self.swarm.close_connection(connection_id);
                } else {
                    let todo =
                        self.peers
                            .established(now, peer_id, connection_id, address, dialled);
                    self.carry_out(todo);
                }
                if let Some((target, address)) = self.dials.remove(&connection_id) {
                    self.dial_ended(target, &address, Outcome::Reached(peer_id));
                }
            }
            SwarmEvent::ConnectionClosed {
                connection_id,
                cause,
                ..
            } => {
                self.shared.counters.disconnections.add();
                let why = cause.map_or_else(|| "closed".to_owned(), |cause| deepest(&cause));
                let todo = self.peers.closed(now, connection_id, &why);
                self.carry_out(todo);
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                peer_id,
                error,
            } => {
                self.on_dial_error(connection_id, peer_id, error);
            }
            SwarmEvent::IncomingConnectionError {
                send_back_addr,
                peer_id,
                error,
                ..
            } => {
                self.on_listen_error(&send_back_addr, peer_id, &error);
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                self.on_listening(&address, true);
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.on_listening(&address, false);
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "a listening socket has trouble");
            }
            SwarmEvent::ListenerClosed {
                addresses, reason, ..
            } => {
                tracing::error!(?addresses, ?reason, "a listening socket is gone");
            }
            _ => {}
        }
    }

    fn on_listening(&mut self, address: &Multiaddr, is_there: bool) {
        if self.shared.listens_at(address, is_there) {
            self.renew_hello();
        }
    }

    fn on_behaviour(&mut self, event: NetworkEvent) {
        match event {
            NetworkEvent::Gossip(event) => self.on_gossip(event),
            NetworkEvent::Questions(event) => self.on_question_event(event),
            NetworkEvent::Greeting(told) => self.on_told(told),
            NetworkEvent::Ping(event) => self.on_ping(&event),
            NetworkEvent::Identify => {}
        }
    }

    fn on_told(
        &mut self,
        Told {
            peer,
            connection,
            heard,
        }: Told,
    ) {
        let now = Instant::now();
        let todo = match heard {
            Heard::Hello(bytes) => self.peers.heard_hello(now, connection, &bytes),
            Heard::Verdict(bytes) => self.peers.heard_verdict(now, connection, &bytes),
            Heard::VerdictSent => {
                self.peers.verdict_sent(now, connection);
                Vec::new()
            }
            Heard::Garbage(what) => self.peers.garbage(connection, &what),
            Heard::Failed(what) => {
                tracing::debug!(%peer, what, "a Hello found no verdict");
                self.peers.failed(connection, &what)
            }
        };
        self.carry_out(todo);
    }

    fn on_ping(&mut self, event: &ping::Event) {
        match &event.result {
            Ok(rtt) => self.shared.set_rtt(&event.peer, *rtt),
            Err(ping::Failure::Unsupported) => {}
            Err(failure) => {
                tracing::debug!(peer = %event.peer, %failure, "no answer to a ping");
                self.shared.counters.unresponsive.add();
                self.swarm.close_connection(event.connection);
            }
        }
    }

    fn on_gossip(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            } => {
                let now = Instant::now();
                let rules = &self.swarm.behaviour().admission.rules;
                let number = message
                    .source
                    .filter(|author| rules.is_welcome(now, author).is_ok())
                    .and_then(|author| self.peers.number_of(&author));
                let acceptance = match number {
                    Some(from) => {
                        if let Some(author) = message.source {
                            self.arrive(author);
                        }
                        let event = Event::Gossip {
                            from,
                            bytes: message.data,
                        };
                        if self.outbox.try_now(event).is_some() {
                            self.shared.counters.gossip_dropped.add();
                        } else {
                            self.shared.counters.gossip_received.add();
                        }
                        // What found no room here may find some elsewhere.
                        MessageAcceptance::Accept
                    }
                    None => {
                        self.shared.counters.gossip_of_strangers.add();
                        MessageAcceptance::Ignore
                    }
                };
                let gossip = self.swarm.behaviour_mut().gossip.inner();
                gossip.report_message_validation_result(
                    &message_id,
                    &propagation_source,
                    acceptance,
                );
            }
            gossipsub::Event::Subscribed { peer_id, .. } => self.arrive(peer_id),
            gossipsub::Event::SlowPeer {
                peer_id,
                failed_messages,
            } => {
                let missed = failed_messages
                    .priority
                    .saturating_add(failed_messages.non_priority);
                tracing::debug!(peer = %peer_id, missed, "a peer is too slow for the gossip");
                self.shared
                    .counters
                    .gossip_undelivered
                    .add_many(missed as u64);
            }
            _ => {}
        }
    }

    pub(super) fn on_dial_error(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        error: DialError,
    ) {
        let Some((target, address)) = self.dials.remove(&id) else {
            return;
        };
        let counters = &self.shared.counters;
        let outcome = match &error {
            // The swarm leaves out its own listening addresses, so that none is left.
            DialError::LocalPeerId { .. } | DialError::NoAddresses => {
                counters.dials_to_self.add();
                Outcome::Myself
            }
            DialError::Denied { cause } => match cause.downcast_ref::<Denied>() {
                Some(Denied::Duplicate(peer)) => {
                    counters.duplicate_connections.add();
                    Outcome::Reached(*peer)
                }
                Some(Denied::Refused(reason, why)) => {
                    let (reason, why) = (*reason, (*why).to_owned());
                    self.refused(peer, address.to_string(), reason, why);
                    Outcome::Failed
                }
                None => Outcome::Failed,
            },
            DialError::DialPeerConditionFalse(_) => match peer {
                Some(peer) => Outcome::Reached(peer),
                None => Outcome::Failed,
            },
            DialError::Transport(errors) if errors.iter().any(|(_, error)| is_handshake(error)) => {
                let why = "no handshake: another cluster's key there, or no nexus-server";
                self.refused(peer, address.to_string(), Reason::Handshake, why.to_owned());
                Outcome::Failed
            }
            _ => Outcome::Failed,
        };
        if outcome == Outcome::Failed {
            self.shared.counters.dials_failed.add();
            tracing::debug!(%address, %error, "a dial failed");
        }
        self.dial_ended(target, &address, outcome);
    }

    fn on_listen_error(&mut self, from: &Multiaddr, peer: Option<PeerId>, error: &ListenError) {
        let (reason, why) = match error {
            ListenError::Denied { cause } => match cause.downcast_ref::<Denied>() {
                Some(Denied::Refused(reason, why)) => (*reason, (*why).to_owned()),
                _ => return,
            },
            // This node has met itself.
            ListenError::LocalPeerId { .. } => return,
            other => (
                Reason::Handshake,
                format!(
                    "no handshake (another cluster's key, or no libp2p): {}",
                    deepest(other)
                ),
            ),
        };
        self.refused(peer, from.to_string(), reason, why);
    }
}

fn far_end(endpoint: &ConnectedPoint) -> Multiaddr {
    match endpoint {
        ConnectedPoint::Dialer { address, .. } => address.clone(),
        ConnectedPoint::Listener { send_back_addr, .. } => send_back_addr.clone(),
    }
}

/// The innermost of an error's causes, which is the one that says something.
fn deepest(error: &(dyn Error + 'static)) -> String {
    let mut at = error;
    while let Some(next) = at.source() {
        at = next;
    }
    at.to_string()
}

/// Whether somebody was there, but the handshake failed.
fn is_handshake(error: &(dyn Error + 'static)) -> bool {
    let mut at = Some(error);
    while let Some(error) = at {
        let inner = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
            .is_some_and(|inner| is_handshake(inner));
        if inner || error.is::<noise::Error>() {
            return true;
        }
        at = error.source();
    }
    false
}
