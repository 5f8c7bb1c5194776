//! `/stream/lockstep`: a stream whose next event leaves only after somebody said that the one before has arrived.
//!
//! Whoever holds an answer back between agent and reader stops it for good: the event that would push the held ones on
//! is never sent. So a test of a proxy needs no clock to tell passing on from holding back.
//!
//! Owns: the open streams of one instance, by the names that their readers chose. Any connection may confirm, also one
//! past the proxy under test. A stream that its client left is gone at once, and confirming it is a 404.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Weak};

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, stream};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{Mutex, watch};

use crate::routes::Agent;

/// Streams that are open at one time in one instance.
const MAX_STREAMS: usize = 1000;
/// Longest name of a stream in bytes.
const MAX_ID_BYTES: usize = 64;
/// Most events of one stream.
const MAX_EVENTS: u32 = 1_000_000;
const DEFAULT_EVENTS: u32 = 10;

/// The open streams of one instance.
#[derive(Debug, Default)]
pub(crate) struct Locksteps {
    /// A stream belongs to its answer, so that it goes with it.
    open: Mutex<HashMap<String, Weak<Steps>>>,
}

/// How far one stream is, both counted from one: nothing yet is zero.
#[derive(Debug)]
struct Steps {
    sent: watch::Sender<u32>,
    confirmed: watch::Sender<u32>,
}

/// What a stream's query asks for.
#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    id: String,
    events: Option<u32>,
    #[serde(default)]
    format: Format,
}

/// Which event of which stream has arrived.
#[derive(Debug, Deserialize)]
pub(crate) struct Arrived {
    id: String,
    n: u32,
}

/// How events are written.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Sse,
    Ndjson,
}

/// Why there is no stream, or no step of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("id: expected 1 to {MAX_ID_BYTES} bytes")]
    Id,
    #[error("events: expected 1 to {MAX_EVENTS}")]
    Events,
    #[error("a stream of this id is open")]
    Taken,
    #[error("{MAX_STREAMS} streams are open")]
    Full,
    #[error("no stream of this id is open")]
    Unknown,
    #[error("n: the last event that was sent is {sent}")]
    NotSent { sent: u32 },
}

