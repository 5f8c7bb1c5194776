//! What there is of an installation, read once.
//!
//! What may not be read is named, and kept apart from what is not there: a person may be allowed to see the Deployments
//! and not the Secrets. A kind that is not defined in this cluster has no objects.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, stream};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use krypton_crd::keys;
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::checks::flags;
use crate::args::Global;
use crate::cluster::{Cluster, Component, is_not_found};
use crate::forward;
use crate::routes;
use crate::routes::view::{Asked, watched as watched_agents};

/// Gateways asked at one time.
const ASKED: usize = 8;

/// What was read of something; `None` where it could not be, and nothing may be said of it.
pub(crate) type Read<T> = Option<T>;

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) release: String,
    pub(crate) namespace: String,
    /// The one namespace whose Agents were read; `None`: all.
    pub(crate) agents_of: Option<String>,
    /// Deployments of the release.
    pub(crate) deployments: Vec<Value>,
    pub(crate) gateways: Vec<GatewayPod>,
    pub(crate) tables: Vec<Asked>,
    pub(crate) lease_name: String,
    pub(crate) lease: Read<Option<Lease>>,
    pub(crate) crd: Read<Option<Value>>,
    pub(crate) webhooks: Vec<Webhook>,
    pub(crate) certificates: Vec<Certificate>,
    /// Secrets with certificates of the controllers' that do not exist.
    pub(crate) missing_secrets: Vec<String>,
    /// The CAs that the controllers publish, PEM.
    pub(crate) authority: Option<String>,
    pub(crate) agents: Read<Vec<Value>>,
    pub(crate) ingresses: Read<Vec<Value>>,
    pub(crate) ingress_classes: Read<Vec<Value>>,
    pub(crate) http_routes: Read<Vec<Value>>,
    pub(crate) gateway_objects: Read<Vec<Value>>,
    pub(crate) gateway_classes: Read<Vec<Value>>,
    /// What could not be read, and why.
    pub(crate) unread: Vec<(String, String)>,
}

/// A gateway's pod.
#[derive(Debug, Clone)]
pub(crate) struct GatewayPod {
    pub(crate) name: String,
    /// Whether it ends its calls to go away.
    pub(crate) is_terminating: bool,
    /// What its `/readyz?verbose` says, with whether it is ready; or why it could not be asked.
    pub(crate) ready: Result<(bool, String), String>,
}

/// A webhook as the API server knows it.
#[derive(Debug, Clone)]
pub(crate) struct Webhook {
    /// Of its configuration.
    pub(crate) configuration: String,
    /// PEM; empty where there is none.
    pub(crate) ca_bundle: Vec<u8>,
}

/// A certificate of the controllers'.
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    pub(crate) secret: String,
    /// `tls.crt`, PEM; empty where the Secret has none.
    pub(crate) chain: Vec<u8>,
    /// `ca.crt`, PEM; empty where the Secret has none.
    pub(crate) ca: Vec<u8>,
}

// === impl Gathered ===

impl Gathered {
    /// What the release's objects are called after: the name of a Deployment without its component.
    pub(crate) fn fullname(&self) -> String {
        let gateway = self.deployment(Component::Gateway);
        let name = gateway.and_then(|one| one.pointer("/metadata/name")?.as_str()?.strip_suffix("-gateway"));
        name.unwrap_or(&self.release).to_owned()
    }

    /// The Service of the gateways, after which the chart names their Ingress too.
    pub(crate) fn gateway_service(&self) -> String {
        format!("{}-gateway", self.fullname())
    }

    /// The Deployment of `component`.
    pub(crate) fn deployment(&self, component: Component) -> Option<&Value> {
        self.deployments.iter().find(|one| {
            let labels = one.pointer("/metadata/labels");
            labels.and_then(|labels| labels[keys::COMPONENT_LABEL].as_str()) == Some(component.as_str())
        })
    }

    /// Notes what could not be read. What is not defined is not there, and nothing is to be said.
    fn keep<T: Default>(&mut self, what: &str, read: Result<T>) -> Read<T> {
        match read {
            Ok(read) => Some(read),
            Err(error) if is_not_found(&error) => Some(T::default()),
            Err(error) => {
                self.unread.push((what.to_owned(), format!("{error:#}")));
                None
            }
        }
    }
}

