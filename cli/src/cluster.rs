//! The way to the cluster that the flags name, and lists of its objects.
//!
//! Reads as the person who calls it, by their kubeconfig. Lists are read in pages.

use anyhow::{Context as _, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use krypton_crd::keys;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client, Config};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::args::Global;
use crate::forward;

/// Objects on a page.
const PAGE: u32 = 500;

/// A cluster.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
    default_namespace: String,
}

/// The part of an installation that an object belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Component {
    Gateway,
    Controller,
}

// === impl Component ===

impl Component {
    /// The label's value.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Controller => "controller",
        }
    }

    /// Selects what is of it in the release.
    pub(crate) fn selector(self, release: &str) -> String {
        format!("{}={release},{}={}", keys::INSTANCE_LABEL, keys::COMPONENT_LABEL, self.as_str())
    }
}

// === impl Cluster ===

impl Cluster {
    /// The cluster that the flags name; whether it answers is not asked.
    pub(crate) async fn connect(global: &Global) -> Result<Self> {
        let options = KubeConfigOptions { context: global.context.clone(), ..KubeConfigOptions::default() };
        let config = match &global.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path)
                    .with_context(|| format!("cannot read the kubeconfig {}", path.display()))?;
                Config::from_custom_kubeconfig(file, &options).await
            }
            None => Config::from_kubeconfig(&options).await,
        };
        let mut config = config.context("no usable kubeconfig; name one by --kubeconfig or KUBECONFIG")?;
        // A person waits: an error now is better than an answer in a minute.
        config.default_retry = false;
        let default_namespace = config.default_namespace.clone();
        Ok(Self { client: Client::try_from(config)?, default_namespace })
    }

    /// A client of its API.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// The namespace of the kubeconfig's context.
    pub(crate) fn default_namespace(&self) -> &str {
        &self.default_namespace
    }

    /// Pods of the release's gateways, by name; also those that are not ready or going away, but none that has ended:
    /// an evicted pod lingers as a record.
    pub(crate) async fn gateways(&self, global: &Global) -> Result<Vec<Pod>> {
        let pods = Api::namespaced(self.client(), &global.system_namespace);
        let mut pods: Vec<Pod> = self.list(pods, &Component::Gateway.selector(&global.release)).await?;
        pods.retain(|pod| !forward::has_ended(pod));
        pods.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        Ok(pods)
    }

    /// The Deployment of `component` of the release.
    pub(crate) async fn deployment(&self, global: &Global, component: Component) -> Result<Option<Value>> {
        let deployments = Api::namespaced(self.client(), &global.system_namespace);
        let found: Vec<Deployment> = self.list(deployments, &component.selector(&global.release)).await?;
        found.first().map(|one| serde_json::to_value(one).context("not JSON")).transpose()
    }

    /// What `api` has under the label selector `selector`.
    pub(crate) async fn list<K>(&self, api: Api<K>, selector: &str) -> Result<Vec<K>>
    where
        K: Clone + DeserializeOwned + std::fmt::Debug,
    {
        let mut params = ListParams::default().labels(selector).limit(PAGE);
        let mut items = Vec::new();
        loop {
            let page = api.list(&params).await?;
            items.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(items),
            }
        }
    }

    /// All objects of a kind that may not be defined here: then there are none. One that does not decode as ours is
    /// still one, so they are JSON.
    pub(crate) async fn list_values(
        &self,
        kind: &ApiResource,
        namespace: Option<&str>,
    ) -> Result<Vec<Value>> {
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(self.client(), namespace, kind),
            None => Api::all_with(self.client(), kind),
        };
        let objects = match self.list(api, "").await {
            Ok(objects) => objects,
            Err(error) if is_not_found(&error) => Vec::new(),
            Err(error) => return Err(error.context(format!("cannot list {}", kind.plural))),
        };
        let values = objects.into_iter().map(|object| serde_json::to_value(object).context("not JSON"));
        values.collect()
    }
}

/// Whether the API server does not know what was asked for.
pub(crate) fn is_not_found(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(kube::Error::Api(status)) if status.code == 404)
}
