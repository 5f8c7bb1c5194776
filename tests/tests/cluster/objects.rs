//! Objects as plain JSON, so that a test can also write what our types could not hold.

use anyhow::{Context, Result};
use krypton_e2e::cluster::Namespace;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use serde_json::{Value, json};

/// Creates or replaces an object; one field manager owns all of it, so what is left out goes.
pub(crate) async fn put(namespace: &Namespace, object: Value) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(object)?;
    let types = object.types.as_ref().context("an object without a kind")?;
    let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(types)?);
    let name = object.metadata.name.as_deref().context("an object without a name")?;
    let api =
        Api::<DynamicObject>::namespaced_with(namespace.cluster().client(), namespace.name(), &resource);
    api.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(&object)).await?;
    Ok(())
}

/// An Agent of plain HTTP with these fields beside its image.
pub(crate) fn agent(name: &str, spec: Value) -> Value {
    let mut agent = json!({
        "apiVersion": "krypton.ai/v1alpha1",
        "kind": "Agent",
        "metadata": { "name": name },
        "spec": { "image": "example", "protocol": "http" },
    });
    if let (Some(all), Value::Object(fields)) = (agent["spec"].as_object_mut(), spec) {
        all.extend(fields);
    }
    agent
}
