//! The writes, each on the version that was seen.
//!
//! Owns how a change is asked for. Never reads, creates or deletes, never repeats a call, never decides what is
//! written.

use http::Request;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use krypton_crd::keys;
use kube::api::ObjectMeta;
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::material::{CA, Stored};
use super::trust::Configuration;
use crate::certificate::UnixSeconds;
use crate::lease::Term;
use crate::reconcile::api::{Api, CallError};

/// The way to the API server in one term.
pub(super) struct Calls {
    api: Api,
}

// === impl Calls ===

impl Calls {
    /// Calls through `client` while `term` lasts; without one in tests, which have no election.
    pub(super) fn new(client: Client, term: Option<Term>) -> Self {
        Self { api: Api::new(client, term) }
    }

    /// Puts `bundle` into `config_map`, to which nothing was added since then.
    pub(super) async fn publish(
        &self,
        config_map: &ConfigMap,
        bundle: &str,
        since: UnixSeconds,
    ) -> Result<ConfigMap, CallError> {
        let mut patch = based_on(config_map.meta());
        patch["metadata"]["annotations"] = json!({ keys::PUBLISHED_ANNOTATION: since.to_string() });
        patch["data"] = json!({ CA: bundle });
        self.merge(config_map, &patch).await
    }

    /// Puts `stored` into `secret`. Keys of others in it stay.
    pub(super) async fn store(&self, secret: &Secret, stored: &Stored) -> Result<Secret, CallError> {
        let mut patch = based_on(secret.meta());
        patch["data"] = json!(stored.data());
        self.merge(secret, &patch).await
    }

    /// Applies the JSON patch to the webhook configuration `name`.
    pub(super) async fn trust<K: Configuration>(&self, name: &str, patch: &Value) -> Result<K, CallError> {
        self.patch(&K::url_path(&(), None), name, "application/json-patch+json", patch).await
    }

    async fn merge<K>(&self, object: &K, patch: &Value) -> Result<K, CallError>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let url = K::url_path(&(), object.namespace().as_deref());
        self.patch(&url, &object.name_any(), "application/merge-patch+json", patch).await
    }

    async fn patch<K: DeserializeOwned>(
        &self,
        url: &str,
        name: &str,
        content_type: &str,
        patch: &Value,
    ) -> Result<K, CallError> {
        let uri = format!("{url}/{name}?fieldManager={}", keys::FIELD_MANAGER);
        let request = Request::patch(uri).header("Content-Type", content_type);
        self.api.call(request.body(patch.to_string().into_bytes())?).await
    }
}

/// A patch that is refused if the object is another by now.
fn based_on(metadata: &ObjectMeta) -> Value {
    json!({ "metadata": { "resourceVersion": metadata.resource_version, "uid": metadata.uid } })
}
