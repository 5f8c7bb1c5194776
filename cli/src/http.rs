//! One request on one connection, over whatever leads there.
//!
//! Owns public URLs, how they are connected to (DNS or an address given instead, TCP, TLS) and what can go wrong on the
//! way. Never follows a redirect, never tries again and never keeps a connection: whoever asks wants to see what
//! happens to exactly this call. HTTP/1.1 only, which everything in front of Krypton speaks.

mod tls;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

pub(crate) use tls::Trust;

use crate::args::{ConnectArgs, Header};
use crate::url::Url;

/// How long DNS, TCP and TLS may take together.
const CONNECT: Duration = Duration::from_secs(10);

/// Zeros at a time of an upload.
const UPLOAD_CHUNK: usize = 64 * 1024;

/// What is sent.
pub(crate) type Outgoing = BoxBody<Bytes, Infallible>;

/// What can go wrong before there is an answer, and while it comes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// DNS does not know the host.
    #[error("DNS has no address of {host}: {error}")]
    Resolve { host: String, error: io::Error },
    /// No connection.
    #[error("cannot connect to {address}: {error}")]
    Connect { address: SocketAddr, error: io::Error },
    /// DNS, TCP and TLS took too long.
    #[error("{host} did not take a connection within {} s", CONNECT.as_secs())]
    ConnectTimeout { host: String },
    /// TLS could not be agreed on, or the certificate is not believed.
    #[error("TLS with {host}: {error}")]
    Tls { host: String, error: io::Error },
    /// Something answered that is no TLS.
    #[error("{host} does not speak TLS at this port; it seems to speak plain HTTP")]
    NotTls { host: String },
    /// What is needed for TLS cannot be read.
    #[error("{0}")]
    Trust(String),
    /// The connection failed after the request was begun.
    #[error("the connection ended: {}", causes(.0))]
    Exchange(#[source] hyper::Error),
    /// An answer that had to be read whole is larger than what is read.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// No answer in the time that was given.
    #[error("no answer within {} s", .0.as_secs())]
    Slow(Duration),
}

/// What came back. Dropping it ends the connection.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    _connection: JoinSet<()>,
}

/// The way to one public URL.
#[derive(Clone)]
pub(crate) struct Way {
    url: Url,
    trust: Trust,
    addresses: Vec<SocketAddr>,
    /// Go with every request: what is in front may want credentials.
    headers: HeaderMap,
}

// === impl Way ===

impl Way {
    /// The way to `url`, with certificates read once.
    pub(crate) fn new(url: Url, args: &ConnectArgs) -> Result<Self, HttpError> {
        let trust = if url.https() { Trust::read(args)? } else { Trust::None };
        let given = args.resolve.iter().filter(|given| given.host == url.host() && given.port == url.port());
        let addresses = given.map(|given| SocketAddr::new(given.address, given.port)).collect();
        Ok(Self { url, trust, addresses, headers: HeaderMap::new() })
    }

    /// The same, with these headers on every request.
    #[must_use]
    pub(crate) fn with_headers(mut self, headers: &[Header]) -> Self {
        self.headers.extend(headers.iter().cloned());
        self
    }

    /// Where it leads.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// Sends `request`, whose path is completed by that of the URL, on a connection of its own.
    pub(crate) async fn send(&self, mut request: Request<Outgoing>) -> Result<Answer, HttpError> {
        let target = self.url.join(request.uri().path_and_query().map_or("/", |target| target.as_str()));
        *request.uri_mut() =
            target.parse().map_err(|_| HttpError::Trust(format!("{target:?} is no path")))?;
        request.headers_mut().extend(self.headers.clone());
        let connect = async {
            let stream = self.connect().await?;
            self.trust.wrap(self.url.host(), stream).await
        };
        let stream = timeout(CONNECT, connect)
            .await
            .map_err(|_| HttpError::ConnectTimeout { host: self.url.host().to_owned() })??;
        exchange(stream, request, &self.url.authority()).await
    }

    async fn connect(&self) -> Result<TcpStream, HttpError> {
        let host = self.url.host();
        let mut addresses = self.addresses.clone();
        if addresses.is_empty() {
            let resolve = |error| HttpError::Resolve { host: host.to_owned(), error };
            addresses = tokio::net::lookup_host((host, self.url.port())).await.map_err(resolve)?.collect();
        }
        let mut failed = None;
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true).ok();
                    return Ok(stream);
                }
                Err(error) => failed = Some(HttpError::Connect { address, error }),
            }
        }
        let nothing = io::Error::other("the answer is empty");
        Err(failed.unwrap_or(HttpError::Resolve { host: host.to_owned(), error: nothing }))
    }
}

// === impl Answer ===

impl Answer {
    /// The next part of the body; `None` at its end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, HttpError> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame.map_err(HttpError::Exchange)?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The rest of the body as text, at most `limit` bytes.
    pub(crate) async fn text(self, limit: usize) -> Result<String, HttpError> {
        // The connection lives until the body is read.
        let Self { body, _connection: connection, .. } = self;
        let whole = Limited::new(body, limit).collect().await;
        drop(connection);
        match whole {
            Ok(whole) => Ok(String::from_utf8_lossy(&whole.to_bytes()).into_owned()),
            Err(error) if error.is::<LengthLimitError>() => Err(HttpError::TooLarge(limit)),
            Err(error) => match error.downcast::<hyper::Error>() {
                Ok(error) => Err(HttpError::Exchange(*error)),
                Err(_) => Err(HttpError::TooLarge(limit)),
            },
        }
    }

    /// A header's value; empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Whether the body is a stream of events.
    pub(crate) fn is_event_stream(&self) -> bool {
        self.header("content-type").starts_with("text/event-stream")
    }
}

/// Sends `request` over `stream`. `host` is what the Host header says, unless the request has one.
pub(crate) async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    mut request: Request<Outgoing>,
    host: &str,
) -> Result<Answer, HttpError> {
    if let Ok(host) = host.parse() {
        request.headers_mut().entry(header::HOST).or_insert(host);
    }
    request
        .headers_mut()
        .entry(header::USER_AGENT)
        .or_insert(HeaderValue::from_static(concat!("kubectl-krypton/", env!("CARGO_PKG_VERSION"))));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(HttpError::Exchange)?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // What ends it, the request and the body are told too.
        connection.await.ok();
    });
    let answer = sender.send_request(request).await.map_err(HttpError::Exchange)?;
    let (head, body) = answer.into_parts();
    Ok(Answer { status: head.status, headers: head.headers, body, _connection: driver })
}

/// Nothing.
pub(crate) fn empty() -> Outgoing {
    Empty::new().boxed()
}

/// These bytes.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Outgoing {
    Full::new(bytes.into()).boxed()
}

/// So many zeros, made while they are sent.
pub(crate) fn zeros(bytes: u64) -> Outgoing {
    static CHUNK: [u8; UPLOAD_CHUNK] = [0; UPLOAD_CHUNK];
    let whole = bytes / UPLOAD_CHUNK as u64;
    let rest = usize::try_from(bytes % UPLOAD_CHUNK as u64).expect("less than a chunk");
    let chunks = (0..whole).map(|_| UPLOAD_CHUNK).chain((rest > 0).then_some(rest));
    let frames = chunks.map(|length| Ok::<_, Infallible>(Frame::data(Bytes::from_static(&CHUNK[..length]))));
    StreamBody::new(futures::stream::iter(frames)).boxed()
}

/// An error with what caused it, on one line.
fn causes(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
