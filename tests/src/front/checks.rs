//! Calls that tell whether a proxy in front of a gateway lets pass what agents need: long streams, silence, uploads, and
//! that a client leaves. Whether it holds answers back is told by [`crate::lockstep`].
//!
//! Each is called with the way to an agent through the proxy; they fail where something is lost. What a proxy does to
//! silence is an answer, not a failure: that depends on its settings.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http::Method;
use serde_json::Value;
use tokio::time::timeout;

use crate::client::{Answer, Events, full, keeping_client};
use crate::lockstep::{Base, Format, Stream};
use crate::wait::eventually;

/// On top of what a call must take; for a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(30);

/// What became of an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It came to its end.
    Whole,
    /// It ended too early, after that many events.
    Cut(u32),
    /// The proxy answered in its place, with that status.
    Refused(u16),
}

/// Where an agent is silent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Silence {
    /// Before its answer begins.
    BeforeHead,
    /// Between two events.
    BetweenEvents,
}

/// What becomes of a stream of so many events, one each `pace`. Those that come, come in order.
///
/// # Errors
/// When an event is lost between others, or the stream stands still.
pub async fn stream(base: &Base, events: u32, pace: Duration) -> Result<Outcome> {
    let target = format!("/events?sse=1&chunks={events}&pace={}ms", pace.as_millis());
    timeout(pace * events + SOON, play(base, &target, events)).await.context("the stream stands still")?
}

/// What becomes of an answer with a pause in it.
///
/// # Errors
/// When there is neither an answer nor an end.
pub async fn silence(base: &Base, kind: Silence, pause: Duration) -> Result<Outcome> {
    let pause_ms = pause.as_millis();
    let target = match kind {
        Silence::BeforeHead => format!("/events?sse=1&chunks=2&delay={pause_ms}ms"),
        Silence::BetweenEvents => format!("/events?sse=1&chunks=2&pace={pause_ms}ms"),
    };
    timeout(pause + SOON, play(base, &target, 2)).await.context("neither an answer nor an end")?
}

/// What becomes of a request with so many bytes; [`Outcome::Whole`] when all of them reached the agent.
///
/// # Errors
/// When bytes are lost, or there is no answer.
pub async fn upload(base: &Base, bytes: usize) -> Result<Outcome> {
    let request = base.request(Method::POST, "/upload")?.body(full(vec![b'x'; bytes]))?;
    let sent = async { Answer::read(keeping_client().request(request).await?).await };
    let answer = timeout(SOON, sent).await.context("no answer")??;
    if answer.status != 200 {
        return Ok(Outcome::Refused(answer.status));
    }
    let arrived = answer.json()["body"]["bytes"].as_u64().context("no report of the agent")?;
    ensure!(arrived == bytes as u64, "{arrived} of {bytes} bytes reached the agent");
    Ok(Outcome::Whole)
}

/// Makes sure that the agent sees a client leave a stream which is silent. `past` leads to it past the proxy.
///
/// # Errors
/// When the agent keeps the stream.
pub async fn abort(base: &Base, past: &Base) -> Result<()> {
    let stream = Stream::new(Format::Sse, 2);
    let mut reader = timeout(SOON, stream.open(base)).await.context("the stream does not begin")??;
    let first = timeout(SOON, reader.next()).await.context("its first event does not come")??;
    ensure!(first == Some(1) && stream.is_open(past).await?, "the stream is not open");
    drop(reader);
    eventually("the agent saw its client leave", SOON, async || {
        ensure!(!stream.is_open(past).await?, "it still sends");
        Ok(())
    })
    .await
}

async fn play(base: &Base, target: &str, events: u32) -> Result<Outcome> {
    let request = base.request(Method::POST, target)?.body(full(""))?;
    // A client of its own: one that keeps connections would call again where a proxy closed one without an answer.
    let response = match keeping_client().request(request).await {
        Ok(response) => response,
        Err(error) if error.is_connect() => return Err(error.into()),
        Err(_) => return Ok(Outcome::Cut(0)),
    };
    let status = response.status().as_u16();
    if status != 200 {
        return Ok(Outcome::Refused(status));
    }
    let mut came = Events::of(response);
    for n in 0..events {
        let Ok(Some(event)) = came.next().await else { return Ok(Outcome::Cut(n)) };
        let event: Value = serde_json::from_str(&event)?;
        ensure!(event["seq"] == n, "event {n} is {event}");
    }
    match came.next().await {
        Ok(None) => Ok(Outcome::Whole),
        Ok(Some(more)) => bail!("an event too many: {more}"),
        Err(_) => Ok(Outcome::Cut(events)),
    }
}
