//! What faces the AAA servers: identifiers, retransmission, fail-over, and which replies to believe.
//!
//! A question goes to the first server that is not known to be silent, is repeated there unchanged
//! (RFC 2865 section 2.5), then goes to the next, under that server's secret and a Request
//! Authenticator of its own. A reply counts only if it comes from the socket that asked, with the
//! right Response Authenticator and Message-Authenticator (CVE-2024-3596).

mod slots;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::attribute_id::AttributeId;
use crate::attributes::{AttributeError, Attributes};
use crate::authenticator::{
    MessageAuthenticator, Secret, check_message_authenticator, check_response_authenticator,
    sign_request,
};
use crate::packet::{Code, DecodeError, Packet};
use crate::password::{CredentialsError, hide};
use slots::{Slot, Slots};

/// How to treat one AAA server; its address is the shell's business.
#[derive(Clone, Debug)]
pub struct UpstreamServer {
    /// Shared secret.
    pub secret: Secret,
    /// Drop its replies without Message-Authenticator.
    pub require_message_authenticator: bool,
}

/// Timers and bounds.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamLimits {
    /// How long to wait for an answer to one datagram.
    pub timeout: Duration,
    /// How often to send it again to the same server.
    pub retries: u32,
    /// How long a server that did not answer at all is tried last.
    pub hold_down: Duration,
    /// Questions waiting at a time; beyond it [`UpstreamError::Busy`].
    pub in_flight: usize,
    /// Sockets per server; each carries 256 questions.
    pub sockets: u16,
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(2),
            retries: 1,
            hold_down: Duration::from_secs(30),
            in_flight: 1024,
            sockets: 4,
        }
    }
}

/// An Access-Request to be. `tag` comes back with the answer.
#[derive(Clone)]
pub struct Question<T> {
    /// All attributes but User-Password and Message-Authenticator.
    pub attributes: Attributes,
    /// PAP password in clear, to be hidden under each server's secret.
    pub password: Option<Vec<u8>>,
    /// The caller's own.
    pub tag: T,
}

/// What the shell shall do.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect<T> {
    /// Send a datagram.
    Send {
        /// Index of the server.
        server: usize,
        /// Index of the socket towards that server.
        socket: u16,
        /// What to send.
        datagram: Vec<u8>,
    },
    /// The question has ended: Access-Accept, Access-Reject or Access-Challenge.
    Done {
        /// Of the question.
        tag: T,
        /// The believed reply.
        result: Result<Packet, UpstreamError>,
    },
}

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// As many questions as allowed are waiting.
    #[error("too many requests are waiting for the upstream servers")]
    Busy,
    /// No server answered any of the datagrams.
    #[error(
        "no upstream server answered: check radius.upstream.servers, their secrets and the network"
    )]
    NoAnswer,
    /// The request does not fit a packet for upstream.
    #[error("the request does not fit a packet for upstream: {0}")]
    TooLong(#[from] AttributeError),
    /// The password does not fit.
    #[error(transparent)]
    Password(#[from] CredentialsError),
}

/// Why a datagram from an AAA server was dropped; the question keeps waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyDropReason {
    /// Not RADIUS.
    #[error("malformed reply: {0}")]
    Malformed(#[from] DecodeError),
    /// No question waits under this identifier: late, repeated, or forged.
    #[error("no request waits for this reply")]
    Unexpected,
    /// Not an answer to Access-Request.
    #[error("{0} is no answer to Access-Request")]
    UnexpectedCode(Code),
    /// The Response Authenticator is wrong.
    #[error("the Response Authenticator is wrong: compare the secret of this upstream server")]
    BadAuthenticator,
    /// Message-Authenticator is required of this server and absent.
    #[error(
        "the reply has no Message-Authenticator (CVE-2024-3596): update the upstream server, or set \
         require_message_authenticator: false for it"
    )]
    MissingMessageAuthenticator,
    /// Message-Authenticator is wrong.
    #[error(
        "Message-Authenticator of the reply is wrong: compare the secret of this upstream server"
    )]
    BadMessageAuthenticator,
}

