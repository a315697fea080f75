//! Carries out what the dialler decides, and tells it how it went.

use std::time::Instant;

use libp2p::swarm::dial_opts::DialOpts;
use libp2p::{Multiaddr, PeerId};

use super::{Node, Resolved};
use crate::address::Place;
use crate::dialler::{self, Outcome, Target};
use crate::link::Shared;

impl Node {
    pub(super) fn dial(&mut self, todo: Vec<dialler::Do>) {
        for one in todo {
            match one {
                dialler::Do::Resolve { target, places } => {
                    let to = self.resolved.0.clone();
                    let shared = self.shared.clone();
                    tokio::spawn(async move {
                        let _ = to.send(resolve(target, places, &shared).await).await;
                    });
                }
                dialler::Do::Dial {
                    target,
                    peer,
                    address,
                } => self.dial_one(target, peer, address),
            }
        }
    }

    fn dial_one(&mut self, target: Target, peer: Option<PeerId>, address: Multiaddr) {
        let options = match peer {
            Some(peer) => DialOpts::peer_id(peer)
                .addresses(vec![address.clone()])
                .allocate_new_port()
                .build(),
            None => DialOpts::unknown_peer_id()
                .address(address.clone())
                .allocate_new_port()
                .build(),
        };
        let id = options.connection_id();
        self.shared.counters.dials.add();
        self.dials.insert(id, (target, address.clone()));
        if let Err(error) = self.swarm.dial(options) {
            self.on_dial_error(id, peer, error);
        }
    }

    pub(super) fn dial_ended(&mut self, target: Target, address: &Multiaddr, outcome: Outcome) {
        let connected = self.connected();
        let now = Instant::now();
        let todo = self
            .dialler
            .ended(now, target, address, outcome, &connected, rand::random());
        self.dial(todo);
    }

    pub(super) fn on_resolved(&mut self, (target, found, is_whole): Resolved) {
        let connected = self.connected();
        let now = Instant::now();
        let todo = self
            .dialler
            .resolved(now, target, found, is_whole, &connected, rand::random());
        self.dial(todo);
    }
}

async fn resolve(target: Target, places: Vec<Place>, shared: &Shared) -> Resolved {
    let mut found = Vec::new();
    let mut is_whole = true;
    for place in places {
        match place.resolve().await {
            Ok(addresses) => {
                found.extend(addresses.into_iter().map(|address| (place.peer, address)));
            }
            Err(what) => {
                shared.counters.names_unresolved.add();
                tracing::debug!(what, "a name is not resolved");
                is_whole = false;
            }
        }
    }
    (target, found, is_whole)
}
