//! One watch of the Kubernetes API: lists, follows, and begins anew after any error.
//!
//! Owns its pauses and the way in which lists are asked for. What an object means is the `decode` it is given; where
//! changes go is the channel it is given. Never writes to the API.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, pin_mut};
use krypton_discovery::EndpointPolicy;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::watcher::{self, InitialListStrategy};
use kube::{Client, Resource};
use tokio::sync::mpsc;

use super::fold::{Decoded, Fold, Step};
use super::sentence;
use crate::index::Record;
use crate::object::{Kind, Scope};
use crate::source::{Change, Sources};

/// Streaming lists are on by default from this minor version of Kubernetes 1.
const STREAMING_LISTS_SINCE: u32 = 34;

/// The server ends a watch after this, and a connection that died unnoticed is noticed 5 s later. Seconds.
pub(super) const WATCH_TIMEOUT: u32 = 60;

/// The first pause after a failure.
const MIN_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause: an API server that comes back is found within this.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// A watch that lived for this was no failure in a row.
pub(super) const STEADY: Duration = Duration::from_secs(10);

/// What every watch of one consumer shares: how to read, and where changes go.
#[derive(Clone)]
pub(crate) struct Feed<E> {
    pub(crate) client: Client,
    pub(crate) policy: EndpointPolicy,
    pub(crate) events: mpsc::Sender<E>,
    pub(crate) sources: Sources,
}

/// One watch.
pub(crate) struct Watch<T, E> {
    feed: Feed<E>,
    kind: Kind,
    scope: Scope,
    api: Api<DynamicObject>,
    labels: Option<&'static str>,
    fold: Fold<T>,
    event: fn(Change<T>) -> E,
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
pub(crate) struct Pauses {
    next: Duration,
}

// === impl Feed ===

impl<E> Feed<E> {
    /// A watch of objects of `K` in `scope`, those with the label `labels` where it is set.
    pub(crate) fn watch<K, T>(
        &self,
        kind: Kind,
        scope: &Scope,
        labels: Option<&'static str>,
        decode: fn(DynamicObject, &EndpointPolicy) -> Decoded<T>,
        event: fn(Change<T>) -> E,
    ) -> Watch<T, E>
    where
        K: Resource<DynamicType = ()>,
        T: Record,
        E: Clone,
    {
        self.sources.add_watch(kind, scope);
        let resource = ApiResource::erase::<K>(&());
        let api = match scope {
            Scope::AllNamespaces => Api::all_with(self.client.clone(), &resource),
            Scope::Namespace(only) => Api::namespaced_with(self.client.clone(), only, &resource),
        };
        let fold = Fold::new(scope.clone(), self.policy.clone(), decode);
        Watch { feed: self.clone(), kind, scope: scope.clone(), api, labels, fold, event, strategy: None }
    }
}

// === impl Watch ===

impl<T: Record, E> Watch<T, E> {
    /// Follows the objects until nobody takes the changes any more.
    pub(crate) async fn run(mut self) {
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
                    self.feed.sources.watch_failed(self.kind, &self.scope, error);
                }
            }
            tokio::time::sleep(pauses.next()).await;
        }
    }

    /// Lists and follows changes until something is wrong.
    async fn follow(&mut self) -> Interruption {
        let strategy = match &self.strategy {
            Some(strategy) => strategy.clone(),
            None => match self.feed.client.apiserver_version().await {
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

    async fn take(&mut self, event: watcher::Event<DynamicObject>) -> Result<(), mpsc::error::SendError<E>> {
        let complete = matches!(event, watcher::Event::InitDone);
        let Step { change, newly_refused, refused_changed } = self.fold.take(event);
        let sources = &self.feed.sources;
        if let Some((id, reason)) = newly_refused {
            sources.object_refused(self.kind, &id, &reason);
        }
        if refused_changed {
            sources.set_refused(self.kind, &self.scope, &self.fold.refused());
        }
        if let Some(change) = change {
            self.feed.events.send((self.event)(change)).await?;
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
    /// The next one.
    pub(crate) fn next(&mut self) -> Duration {
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

/// The HTTP status that the server answered with, if it answered.
pub(super) fn code_of(error: &watcher::Error) -> Option<u16> {
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
