//! Plays an answer: the delay, the head, the chunks at their pace, and an abort where one was asked for.
//!
//! Never reads a request. What is sent is a [`Content`]; how it is sent are the knobs.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::{Stream, stream};
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, StatusCode, Version};

use crate::connection::{Aborted, Connection, Unanswered};
use crate::echo::bad_request;
use crate::knobs::{Abort, BadKnob, Knobs};

/// What an answer consists of. Chunks are made one at a time, so its memory does not grow with their number.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// One chunk of JSON.
    Report(Bytes),
    /// The same bytes again and again.
    Filler { chunk: Bytes, count: u32 },
    /// Server-sent events that can be told apart and timed.
    Events { pad: Bytes, count: u32 },
    /// Words, begun anew when `count` is more than there are.
    Words { words: Arc<[String]>, count: u32, sse: bool },
}

/// An answer in progress.
struct Play {
    content: Content,
    pace: Duration,
    abort_after: Option<u32>,
    reset: Option<(Connection, Version)>,
    sent: u32,
}

/// Answers with `content` as `knobs` ask for.
pub(crate) async fn respond(
    content: Content,
    knobs: &Knobs,
    connection: Connection,
    version: Version,
) -> Response {
    let length = match (knobs.length, content.length()) {
        (None, length) => length.filter(|_| matches!(content, Content::Report(_))),
        (Some(false), _) => None,
        (Some(true), None) => return bad_request(&BadKnob::LengthOfEvents { knob: "length" }),
        (Some(true), length) => length,
    };
    pause(knobs.delay).await;
    let abort_after = match knobs.abort {
        Some(Abort::BeforeHead) => {
            if knobs.reset {
                connection.reset_at_end(version);
            }
            return (StatusCode::INTERNAL_SERVER_ERROR, axum::Extension(Unanswered)).into_response();
        }
        Some(Abort::AfterChunks(count)) => Some(count.min(content.count())),
        None => None,
    };

    let content_type = content.content_type();
    let play = Play {
        content,
        pace: knobs.pace.unwrap_or_default(),
        abort_after,
        reset: knobs.reset.then_some((connection, version)),
        sent: 0,
    };
    let mut response = Response::new(Body::from_stream(play.stream()));
    *response.status_mut() = knobs.status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Some(length) = length {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

/// Sleeps, or goes on at once when there is nothing to wait for: the runtime's own sleep of no time may take until
/// the next millisecond, which every answer would pay.
pub(crate) async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

// === impl Content ===

impl Content {
    /// How many chunks it has.
    fn count(&self) -> u32 {
        match self {
            Self::Report(_) => 1,
            Self::Filler { count, .. } | Self::Events { count, .. } => *count,
            Self::Words { words, count, .. } if !words.is_empty() => *count,
            Self::Words { .. } => 0,
        }
    }

    /// Length of all chunks in bytes; none for events, which carry the time.
    fn length(&self) -> Option<u64> {
        match self {
            Self::Report(json) => Some(json.len() as u64),
            Self::Filler { chunk, count } => Some(chunk.len() as u64 * u64::from(*count)),
            Self::Words { words, count, sse: false } => {
                Some(words.iter().cycle().take(*count as usize).map(|word| word.len() as u64 + 1).sum())
            }
            Self::Events { .. } | Self::Words { sse: true, .. } => None,
        }
    }

    fn content_type(&self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Report(_) => "application/json",
            Self::Filler { .. } => "application/octet-stream",
            Self::Events { .. } | Self::Words { sse: true, .. } => "text/event-stream",
            Self::Words { sse: false, .. } => "text/plain; charset=utf-8",
        })
    }

    fn chunk(&self, index: u32) -> Bytes {
        match self {
            Self::Report(json) => json.clone(),
            Self::Filler { chunk, .. } => chunk.clone(),
            Self::Events { pad, .. } => event(index, pad),
            Self::Words { words, sse, .. } => {
                let word = &words[index as usize % words.len()];
                Bytes::from(if *sse { format!("id: {index}\ndata: {word}\n\n") } else { format!("{word} ") })
            }
        }
    }
}

/// One event. Its time is that of the machine in microseconds since 1970, for comparison within one machine.
fn event(index: u32, pad: &[u8]) -> Bytes {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let mut event = String::with_capacity(96 + pad.len());
    write!(event, "id: {index}\ndata: {{\"seq\":{index},\"sentAtUs\":{now}")
        .expect("a String takes all text");
    if !pad.is_empty() {
        write!(event, ",\"pad\":\"{}\"", String::from_utf8_lossy(pad)).expect("a String takes all text");
    }
    event.push_str("}\n\n");
    event.into()
}

// === impl Play ===

impl Play {
    fn stream(self) -> impl Stream<Item = Result<Bytes, Aborted>> + Send {
        stream::unfold(Some(self), async |play| {
            let mut play = play?;
            let aborts = play.abort_after == Some(play.sent);
            if play.sent == play.content.count() && !aborts {
                return None;
            }
            if play.sent > 0 {
                pause(play.pace).await;
            }
            if aborts {
                // Lets the connection write out what it has; it drops that together with itself on an error.
                tokio::task::yield_now().await;
                if let Some((connection, version)) = play.reset {
                    connection.reset_at_end(version);
                }
                return Some((Err(Aborted), None));
            }
            let chunk = play.content.chunk(play.sent);
            play.sent += 1;
            Some((Ok(chunk), Some(play)))
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn no_pause_takes_no_time() {
        assert!(pause(Duration::ZERO).now_or_never().is_some());
    }
}
