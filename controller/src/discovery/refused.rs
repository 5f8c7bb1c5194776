//! What discovery turns away at one of its bounds, counted, and told once a minute.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::metrics::Metrics;
use crate::seldom::Seldom;

/// What was turned away, or why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused {
    /// A connection, since there are as many as there may be.
    Connections,
    /// One of an address that has as many as one may have.
    ConnectionsOfAddress,
    /// A connection, since as many as may be are in their handshake.
    Handshakes,
    /// One of an address that has as many in their handshake as one may have.
    HandshakesOfAddress,
    /// A connection that the system did not give: file descriptors may have run out.
    Accept,
    /// A connection, since there is no certificate yet.
    NoCertificate,
    /// One whose handshake failed or took too long.
    Handshake,
    /// One on which nobody was let in for too long.
    Idle,
    /// A stream, since there are as many as there may be.
    Streams,
    /// A token about which the API server could not be asked, since too many are.
    Questions,
}

/// Who counts and tells. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Teller {
    pub(super) metrics: Arc<Metrics>,
    seldom: Seldom<Refused>,
}

// === impl Refused ===

impl Refused {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Connections,
        Self::ConnectionsOfAddress,
        Self::Handshakes,
        Self::HandshakesOfAddress,
        Self::Accept,
        Self::NoCertificate,
        Self::Handshake,
        Self::Idle,
        Self::Streams,
        Self::Questions,
    ];

    /// What the metric calls it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsOfAddress => "connections_of_address",
            Self::Handshakes => "handshakes",
            Self::HandshakesOfAddress => "handshakes_of_address",
            Self::Accept => "accept",
            Self::NoCertificate => "no_certificate",
            Self::Handshake => "handshake",
            Self::Idle => "idle",
            Self::Streams => "streams",
            Self::Questions => "questions",
        }
    }

    /// Whether it is worth a line of its own: that a bound is reached is nobody's single failure.
    fn is_bound(self) -> bool {
        !matches!(self, Self::NoCertificate | Self::Handshake | Self::Idle)
    }
}

// === impl Teller ===

impl Teller {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, seldom: Seldom::default() }
    }

    /// Somebody at `address` was turned away.
    pub(super) fn refused(&self, refused: Refused, address: impl Into<Option<SocketAddr>>) {
        self.metrics.count_discovery_refusal(refused);
        if refused.is_bound() && self.is_due(refused) {
            let address = address.into().map_or_else(|| "unknown".to_owned(), |address| address.to_string());
            log::warn!(address = address.as_str(), bound = refused.as_str();
                "Discovery is at a bound, and turns away who comes");
        }
    }

    /// Whether the log is to be told of `refused` now.
    pub(super) fn is_due(&self, refused: Refused) -> bool {
        self.seldom.is_due(refused, Instant::now())
    }
}