/// Reads all of it.
pub(crate) async fn gather(cluster: &Cluster, global: &Global) -> Result<Gathered> {
    let namespace = global.system_namespace.as_str();
    let mut gathered = Gathered {
        release: global.release.clone(),
        namespace: namespace.to_owned(),
        agents_of: global.namespace.clone(),
        ..Gathered::default()
    };
    // The one thing without which nothing else makes sense; an API server that does not answer is told here.
    let deployments: Vec<k8s_openapi::api::apps::v1::Deployment> = cluster
        .list(
            Api::namespaced(cluster.client(), namespace),
            &format!("{}={}", keys::INSTANCE_LABEL, global.release),
        )
        .await
        .with_context(|| format!("cannot list Deployments in {namespace}"))?;
    gathered.deployments = deployments.iter().filter_map(|one| serde_json::to_value(one).ok()).collect();
    gateways(cluster, global, &mut gathered).await;
    objects(cluster, global, &mut gathered).await;
    certificates(cluster, &mut gathered).await;
    fronts(cluster, &mut gathered).await;
    Ok(gathered)
}

async fn gateways(cluster: &Cluster, global: &Global, gathered: &mut Gathered) {
    let pods = gathered.keep("gateways' pods", cluster.gateways(global).await).unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(cluster.client(), &global.system_namespace);
    let asked = stream::iter(&pods).map(async |pod| {
        let name = forward::name(pod);
        let ready = if forward::is_running(pod) {
            let answer = forward::ask(&api, &name, "/readyz?verbose").await;
            answer.map(|(status, text)| (status.is_success(), text)).map_err(|error| format!("{error:#}"))
        } else {
            Err("the pod does not run".to_owned())
        };
        GatewayPod { name, is_terminating: forward::is_terminating(pod), ready }
    });
    gathered.gateways = asked.buffered(ASKED).collect().await;
    gathered.tables = routes::tables(cluster, global, &pods).await;
}

async fn objects(cluster: &Cluster, global: &Global, gathered: &mut Gathered) {
    let agents = routes::agents(cluster, global.namespace.as_deref()).await;
    let agents = gathered.keep("Agents", agents);
    let controller = gathered.deployment(Component::Controller);
    let watched = controller.map(flags::watched_namespaces).unwrap_or_default();
    gathered.lease_name = flags::lease_name(controller, &gathered.fullname());
    gathered.agents = agents.map(|agents| watched_agents(agents, &watched));
    let crds = kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions");
    let crds = cluster.list_values(&crds, None).await;
    let crds = gathered.keep("definitions", crds);
    let is_ours = |crd: &Value| {
        crd.pointer("/spec/group").is_some_and(|group| group == keys::GROUP)
            && crd.pointer("/spec/names/kind").is_some_and(|kind| kind == keys::KIND)
    };
    gathered.crd = crds.map(|crds| crds.into_iter().find(is_ours));
    let lease: Result<Option<Lease>> = get(cluster, &gathered.namespace, &gathered.lease_name).await;
    gathered.lease = gathered.keep("the controllers' Lease", lease);

    let selector = format!("{}={}", keys::INSTANCE_LABEL, global.release);
    let validating =
        cluster.list(Api::<ValidatingWebhookConfiguration>::all(cluster.client()), &selector).await;
    let mutating = cluster.list(Api::<MutatingWebhookConfiguration>::all(cluster.client()), &selector).await;
    for one in gathered.keep("validating webhook configurations", validating).unwrap_or_default() {
        let name = format!("ValidatingWebhookConfiguration {}", one.name_any());
        let hooks = one.webhooks.into_iter().flatten().map(|hook| hook.client_config.ca_bundle);
        gathered.webhooks.extend(hooks.map(|bundle| Webhook::new(&name, bundle)));
    }
    for one in gathered.keep("mutating webhook configurations", mutating).unwrap_or_default() {
        let name = format!("MutatingWebhookConfiguration {}", one.name_any());
        let hooks = one.webhooks.into_iter().flatten().map(|hook| hook.client_config.ca_bundle);
        gathered.webhooks.extend(hooks.map(|bundle| Webhook::new(&name, bundle)));
    }
}

