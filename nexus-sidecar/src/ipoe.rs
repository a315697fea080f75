//! IPoE: the first DHCP packet of an unknown client makes this host ask who it is (part 5 of the design).
//!
//! ```text
//! slow path --packet of an unknown client--> [Clients: waiting (max_waiting; full: dropped), rejected]
//!     one task per client that waits --> LineAccess (users file or AAA servers) --> edge task
//!     the client is a subscriber: its newest packet is answered out of the new binding
//! ```
//! Nothing is answered to whoever is rejected or cannot be asked about; clients repeat their packets.

mod clients;
mod config;
mod contact;
mod question;
mod username;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub use config::{IpoeSection, IpoeSettings};
pub use contact::{Client, Contact};
pub use username::{UserName, UserNameError};

use nexus_radius::identity::mac_text;

use crate::edge_handle::EdgeHandle;
use crate::metrics::Metrics;
use crate::radius::log_limit::LogLimit;
use crate::radius::{Line, LineAccess, LineRequest, Verdict};
use clients::{Arrival, Clients};
use question::Asker;

/// Where first contacts are asked about, on one interface. `T`: a packet. Cheap to clone.
#[derive(Debug)]
pub struct Ipoe<T>(Arc<Inner<T>>);

impl<T> Clone for Ipoe<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Inner<T> {
    interface: String,
    nas_identifier: String,
    settings: IpoeSettings,
    access: LineAccess,
    edge: EdgeHandle,
    metrics: Metrics,
    clients: Mutex<Clients<T>>,
    log: Mutex<LogLimit>,
}

/// A question that has to be asked now. Dropped without that, its client is forgotten.
#[derive(Debug)]
pub struct Question<T> {
    ipoe: Ipoe<T>,
    client: Client,
    request: LineRequest,
    /// Its client waits; once it does not, the same client may wait for another question.
    open: bool,
}

impl<T> Ipoe<T> {
    /// First contacts on `interface` of the OLT `nas_identifier`.
    #[must_use]
    pub fn new(
        interface: &str,
        nas_identifier: &str,
        settings: IpoeSettings,
        access: LineAccess,
        edge: EdgeHandle,
        metrics: Metrics,
    ) -> Self {
        let clients = Clients::new(settings.max_waiting, settings.reject_for);
        Self(Arc::new(Inner {
            interface: interface.to_owned(),
            nas_identifier: nas_identifier.to_owned(),
            settings,
            access,
            edge,
            metrics,
            clients: Mutex::new(clients),
            log: Mutex::default(),
        }))
    }

    /// Takes a packet of a client without a binding. A question: to be asked in a task of its own. Else
    /// there is nothing to do: a question about the client is on its way, and the packet is kept in place of
    /// the one before; or the packet is dropped and counted.
    pub fn arrive(&self, contact: &Contact, packet: T) -> Option<Question<T>> {
        let inner = &*self.0;
        let client = &contact.client;
        let arrival = inner.clients().arrive(Instant::now(), client, packet);
        match arrival {
            Arrival::Ask => match inner.request(contact) {
                Ok(request) => {
                    return Some(Question {
                        ipoe: self.clone(),
                        client: client.clone(),
                        request,
                        open: true,
                    });
                }
                Err((outcome, note)) => {
                    inner.clients().answered(client);
                    inner.said(outcome, client, &note);
                }
            },
            Arrival::Attached => inner.metrics.ipoe("attached"),
            Arrival::Rejected => inner.metrics.ipoe("rejected-before"),
            Arrival::Full => {
                let most = inner.settings.max_waiting;
                let note = format!("{most} clients wait for an answer already");
                inner.said("too-many", client, &note);
            }
        }
        None
    }
}

impl<T> Question<T> {
    /// Asks. The newest packet of the client, if it has a binding now.
    pub async fn ask(mut self) -> Option<T> {
        let ipoe = self.ipoe.clone();
        let inner = &*ipoe.0;
        let verdict = inner.access.authorize(&inner.edge, &self.request).await;
        match verdict {
            Verdict::Granted { note } => {
                inner.metrics.ipoe("accept");
                tracing::debug!(interface = inner.interface, "first contact: {note}");
                self.close()
            }
            Verdict::Refused { outcome, note } => {
                inner.clients().reject(Instant::now(), &self.client);
                inner.said(outcome, &self.client, &note);
                None
            }
            Verdict::Unanswered { outcome, note } => {
                inner.said(outcome, &self.client, &note);
                None
            }
        }
    }

    fn close(&mut self) -> Option<T> {
        std::mem::take(&mut self.open)
            .then(|| self.ipoe.0.clients().answered(&self.client))
            .flatten()
    }
}

impl<T> Drop for Question<T> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<T> Inner<T> {
    fn clients(&self) -> MutexGuard<'_, Clients<T>> {
        // Each call leaves the tables whole.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request(&self, contact: &Contact) -> Result<LineRequest, (&'static str, String)> {
        let settings = &self.settings;
        let name = settings
            .username
            .render(&self.interface, contact)
            .map_err(|error| ("no-username", error.to_string()))?;
        let asker = Asker {
            nas_identifier: &self.nas_identifier,
            nas_address: settings.nas_address.or(self.access.local_address()),
            interface: &self.interface,
        };
        let attributes = question::attributes(&name, &asker, contact)
            .map_err(|error| ("request-too-long", error.to_string()))?;
        Ok(LineRequest {
            attributes,
            password: settings.password.clone(),
            line: Line {
                interface: Some(self.interface.clone()),
                mac: contact.client.mac,
                vlans: Some(contact.client.vlans),
            },
            subscriber_id: settings.subscriber_id.clone(),
        })
    }

    /// Counts, and logs once a second for each outcome.
    fn said(&self, outcome: &'static str, client: &Client, note: &str) {
        self.metrics.ipoe(outcome);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(unsaid) = log.pass(Instant::now(), outcome) {
            let (outer, inner) = client.vlans;
            tracing::warn!(
                interface = self.interface,
                unsaid,
                "no answer ({outcome}) to {} on VLAN {outer}.{inner}: {}",
                mac_text(client.mac),
                note.escape_debug()
            );
        }
    }
}
