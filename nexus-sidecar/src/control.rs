//! The control socket: `nexus-sidecar status`, `bindings`, `trace` and `events` ask the running sidecar over it.
//!
//! JSON lines on a unix socket. A request is one line, [`Request`]; an answer is lines of [`Answer`]
//! up to and including one that is neither a binding nor a packet. One request per connection; a
//! trace ends when its asker hangs up.

mod watch;

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nexus_core::id::SubscriberId;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::edge_handle::EdgeHandle;
use crate::packet_events::{PacketEvents, PacketReport};
use crate::shutdown::Shutdown;
use crate::status::{BindingReport, StatusReport};

/// Longest request in bytes.
const MAX_REQUEST: u64 = 4096;
/// Longest line of an answer in bytes: a status with thousands of shards.
const MAX_LINE: u64 = 16 * 1024 * 1024;
/// Connections at a time; more wait.
const MAX_CONNECTIONS: usize = 16;
/// Longest time that either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How the host stands.
    Status,
    /// Who has what.
    Bindings {
        /// Of this subscriber only.
        subscriber: Option<SubscriberId>,
    },
    /// Every DHCP packet of a client from now on, and what becomes of it.
    Trace {
        /// The subscriber, who has a binding here; or
        subscriber: Option<SubscriberId>,
        /// the MAC address of the client.
        mac: Option<[u8; 6]>,
    },
    /// Unknown clients, MACs that are not allowed on their line, and NAKs from now on.
    Events,
}

/// One line of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// How the host stands; the last line.
    Status(Box<StatusReport>),
    /// One binding; more follow.
    Binding(BindingReport),
    /// A trace has begun; packets follow. Whom it is of, in words.
    Watching(String),
    /// One packet; more follow.
    Packet(PacketReport),
    /// That was all: so many bindings.
    End(u64),
    /// It went wrong; the last line.
    Error(String),
}

/// Why the control socket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another process serves it.
    #[error(
        "another nexus-sidecar serves {path}: stop it, or give this one its own control.socket, storage.path and fast_path.pin_path", path = path.display()
    )]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// It cannot be made.
    #[error("cannot listen on {path}: {error}; does the folder exist and may this user write to it? (systemd: RuntimeDirectory=nexus-sidecar)", path = path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Nobody serves it.
    #[error(
        "no nexus-sidecar answers on {path}: {error}; is it running (systemctl status nexus-sidecar), and is this its control.socket? (--socket or --config name another)", path = path.display()
    )]
    Absent {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The conversation broke off.
    #[error("the nexus-sidecar on {path} did not answer as it should: {problem}", path = path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// How.
        problem: String,
    },
    /// The sidecar says that it went wrong.
    #[error("the nexus-sidecar on {path} says: {problem}", path = path.display())]
    Refused {
        /// The socket.
        path: PathBuf,
        /// What it says.
        problem: String,
    },
}

