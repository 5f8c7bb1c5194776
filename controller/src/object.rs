//! How objects of the cluster are named inside the controller, whatever source they came from.

use std::fmt;

use serde::Serialize;

/// The kinds that are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Kind {
    /// `krypton.ai/v1alpha1` Agent.
    Agent,
    /// `discovery.k8s.io/v1` EndpointSlice with our label.
    EndpointSlice,
    /// `v1` Service with our label: for its address, and as a child of its Agent.
    Service,
    /// `apps/v1` Deployment with our label: a child of its Agent.
    Deployment,
    /// `v1` ServiceAccount with our label: a child of its Agent.
    ServiceAccount,
    /// `v1` Pod with our label: for the status of its Agent.
    Pod,
}

/// Namespace and name of an object. Not every name is a DNS label: slices bear dots.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId {
    /// The object's namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

/// Which namespaces one watch sees.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// All of them.
    AllNamespaces,
    /// This one.
    Namespace(String),
}

// === impl Kind ===

impl Kind {
    /// The kinds that routes are computed from.
    pub const ROUTED: [Self; 3] = [Self::Agent, Self::EndpointSlice, Self::Service];

    /// The kinds that workloads and statuses are computed from.
    pub const MANAGED: [Self; 5] =
        [Self::Agent, Self::Deployment, Self::Service, Self::ServiceAccount, Self::Pod];

    /// The kind as manifests spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "Agent",
            Self::EndpointSlice => "EndpointSlice",
            Self::Service => "Service",
            Self::Deployment => "Deployment",
            Self::ServiceAccount => "ServiceAccount",
            Self::Pod => "Pod",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl ObjectId ===

impl ObjectId {
    /// The object `name` in `namespace`.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

// === impl Scope ===

impl Scope {
    /// Whether an object of `namespace` is seen.
    #[must_use]
    pub fn contains(&self, namespace: &str) -> bool {
        match self {
            Self::AllNamespaces => true,
            Self::Namespace(only) => only == namespace,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllNamespaces => f.write_str("all namespaces"),
            Self::Namespace(only) => write!(f, "namespace {only}"),
        }
    }
}