impl ReplyDropReason {
    /// All labels, for counters that start at 0.
    pub const LABELS: [&'static str; 6] = [
        "malformed",
        "unexpected",
        "unexpected-code",
        "bad-authenticator",
        "missing-message-authenticator",
        "bad-message-authenticator",
    ];

    /// The label in metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        let [malformed, unexpected, code, authenticator, missing, bad] = Self::LABELS;
        match self {
            Self::Malformed(_) => malformed,
            Self::Unexpected => unexpected,
            Self::UnexpectedCode(_) => code,
            Self::BadAuthenticator => authenticator,
            Self::MissingMessageAuthenticator => missing,
            Self::BadMessageAuthenticator => bad,
        }
    }
}

struct Waiting<T> {
    question: Question<T>,
    authenticator: [u8; 16],
    datagram: Vec<u8>,
    retries_left: u32,
    deadline: Instant,
    /// Servers still to be tried after this one.
    others: VecDeque<usize>,
}

/// The client's side of all questions.
pub struct Upstream<T> {
    servers: Vec<UpstreamServer>,
    /// Until when each server is tried last.
    held_down: Vec<Option<Instant>>,
    limits: UpstreamLimits,
    slots: Slots,
    waiting: BTreeMap<Slot, Waiting<T>>,
    deadlines: BTreeSet<(Instant, Slot)>,
}

impl<T> Upstream<T> {
    /// A client of these servers, tried in this order.
    #[must_use]
    pub fn new(servers: Vec<UpstreamServer>, limits: UpstreamLimits) -> Self {
        Self {
            held_down: vec![None; servers.len()],
            slots: Slots::new(servers.len(), limits.sockets),
            servers,
            limits,
            waiting: BTreeMap::new(),
            deadlines: BTreeSet::new(),
        }
    }

    /// Asks. `random` gives sixteen unpredictable octets at each call.
    pub fn submit(
        &mut self,
        now: Instant,
        question: Question<T>,
        random: &mut dyn FnMut() -> [u8; 16],
    ) -> Effect<T> {
        if self.waiting.len() >= self.limits.in_flight {
            return Effect::Done {
                tag: question.tag,
                result: Err(UpstreamError::Busy),
            };
        }
        let silent = |index: &usize| {
            self.held_down
                .get(*index)
                .copied()
                .flatten()
                .is_some_and(|until| now < until)
        };
        let (last, first): (Vec<_>, Vec<_>) = (0..self.servers.len()).partition(silent);
        self.ask_next(
            now,
            question,
            first.into_iter().chain(last).collect(),
            random,
        )
    }

    /// When to call [`Upstream::tick`] next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Repeats and gives up what is due.
    pub fn tick(&mut self, now: Instant, random: &mut dyn FnMut() -> [u8; 16]) -> Vec<Effect<T>> {
        let mut effects = Vec::new();
        while let Some((deadline, slot)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.deadlines.pop_first();
            let Some(mut waiting) = self.waiting.remove(&slot) else {
                continue;
            };
            if let Some(left) = waiting.retries_left.checked_sub(1) {
                waiting.retries_left = left;
                waiting.deadline = now + self.limits.timeout;
                let datagram = waiting.datagram.clone();
                self.deadlines.insert((waiting.deadline, slot));
                self.waiting.insert(slot, waiting);
                effects.push(Effect::Send {
                    server: slot.server,
                    socket: slot.socket,
                    datagram,
                });
            } else {
                if let Some(held_down) = self.held_down.get_mut(slot.server) {
                    *held_down = Some(now + self.limits.hold_down);
                }
                effects.push(self.ask_next(now, waiting.question, waiting.others, random));
            }
        }
        effects
    }

