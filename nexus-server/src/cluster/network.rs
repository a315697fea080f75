//! The quorum's way to the other servers.

use std::time::Duration;

use nexus_p2p::{AskError, Link};
use nexus_quorum::{BoxFuture, CallError, Network};

use super::channel;

/// Questions over the peer-to-peer link; a server that runs alone has none.
pub struct PeerNetwork(pub Option<Link>);

impl Network for PeerNetwork {
    fn call(
        &self,
        to: u32,
        message: Vec<u8>,
        patience: Duration,
    ) -> BoxFuture<Result<Vec<u8>, CallError>> {
        let link = self.0.clone();
        Box::pin(async move {
            let Some(link) = link else {
                return Err(CallError::NotSent("this server runs alone".to_owned()));
            };
            link.ask(to, channel::QUORUM, message, patience)
                .await
                .map_err(|error| match error {
                    AskError::Unanswered | AskError::Timeout | AskError::Lost => {
                        CallError::NoAnswer(error.to_string())
                    }
                    AskError::NotConnected(_)
                    | AskError::Busy
                    | AskError::PeerBusy
                    | AskError::UnknownChannel(_)
                    | AskError::TooLong(_)
                    | AskError::Stopped => CallError::NotSent(error.to_string()),
                })
        })
    }
}
