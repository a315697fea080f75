//! The rules of admission, without libp2p's machinery around them.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;

use super::Denied;
use super::bans::Bans;
use crate::Reason;
use crate::limits::{MOST_CONNECTIONS, MOST_CONNECTIONS_PER_PEER, MOST_REMEMBERED};

/// Who is known, who is out, and how many there are.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// `p2p.allowed_peers`; empty: all.
    allowed: BTreeSet<PeerId>,
    /// Peer ids that the operator wrote into bootstrap addresses: known over QUIC.
    named: BTreeSet<PeerId>,
    members: BTreeSet<PeerId>,
    removed: BTreeSet<PeerId>,
    /// Peers that have shown the cluster key over TCP, oldest first.
    proven: VecDeque<PeerId>,
    bans: Bans,
    connections: BTreeMap<PeerId, BTreeSet<ConnectionId>>,
    /// Peers that are up: this node needs no second connection to them.
    up: BTreeSet<PeerId>,
}

impl Rules {
    pub(crate) fn new(allowed: Vec<PeerId>, named: Vec<PeerId>) -> Self {
        Self {
            allowed: allowed.into_iter().collect(),
            named: named.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Replaces what the owner knows of members.
    pub(crate) fn set_members(&mut self, members: BTreeSet<PeerId>, removed: BTreeSet<PeerId>) {
        self.members = members;
        self.removed = removed;
        let removed = &self.removed;
        self.proven.retain(|peer| !removed.contains(peer));
    }

    /// A peer finished a TCP handshake and both Hellos.
    pub(crate) fn prove(&mut self, peer: PeerId) {
        self.proven.retain(|other| *other != peer);
        self.proven.push_back(peer);
        if self.proven.len() > MOST_REMEMBERED {
            self.proven.pop_front();
        }
    }

    pub(crate) fn is_removed(&self, peer: &PeerId) -> bool {
        self.removed.contains(peer)
    }

    pub(crate) fn set_up(&mut self, peer: PeerId, is_up: bool) {
        if is_up {
            self.up.insert(peer);
        } else {
            self.up.remove(&peer);
        }
    }

    /// One more fault of a peer; returns for how long it is out.
    pub(crate) fn ban(&mut self, now: Instant, peer: PeerId) -> Duration {
        self.bans.strike(now, peer)
    }

    /// Whether anything of this peer is wanted, a dial or gossip by way of others.
    pub(crate) fn is_welcome(&self, now: Instant, peer: &PeerId) -> Result<(), Denied> {
        self.who(now, peer)
    }

    pub(crate) fn outbound(&self, now: Instant, peer: &PeerId, quic: bool) -> Result<(), Denied> {
        self.who(now, peer)?;
        self.how(peer, quic)?;
        if self.up.contains(peer) {
            return Err(Denied::Duplicate(*peer));
        }
        self.how_many(peer)
    }

    pub(crate) fn inbound(&self, now: Instant, peer: &PeerId, quic: bool) -> Result<(), Denied> {
        self.who(now, peer)?;
        self.how(peer, quic)?;
        self.how_many(peer)
    }

    fn who(&self, now: Instant, peer: &PeerId) -> Result<(), Denied> {
        if self.removed.contains(peer) {
            let what = "this node was removed from the cluster; it needs a new key and `nexusctl \
                        cluster add`";
            return Err(Denied::Refused(Reason::Removed, what));
        }
        if !self.allowed.is_empty() && !self.allowed.contains(peer) {
            let what = "it is not in `p2p.allowed_peers`";
            return Err(Denied::Refused(Reason::NotAllowed, what));
        }
        if self.bans.is_banned(now, peer) {
            let what = "it is banned for a while, because it sent garbage";
            return Err(Denied::Refused(Reason::Banned, what));
        }
        Ok(())
    }

    fn how(&self, peer: &PeerId, quic: bool) -> Result<(), Denied> {
        let known = self.members.contains(peer)
            || self.allowed.contains(peer)
            || self.named.contains(peer)
            || self.proven.contains(peer);
        if quic && !known {
            let what = "QUIC is for members and peers that have proved themselves over TCP";
            return Err(Denied::Refused(Reason::UnknownOverQuic, what));
        }
        Ok(())
    }

    fn how_many(&self, peer: &PeerId) -> Result<(), Denied> {
        let own = self.connections.get(peer).map_or(0, BTreeSet::len);
        if own >= MOST_CONNECTIONS_PER_PEER {
            let what = "it has too many connections to this node";
            return Err(Denied::Refused(Reason::Limit, what));
        }
        let all: usize = self.connections.values().map(BTreeSet::len).sum();
        // Members always find room.
        if all >= MOST_CONNECTIONS && !self.members.contains(peer) {
            let what = "this node has too many connections";
            return Err(Denied::Refused(Reason::Limit, what));
        }
        Ok(())
    }

    pub(crate) fn established(&mut self, peer: PeerId, connection: ConnectionId) {
        self.connections.entry(peer).or_default().insert(connection);
    }

    pub(crate) fn closed(&mut self, peer: &PeerId, connection: ConnectionId) {
        if let Some(own) = self.connections.get_mut(peer) {
            own.remove(&connection);
            if own.is_empty() {
                self.connections.remove(peer);
            }
        }
    }
}
