//! Watching single packets live: what `nexus-sidecar trace` and `nexus-sidecar events` show.
//!
//! While nobody watches, the programs in the kernel contain none of this. The first watcher makes the
//! edge task load them anew with it switched on, and put them in the place of those that are
//! attached; with the last one it is switched off again.

mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nexus_abi::{Event, EventKind, TRACE_COUNT};
use nexus_radius::identity::mac_text;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use crate::edge_handle::EdgeHandle;
use crate::fastpath::EventReader;
use crate::shutdown::Shutdown;
pub use words::{PacketReport, report};

/// Watchers at a time.
const MAX_WATCHERS: usize = 16;
/// Requests that wait for the hub; more wait in their connections.
const QUEUE: usize = 16;
/// Reports that wait for one watcher; more are dropped, and the watcher is told how many.
const BACKLOG: usize = 1024;
/// Events that are read before others get a turn.
const BURST: usize = 256;
/// How often watchers that have gone are looked for.
const TIDY: Duration = Duration::from_secs(1);

/// What a watcher wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Unknown clients, MACs that are not allowed on their line, and NAKs, of all interfaces.
    Rare,
    /// Every DHCP packet of a client, and what becomes of it.
    Client([u8; 6]),
}

/// What the program of one interface shall tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switches {
    /// Number of the interface.
    pub interface: u8,
    /// Rare events.
    pub events: bool,
    /// Clients that are traced, at most [`TRACE_COUNT`].
    pub trace: Vec<[u8; 6]>,
}

/// Why nothing can be watched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// Too many clients are traced.
    #[error("{TRACE_COUNT} clients are traced already: end one of these traces first")]
    TooManyClients,
    /// Too many watchers.
    #[error("{MAX_WATCHERS} watchers are there already: end one of them first")]
    TooManyWatchers,
    /// The kernel did not take the program.
    #[error("the kernel program could not be switched over: {0}")]
    Switch(String),
    /// The hub has ended.
    #[error("nexus-sidecar is stopping")]
    Stopped,
}

struct Watch {
    wanted: Wanted,
    reports: mpsc::Sender<PacketReport>,
    accepted: oneshot::Sender<Result<(), WatchError>>,
}

/// Asks the hub.
#[derive(Clone, Debug)]
pub struct PacketEvents(mpsc::Sender<Watch>);

impl PacketEvents {
    /// With no hub behind it.
    #[cfg(test)]
    pub(crate) fn nobody() -> Self {
        Self(mpsc::channel(1).0)
    }

    /// Watches until the receiver is dropped.
    ///
    /// # Errors
    /// See [`WatchError`].
    pub async fn watch(&self, wanted: Wanted) -> Result<mpsc::Receiver<PacketReport>, WatchError> {
        let (reports, receiver) = mpsc::channel(BACKLOG);
        let (accepted, answer) = oneshot::channel();
        let watch = Watch {
            wanted,
            reports,
            accepted,
        };
        self.0.send(watch).await.map_err(|_| WatchError::Stopped)?;
        answer.await.map_err(|_| WatchError::Stopped)??;
        Ok(receiver)
    }
}

struct Watcher {
    wanted: Wanted,
    reports: mpsc::Sender<PacketReport>,
    dropped: u32,
}

impl Watcher {
    fn wants(&self, event: &Event, report: &PacketReport) -> bool {
        let traced =
            event.kind == EventKind::Request as u32 || event.kind == EventKind::Verdict as u32;
        match &self.wanted {
            Wanted::Rare => !traced,
            Wanted::Client(mac) => {
                traced
                    && report
                        .mac
                        .as_deref()
                        .is_none_or(|shown| shown == mac_text(*mac))
            }
        }
    }
}

/// The one task that reads the ring buffer.
pub struct Hub {
    reader: AsyncFd<EventReader>,
    edge: EdgeHandle,
    interfaces: BTreeMap<u8, String>,
    queue: mpsc::Receiver<Watch>,
    watchers: Vec<Watcher>,
}

