//! What RADIUS needs of the edge: an address for a subscriber that has proved who it is.

use std::future::Future;

use crate::edge_handle::{AuthorizedSubscriber, EdgeError, EdgeHandle, Grant};

/// Gives out addresses. [`EdgeHandle`] does; a test of RADIUS alone may do it itself.
pub trait Authorizer: Clone + Send + Sync + 'static {
    /// As [`EdgeHandle::authorize`]: the address is durable and in the kernel's map on return.
    fn authorize(
        &self,
        subscriber: AuthorizedSubscriber,
    ) -> impl Future<Output = Result<Grant, EdgeError>> + Send;
}

impl Authorizer for EdgeHandle {
    async fn authorize(&self, subscriber: AuthorizedSubscriber) -> Result<Grant, EdgeError> {
        Self::authorize(self, subscriber).await
    }
}
