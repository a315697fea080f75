//! Every bound of the link in one place.

use std::time::Duration;

/// Longest gossip message.
pub const MOST_GOSSIP_BYTES: usize = 256 * 1024;

/// Longest question, and longest answer.
pub const MOST_QUESTION_BYTES: usize = 4 * 1024 * 1024;

/// Longest patience of a question; a longer one is cut to this.
pub const QUESTION_PATIENCE: Duration = Duration::from_secs(30);

/// Questions of one peer on one channel that may be under way here, and of this node at one peer. One
/// channel that stands still leaves the others free.
pub(crate) const MOST_QUESTIONS_PER_CHANNEL: usize = 64;

/// Questions that may be under way here, and of this node at all peers.
pub(crate) const MOST_QUESTIONS: usize = 1024;

/// Bytes of all questions under way here, and of this node's own that are not answered.
pub(crate) const MOST_QUESTION_BYTES_UNDER_WAY: usize = 64 * 1024 * 1024;

/// Bytes of questions and answers of all peers that are being read. Full: a question is answered with
/// "busy", an answer is lost.
pub(crate) const MOST_BYTES_BEING_READ: usize = 64 * 1024 * 1024;

/// Streams of questions and answers on one connection, both directions together: four channels. More:
/// the stream is dropped.
pub(crate) const MOST_STREAMS: usize = 2 * 4 * MOST_QUESTIONS_PER_CHANNEL;

/// Streams of all protocols on one connection.
pub(crate) const MOST_MUXED_STREAMS: usize = 2 * MOST_STREAMS;

/// Bytes that a peer may send on one QUIC connection before they are read.
pub(crate) const QUIC_WINDOW: u32 = 8 * 1024 * 1024;

/// Events that wait for the owner. Full: gossip is dropped, questions are answered with "busy".
pub(crate) const EVENT_QUEUE: usize = 512;

/// Room that reports of refusals leave for the rest.
pub(crate) const EVENT_RESERVE: usize = 128;

/// Ups and Downs that wait for room in the owner's queue. Full: no new peer gets up.
pub(crate) const MOST_OWED: usize = 256;

/// Gossip that waits to be published. Full: [`crate::PublishError::Full`].
pub(crate) const PUBLISH_QUEUE: usize = 256;

/// Questions and reports that wait for the task. Full: the one who asks waits with its patience.
pub(crate) const COMMAND_QUEUE: usize = 256;

/// Messages that wait for one peer inside gossipsub. Full: dropped and counted.
pub(crate) const GOSSIP_QUEUE_PER_PEER: usize = 512;

/// Members up to which each is gossipsub's explicit peer of all others. Forwarding grows with the
/// square of their number; above this the mesh bounds it.
pub(crate) const MOST_EXPLICIT: usize = 7;

/// Connections, established.
pub(crate) const MOST_CONNECTIONS: usize = 64;

/// Connections of one peer: one, and a second while both dial each other or one restarts.
pub(crate) const MOST_CONNECTIONS_PER_PEER: usize = 2;

/// Connections in their handshake that others began, on each transport. Full: refused. Whom this node
/// dials itself is not among them, so members find each other all the same.
pub(crate) const MOST_PENDING: usize = 64;

/// The same from one IP address.
pub(crate) const MOST_PENDING_PER_IP: usize = 16;

/// Time for a handshake.
pub(crate) const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);

/// Time for both Hellos after the handshake.
pub(crate) const HELLO_PATIENCE: Duration = Duration::from_secs(10);

/// Pings: how often, and how long one may take before the peer is cut off.
pub(crate) const PING_EVERY: Duration = Duration::from_secs(5);
/// See [`PING_EVERY`].
pub(crate) const PING_PATIENCE: Duration = Duration::from_secs(10);

/// Time for a polite end of a connection, after which it is just dropped.
pub(crate) const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// Peer ids remembered as proven over TCP, and peer ids with a history of garbage.
pub(crate) const MOST_REMEMBERED: usize = 256;

/// Members, and removed ones, that the owner may name.
pub(crate) const MOST_MEMBERS: usize = 1024;
