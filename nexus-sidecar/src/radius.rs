//! RADIUS: Access-Requests come in, are proved by a users file or AAA servers, and leave as an
//! Access-Accept with an address of this host's own shards.
//!
//! ```text
//! NAS -> UDP socket -> listener task (nexus_radius::server) -> one task per request, at most
//!   max_in_flight -> [upstream task (nexus_radius::upstream) -> AAA server] -> EdgeHandle
//! ```
//! Queues: questions to the upstream task (max_in_flight; full: no answer, the NAS asks again), its
//! replies (256; full: they wait in the sockets). The protocol itself is in `nexus-radius`.

mod access;
mod authorizer;
mod config;
mod delivery;
mod interface;
mod line_access;
mod listener;
pub(crate) mod log_limit;
mod subscriber;
mod upstream_client;
mod users;

use std::net::SocketAddr;

pub use authorizer::{Authorizer, FramedAddress};
pub use config::{
    ClientConfig, RadiusConfig, RadiusConfigError, SecretText, Settings, UpstreamConfig,
    UpstreamServerConfig,
};
pub use interface::InterfaceRule;
pub use line_access::{LineAccess, LineRequest, Verdict};
pub use listener::RadiusServer;
pub use subscriber::Line;
pub use users::{User, Users, UsersError};

use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

/// One octet more than a RADIUS packet may have.
const BUFFER_LEN: usize = 4097;

/// RADIUS cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RadiusError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] RadiusConfigError),
    /// The socket cannot be opened.
    #[error(
        "radius.listen: cannot listen on {address}: {error}; is another RADIUS server running, and is \
         the address one of this host's?"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// A socket towards an AAA server cannot be opened.
    #[error("radius.upstream: cannot open a socket towards {address}: {error}; is there a route?")]
    Upstream {
        /// The server.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
}

/// Serves Access-Requests until `shutdown`. [`RadiusServer`] does the same in two steps.
///
/// # Errors
/// If the configuration is wrong or a socket cannot be opened; nothing has been served then.
pub async fn run(
    config: RadiusConfig,
    authorizer: impl Authorizer,
    metrics: Metrics,
    shutdown: Shutdown,
) -> Result<(), RadiusError> {
    RadiusServer::bind(config.check()?)
        .await?
        .serve(authorizer, metrics, shutdown)
        .await;
    Ok(())
}

/// Sixteen unpredictable octets, for a Request Authenticator (RFC 2865 section 3).
fn random() -> [u8; 16] {
    rand::random()
}