/// The Secrets that the controllers serve with: named by a flag, or mounted.
async fn certificates(cluster: &Cluster, gathered: &mut Gathered) {
    let Some(controller) = gathered.deployment(Component::Controller) else { return };
    let volumes = controller.pointer("/spec/template/spec/volumes").and_then(Value::as_array);
    let mounted = volumes.into_iter().flatten().filter_map(|one| one.pointer("/secret/secretName")?.as_str());
    let mut secrets: BTreeSet<String> = mounted.map(ToOwned::to_owned).collect();
    secrets.extend(flags::value(controller, "certificate-secret"));
    let authority = flags::value(controller, "certificate-authority");
    for name in secrets {
        let secret: Result<Option<Secret>> = get(cluster, &gathered.namespace, &name).await;
        match gathered.keep(&format!("the Secret {name}"), secret) {
            Some(Some(secret)) => {
                let data = secret.data.unwrap_or_default();
                let of = |key: &str| data.get(key).map(|bytes| bytes.0.clone()).unwrap_or_default();
                let (chain, ca) = (of("tls.crt"), of("ca.crt"));
                gathered.certificates.push(Certificate { secret: name, chain, ca });
            }
            Some(None) => gathered.missing_secrets.push(name),
            None => {}
        }
    }
    if let Some(name) = authority {
        let map: Result<Option<ConfigMap>> = get(cluster, &gathered.namespace, &name).await;
        let map = gathered.keep(&format!("the ConfigMap {name}"), map).flatten();
        gathered.authority = map.and_then(|map| map.data?.get("ca.crt").cloned());
    }
}

async fn fronts(cluster: &Cluster, gathered: &mut Gathered) {
    let ingress = kind("networking.k8s.io", "v1", "Ingress", "ingresses");
    let ingresses = cluster.list_values(&ingress, Some(&gathered.namespace)).await;
    gathered.ingresses = gathered.keep("Ingresses", ingresses);
    for (group, name, plural) in [
        ("networking.k8s.io", "IngressClass", "ingressclasses"),
        ("gateway.networking.k8s.io", "HTTPRoute", "httproutes"),
        ("gateway.networking.k8s.io", "Gateway", "gateways"),
        ("gateway.networking.k8s.io", "GatewayClass", "gatewayclasses"),
    ] {
        let read = cluster.list_values(&kind(group, "v1", name, plural), None).await;
        let read = gathered.keep(plural, read);
        match name {
            "IngressClass" => gathered.ingress_classes = read,
            "HTTPRoute" => gathered.http_routes = read,
            "Gateway" => gathered.gateway_objects = read,
            _ => gathered.gateway_classes = read,
        }
    }
}

async fn get<K>(cluster: &Cluster, namespace: &str, name: &str) -> Result<Option<K>>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(cluster.client(), namespace);
    Ok(api.get_opt(name).await?)
}

fn kind(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

// === impl Webhook ===

impl Webhook {
    fn new(configuration: &str, ca_bundle: Option<k8s_openapi::ByteString>) -> Self {
        let ca_bundle = ca_bundle.map(|bundle| bundle.0).unwrap_or_default();
        Self { configuration: configuration.to_owned(), ca_bundle }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn refused(code: u16) -> Result<Vec<Value>> {
        let status = Status { code, reason: "x".to_owned(), ..Status::default() };
        Err(anyhow::Error::from(kube::Error::Api(Box::new(status))).context("cannot list x"))
    }

    #[test]
    fn what_may_not_be_read_is_not_taken_as_absent() {
        let mut gathered = Gathered::default();
        assert_eq!(gathered.keep("Agents", refused(404)), Some(vec![]));
        assert_eq!(gathered.unread, []);
        assert_eq!(gathered.keep("Agents", refused(403)), None);
        assert_eq!(gathered.unread.len(), 1);
    }
}
