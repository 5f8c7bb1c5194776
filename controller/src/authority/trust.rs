//! Whom the API server trusts when it asks webhooks: the `caBundle` of each.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use kube::Resource;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A webhook configuration, of either kind.
pub(super) trait Configuration: Resource<DynamicType = ()> + DeserializeOwned {
    /// How the API server reaches each webhook, in order.
    fn clients(&self) -> Vec<&WebhookClientConfig>;
}

impl Configuration for MutatingWebhookConfiguration {
    fn clients(&self) -> Vec<&WebhookClientConfig> {
        self.webhooks.iter().flatten().map(|webhook| &webhook.client_config).collect()
    }
}

impl Configuration for ValidatingWebhookConfiguration {
    fn clients(&self) -> Vec<&WebhookClientConfig> {
        self.webhooks.iter().flatten().map(|webhook| &webhook.client_config).collect()
    }
}

/// The JSON patch that makes each webhook of `configuration` trust `bundle` and nothing else; `None` if they do. It
/// holds for that very version: webhooks have places, and no names that a patch could use.
pub(super) fn patch<K: Configuration>(configuration: &K, bundle: &str) -> Option<Value> {
    let bundle = ByteString(bundle.as_bytes().to_vec());
    let clients = configuration.clients();
    let others = clients.iter().enumerate().filter(|(_, client)| client.ca_bundle.as_ref() != Some(&bundle));
    let mut operations: Vec<Value> = others
        .map(|(place, _)| {
            json!({ "op": "add", "path": format!("/webhooks/{place}/clientConfig/caBundle"), "value": bundle })
        })
        .collect();
    if operations.is_empty() {
        return None;
    }
    let version = configuration.meta().resource_version.as_deref().unwrap_or_default();
    operations.insert(0, json!({ "op": "replace", "path": "/metadata/resourceVersion", "value": version }));
    Some(operations.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk(bundles: &[Option<&str>]) -> ValidatingWebhookConfiguration {
        let webhooks: Vec<Value> = bundles
            .iter()
            .map(|bundle| {
                let bundle = bundle.map(|text| ByteString(text.as_bytes().to_vec()));
                json!({ "name": "a", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                    "clientConfig": { "url": "https://a", "caBundle": bundle } })
            })
            .collect();
        let metadata = json!({ "name": "krypton", "resourceVersion": "7" });
        serde_json::from_value(json!({ "metadata": metadata, "webhooks": webhooks })).unwrap()
    }

    #[test]
    fn only_what_differs_is_written_and_only_on_the_version_that_was_seen() {
        assert_eq!(patch(&mk(&[Some("a"), Some("a")]), "a"), None);
        assert_eq!(patch(&mk(&[]), "a"), None);
        assert_eq!(
            patch(&mk(&[Some("a"), None, Some("b")]), "a").unwrap(),
            json!([
                { "op": "replace", "path": "/metadata/resourceVersion", "value": "7" },
                { "op": "add", "path": "/webhooks/1/clientConfig/caBundle", "value": "YQ==" },
                { "op": "add", "path": "/webhooks/2/clientConfig/caBundle", "value": "YQ==" },
            ])
        );
    }
}
