//! A connection of HTTP/1.1: one request after the other, each answered with as few writes as possible.

use std::io;
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, BytesMut};
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::plan::{Answer, Events, Plan};
use super::request::{Body, Head, echo_of_head};
use super::{Shared, body};

/// The largest head that is taken, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// An answer up to this size is copied behind its head: one write of one buffer.
const COPIED: usize = 16 * 1024;

/// Room for what is read at once of a body.
const BODY_READ: usize = 64 * 1024;

/// A connection, with what was read of it and not yet used.
pub(super) struct Connection {
    socket: TcpStream,
    buffer: BytesMut,
    out: BytesMut,
    shared: Arc<Shared>,
}

// === impl Connection ===

impl Connection {
    pub(super) fn new(socket: TcpStream, buffer: BytesMut, shared: Arc<Shared>) -> Self {
        Self { socket, buffer, out: BytesMut::new(), shared }
    }

    /// Serves it until the client leaves.
    pub(super) async fn serve(mut self) -> io::Result<()> {
        while let Some(head) = self.head().await? {
            let plan = Plan::of(&head.method, &head.target);
            if plan.answer == Answer::WebSocket {
                return self.websocket(&head).await;
            }
            let echo = (plan.answer == Answer::Echo).then(|| echo_of_head(&self.buffer));
            self.buffer.advance(head.length);
            let received = self.take_body(&head).await?;
            if !plan.delay.is_zero() {
                tokio::time::sleep(plan.delay).await;
            }
            self.shared.stall().await;
            match plan.answer {
                Answer::Bytes(size) => self.bytes(size).await?,
                Answer::Json(size) => self.json(&body::json(received, size)).await?,
                Answer::Echo => self.json(&echo.unwrap_or_default()).await?,
                Answer::Events(events) => self.events(events).await?,
                Answer::Hold => {
                    self.begin_events().await?;
                    self.event(0, 0).await?;
                    self.idle_until(None).await?;
                }
                Answer::BadRequest | Answer::WebSocket => self.error("400 Bad Request").await?,
                Answer::NotFound => self.error("404 Not Found").await?,
            }
            if !head.keeps {
                return self.socket.shutdown().await;
            }
        }
        Ok(())
    }

    /// The next head, which stays in the buffer; `None` when the client has left.
    async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if !self.buffer.is_empty() {
                match Head::parse(&self.buffer) {
                    Ok(Some(head)) => return Ok(Some(head)),
                    Ok(None) if self.buffer.len() < MAX_HEAD => {}
                    Ok(None) | Err(_) => {
                        self.error("400 Bad Request").await?;
                        return Ok(None);
                    }
                }
            }
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads the body to its end, and tells its size.
    async fn take_body(&mut self, head: &Head) -> io::Result<u64> {
        let (mut body, mut received) = (head.body, 0);
        if head.expects_continue && body != Body::Done && self.buffer.is_empty() {
            self.socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        while body != Body::Done {
            let (used, counted) = body.take(&self.buffer).map_err(io::Error::other)?;
            self.buffer.advance(used);
            received += counted;
            if body != Body::Done {
                self.buffer.reserve(BODY_READ);
                if self.socket.read_buf(&mut self.buffer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
        Ok(received)
    }

    /// So many bytes of the pattern.
    async fn bytes(&mut self, size: usize) -> io::Result<()> {
        self.put_head("200 OK", "application/octet-stream", size);
        if size <= COPIED {
            self.out.put_slice(&body::pattern(0, size));
            return self.flush().await;
        }
        let mut piece = body::pattern(0, size);
        let mut sent = piece.len();
        self.socket.write_all_buf(&mut (&mut self.out).chain(&mut piece)).await?;
        while sent < size {
            let mut piece = body::pattern(sent, size);
            sent += piece.len();
            self.socket.write_all_buf(&mut piece).await?;
        }
        Ok(())
    }

    async fn json(&mut self, text: &[u8]) -> io::Result<()> {
        self.whole("200 OK", "application/json", text).await
    }

    async fn error(&mut self, status: &str) -> io::Result<()> {
        self.whole(status, "text/plain", b"").await
    }

    async fn whole(&mut self, status: &str, kind: &str, mut body: &[u8]) -> io::Result<()> {
        self.put_head(status, kind, body.len());
        self.socket.write_all_buf(&mut (&mut self.out).chain(&mut body)).await
    }

    fn put_head(&mut self, status: &str, kind: &str, size: usize) {
        self.out.clear();
        put(
            &mut self.out,
            format_args!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {size}\r\n\r\n"),
        );
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.socket.write_all_buf(&mut self.out).await
    }

    async fn events(&mut self, events: Events) -> io::Result<()> {
        self.begin_events().await?;
        let mut pace = self.shared.pace(events.interval);
        let mut sequence = 0;
        while events.count.is_none_or(|count| sequence < count) {
            if sequence > 0 {
                self.idle_until(Some(pace.next())).await?;
                self.shared.stall().await;
            }
            self.event(sequence, events.pad).await?;
            sequence += 1;
        }
        self.socket.write_all(b"0\r\n\r\n").await
    }

    async fn begin_events(&mut self) -> io::Result<()> {
        self.out.clear();
        self.out.put_slice(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\
              transfer-encoding: chunked\r\n\r\n",
        );
        self.flush().await
    }

    /// One event: one chunk, in one write.
    async fn event(&mut self, sequence: u64, pad: usize) -> io::Result<()> {
        let mut event = BytesMut::new();
        body::event(&mut event, sequence, super::now_ns(), pad);
        self.out.clear();
        put(&mut self.out, format_args!("{:x}\r\n", event.len()));
        self.out.put_slice(&event);
        self.out.put_slice(b"\r\n");
        self.flush().await
    }

    /// Waits until then (for ever without), and fails when the client leaves meanwhile.
    async fn idle_until(&mut self, then: Option<Instant>) -> io::Result<()> {
        let time = async {
            match then {
                Some(then) => tokio::time::sleep_until(then).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(time);
        loop {
            tokio::select! {
                // An event that is due goes out before the client is looked at.
                biased;
                () = &mut time => return Ok(()),
                read = self.socket.read_buf(&mut self.buffer) => match read? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    // A request that does not wait for this answer: it has to, up to a bound.
                    _ if self.buffer.len() > MAX_HEAD => return Err(io::ErrorKind::InvalidData.into()),
                    _ => {}
                },
            }
        }
    }

    /// Sends back what comes, until the client leaves.
    async fn websocket(mut self, head: &Head) -> io::Result<()> {
        let Some(key) = &head.websocket_key else { return self.error("400 Bad Request").await };
        let accept = derive_accept_key(key.as_bytes());
        self.out.clear();
        put(
            &mut self.out,
            format_args!(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-accept: {accept}\r\n\r\n"
            ),
        );
        self.flush().await?;
        self.buffer.advance(head.length);
        let early = self.buffer.to_vec();
        let mut socket = WebSocketStream::from_partially_read(self.socket, early, Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            self.shared.stall().await;
            if message.is_close() {
                // The library answers it with the next read.
                continue;
            }
            if message.is_text() || message.is_binary() {
                socket.send(message).await.map_err(io::Error::other)?;
            }
        }
        Ok(())
    }
}

fn put(into: &mut BytesMut, text: std::fmt::Arguments<'_>) {
    std::fmt::Write::write_fmt(into, text).expect("writing into a buffer cannot fail");
}
