//! Questions under way, both directions, each with its bounds.

use std::collections::BTreeMap;

use libp2p::PeerId;
use libp2p::request_response::OutboundRequestId;
use tokio::sync::oneshot;

use crate::AskError;
use crate::limits::{MOST_QUESTION_BYTES_UNDER_WAY, MOST_QUESTIONS, MOST_QUESTIONS_PER_PEER};
use crate::questions::Channel;

/// One direction's bounds.
#[derive(Debug, Default)]
struct Load {
    questions: usize,
    bytes: usize,
    of_peer: BTreeMap<PeerId, usize>,
}

impl Load {
    fn has_room(&self, peer: &PeerId, bytes: usize) -> bool {
        self.questions < MOST_QUESTIONS
            && self.bytes.saturating_add(bytes) <= MOST_QUESTION_BYTES_UNDER_WAY
            && self
                .of_peer
                .get(peer)
                .is_none_or(|own| *own < MOST_QUESTIONS_PER_PEER)
    }

    fn add(&mut self, peer: PeerId, bytes: usize) {
        self.questions += 1;
        self.bytes += bytes;
        *self.of_peer.entry(peer).or_default() += 1;
    }

    fn remove(&mut self, peer: &PeerId, bytes: usize) {
        self.questions = self.questions.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(own) = self.of_peer.get_mut(peer) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                self.of_peer.remove(peer);
            }
        }
    }
}

struct Taken {
    peer: PeerId,
    bytes: usize,
    way_back: Channel,
}

/// Who waits for the answer to a question of ours.
pub(crate) type Asker = oneshot::Sender<Result<Vec<u8>, AskError>>;

struct Sent {
    peer: PeerId,
    bytes: usize,
    channel: u8,
    reply: Asker,
}

/// See the module.
#[derive(Default)]
pub(super) struct Ledger {
    next: u64,
    taken: BTreeMap<u64, Taken>,
    taken_load: Load,
    sent: BTreeMap<OutboundRequestId, Sent>,
    sent_load: Load,
}

impl Ledger {
    pub(super) fn may_take(&self, peer: &PeerId, bytes: usize) -> bool {
        self.taken_load.has_room(peer, bytes)
    }

    /// A question for the owner; it counts until the owner has answered it or let it drop, even if
    /// the peer is gone meanwhile.
    pub(super) fn take(&mut self, peer: PeerId, bytes: usize, way_back: Channel) -> u64 {
        self.next += 1;
        self.taken_load.add(peer, bytes);
        self.taken.insert(
            self.next,
            Taken {
                peer,
                bytes,
                way_back,
            },
        );
        self.next
    }

    pub(super) fn answered(&mut self, id: u64) -> Option<Channel> {
        let taken = self.taken.remove(&id)?;
        self.taken_load.remove(&taken.peer, taken.bytes);
        Some(taken.way_back)
    }

    pub(super) fn may_send(&self, peer: &PeerId, bytes: usize) -> bool {
        self.sent_load.has_room(peer, bytes)
    }

    pub(super) fn send(
        &mut self,
        id: OutboundRequestId,
        peer: PeerId,
        channel: u8,
        bytes: usize,
        reply: Asker,
    ) {
        self.sent_load.add(peer, bytes);
        self.sent.insert(
            id,
            Sent {
                peer,
                bytes,
                channel,
                reply,
            },
        );
    }

    /// A question of ours ended; returns its channel and where the answer goes.
    pub(super) fn ended(&mut self, id: OutboundRequestId) -> Option<(u8, Asker)> {
        let sent = self.sent.remove(&id)?;
        self.sent_load.remove(&sent.peer, sent.bytes);
        Some((sent.channel, sent.reply))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_cannot_take_the_room_of_others() {
        let (greedy, other) = (PeerId::random(), PeerId::random());
        let mut load = Load::default();
        for _ in 0..MOST_QUESTIONS_PER_PEER {
            assert!(load.has_room(&greedy, 10));
            load.add(greedy, 10);
        }
        assert!(!load.has_room(&greedy, 10));
        assert!(load.has_room(&other, 10));
        load.remove(&greedy, 10);
        assert!(load.has_room(&greedy, 10));
    }

    #[test]
    fn questions_and_bytes_are_bounded_over_all_peers() {
        let mut load = Load::default();
        for _ in 0..MOST_QUESTIONS {
            load.add(PeerId::random(), 0);
        }
        assert!(!load.has_room(&PeerId::random(), 0));
        let mut load = Load::default();
        let peer = PeerId::random();
        load.add(peer, MOST_QUESTION_BYTES_UNDER_WAY);
        assert!(!load.has_room(&PeerId::random(), 1));
        load.remove(&peer, MOST_QUESTION_BYTES_UNDER_WAY);
        assert!(load.has_room(&PeerId::random(), 1));
        assert!(load.of_peer.is_empty());
    }
}