    /// Judges one datagram that came in on a socket towards a server.
    ///
    /// # Errors
    /// If it is not to be believed.
    pub fn receive(
        &mut self,
        server: usize,
        socket: u16,
        datagram: &[u8],
    ) -> Result<Effect<T>, ReplyDropReason> {
        let reply = Packet::decode(datagram)?;
        let slot = Slot {
            server,
            socket,
            identifier: reply.identifier,
        };
        let waiting = self.waiting.get(&slot).ok_or(ReplyDropReason::Unexpected)?;
        let config = self
            .servers
            .get(server)
            .ok_or(ReplyDropReason::Unexpected)?;
        if ![
            Code::ACCESS_ACCEPT,
            Code::ACCESS_REJECT,
            Code::ACCESS_CHALLENGE,
        ]
        .contains(&reply.code)
        {
            return Err(ReplyDropReason::UnexpectedCode(reply.code));
        }
        let asked = &waiting.authenticator;
        if !check_response_authenticator(&reply, asked, &config.secret) {
            return Err(ReplyDropReason::BadAuthenticator);
        }
        // Required with EAP-Message in any case (RFC 3579 section 3.2).
        let required = config.require_message_authenticator
            || reply.attributes.contains(AttributeId::EAP_MESSAGE);
        match check_message_authenticator(&reply, asked, &config.secret) {
            MessageAuthenticator::Invalid => return Err(ReplyDropReason::BadMessageAuthenticator),
            MessageAuthenticator::Absent if required => {
                return Err(ReplyDropReason::MissingMessageAuthenticator);
            }
            MessageAuthenticator::Valid | MessageAuthenticator::Absent => {}
        }
        let waiting = self
            .waiting
            .remove(&slot)
            .ok_or(ReplyDropReason::Unexpected)?;
        self.deadlines.remove(&(waiting.deadline, slot));
        if let Some(held_down) = self.held_down.get_mut(server) {
            *held_down = None;
        }
        Ok(Effect::Done {
            tag: waiting.question.tag,
            result: Ok(reply),
        })
    }

    /// Questions waiting.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.waiting.len()
    }

    fn ask_next(
        &mut self,
        now: Instant,
        question: Question<T>,
        mut servers: VecDeque<usize>,
        random: &mut dyn FnMut() -> [u8; 16],
    ) -> Effect<T> {
        let done = |tag, error| Effect::Done {
            tag,
            result: Err(error),
        };
        let Some(index) = servers.pop_front() else {
            return done(question.tag, UpstreamError::NoAnswer);
        };
        let waiting = &self.waiting;
        let free = self.slots.next(index, |slot| !waiting.contains_key(slot));
        let (Some(server), Some(slot)) = (self.servers.get(index), free) else {
            return done(question.tag, UpstreamError::Busy);
        };
        let authenticator = random();
        let datagram = match access_request(slot.identifier, authenticator, &question, server) {
            Ok(datagram) => datagram,
            Err(error) => return done(question.tag, error),
        };
        let deadline = now + self.limits.timeout;
        self.deadlines.insert((deadline, slot));
        self.waiting.insert(
            slot,
            Waiting {
                question,
                authenticator,
                datagram: datagram.clone(),
                retries_left: self.limits.retries,
                deadline,
                others: servers,
            },
        );
        Effect::Send {
            server: index,
            socket: slot.socket,
            datagram,
        }
    }
}

fn access_request<T>(
    identifier: u8,
    authenticator: [u8; 16],
    question: &Question<T>,
    server: &UpstreamServer,
) -> Result<Vec<u8>, UpstreamError> {
    let mut attributes = question.attributes.clone();
    if let Some(password) = &question.password {
        let hidden = hide(password, &authenticator, &server.secret)?;
        attributes.push(AttributeId::USER_PASSWORD, &hidden)?;
    }
    let code = Code::ACCESS_REQUEST;
    Ok(sign_request(
        code,
        identifier,
        authenticator,
        &attributes,
        &server.secret,
    )?)
}
