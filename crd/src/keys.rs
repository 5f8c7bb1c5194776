//! Labels, finalizers and other names on Kubernetes objects: spelled here and nowhere else.
//!
//! Those that the Go system wrote are kept letter for letter, since objects in the cluster carry them.

/// API group of the Agent.
pub const GROUP: &str = "krypton.ai";

/// Version of the Agent API.
pub const VERSION: &str = "v1alpha1";

/// `apiVersion` of an Agent object.
pub const API_VERSION: &str = "krypton.ai/v1alpha1";

/// `kind` of an Agent object.
pub const KIND: &str = "Agent";

/// Label on all that belongs to an Agent; the value is the Agent's name. On pods it is the selector label.
pub const AGENT_LABEL: &str = "krypton.ai/agent";

/// Label that says who looks after an object; see [`MANAGED_BY`].
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// Value of [`MANAGED_BY_LABEL`]. The Go system's word, so that its objects are recognised and taken over.
pub const MANAGED_BY: &str = "krypton-runtime";

/// The Go system's finalizer. It guards nothing: it is removed wherever it is met and never added.
pub const FINALIZER: &str = "krypton.ai/cleanup";

/// Field manager of every server-side apply.
pub const FIELD_MANAGER: &str = "krypton-controller";

/// Annotation on the objects made for an Agent: a hash of what they were last wanted to be. A hash that is another now
/// means that something has to be written, also where the change is a field that is no longer wanted.
pub const APPLIED_ANNOTATION: &str = "krypton.ai/applied";

/// Label by which Kubernetes ties an EndpointSlice to its Service; the value is the Service's name.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Annotation on the controllers' Lease: where its holder is reached, as `host:port`.
pub const LEADER_ADDRESS_ANNOTATION: &str = "krypton.ai/leader-address";

/// Annotation on the ConfigMap of certificate authorities: since when nothing was added to it, as RFC 3339. One that is
/// to sign is in it for some minutes before.
pub const PUBLISHED_ANNOTATION: &str = "krypton.ai/published";

/// Name of the container that runs the Agent's image.
pub const AGENT_CONTAINER: &str = "agent";

/// Name of the Agent's port, on the container, the Service and hence in EndpointSlices.
pub const HTTP_PORT: &str = "http";

/// Field managers of the Go system, which names none: the API server then takes the name of the program. In its images
/// that is `app` (their entrypoint is `/app`); built and run by hand, `manager`. Others are called so too.
pub const GO_FIELD_MANAGERS: [&str; 2] = ["app", "manager"];

/// Field manager of what `kubectl krypton migrate` writes.
pub const CLI_FIELD_MANAGER: &str = "kubectl-krypton";

/// Annotation in which `kubectl apply` keeps what was last applied, as JSON.
pub const LAST_APPLIED_ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Annotation by which Helm knows an object for that of a release; the value is the release's name.
pub const HELM_RELEASE_ANNOTATION: &str = "meta.helm.sh/release-name";

/// Label by which charts say what rendered an object, by Helm's convention: name and version of the chart.
pub const CHART_LABEL: &str = "helm.sh/chart";

/// Annotation beside [`HELM_RELEASE_ANNOTATION`]: the release's namespace.
pub const HELM_NAMESPACE_ANNOTATION: &str = "meta.helm.sh/release-namespace";

/// Value of [`MANAGED_BY_LABEL`] on what Helm may change.
pub const HELM: &str = "Helm";

/// Label that says of which installation an object of the chart is; the value is the Helm release.
pub const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";

/// Label that says what part of an installation an object of the chart is: `gateway`, `controller`; `manager` in the
/// Go system's.
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";

/// Label of the chart that an object came from, without its version.
pub const NAME_LABEL: &str = "app.kubernetes.io/name";
