//! RADIUS packets, attributes and the server and client state machines, without any I/O.
//!
//! Bytes, time and randomness come in as arguments; replies, datagrams to send and drop reasons go
//! out as values. The sockets are in `nexus-sidecar`.
//!
//! - [`packet`], [`attributes`], [`attribute_id`]: the codec (RFC 2865 sections 3 and 5).
//! - [`values`]: values that are more than a number or text: prefixes, tags, VLANs, TLVs.
//! - [`authenticator`], [`password`]: the shared-secret cryptography (RFC 2865, RFC 3579).
//! - [`server`]: what faces a NAS: clients, duplicates, replies.
//! - [`upstream`]: what faces an AAA server: identifiers, retransmission, fail-over.
//! - [`identity`]: who a request is about: MAC, VLANs, subscriber id.

pub mod attribute_id;
pub mod attributes;
pub mod authenticator;
pub mod identity;
pub mod packet;
pub mod password;
pub mod server;
pub mod upstream;
pub mod values;

#[cfg(test)]
mod tests;

pub use attribute_id::AttributeId;
pub use attributes::{AttributeError, Attributes};
pub use authenticator::Secret;
pub use packet::{Code, DecodeError, Packet};
