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

/// Gives what is turned away its words, and the list of all from the same lines: the `match` is short of none, so the
/// list is not either.
macro_rules! words {
    ($($variant:ident: $word:literal),+ $(,)?) => {
        impl Refused {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// What the metric calls it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }
    };
}

words! {
    Connections: "connections",
    ConnectionsOfAddress: "connections_of_address",
    Handshakes: "handshakes",
    HandshakesOfAddress: "handshakes_of_address",
    Accept: "accept",
    NoCertificate: "no_certificate",
    Handshake: "handshake",
    Idle: "idle",
    Streams: "streams",
    Questions: "questions",
}

impl Refused {
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
