//! Pods without a kubelet: a test says what a kubelet would have reported, and the real controllers of Kubernetes make
//! endpoint slices of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::{NODE, Namespace};

impl Namespace {
    /// A ready pod at `address`, which must be one that the API accepts: see [`crate::bridge::Bridge`].
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn add_pod(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
        address: IpAddr,
    ) -> Result<Pod> {
        let pod = serde_json::from_value(json!({
            "metadata": { "name": name, "labels": labels },
            "spec": {
                "nodeName": NODE,
                "containers": [{ "name": "agent", "image": "none", "ports": [{ "name": "http", "containerPort": 8080 }] }],
            },
        }))?;
        let pods: Api<Pod> = self.api();
        pods.create(&PostParams::default(), &pod).await?;
        let status = json!({ "status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{ "ip": address }],
            "conditions": conditions(true),
        }});
        Ok(pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await?)
    }

    /// Says that the pod's readiness probe passes or fails.
    ///
    /// # Errors
    /// When there is no such pod.
    pub async fn set_pod_ready(&self, name: &str, ready: bool) -> Result<()> {
        let status = json!({ "status": { "conditions": conditions(ready) } });
        self.api::<Pod>().patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await?;
        Ok(())
    }

    /// Tells the pod to stop; it stays, terminating, until [`Namespace::delete_pod`].
    ///
    /// # Errors
    /// When there is no such pod.
    pub async fn terminate_pod(&self, name: &str) -> Result<()> {
        self.api::<Pod>().delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// The pod is gone at once, as after its kubelet confirmed the end.
    ///
    /// # Errors
    /// When there is no such pod.
    pub async fn delete_pod(&self, name: &str) -> Result<()> {
        self.api::<Pod>().delete(name, &DeleteParams::default().grace_period(0)).await?;
        Ok(())
    }
}

fn conditions(ready: bool) -> serde_json::Value {
    let status = if ready { "True" } else { "False" };
    json!([{ "type": "Ready", "status": status }, { "type": "ContainersReady", "status": status }])
}
