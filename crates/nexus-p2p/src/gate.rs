//! A gate before a protocol: it knows of no connection until the node says so.
//!
//! libp2p's protocols begin to speak as soon as a connection is there. Here, gossip and questions
//! must wait until both Hellos agree, and must see one connection per peer even while two exist. So
//! the gate keeps all connections to itself. `install` tells the protocol of one, and from then on
//! the other side may open streams, which are taken but not read; `open` lets it read and write.

mod handler;

use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll};

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler,
    THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use handler::{GateHandler, ToGate};

type Inner<B> = <B as NetworkBehaviour>::ConnectionHandler;
type FromInner<B> = <Inner<B> as ConnectionHandler>::FromBehaviour;

/// A protocol behind its gate.
pub(crate) struct Gated<B: NetworkBehaviour> {
    inner: B,
    connections: BTreeMap<ConnectionId, ConnectedPoint>,
    /// The connection of each peer that the protocol knows of.
    installed: BTreeMap<PeerId, ConnectionId>,
    /// What the gate itself has to say; emptied by each poll.
    out: VecDeque<ToSwarm<B::ToSwarm, ToGate<Inner<B>>>>,
}

impl<B> Gated<B>
where
    B: NetworkBehaviour,
    Inner<B>: ConnectionHandler<InboundOpenInfo = ()>,
{
    pub(crate) fn new(inner: B) -> Self {
        Self {
            inner,
            connections: BTreeMap::new(),
            installed: BTreeMap::new(),
            out: VecDeque::new(),
        }
    }

    pub(crate) fn inner(&mut self) -> &mut B {
        &mut self.inner
    }

    /// Tells the protocol of this connection, if it knows of none of this peer. Nothing is read or
    /// sent before [`Gated::open`].
    pub(crate) fn install(&mut self, peer: PeerId, connection: ConnectionId) {
        let Some(endpoint) = self.connections.get(&connection).cloned() else {
            return;
        };
        if self.installed.contains_key(&peer) {
            tracing::error!(%peer, "a second connection at the gate of a protocol");
            return;
        }
        let handler = match &endpoint {
            ConnectedPoint::Dialer {
                address,
                role_override,
                port_use,
            } => self.inner.handle_established_outbound_connection(
                connection,
                peer,
                address,
                *role_override,
                *port_use,
            ),
            ConnectedPoint::Listener {
                local_addr,
                send_back_addr,
            } => self.inner.handle_established_inbound_connection(
                connection,
                peer,
                local_addr,
                send_back_addr,
            ),
        };
        let Ok(handler) = handler else {
            return;
        };
        self.installed.insert(peer, connection);
        self.tell(peer, connection, ToGate::Install(Box::new(handler)));
        self.inner
            .on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id: peer,
                connection_id: connection,
                endpoint: &endpoint,
                failed_addresses: &[],
                other_established: 0,
            }));
    }

    /// Lets the protocol read and write on the connection that was installed.
    pub(crate) fn open(&mut self, peer: PeerId, connection: ConnectionId) {
        if self.installed.get(&peer) == Some(&connection) {
            self.tell(peer, connection, ToGate::Open);
        }
    }

    fn tell(&mut self, peer: PeerId, connection: ConnectionId, event: ToGate<Inner<B>>) {
        self.out.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(connection),
            event,
        });
    }

    fn closed(&mut self, closed: ConnectionClosed<'_>) {
        self.connections.remove(&closed.connection_id);
        if self.installed.get(&closed.peer_id) == Some(&closed.connection_id) {
            self.installed.remove(&closed.peer_id);
            self.inner
                .on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
                    remaining_established: 0,
                    ..closed
                }));
        }
    }

    /// What the protocol tells its handler, to the one handler it has.
    fn passed(
        &self,
        peer: PeerId,
        handler: &NotifyHandler,
        event: FromInner<B>,
    ) -> Option<ToSwarm<B::ToSwarm, ToGate<Inner<B>>>> {
        let connection = *self.installed.get(&peer)?;
        if matches!(handler, NotifyHandler::One(other) if *other != connection) {
            return None;
        }
        Some(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(connection),
            event: ToGate::Inner(event),
        })
    }
}

impl<B> NetworkBehaviour for Gated<B>
where
    B: NetworkBehaviour,
    Inner<B>: ConnectionHandler<InboundOpenInfo = ()>,
{
    type ConnectionHandler = GateHandler<Inner<B>>;
    type ToSwarm = B::ToSwarm;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(GateHandler::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(GateHandler::new())
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                self.connections
                    .insert(established.connection_id, established.endpoint.clone());
            }
            FromSwarm::ConnectionClosed(closed) => self.closed(closed),
            FromSwarm::AddressChange(change) => {
                if let Some(endpoint) = self.connections.get_mut(&change.connection_id) {
                    *endpoint = change.new.clone();
                }
                if self.installed.get(&change.peer_id) == Some(&change.connection_id) {
                    self.inner.on_swarm_event(event);
                }
            }
            // Dials are the node's business, not the protocol's.
            FromSwarm::DialFailure(_) | FromSwarm::ListenFailure(_) => {}
            other => self.inner.on_swarm_event(other),
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        if self.installed.get(&peer) == Some(&connection) {
            self.inner
                .on_connection_handler_event(peer, connection, event);
        }
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            if let Some(own) = self.out.pop_front() {
                return Poll::Ready(own);
            }
            match self.inner.poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(ToSwarm::NotifyHandler {
                    peer_id,
                    handler,
                    event,
                }) => {
                    if let Some(passed) = self.passed(peer_id, &handler, event) {
                        return Poll::Ready(passed);
                    }
                }
                // Only the node dials: it knows the addresses.
                Poll::Ready(ToSwarm::Dial { .. }) => {}
                Poll::Ready(other) => return Poll::Ready(other.map_in(ToGate::Inner)),
            }
        }
    }
}
