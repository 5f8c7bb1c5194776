//! A connection of HTTP/2 without TLS: a task for each stream.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{Request, Response, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::plan::{Answer, Events, Plan};
use super::{Shared, body, request};

/// Streams that a client may have open on one connection.
const STREAMS: u32 = 10_000;

/// What a client may send ahead: an upload is never held up by us.
const WINDOW: u32 = 8 << 20;

/// The begin of every connection of HTTP/2, RFC 9113 §3.4; no request of HTTP/1 begins like it.
pub(super) const PREFACE: &[u8] = b"PRI ";

/// Serves it until the client leaves. `early` was read already.
pub(super) async fn serve(socket: TcpStream, early: BytesMut, shared: Arc<Shared>) -> io::Result<()> {
    let (read, write) = socket.into_split();
    let io = tokio::io::join(io::Cursor::new(early).chain(read), write);
    run(io, shared).await.map_err(io::Error::other)
}

async fn run(
    io: impl tokio::io::AsyncRead + AsyncWrite + Unpin,
    shared: Arc<Shared>,
) -> Result<(), h2::Error> {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(STREAMS);
    let mut connection = builder.handshake::<_, Bytes>(io).await?;
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(accepted) = accepted else { return Ok(()) };
                let (request, respond) = accepted?;
                let shared = Arc::clone(&shared);
                // A client that leaves a stream is an error of that stream alone.
                streams.spawn(async move { answer(request, respond, &shared).await.ok() });
            }
            Some(_) = streams.join_next() => {}
        }
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    shared: &Shared,
) -> anyhow::Result<()> {
    let (head, mut incoming) = request.into_parts();
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let plan = Plan::of(head.method.as_str(), target);
    let mut received = 0;
    while let Some(data) = incoming.data().await {
        let data = data?;
        received += data.len() as u64;
        incoming.flow_control().release_capacity(data.len())?;
    }
    if !plan.delay.is_zero() {
        tokio::time::sleep(plan.delay).await;
    }
    shared.stall().await;
    match plan.answer {
        Answer::Bytes(size) => bytes(&mut respond, size).await,
        Answer::Json(size) => whole(&mut respond, body::json(received, size)).await,
        Answer::Echo => {
            let headers = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
            whole(&mut respond, request::echo(target, headers).into()).await
        }
        Answer::Events(of) => events(&mut respond, of, shared).await,
        Answer::Hold => {
            let mut stream = respond.send_response(event_head()?, false)?;
            event(&mut stream, 0, 0).await?;
            poll_fn(|context| stream.poll_reset(context)).await?;
            Ok(())
        }
        Answer::BadRequest | Answer::WebSocket => error(&mut respond, StatusCode::BAD_REQUEST),
        Answer::NotFound => error(&mut respond, StatusCode::NOT_FOUND),
    }
}

fn error(respond: &mut SendResponse<Bytes>, status: StatusCode) -> anyhow::Result<()> {
    respond.send_response(Response::builder().status(status).body(())?, true)?;
    Ok(())
}

async fn bytes(respond: &mut SendResponse<Bytes>, size: usize) -> anyhow::Result<()> {
    let head = Response::builder().header("content-type", "application/octet-stream");
    let mut stream = respond.send_response(head.header("content-length", size).body(())?, size == 0)?;
    let mut sent = 0;
    while sent < size {
        let piece = body::pattern(sent, size);
        sent += piece.len();
        send(&mut stream, piece, sent == size).await?;
    }
    Ok(())
}

async fn whole(respond: &mut SendResponse<Bytes>, body: Bytes) -> anyhow::Result<()> {
    let head = Response::builder().header("content-type", "application/json");
    let mut stream = respond.send_response(head.header("content-length", body.len()).body(())?, false)?;
    send(&mut stream, body, true).await
}

fn event_head() -> http::Result<Response<()>> {
    let head = Response::builder().header("content-type", "text/event-stream");
    head.header("cache-control", "no-cache").body(())
}

async fn events(respond: &mut SendResponse<Bytes>, events: Events, shared: &Shared) -> anyhow::Result<()> {
    let mut stream = respond.send_response(event_head()?, false)?;
    let mut pace = shared.pace(events.interval);
    let mut sequence = 0;
    while events.count.is_none_or(|count| sequence < count) {
        if sequence > 0 {
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(pace.next()) => {}
                reset = poll_fn(|context| stream.poll_reset(context)) => {
                    reset?;
                    return Ok(());
                }
            }
            shared.stall().await;
        }
        event(&mut stream, sequence, events.pad).await?;
        sequence += 1;
    }
    stream.send_data(Bytes::new(), true)?;
    Ok(())
}

/// One event: one frame.
async fn event(stream: &mut SendStream<Bytes>, sequence: u64, pad: usize) -> anyhow::Result<()> {
    let mut event = BytesMut::new();
    body::event(&mut event, sequence, super::now_ns(), pad);
    send(stream, event.freeze(), false).await
}

/// Sends as the client has room for it: what it does not take stays with us, not in the library's buffers.
async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes, is_last: bool) -> anyhow::Result<()> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        while stream.capacity() == 0 {
            poll_fn(|context| stream.poll_capacity(context)).await.context("the stream has ended")??;
        }
        let piece = data.split_to(stream.capacity().min(data.len()));
        stream.send_data(piece, is_last && data.is_empty())?;
    }
    Ok(())
}
