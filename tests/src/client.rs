//! A caller of HTTP that sees what came: heads, bodies, the pieces of a stream.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// What a request carries.
pub type Body = BoxBody<Bytes, std::convert::Infallible>;

/// A caller that keeps its connections.
pub type KeepingClient = Client<HttpConnector, Body>;

/// An answer that was read whole.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// All of its body.
    pub body: Bytes,
}

/// The pieces of an answer's body, one event or more each, as they arrive.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    /// How many pieces have come.
    pub pieces: usize,
    buffer: String,
}

// === impl Answer ===

impl Answer {
    /// Reads an answer to its end.
    ///
    /// # Errors
    /// When it is cut.
    pub async fn read(response: Response<Incoming>) -> Result<Self> {
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Self { status: head.status.as_u16(), headers: head.headers, body })
    }

    /// The body, where it is text; empty otherwise.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or_default()
    }

    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The `code` of an error of the gateway's own.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// A header of it; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The last server-sent event of the body as JSON.
    pub fn last_event(&self) -> Value {
        let data = self.text().lines().filter_map(|line| line.strip_prefix("data:"));
        data.filter_map(|data| serde_json::from_str(data).ok()).next_back().unwrap_or_default()
    }
}

// === impl Events ===

impl Events {
    /// Those of an answer that has begun.
    pub fn of(response: Response<Incoming>) -> Self {
        Self { body: response.into_body(), pieces: 0, buffer: String::new() }
    }

    /// The data of the next event, `None` at the end of the answer.
    ///
    /// # Errors
    /// When the answer is cut.
    pub async fn next(&mut self) -> Result<Option<String>> {
        loop {
            if let Some(end) = self.buffer.find("\n\n") {
                let event: String = self.buffer.drain(..end + 2).collect();
                if let Some(data) = event.lines().find_map(|line| line.strip_prefix("data:")) {
                    return Ok(Some(data.trim_start().to_owned()));
                }
                continue;
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let data = frame?.into_data().ok().context("trailers in an answer without any")?;
            self.pieces += 1;
            self.buffer.push_str(std::str::from_utf8(&data)?);
        }
    }

    /// The data of all further events.
    ///
    /// # Errors
    /// When the answer is cut.
    pub async fn rest(&mut self) -> Result<Vec<String>> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await? {
            events.push(event);
        }
        Ok(events)
    }
}

/// One that keeps its connections.
pub fn keeping_client() -> KeepingClient {
    Client::builder(TokioExecutor::new()).build_http()
}

/// A request to `target` at `address`.
pub fn request(method: Method, address: SocketAddr, target: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("http://{address}{target}"))
}

/// A body that is known as a whole.
pub fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).boxed()
}

/// `GET target` on a connection of its own.
///
/// # Errors
/// When there is no whole answer.
pub async fn get(address: SocketAddr, target: &str) -> Result<Answer> {
    get_by(&keeping_client(), address, target).await
}

/// `GET target` by a client that keeps connections.
///
/// # Errors
/// When there is no whole answer.
pub async fn get_by(client: &KeepingClient, address: SocketAddr, target: &str) -> Result<Answer> {
    send(client, request(Method::GET, address, target).body(full(""))?).await
}

/// Sends a request and reads the answer.
///
/// # Errors
/// When there is no whole answer.
pub async fn send(client: &KeepingClient, request: Request<Body>) -> Result<Answer> {
    Answer::read(client.request(request).await?).await
}

/// `POST target` with a JSON body, as MCP and A2A clients send it; not read yet.
///
/// # Errors
/// When there is no answer.
pub async fn post_json(
    address: SocketAddr,
    target: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> Result<Response<Incoming>> {
    let mut request = request(Method::POST, address, target)
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Ok(keeping_client().request(request.body(full(body.to_string()))?).await?)
}

/// The same, read whole.
///
/// # Errors
/// When there is no whole answer.
pub async fn post_json_whole(
    address: SocketAddr,
    target: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> Result<Answer> {
    Answer::read(post_json(address, target, headers, body).await?).await
}
