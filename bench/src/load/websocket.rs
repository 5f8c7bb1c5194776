//! Messages over WebSockets, and their echoes.
//!
//! Owns: the handshake and one message at a time. A message begins with its number, so that an echo of another is seen.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::{SinkExt as _, StreamExt as _};
use http::Request;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::exchange::Dialer;
use super::failure::Failure;
use super::lane::{BackOff, Caller};
use super::mix::Prepared;
use super::record::Recorder;

/// Bytes of a message's number.
const NUMBER: usize = 8;

/// A WebSocket whose other side sends back what it gets.
#[derive(Debug)]
pub(super) struct Echo {
    dialer: Dialer,
    recorder: Recorder,
    request: Request<()>,
    bytes: usize,
    socket: Option<Box<WebSocketStream<TcpStream>>>,
    was_connected: bool,
    back_off: BackOff,
    sent: u64,
}

// === impl Echo ===

impl Echo {
    /// One that is not connected. Its messages have `bytes` bytes, but at least their number.
    ///
    /// # Errors
    /// When `prepared` cannot ask for a WebSocket.
    pub(super) fn new(
        dialer: Dialer,
        recorder: Recorder,
        prepared: &Prepared,
        bytes: usize,
    ) -> anyhow::Result<Self> {
        let url = prepared.request.uri().to_string().replacen("http://", "ws://", 1);
        let mut request = url.into_client_request()?;
        for (name, value) in prepared.request.headers() {
            if *name != http::header::CONTENT_LENGTH && *name != http::header::CONTENT_TYPE {
                request.headers_mut().append(name, value.clone());
            }
        }
        let bytes = bytes.max(NUMBER);
        let back_off = BackOff::default();
        Ok(Self { dialer, recorder, request, bytes, socket: None, was_connected: false, back_off, sent: 0 })
    }

    async fn echo(&mut self) -> Result<u64, Failure> {
        self.connect().await?;
        let message = self.message();
        let socket = self.socket.as_mut().ok_or(Failure::Closed)?;
        socket.send(Message::Binary(message.clone())).await.map_err(|error| failure(&error))?;
        loop {
            match socket.next().await.ok_or(Failure::Closed)?.map_err(|error| failure(&error))? {
                Message::Binary(echo) if echo == message => return Ok(echo.len() as u64),
                Message::Ping(_) | Message::Pong(_) => {}
                Message::Close(_) => return Err(Failure::Closed),
                _ => return Err(Failure::WrongEcho),
            }
        }
    }

    fn message(&mut self) -> Bytes {
        self.sent += 1;
        let mut message = BytesMut::with_capacity(self.bytes);
        message.put_u64(self.sent);
        message.resize(self.bytes, b'x');
        message.freeze()
    }

    async fn shake_hands(&self) -> Result<WebSocketStream<TcpStream>, Failure> {
        let stream = self.dialer.dial().await?;
        let (socket, _) =
            client_async(self.request.clone(), stream).await.map_err(|error| failure(&error))?;
        Ok(socket)
    }
}

impl Caller for Echo {
    async fn connect(&mut self) -> Result<(), Failure> {
        if self.socket.is_some() {
            return Ok(());
        }
        match within(self.dialer.timeout, self.shake_hands()).await {
            Ok(socket) => self.socket = Some(Box::new(socket)),
            Err(failure) => {
                // Each try is a new connection, even if the answer was a status.
                self.back_off.pause().await;
                return Err(failure);
            }
        }
        self.back_off.reset();
        if self.was_connected {
            self.recorder.reconnected();
        }
        self.was_connected = true;
        Ok(())
    }

    async fn call(&mut self, _: &Prepared) -> Result<u64, Failure> {
        let echo = within(self.dialer.timeout, self.echo()).await;
        if echo.is_err() {
            self.socket = None;
        }
        echo
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    timeout(limit, work).await.unwrap_or(Err(Failure::Timeout))
}

fn failure(error: &Error) -> Failure {
    match error {
        Error::Http(answer) => Failure::Status(answer.status().as_u16()),
        Error::Io(error) => Failure::of_stream(error),
        Error::ConnectionClosed | Error::AlreadyClosed => Failure::Closed,
        _ => Failure::Malformed,
    }
}
