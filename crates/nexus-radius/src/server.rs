//! What faces a NAS: who may ask, what is a repetition, and the reply to each question.
//!
//! A datagram passes, in this order: known client, well formed, a code that we serve,
//! Message-Authenticator, not a repetition, room for one more. What fails is dropped with a
//! [`DropReason`], never answered (RFC 2865 section 3, RFC 5080 section 2.2).

mod clients;
mod exchanges;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub use clients::{Client, ClientTable};

use crate::attribute_id::AttributeId;
use crate::attributes::{AttributeError, Attributes};
use crate::authenticator::{MessageAuthenticator, check_message_authenticator, sign_reply};
use crate::packet::{Code, DecodeError, Packet};
use crate::password::{Credentials, CredentialsError};
use exchanges::{Exchanges, Found};

/// Bounds on what the server remembers.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests being worked on at a time; beyond it new ones are dropped and the NAS asks again.
    pub in_flight: usize,
    /// Replies kept for repetitions; beyond it the oldest is forgotten.
    pub cached_replies: usize,
    /// How long a reply is kept.
    pub reply_lifetime: Duration,
    /// How long a request may be worked on before it is forgotten.
    pub work_lifetime: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight: 1024,
            cached_replies: 16_384,
            reply_lifetime: Duration::from_secs(10),
            work_lifetime: Duration::from_secs(60),
        }
    }
}

/// What makes two datagrams the same question (RFC 5080 section 2.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExchangeKey {
    /// Source address and port.
    pub from: SocketAddr,
    /// Identifier octet.
    pub identifier: u8,
    /// Request Authenticator.
    pub authenticator: [u8; 16],
}

/// Why a datagram was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DropReason {
    /// No client has this source address.
    #[error("no client is configured for this address: add it under radius.clients")]
    UnknownClient,
    /// Not RADIUS.
    #[error("malformed packet: {0}")]
    Malformed(#[from] DecodeError),
    /// A code that is not served on this port.
    #[error("{0} is not served on this port, only Access-Request and Status-Server")]
    UnexpectedCode(Code),
    /// Message-Authenticator is required of this client and absent.
    #[error(
        "the request has no Message-Authenticator (CVE-2024-3596): switch it on at the NAS, or set \
         require_message_authenticator: false for this client"
    )]
    MissingMessageAuthenticator,
    /// Message-Authenticator is wrong: the secrets differ, or somebody forges.
    #[error("Message-Authenticator is wrong: compare the shared secret of the NAS with ours")]
    BadMessageAuthenticator,
    /// The client need not send Message-Authenticator, but this request has Proxy-State without it,
    /// which is the shape of the attack of CVE-2024-3596.
    #[error("the request has Proxy-State but no Message-Authenticator (CVE-2024-3596)")]
    UnprotectedProxyState,
    /// The same request is being worked on.
    #[error("the same request is being worked on")]
    Duplicate,
    /// As many requests as allowed are being worked on.
    #[error("too many requests are being worked on: the NAS will ask again")]
    Overloaded,
}

impl DropReason {
    /// All labels, for counters that start at 0.
    pub const LABELS: [&'static str; 8] = [
        "unknown-client",
        "malformed",
        "unexpected-code",
        "missing-message-authenticator",
        "bad-message-authenticator",
        "unprotected-proxy-state",
        "duplicate",
        "overloaded",
    ];

    /// The label in metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        let [
            unknown,
            malformed,
            code,
            missing,
            bad,
            proxy_state,
            duplicate,
            overloaded,
        ] = Self::LABELS;
        match self {
            Self::UnknownClient => unknown,
            Self::Malformed(_) => malformed,
            Self::UnexpectedCode(_) => code,
            Self::MissingMessageAuthenticator => missing,
            Self::BadMessageAuthenticator => bad,
            Self::UnprotectedProxyState => proxy_state,
            Self::Duplicate => duplicate,
            Self::Overloaded => overloaded,
        }
    }
}

/// What to do with a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// Nothing, but count it.
    Dropped(DropReason),
    /// Send the reply that was sent before.
    Repeated(Vec<u8>),
    /// Send this: Status-Server is answered at once (RFC 5997 section 4.2).
    Status(Vec<u8>),
    /// Work on it, then call [`Server::answer`] or [`Server::abandon`].
    Access(Box<AccessRequest>),
}

/// An Access-Request of a known client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRequest {
    /// Hand this to [`Server::answer`].
    pub key: ExchangeKey,
    /// The packet.
    pub packet: Packet,
    /// The subscriber's proof.
    pub credentials: Result<Credentials, CredentialsError>,
}

