//! The client of nexus-server: keeps this host registered, its lease renewed, its commands recorded.
//!
//! One task, one connection at a time. It goes through the endpoints until one takes the host in, stays
//! with that one while it answers, and otherwise goes to the next with a growing, jittered pause: who has
//! short leases is back soon. All it learns goes to the edge task, in order; it decides nothing about
//! addresses.

mod calls;
mod connection;
mod convert;

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tonic::transport::{Channel, Endpoint};

use crate::config::{OltSection, SidecarConfig};
use crate::edge_task::{CentreEvent, CentreSide};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use connection::{Connection, End};

/// Longest time to make a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest time that one call may take.
const CALL: Duration = Duration::from_secs(10);
/// Shortest and longest pause between two attempts. It is never longer than the time between two heartbeats either:
/// where that is short, leases are.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Longest pause after a server has said that it cannot take this host in yet: it is starting, or another host was
/// heard under this id a moment ago.
const NOT_YET: Duration = Duration::from_secs(8);
/// Time between heartbeats until the centre says something else.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// The client.
#[derive(Debug)]
pub struct CentreClient {
    olt: OltSection,
    endpoints: Vec<String>,
    side: CentreSide,
    metrics: Metrics,
    /// Time between heartbeats, as the centre said last.
    heartbeat: Duration,
}

/// The edge task has ended, and so has everything that was to be told to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EdgeGone;

impl CentreClient {
    /// A client of the endpoints of `config`.
    #[must_use]
    pub fn new(config: &SidecarConfig, side: CentreSide, metrics: Metrics) -> Self {
        Self {
            olt: config.olt.clone(),
            endpoints: config.nexus_endpoints.clone(),
            side,
            metrics,
            heartbeat: HEARTBEAT,
        }
    }

    /// Works until `shutdown` or until the edge task ends.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        tokio::select! {
            () = shutdown.wait() => {}
            EdgeGone = self.work() => {}
        }
    }

    async fn work(&mut self) -> EdgeGone {
        let mut attempt = 0_u32;
        let mut which = 0_usize;
        loop {
            let Some(endpoint) = self
                .endpoints
                .get(which % self.endpoints.len().max(1))
                .cloned()
            else {
                return EdgeGone;
            };
            let end = match self.visit(&endpoint).await {
                Ok(end) => end,
                Err(EdgeGone) => return EdgeGone,
            };
            if tell(&self.side.events, CentreEvent::CutOff).await.is_err() {
                return EdgeGone;
            }
            let mut longest = self.heartbeat;
            match end {
                // It answers, only not to this session: register again with the same one.
                End::Register => attempt = 1,
                End::NotYet => {
                    longest = longest.min(NOT_YET);
                    attempt = attempt.saturating_add(1);
                    which = which.wrapping_add(1);
                }
                End::Lost { worked } => {
                    attempt = if worked { 1 } else { attempt.saturating_add(1) };
                    which = which.wrapping_add(1);
                }
            }
            tokio::time::sleep(pause(attempt, longest)).await;
        }
    }

    /// One connection, from its beginning to its end.
    async fn visit(&mut self, endpoint: &str) -> Result<End, EdgeGone> {
        let channel = match connect(endpoint).await {
            Ok(channel) => channel,
            Err(problem) => {
                self.metrics.centre("connect", "failed");
                tracing::warn!(endpoint, %problem, "nexus-server cannot be reached");
                return Ok(End::Lost { worked: false });
            }
        };
        let (side, heartbeat) = (&mut self.side, &mut self.heartbeat);
        Connection::new(
            channel,
            endpoint,
            (&self.olt, &self.metrics),
            side,
            heartbeat,
        )
        .run()
        .await
    }
}

async fn connect(endpoint: &str) -> Result<Channel, String> {
    Endpoint::from_shared(format!("http://{endpoint}"))
        .map_err(|error| error.to_string())?
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
        .connect()
        .await
        .map_err(|error| {
            // The outer text says only that it is a transport error.
            std::iter::successors(std::error::Error::source(&error), |inner| inner.source())
                .last()
                .map_or_else(|| error.to_string(), ToString::to_string)
        })
}

/// Half of a doubling pause and the other half by chance, so that hosts do not come in step.
fn pause(attempt: u32, longest: Duration) -> Duration {
    let (least, most) = PAUSE;
    let most = longest.clamp(least, most);
    let full = least
        .saturating_mul(1_u32.checked_shl(attempt.min(10)).unwrap_or(u32::MAX))
        .min(most);
    full.mul_f64(rand::random_range(0.5..=1.0))
}

async fn tell(events: &mpsc::Sender<CentreEvent>, event: CentreEvent) -> Result<(), EdgeGone> {
    events.send(event).await.map_err(|_| EdgeGone)
}

/// What the edge says of itself now, all of it durable.
async fn report(
    events: &mpsc::Sender<CentreEvent>,
) -> Result<nexus_core::edge::Heartbeat, EdgeGone> {
    let (reply, answer) = oneshot::channel();
    tell(events, CentreEvent::Report(reply)).await?;
    answer.await.map_err(|_| EdgeGone)
}

#[cfg(test)]
mod tests;
