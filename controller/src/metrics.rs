//! What the controller counts.
//!
//! Owns the names of its metrics; the reference is `docs/reference/metrics.md`. Labels come from closed sets, and
//! no series bears the name of an Agent.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::certificate::{Server, UnixSeconds};
use crate::discovery::Refused;
use crate::object::Kind;
use crate::snapshot::Snapshot;
use crate::source::Purpose;

/// Every metric of the controller.
#[derive(Debug, Default)]
pub struct Metrics {
    agents: Gauge,
    endpoints: Gauge,
    refused_endpoints: Gauge,
    generation: Gauge<u64, AtomicU64>,
    gateways: Gauge,
    leader: Gauge,
    report_members: Gauge,
    responses: Counter,
    upserts: Counter,
    removals: Counter,
    nacks: Counter,
    refused_objects: Family<KindLabel, Counter>,
    source_up: Family<KindLabel, Gauge>,
    workload_source_up: Family<KindLabel, Gauge>,
    manifest_problems: Gauge,
    reconcile_waiting: Gauge,
    reconcile_failing: Gauge,
    reconcile_failures: Counter,
    certificate_expiry: Family<ServerLabel, Gauge>,
    discovery_connections: Gauge,
    discovery_refusals: Family<ReasonLabel, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: Refused,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServerLabel {
    server: Server,
}

// === impl Metrics ===

impl Metrics {
    /// All metrics at zero, entered into `registry`.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let krypton = registry.sub_registry_with_prefix("krypton_controller");
        let m = &metrics;
        krypton.register("agents", "Agents that have a route", m.agents.clone());
        krypton.register("endpoints", "Endpoints of all routes", m.endpoints.clone());
        krypton.register(
            "refused_endpoints",
            "Endpoints that exist and may not be dialled",
            m.refused_endpoints.clone(),
        );
        krypton.register(
            "snapshot_generation",
            "Snapshots computed since the start; 0 before the first complete one",
            m.generation.clone(),
        );
        krypton.register("gateways", "Gateways connected", m.gateways.clone());
        krypton.register("leader", "Whether this controller leads", m.leader.clone());
        krypton.register(
            "report_members",
            "Gateways that report to this controller; 0 where it does not lead",
            m.report_members.clone(),
        );
        krypton.register("responses", "Discovery responses sent", m.responses.clone());
        krypton.register("upserts", "Routes sent to gateways", m.upserts.clone());
        krypton.register("removals", "Removals of routes sent to gateways", m.removals.clone());
        krypton.register("nacks", "Routes that a gateway refused", m.nacks.clone());
        krypton.register(
            "refused_objects",
            "Versions of objects that could not be used",
            m.refused_objects.clone(),
        );
        krypton.register(
            "source_up",
            "Whether every watch of a kind is complete and alive",
            m.source_up.clone(),
        );
        krypton.register(
            "workload_source_up",
            "Whether every watch of a kind that the leader needs is complete and alive; no series on others",
            m.workload_source_up.clone(),
        );
        krypton.register(
            "manifest_problems",
            "Problems in the folder of manifests at present",
            m.manifest_problems.clone(),
        );
        krypton.register(
            "certificate_expiry_timestamp_seconds",
            "When the certificate that a server shows expires, in seconds since 1970; no series while there is none",
            m.certificate_expiry.clone(),
        );
        m.register_discovery(krypton);
        m.register_leader(krypton);
        metrics
    }

    /// What shows how near discovery is to its bounds.
    fn register_discovery(&self, krypton: &mut Registry) {
        krypton.register(
            "discovery_connections",
            "Connections of gateways, those in their handshake included",
            self.discovery_connections.clone(),
        );
        krypton.register(
            "discovery_refusals",
            "Connections, streams and questions about tokens that discovery turned away, by reason",
            self.discovery_refusals.clone(),
        );
        // From the start: a rate does not see what a series begins with.
        for reason in Refused::ALL {
            self.discovery_refusals.get_or_create(&ReasonLabel { reason: *reason }).inc_by(0);
        }
    }

    /// What only the leader counts.
    fn register_leader(&self, krypton: &mut Registry) {
        krypton.register(
            "reconcile_waiting",
            "Agents that the leader is to look at, now or at a set time",
            self.reconcile_waiting.clone(),
        );
        krypton.register(
            "reconcile_failing",
            "Agents whose last look failed, and is tried again",
            self.reconcile_failing.clone(),
        );
        krypton.register(
            "reconcile_failures",
            "Looks at an Agent that failed and were to be tried again",
            self.reconcile_failures.clone(),
        );
    }

    /// A newer snapshot is out.
    pub fn set_snapshot(&self, snapshot: &Snapshot) {
        self.agents.set(as_gauge(snapshot.len()));
        self.endpoints.set(as_gauge(snapshot.endpoints()));
        self.generation.set(snapshot.generation());
    }

    /// How many endpoints may not be dialled at present.
    pub fn set_refused_endpoints(&self, count: usize) {
        self.refused_endpoints.set(as_gauge(count));
    }

    /// How many gateways are connected.
    pub fn set_gateways(&self, count: usize) {
        self.gateways.set(as_gauge(count));
    }

    /// How many gateways report to this controller.
    pub fn set_report_members(&self, count: usize) {
        self.report_members.set(as_gauge(count));
    }

    /// Whether this controller leads.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// A response was sent.
    pub fn count_response(&self, upserts: usize, removals: usize) {
        self.responses.inc();
        self.upserts.inc_by(upserts as u64);
        self.removals.inc_by(removals as u64);
    }

    /// A gateway refused so many routes.
    pub fn count_nacks(&self, count: usize) {
        self.nacks.inc_by(count as u64);
    }

    /// A version of an object could not be used.
    pub fn count_refused_object(&self, kind: Kind) {
        self.refused_objects.get_or_create(&KindLabel { kind }).inc();
    }

    /// Whether every watch of `kind` for `purpose` is complete and alive.
    pub fn set_source_up(&self, purpose: Purpose, kind: Kind, up: bool) {
        let family = match purpose {
            Purpose::Routes => &self.source_up,
            Purpose::Workloads => &self.workload_source_up,
        };
        family.get_or_create(&KindLabel { kind }).set(up.into());
    }

    /// How many Agents the leader is to look at, and how many looks failed the last time.
    pub fn set_reconciling(&self, waiting: usize, failing: usize) {
        self.reconcile_waiting.set(as_gauge(waiting));
        self.reconcile_failing.set(as_gauge(failing));
    }

    /// A look at an Agent failed.
    pub fn count_reconcile_failure(&self) {
        self.reconcile_failures.inc();
    }

    /// When the certificate that `server` shows expires.
    pub fn set_certificate_expiry(&self, server: Server, expires: UnixSeconds) {
        let expires = i64::try_from(expires.0).unwrap_or(i64::MAX);
        self.certificate_expiry.get_or_create(&ServerLabel { server }).set(expires);
    }

    /// A connection to discovery begins.
    pub fn discovery_connection_began(&self) {
        self.discovery_connections.inc();
    }

    /// It ends.
    pub fn discovery_connection_ended(&self) {
        self.discovery_connections.dec();
    }

    /// Discovery turned somebody away.
    pub fn count_discovery_refusal(&self, reason: Refused) {
        self.discovery_refusals.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// How many problems the folder of manifests has at present.
    pub fn set_manifest_problems(&self, count: usize) {
        self.manifest_problems.set(as_gauge(count));
    }
}

impl EncodeLabelValue for Kind {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

impl EncodeLabelValue for Refused {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

impl EncodeLabelValue for Server {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

fn as_gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
