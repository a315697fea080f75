//! What a node says of itself, and how its link to the peers is set up.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use libp2p::PeerId;

use crate::address::{self, Place};
use crate::wire::{MOST_ADDRESS_BYTES, MOST_ADDRESSES};
use crate::{ClusterKey, P2pError};

/// Most opaque bytes in a Hello.
pub const MOST_EXTRA_BYTES: usize = 1024;

/// Longest name of a node.
pub const MOST_NAME_BYTES: usize = 253;

/// Longest role of a node.
pub const MOST_ROLE_BYTES: usize = 32;

/// Most bootstrap addresses, and most allowed peers.
const MOST_CONFIGURED: usize = 256;

/// Longest name of a topic.
const MOST_TOPIC_BYTES: usize = 128;

/// What a node tells each peer before anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The node's number, not 0. It cannot change while the link runs.
    pub number: u32,
    /// The node's name, as in `node.id`.
    pub name: String,
    /// Its role, as in `node.role`.
    pub role: String,
    /// The protocol versions it speaks; both sides use the highest common one.
    pub versions: RangeInclusive<u16>,
    /// At most [`MOST_EXTRA_BYTES`] for the owner's use, such as a writer's REST and gRPC addresses.
    pub extra: Vec<u8>,
}

impl Hello {
    /// # Errors
    /// What is out of its range.
    pub fn check(&self) -> Result<(), P2pError> {
        let fail = |option, what: &str| {
            Err(P2pError::Option {
                option,
                what: what.to_owned(),
            })
        };
        let odd = |text: &str| text.chars().any(char::is_control);
        if self.number == 0 {
            return fail("the node's number", "0 is no number");
        }
        if self.name.is_empty() || self.name.len() > MOST_NAME_BYTES || odd(&self.name) {
            return fail("node.id", "1 to 253 bytes without control characters");
        }
        if self.role.len() > MOST_ROLE_BYTES || odd(&self.role) {
            return fail("node.role", "at most 32 bytes without control characters");
        }
        if self.versions.is_empty() {
            return fail("protocol versions", "the range is empty");
        }
        if self.extra.len() > MOST_EXTRA_BYTES {
            return fail("extra bytes of the Hello", "at most 1024");
        }
        Ok(())
    }
}

/// How the link is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// What this node says of itself.
    pub hello: Hello,
    /// The node's ed25519 key: 64 hexadecimal digits, made with mode 0600 if it is not there.
    pub key_file: PathBuf,
    /// The cluster's key.
    pub cluster_key: ClusterKey,
    /// TCP and UDP (QUIC) on the same port. Port 0: any that is free on both. `[::]` takes both
    /// families.
    pub listen: SocketAddr,
    /// `/ip4|ip6|dns|dns4|dns6/HOST/tcp/PORT[/p2p/ID]` or `.../udp/PORT/quic-v1/p2p/ID`; dialled
    /// for ever. A name may stand for many nodes, this one among them.
    pub bootstrap: Vec<String>,
    /// If not empty, only these peer ids are let in, on both transports.
    pub allowed_peers: Vec<String>,
    /// The gossip topic, as in `clset.topic`. The cluster's fingerprint is put before it.
    pub topic: String,
    /// What peers are told to dial, in the forms of `bootstrap`; empty: the listening addresses.
    pub advertise: Vec<String>,
    /// The channels on which this node takes questions. Others are answered with "unknown".
    pub channels: Vec<u8>,
}

/// A member of the cluster as the owner knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddress {
    /// Its number.
    pub number: u32,
    /// Its peer id.
    pub peer_id: String,
    /// Where it can be dialled; what is not an address is left out and counted.
    pub addresses: Vec<String>,
}

/// Options that were read without an error.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) bootstrap: Vec<Place>,
    pub(crate) allowed: Vec<PeerId>,
    pub(crate) advertise: Vec<String>,
}

impl Options {
    /// Reads all addresses and bounds.
    ///
    /// # Errors
    /// The first thing that is wrong, with its option's name.
    pub(crate) fn checked(&self) -> Result<Checked, P2pError> {
        self.hello.check()?;
        let fail = |option, what: &str| {
            Err(P2pError::Option {
                option,
                what: what.to_owned(),
            })
        };
        if self.topic.is_empty() || self.topic.len() > MOST_TOPIC_BYTES {
            return fail("clset.topic", "1 to 128 bytes");
        }
        if self.bootstrap.len() > MOST_CONFIGURED {
            return fail("p2p.bootstrap", "at most 256 addresses");
        }
        if self.allowed_peers.len() > MOST_CONFIGURED {
            return fail("p2p.allowed_peers", "at most 256 peer ids");
        }
        if self.advertise.len() > MOST_ADDRESSES {
            return fail("p2p.advertise", "at most 16 addresses");
        }
        let bootstrap = self
            .bootstrap
            .iter()
            .map(|text| {
                let place = Place::of_option("p2p.bootstrap", text)?;
                if place.quic && place.peer.is_none() {
                    return Err(P2pError::Address {
                        option: "p2p.bootstrap",
                        given: text.clone(),
                        what: "QUIC has no place for the cluster key, so the address must end in \
                               /p2p/ID; or use /tcp/"
                            .to_owned(),
                    });
                }
                Ok(place)
            })
            .collect::<Result<_, P2pError>>()?;
        let allowed = self
            .allowed_peers
            .iter()
            .map(|text| address::peer_id("p2p.allowed_peers", text))
            .collect::<Result<_, P2pError>>()?;
        for text in &self.advertise {
            Place::of_option("p2p.advertise", text)?;
            if text.len() > MOST_ADDRESS_BYTES {
                return fail("p2p.advertise", "at most 256 bytes for one address");
            }
        }
        Ok(Checked {
            bootstrap,
            allowed,
            advertise: self.advertise.clone(),
        })
    }
}
