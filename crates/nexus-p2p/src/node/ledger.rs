//! Questions under way, both directions, each with its bounds.

use std::collections::BTreeMap;

use libp2p::PeerId;
use libp2p::request_response::OutboundRequestId;
use tokio::sync::oneshot;

use crate::AskError;
use crate::limits::{MOST_QUESTION_BYTES_UNDER_WAY, MOST_QUESTIONS, MOST_QUESTIONS_PER_CHANNEL};
use crate::questions::Channel;

/// A peer and a channel.
pub(super) type Line = (PeerId, u8);

/// One direction's bounds.
#[derive(Debug, Default)]
struct Load {
    questions: usize,
    bytes: usize,
    by_channel: BTreeMap<Line, usize>,
}

impl Load {
    fn has_room(&self, line: Line, bytes: usize) -> bool {
        let own = self.by_channel.get(&line).copied().unwrap_or_default();
        self.questions < MOST_QUESTIONS
            && self.bytes.saturating_add(bytes) <= MOST_QUESTION_BYTES_UNDER_WAY
            && own < MOST_QUESTIONS_PER_CHANNEL
    }

    fn add(&mut self, line: Line, bytes: usize) {
        self.questions += 1;
        self.bytes += bytes;
        *self.by_channel.entry(line).or_default() += 1;
    }

    fn remove(&mut self, line: Line, bytes: usize) {
        self.questions = self.questions.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(own) = self.by_channel.get_mut(&line) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                self.by_channel.remove(&line);
            }
        }
    }
}

struct Taken {
    line: Line,
    bytes: usize,
    way_back: Channel,
}

/// Who waits for the answer to a question of ours.
pub(crate) type Asker = oneshot::Sender<Result<Vec<u8>, AskError>>;

struct Sent {
    line: Line,
    bytes: usize,
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
    pub(super) fn may_take(&self, line: Line, bytes: usize) -> bool {
        self.taken_load.has_room(line, bytes)
    }

    /// A question for the owner; it counts until the owner has answered it or let it drop, even if
    /// the peer is gone meanwhile.
    pub(super) fn take(&mut self, line: Line, bytes: usize, way_back: Channel) -> u64 {
        self.next += 1;
        self.taken_load.add(line, bytes);
        let taken = Taken {
            line,
            bytes,
            way_back,
        };
        self.taken.insert(self.next, taken);
        self.next
    }

    pub(super) fn answered(&mut self, id: u64) -> Option<Channel> {
        let taken = self.taken.remove(&id)?;
        self.taken_load.remove(taken.line, taken.bytes);
        Some(taken.way_back)
    }

    pub(super) fn may_send(&self, line: Line, bytes: usize) -> bool {
        self.sent_load.has_room(line, bytes)
    }

    pub(super) fn send(&mut self, id: OutboundRequestId, line: Line, bytes: usize, reply: Asker) {
        self.sent_load.add(line, bytes);
        self.sent.insert(id, Sent { line, bytes, reply });
    }

    /// A question of ours ended; returns its channel and where the answer goes.
    pub(super) fn ended(&mut self, id: OutboundRequestId) -> Option<(u8, Asker)> {
        let sent = self.sent.remove(&id)?;
        self.sent_load.remove(sent.line, sent.bytes);
        Some((sent.line.1, sent.reply))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_channel_of_a_peer_cannot_take_the_room_of_others() {
        let (greedy, other) = (PeerId::random(), PeerId::random());
        let mut load = Load::default();
        for _ in 0..MOST_QUESTIONS_PER_CHANNEL {
            assert!(load.has_room((greedy, 1), 10));
            load.add((greedy, 1), 10);
        }
        assert!(!load.has_room((greedy, 1), 10));
        assert!(load.has_room((greedy, 2), 10));
        assert!(load.has_room((other, 1), 10));
        load.remove((greedy, 1), 10);
        assert!(load.has_room((greedy, 1), 10));
    }

    #[test]
    fn questions_and_bytes_are_bounded_over_all_peers() {
        let mut load = Load::default();
        for _ in 0..MOST_QUESTIONS {
            load.add((PeerId::random(), 1), 0);
        }
        assert!(!load.has_room((PeerId::random(), 1), 0));
        let mut load = Load::default();
        let line = (PeerId::random(), 1);
        load.add(line, MOST_QUESTION_BYTES_UNDER_WAY);
        assert!(!load.has_room((PeerId::random(), 1), 1));
        load.remove(line, MOST_QUESTION_BYTES_UNDER_WAY);
        assert!(load.has_room((PeerId::random(), 1), 1));
        assert!(load.by_channel.is_empty());
    }
}