/// Opens a stream and sends its first event.
pub(crate) async fn stream(
    State(agent): State<Arc<Agent>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    let Query(wanted) = match wanted {
        Ok(wanted) => wanted,
        Err(bad) => return bad.into_response(),
    };
    let (events, format) = (wanted.events.unwrap_or(DEFAULT_EVENTS), wanted.format);
    if !(1..=MAX_EVENTS).contains(&events) {
        return Refused::Events.into_response();
    }
    let steps = match agent.locksteps().open(wanted.id).await {
        Ok(steps) => steps,
        Err(refused) => return refused.into_response(),
    };
    let mut response = Response::new(Body::from_stream(play(steps, events, format)));
    let content_type = HeaderValue::from_static(match format {
        Format::Sse => "text/event-stream",
        Format::Ndjson => "application/x-ndjson",
    });
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// Lets a stream go on.
pub(crate) async fn confirm(
    State(agent): State<Arc<Agent>>,
    arrived: Result<Query<Arrived>, QueryRejection>,
) -> Response {
    let Query(Arrived { id, n }) = match arrived {
        Ok(arrived) => arrived,
        Err(bad) => return bad.into_response(),
    };
    match agent.locksteps().confirm(&id, n).await {
        Ok(()) => Json(json!({ "confirmed": n })).into_response(),
        Err(refused) => refused.into_response(),
    }
}

/// One event at a time, each after the one before was confirmed; the end after the last one was.
fn play(
    steps: Arc<Steps>,
    events: u32,
    format: Format,
) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> + Send {
    stream::unfold(steps, move |steps| async move {
        let sent = *steps.sent.borrow();
        let mut confirmed = steps.confirmed.subscribe();
        // The sender lives in the steps that are held here, so the channel cannot have closed.
        confirmed.wait_for(|confirmed| *confirmed == sent).await.ok()?;
        let next = (sent < events).then_some(sent + 1)?;
        steps.sent.send_replace(next);
        Some((Ok(format.event(next)), steps))
    })
}

// === impl Format ===

impl Format {
    fn event(self, n: u32) -> Bytes {
        Bytes::from(match self {
            Self::Sse => format!("id: {n}\ndata: {{\"n\":{n}}}\n\n"),
            Self::Ndjson => format!("{{\"n\":{n}}}\n"),
        })
    }
}

// === impl Locksteps ===

impl Locksteps {
    async fn open(&self, id: String) -> Result<Arc<Steps>, Refused> {
        if !(1..=MAX_ID_BYTES).contains(&id.len()) {
            return Err(Refused::Id);
        }
        let mut open = self.open.lock().await;
        if open.len() == MAX_STREAMS {
            open.retain(|_, steps| steps.strong_count() > 0);
        }
        let full = open.len() == MAX_STREAMS;
        let steps = Arc::new(Steps { sent: watch::Sender::new(0), confirmed: watch::Sender::new(0) });
        match open.entry(id) {
            Entry::Occupied(taken) if taken.get().strong_count() > 0 => return Err(Refused::Taken),
            Entry::Occupied(mut ended) => drop(ended.insert(Arc::downgrade(&steps))),
            Entry::Vacant(_) if full => return Err(Refused::Full),
            Entry::Vacant(free) => drop(free.insert(Arc::downgrade(&steps))),
        }
        Ok(steps)
    }

    /// Confirming what was confirmed before changes nothing.
    async fn confirm(&self, id: &str, n: u32) -> Result<(), Refused> {
        let steps = self.open.lock().await.get(id).and_then(Weak::upgrade).ok_or(Refused::Unknown)?;
        let sent = *steps.sent.borrow();
        if n > sent {
            return Err(Refused::NotSent { sent });
        }
        steps.confirmed.send_if_modified(|confirmed| {
            let later = n > *confirmed;
            *confirmed = n.max(*confirmed);
            later
        });
        Ok(())
    }
}

// === impl Refused ===

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Id | Self::Events => StatusCode::BAD_REQUEST,
            Self::Taken | Self::NotSent { .. } => StatusCode::CONFLICT,
            Self::Full => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unknown => StatusCode::NOT_FOUND,
        };
        (status, Json(json!({ "error": self.to_string() }))).into_response()
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn an_event_waits_for_the_confirmation_of_the_one_before() {
        let streams = Locksteps::default();
        let mut events = Box::pin(play(streams.open("a".into()).await.unwrap(), 2, Format::Ndjson));
        assert_eq!(streams.confirm("a", 1).await, Err(Refused::NotSent { sent: 0 }));
        assert_eq!(events.next().await.unwrap().unwrap(), "{\"n\":1}\n");
        assert!(futures::poll!(events.next()).is_pending());
        streams.confirm("a", 1).await.unwrap();
        assert_eq!(events.next().await.unwrap().unwrap(), "{\"n\":2}\n");
        // Confirmed again, late: no step.
        streams.confirm("a", 1).await.unwrap();
        assert!(futures::poll!(events.next()).is_pending());
        streams.confirm("a", 2).await.unwrap();
        assert!(events.next().await.is_none());
    }

    #[tokio::test]
    async fn a_stream_that_was_left_is_gone_and_its_name_free() {
        let streams = Locksteps::default();
        let first = streams.open("a".into()).await.unwrap();
        assert_eq!(streams.open("a".into()).await.unwrap_err(), Refused::Taken);
        drop(first);
        assert_eq!(streams.confirm("a", 0).await, Err(Refused::Unknown));
        streams.open("a".into()).await.unwrap();
    }

    #[tokio::test]
    async fn names_and_streams_are_bounded() {
        let streams = Locksteps::default();
        assert_eq!(streams.open(String::new()).await.unwrap_err(), Refused::Id);
        assert_eq!(streams.open("x".repeat(65)).await.unwrap_err(), Refused::Id);
        let mut held = Vec::new();
        for number in 0..MAX_STREAMS {
            held.push(streams.open(number.to_string()).await.unwrap());
        }
        assert_eq!(streams.open("more".into()).await.unwrap_err(), Refused::Full);
        held.pop();
        streams.open("more".into()).await.unwrap();
    }
}
