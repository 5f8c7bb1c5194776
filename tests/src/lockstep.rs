//! Streams in lockstep with the example agent: whether what stands between it and a reader passes answers on at once.
//!
//! The agent sends event n+1 only after event n was confirmed. So whoever holds events back deadlocks the stream instead
//! of slowing it, and the verdict does not depend on how fast the machine is.
//!
//! Knows an address, a host and a path; what is between them and the agent is the caller's business. The agent has one
//! instance, since a confirmation must reach the one that sends the stream.

use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http::{HeaderValue, Method, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::timeout;

use crate::client::{Answer, KeepingClient, full, keeping_client};
use crate::wait::eventually;

/// All of it takes milliseconds; this is for a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(30);

/// Where an agent is called.
#[derive(Clone, Debug)]
pub struct Base {
    /// Who is dialled.
    pub address: SocketAddr,
    /// What the request calls that host; its address unless told otherwise.
    pub host: String,
    /// Path of the agent, without a slash at its end.
    pub path: String,
}

/// How events are written, which also decides what a proxy makes of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// `text/event-stream`: proxies know it, and the gateway asks nginx by a header to pass it on.
    Sse,
    /// `application/x-ndjson`: nobody treats it as anything special.
    Ndjson,
}

/// The next event did not come although the agent had sent it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stuck {
    /// How many had come before.
    pub received: u32,
}

/// One stream of an agent, under a name that no other has.
#[derive(Clone, Debug)]
pub struct Stream {
    id: String,
    format: Format,
    events: u32,
}

/// The events of a stream that has begun.
#[derive(Debug)]
pub struct Reader {
    body: Incoming,
    format: Format,
    buffer: Vec<u8>,
}

/// Streams that many events from the agent at `base`, confirming each there.
///
/// # Errors
/// [`Stuck`] when an event does not come within `patience` of the confirmation of the one before; another error when the
/// answer is cut, out of order or none.
pub async fn lockstep(base: &Base, format: Format, events: u32, patience: Duration) -> Result<()> {
    let stream = Stream::new(format, events);
    let confirming = keeping_client();
    let stuck = |received| move |_| Stuck { received };
    let mut reader = timeout(patience, stream.open(base)).await.map_err(stuck(0))??;
    for n in 1..=events {
        let next = timeout(patience, reader.next()).await.map_err(stuck(n - 1))?;
        let came = next.with_context(|| format!("cut after {} of {events} events", n - 1))?;
        ensure!(came == Some(n), "event {n} of {events} is {came:?}");
        stream.confirm_by(&confirming, base, n).await?;
    }
    let end = timeout(SOON, reader.next()).await.context("the answer does not end")??;
    ensure!(end.is_none(), "an event after the last one: {end:?}");
    Ok(())
}

/// Makes sure that something at `front` holds answers back: none of the agent's events comes while there are more, and
/// all of them come with the end. `past` leads to the same agent past it. Keep them below 4 KiB together, which is the
/// least that a proxy's buffer holds.
///
/// # Errors
/// When an event comes before, or one is lost.
pub async fn holds_back(front: &Base, past: &Base, format: Format, events: u32) -> Result<()> {
    let stream = Stream::new(format, events);
    // The head may be held back too, so the answer is awaited beside the confirmations.
    let mut held = Box::pin(async {
        let mut reader = stream.open(front).await?;
        let first = reader.next().await?;
        anyhow::Ok((reader, first))
    });
    let all_but_the_last = async {
        let confirming = keeping_client();
        for n in 1..events {
            stream.confirm_once_sent(&confirming, past, n).await?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        biased;
        came = &mut held => bail!("event {:?} was not held back", came?.1),
        confirmed = all_but_the_last => confirmed?,
    }
    let rest = async {
        stream.confirm_once_sent(&keeping_client(), past, events).await?;
        let (mut reader, first) = held.await?;
        let mut came: Vec<u32> = first.into_iter().collect();
        while let Some(n) = reader.next().await? {
            came.push(n);
        }
        ensure!(came.iter().copied().eq(1..=events), "{came:?} came of {events} events");
        Ok(())
    };
    timeout(SOON, rest).await.context("the events do not come with the end either")?
}

// === impl Base ===

impl Base {
    /// The agent at `path` of whoever listens at `address`.
    pub fn new(address: SocketAddr, path: &str) -> Self {
        Self { address, host: address.to_string(), path: path.to_owned() }
    }

    /// The same, called by a name.
    #[must_use]
    pub fn host(self, host: &str) -> Self {
        Self { host: host.to_owned(), ..self }
    }

    /// A request to what the agent has at `target`, which begins with a slash.
    ///
    /// # Errors
    /// When the host is no header value.
    pub fn request(&self, method: Method, target: &str) -> Result<http::request::Builder> {
        let uri = format!("http://{}{}{target}", self.address, self.path);
        let host = HeaderValue::from_str(&self.host)?;
        Ok(http::Request::builder().method(method).uri(uri).header(http::header::HOST, host))
    }

    /// An answer of 200 that has begun.
    ///
    /// # Errors
    /// When there is none.
    pub async fn post(&self, target: &str) -> Result<Response<Incoming>> {
        let request = self.request(Method::POST, target)?.body(full(""))?;
        let response = keeping_client().request(request).await?;
        if response.status() != 200 {
            let answer = Answer::read(response).await?;
            bail!("{}: {}", answer.status, answer.text());
        }
        Ok(response)
    }
}

// === impl Stuck ===

impl Display for Stuck {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "stuck: {} events came, and the next one is held back", self.received)
    }
}

