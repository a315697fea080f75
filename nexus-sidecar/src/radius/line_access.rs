//! Access-Requests of this host itself, for a client that DHCP has shown and no NAS has asked about (IPoE).
//!
//! The users file or the AAA servers are those of the NAS's requests, and so is what becomes of an Accept.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use nexus_radius::identity::Template;
use nexus_radius::password::Credentials;
use nexus_radius::{AttributeId, Attributes, Code, Packet};
use tokio::sync::Semaphore;

use super::access::{Answer, Backend, Proof, describe, given};
use super::authorizer::Authorizer;
use super::subscriber::{Identity, Line};
use crate::edge_handle::EdgeError;

/// A question about a client.
#[derive(Debug)]
pub struct LineRequest {
    /// All attributes but User-Password and Message-Authenticator.
    pub attributes: Attributes,
    /// User-Password; `None`: none is sent, and in a users file the name is enough.
    pub password: Option<Vec<u8>>,
    /// Where the client is.
    pub line: Line,
    /// Makes the subscriber id out of the attributes of the Access-Accept and, where it lacks one, of
    /// the request; `None`: `radius.subscriber_id` does.
    pub subscriber_id: Option<Template>,
}

/// What became of a question. `outcome` is a label for the counter, of a fixed set; `note` is for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The client is a subscriber and has an address: durable, and served from now on.
    Granted {
        /// For the log.
        note: String,
    },
    /// The client is none, or its request will never do.
    Refused {
        /// Label.
        outcome: &'static str,
        /// For the log.
        note: String,
    },
    /// Nobody knows, or there is no address: the next question may end otherwise.
    Unanswered {
        /// Label.
        outcome: &'static str,
        /// For the log.
        note: String,
    },
}

/// The way to the users file or the AAA servers. Cheap to clone; all clones share the bound.
#[derive(Clone, Debug)]
pub struct LineAccess {
    backend: Backend,
    identity: Arc<Identity>,
    local_address: Option<IpAddr>,
    /// Half of `radius.max_in_flight`, so that a storm of clients leaves room for the NAS.
    questions: Arc<Semaphore>,
    lifetime: Duration,
}

impl LineAccess {
    pub(super) fn new(
        backend: Backend,
        identity: Arc<Identity>,
        local_address: Option<IpAddr>,
        max_in_flight: usize,
        lifetime: Duration,
    ) -> Self {
        Self {
            backend,
            identity,
            local_address,
            questions: Arc::new(Semaphore::new(max_in_flight.div_ceil(2))),
            lifetime,
        }
    }

    /// Address of this host towards its first AAA server, for NAS-IP-Address; none with a users file.
    #[must_use]
    pub const fn local_address(&self) -> Option<IpAddr> {
        self.local_address
    }

    /// Asks, and gives an address on Accept. Waits for its turn first; the caller bounds how many wait.
    pub async fn authorize(&self, edge: &impl Authorizer, request: &LineRequest) -> Verdict {
        // The semaphore is never closed.
        let _turn = self.questions.acquire().await;
        match tokio::time::timeout(self.lifetime, self.answer(edge, request)).await {
            Ok(verdict) => verdict,
            Err(_) => Verdict::Unanswered {
                outcome: "work-timeout",
                note: format!("nothing after {} s", self.lifetime.as_secs()),
            },
        }
    }

    async fn answer(&self, edge: &impl Authorizer, request: &LineRequest) -> Verdict {
        let proof = match self.prove(request).await {
            Ok(proof) => proof,
            Err(answer) => return verdict(answer),
        };
        if let Err(note) = proof.check() {
            let outcome = "static-address";
            return Verdict::Refused { outcome, note };
        }
        let attributes = match said(&proof, &request.attributes) {
            Ok(attributes) => attributes,
            Err(error) => {
                return Verdict::Refused {
                    outcome: "reply-too-long",
                    note: error.to_string(),
                };
            }
        };
        let subscriber_id = request
            .subscriber_id
            .as_ref()
            .unwrap_or(&self.identity.subscriber_id);
        let subscriber = self.identity.on_line(
            &request.line,
            subscriber_id,
            &attributes,
            proof.user(),
            proof.upstream(),
        );
        let subscriber = match subscriber {
            Ok(subscriber) => subscriber,
            Err(error) => {
                return Verdict::Refused {
                    outcome: "bad-identity",
                    note: error.to_string(),
                };
            }
        };
        let note = describe(&subscriber);
        match edge.authorize(subscriber).await {
            Ok(grant) => Verdict::Granted {
                note: format!("{note}: {}", given(&grant)),
            },
            Err(error) => {
                let (outcome, note) = (error.label(), format!("{note}: {error}"));
                match error {
                    // What a policy says of the line, it will say again.
                    EdgeError::Conflict(_)
                    | EdgeError::KeptAway(_)
                    | EdgeError::BadKey(_)
                    | EdgeError::InPool(..) => Verdict::Refused { outcome, note },
                    _ => Verdict::Unanswered { outcome, note },
                }
            }
        }
    }

    async fn prove(&self, request: &LineRequest) -> Result<Proof<'_>, Answer> {
        let credentials = match (&request.password, &self.backend) {
            (Some(password), _) => Credentials::Pap(password.clone()),
            (None, Backend::Upstream(_)) => Credentials::None,
            (None, Backend::Users(users)) => {
                let name = request.attributes.get(AttributeId::USER_NAME);
                let user = name.and_then(|name| users.get(name));
                return user
                    .map(Proof::File)
                    .ok_or_else(|| Answer::reject("unknown user"));
            }
        };
        // Identifier and authenticator are those of the way in; the way out gets its own.
        let packet = Packet {
            code: Code::ACCESS_REQUEST,
            identifier: 0,
            authenticator: [0; 16],
            attributes: request.attributes.clone(),
        };
        self.backend.prove(&packet, &credentials).await
    }
}

/// What has been said of the subscriber: the server's User-Name counts from now on (RFC 2865 5.1), and
/// its Class too.
fn said(
    proof: &Proof<'_>,
    request: &Attributes,
) -> Result<Attributes, nexus_radius::AttributeError> {
    let named = [AttributeId::USER_NAME, AttributeId::CLASS];
    let mut attributes = Attributes::new();
    if let Some(theirs) = proof.upstream() {
        attributes.extend(theirs, |number, _| {
            named.contains(&AttributeId::Ietf(number))
        })?;
    }
    attributes.extend(request, |_, _| true)?;
    Ok(attributes)
}

fn verdict(answer: Answer) -> Verdict {
    match answer {
        Answer::Reply { outcome, note, .. } => Verdict::Refused { outcome, note },
        Answer::Silence { outcome, note } => Verdict::Unanswered { outcome, note },
    }
}

#[cfg(test)]
mod tests;
