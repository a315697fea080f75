//! The task that faces the NAS: one socket, the server state machine, and a task for each request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nexus_radius::server::{
    AccessRequest, AnswerError, DropReason, ExchangeKey, Limits, Received, Server,
};
use nexus_radius::{AttributeId, Attributes, Code};
use tokio::net::UdpSocket;
use tokio::task::{JoinError, JoinSet};

use super::access::{Access, Answer, Backend};
use super::authorizer::Authorizer;
use super::config::{BackendSettings, Settings};
use super::line_access::LineAccess;
use super::log_limit::LogLimit;
use super::subscriber::Identity;
use super::upstream_client::UpstreamTask;
use super::{BUFFER_LEN, RadiusError};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

/// Receive buffer that is asked for: a few thousand requests, as after a power cut. The kernel gives
/// at most `net.core.rmem_max`.
const RECEIVE_BUFFER_LEN: usize = 4 * 1024 * 1024;
/// How long requests in work may go on after the signal to stop.
const GRACE: Duration = Duration::from_secs(3);

/// A RADIUS server whose sockets are open and that does not serve yet.
#[derive(Debug)]
pub struct RadiusServer {
    /// `None`: there are no clients.
    socket: Option<UdpSocket>,
    backend: Backend,
    upstream: Option<UpstreamTask>,
    identity: Arc<Identity>,
    lines: LineAccess,
    server: Server,
    work_lifetime: Duration,
}

impl RadiusServer {
    /// Opens the sockets.
    ///
    /// # Errors
    /// If one of them cannot be opened.
    pub async fn bind(settings: Settings) -> Result<Self, RadiusError> {
        let listen = settings.listen;
        let socket = listen.map(|address| {
            listen_on(address).map_err(|error| RadiusError::Listen { address, error })
        });
        let socket = socket.transpose()?;
        let mut limits = Limits {
            in_flight: settings.max_in_flight,
            ..Limits::default()
        };
        let (backend, upstream) = match settings.backend {
            BackendSettings::Users(users) => (Backend::Users(Arc::new(users)), None),
            BackendSettings::Upstream {
                servers,
                limits: upstream_limits,
            } => {
                // As long as all servers may take, and then the edge.
                let tries = upstream_limits.retries.saturating_add(1);
                let servers_count = u32::try_from(servers.len()).unwrap_or(u32::MAX);
                limits.work_lifetime += upstream_limits.timeout * tries * servers_count;
                let (client, task) = UpstreamTask::open(servers, upstream_limits).await?;
                (Backend::Upstream(client), Some(task))
            }
        };
        let identity = Arc::new(Identity {
            subscriber_id: settings.subscriber_id,
            nas_port_id: settings.nas_port_id,
            interfaces: settings.interfaces,
            default_pool: settings.default_pool,
        });
        let server = Server::new(settings.clients, limits);
        let work_lifetime = limits.work_lifetime;
        let lines = LineAccess::new(
            backend.clone(),
            Arc::clone(&identity),
            upstream.as_ref().and_then(UpstreamTask::local_address),
            settings.max_in_flight,
            work_lifetime,
        );
        Ok(Self {
            socket,
            backend,
            upstream,
            identity,
            lines,
            server,
            work_lifetime,
        })
    }

    /// Where it listens; with port 0 in the configuration, on which port.
    ///
    /// # Errors
    /// If it does not listen, or the kernel cannot tell.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.socket
            .as_ref()
            .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected))?
            .local_addr()
    }

    /// The same users file or AAA servers for clients that DHCP has shown. It works while
    /// [`RadiusServer::serve`] does, and `serve` returns once all clones of it are gone.
    #[must_use]
    pub fn lines(&self) -> LineAccess {
        self.lines.clone()
    }

    /// Serves until `shutdown`, then lets requests in work finish for up to 3 seconds.
    pub async fn serve(
        self,
        authorizer: impl Authorizer,
        metrics: Metrics,
        mut shutdown: Shutdown,
    ) {
        let upstream = self
            .upstream
            .map(|task| tokio::spawn(task.run(metrics.clone())));
        drop(self.lines);
        let access = Access {
            authorizer,
            backend: self.backend,
            identity: self.identity,
        };
        if let Some(socket) = self.socket {
            let mut listener = Listener {
                socket,
                server: self.server,
                access: Arc::new(access),
                work: JoinSet::new(),
                work_lifetime: self.work_lifetime,
                metrics,
                log: LogLimit::default(),
            };
            listener.run(&mut shutdown).await;
        } else {
            shutdown.wait().await;
            drop(access);
        }
        if let Some(upstream) = upstream {
            // It ends now that nobody can ask it.
            drop(upstream.await);
        }
    }
}

