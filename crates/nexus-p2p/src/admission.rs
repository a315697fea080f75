//! Who may have a connection, decided before anything is said on it.
//!
//! Over TCP the Noise prologue has proved the cluster key by the time a peer id is known. QUIC has no
//! place for it, so there the peer id itself must be known. The rules are in [`rules`]; this is the
//! behaviour through which libp2p asks.

mod bans;
pub(crate) mod rules;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::task::{Context, Poll};
use std::time::Instant;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

use crate::Reason;
use crate::address::{ip_of, is_quic};
use crate::limits::{MOST_PENDING, MOST_PENDING_PER_IP};
use rules::Rules;

/// Why a connection was denied; found again in libp2p's errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    #[error("{1}")]
    Refused(Reason, &'static str),
    /// There is one already, and this node dialled the second.
    #[error("already connected to {0}")]
    Duplicate(PeerId),
}

/// The behaviour.
pub(crate) struct Admission {
    pub(crate) rules: Rules,
    /// Where the connections in their handshake come from, and whether over QUIC.
    pending: BTreeMap<ConnectionId, (Option<IpAddr>, bool)>,
}

impl Admission {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            pending: BTreeMap::new(),
        }
    }

    /// Each transport has its own bound, because the sender of a UDP packet can be forged.
    fn pending_fits(&self, ip: Option<IpAddr>, quic: bool) -> bool {
        let same = self.pending.values().filter(|other| other.1 == quic);
        let (all, of_ip) = same.fold((0, 0), |(all, of_ip), other| {
            (all + 1, of_ip + usize::from(other.0 == ip))
        });
        all < MOST_PENDING && of_ip < MOST_PENDING_PER_IP
    }
}

impl NetworkBehaviour for Admission {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = std::convert::Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let (ip, quic) = (ip_of(remote), is_quic(remote));
        if !self.pending_fits(ip, quic) {
            let what = "too many connections are in their handshake";
            return Err(ConnectionDenied::new(Denied::Refused(Reason::Limit, what)));
        }
        self.pending.insert(connection, (ip, quic));
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending.remove(&connection);
        self.rules
            .inbound(Instant::now(), &peer, is_quic(remote))
            .map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if let Some(peer) = peer {
            self.rules
                .is_welcome(Instant::now(), &peer)
                .map_err(ConnectionDenied::new)?;
        }
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.rules
            .outbound(Instant::now(), &peer, is_quic(address))
            .map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                self.rules.established(event.peer_id, event.connection_id);
            }
            FromSwarm::ConnectionClosed(event) => {
                self.rules.closed(&event.peer_id, event.connection_id);
            }
            FromSwarm::ListenFailure(event) => {
                self.pending.remove(&event.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}
