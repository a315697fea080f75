//! The gate to libp2p: who is a peer of this cluster, gossip, questions and answers.
//!
//! ```text
//!              ask, misbehaved, stop (256; full: waits, `misbehaved` is dropped)
//!              publish (256; full: Err(Full), counted)
//!              set_members, set_hello (the latest counts)
//!              answers (1024: one place for each question under way)
//!  [server] -----------------------------------------------------------------> [node: the swarm, the
//!     ^                                                                          table of peers, the
//!     +------------------------------------------------------------------------- dialler]
//!              events (512; full: gossip dropped, questions answered with          |  ^      ^
//!              "busy"; below 128 free: refusals dropped; Up and Down are           |  |      | resolved
//!              kept, bounded by the connections, and go first)                     |  |      | (64; waits)
//!                                                                                  v  |      |
//!                       peers <--TCP, QUIC--> [libp2p: a task per connection]------+--+   [a task per
//!                                                                                          target and round]
//! ```
//!
//! **Who is a peer.** Over TCP, whoever has the cluster's key: it is the prologue of the Noise
//! handshake. Over QUIC, whose peer id is known: members, allowed ones, those that showed the key over
//! TCP before. Removed ones nowhere ([`Options`], `admission.rs`).
//!
//! **When a peer is up.** When both sides accepted each other's Hello: same cluster, a protocol version
//! in common, a number that nobody else has. Before that, no gossip and no question is sent or read:
//! the gates (`gate.rs`) keep both protocols from the connection. One connection per peer is used
//! (`node/peers.rs`).
//!
//! **What is bounded.** Everything, in `limits.rs`.

mod address;
mod admission;
mod counters;
mod dialler;
mod error;
mod event;
mod gate;
mod gossip;
mod greeting;
mod keys;
mod limits;
mod link;
mod network;
mod node;
mod options;
mod questions;
mod transport;
mod wire;

pub use counters::Counters;
pub use error::{AskError, P2pError, PublishError};
pub use event::{Answer, Event, PeerInfo, Reason};
pub use keys::ClusterKey;
pub use limits::{MOST_GOSSIP_BYTES, MOST_QUESTION_BYTES, QUESTION_PATIENCE};
pub use link::Link;
pub use options::{Hello, MOST_EXTRA_BYTES, Options, PeerAddress};
