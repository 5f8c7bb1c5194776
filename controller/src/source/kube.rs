//! Agents and their endpoints from the Kubernetes API.
//!
//! Owns the watches: three kinds, each in every scope. Never writes to the API. What is known stays in use while
//! the API server is away.
//!
//! 1. A watch asks for the server's version once, to use streaming lists where it has them.
//! 2. [`fold`] buffers a list until it is complete, and turns objects into the index's values one by one.
//! 3. Any error begins the watch anew after a pause: a complete list is the one proof that nothing was missed.

mod fold;

use std::path::Path;
use std::time::{Duration, Instant};

use futures::future::join_all;
use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use krypton_crd::{Agent, keys};
use krypton_discovery::EndpointPolicy;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::{self, InitialListStrategy};
use kube::{Client, Resource};
use tokio::sync::mpsc;

use super::{Change, SourceEvent, Sources};
use crate::index::Record;
use crate::object::{Kind, Scope};
use fold::{Decoded, Fold, Step};

/// Streaming lists are on by default from this minor version of Kubernetes 1.
const STREAMING_LISTS_SINCE: u32 = 34;

/// The server ends a watch after this, and a connection that died unnoticed is noticed 5 s later. Seconds.
const WATCH_TIMEOUT: u32 = 60;

/// The first pause after a failure.
const MIN_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause: an API server that comes back is found within this.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// A watch that lived for this was no failure in a row.
const STEADY: Duration = Duration::from_secs(10);

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
    client: Client,
    scopes: Vec<Scope>,
    policy: EndpointPolicy,
    events: mpsc::Sender<SourceEvent>,
    sources: Sources,
}

/// One watch.
struct Watch<T> {
    source: KubeSource,
    kind: Kind,
    scope: Scope,
    api: Api<DynamicObject>,
    labels: Option<&'static str>,
    fold: Fold<T>,
    event: fn(Change<T>) -> SourceEvent,
    /// How lists are asked for; `None` before the server told its version.
    strategy: Option<InitialListStrategy>,
}

/// Why a watch was interrupted.
#[derive(Debug, PartialEq, Eq)]
enum Interruption {
    /// The index is gone.
    Closed,
    /// The server has forgotten where we were. Routine, and cured by a new list.
    Gone,
    /// The server does not do streaming lists after all.
    NoStreamingLists,
    /// Anything else; a sentence for a person.
    Failed(String),
}

/// Pauses that double, each with jitter so that many controllers do not come back at once.
#[derive(Debug)]
struct Pauses {
    next: Duration,
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
        Self { client, scopes, policy, events, sources }
    }

    /// Follows every kind in each scope until the index is gone.
    pub async fn run(self) {
        let watches = self.scopes.iter().map(|scope| async {
            let agents = self.watch::<Agent, _>(Kind::Agent, scope, None, fold::agent, SourceEvent::Agents);
            let slices = self.watch::<EndpointSlice, _>(
                Kind::EndpointSlice,
                scope,
                Some(keys::AGENT_LABEL),
                fold::slice,
                SourceEvent::EndpointSlices,
            );
            let services = self.watch::<Service, _>(
                Kind::Service,
                scope,
                Some(keys::AGENT_LABEL),
                fold::service,
                SourceEvent::Services,
            );
            tokio::join!(agents.run(), slices.run(), services.run());
        });
        join_all(watches).await;
    }

    fn watch<K, T>(
        &self,
        kind: Kind,
        scope: &Scope,
        labels: Option<&'static str>,
        decode: fn(DynamicObject, &EndpointPolicy) -> Decoded<T>,
        event: fn(Change<T>) -> SourceEvent,
    ) -> Watch<T>
    where
        K: Resource<DynamicType = ()>,
        T: Record,
    {
        self.sources.add_watch(kind, scope);
        let resource = ApiResource::erase::<K>(&());
        let api = match scope {
            Scope::AllNamespaces => Api::all_with(self.client.clone(), &resource),
            Scope::Namespace(only) => Api::namespaced_with(self.client.clone(), only, &resource),
        };
        let fold = Fold::new(scope.clone(), self.policy.clone(), decode);
        Watch { source: self.clone(), kind, scope: scope.clone(), api, labels, fold, event, strategy: None }
    }
}

// === impl Watch ===

impl<T: Record> Watch<T> {
    async fn run(mut self) {
        let mut pauses = Pauses::default();
        loop {
            let begun = Instant::now();
            let interruption = self.follow().await;
            if begun.elapsed() > STEADY {
                pauses = Pauses::default();
            }
            match interruption {
                Interruption::Closed => return,
                Interruption::Gone => log::debug!(kind:% = self.kind; "Watch is too old; listing anew"),
                Interruption::NoStreamingLists => {
                    log::info!(kind:% = self.kind; "The server has no streaming lists; using classic ones");
                    self.strategy = Some(InitialListStrategy::ListWatch);
                    continue;
                }
                Interruption::Failed(error) => {
                    self.source.sources.watch_failed(self.kind, &self.scope, error);
                }
            }
            tokio::time::sleep(pauses.next()).await;
        }
    }

