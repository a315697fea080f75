//! Questions of this node at others, and of others at this one.

use libp2p::PeerId;
use libp2p::request_response::{Message, OutboundFailure};

use super::Node;
use super::ledger::Asker;
use crate::AskError;
use crate::event::{Answer, Event, Reply};
use crate::questions::{self, Channel, Question, Returned, Unread};

impl Node {
    pub(super) fn ask(&mut self, to: u32, channel: u8, bytes: Vec<u8>, reply: Asker) {
        if reply.is_closed() {
            // Its patience ended in the queue.
            return;
        }
        let known = self.peers.all_up().find(|(_, number)| *number == to);
        let Some((peer, _)) = known else {
            self.shared.counters.questions_failed.add();
            let _ = reply.send(Err(AskError::NotConnected(to)));
            return;
        };
        if !self.ledger.may_send((peer, channel), bytes.len()) {
            self.shared.counters.questions_failed.add();
            let _ = reply.send(Err(AskError::Busy));
            return;
        }
        self.shared.counters.questions_asked.add();
        let length = bytes.len();
        let question = Question { channel, bytes };
        let questions = self.swarm.behaviour_mut().questions.inner();
        let id = questions.send_request(&peer, Ok(question));
        self.ledger.send(id, (peer, channel), length, reply);
    }

    pub(super) fn on_question_event(&mut self, event: questions::Event) {
        use libp2p::request_response::Event as Of;
        match event {
            Of::Message { peer, message, .. } => match message {
                Message::Request {
                    request, channel, ..
                } => match request {
                    Ok(question) => self.on_question(peer, question, channel),
                    Err(Unread::TooLong(length)) => {
                        self.garbage(peer, &format!("a question of {length} bytes"));
                    }
                    Err(Unread::NoRoom) => {
                        self.shared.counters.questions_busy.add();
                        self.answer(channel, Returned::Busy);
                    }
                },
                Message::Response {
                    request_id,
                    response,
                } => {
                    if let Some((channel, reply)) = self.ledger.ended(request_id) {
                        let result = match response {
                            Returned::Answer(bytes) => Ok(bytes),
                            Returned::Busy => Err(AskError::PeerBusy),
                            Returned::UnknownChannel => Err(AskError::UnknownChannel(channel)),
                            Returned::Nothing | Returned::Unknown(_) => Err(AskError::Unanswered),
                        };
                        if result.is_err() {
                            self.shared.counters.questions_failed.add();
                        }
                        let _ = reply.send(result);
                    }
                }
            },
            Of::OutboundFailure {
                peer,
                request_id,
                error,
                ..
            } => {
                self.shared.counters.questions_failed.add();
                if let Some((_, reply)) = self.ledger.ended(request_id) {
                    let _ = reply.send(Err(match &error {
                        OutboundFailure::Timeout => AskError::Timeout,
                        _ => AskError::Lost,
                    }));
                }
                if let OutboundFailure::Io(error) = error
                    && error.kind() == std::io::ErrorKind::InvalidData
                {
                    self.garbage(peer, &error.to_string());
                }
            }
            // The owner's answer, if it still comes, goes nowhere.
            Of::InboundFailure { .. } | Of::ResponseSent { .. } => {}
        }
    }

    fn garbage(&mut self, peer: PeerId, what: &str) {
        self.shared.counters.garbage.add();
        self.strike(peer, what);
    }

    fn on_question(&mut self, peer: PeerId, question: Question, way_back: Channel) {
        let number = self.peers.up(&peer).and_then(|one| one.theirs.as_ref());
        let Some(from) = number.map(|(hello, _)| hello.number) else {
            // It was up when it asked.
            return;
        };
        self.arrive(peer);
        let counters = &self.shared.counters;
        let Question { channel, bytes } = question;
        let refusal = if !self.channels.contains(&channel) {
            // Perhaps of a later version, so it is no reason for a ban.
            counters.questions_unknown_channel.add();
            Some((way_back, Returned::UnknownChannel))
        } else if !self.ledger.may_take((peer, channel), bytes.len()) {
            counters.questions_busy.add();
            Some((way_back, Returned::Busy))
        } else {
            let id = self.ledger.take((peer, channel), bytes.len(), way_back);
            let answer = Answer::new(id, self.replies.0.clone());
            let event = Event::Asked {
                from,
                channel,
                bytes,
                answer,
            };
            // An event that is not taken drops its answer here; the reply that this sends finds
            // nothing in the ledger any more.
            self.outbox.try_now(event).and_then(|_| {
                counters.questions_busy.add();
                self.ledger
                    .answered(id)
                    .map(|way_back| (way_back, Returned::Busy))
            })
        };
        match refusal {
            Some((way_back, returned)) => self.answer(way_back, returned),
            None => self.shared.counters.questions_received.add(),
        }
    }

    pub(super) fn on_reply(&mut self, id: u64, reply: Reply) {
        let Some(way_back) = self.ledger.answered(id) else {
            return;
        };
        let returned = match reply {
            Reply::Bytes(bytes) => Returned::Answer(bytes),
            Reply::Busy => {
                self.shared.counters.questions_busy.add();
                Returned::Busy
            }
            Reply::Nothing => {
                self.shared.counters.questions_unanswered.add();
                Returned::Nothing
            }
        };
        self.answer(way_back, returned);
    }

    fn answer(&mut self, way_back: Channel, returned: Returned) {
        let questions = self.swarm.behaviour_mut().questions.inner();
        // Fails if the peer is gone or has no more patience; it knows.
        let _ = questions.send_response(way_back, returned);
    }
}
