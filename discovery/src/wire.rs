//! The generated wire messages and the gRPC service of `krypton.discovery.v1`. What they hold is unchecked:
//! convert before use.

#![expect(
    missing_docs,
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated; the documentation stands in proto/discovery.proto"
)]

tonic::include_proto!("krypton.discovery.v1");
