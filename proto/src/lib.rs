//! The gRPC contract nexus.v1, generated from nexus/v1/nexus.proto.

/// Messages, client and server of `nexus.v1.Nexus`; see `nexus.proto` for units and errors.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("nexus.v1");
}
