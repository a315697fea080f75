//! The first stream of each connection: Hello there, verdict back, in both directions.
//!
//! One Hello each way at a time on a connection; what is said while one is on its way replaces what
//! waits. Which connection of a peer is used, and what is answered, is decided in `node/peers.rs`.

mod handler;

use std::collections::VecDeque;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};

pub(crate) use handler::{Handler, Heard, Say};

/// Exchanges Hellos.
pub(crate) struct Greeting {
    protocol: StreamProtocol,
    out: VecDeque<ToSwarm<Told, Say>>,
}

/// What was heard on which connection.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) peer: PeerId,
    pub(crate) connection: ConnectionId,
    pub(crate) heard: Heard,
}

impl Greeting {
    pub(crate) fn new(protocol: StreamProtocol) -> Self {
        Self {
            protocol,
            out: VecDeque::new(),
        }
    }

    pub(crate) fn tell(&mut self, peer: PeerId, connection: ConnectionId, say: Say) {
        self.out.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(connection),
            event: say,
        });
    }
}

impl NetworkBehaviour for Greeting {
    type ConnectionHandler = Handler;
    type ToSwarm = Told;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(self.protocol.clone()))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(self.protocol.clone()))
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        heard: THandlerOutEvent<Self>,
    ) {
        self.out.push_back(ToSwarm::GenerateEvent(Told {
            peer,
            connection,
            heard,
        }));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Told, THandlerInEvent<Self>>> {
        // Who fills the queue polls the swarm next, so nobody has to be woken.
        self.out.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
