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

/// How long a pod may take to answer what operators ask.
const ADMIN: Duration = Duration::from_secs(15);

/// The largest answer that is read: a page of a thousand routes is far less.
const MAX_ADMIN: usize = 16 * 1024 * 1024;

/// Sends `request` to `port` of `pod`.
pub(crate) async fn send(
    pods: &Api<Pod>,
    pod: &str,
    port: u16,
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
    let answer = exchange(stream, request, "localhost");
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
        let answer = send(pods, pod, GATEWAY_ADMIN, request).await?;
        let status = answer.status;
        Ok((status, answer.text(MAX_ADMIN).await?))
    };
    timeout(ADMIN, ask).await.with_context(|| format!("{pod} did not answer within {} s", ADMIN.as_secs()))?
}

/// Whether `pod` is said to take calls.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// Whether `pod` has a process to ask.
pub(crate) fn is_running(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
}

/// The pod's name.
pub(crate) fn name(pod: &Pod) -> String {
    pod.name_any()
}
