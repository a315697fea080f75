//! One connection's Hellos.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, Waker};

use futures::future::BoxFuture;
use futures::{AsyncWriteExt as _, FutureExt as _};
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, SubstreamProtocol};
use libp2p::{Stream, StreamProtocol};

use crate::limits::HELLO_PATIENCE;
use crate::wire::{read_greeting, write_greeting};

/// What the node says on a connection.
#[derive(Debug)]
pub(crate) enum Say {
    /// Our Hello, encoded.
    Hello(Vec<u8>),
    /// Our verdict on theirs, encoded.
    Verdict(Vec<u8>),
}

/// What the node hears on a connection.
#[derive(Debug)]
pub(crate) enum Heard {
    /// Their Hello.
    Hello(Vec<u8>),
    /// Their verdict on ours.
    Verdict(Vec<u8>),
    /// Our verdict has left.
    VerdictSent,
    /// Their bytes are too long.
    Garbage(String),
    /// Our Hello found no verdict.
    Failed(String),
}

type Asking = BoxFuture<'static, io::Result<Vec<u8>>>;
type Hearing = BoxFuture<'static, io::Result<(Vec<u8>, Stream)>>;
type Answering = BoxFuture<'static, io::Result<()>>;

/// Sends and takes Hellos on one connection.
pub(crate) struct Handler {
    protocol: StreamProtocol,
    /// The Hello that leaves next.
    hello: Option<Vec<u8>>,
    /// A stream is being opened for the Hello.
    opening: bool,
    asking: Option<Asking>,
    hearing: Option<Hearing>,
    /// Their stream, which waits for our verdict.
    owed: Option<Stream>,
    answering: Option<Answering>,
    /// At most a few: each comes from one of the futures above.
    out: VecDeque<Heard>,
    waker: Option<Waker>,
}

impl Handler {
    pub(super) fn new(protocol: StreamProtocol) -> Self {
        Self {
            protocol,
            hello: None,
            opening: false,
            asking: None,
            hearing: None,
            owed: None,
            answering: None,
            out: VecDeque::new(),
            waker: None,
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn opened(&mut self, mut stream: Stream) {
        self.opening = false;
        let Some(hello) = self.hello.take() else {
            return;
        };
        let exchange = async move {
            write_greeting(&mut stream, &hello).await?;
            let verdict = read_greeting(&mut stream).await?;
            stream.close().await?;
            Ok(verdict)
        };
        self.asking = Some(in_time(exchange));
        self.wake();
    }

    fn accepted(&mut self, mut stream: Stream) {
        if self.hearing.is_some() || self.owed.is_some() {
            // One at a time: a peer says its next Hello only after the verdict on the last.
            return;
        }
        self.hearing = Some(in_time(async move {
            let hello = read_greeting(&mut stream).await?;
            Ok((hello, stream))
        }));
        self.wake();
    }

    fn failed(error: &io::Error) -> Heard {
        if error.kind() == io::ErrorKind::InvalidData {
            Heard::Garbage(error.to_string())
        } else {
            Heard::Failed(error.to_string())
        }
    }
}

fn in_time<T>(
    work: impl Future<Output = io::Result<T>> + Send + 'static,
) -> BoxFuture<'static, io::Result<T>> {
    async {
        match tokio::time::timeout(HELLO_PATIENCE, work).await {
            Ok(result) => result,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
    .boxed()
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Say;
    type ToBehaviour = Heard;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(self.protocol.clone()), ())
    }

    /// Connections are ended by the node, never by being idle.
    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn on_behaviour_event(&mut self, say: Say) {
        match say {
            Say::Hello(bytes) => self.hello = Some(bytes),
            Say::Verdict(bytes) => {
                if let Some(mut stream) = self.owed.take() {
                    self.answering = Some(in_time(async move {
                        write_greeting(&mut stream, &bytes).await?;
                        stream.close().await
                    }));
                }
            }
        }
        self.wake();
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol, ..
            }) => {
                self.accepted(protocol);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol, ..
            }) => self.opened(protocol),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                self.opening = false;
                self.hello = None;
                self.out.push_back(Heard::Failed(error.to_string()));
                self.wake();
            }
            _ => {}
        }
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Heard>> {
        if let Some(asking) = &mut self.asking
            && let Poll::Ready(result) = asking.poll_unpin(context)
        {
            self.asking = None;
            let heard = match result {
                Ok(verdict) => Heard::Verdict(verdict),
                Err(error) => Self::failed(&error),
            };
            self.out.push_back(heard);
        }
        if let Some(hearing) = &mut self.hearing
            && let Poll::Ready(result) = hearing.poll_unpin(context)
        {
            self.hearing = None;
            let heard = match result {
                Ok((hello, stream)) => {
                    self.owed = Some(stream);
                    Heard::Hello(hello)
                }
                Err(error) => Self::failed(&error),
            };
            self.out.push_back(heard);
        }
        if let Some(answering) = &mut self.answering
            && answering.poll_unpin(context).is_ready()
        {
            // If the stream failed, the connection ends by itself or by the Hello's deadline.
            self.answering = None;
            self.out.push_back(Heard::VerdictSent);
        }
        if let Some(heard) = self.out.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(heard));
        }
        if self.hello.is_some() && !self.opening && self.asking.is_none() {
            self.opening = true;
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(ReadyUpgrade::new(self.protocol.clone()), ()),
            });
        }
        self.waker = Some(context.waker().clone());
        Poll::Pending
    }
}
