//! One address that calls go to, and how many are there now.

use std::hash::BuildHasher as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use krypton_discovery::Endpoint;

/// How many standing streams weigh as much as one call at work: they are open for hours and mostly silent.
const STANDING_PER_CALL: u64 = 16;
/// The pod has not said how long it keeps idle connections.
const UNSAID: u32 = u32::MAX;

/// An address with the load on it. The same pod at the same address keeps it through every change of the route.
pub struct EndpointState {
    endpoint: Endpoint,
    group_key: u64,
    in_flight: AtomicU32,
    standing: AtomicU32,
    /// Milliseconds, [`UNSAID`] until the pod has said it.
    keep_alive: AtomicU32,
}

/// What tells one endpoint from another, by value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointId {
    address: SocketAddr,
    group_key: u64,
}

/// What a call does at an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// It works and ends.
    Call,
    /// A GET that accepts `text/event-stream`, or an upgrade: open for long, at work seldom.
    Standing,
}

/// A call at an endpoint: counted from here until this is dropped.
pub struct InFlight {
    endpoint: Arc<EndpointState>,
    kind: CallKind,
}

/// Whom pooled connections belong to.
#[derive(Hash)]
pub(super) enum Group<'a> {
    /// A pod, wherever it is: an address is given to another pod, a UID never is.
    Pod(&'a str),
    /// An address whose pod is not known.
    Address(SocketAddr),
    /// The Service of an Agent, spelled `namespace/name`: behind it may be any of its pods.
    Service(&'a str),
}

// === impl EndpointState ===

impl EndpointState {
    pub(super) fn new(endpoint: Endpoint, group: Group<'_>, hasher: &foldhash::quality::RandomState) -> Self {
        Self {
            group_key: hasher.hash_one(group),
            endpoint,
            in_flight: AtomicU32::new(0),
            standing: AtomicU32::new(0),
            keep_alive: AtomicU32::new(UNSAID),
        }
    }

    /// The address and the pod behind it.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Where to dial.
    pub fn address(&self) -> SocketAddr {
        self.endpoint.address()
    }

    /// Which pooled connections may be used: those of the same pod. Differs from process to process.
    pub fn group_key(&self) -> u64 {
        self.group_key
    }

    /// What tells this endpoint from others.
    pub fn id(&self) -> EndpointId {
        EndpointId { address: self.address(), group_key: self.group_key }
    }

    /// Calls at work.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Standing streams.
    pub fn standing(&self) -> u32 {
        self.standing.load(Ordering::Relaxed)
    }

    /// How busy it is, to compare with others of the same route. A call counts 16, a standing stream 1.
    pub fn load(&self) -> u64 {
        u64::from(self.in_flight()) * STANDING_PER_CALL + u64::from(self.standing())
    }

    /// How long an idle connection may be kept: a second less than the pod said, `None` where it said nothing.
    pub fn keep_alive(&self) -> Option<Duration> {
        let millis = self.keep_alive.load(Ordering::Relaxed);
        (millis != UNSAID).then(|| Duration::from_millis(millis.into()))
    }

    /// The pod closes connections that were idle for `seconds` (`Keep-Alive: timeout=N`).
    pub fn set_keep_alive(&self, seconds: u64) {
        let millis = seconds.saturating_sub(1).saturating_mul(1000);
        self.keep_alive.store(u32::try_from(millis).unwrap_or(UNSAID), Ordering::Relaxed);
    }

    fn counter(&self, kind: CallKind) -> &AtomicU32 {
        match kind {
            CallKind::Call => &self.in_flight,
            CallKind::Standing => &self.standing,
        }
    }
}

// === impl InFlight ===

impl InFlight {
    /// Counts a call at `endpoint`.
    #[must_use = "the call is counted only while this is held"]
    pub fn new(endpoint: Arc<EndpointState>, kind: CallKind) -> Self {
        endpoint.counter(kind).fetch_add(1, Ordering::Relaxed);
        Self { endpoint, kind }
    }

    /// Where the call is.
    pub fn endpoint(&self) -> &Arc<EndpointState> {
        &self.endpoint
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint.counter(self.kind).fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Group ===

impl<'a> Group<'a> {
    /// The group of a pod's endpoint.
    pub(super) fn of_pod(endpoint: &'a Endpoint) -> Self {
        match endpoint.pod_uid() {
            Some(uid) => Self::Pod(uid),
            None => Self::Address(endpoint.address()),
        }
    }
}