    /// Lists and follows changes until something is wrong.
    async fn follow(&mut self) -> Interruption {
        let strategy = match &self.strategy {
            Some(strategy) => strategy.clone(),
            None => match self.source.client.apiserver_version().await {
                Ok(version) => self.strategy.insert(strategy_for(&version.minor)).clone(),
                Err(error) => return Interruption::Failed(sentence(&error)),
            },
        };
        let mut config = watcher::Config::default().timeout(WATCH_TIMEOUT);
        config.label_selector = self.labels.map(str::to_owned);
        config.initial_list_strategy = strategy.clone();
        let stream = watcher::watcher(self.api.clone(), config);
        pin_mut!(stream);
        let mut listed = false;
        loop {
            match stream.next().await {
                Some(Ok(event)) => {
                    listed |= matches!(event, watcher::Event::InitDone);
                    if self.take(event).await.is_err() {
                        return Interruption::Closed;
                    }
                }
                Some(Err(error)) => {
                    let may_refuse = !listed && strategy == InitialListStrategy::StreamingList;
                    return interruption(self.kind, &error, may_refuse);
                }
                None => return Interruption::Failed("the watch ended".to_owned()),
            }
        }
    }

    async fn take(
        &mut self,
        event: watcher::Event<DynamicObject>,
    ) -> Result<(), mpsc::error::SendError<SourceEvent>> {
        let complete = matches!(event, watcher::Event::InitDone);
        let Step { change, newly_refused, refused_changed } = self.fold.take(event);
        let sources = &self.source.sources;
        if let Some((id, reason)) = newly_refused {
            sources.object_refused(self.kind, &id, &reason);
        }
        if refused_changed {
            sources.set_refused(self.kind, &self.scope, &self.fold.refused());
        }
        if let Some(change) = change {
            self.source.events.send((self.event)(change)).await?;
        }
        if complete {
            sources.watch_is_live(self.kind, &self.scope);
        }
        Ok(())
    }
}

// === impl Pauses ===

impl Default for Pauses {
    fn default() -> Self {
        Self { next: MIN_PAUSE }
    }
}

impl Pauses {
    fn next(&mut self) -> Duration {
        let longest = self.next;
        self.next = (longest * 2).min(MAX_PAUSE);
        longest.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

/// What `error` means for a watch of `kind`. `may_refuse`: the server may be saying that it does not do streaming
/// lists, since none has come through yet.
fn interruption(kind: Kind, error: &watcher::Error, may_refuse: bool) -> Interruption {
    match code_of(error) {
        Some(410) => Interruption::Gone,
        // What a server says that knows the request but not this way of listing.
        Some(400 | 422) if may_refuse => Interruption::NoStreamingLists,
        Some(404) => Interruption::Failed(format!(
            "the API server does not know the kind {kind}: is its CustomResourceDefinition installed?"
        )),
        _ => Interruption::Failed(sentence(error)),
    }
}

/// How to list from a server of Kubernetes 1.`minor`; managed clusters write things like `34+`.
fn strategy_for(minor: &str) -> InitialListStrategy {
    let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
    match digits.parse::<u32>() {
        Ok(minor) if minor >= STREAMING_LISTS_SINCE => InitialListStrategy::StreamingList,
        _ => InitialListStrategy::ListWatch,
    }
}

fn code_of(error: &watcher::Error) -> Option<u16> {
    use watcher::Error;
    match error {
        Error::InitialListFailed(kube::Error::Api(status))
        | Error::WatchStartFailed(kube::Error::Api(status))
        | Error::WatchFailed(kube::Error::Api(status))
        | Error::WatchError(status) => Some(status.code),
        Error::InitialListFailed(_)
        | Error::WatchStartFailed(_)
        | Error::WatchFailed(_)
        | Error::NoResourceVersion => None,
    }
}

/// An error with its causes, each said once.
fn sentence(error: &dyn std::error::Error) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streaming_lists_are_asked_for_where_the_server_has_them() {
        for (minor, streaming) in [("33", false), ("34", true), ("34+", true), ("36", true), ("", false)] {
            assert_eq!(strategy_for(minor) == InitialListStrategy::StreamingList, streaming, "{minor}");
        }
    }

    #[test]
    fn a_refusal_of_the_server_says_what_to_do() {
        let refused = |code: u16, may_refuse: bool| {
            let status = kube::core::Status { code, message: "because".into(), ..Default::default() };
            let error = watcher::Error::WatchStartFailed(kube::Error::Api(Box::new(status)));
            interruption(Kind::Agent, &error, may_refuse)
        };
        assert_eq!(refused(410, true), Interruption::Gone);
        assert_eq!(refused(422, true), Interruption::NoStreamingLists);
        assert_eq!(refused(400, true), Interruption::NoStreamingLists);
        for (code, told) in [(422, "because"), (403, "because"), (404, "is its CustomResourceDefinition")] {
            let Interruption::Failed(text) = refused(code, false) else { panic!("{code}") };
            assert!(text.contains(told), "{code}: {text}");
        }
    }

    #[test]
    fn pauses_double_up_to_a_limit_with_jitter() {
        let mut pauses = Pauses::default();
        let mut expected = MIN_PAUSE;
        for _ in 0..12 {
            let pause = pauses.next();
            assert!(pause <= expected && pause >= expected / 2, "{pause:?} of {expected:?}");
            expected = (expected * 2).min(MAX_PAUSE);
        }
        assert_eq!(expected, MAX_PAUSE);
    }
}
