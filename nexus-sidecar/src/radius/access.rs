//! One Access-Request from proof to address: what it is answered with, and why.

use std::net::IpAddr;
use std::sync::Arc;

use nexus_radius::password::{Credentials, next_hop_attributes};
use nexus_radius::server::AccessRequest;
use nexus_radius::upstream::UpstreamError;
use nexus_radius::{AttributeError, AttributeId, Attributes, Code, Packet};

use super::authorizer::{Authorizer, FramedAddress};
use super::delivery;
use super::subscriber::Identity;
use super::upstream_client::UpstreamClient;
use super::users::{User, Users};
use crate::edge_handle::AuthorizedSubscriber;

/// Framed-IP-Address values that leave the choice to the NAS or the user (RFC 2865 section 5.8).
const NOT_AN_ADDRESS: [[u8; 4]; 2] = [[255, 255, 255, 254], [255, 255, 255, 255]];

/// Who knows the subscribers.
#[derive(Clone, Debug)]
pub(super) enum Backend {
    Users(Arc<Users>),
    Upstream(UpstreamClient),
}

/// What an Access-Request is worked on with.
#[derive(Debug)]
pub(super) struct Access<A> {
    pub(super) authorizer: A,
    pub(super) backend: Backend,
    pub(super) identity: Arc<Identity>,
}

/// The end of an Access-Request. `outcome` is a label for the counter, of a fixed set.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Send this.
    Reply {
        code: Code,
        attributes: Attributes,
        outcome: &'static str,
        note: String,
    },
    /// Send nothing: the NAS asks again, or asks another server.
    Silence { outcome: &'static str, note: String },
}

impl Answer {
    /// An Access-Reject whose Reply-Message is the note, for what went wrong on our side of proof.
    pub(super) fn refuse(outcome: &'static str, note: impl ToString) -> Self {
        let note = note.to_string();
        let mut attributes = Attributes::new();
        // The first attribute always fits.
        let _ = attributes.push_text(AttributeId::REPLY_MESSAGE, &note);
        Self::Reply {
            code: Code::ACCESS_REJECT,
            attributes,
            outcome,
            note,
        }
    }

    /// An Access-Reject that does not tell a guesser which half of the guess was wrong.
    pub(super) fn reject(note: &str) -> Self {
        let (code, note) = (Code::ACCESS_REJECT, note.to_owned());
        Self::Reply {
            code,
            attributes: Attributes::new(),
            outcome: "reject",
            note,
        }
    }

    fn silence(outcome: &'static str, note: impl ToString) -> Self {
        Self::Silence {
            outcome,
            note: note.to_string(),
        }
    }
}

impl<A: Authorizer> Access<A> {
    /// Works on a request until it has an answer.
    pub(super) async fn answer(&self, request: &AccessRequest) -> Answer {
        let credentials = match &request.credentials {
            Ok(credentials) => credentials,
            Err(error) => return Answer::refuse("bad-credentials", error),
        };
        match self.backend.prove(&request.packet, credentials).await {
            Ok(proof) => {
                let from = request.key.from.ip();
                self.accept(from, &request.packet, proof).await
            }
            Err(answer) => answer,
        }
    }

    async fn accept(&self, from: IpAddr, request: &Packet, proof: Proof<'_>) -> Answer {
        if let Err(note) = proof.check() {
            return Answer::refuse("static-address", note);
        }
        let attributes = &request.attributes;
        let subscriber =
            match self
                .identity
                .subscriber(from, attributes, proof.user(), proof.upstream())
            {
                Ok(subscriber) => subscriber,
                Err(error) => return Answer::refuse("bad-identity", error),
            };
        let note = describe(&subscriber);
        match self.authorizer.authorize(subscriber).await {
            Ok(grant) => match accept_attributes(&proof, &grant) {
                Ok(attributes) => Answer::Reply {
                    code: Code::ACCESS_ACCEPT,
                    attributes,
                    outcome: "accept",
                    note: format!("{note}: {}", given(&grant)),
                },
                Err(error) => Answer::refuse("reply-too-long", error),
            },
            Err(error) if error.is_transient() => {
                Answer::silence(error.label(), format!("{note}: {error}"))
            }
            Err(error) => Answer::refuse(error.label(), error),
        }
    }
}

impl Backend {
    /// Asks whether the subscriber is who it says.
    ///
    /// # Errors
    /// What the request is answered with if not.
    pub(super) async fn prove(
        &self,
        request: &Packet,
        credentials: &Credentials,
    ) -> Result<Proof<'_>, Answer> {
        match self {
            Self::Users(users) => prove_by_file(users, request, credentials).map(Proof::File),
            Self::Upstream(upstream) => {
                let reply = ask_upstream(upstream, request, credentials).await?;
                match reply.code {
                    Code::ACCESS_ACCEPT => Ok(Proof::Upstream(reply.attributes)),
                    code => Err(passed_on(code, &reply.attributes)),
                }
            }
        }
    }
}

/// Why the subscriber is who it says.
pub(super) enum Proof<'a> {
    File(&'a User),
    /// The attributes of the upstream server's Access-Accept.
    Upstream(Attributes),
}

