//! Wire to domain and back. In: everything is checked, and what is refused is refused by name and field. Out:
//! cannot fail.

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use crate::route::{
    AppProtocol, InvocationPath, InvocationPathError, Protocol, Route, Timeouts, UpstreamHost,
};
use crate::{AgentKey, AgentKeyError, Endpoint, RefusedAddress, Version, VersionError, VersionedRoute, wire};

/// The most endpoints that one route may have: far above the 1,000 pods a large agent runs, far below what
/// would hurt the gateway.
const MAX_ENDPOINTS: usize = 20_000;

/// A resource that was refused. Its last good value is kept and its name goes back in the NACK.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {reason}")]
pub struct Rejected {
    /// The name as the peer sent it.
    pub name: String,
    /// The version as the peer sent it.
    pub version: Vec<u8>,
    /// What is wrong with it.
    pub reason: ConvertError,
}

/// What is wrong with a wire message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// The name is not that of an Agent.
    #[error("name: {0}")]
    Name(#[from] AgentKeyError),
    /// The version is malformed.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// A field that must be there is not.
    #[error("{0}: missing")]
    Missing(&'static str),
    /// An enum holds a number that this release does not know.
    #[error("{field}: unknown value {value}")]
    UnknownValue {
        /// The field.
        field: &'static str,
        /// What it held.
        value: i32,
    },
    /// A port is 0 or above 65535.
    #[error("{field}: {value} is not a port")]
    Port {
        /// The field.
        field: &'static str,
        /// What it held.
        value: u32,
    },
    /// A duration that must not be zero is.
    #[error("{0}: must be above 0")]
    ZeroDuration(&'static str),
    /// The invocation path is not one.
    #[error("invocation_path: {0}")]
    InvocationPath(#[from] InvocationPathError),
    /// An address has neither 4 nor 16 bytes.
    #[error("{field}: an address has 4 or 16 bytes, this one {bytes}")]
    AddressLength {
        /// The field.
        field: &'static str,
        /// How many bytes it has.
        bytes: usize,
    },
    /// The address of the Service cannot be one.
    #[error("service: {0}")]
    Service(RefusedAddress),
    /// An endpoint's address cannot be one.
    #[error("endpoints[{index}]: {reason}")]
    Endpoint {
        /// Its position.
        index: usize,
        /// Why not.
        reason: RefusedAddress,
    },
    /// More endpoints than one route may have.
    #[error("endpoints: {0}, at most 20000")]
    TooManyEndpoints(usize),
}

// === in ===

impl TryFrom<wire::RouteResource> for VersionedRoute {
    type Error = Rejected;

    fn try_from(resource: wire::RouteResource) -> Result<Self, Self::Error> {
        let wire::RouteResource { name, version, route } = resource;
        let converted = || -> Result<Self, ConvertError> {
            let key: AgentKey = name.parse()?;
            let version = Version::try_from(version.as_slice())?;
            let route = route.ok_or(ConvertError::Missing("route"))?.try_into()?;
            Ok(Self::received(key, version, route))
        };
        converted().map_err(|reason| Rejected { name: name.clone(), version: version.clone(), reason })
    }
}

impl TryFrom<wire::Route> for Route {
    type Error = ConvertError;

    fn try_from(route: wire::Route) -> Result<Self, Self::Error> {
        if route.endpoints.len() > MAX_ENDPOINTS {
            return Err(ConvertError::TooManyEndpoints(route.endpoints.len()));
        }
        let endpoints =
            route.endpoints.iter().enumerate().map(|(index, endpoint)| endpoint_in(index, endpoint));
        Ok(Self {
            protocol: protocol_in(route.protocol)?,
            app_protocol: app_protocol_in(route.app_protocol)?,
            upstream_host: upstream_host_in(route.upstream_host)?,
            port: port_in("port", route.port)?,
            invocation_path: InvocationPath::new(&route.invocation_path)?,
            timeouts: route.timeouts.ok_or(ConvertError::Missing("timeouts"))?.try_into()?,
            concurrency: NonZeroU32::new(route.concurrency),
            max_standing_streams: route.max_standing_streams,
            service: route.service.as_ref().map(service_in).transpose()?,
            scaled_to_zero: route.scaled_to_zero,
            endpoints: endpoints.collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<wire::Timeouts> for Timeouts {
    type Error = ConvertError;

    fn try_from(timeouts: wire::Timeouts) -> Result<Self, Self::Error> {
        let above_zero = |field, ms| match ms {
            0 => Err(ConvertError::ZeroDuration(field)),
            ms => Ok(Duration::from_millis(ms)),
        };
        Ok(Self {
            timeout: above_zero("timeouts.timeout_ms", timeouts.timeout_ms)?,
            max_duration: Some(timeouts.max_duration_ms).filter(|ms| *ms > 0).map(Duration::from_millis),
            startup_timeout: above_zero("timeouts.startup_timeout_ms", timeouts.startup_timeout_ms)?,
        })
    }
}

fn service_in(service: &wire::Endpoint) -> Result<Endpoint, ConvertError> {
    let ip = ip_in("service.address", &service.address)?;
    let port = port_in("service.port", service.port)?;
    Endpoint::new(SocketAddr::new(ip, port.get()), None).map_err(ConvertError::Service)
}

fn endpoint_in(index: usize, endpoint: &wire::Endpoint) -> Result<Endpoint, ConvertError> {
    let ip = ip_in("endpoints.address", &endpoint.address)?;
    let port = port_in("endpoints.port", endpoint.port)?;
    let uid = Some(endpoint.pod_uid.as_str()).filter(|uid| !uid.is_empty()).map(Into::into);
    Endpoint::new(SocketAddr::new(ip, port.get()), uid)
        .map_err(|reason| ConvertError::Endpoint { index, reason })
}

fn ip_in(field: &'static str, bytes: &[u8]) -> Result<IpAddr, ConvertError> {
    let wrong = || ConvertError::AddressLength { field, bytes: bytes.len() };
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .map_err(|_| wrong())
}

fn port_in(field: &'static str, value: u32) -> Result<NonZeroU16, ConvertError> {
    u16::try_from(value).ok().and_then(NonZeroU16::new).ok_or(ConvertError::Port { field, value })
}

fn protocol_in(value: i32) -> Result<Protocol, ConvertError> {
    match wire::Protocol::try_from(value) {
        Ok(wire::Protocol::A2a) => Ok(Protocol::A2a),
        Ok(wire::Protocol::Mcp) => Ok(Protocol::Mcp),
        Ok(wire::Protocol::Http) => Ok(Protocol::Http),
        Ok(wire::Protocol::Unspecified) | Err(_) => {
            Err(ConvertError::UnknownValue { field: "protocol", value })
        }
    }
}

fn app_protocol_in(value: i32) -> Result<AppProtocol, ConvertError> {
    match wire::AppProtocol::try_from(value) {
        Ok(wire::AppProtocol::Http) => Ok(AppProtocol::Http),
        Ok(wire::AppProtocol::H2c) => Ok(AppProtocol::H2c),
        Ok(wire::AppProtocol::Unspecified) | Err(_) => {
            Err(ConvertError::UnknownValue { field: "app_protocol", value })
        }
    }
}

fn upstream_host_in(value: i32) -> Result<UpstreamHost, ConvertError> {
    match wire::UpstreamHost::try_from(value) {
        Ok(wire::UpstreamHost::Preserve) => Ok(UpstreamHost::Preserve),
        Ok(wire::UpstreamHost::Localhost) => Ok(UpstreamHost::Localhost),
        Ok(wire::UpstreamHost::Unspecified) | Err(_) => {
            Err(ConvertError::UnknownValue { field: "upstream_host", value })
        }
    }
}

// === out ===

impl From<&VersionedRoute> for wire::RouteResource {
    fn from(resource: &VersionedRoute) -> Self {
        Self {
            name: resource.key().as_str().to_owned(),
            version: resource.version().as_bytes().to_vec(),
            route: Some(resource.route().as_ref().into()),
        }
    }
}

impl From<&Route> for wire::Route {
    fn from(route: &Route) -> Self {
        let protocol = match route.protocol {
            Protocol::A2a => wire::Protocol::A2a,
            Protocol::Mcp => wire::Protocol::Mcp,
            Protocol::Http => wire::Protocol::Http,
        };
        let app_protocol = match route.app_protocol {
            AppProtocol::Http => wire::AppProtocol::Http,
            AppProtocol::H2c => wire::AppProtocol::H2c,
        };
        let upstream_host = match route.upstream_host {
            UpstreamHost::Preserve => wire::UpstreamHost::Preserve,
            UpstreamHost::Localhost => wire::UpstreamHost::Localhost,
        };
        Self {
            protocol: protocol.into(),
            app_protocol: app_protocol.into(),
            upstream_host: upstream_host.into(),
            port: route.port.get().into(),
            invocation_path: route.invocation_path.as_str().to_owned(),
            timeouts: Some(route.timeouts.into()),
            concurrency: route.concurrency.map_or(0, NonZeroU32::get),
            max_standing_streams: route.max_standing_streams,
            endpoints: route.endpoints.iter().map(Into::into).collect(),
            scaled_to_zero: route.scaled_to_zero,
            service: route.service.as_ref().map(Into::into),
        }
    }
}

impl From<Timeouts> for wire::Timeouts {
    fn from(timeouts: Timeouts) -> Self {
        // Rounded up: a limit below a millisecond must not become "none".
        let ms = |d: Duration| u64::try_from(d.as_micros().div_ceil(1000)).unwrap_or(u64::MAX).max(1);
        Self {
            timeout_ms: ms(timeouts.timeout),
            max_duration_ms: timeouts.max_duration.map_or(0, ms),
            startup_timeout_ms: ms(timeouts.startup_timeout),
        }
    }
}

impl From<&Endpoint> for wire::Endpoint {
    fn from(endpoint: &Endpoint) -> Self {
        Self {
            address: ip_out(endpoint.address().ip()),
            port: endpoint.address().port().into(),
            pod_uid: endpoint.pod_uid().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

fn ip_out(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests;
