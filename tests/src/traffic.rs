//! Callers that go on until they are told to end, and what came of their calls.
//!
//! Owns: the rhythm of the calls, and what counts as whole: an answer of 200, every event of a stream, every byte of an
//! upload. Never calls twice what was accepted: only a refused connection leads a caller to another address, as an
//! ingress does with its gateways.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::client::{Answer, Body, Events, KeepingClient, full, keeping_client, request};
use crate::wait::eventually;

/// Between the beginnings of two calls of one caller, unless a call takes longer: 25 a second.
const PAUSE: Duration = Duration::from_millis(40);

/// Bytes of one piece of an upload.
const PIECE_BYTES: usize = 4096;

/// As many answers as a test waits for come within seconds; this is for a machine that is busy with other tests.
const SOON: Duration = Duration::from_mins(1);

/// Who calls, and what. Each caller keeps its connections, as an ingress does.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Callers of short calls, up to 25 a second each.
    pub calls: usize,
    /// Callers of streams, one after the other: so many are open at any time.
    pub streams: usize,
    /// Callers that upload, without a pause.
    pub uploads: usize,
    /// Events of a stream and pieces of an upload.
    pub pieces: usize,
    /// Between two pieces.
    pub pace: Duration,
}

/// What came of all calls.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Short calls that were answered.
    pub calls: usize,
    /// Streams that came whole.
    pub streams: usize,
    /// Uploads that arrived whole.
    pub uploads: usize,
    /// From the first call until no more were begun.
    pub took: Duration,
}

/// Callers of one agent.
#[derive(Debug)]
pub struct Traffic {
    callers: JoinSet<()>,
    shared: Arc<Shared>,
    began: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Call,
    Stream,
    Upload,
}

#[derive(Debug)]
struct Shared {
    addresses: Vec<SocketAddr>,
    /// Path of the agent, without a slash at its end.
    agent: String,
    load: Load,
    ended: AtomicBool,
    calls: AtomicUsize,
    streams: AtomicUsize,
    uploads: AtomicUsize,
    failed: AtomicUsize,
    /// Which failure was the first.
    first: OnceLock<String>,
}

/// One caller.
struct Caller<'a> {
    client: KeepingClient,
    shared: &'a Shared,
    /// Which address is called, as an index.
    at: usize,
}

// === impl Load ===

impl Load {
    /// A little of everything: up to 50 calls a second, streams and uploads of 300 ms.
    pub const MIXED: Self =
        Self { calls: 2, streams: 1, uploads: 1, pieces: 10, pace: Duration::from_millis(30) };
}

// === impl Report ===

impl Report {
    /// Short calls a second.
    #[must_use]
    pub fn calls_per_second(&self) -> f64 {
        let calls = u32::try_from(self.calls).unwrap_or(u32::MAX);
        f64::from(calls) / self.took.as_secs_f64()
    }
}

// === impl Traffic ===

impl Traffic {
    /// Calls the agent at the path `agent` of the gateways at `addresses`, of which there is at least one: each caller
    /// keeps to one of them until that refuses its connection.
    #[must_use]
    pub fn start(addresses: &[SocketAddr], agent: &str, load: Load) -> Self {
        let shared = Arc::new(Shared::new(addresses, agent, load));
        let mut callers = JoinSet::new();
        let kinds = [(Kind::Call, load.calls), (Kind::Stream, load.streams), (Kind::Upload, load.uploads)];
        for (kind, count) in kinds {
            for number in 0..count {
                let shared = Arc::clone(&shared);
                callers.spawn(async move { shared.go_on(kind, number).await });
            }
        }
        Self { callers, shared, began: Instant::now() }
    }

    /// Waits for that many more good answers of any kind.
    ///
    /// # Errors
    /// When they do not come; with the first failure.
    pub async fn goes_on(&self, more: usize) -> Result<()> {
        let wanted = self.shared.answered() + more;
        eventually(&format!("{more} more answers"), SOON, async || {
            let answered = self.shared.answered();
            ensure!(
                answered >= wanted,
                "{answered} of {wanted}; first failure: {:?}",
                self.shared.first.get()
            );
            Ok(())
        })
        .await
    }

    /// Lets each caller finish what it does.
    ///
    /// # Errors
    /// When a call failed, or there was none; with the first failure.
    pub async fn end_whole(self) -> Result<Report> {
        let Self { callers, shared, began } = self;
        shared.ended.store(true, Ordering::Relaxed);
        let took = began.elapsed();
        callers.join_all().await;
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        let report = Report {
            calls: count(&shared.calls),
            streams: count(&shared.streams),
            uploads: count(&shared.uploads),
            took,
        };
        let failed = count(&shared.failed);
        ensure!(
            failed == 0,
            "{failed} calls failed, the first: {}; beside {report:?}",
            shared.first.get().map_or("", String::as_str)
        );
        ensure!(shared.answered() > 0, "there was no call");
        Ok(report)
    }
}

