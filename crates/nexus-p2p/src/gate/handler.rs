//! The gate on one connection: shut (no streams), installed (streams are taken, not read), open.

use std::fmt;
use std::task::{Context, Poll, Waker};

use libp2p::core::upgrade::DeniedUpgrade;
use libp2p::swarm::derive_prelude::Either;
use libp2p::swarm::handler::{
    ConnectionEvent, FullyNegotiatedInbound, ListenUpgradeError, SendWrapper,
};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, SubstreamProtocol};

/// What the gate's behaviour tells its handlers.
pub(crate) enum ToGate<H: ConnectionHandler> {
    Install(Box<H>),
    Open,
    Inner(H::FromBehaviour),
}

impl<H: ConnectionHandler> fmt::Debug for ToGate<H> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Install(_) => to.write_str("Install"),
            Self::Open => to.write_str("Open"),
            Self::Inner(event) => to.debug_tuple("Inner").field(event).finish(),
        }
    }
}

/// See the module.
pub(crate) struct GateHandler<H> {
    inner: Option<Box<H>>,
    is_open: bool,
    waker: Option<Waker>,
}

impl<H> GateHandler<H> {
    pub(super) fn new() -> Self {
        Self {
            inner: None,
            is_open: false,
            waker: None,
        }
    }
}

impl<H: ConnectionHandler<InboundOpenInfo = ()>> ConnectionHandler for GateHandler<H> {
    type FromBehaviour = ToGate<H>;
    type ToBehaviour = H::ToBehaviour;
    type InboundProtocol = Either<SendWrapper<H::InboundProtocol>, SendWrapper<DeniedUpgrade>>;
    type OutboundProtocol = H::OutboundProtocol;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        match &self.inner {
            Some(inner) => inner
                .listen_protocol()
                .map_upgrade(|upgrade| Either::Left(SendWrapper(upgrade))),
            None => SubstreamProtocol::new(Either::Right(SendWrapper(DeniedUpgrade)), ()),
        }
    }

    fn on_behaviour_event(&mut self, event: ToGate<H>) {
        match event {
            ToGate::Install(inner) => self.inner = Some(inner),
            ToGate::Open => self.is_open = true,
            ToGate::Inner(event) => {
                if let Some(inner) = &mut self.inner {
                    inner.on_behaviour_event(event);
                }
            }
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn connection_keep_alive(&self) -> bool {
        self.inner
            .as_ref()
            .is_some_and(|inner| inner.connection_keep_alive())
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<
        ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Self::ToBehaviour>,
    > {
        match &mut self.inner {
            Some(inner) if self.is_open => inner.poll(context),
            _ => {
                self.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        match &mut self.inner {
            Some(inner) if self.is_open => inner.poll_close(context),
            _ => Poll::Ready(None),
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            '_,
            Self::InboundProtocol,
            Self::OutboundProtocol,
            (),
            Self::OutboundOpenInfo,
        >,
    ) {
        let Some(inner) = &mut self.inner else {
            return;
        };
        inner.on_connection_event(match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: futures::future::Either::Left(protocol),
                info,
            }) => {
                ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, info })
            }
            ConnectionEvent::ListenUpgradeError(ListenUpgradeError {
                info,
                error: Either::Left(error),
            }) => ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info, error }),
            // What was denied before the protocol was installed.
            ConnectionEvent::FullyNegotiatedInbound(_) | ConnectionEvent::ListenUpgradeError(_) => {
                return;
            }
            ConnectionEvent::FullyNegotiatedOutbound(event) => {
                ConnectionEvent::FullyNegotiatedOutbound(event)
            }
            ConnectionEvent::DialUpgradeError(event) => ConnectionEvent::DialUpgradeError(event),
            ConnectionEvent::AddressChange(event) => ConnectionEvent::AddressChange(event),
            ConnectionEvent::LocalProtocolsChange(event) => {
                ConnectionEvent::LocalProtocolsChange(event)
            }
            ConnectionEvent::RemoteProtocolsChange(event) => {
                ConnectionEvent::RemoteProtocolsChange(event)
            }
            _ => return,
        });
    }
}
