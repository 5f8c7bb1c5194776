//! The contract between controller and gateway, in two forms.
//!
//! - [`wire`]: what travels. Generated from `proto/discovery.proto`; may hold anything a peer sends.
//! - [`Route`], [`Endpoint`], [`Version`], [`AgentKey`] and their parts: the domain values. Holding one means
//!   that it is valid.
//!
//! Between them stand `TryFrom` on the way in, which refuses bad data by name and field ([`Rejected`]), and
//! `From` on the way out, which cannot fail. Nothing here does I/O, and nothing here knows Kubernetes or the
//! proxy: both sides depend on this crate and never on each other.

mod convert;
mod endpoint;
mod key;
mod route;
mod version;
pub mod wire;

pub use convert::{ConvertError, Rejected};
pub use endpoint::{Endpoint, EndpointPolicy, PodUid, RefusedAddress, parse_network};
pub use key::{AgentKey, AgentKeyError, is_dns_label};
pub use route::{
    AppProtocol, InvocationPath, InvocationPathError, Protocol, Route, Timeouts, UpstreamHost, VersionedRoute,
};
pub use version::{Version, VersionError};
