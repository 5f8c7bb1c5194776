//! HTTP to a port of a pod, through the API server.
//!
//! Each request has a forward of its own: the API server's own protocol carries one connection a stream.

use std::time::Duration;

use ::http::{Request, StatusCode};
use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _};
use tokio::time::timeout;

use crate::http::{Answer, Outgoing, empty, exchange};

/// Port of a gateway that calls go to.
pub(crate) const GATEWAY_HTTP: u16 = 8080;

/// Port of a gateway that operators ask.
pub(crate) const GATEWAY_ADMIN: u16 = 8081;

/// The host of a request that no name was given for.
pub(crate) const LOCALHOST: &str = "localhost";

/// How long a pod may take to answer what operators ask.
const ADMIN: Duration = Duration::from_secs(15);

/// The largest answer that is read: a page of a thousand routes is far less.
const MAX_ADMIN: usize = 16 * 1024 * 1024;

/// Sends `request` to `port` of `pod`, for `host` unless it has one of its own.
pub(crate) async fn send(
    pods: &Api<Pod>,
    pod: &str,
    port: u16,
    host: &str,
    request: Request<Outgoing>,
) -> Result<Answer> {
    let mut forward = pods
        .portforward(pod, &[port])
        .await
        .with_context(|| format!("cannot forward to port {port} of {pod}"))?;
    let stream = forward.take_stream(port).context("the API server forwards another port")?;
    let error = forward.take_error(port);
    let refused = async {
        match error {
            Some(error) => error.await,
            None => None,
        }
    };
    tokio::pin!(refused);
    let answer = exchange(stream, request, host);
    tokio::pin!(answer);
    tokio::select! {
        biased;
        Some(refused) = &mut refused => bail!("port {port} of {pod}: {}", refused.trim()),
        answer = &mut answer => Ok(answer.with_context(|| format!("port {port} of {pod}"))?),
    }
}

/// What the gateway `pod` says at `target` of its admin port, and its status.
pub(crate) async fn ask(pods: &Api<Pod>, pod: &str, target: &str) -> Result<(StatusCode, String)> {
    let ask = async {
        let request = Request::get(target).body(empty()).context("no path")?;
        let answer = send(pods, pod, GATEWAY_ADMIN, LOCALHOST, request).await?;
        let status = answer.status;
        Ok((status, answer.text(MAX_ADMIN).await?))
    };
    timeout(ADMIN, ask).await.with_context(|| format!("{pod} did not answer within {} s", ADMIN.as_secs()))?
}

/// Whether `pod` is going away: it ends its calls and takes no new ones, so what it holds matters no more.
pub(crate) fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether all processes of `pod` have ended for good.
pub(crate) fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether `pod` is said to take calls.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True");
    ready && !is_terminating(pod)
}

/// Whether `pod` has a process to ask.
pub(crate) fn is_running(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
}

/// The pod's name.
pub(crate) fn name(pod: &Pod) -> String {
    pod.name_any()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(metadata: &Value, phase: &str) -> Pod {
        let status = json!({ "phase": phase, "conditions": [{ "type": "Ready", "status": "True" }] });
        serde_json::from_value(json!({ "metadata": metadata, "status": status })).unwrap()
    }

    #[test]
    fn a_pod_that_goes_away_takes_no_calls_and_one_that_ended_is_a_record() {
        let going = pod(&json!({ "deletionTimestamp": "2026-01-01T00:00:00Z" }), "Running");
        assert!(is_terminating(&going) && !is_ready(&going) && !has_ended(&going));
        let runs = pod(&json!({}), "Running");
        assert!(!is_terminating(&runs) && is_ready(&runs) && !has_ended(&runs));
        assert!(has_ended(&pod(&json!({}), "Failed")) && has_ended(&pod(&json!({}), "Succeeded")));
    }
}