impl Hub {
    /// `interfaces`: names by number.
    ///
    /// # Errors
    /// If the ring buffer cannot be waited for.
    pub fn new(
        reader: EventReader,
        edge: EdgeHandle,
        interfaces: BTreeMap<u8, String>,
    ) -> std::io::Result<(Self, PacketEvents)> {
        let (sender, queue) = mpsc::channel(QUEUE);
        let hub = Self {
            reader: reader.watched()?,
            edge,
            interfaces,
            queue,
            watchers: Vec::new(),
        };
        Ok((hub, PacketEvents(sender)))
    }

    /// Runs until told to stop.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        let mut tidy = tokio::time::interval(TIDY);
        loop {
            tokio::select! {
                () = shutdown.wait() => break,
                watch = self.queue.recv() => match watch {
                    Some(watch) => self.take(watch).await,
                    None => break,
                },
                readable = self.reader.readable_mut() => match readable {
                    Ok(mut guard) => {
                        let events: Vec<_> =
                            std::iter::from_fn(|| guard.get_inner_mut().next_event())
                                .take(BURST)
                                .collect();
                        if events.len() < BURST {
                            guard.clear_ready();
                        }
                        self.tell(&events);
                    }
                    Err(error) => {
                        tracing::error!(%error, "packet events cannot be read any more");
                        break;
                    }
                },
                _ = tidy.tick() => self.tidy().await,
            }
        }
        self.watchers.clear();
        if let Err(error) = self.switch().await {
            tracing::debug!(%error, "packet events stay switched on");
        }
    }

    async fn take(&mut self, watch: Watch) {
        self.tidy().await;
        let Watch {
            wanted,
            reports,
            accepted,
        } = watch;
        let mut clients = self.clients();
        if let Wanted::Client(mac) = &wanted {
            clients.insert(*mac);
        }
        let result = if self.watchers.len() >= MAX_WATCHERS {
            Err(WatchError::TooManyWatchers)
        } else if clients.len() > TRACE_COUNT {
            Err(WatchError::TooManyClients)
        } else {
            self.watchers.push(Watcher {
                wanted,
                reports,
                dropped: 0,
            });
            let switched = self.switch().await;
            if switched.is_err() {
                self.watchers.pop();
            }
            switched
        };
        // Somebody who does not wait any more is found by the next tidying.
        let _ = accepted.send(result);
    }

    async fn tidy(&mut self) {
        let before = self.watchers.len();
        self.watchers.retain(|watcher| !watcher.reports.is_closed());
        if self.watchers.len() == before {
            return;
        }
        if let Err(error) = self.switch().await {
            tracing::warn!(%error, "packet events could not be switched");
        }
    }

    fn clients(&self) -> BTreeSet<[u8; 6]> {
        self.watchers
            .iter()
            .filter_map(|watcher| match watcher.wanted {
                Wanted::Client(mac) => Some(mac),
                Wanted::Rare => None,
            })
            .collect()
    }

    /// Makes the programs tell what the watchers want, and no more.
    async fn switch(&self) -> Result<(), WatchError> {
        let events = self
            .watchers
            .iter()
            .any(|watcher| watcher.wanted == Wanted::Rare);
        let trace: Vec<_> = self.clients().into_iter().collect();
        let switches = self
            .interfaces
            .keys()
            .map(|interface| Switches {
                interface: *interface,
                events,
                trace: trace.clone(),
            })
            .collect();
        self.edge
            .switch_packet_events(switches)
            .await
            .map_err(|error| WatchError::Switch(error.to_string()))
    }

    fn tell(&mut self, events: &[Event]) {
        for event in events {
            let name = u8::try_from(event.interface)
                .ok()
                .and_then(|number| self.interfaces.get(&number));
            let Some(report) = report(event, name.map_or("?", String::as_str)) else {
                continue;
            };
            for watcher in &mut self.watchers {
                if !watcher.wants(event, &report) {
                    continue;
                }
                let mut report = report.clone();
                report.lost = report.lost.saturating_add(watcher.dropped);
                if watcher.reports.try_send(report).is_err() {
                    watcher.dropped = watcher.dropped.saturating_add(1);
                }
            }
        }
    }
}
