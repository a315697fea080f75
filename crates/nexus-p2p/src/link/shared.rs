//! What the handle reads without asking the task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use crate::PeerInfo;
use crate::address::ip_of;
use crate::counters::Counting;
use crate::transport::{Traffic, TrafficTable};
use crate::wire::MOST_ADDRESSES;

/// See the module.
pub(crate) struct Shared {
    own: PeerId,
    pub(crate) peer_id: String,
    pub(crate) counters: Counting,
    traffic: TrafficTable,
    advertise: Vec<String>,
    /// Loopback addresses are told only if nothing else is listened on.
    listening: Mutex<BTreeSet<Multiaddr>>,
    peers: Mutex<BTreeMap<PeerId, (PeerInfo, Arc<Traffic>)>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(own: PeerId, traffic: TrafficTable, advertise: Vec<String>) -> Self {
        Self {
            own,
            peer_id: own.to_base58(),
            counters: Counting::default(),
            traffic,
            advertise,
            listening: Mutex::default(),
            peers: Mutex::default(),
        }
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        let suffix = format!("/p2p/{}", self.peer_id);
        if !self.advertise.is_empty() {
            let whole = self.advertise.iter().map(|text| {
                if text.contains("/p2p/") {
                    text.clone()
                } else {
                    format!("{text}{suffix}")
                }
            });
            return whole.collect();
        }
        let listening = locked(&self.listening);
        let is_near = |address: &Multiaddr| ip_of(address).is_some_and(|ip| ip.is_loopback());
        let is_all_near = listening.iter().all(is_near);
        listening
            .iter()
            .filter(|address| is_all_near || !is_near(address))
            .take(MOST_ADDRESSES)
            .map(|address| address.clone().with(Protocol::P2p(self.own)).to_string())
            .collect()
    }

    /// Returns whether that changed anything.
    pub(crate) fn listens_at(&self, address: &Multiaddr, is_there: bool) -> bool {
        let mut listening = locked(&self.listening);
        if is_there {
            listening.insert(address.clone())
        } else {
            listening.remove(address)
        }
    }

    pub(crate) fn add_peer(&self, peer: PeerId, info: PeerInfo) {
        let traffic = self.traffic.of(peer);
        locked(&self.peers).insert(peer, (info, traffic));
    }

    /// The peer says something new of itself; the rest stays.
    pub(crate) fn change_peer(&self, peer: PeerId, info: PeerInfo) -> PeerInfo {
        let mut peers = locked(&self.peers);
        match peers.get_mut(&peer) {
            Some((old, _)) => {
                *old = PeerInfo {
                    connected_since: old.connected_since,
                    rtt: old.rtt,
                    ..info
                };
                old.clone()
            }
            None => info,
        }
    }

    pub(crate) fn remove_peer(&self, peer: &PeerId) {
        locked(&self.peers).remove(peer);
    }

    pub(crate) fn clear_peers(&self) {
        locked(&self.peers).clear();
    }

    pub(crate) fn set_rtt(&self, peer: &PeerId, rtt: Duration) {
        if let Some((info, _)) = locked(&self.peers).get_mut(peer) {
            info.rtt = Some(rtt);
        }
    }

    pub(crate) fn peers(&self) -> Vec<PeerInfo> {
        let mut peers: Vec<PeerInfo> = locked(&self.peers)
            .values()
            .map(|(info, traffic)| {
                let (bytes_in, bytes_out) = traffic.so_far();
                PeerInfo {
                    bytes_in,
                    bytes_out,
                    ..info.clone()
                }
            })
            .collect();
        peers.sort_by_key(|peer| peer.number);
        peers
    }
}
