//! The DHCP slow path: what the kernel program has passed on, answered by the same code out of the same bindings.
//!
//! ```text
//! packet socket (RECEIVE_BUFFER; full: dropped by the kernel, counted)
//!   --> one thread per interface: reads, looks up, and answers whoever has a binding at once
//!         |-- RELEASE, DECLINE: a task each (NOTICES; more: dropped, counted) --> edge task
//!         '-- no binding: IPoE, a task per client that waits (max_waiting; more: dropped, counted)
//!                 --> AAA, edge task --> the reply
//! ```
//! Whoever is known never waits behind somebody who is not: a storm of new clients costs the thread a
//! look-up each, and nothing else stands in its way. Whatever is dropped, its client repeats.

mod filter;
mod packet_socket;
mod serve;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nexus_abi::Outcome;
use nexus_dhcp::exchange::Identity;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::edge_handle::EdgeHandle;
use crate::ipoe::Ipoe;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use packet_socket::PacketSocket;
pub use packet_socket::Received;
use serve::Step;

/// Most RELEASE and DECLINE in work at a time.
const NOTICES: usize = 256;
/// How often the kernel is asked how many frames it had no room for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// An interface, and what clients are known by on it.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
    /// Its number in keys.
    pub number: u8,
    /// The kinds of key that are looked up, in this order.
    pub kinds: Vec<u8>,
    /// A circuit is circuit-id and remote-id.
    pub remote_id: bool,
}

/// Serves one interface until told to stop. `ipoe`: asks who clients without a binding are; without it they
/// stay unanswered.
///
/// # Errors
/// The packet socket cannot be opened (the message says which capability it takes) or stops working.
pub async fn run(
    line: Line,
    edge: EdgeHandle,
    ipoe: Option<Ipoe<Received>>,
    metrics: Metrics,
    shutdown: Shutdown,
) -> io::Result<()> {
    let path = Arc::new(SlowPath {
        socket: PacketSocket::open(&line.name, line.ifindex)?,
        line,
        edge,
        metrics,
    });
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || receive(&path, ipoe.as_ref(), &runtime, &shutdown))
        .await
        .map_err(io::Error::other)?
}

/// The thread. What it has begun ends with it.
fn receive(
    path: &Arc<SlowPath>,
    ipoe: Option<&Ipoe<Received>>,
    runtime: &Handle,
    shutdown: &Shutdown,
) -> io::Result<()> {
    let mut notices = JoinSet::new();
    // Bounded by the clients that may wait.
    let mut questions = JoinSet::new();
    let mut looked_at = Instant::now();
    while !shutdown.is_stopped() {
        while notices.try_join_next().is_some() || questions.try_join_next().is_some() {}
        if looked_at.elapsed() >= LOOK_EVERY {
            looked_at = Instant::now();
            let lost = path.socket.dropped()?;
            path.metrics.dhcp_slow_dropped("socket", lost);
        }
        let Some(frame) = path.socket.receive()? else {
            continue;
        };
        match path.step(&frame) {
            None => {}
            Some(Step::Reply(outcome, reply)) => path.send(outcome, &reply, &frame),
            Some(Step::Silence(outcome)) => path.metrics.dhcp_slow(outcome),
            Some(Step::Tell(_)) if notices.len() >= NOTICES => {
                path.metrics.dhcp_slow_dropped("known", 1);
            }
            Some(Step::Tell(notice)) => {
                let path = Arc::clone(path);
                notices.spawn_on(async move { path.tell(notice).await }, runtime);
            }
            Some(Step::Unknown(outcome, contact)) => {
                path.metrics.dhcp_slow(outcome);
                if let Some(ipoe) = ipoe
                    && let Some(contact) = contact
                    && let Some(question) = ipoe.arrive(&contact, frame)
                {
                    let path = Arc::clone(path);
                    let work = async move {
                        if let Some(frame) = question.ask().await {
                            path.answer(&frame);
                        }
                    };
                    questions.spawn_on(work, runtime);
                }
            }
        }
    }
    Ok(())
}

/// The slow path of one interface.
struct SlowPath {
    socket: PacketSocket,
    line: Line,
    edge: EdgeHandle,
    metrics: Metrics,
}

impl SlowPath {
    fn step(&self, frame: &Received) -> Option<Step> {
        let interface = self.line.name.as_str();
        let identity = Identity {
            interface: self.line.number,
            kinds: &self.line.kinds,
            remote_id: self.line.remote_id,
        };
        match serve::step(&self.edge, identity, &frame.bytes) {
            Ok(step) => Some(step),
            Err(error) => {
                tracing::warn!(interface, %error, "a DHCP message could not be served");
                self.metrics.dhcp_slow(Outcome::Internal);
                None
            }
        }
    }

    /// Answers a client that has just got its binding.
    fn answer(&self, frame: &Received) {
        match self.step(frame) {
            Some(Step::Reply(outcome, reply)) => self.send(outcome, &reply, frame),
            Some(Step::Silence(outcome)) => self.metrics.dhcp_slow(outcome),
            // The binding was taken away again, or stands under a key that DHCP does not see.
            Some(Step::Unknown(outcome, _)) => self.metrics.dhcp_slow(outcome),
            Some(Step::Tell(_)) => self.metrics.dhcp_slow(Outcome::UnknownClient),
            None => {}
        }
    }

    fn send(&self, outcome: Outcome, reply: &[u8], to: &Received) {
        let interface = self.line.name.as_str();
        self.metrics.dhcp_slow(match self.socket.send(reply, to) {
            Ok(()) => outcome,
            Err(error) => {
                tracing::warn!(interface, %error, "a DHCP reply could not be sent");
                Outcome::NoRoom
            }
        });
    }

    async fn tell(&self, notice: serve::Notice) {
        let interface = self.line.name.as_str();
        self.metrics
            .dhcp_slow(notice.tell(&self.edge).await.unwrap_or_else(|error| {
                tracing::warn!(interface, %error, "a DHCP message could not be served");
                Outcome::Internal
            }));
    }
}
