//! The task that talks to the AAA servers: sockets and timer around `nexus_radius::upstream`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use nexus_radius::upstream::{
    Effect, Question, Upstream, UpstreamError, UpstreamLimits, UpstreamServer,
};
use nexus_radius::{Attributes, Packet};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::log_limit::LogLimit;
use super::{RadiusError, random};
use crate::metrics::Metrics;

/// Replies read and not yet judged; beyond it they wait in the sockets' buffers.
const REPLY_QUEUE: usize = 256;

type Answer = oneshot::Sender<Result<Packet, UpstreamError>>;

/// A cloneable handle to the task. The task ends when the last one is gone.
#[derive(Clone, Debug)]
pub(super) struct UpstreamClient {
    questions: mpsc::Sender<Question<Answer>>,
}

impl UpstreamClient {
    /// Asks the servers in turn, until one answers or all have been silent.
    pub(super) async fn ask(
        &self,
        attributes: Attributes,
        password: Option<Vec<u8>>,
    ) -> Result<Packet, UpstreamError> {
        let (tag, answer) = oneshot::channel();
        let question = Question {
            attributes,
            password,
            tag,
        };
        self.questions
            .try_send(question)
            .map_err(|_| UpstreamError::Busy)?;
        // The task drops a question only when it ends itself.
        answer.await.unwrap_or(Err(UpstreamError::NoAnswer))
    }
}

/// The task's side.
#[derive(Debug)]
pub(super) struct UpstreamTask {
    questions: mpsc::Receiver<Question<Answer>>,
    servers: Vec<(SocketAddr, UpstreamServer)>,
    limits: UpstreamLimits,
    /// By server and number; each is connected, so that only that server is heard.
    sockets: Vec<Vec<Arc<UdpSocket>>>,
}

/// A reply, or what a socket has to say instead.
struct Heard {
    server: usize,
    socket: u16,
    datagram: Vec<u8>,
}

impl UpstreamTask {
    /// Opens the sockets, each on a port of the kernel's choice.
    pub(super) async fn open(
        servers: Vec<(SocketAddr, UpstreamServer)>,
        limits: UpstreamLimits,
    ) -> Result<(UpstreamClient, Self), RadiusError> {
        let mut sockets = Vec::new();
        for (address, _) in &servers {
            let mut row = Vec::new();
            for _ in 0..limits.sockets {
                let socket = connect(*address).await;
                let socket = socket.map_err(|error| RadiusError::Upstream {
                    address: *address,
                    error,
                })?;
                row.push(Arc::new(socket));
            }
            sockets.push(row);
        }
        let (sender, questions) = mpsc::channel(limits.in_flight);
        Ok((
            UpstreamClient { questions: sender },
            Self {
                questions,
                servers,
                limits,
                sockets,
            },
        ))
    }

    /// Address of this host towards the first server.
    pub(super) fn local_address(&self) -> Option<IpAddr> {
        let socket = self.sockets.first()?.first()?;
        Some(socket.local_addr().ok()?.ip())
    }

    /// Works until all handles are gone.
    pub(super) async fn run(mut self, metrics: Metrics) {
        let (heard, mut replies) = mpsc::channel(REPLY_QUEUE);
        // Dropped, and so aborted, at the end.
        let _readers = self.spawn_readers(&heard);
        let servers = self
            .servers
            .iter()
            .map(|(_, server)| server.clone())
            .collect();
        let mut upstream = Upstream::new(servers, self.limits);
        let mut log = LogLimit::default();
        loop {
            let deadline = upstream.next_deadline();
            let effects = tokio::select! {
                question = self.questions.recv() => match question {
                    Some(question) => vec![upstream.submit(Instant::now(), question, &mut random)],
                    None => return,
                },
                Some(Heard { server, socket, datagram }) = replies.recv() => {
                    match upstream.receive(server, socket, &datagram) {
                        Ok(effect) => vec![effect],
                        Err(reason) => {
                            let label = reason.label();
                            metrics.radius(&format!("upstream-{label}"));
                            if let Some((address, _)) = self.servers.get(server)
                                && let Some(unsaid) = log.pass(Instant::now(), label)
                            {
                                tracing::warn!(%address, unsaid, "upstream reply dropped: {reason}");
                            }
                            continue;
                        }
                    }
                }
                () = sleep_until(deadline) => upstream.tick(Instant::now(), &mut random),
            };
            for effect in effects {
                self.perform(effect, &metrics).await;
            }
        }
    }

    async fn perform(&self, effect: Effect<Answer>, metrics: &Metrics) {
        match effect {
            Effect::Send {
                server,
                socket,
                datagram,
            } => {
                metrics.radius("upstream-sent");
                let row = self.sockets.get(server);
                let Some(socket) = row.and_then(|row| row.get(usize::from(socket))) else {
                    return;
                };
                // An earlier ICMP error is reported once by the next send, which then sends nothing.
                if socket.send(&datagram).await.is_err()
                    && let Err(error) = socket.send(&datagram).await
                {
                    // The timer will try again, or another server.
                    tracing::debug!("upstream request not sent: {error}");
                }
            }
            // Nobody waits any more: the request was given up.
            Effect::Done { tag, result } => drop(tag.send(result)),
        }
    }

    fn spawn_readers(&self, heard: &mpsc::Sender<Heard>) -> JoinSet<()> {
        let mut readers = JoinSet::new();
        for (server, row) in self.sockets.iter().enumerate() {
            for (number, socket) in (0..).zip(row) {
                readers.spawn(read(server, number, Arc::clone(socket), heard.clone()));
            }
        }
        readers
    }
}

async fn read(server: usize, number: u16, socket: Arc<UdpSocket>, heard: mpsc::Sender<Heard>) {
    let mut buffer = vec![0; super::BUFFER_LEN];
    loop {
        // An error is an ICMP message about a datagram sent before: the timer sees to that.
        let Ok(len) = socket.recv(&mut buffer).await else {
            continue;
        };
        let datagram = buffer.get(..len).unwrap_or_default().to_vec();
        if heard
            .send(Heard {
                server,
                socket: number,
                datagram,
            })
            .await
            .is_err()
        {
            return;
        }
    }
}

async fn connect(to: SocketAddr) -> std::io::Result<UdpSocket> {
    let any = match to {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(to).await?;
    Ok(socket)
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