/// The listening socket; its file goes when this does.
#[derive(Debug)]
pub struct ControlServer {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        // Nothing can be done about a file that is gone already.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl ControlServer {
    /// Listens on `path`, for its owner and group. A socket that nobody serves is replaced.
    ///
    /// # Errors
    /// If another process serves it or it cannot be made.
    pub async fn bind(path: &Path) -> Result<Self, ControlError> {
        let failed = |error| ControlError::Listen {
            path: path.to_owned(),
            error,
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        if UnixStream::connect(path).await.is_ok() {
            return Err(ControlError::InUse {
                path: path.to_owned(),
            });
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }

    /// Answers until `shutdown`.
    pub async fn serve(self, edge: EdgeHandle, packets: PacketEvents, mut shutdown: Shutdown) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                () = shutdown.wait() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (edge, packets) = (edge.clone(), packets.clone());
                    let mut shutdown = shutdown.clone();
                    tokio::spawn(async move {
                        let answered = tokio::select! {
                            () = shutdown.wait() => Ok(()),
                            answered = answer(stream, &edge, &packets) => answered,
                        };
                        if let Err(error) = answered {
                            tracing::debug!(%error, "a control connection broke off");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a control connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn answer(stream: UnixStream, edge: &EdgeHandle, packets: &PacketEvents) -> io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let mut line = String::new();
    let read = BufReader::new((&mut reader).take(MAX_REQUEST));
    patiently(read_line(read, &mut line)).await?;
    let request = serde_json::from_str(&line);
    if let Ok(Request::Trace { .. } | Request::Events) = &request {
        let watching = watch::begin(request, edge, packets).await;
        return watch::show(watching, reader, writer).await;
    }
    patiently(async {
        let text = reply(request, edge).await?;
        writer.write_all(&text).await?;
        writer.shutdown().await
    })
    .await
}

async fn patiently(work: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    tokio::time::timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn read_line(
    mut from: impl tokio::io::AsyncBufRead + Unpin,
    line: &mut String,
) -> io::Result<()> {
    from.read_line(line).await.map(|_| ())
}

/// All lines of an answer that is whole at once.
async fn reply(request: serde_json::Result<Request>, edge: &EdgeHandle) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    match request {
        Ok(Request::Status) => match edge.status().await {
            Ok(status) => push(&mut text, &Answer::Status(Box::new(status)))?,
            Err(error) => push(&mut text, &Answer::Error(error.to_string()))?,
        },
        Ok(Request::Bindings { subscriber }) => match edge.bindings(subscriber).await {
            Ok(bindings) => {
                let count = u64::try_from(bindings.len()).unwrap_or(u64::MAX);
                for binding in bindings {
                    push(&mut text, &Answer::Binding(binding))?;
                }
                push(&mut text, &Answer::End(count))?;
            }
            Err(error) => push(&mut text, &Answer::Error(error.to_string()))?,
        },
        // Those are answered bit by bit.
        Ok(Request::Trace { .. } | Request::Events) => {}
        Err(error) => push(
            &mut text,
            &Answer::Error(format!("the request is not understood: {error}")),
        )?,
    }
    Ok(text)
}

fn push(text: &mut Vec<u8>, answer: &Answer) -> io::Result<()> {
    serde_json::to_writer(&mut *text, answer)?;
    text.push(b'\n');
    Ok(())
}

/// Asks the sidecar that serves `path`. Every line of the answer goes to `each`.
///
/// # Errors
/// If nobody serves it, the answer is not whole, or it says that it went wrong.
pub async fn ask(
    path: &Path,
    request: &Request,
    mut each: impl FnMut(Answer),
) -> Result<(), ControlError> {
    let stream = UnixStream::connect(path)
        .await
        .map_err(|error| ControlError::Absent {
            path: path.to_owned(),
            error,
        })?;
    let broken = |problem: String| ControlError::Broken {
        path: path.to_owned(),
        problem,
    };
    let talk = async {
        let (reader, mut writer) = stream.into_split();
        let mut text = serde_json::to_vec(request).map_err(|e| broken(e.to_string()))?;
        text.push(b'\n');
        writer
            .write_all(&text)
            .await
            .map_err(|e| broken(e.to_string()))?;
        let mut reader = BufReader::new(reader);
        // The first line comes soon; the packets of a trace come when they come.
        let mut patience = Some(PATIENCE);
        loop {
            let mut line = String::new();
            let mut limited = (&mut reader).take(MAX_LINE);
            let reading = limited.read_line(&mut line);
            let read = match patience {
                Some(patience) => tokio::time::timeout(patience, reading)
                    .await
                    .map_err(|_| broken(format!("no answer within {} s", PATIENCE.as_secs())))?,
                None => reading.await,
            };
            if read.map_err(|e| broken(e.to_string()))? == 0 {
                return Err(broken("the answer is not whole".to_owned()));
            }
            let answer: Answer = serde_json::from_str(&line).map_err(|e| broken(e.to_string()))?;
            match answer {
                Answer::Error(problem) => {
                    return Err(ControlError::Refused {
                        path: path.to_owned(),
                        problem,
                    });
                }
                Answer::Watching(_) => {
                    patience = None;
                    each(answer);
                }
                Answer::Binding(_) | Answer::Packet(_) => each(answer),
                Answer::Status(_) | Answer::End(_) => {
                    each(answer);
                    return Ok(());
                }
            }
        }
    };
    talk.await
}

#[cfg(test)]
mod tests;
