//! Comings and goings, as the owner hears of them.
//!
//! A peer is told as up when gossip reaches it, so that what is published after the event does. That
//! takes one way of a message; if it takes longer than [`ARRIVAL`], the event comes without it.

use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;

use super::Node;
use crate::address::is_quic;
use crate::event::{Event, PeerInfo};

/// How long the event waits for the gossip.
const ARRIVAL: Duration = Duration::from_secs(1);

impl Node {
    pub(super) fn on_up(&mut self, peer: PeerId, id: ConnectionId) {
        let over_tcp = self
            .peers
            .connection(id)
            .is_some_and(|one| !is_quic(&one.address));
        let rules = &mut self.swarm.behaviour_mut().admission.rules;
        rules.set_up(peer, true);
        if over_tcp {
            rules.prove(peer);
        }
        self.dialler.up(&peer);
        self.arriving.insert(peer, (id, Instant::now() + ARRIVAL));
    }

    /// Gossip reaches the peer, or it has spoken already.
    pub(super) fn arrive(&mut self, peer: PeerId) {
        if let Some((id, _)) = self.arriving.remove(&peer)
            && let Some(info) = self.info(id)
        {
            self.shared.add_peer(peer, info.clone());
            self.outbox.owe(Event::Up(info));
        }
    }

    pub(super) fn arrive_late(&mut self, now: Instant) {
        let late: Vec<PeerId> = self
            .arriving
            .iter()
            .filter(|(_, (_, latest))| *latest <= now)
            .map(|(peer, _)| *peer)
            .collect();
        for peer in late {
            self.arrive(peer);
        }
    }

    pub(super) fn on_changed(&mut self, peer: PeerId, id: ConnectionId) {
        if self.arriving.contains_key(&peer) {
            // The owner hears the latest when it hears of the peer.
            return;
        }
        if let Some(info) = self.info(id) {
            let info = self.shared.change_peer(peer, info);
            self.outbox.owe(Event::Changed(info));
        }
    }

    pub(super) fn on_down(&mut self, peer: PeerId, number: u32, why: String) {
        let rules = &mut self.swarm.behaviour_mut().admission.rules;
        rules.set_up(peer, false);
        self.dialler.down(Instant::now(), &peer, rand::random());
        if self.arriving.remove(&peer).is_some() {
            return;
        }
        self.shared.remove_peer(&peer);
        let peer_id = peer.to_base58();
        self.outbox.owe(Event::Down {
            number,
            peer_id,
            why,
        });
    }

    /// What is told of a peer; RTT and bytes are filled in when it is read.
    fn info(&self, id: ConnectionId) -> Option<PeerInfo> {
        let connection = self.peers.connection(id)?;
        let (hello, version) = connection.theirs.as_ref()?;
        Some(PeerInfo {
            number: hello.number,
            name: hello.name.clone(),
            role: hello.role.clone(),
            peer_id: connection.peer.to_base58(),
            address: connection.address.to_string(),
            dialled: connection.dialled,
            addresses: hello.addresses.clone(),
            version: *version,
            versions: hello.versions(),
            build: hello.build.clone(),
            extra: hello.extra(),
            connected_since: std::time::SystemTime::now(),
            rtt: None,
            bytes_in: 0,
            bytes_out: 0,
        })
    }
}
