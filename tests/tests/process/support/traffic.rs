//! Callers that go on until they are told to end, and what came of their calls.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::StreamExt;
use http::Method;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use krypton_e2e::wait::eventually;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::SOON;
use super::client::{Events, KeepingClient, full, get_by, keeping_client, request, send};

/// Between two calls of one caller: two of them make fifty a second.
const PAUSE: Duration = Duration::from_millis(40);

/// Pieces of an upload and events of a stream.
const PIECES: usize = 10;

/// Between two pieces.
const PACE: Duration = Duration::from_millis(30);

/// Bytes of one piece of an upload.
const PIECE_BYTES: usize = 4096;

/// What a caller does, again and again.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A short call.
    Call,
    /// An answer of [`PIECES`] events.
    Stream,
    /// A body of [`PIECES`] pieces.
    Upload,
}

/// Callers of one agent.
pub(crate) struct Traffic {
    callers: JoinSet<()>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    ended: AtomicBool,
    answered: AtomicUsize,
    failed: AtomicUsize,
    /// Which failure was the first.
    first: std::sync::OnceLock<String>,
}

// === impl Traffic ===

impl Traffic {
    /// Calls the agent `echo` of the gateway at `address`: two callers of short calls, one of each other kind. All
    /// keep their connections, as an ingress does.
    pub(crate) fn start(address: SocketAddr) -> Self {
        let mut traffic = Self { callers: JoinSet::new(), shared: Arc::default() };
        for kind in [Kind::Call, Kind::Call, Kind::Stream, Kind::Upload] {
            let shared = Arc::clone(&traffic.shared);
            traffic.callers.spawn(async move { shared.go_on(kind, address).await });
        }
        traffic
    }

    /// Waits for that many more good answers.
    pub(crate) async fn goes_on(&self, more: usize) {
        let wanted = self.shared.answered.load(Ordering::Relaxed) + more;
        eventually(&format!("{more} more answers"), SOON, async || {
            let answered = self.shared.answered.load(Ordering::Relaxed);
            ensure!(
                answered >= wanted,
                "{answered} of {wanted}; first failure: {:?}",
                self.shared.first.get()
            );
            Ok(())
        })
        .await
        .unwrap();
    }

    /// Lets each caller finish what it does. Every call was answered, and there were some.
    pub(crate) async fn end_whole(self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.callers.join_all().await;
        let (answered, failed) = (&self.shared.answered, &self.shared.failed);
        assert_eq!(
            failed.load(Ordering::Relaxed),
            0,
            "{:?} beside {answered:?} good ones",
            self.shared.first
        );
        assert!(answered.load(Ordering::Relaxed) > 0);
    }
}

// === impl Shared ===

impl Shared {
    async fn go_on(&self, kind: Kind, address: SocketAddr) {
        let client = keeping_client();
        let mut beat = tokio::time::interval(PAUSE);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.ended.load(Ordering::Relaxed) {
            beat.tick().await;
            match call(&client, kind, address).await {
                Ok(()) => self.answered.fetch_add(1, Ordering::Relaxed),
                Err(error) => {
                    self.first.set(format!("{kind:?}: {error:#}")).ok();
                    self.failed.fetch_add(1, Ordering::Relaxed)
                }
            };
        }
    }
}

/// One call that must be answered whole.
async fn call(client: &KeepingClient, kind: Kind, address: SocketAddr) -> Result<()> {
    match kind {
        Kind::Call => {
            let answer = get_by(client, address, "/v1/agents/default/echo/hello").await?;
            ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
        }
        Kind::Stream => {
            let pace = PACE.as_millis();
            let target = format!("/v1/agents/default/echo/events?sse=1&chunks={PIECES}&pace={pace}ms");
            let response = client.request(request(Method::GET, address, &target).body(full(""))?).await?;
            ensure!(response.status() == 200, "{}", response.status());
            let events = Events::of(response).rest().await?;
            ensure!(events.len() == PIECES, "a stream ended after {} events", events.len());
        }
        Kind::Upload => {
            let pieces = futures::stream::iter(0..PIECES).then(async |_| {
                tokio::time::sleep(PACE).await;
                Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[b'x'; PIECE_BYTES])))
            });
            let upload = request(Method::POST, address, "/v1/agents/default/echo/upload");
            // `then` with an async closure gives a future that must be pinned.
            let answer =
                send(client, upload.body(BodyExt::boxed(StreamBody::new(Box::pin(pieces))))?).await?;
            ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
            let arrived = answer.json()["body"]["bytes"].as_u64().context("no report")?;
            ensure!(arrived == (PIECES * PIECE_BYTES) as u64, "only {arrived} bytes arrived");
        }
    }
    Ok(())
}
