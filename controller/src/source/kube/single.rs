//! One object by its name, followed.
//!
//! Owns its pauses. Asks for no more than `list` and `watch` of that very name, which a role can grant by
//! `resourceNames`.

use std::fmt::Debug;
use std::time::Instant;

use futures::stream::{BoxStream, unfold};
use futures::{Stream, StreamExt as _};
use kube::runtime::watcher;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::sentence;
use super::watch::{Pauses, STEADY, WATCH_TIMEOUT};

/// What is known of the object.
#[derive(Debug)]
pub(crate) enum Sight<K> {
    /// It is so.
    There(K),
    /// There is none.
    Absent,
    /// It cannot be seen; a sentence for a person. What was seen before may still be so.
    Failed(String),
}

struct Following<K> {
    events: BoxStream<'static, watcher::Result<watcher::Event<K>>>,
    /// Whether the list that is under way had it.
    listed: bool,
    pauses: Pauses,
    failed: Option<Instant>,
    pause: bool,
}

/// What is seen of the object `name`, for ever.
pub(crate) fn follow<K>(api: Api<K>, name: &str) -> impl Stream<Item = Sight<K>> + Send + use<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = watcher::Config::default().timeout(WATCH_TIMEOUT).fields(&format!("metadata.name={name}"));
    let events = watcher::watcher(api, config).boxed();
    let following =
        Following { events, listed: false, pauses: Pauses::default(), failed: None, pause: false };
    unfold(following, async |mut following| {
        let sight = following.next().await?;
        Some((sight, following))
    })
}

// === impl Following ===

impl<K> Following<K> {
    async fn next(&mut self) -> Option<Sight<K>> {
        use watcher::Event;
        loop {
            if std::mem::take(&mut self.pause) {
                if self.failed.replace(Instant::now()).is_none_or(|before| before.elapsed() > STEADY) {
                    self.pauses = Pauses::default();
                }
                tokio::time::sleep(self.pauses.next()).await;
            }
            match self.events.next().await? {
                Ok(Event::Init) => self.listed = false,
                Ok(Event::InitApply(object)) => {
                    self.listed = true;
                    return Some(Sight::There(object));
                }
                Ok(Event::InitDone) if self.listed => {}
                Ok(Event::Apply(object)) => return Some(Sight::There(object)),
                Ok(Event::InitDone | Event::Delete(_)) => return Some(Sight::Absent),
                Err(error) => {
                    // kube begins anew when it is asked again.
                    self.pause = true;
                    // The server has forgotten where we were: routine.
                    if super::watch::code_of(&error) != Some(410) {
                        return Some(Sight::Failed(sentence(&error)));
                    }
                }
            }
        }
    }
}
