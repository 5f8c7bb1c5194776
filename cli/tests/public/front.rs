//! A front with bad manners, and the gateway's probe behind it, in one server.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http::{Request, Response, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// What it does to a call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manners {
    /// Gives an answer out when it is whole.
    pub(crate) buffers: bool,
    /// The same, but for events: as who heeds the gateway's `X-Accel-Buffering: no`.
    pub(crate) buffers_lines: bool,
    /// Refuses who does not say this in `authorization`.
    pub(crate) wants: Option<&'static str>,
    /// Ends a call after so much silence.
    pub(crate) cuts_silence: Option<Duration>,
    /// Ends a call after so much time.
    pub(crate) cuts_calls: Option<Duration>,
    /// Of the streams, counted from 0, ends these in order after half a second: as a gateway that goes away.
    pub(crate) ends: Range<usize>,
    pub(crate) streams: Arc<AtomicUsize>,
    /// Refuses larger bodies.
    pub(crate) body_limit: Option<u64>,
    /// Answers this to everything, instead of a gateway.
    pub(crate) answers: Option<(u16, &'static str)>,
    /// Begins this answer to everything, and never ends it.
    pub(crate) begins: Option<(u16, &'static str)>,
    /// Gives that the headers of a gateway's own errors.
    pub(crate) as_gateway: bool,
    /// Its `server` header.
    pub(crate) server: &'static str,
}

/// A running one.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    tasks: JoinSet<()>,
}

/// A body that may end with an error: then the connection is cut.
type Body = BoxBody<Bytes, std::io::Error>;

/// When an event is sent, and what it says.
type Script = Vec<(Duration, String)>;

// === impl Front ===

impl Front {
    pub(crate) async fn start(manners: Manners) -> Self {
        Self::start_with(manners, None).await
    }

    pub(crate) async fn start_tls(manners: Manners, config: ServerConfig) -> Self {
        Self::start_with(manners, Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn start_with(manners: Manners, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let manners = Arc::new(manners);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let manners = Arc::clone(&manners);
                let tls = tls.clone();
                connections.spawn(async move {
                    let Some(tls) = tls else { return serve(stream, manners).await };
                    // Who does not believe the certificate leaves.
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, manners).await;
                    }
                });
            }
        });
        Self { address, tasks }
    }

    pub(crate) async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, manners: Arc<Manners>) {
    let service = service_fn(|request| answer(Arc::clone(&manners), request));
    let server = hyper::server::conn::http1::Builder::new();
    // An answer that is cut on purpose is an error here.
    server.serve_connection(TokioIo::new(stream), service).await.ok();
}

async fn answer(manners: Arc<Manners>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let mut response = Response::builder();
    if !manners.server.is_empty() {
        response = response.header(header::SERVER, manners.server);
    }
    if let Some((status, body)) = manners.answers {
        let mut response = response.status(status).header(header::LOCATION, "https://elsewhere.example.com/");
        if manners.as_gateway {
            response = response
                .header(header::CONTENT_TYPE, "application/json")
                .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        }
        return Ok(response.body(whole(body)).unwrap());
    }
    if let Some((status, body)) = manners.begins {
        let begun = stream::iter([Ok(Frame::data(Bytes::from(body)))]).chain(stream::pending());
        return Ok(response.status(status).body(BodyExt::boxed(StreamBody::new(begun))).unwrap());
    }
    let told = request.headers().get(header::AUTHORIZATION);
    if manners.wants.is_some_and(|wanted| told.is_none_or(|told| told != wanted)) {
        return Ok(response.status(401).body(whole("who are you?")).unwrap());
    }
    let target = request.uri().clone();
    match target.path() {
        "/v1/agents/_probe/upload" => {
            let length: u64 = request.headers()[header::CONTENT_LENGTH].to_str().unwrap().parse().unwrap();
            if manners.body_limit.is_some_and(|limit| length > limit) {
                return Ok(response.status(413).body(whole("too large")).unwrap());
            }
            let read = request.into_body().collect().await.unwrap().to_bytes().len();
            Ok(response.body(whole(format!("{{\"bytes\":{read}}}"))).unwrap())
        }
        "/v1/agents/_probe/stream" => {
            let query = target.query().unwrap_or_default();
            let lines = query.contains("format=ndjson");
            let kind = if lines { "application/x-ndjson" } else { "text/event-stream" };
            let response = response.header(header::CONTENT_TYPE, kind);
            let buffers = manners.buffers || (lines && manners.buffers_lines);
            let mut script = script(query, lines);
            if manners.ends.contains(&manners.streams.fetch_add(1, Ordering::Relaxed)) {
                script.retain(|(at, _)| *at <= Duration::from_millis(500));
            }
            Ok(response.body(play(&manners, buffers, script)).unwrap())
        }
        _ => Ok(response.status(404).body(whole("no such path")).unwrap()),
    }
}

/// What the gateway's probe sends, as its reference says.
fn script(query: &str, lines: bool) -> Script {
    let number = |name: &str| {
        query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok())
    };
    let event = |sequence: u64, after: Duration| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + after;
        let text = format!("{{\"sequence\":{sequence},\"sentUnixMs\":{}}}", now.as_millis());
        let text = if lines { format!("{text}\n") } else { format!("id: {sequence}\ndata: {text}\n\n") };
        (after, text)
    };
    if let Some(silence) = number("silence") {
        let last = format!("data: {{\"afterSilenceMs\":{silence}}}\n\n");
        return vec![event(0, Duration::ZERO), (Duration::from_millis(silence), last)];
    }
    let interval = Duration::from_millis(number("interval").unwrap());
    (0..number("events").unwrap()).map(|i| event(i, interval * u32::try_from(i).unwrap())).collect()
}

/// The events at their times, until the front has had enough.
fn play(manners: &Manners, buffers: bool, script: Script) -> Body {
    let begin = Instant::now();
    let mut last = Duration::ZERO;
    let mut parts: Vec<(Duration, Option<String>)> = Vec::new();
    for (at, text) in script {
        let limits = [manners.cuts_silence.map(|limit| last + limit), manners.cuts_calls];
        if let Some(cut) = limits.into_iter().flatten().filter(|cut| *cut < at).min() {
            parts.push((cut, None));
            break;
        }
        parts.push((at, Some(text)));
        last = at;
    }
    if buffers {
        let end = parts.last().map_or(Duration::ZERO, |(at, _)| *at);
        for (at, _) in &mut parts {
            *at = end;
        }
    }
    BodyExt::boxed(StreamBody::new(timed(begin, parts)))
}

fn timed(
    begin: Instant,
    parts: Vec<(Duration, Option<String>)>,
) -> impl Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send + Sync {
    stream::iter(parts).then(move |(at, text)| async move {
        sleep_until(begin + at).await;
        match text {
            Some(text) => Ok(Frame::data(Bytes::from(text))),
            None => Err(std::io::Error::other("cut")),
        }
    })
}

fn whole(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never: Infallible| match never {}).boxed()
}