/// Why an answer was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Answered or abandoned before, or longer in work than allowed.
    #[error("the request is no longer waiting for an answer")]
    NotWaiting,
    /// It does not fit; the request still waits for a smaller answer.
    #[error(transparent)]
    TooLong(#[from] AttributeError),
}

/// The server's side of all exchanges.
#[derive(Debug)]
pub struct Server {
    clients: ClientTable,
    exchanges: Exchanges,
}

impl Server {
    /// A server for these clients.
    #[must_use]
    pub const fn new(clients: ClientTable, limits: Limits) -> Self {
        Self {
            clients,
            exchanges: Exchanges::new(limits),
        }
    }

    /// Judges one datagram.
    pub fn receive(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> Received {
        self.judge(now, from, datagram)
            .unwrap_or_else(Received::Dropped)
    }

    fn judge(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Result<Received, DropReason> {
        let (index, client) = self
            .clients
            .find(from.ip())
            .ok_or(DropReason::UnknownClient)?;
        let packet = Packet::decode(datagram)?;
        let status = packet.code == Code::STATUS_SERVER;
        if !status && packet.code != Code::ACCESS_REQUEST {
            return Err(DropReason::UnexpectedCode(packet.code));
        }
        // Always required with EAP-Message (RFC 3579 section 3.2) and Status-Server (RFC 5997
        // section 3).
        let required = client.require_message_authenticator
            || status
            || packet.attributes.contains(AttributeId::EAP_MESSAGE);
        match check_message_authenticator(&packet, &packet.authenticator, &client.secret) {
            MessageAuthenticator::Valid => {}
            MessageAuthenticator::Invalid => return Err(DropReason::BadMessageAuthenticator),
            MessageAuthenticator::Absent if required => {
                return Err(DropReason::MissingMessageAuthenticator);
            }
            MessageAuthenticator::Absent => {
                if packet.attributes.contains(AttributeId::PROXY_STATE) {
                    return Err(DropReason::UnprotectedProxyState);
                }
            }
        }
        let Packet {
            identifier,
            authenticator,
            ..
        } = packet;
        if status {
            let alive = sign_reply(
                Code::ACCESS_ACCEPT,
                identifier,
                &authenticator,
                &Attributes::new(),
                &client.secret,
            );
            // No attributes but our own: it always fits.
            return Ok(Received::Status(alive.unwrap_or_default()));
        }
        let key = ExchangeKey {
            from,
            identifier,
            authenticator,
        };
        match self.exchanges.find(now, &key) {
            Found::Answered(reply) => return Ok(Received::Repeated(reply.to_vec())),
            Found::Working => return Err(DropReason::Duplicate),
            Found::New => {}
        }
        let mut proxy_state = Attributes::new();
        // A part of a packet fits a packet.
        let _ = proxy_state.extend(&packet.attributes, |number, _| is_proxy_state(number));
        self.exchanges
            .start(now, key, index, proxy_state)
            .ok_or(DropReason::Overloaded)?;
        let credentials = Credentials::read(&packet, &client.secret);
        Ok(Received::Access(Box::new(AccessRequest {
            key,
            packet,
            credentials,
        })))
    }

    /// The datagram that answers `key`: signed, with the request's Proxy-State echoed in order (RFC
    /// 2865 section 5.33), and kept for repetitions. Proxy-State among `attributes` is left out.
    ///
    /// # Errors
    /// If nobody waits for it, or it does not fit.
    pub fn answer(
        &mut self,
        now: Instant,
        key: &ExchangeKey,
        code: Code,
        attributes: &Attributes,
    ) -> Result<Vec<u8>, AnswerError> {
        let (index, proxy_state) = self.exchanges.working(key).ok_or(AnswerError::NotWaiting)?;
        let client = self.clients.get(index).ok_or(AnswerError::NotWaiting)?;
        let mut all = Attributes::new();
        all.extend(attributes, |number, _| !is_proxy_state(number))?;
        all.extend(proxy_state, |_, _| true)?;
        let reply = sign_reply(
            code,
            key.identifier,
            &key.authenticator,
            &all,
            &client.secret,
        )?;
        self.exchanges.answered(now, *key, reply.clone());
        Ok(reply)
    }

    /// Forgets a request that will not be answered; a repetition of it counts as new.
    pub fn abandon(&mut self, key: &ExchangeKey) {
        self.exchanges.abandon(key);
    }

    /// Requests being worked on.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.exchanges.in_flight()
    }
}

fn is_proxy_state(number: u8) -> bool {
    AttributeId::Ietf(number) == AttributeId::PROXY_STATE
}
