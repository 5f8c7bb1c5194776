//! Agents and their endpoints from the Kubernetes API.
//!
//! Owns the watches: three kinds, each in every scope. Never writes to the API. What is known stays in use while
//! the API server is away.
//!
//! 1. A watch asks for the server's version once, to use streaming lists where it has them.
//! 2. [`fold`] buffers a list until it is complete, and turns objects into the index's values one by one.
//! 3. Any error begins the watch anew after a pause: a complete list is the one proof that nothing was missed.

pub(crate) mod fold;
pub(crate) mod single;
pub(crate) mod watch;

use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use krypton_crd::{Agent, keys};
use krypton_discovery::EndpointPolicy;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::sync::mpsc;

use super::{SourceEvent, Sources};
use crate::object::{Kind, Scope};
use watch::Feed;

/// Why there is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum KubeError {
    /// The file cannot be used.
    #[error("kubeconfig: {0}")]
    Kubeconfig(String),
    /// Neither a kubeconfig nor a pod's service account is there.
    #[error("neither a kubeconfig nor a service account: {0}")]
    Infer(String),
    /// The settings make no client.
    #[error("client: {0}")]
    Client(String),
}

/// The Kubernetes API as a source.
#[derive(Clone)]
pub struct KubeSource {
    feed: Feed<SourceEvent>,
    scopes: Vec<Scope>,
}

/// A client from the file, or else from `KUBECONFIG`, `~/.kube/config` or the pod's service account. It does not
/// retry by itself: watches pause in their own time.
///
/// # Errors
/// When none of these can be used.
pub async fn build_client(kubeconfig: Option<&Path>) -> Result<Client, KubeError> {
    let mut config = match kubeconfig {
        Some(path) => {
            let refuse = |error| KubeError::Kubeconfig(first_line(&error));
            let file = Kubeconfig::read_from(path).map_err(refuse)?;
            let options = KubeConfigOptions::default();
            kube::Config::from_custom_kubeconfig(file, &options).await.map_err(refuse)?
        }
        None => kube::Config::infer().await.map_err(|error| KubeError::Infer(first_line(&error)))?,
    };
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    Client::try_from(config).map_err(|error| KubeError::Client(first_line(&error)))
}

// === impl KubeSource ===

impl KubeSource {
    /// A source that reads `scopes` through `client`.
    #[must_use]
    pub fn new(
        client: Client,
        scopes: Vec<Scope>,
        policy: EndpointPolicy,
        events: mpsc::Sender<SourceEvent>,
        sources: Sources,
    ) -> Self {
        Self { feed: Feed { client, policy, events, sources }, scopes }
    }

    /// Follows every kind in each scope until the index is gone.
    pub async fn run(self) {
        let Self { feed, scopes } = self;
        let watches = scopes.iter().map(|scope| async {
            let label = Some(keys::AGENT_LABEL);
            let agents = feed.watch::<Agent, _>(Kind::Agent, scope, None, fold::agent, SourceEvent::Agents);
            let slices = feed.watch::<EndpointSlice, _>(
                Kind::EndpointSlice,
                scope,
                label,
                fold::slice,
                SourceEvent::EndpointSlices,
            );
            let services =
                feed.watch::<Service, _>(Kind::Service, scope, label, fold::service, SourceEvent::Services);
            tokio::join!(agents.run(), slices.run(), services.run());
        });
        join_all(watches).await;
    }
}

/// An error with its causes, each said once.
pub(crate) fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

/// An error's first line. The lines after it may show parts of the file, and those hold secrets.
fn first_line(error: &dyn std::error::Error) -> String {
    sentence(error).lines().next().unwrap_or_default().to_owned()
}
