//! What is written to the API server.

use std::net::SocketAddr;

use anyhow::Context as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use krypton_crd::{Agent, keys};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::routes::{AGENTS_PER_NAMESPACE, names, pod_uid};

/// Writes at the same time: what an API server on a small machine takes without queueing.
const AT_ONCE: usize = 16;

/// Where the controllers look for their Lease.
const LEASE_NAMESPACE: &str = "krypton-system";

/// A way to write agents with their endpoints.
#[derive(Clone)]
pub(super) struct Objects {
    client: Client,
    endpoints: Vec<SocketAddr>,
}

// === impl Objects ===

impl Objects {
    pub(super) fn new(client: Client, endpoints: Vec<SocketAddr>) -> Self {
        Self { client, endpoints }
    }

    /// Takes the Lease for an hour, so that no controller leads.
    pub(super) async fn hold_lease(&self) -> anyhow::Result<()> {
        self.namespace(LEASE_NAMESPACE).await?;
        let now = k8s_openapi::jiff::Timestamp::now().to_string();
        let lease = json!({
            "metadata": { "name": "krypton-controller" },
            "spec": { "holderIdentity": "bench", "leaseDurationSeconds": 3600, "acquireTime": now, "renewTime": now },
        });
        self.create::<Lease>(Api::namespaced(self.client.clone(), LEASE_NAMESPACE), lease).await
    }

    /// Writes agents 0 up to `agents`, and the namespaces of some more.
    pub(super) async fn write_all(&self, agents: usize) -> anyhow::Result<()> {
        // The agents that come and go are those after these.
        for first in (0..agents + 100 * AGENTS_PER_NAMESPACE).step_by(AGENTS_PER_NAMESPACE) {
            self.namespace(&names(first).0).await?;
        }
        stream::iter(0..agents).map(|n| self.write(n)).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Writes an agent, then its endpoints.
    pub(super) async fn write(&self, n: usize) -> anyhow::Result<()> {
        let (namespace, name) = names(n);
        let agent = json!({
            "apiVersion": keys::API_VERSION,
            "kind": keys::KIND,
            "metadata": { "name": name },
            "spec": { "image": "registry.example.com/agent:1", "concurrency": 0 },
        });
        self.create::<Agent>(Api::namespaced(self.client.clone(), &namespace), agent).await?;
        let slice = self.slice(n, &name);
        self.create::<EndpointSlice>(Api::namespaced(self.client.clone(), &namespace), slice).await
    }

    /// Takes both away.
    pub(super) async fn delete(&self, n: usize) -> anyhow::Result<()> {
        let (namespace, name) = names(n);
        let now = DeleteParams::default();
        Api::<Agent>::namespaced(self.client.clone(), &namespace).delete(&name, &now).await?;
        Api::<EndpointSlice>::namespaced(self.client.clone(), &namespace).delete(&name, &now).await?;
        Ok(())
    }

    fn slice(&self, n: usize, name: &str) -> Value {
        let port = self.endpoints.first().map_or(0, SocketAddr::port);
        let endpoint = |(pod, address): (usize, &SocketAddr)| {
            json!({
                "addresses": [address.ip()],
                "conditions": { "ready": true },
                "targetRef": { "kind": "Pod", "name": name, "uid": pod_uid(n, pod) },
            })
        };
        json!({
            "metadata": {
                "name": name,
                "labels": { keys::AGENT_LABEL: name, "kubernetes.io/service-name": name },
            },
            "addressType": "IPv4",
            "ports": [{ "name": "http", "port": port }],
            "endpoints": self.endpoints.iter().enumerate().map(endpoint).collect::<Vec<_>>(),
        })
    }

    async fn namespace(&self, name: &str) -> anyhow::Result<()> {
        let namespace = json!({ "metadata": { "name": name } });
        match self.create::<Namespace>(Api::all(self.client.clone()), namespace).await {
            Err(error) if error.to_string().contains("AlreadyExists") => Ok(()),
            other => other,
        }
    }

    async fn create<K>(&self, api: Api<K>, object: Value) -> anyhow::Result<()>
    where
        K: Clone + std::fmt::Debug + DeserializeOwned + serde::Serialize,
    {
        let object: K = serde_json::from_value(object).context("an object of the bench")?;
        api.create(&PostParams::default(), &object).await?;
        Ok(())
    }
}
