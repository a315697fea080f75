//! Counts the bytes of each peer, and ends connections that do not end.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::{AsyncRead, AsyncWrite, FutureExt as _};
use libp2p::PeerId;
use libp2p::core::StreamMuxer;
use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerEvent, SubstreamBox};

use crate::limits::{CLOSE_PATIENCE, MOST_REMEMBERED};

/// Bytes of all streams of a peer.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    read: AtomicU64,
    written: AtomicU64,
}

impl Traffic {
    /// Bytes read and bytes written.
    pub(crate) fn so_far(&self) -> (u64, u64) {
        (
            self.read.load(Ordering::Relaxed),
            self.written.load(Ordering::Relaxed),
        )
    }
}

/// The traffic of peers. Those without a connection are forgotten when there are too many.
#[derive(Debug, Clone, Default)]
pub(crate) struct TrafficTable(Arc<Mutex<BTreeMap<PeerId, Arc<Traffic>>>>);

impl TrafficTable {
    pub(crate) fn of(&self, peer: PeerId) -> Arc<Traffic> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= MOST_REMEMBERED {
            table.retain(|_, traffic| Arc::strong_count(traffic) > 1);
        }
        table.entry(peer).or_default().clone()
    }
}

/// A connection whose bytes are counted.
pub(super) struct Metered {
    inner: StreamMuxerBox,
    traffic: Arc<Traffic>,
    /// Runs from the first attempt to close. A peer that does not read would keep the connection,
    /// and its place, for as long as TCP has patience.
    closing: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Metered {
    pub(super) fn new(inner: StreamMuxerBox, traffic: Arc<Traffic>) -> Self {
        Self {
            inner,
            traffic,
            closing: None,
        }
    }

    fn stream(&self, polled: Poll<io::Result<SubstreamBox>>) -> Poll<io::Result<MeteredStream>> {
        polled.map_ok(|inner| MeteredStream {
            inner,
            traffic: self.traffic.clone(),
        })
    }
}

impl StreamMuxer for Metered {
    type Substream = MeteredStream;
    type Error = io::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<MeteredStream>> {
        let polled = Pin::new(&mut self.inner).poll_inbound(context);
        self.stream(polled)
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<MeteredStream>> {
        let polled = Pin::new(&mut self.inner).poll_outbound(context);
        self.stream(polled)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(result) = Pin::new(&mut self.inner).poll_close(context) {
            return Poll::Ready(result);
        }
        self.closing
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(CLOSE_PATIENCE)))
            .poll_unpin(context)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<StreamMuxerEvent>> {
        Pin::new(&mut self.inner).poll(context)
    }
}

/// A stream whose bytes are counted.
pub(super) struct MeteredStream {
    inner: SubstreamBox,
    traffic: Arc<Traffic>,
}

fn count(counter: &AtomicU64, polled: &Poll<io::Result<usize>>) {
    if let Poll::Ready(Ok(bytes)) = polled {
        counter.fetch_add(*bytes as u64, Ordering::Relaxed);
    }
}

impl AsyncRead for MeteredStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        to: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_read(context, to);
        count(&self.traffic.read, &polled);
        polled
    }
}

impl AsyncWrite for MeteredStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(context, from);
        count(&self.traffic.written, &polled);
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    /// As a connection whose peer does not read: what is left to send never leaves.
    struct Stuck;

    impl StreamMuxer for Stuck {
        type Substream = futures::io::Cursor<Vec<u8>>;
        type Error = io::Error;

        fn poll_inbound(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<io::Result<Self::Substream>> {
            Poll::Ready(Ok(futures::io::Cursor::new(vec![7; 10])))
        }

        fn poll_outbound(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<io::Result<Self::Substream>> {
            Poll::Pending
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_connection_that_does_not_end_is_given_up() {
        let mut metered = Metered::new(StreamMuxerBox::new(Stuck), Arc::default());
        let closed = poll_fn(|context| Pin::new(&mut metered).poll_close(context));
        let error = tokio::time::timeout(Duration::from_secs(60), closed)
            .await
            .unwrap();
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn bytes_are_counted_for_their_peer() {
        use futures::{AsyncReadExt as _, AsyncWriteExt as _};
        let table = TrafficTable::default();
        let peer = PeerId::random();
        let mut metered = Metered::new(StreamMuxerBox::new(Stuck), table.of(peer));
        let stream = poll_fn(|context| Pin::new(&mut metered).poll_inbound(context)).await;
        let mut stream = stream.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
        stream.write_all(&[0; 6]).await.unwrap();
        assert_eq!(table.of(peer).so_far(), (4, 6));
        assert_eq!(table.of(PeerId::random()).so_far(), (0, 0));
    }
}