impl Proof<'_> {
    pub(super) const fn user(&self) -> Option<&User> {
        match self {
            Self::File(user) => Some(user),
            Self::Upstream(_) => None,
        }
    }

    pub(super) const fn upstream(&self) -> Option<&Attributes> {
        match self {
            Self::File(_) => None,
            Self::Upstream(attributes) => Some(attributes),
        }
    }

    /// Whether an address can be given on it.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub(super) fn check(&self) -> Result<(), String> {
        self.static_address().map_or(Ok(()), |address| {
            Err(format!(
                "the upstream server gave the static Framed-IP-Address {address}; \
                 static addresses are not supported, let it send Framed-Pool or neither"
            ))
        })
    }

    fn static_address(&self) -> Option<String> {
        let value = self.upstream()?.get(AttributeId::FRAMED_IP_ADDRESS)?;
        let octets = <[u8; 4]>::try_from(value);
        match octets {
            Ok(octets) if NOT_AN_ADDRESS.contains(&octets) => None,
            Ok(octets) => Some(std::net::Ipv4Addr::from(octets).to_string()),
            Err(_) => Some(format!("0x{}", hex::encode(value))),
        }
    }
}

fn prove_by_file<'a>(
    users: &'a Users,
    request: &Packet,
    credentials: &Credentials,
) -> Result<&'a User, Answer> {
    if *credentials == Credentials::None {
        let problem = "the request has neither User-Password nor CHAP-Password; \
                       with a users file the NAS must use PAP or CHAP";
        return Err(Answer::refuse("no-credentials", problem));
    }
    let user = request
        .attributes
        .get(AttributeId::USER_NAME)
        .and_then(|name| users.get(name));
    let user = user.ok_or_else(|| Answer::reject("unknown user"))?;
    if credentials.prove(user.password()) {
        Ok(user)
    } else {
        Err(Answer::reject("wrong password"))
    }
}

async fn ask_upstream(
    upstream: &UpstreamClient,
    request: &Packet,
    credentials: &Credentials,
) -> Result<Packet, Answer> {
    let password = match credentials {
        Credentials::Pap(password) => Some(password.clone()),
        Credentials::Chap { .. } | Credentials::None => None,
    };
    let attributes =
        next_hop_attributes(request).map_err(|error| Answer::refuse("request-too-long", error))?;
    upstream
        .ask(attributes, password)
        .await
        .map_err(|error| match error {
            UpstreamError::Busy => Answer::silence("upstream-busy", error),
            UpstreamError::NoAnswer => Answer::silence("upstream-no-answer", error),
            UpstreamError::TooLong(_) | UpstreamError::Password(_) => {
                Answer::refuse("request-too-long", error)
            }
        })
}

/// Access-Reject and Access-Challenge of the upstream server are the subscriber's business.
fn passed_on(code: Code, theirs: &Attributes) -> Answer {
    let mut attributes = Attributes::new();
    // A part of a packet fits a packet.
    let _ = attributes.extend(theirs, |number, _| passes_on(number));
    let outcome = if code == Code::ACCESS_CHALLENGE {
        "challenge"
    } else {
        "reject"
    };
    Answer::Reply {
        code,
        attributes,
        outcome,
        note: format!("upstream said {code}"),
    }
}

/// Whether an attribute of the upstream server's reply goes on to the NAS unchanged. Proxy-State and
/// Message-Authenticator belong to one hop; Tunnel-Password is hidden under one hop's secret.
fn passes_on(number: u8) -> bool {
    const TUNNEL_PASSWORD: AttributeId = AttributeId::Ietf(69);
    let one_hop = [
        AttributeId::PROXY_STATE,
        AttributeId::MESSAGE_AUTHENTICATOR,
        TUNNEL_PASSWORD,
    ];
    !one_hop.contains(&AttributeId::Ietf(number))
}

/// Ours first, then the upstream server's. Framed-Pool has been used up: a NAS that gets it besides
/// Framed-IP-Address does not know which to take, and likewise for IPv6. Of two ends of the session the earlier
/// counts.
fn accept_attributes(
    proof: &Proof<'_>,
    grant: &FramedAddress,
) -> Result<Attributes, AttributeError> {
    let replaced = [
        AttributeId::FRAMED_IP_ADDRESS,
        AttributeId::FRAMED_IP_NETMASK,
        AttributeId::FRAMED_POOL,
        AttributeId::SESSION_TIMEOUT,
    ];
    let none = Attributes::new();
    let theirs = proof.upstream().unwrap_or(&none);
    let their_end = theirs.get(AttributeId::SESSION_TIMEOUT);
    let their_end = their_end.and_then(|value| Some(u32::from_be_bytes(value.try_into().ok()?)));
    let mut attributes = Attributes::new();
    attributes.push_ipv4(AttributeId::FRAMED_IP_ADDRESS, grant.address)?;
    attributes.push_ipv4(AttributeId::FRAMED_IP_NETMASK, grant.mask)?;
    if let Some(end) = grant.ends_in_secs.into_iter().chain(their_end).min() {
        attributes.push_u32(AttributeId::SESSION_TIMEOUT, end)?;
    }
    for one in &grant.further {
        delivery::push(&mut attributes, one)?;
    }
    attributes.extend(theirs, |number, value| {
        passes_on(number)
            && !replaced.contains(&AttributeId::Ietf(number))
            && !delivery::is_used_up(number, value, &grant.further)
    })?;
    Ok(attributes)
}

/// What was given, in words.
pub(super) fn given(grant: &FramedAddress) -> String {
    let mut text = format!("{} of {}", grant.address, grant.pool);
    for one in &grant.further {
        text.push_str(&format!(", {} of {}", one.resource, one.pool));
    }
    text
}

pub(super) fn describe(subscriber: &AuthorizedSubscriber) -> String {
    let mac = subscriber.metadata.get("mac").map_or("", String::as_str);
    match subscriber.vlans {
        Some((outer, 0)) => format!("{} ({mac}, VLAN {outer})", subscriber.subscriber),
        Some((outer, inner)) => format!("{} ({mac}, VLAN {outer}.{inner})", subscriber.subscriber),
        None => format!("{} ({mac})", subscriber.subscriber),
    }
}
