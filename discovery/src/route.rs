//! What a gateway has to know of one Agent.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;

use crate::{AgentKey, Endpoint, Version, wire};

/// How to reach one Agent's pods and how long to bear with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What the agent speaks above HTTP.
    pub protocol: Protocol,
    /// The HTTP version its pods speak.
    pub app_protocol: AppProtocol,
    /// The Host its pods see.
    pub upstream_host: UpstreamHost,
    /// The port its pods listen on, for `localhost:<port>`. Nothing is dialled at it: addresses bring their own.
    pub port: NonZeroU16,
    /// Where a call with an empty rest lands.
    pub invocation_path: InvocationPath,
    /// The Agent's own time limits.
    pub timeouts: Timeouts,
    /// Calls in flight per pod; `None` is unlimited.
    pub concurrency: Option<NonZeroU32>,
    /// Standing streams per pod.
    pub max_standing_streams: u32,
    /// The ClusterIP of the Agent's Service, at the Service's own port; `None` where it has none. Only for when pod
    /// addresses may be stale.
    pub service: Option<Endpoint>,
    /// A person set `replicas: 0`: the agent is off, not asleep.
    pub scaled_to_zero: bool,
    /// Where new calls may go. Empty while no pod is ready.
    pub endpoints: Vec<Endpoint>,
}

/// The time limits of one Agent. None of them is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// How long the agent may stay silent: to the first response byte, then between bytes.
    pub timeout: Duration,
    /// Total limit of one call; `None` is no limit.
    pub max_duration: Option<Duration>,
    /// How long a call may wait for a pod or a slot.
    pub startup_timeout: Duration,
}

/// What an agent speaks above HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Agent2Agent.
    A2a,
    /// Model Context Protocol, streamable HTTP.
    Mcp,
    /// Nothing that the gateway needs to know.
    Http,
}

/// The HTTP version that an agent's pods speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AppProtocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2 in clear text with prior knowledge.
    H2c,
}

/// The Host header that an agent's pods see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamHost {
    /// As the client sent it.
    Preserve,
    /// `localhost:<port>`: MCP's SDKs refuse any other by default.
    Localhost,
}

/// A path in origin-form: begins with `/`, printable ASCII, no `?` and no `#`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InvocationPath(Arc<str>);

/// Why a string is not an [`InvocationPath`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvocationPathError {
    /// It does not begin with `/`.
    #[error("path does not begin with '/'")]
    NoLeadingSlash,
    /// It holds a character that a request path cannot hold as it stands.
    #[error("path holds the byte {0:#04x}, allowed is printable ASCII without '?', '#', '<', '>' and '`'")]
    Byte(u8),
    /// It is longer than 1024 bytes.
    #[error("path has {0} bytes, at most 1024")]
    TooLong(usize),
}

/// A route with its name and version: one resource. Cheap to clone.
#[derive(Debug, Clone)]
pub struct VersionedRoute {
    key: AgentKey,
    version: Version,
    route: Arc<Route>,
}

// === impl InvocationPath ===

impl InvocationPath {
    /// The longest path that is taken, as in the CRD.
    pub const MAX_BYTES: usize = 1024;

    /// Checks `path`.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn new(path: &str) -> Result<Self, InvocationPathError> {
        // Besides what ends a path, what Pingora's parser refuses in one.
        let bad = |b: &u8| !b.is_ascii_graphic() || matches!(b, b'?' | b'#' | b'<' | b'>' | b'`');
        if !path.starts_with('/') {
            return Err(InvocationPathError::NoLeadingSlash);
        }
        if path.len() > Self::MAX_BYTES {
            return Err(InvocationPathError::TooLong(path.len()));
        }
        match path.bytes().find(bad) {
            Some(byte) => Err(InvocationPathError::Byte(byte)),
            None => Ok(Self(path.into())),
        }
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for InvocationPath {
    fn default() -> Self {
        Self("/".into())
    }
}

impl fmt::Display for InvocationPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl VersionedRoute ===

impl VersionedRoute {
    /// The resource `key`, with its version computed. Endpoints are put in order and doubles dropped, since the
    /// same set must have the same version however it was found.
    #[must_use]
    pub fn new(key: AgentKey, mut route: Route) -> Self {
        route.endpoints.sort_unstable();
        route.endpoints.dedup();
        let version = Version::of(&wire::Route::from(&route).encode_to_vec());
        Self { key, version, route: Arc::new(route) }
    }

    /// What came off the wire, with the version that the controller gave it.
    pub(crate) fn received(key: AgentKey, version: Version, route: Route) -> Self {
        Self { key, version, route: Arc::new(route) }
    }

    /// The Agent.
    #[must_use]
    pub fn key(&self) -> &AgentKey {
        &self.key
    }

    /// The version that the controller computed.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The route itself.
    #[must_use]
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }
}

/// Equal when name and version are: the version is a hash of the route.
impl PartialEq for VersionedRoute {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.version == other.version
    }
}

impl Eq for VersionedRoute {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invocation_path_is_a_path() {
        assert_eq!(InvocationPath::new("/a%2Fb;c=d//..").unwrap().as_str(), "/a%2Fb;c=d//..");
        assert_eq!(InvocationPath::new("a"), Err(InvocationPathError::NoLeadingSlash));
        assert_eq!(InvocationPath::new(""), Err(InvocationPathError::NoLeadingSlash));
        assert_eq!(InvocationPath::new("/a b"), Err(InvocationPathError::Byte(b' ')));
        assert_eq!(InvocationPath::new("/a?b"), Err(InvocationPathError::Byte(b'?')));
        assert_eq!(InvocationPath::new("/a\r\nb"), Err(InvocationPathError::Byte(b'\r')));
        assert_eq!(InvocationPath::new("/é"), Err(InvocationPathError::Byte(0xc3)));
        let long = format!("/{}", "a".repeat(1024));
        assert_eq!(InvocationPath::new(&long), Err(InvocationPathError::TooLong(1025)));
    }
}
