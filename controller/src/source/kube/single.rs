//! One object by its name, followed.
//!
//! Owns its pauses. Asks for no more than `list` and `watch` of that very name, which a role can grant by
//! `resourceNames`. After any error it lists anew: so whoever was told of a failure is told again what is there.

use std::fmt::{self, Debug};

use futures::stream::{BoxStream, unfold};
use futures::{Stream, StreamExt as _};
use kube::runtime::watcher;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::sentence;
use super::watch::{Pauses, STEADY, WATCH_TIMEOUT};

/// What is known of the object.
pub(crate) enum Sight<K> {
    /// It is so.
    There(K),
    /// There is none.
    Absent,
    /// It cannot be seen; a sentence for a person. What was seen before may still be so.
    Failed(String),
}

struct Following<K> {
    api: Api<K>,
    config: watcher::Config,
    /// Unset before the first and after each error: kube's own way on from one resumes without a word.
    events: Option<BoxStream<'static, watcher::Result<watcher::Event<K>>>>,
    /// Whether the list that is under way had it.
    listed: bool,
    pauses: Pauses,
    failed: Option<Instant>,
}

/// What is seen of the object `name`, for ever.
pub(crate) fn follow<K>(api: Api<K>, name: &str) -> impl Stream<Item = Sight<K>> + Send + use<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = watcher::Config::default().timeout(WATCH_TIMEOUT).fields(&format!("metadata.name={name}"));
    let (pauses, failed) = (Pauses::default(), None);
    let following = Following { api, config, events: None, listed: false, pauses, failed };
    unfold(following, async |mut following| {
        let sight = following.next().await;
        Some((sight, following))
    })
}

// === impl Sight ===

impl<K> Debug for Sight<K> {
    /// Without the object, which may be a Secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::There(_) => f.write_str("There"),
            Self::Absent => f.write_str("Absent"),
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}

// === impl Following ===

impl<K> Following<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    async fn next(&mut self) -> Sight<K> {
        use watcher::Event;
        loop {
            let events = match &mut self.events {
                Some(events) => events,
                none => {
                    if let Some(failed) = self.failed {
                        tokio::time::sleep_until(failed + self.pauses.next()).await;
                    }
                    none.insert(watcher::watcher(self.api.clone(), self.config.clone()).boxed())
                }
            };
            let error = match events.next().await {
                Some(Ok(Event::Init)) => {
                    self.listed = false;
                    continue;
                }
                Some(Ok(Event::InitApply(object))) => {
                    self.listed = true;
                    return Sight::There(object);
                }
                Some(Ok(Event::InitDone)) if self.listed => continue,
                Some(Ok(Event::Apply(object))) => return Sight::There(object),
                Some(Ok(Event::InitDone | Event::Delete(_))) => return Sight::Absent,
                Some(Err(error)) => Some(error),
                None => None,
            };
            self.events = None;
            if self.failed.replace(Instant::now()).is_none_or(|before| before.elapsed() > STEADY) {
                self.pauses = Pauses::default();
            }
            match error {
                // The server has forgotten where we were: routine.
                Some(error) if super::watch::code_of(&error) == Some(410) => {}
                Some(error) => return Sight::Failed(sentence(&error)),
                None => return Sight::Failed("the watch ended".to_owned()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