fn listen_on(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
    // Less than asked for is no error.
    drop(socket.set_recv_buffer_size(RECEIVE_BUFFER_LEN));
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// A request that has been worked on.
struct Worked {
    key: ExchangeKey,
    /// User-Name and Calling-Station-Id, for the log.
    who: String,
    answer: Answer,
}

struct Listener<A> {
    socket: UdpSocket,
    server: Server,
    access: Arc<Access<A>>,
    /// Bounded by the server's own limit of requests in flight.
    work: JoinSet<Worked>,
    work_lifetime: Duration,
    metrics: Metrics,
    log: LogLimit,
}

impl<A: Authorizer> Listener<A> {
    async fn run(&mut self, shutdown: &mut Shutdown) {
        let mut buffer = vec![0; BUFFER_LEN];
        loop {
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok((len, from)) => {
                        let datagram = buffer.get(..len).unwrap_or_default();
                        self.receive(from, datagram).await;
                    }
                    // An ICMP message about a reply sent before: the NAS went away.
                    Err(error) => tracing::debug!("RADIUS socket: {error}"),
                },
                Some(done) = self.work.join_next() => self.finish(done).await,
                () = shutdown.wait() => break,
            }
        }
        let rest = async {
            while let Some(done) = self.work.join_next().await {
                self.finish(done).await;
            }
        };
        if tokio::time::timeout(GRACE, rest).await.is_err() {
            tracing::warn!(
                requests = self.work.len(),
                "RADIUS stops with requests unanswered"
            );
        }
    }

    async fn receive(&mut self, from: SocketAddr, datagram: &[u8]) {
        match self.server.receive(Instant::now(), from, datagram) {
            Received::Dropped(reason) => self.dropped(from, reason),
            Received::Repeated(reply) => self.send("repeated", from, &reply).await,
            Received::Status(reply) => self.send("status", from, &reply).await,
            Received::Access(request) => {
                self.work
                    .spawn(work(Arc::clone(&self.access), *request, self.work_lifetime));
            }
        }
    }

    fn dropped(&mut self, from: SocketAddr, reason: DropReason) {
        let label = reason.label();
        self.metrics.radius(label);
        if reason == DropReason::Duplicate {
            tracing::debug!(%from, "RADIUS packet dropped: {reason}");
        } else if let Some(unsaid) = self.log.pass(Instant::now(), label) {
            tracing::warn!(%from, unsaid, "RADIUS packet dropped: {reason}");
        }
    }

    async fn finish(&mut self, done: Result<Worked, JoinError>) {
        // A task that panicked leaves its request to be forgotten in time.
        let Ok(Worked { key, who, answer }) = done else {
            self.metrics.radius("internal");
            tracing::error!("a RADIUS request ended without an answer; please report this");
            return;
        };
        let from = key.from;
        match answer {
            Answer::Silence { outcome, note } => {
                self.server.abandon(&key);
                self.metrics.radius(outcome);
                if let Some(unsaid) = self.log.pass(Instant::now(), outcome) {
                    tracing::warn!(%from, unsaid, "no answer ({outcome}) to {who}: {note}");
                }
            }
            Answer::Reply {
                code,
                attributes,
                outcome,
                note,
            } => match self.server.answer(Instant::now(), &key, code, &attributes) {
                Ok(reply) => {
                    if ["accept", "reject", "challenge"].contains(&outcome) {
                        tracing::info!(%from, "{code} to {who}: {note}");
                    } else {
                        tracing::warn!(%from, "{code} ({outcome}) to {who}: {note}");
                    }
                    self.send(outcome, from, &reply).await;
                }
                Err(AnswerError::TooLong(error)) => {
                    tracing::warn!(%from, "Access-Reject (reply-too-long) to {who}: {error}");
                    self.refuse_too_long(&key).await;
                }
                Err(error @ AnswerError::NotWaiting) => {
                    self.metrics.radius("too-late");
                    tracing::warn!(%from, "{code} to {who} not sent: {error}");
                }
            },
        }
    }

    /// The attributes fit a packet, but not together with the NAS's own Proxy-State.
    async fn refuse_too_long(&mut self, key: &ExchangeKey) {
        let none = Attributes::new();
        match self
            .server
            .answer(Instant::now(), key, Code::ACCESS_REJECT, &none)
        {
            Ok(reply) => self.send("reply-too-long", key.from, &reply).await,
            Err(_) => {
                self.server.abandon(key);
                self.metrics.radius("reply-too-long");
            }
        }
    }

    async fn send(&self, outcome: &str, to: SocketAddr, reply: &[u8]) {
        self.metrics.radius(outcome);
        if let Err(error) = self.socket.send_to(reply, to).await {
            // The NAS asks again and gets the reply from memory.
            tracing::debug!(%to, "RADIUS reply not sent: {error}");
        }
    }
}

async fn work<A: Authorizer>(
    access: Arc<Access<A>>,
    request: AccessRequest,
    limit: Duration,
) -> Worked {
    let answer = tokio::time::timeout(limit, access.answer(&request)).await;
    let given_up = |_| Answer::Silence {
        outcome: "work-timeout",
        note: format!("nothing after {} s", limit.as_secs()),
    };
    let answer = answer.unwrap_or_else(given_up);
    Worked {
        key: request.key,
        who: who(&request.packet.attributes),
        answer,
    }
}

/// User-Name and Calling-Station-Id as they came, made safe for a log line.
fn who(request: &Attributes) -> String {
    let text = |id| String::from_utf8_lossy(request.get(id).unwrap_or_default());
    let (user, station) = (
        text(AttributeId::USER_NAME),
        text(AttributeId::CALLING_STATION_ID),
    );
    format!("{user:?} at {station:?}")
}
