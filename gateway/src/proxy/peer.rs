//! Where and how to dial: an endpoint and a route made into Pingora's peer, with every timeout set.

use std::time::Duration;

use krypton_discovery::AppProtocol;
use pingora::protocols::TcpKeepalive;
use pingora::upstreams::peer::HttpPeer;

use crate::route_table::EndpointState;

/// Below the 2 s after which gunicorn closes an idle connection, the shortest of the common servers.
pub const UPSTREAM_IDLE: Duration = Duration::from_millis(1500);
/// Streams on one HTTP/2 connection to a pod: what servers commonly allow.
const H2_STREAMS: usize = 100;
/// Dead pods of silent streams are found after about 60 s + 5 x 10 s.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_mins(1),
    interval: Duration::from_secs(10),
    count: 5,
    // What was sent and is not acknowledged for this long is lost.
    user_timeout: Duration::from_mins(1),
};

/// How one attempt dials.
#[derive(Debug, Clone, Copy)]
pub struct Dial {
    /// What the pod speaks.
    pub app_protocol: AppProtocol,
    /// How long a connection may take.
    pub connect: Duration,
    /// How long the agent may be silent; `None` for upgrades, which may be silent for ever.
    pub silence: Option<Duration>,
    /// Not from the pool.
    pub fresh: bool,
}

/// The peer for an attempt at `endpoint`.
#[must_use]
pub fn peer(endpoint: &EndpointState, dial: Dial) -> HttpPeer {
    let mut peer = HttpPeer::new(endpoint.address(), false, String::new());
    // Pooled connections belong to a pod. A group of its own has none: that is how to get a fresh one.
    peer.group_key = if dial.fresh { fastrand::u64(..) } else { endpoint.group_key() };
    if dial.app_protocol == AppProtocol::H2c {
        peer.options.set_http_version(2, 2);
        peer.options.max_h2_streams = H2_STREAMS;
    }
    peer.options.connection_timeout = Some(dial.connect);
    peer.options.total_connection_timeout = Some(dial.connect);
    peer.options.read_timeout = dial.silence;
    peer.options.write_timeout = dial.silence;
    peer.options.idle_timeout = Some(endpoint.keep_alive().unwrap_or(UPSTREAM_IDLE));
    peer.options.tcp_keepalive = Some(KEEPALIVE);
    peer
}
