//! Connections that cannot pile up: a bound on their number, and an end for those that say nothing.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// Connections that one listener has at a time; who comes later waits in the kernel's queue.
pub const MAX_CONNECTIONS: usize = 8192;
/// How long a connection may be silent. Longer than any request may take, and than the keepalive of gRPC.
const MAX_SILENCE: Duration = Duration::from_secs(120);
/// How long to wait after the system could not accept a connection, such as for lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// A listener with those bounds.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    places: Arc<Semaphore>,
    silence: Duration,
}

/// One of its connections. Its place is free again when it is dropped.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    silence: Duration,
    silent_until: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Listener {
    /// Bounds a listener.
    #[must_use]
    pub fn new(listener: TcpListener) -> Self {
        Self::with_bounds(listener, MAX_CONNECTIONS, MAX_SILENCE)
    }

    fn with_bounds(listener: TcpListener, connections: usize, silence: Duration) -> Self {
        Self {
            listener,
            places: Arc::new(Semaphore::new(connections)),
            silence,
        }
    }

    /// The next connection, as soon as there is a place for it.
    pub async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The semaphore is never closed.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    // Answers are small and complete; there is nothing to wait for.
                    let _ = stream.set_nodelay(true);
                    let connection = Connection {
                        stream,
                        silence: self.silence,
                        silent_until: Box::pin(sleep(self.silence)),
                        _place: place,
                    };
                    return (connection, address);
                }
                Err(error) if is_of_the_client(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// The client was gone before it was accepted.
fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

impl Connection {
    /// Who is on the other end.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.stream.peer_addr().ok()
    }

    fn heard(&mut self) {
        let until = Instant::now() + self.silence;
        self.silent_until.as_mut().reset(until);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(context, buffer) {
            self.heard();
            return Poll::Ready(read);
        }
        ready!(self.silent_until.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the connection was silent for too long",
        )))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        // Whoever takes an answer is there.
        self.heard();
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn listener(connections: usize, silence: Duration) -> (Listener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (
            Listener::with_bounds(listener, connections, silence),
            address,
        )
    }

    #[tokio::test]
    async fn a_connection_beyond_the_bound_waits_for_a_place() {
        let (mut listener, address) = listener(1, MAX_SILENCE).await;
        let _one = TcpStream::connect(address).await.unwrap();
        let (first, _) = listener.accept().await;
        let _two = TcpStream::connect(address).await.unwrap();
        assert_eq!(listener.places.available_permits(), 0);
        drop(first);
        listener.accept().await;
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_ends() {
        let (mut listener, address) = listener(1, Duration::from_secs(1)).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        let (mut connection, _) = listener.accept().await;
        client.write_all(b"x").await.unwrap();
        let mut buffer = [0; 8];
        assert_eq!(connection.read(&mut buffer).await.unwrap(), 1);
        let error = connection.read(&mut buffer).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
