//! What RADIUS needs of the edge: an address for a subscriber that has proved who it is.

use std::future::Future;
use std::net::Ipv4Addr;

use nexus_core::id::PoolId;

use crate::edge_handle::{AuthorizedSubscriber, Delivered, EdgeError, EdgeHandle, Grant};

/// What an Access-Accept says of the address and of what comes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramedAddress {
    /// Pool of the address.
    pub pool: PoolId,
    /// Framed-IP-Address.
    pub address: Ipv4Addr,
    /// Framed-IP-Netmask.
    pub mask: Ipv4Addr,
    /// Whole seconds until the right to the address ends for good, for Session-Timeout; `None`: it has
    /// no end that is known.
    pub ends_in_secs: Option<u32>,
    /// Whatever else the subscriber has.
    pub further: Vec<Delivered>,
}

/// Gives out addresses. [`EdgeHandle`] does; a test of RADIUS alone may do it itself.
pub trait Authorizer: Clone + Send + Sync + 'static {
    /// As [`EdgeHandle::authorize`]: the address is durable and in the kernel's map on return.
    fn authorize(
        &self,
        subscriber: AuthorizedSubscriber,
    ) -> impl Future<Output = Result<FramedAddress, EdgeError>> + Send;
}

impl Authorizer for EdgeHandle {
    async fn authorize(
        &self,
        subscriber: AuthorizedSubscriber,
    ) -> Result<FramedAddress, EdgeError> {
        let Grant {
            pool,
            address,
            mask,
            further,
            ..
        } = Self::authorize(self, subscriber).await?;
        Ok(FramedAddress {
            pool,
            address,
            mask,
            ends_in_secs: None,
            further,
        })
    }
}
