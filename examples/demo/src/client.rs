//! The caller of the tour: an HTTP/1.1 client that never tries anything twice, so that every failure is seen.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::sse::Parser;
use crate::wait::within;

/// Every answer of an example agent says which instance gave it.
const AGENT_NAME: &str = "x-agent-name";

/// And which version of its image, where it was told.
const AGENT_VERSION: &str = "x-agent-version";

/// The largest answer that is read whole.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Makes calls. Clones share its connections.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    inner: hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// An answer that is still being given.
#[derive(Debug)]
pub(crate) struct Events {
    pub(crate) headers: HeaderMap,
    body: Incoming,
    parser: Parser,
    /// Whole events that were not asked for yet, the next one last.
    ready: Vec<String>,
}

// === impl Client ===

impl Client {
    pub(crate) fn new() -> Self {
        let inner = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .retry_canceled_requests(false)
            .build(HttpConnector::new());
        Self { inner }
    }

    /// GETs a whole answer, whatever its status.
    ///
    /// # Errors
    /// The call fails, or takes too long.
    pub(crate) async fn get(&self, url: &str) -> anyhow::Result<Answer> {
        let request = Request::get(url).body(Full::default())?;
        within(&format!("GET {url}"), async { Answer::read(self.send(request).await?).await }).await
    }

    /// POSTs JSON and opens the stream of events that answers it.
    ///
    /// # Errors
    /// The call fails, takes too long to begin, or is not answered with 200 and events.
    pub(crate) async fn events(
        &self,
        url: &str,
        headers: &[(HeaderName, &str)],
        body: &Value,
    ) -> anyhow::Result<Events> {
        let response = self.post(url, headers, body).await?;
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("none");
        ensure!(
            response.status() == StatusCode::OK && kind.starts_with("text/event-stream"),
            "POST {url}: {} with content-type {kind}",
            response.status()
        );
        let (head, body) = response.into_parts();
        Ok(Events { headers: head.headers, body, parser: Parser::default(), ready: Vec::new() })
    }

    /// POSTs JSON; gives the answer once it begins.
    ///
    /// # Errors
    /// The call fails, or takes too long.
    pub(crate) async fn post(
        &self,
        url: &str,
        headers: &[(HeaderName, &str)],
        body: &Value,
    ) -> anyhow::Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(url)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, text/event-stream");
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let request = request.body(Full::from(body.to_string()))?;
        within(&format!("POST {url}"), self.send(request)).await
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>> {
        Ok(self.inner.request(request).await?)
    }
}

// === impl Answer ===

impl Answer {
    async fn read(response: Response<Incoming>) -> anyhow::Result<Self> {
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!(error).context("reading the answer"))?.to_bytes();
        Ok(Self { status: head.status, headers: head.headers, body })
    }

    /// The instance that answered.
    ///
    /// # Errors
    /// It was not an agent, or not with 200.
    pub(crate) fn instance(&self) -> anyhow::Result<&str> {
        ensure!(self.status == StatusCode::OK, "{}: {}", self.status, self.text());
        instance(&self.headers)
    }

    /// The version of the image that answered; `None` where the agent was not told of any.
    pub(crate) fn version(&self) -> Option<&str> {
        self.headers.get(AGENT_VERSION).and_then(|version| version.to_str().ok())
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// It is not.
    pub(crate) fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The instance that these headers name.
///
/// # Errors
/// They name none.
pub(crate) fn instance(headers: &HeaderMap) -> anyhow::Result<&str> {
    let name = headers.get(AGENT_NAME).with_context(|| format!("the answer has no {AGENT_NAME}"))?;
    Ok(name.to_str()?)
}

// === impl Events ===

impl Events {
    /// The data of the next event as JSON; `None` at the end.
    ///
    /// # Errors
    /// The stream breaks, is silent too long, or holds something else.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Value>> {
        while self.ready.is_empty() {
            let frame = within("the next event", async { self.body.frame().await.transpose() }).await?;
            let Some(frame) = frame else { return Ok(None) };
            if let Some(data) = frame.data_ref() {
                self.ready = self.parser.push(data)?;
                self.ready.reverse();
            }
        }
        let event = self.ready.pop().context("there is one")?;
        Ok(Some(serde_json::from_str(&event).with_context(|| format!("not JSON: {event}"))?))
    }
}