// === impl Shared ===

impl Shared {
    fn new(addresses: &[SocketAddr], agent: &str, load: Load) -> Self {
        Self {
            addresses: addresses.to_vec(),
            agent: agent.to_owned(),
            load,
            ended: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            uploads: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            first: OnceLock::new(),
        }
    }

    fn answered(&self) -> usize {
        [&self.calls, &self.streams, &self.uploads].iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// The caller `number` of its kind.
    async fn go_on(&self, kind: Kind, number: usize) {
        let mut caller =
            Caller { client: keeping_client(), shared: self, at: number % self.addresses.len().max(1) };
        let start = Instant::now();
        let mut beat = tokio::time::interval(PAUSE);
        // A beat that is late makes the next one no later: the rate is kept.
        beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut has_failed = false;
        while !self.ended.load(Ordering::Relaxed) {
            if has_failed || matches!(kind, Kind::Call) {
                beat.tick().await;
            }
            let begun = start.elapsed();
            let outcome = caller.call(kind).await;
            has_failed = outcome.is_err();
            let counter = match (&outcome, kind) {
                (Err(_), _) => &self.failed,
                (Ok(()), Kind::Call) => &self.calls,
                (Ok(()), Kind::Stream) => &self.streams,
                (Ok(()), Kind::Upload) => &self.uploads,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = outcome {
                let failed = start.elapsed();
                self.first
                    .set(format!("{kind:?} begun at {begun:.2?}, failed at {failed:.2?}: {error:#}"))
                    .ok();
            }
        }
    }
}

// === impl Caller ===

impl Caller<'_> {
    /// One call that must be answered whole.
    async fn call(&mut self, kind: Kind) -> Result<()> {
        let Load { pieces, pace, .. } = self.shared.load;
        match kind {
            Kind::Call => {
                let response = self.send(&Method::GET, "/hello", || full("")).await?;
                whole(response).await?;
            }
            Kind::Stream => {
                // A GET of events would be a standing stream, which a gateway that stops ends.
                let target = format!("/events?sse=1&chunks={pieces}&pace={}ms", pace.as_millis());
                let response = self.send(&Method::POST, &target, || full("")).await?;
                let by = pod(&response);
                ensure!(response.status() == 200, "{}", response.status());
                let mut events = Events::of(response);
                let mut came = 0;
                while let Some(event) = events
                    .next()
                    .await
                    .with_context(|| format!("a stream of {by} was cut after {came} events"))?
                {
                    let number = format!("{{\"seq\":{came},");
                    ensure!(event.starts_with(&number), "event {came} of {by} is {event}");
                    came += 1;
                }
                ensure!(came == pieces, "a stream of {by} ended after {came} events");
            }
            Kind::Upload => {
                let upload = || {
                    let pieces = futures::stream::iter(0..pieces).then(move |_| async move {
                        tokio::time::sleep(pace).await;
                        Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[b'x'; PIECE_BYTES])))
                    });
                    // `then` with a future gives a stream that must be pinned.
                    BodyExt::boxed(StreamBody::new(Box::pin(pieces)))
                };
                let answer = whole(self.send(&Method::POST, "/upload", upload).await?).await?;
                let arrived = answer.json()["body"]["bytes"].as_u64().context("no report")?;
                ensure!(arrived == (pieces * PIECE_BYTES) as u64, "only {arrived} bytes arrived");
            }
        }
        Ok(())
    }

    /// Sends a call to the address that the caller keeps to, or to the next one that takes the connection.
    async fn send(
        &mut self,
        method: &Method,
        target: &str,
        body: impl Fn() -> Body,
    ) -> Result<Response<Incoming>> {
        let Shared { addresses, agent, .. } = self.shared;
        let target = format!("{agent}{target}");
        for _ in 1..addresses.len() {
            let call = request(method.clone(), addresses[self.at], &target).body(body())?;
            match self.client.request(call).await {
                Err(error) if error.is_connect() => self.at = (self.at + 1) % addresses.len(),
                answered => return Ok(answered?),
            }
        }
        let call = request(method.clone(), addresses[self.at], &target).body(body())?;
        Ok(self.client.request(call).await?)
    }
}

fn pod(response: &Response<Incoming>) -> String {
    let name = response.headers().get("x-agent-name").and_then(|name| name.to_str().ok());
    name.unwrap_or("no pod").to_owned()
}

async fn whole(response: Response<Incoming>) -> Result<Answer> {
    let by = pod(&response);
    let answer = Answer::read(response).await.with_context(|| format!("an answer of {by}"))?;
    ensure!(answer.status == 200, "{} of {by}: {}", answer.status, answer.text());
    Ok(answer)
}
