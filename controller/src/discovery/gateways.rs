//! The gateways that are connected, and how far each of them is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use tokio::sync::watch;

use super::session::Session;
use crate::metrics::Metrics;

/// Refused resources that are listed for one gateway; the rest is only counted.
const LISTED_REJECTIONS: usize = 20;

/// Every connected gateway. Cheap to clone. The list's owner; streams enter and leave through it.
#[derive(Debug, Clone)]
pub struct Gateways {
    connected: watch::Sender<Connected>,
    limit: usize,
    metrics: Arc<Metrics>,
}

/// The gateways connected at one moment.
#[derive(Debug, Default)]
pub struct Connected {
    /// By stream, in the order in which they came: a gateway that reconnects may be there twice for a while.
    streams: BTreeMap<u64, GatewayStatus>,
    newest: u64,
}

/// How far one gateway is.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayStatus {
    /// What it calls itself.
    pub node: String,
    /// The release of its program.
    pub build: String,
    /// Where it connects from.
    pub address: Option<SocketAddr>,
    /// Resources that it holds.
    pub held: usize,
    /// The snapshot that it last held as a whole; unset before the first.
    pub generation: Option<u64>,
    /// How many resources it refuses at present.
    pub rejected: usize,
    /// Some of those, with its reasons.
    pub rejections: BTreeMap<String, String>,
    /// Seconds since it connected.
    #[serde(rename = "connectedSeconds", serialize_with = "seconds_since")]
    pub connected: Instant,
}

/// No more gateways are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} gateways are connected, which is the limit")]
pub struct TooManyGateways(pub usize);

/// One gateway's place in the list; it leaves when this is dropped.
#[derive(Debug)]
pub(super) struct Membership {
    gateways: Gateways,
    stream: u64,
}

// === impl Gateways ===

impl Gateways {
    /// An empty list that takes `limit` gateways.
    #[must_use]
    pub(super) fn new(limit: usize, metrics: Arc<Metrics>) -> Self {
        Self { connected: watch::Sender::default(), limit, metrics }
    }

    /// The list.
    #[must_use]
    pub fn list(&self) -> Vec<GatewayStatus> {
        self.connected.borrow().streams.values().cloned().collect()
    }

    /// A reader that can wait for changes.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Connected> {
        self.connected.subscribe()
    }

    pub(super) fn join(&self, status: GatewayStatus) -> Result<Membership, TooManyGateways> {
        let mut stream = None;
        self.connected.send_if_modified(|connected| {
            if connected.streams.len() < self.limit {
                connected.newest += 1;
                connected.streams.insert(connected.newest, status);
                stream = Some(connected.newest);
                self.metrics.set_gateways(connected.len());
            }
            stream.is_some()
        });
        let stream = stream.ok_or(TooManyGateways(self.limit))?;
        Ok(Membership { gateways: self.clone(), stream })
    }
}

// === impl Connected ===

impl Connected {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }
}

// === impl Membership ===

impl Membership {
    /// Writes down how far the gateway is.
    pub(super) fn update(&self, session: &Session) {
        self.gateways.connected.send_modify(|connected| {
            let Some(status) = connected.streams.get_mut(&self.stream) else { return };
            status.held = session.held();
            status.generation = session.complete_generation();
            status.rejected = session.rejected().count();
            let listed = session.rejected().take(LISTED_REJECTIONS);
            status.rejections = listed.map(|(key, reason)| (key.to_string(), reason.to_owned())).collect();
        });
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.gateways.connected.send_modify(|connected| {
            connected.streams.remove(&self.stream);
            self.gateways.metrics.set_gateways(connected.len());
        });
    }
}

fn seconds_since<S: serde::Serializer>(instant: &Instant, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(instant.elapsed().as_secs())
}
