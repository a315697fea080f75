//! Serves `/metrics` and `/healthz`: as little HTTP/1.1 as a scraper needs (RFC 9112).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::edge_handle::EdgeHandle;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

/// Longest request head in bytes.
const MAX_HEAD: usize = 8192;
/// Connections at a time; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 32;
/// Longest time for one request.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why metrics cannot be served.
#[derive(Debug, thiserror::Error)]
#[error(
    "metrics.listen: cannot listen on {address}: {error}; choose another address or stop who uses it"
)]
pub struct MetricsListenError {
    address: SocketAddr,
    error: io::Error,
}

/// Listens on `address`.
///
/// # Errors
/// If it is in use or not this host's.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, MetricsListenError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| MetricsListenError { address, error })
}

/// Serves until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    edge: EdgeHandle,
    mut shutdown: Shutdown,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            () = shutdown.wait() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (metrics, edge) = (metrics.clone(), edge.clone());
                tokio::spawn(async move {
                    // Who asks too slowly or breaks off is no event of ours.
                    let _ = tokio::time::timeout(PATIENCE, answer(stream, &metrics, &edge)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to /metrics could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(mut stream: TcpStream, metrics: &Metrics, edge: &EdgeHandle) -> io::Result<()> {
    let mut head = Vec::new();
    let whole = loop {
        if head.windows(4).any(|end| end == b"\r\n\r\n") {
            break true;
        }
        if head.len() >= MAX_HEAD || stream.read_buf(&mut head).await? == 0 {
            break false;
        }
    };
    let text = String::from_utf8_lossy(&head);
    let mut words = text.split_whitespace();
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let path = target.split('?').next().unwrap_or("");
    let plain = "text/plain; charset=utf-8";
    let (status, kind, body) = match (whole, method, path) {
        (false, ..) => (
            "400 Bad Request",
            plain,
            b"a request head of at most 8 KiB, please\n".to_vec(),
        ),
        (_, "GET" | "HEAD", "/metrics") => match metrics.encode() {
            Ok(text) => ("200 OK", "text/plain; version=0.0.4; charset=utf-8", text),
            Err(error) => (
                "500 Internal Server Error",
                plain,
                format!("{error}\n").into_bytes(),
            ),
        },
        (_, "GET" | "HEAD", "/healthz") => match edge.status().await {
            Ok(_) => ("200 OK", plain, b"ok\n".to_vec()),
            Err(error) => (
                "503 Service Unavailable",
                plain,
                format!("{error}\n").into_bytes(),
            ),
        },
        (_, "GET" | "HEAD", _) => (
            "404 Not Found",
            plain,
            b"there is /metrics and /healthz\n".to_vec(),
        ),
        _ => ("405 Method Not Allowed", plain, b"GET only\n".to_vec()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\nAllow: GET, HEAD\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    if method != "HEAD" {
        stream.write_all(&body).await?;
    }
    stream.shutdown().await
}

#[cfg(test)]
mod tests;