impl std::error::Error for Stuck {}

// === impl Stream ===

impl Stream {
    /// One that was not opened yet.
    pub fn new(format: Format, events: u32) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self { id: format!("{}-{number}", std::process::id()), format, events }
    }

    /// Opens it on a connection of its own, which ends with the reader. A POST, as MCP and A2A stream: a GET of events
    /// would be a standing stream, which a gateway that stops ends.
    ///
    /// # Errors
    /// When there is no answer of 200 in the format.
    pub async fn open(&self, base: &Base) -> Result<Reader> {
        let (format, content_type) = match self.format {
            Format::Sse => ("sse", "text/event-stream"),
            Format::Ndjson => ("ndjson", "application/x-ndjson"),
        };
        let Self { id, events, .. } = self;
        let target = format!("/stream/lockstep?id={id}&events={events}&format={format}");
        let response = base.post(&target).await?;
        let found = response.headers().get(http::header::CONTENT_TYPE);
        ensure!(found.is_some_and(|found| found == content_type), "the answer is {found:?}");
        Ok(Reader { body: response.into_body(), format: self.format, buffer: Vec::new() })
    }

    /// Whether the agent still has it open: not once it has ended, or its client left.
    ///
    /// # Errors
    /// When there is no answer, or one that tells neither.
    pub async fn is_open(&self, past: &Base) -> Result<bool> {
        let answer = self.say(&keeping_client(), past, 0).await?;
        match answer.status {
            200 => Ok(true),
            404 => Ok(false),
            status => bail!("{status}: {}", answer.text()),
        }
    }

    async fn confirm_by(&self, client: &KeepingClient, base: &Base, n: u32) -> Result<()> {
        let answer = timeout(SOON, self.say(client, base, n)).await;
        let answer = answer.with_context(|| format!("the confirmation of event {n} is not answered"))??;
        ensure!(answer.status == 200, "confirming event {n}: {} {}", answer.status, answer.text());
        Ok(())
    }

    /// For one who cannot see the events: confirms as soon as the agent takes it.
    async fn confirm_once_sent(&self, client: &KeepingClient, past: &Base, n: u32) -> Result<()> {
        eventually(&format!("event {n} was sent"), SOON, async || self.confirm_by(client, past, n).await)
            .await
    }

    async fn say(&self, client: &KeepingClient, base: &Base, n: u32) -> Result<Answer> {
        let target = format!("/stream/confirm?id={}&n={n}", self.id);
        Answer::read(client.request(base.request(Method::POST, &target)?.body(full(""))?).await?).await
    }
}

// === impl Reader ===

impl Reader {
    /// The number of the next event, `None` at the end of the answer.
    ///
    /// # Errors
    /// When the answer is cut, or is not made of the agent's events.
    pub async fn next(&mut self) -> Result<Option<u32>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let line = std::str::from_utf8(&line)?.trim_end();
                // Names, comments and empty lines are there in an event stream only.
                let data = match self.format {
                    Format::Sse => line.strip_prefix("data:"),
                    Format::Ndjson => Some(line),
                };
                if let Some(data) = data {
                    let data: Value =
                        serde_json::from_str(data).with_context(|| format!("not JSON: {data}"))?;
                    return Ok(Some(data["n"].as_u64().context("no number")?.try_into()?));
                }
                continue;
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let data = frame?.into_data().ok().context("trailers in an answer without any")?;
            self.buffer.extend_from_slice(&data);
        }
    }
}
