//! Servers that the generator is measured with: what they do is known to the byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_tungstenite::tungstenite::Message;

/// A server that ends with its value.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

/// What a server saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) connections: AtomicU64,
    pub(crate) open: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) body_bytes: AtomicU64,
    /// Requests for `/a…`.
    pub(crate) of_a: AtomicU64,
}

/// One request, and where to answer it.
pub(crate) struct Call {
    /// From 0, over all connections.
    pub(crate) number: u64,
    pub(crate) stream: BufReader<TcpStream>,
}

pub(crate) const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

impl Server {
    /// Serves each connection with `serve`, until that fails or says that it is done.
    pub(crate) async fn start<F>(serve: impl Fn(TcpStream, Arc<Seen>) -> F + Send + 'static) -> Result<Self>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, seen) = (listener.local_addr()?, Arc::new(Seen::default()));
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&seen);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Relaxed);
                shared.open.fetch_add(1, Relaxed);
                let (serving, seen) = (serve(stream, Arc::clone(&shared)), Arc::clone(&shared));
                connections.spawn(async move {
                    serving.await.ok();
                    seen.open.fetch_sub(1, Relaxed);
                });
            }
        });
        Ok(Self { address, seen, _tasks: tasks })
    }

    /// Speaks HTTP/1.1 and answers each request with `answer`, which gives the stream back to go on with it.
    pub(crate) async fn http<F>(answer: impl Fn(Call) -> F + Clone + Send + Sync + 'static) -> Result<Self>
    where
        F: Future<Output = Result<Option<BufReader<TcpStream>>>> + Send + 'static,
    {
        Self::start(move |stream, seen| {
            let answer = answer.clone();
            async move {
                stream.set_nodelay(true)?;
                let mut stream = BufReader::new(stream);
                while let Some((path, body)) = read_request(&mut stream).await? {
                    seen.body_bytes.fetch_add(body, Relaxed);
                    seen.of_a.fetch_add(u64::from(path.starts_with("/a")), Relaxed);
                    let number = seen.requests.fetch_add(1, Relaxed);
                    match answer(Call { number, stream }).await? {
                        Some(back) => stream = back,
                        None => break,
                    }
                }
                Ok(())
            }
        })
        .await
    }

    /// Answers at once, with bytes that may depend on the number of the request.
    pub(crate) async fn bytes(
        answer: impl Fn(u64) -> &'static [u8] + Clone + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::http(move |mut call| {
            let bytes = answer(call.number);
            async move {
                call.stream.get_mut().write_all(bytes).await?;
                Ok(Some(call.stream))
            }
        })
        .await
    }

    /// Answers `delay` after each request.
    pub(crate) async fn late(delay: Duration) -> Result<Self> {
        Self::http(move |mut call| async move {
            sleep(delay).await;
            call.stream.get_mut().write_all(OK).await?;
            Ok(Some(call.stream))
        })
        .await
    }

    /// Answers nobody in the first `stall` of each second.
    pub(crate) async fn stalling(stall: Duration) -> Result<Self> {
        let began = Instant::now();
        Self::http(move |mut call| async move {
            let into = Duration::from_nanos(u64::from(began.elapsed().subsec_nanos()));
            sleep(stall.saturating_sub(into)).await;
            call.stream.get_mut().write_all(OK).await?;
            Ok(Some(call.stream))
        })
        .await
    }

    /// Speaks HTTP/2 and answers each request with `bytes` bytes.
    pub(crate) async fn h2c(bytes: usize) -> Result<Self> {
        Self::start(move |stream, seen| async move {
            let mut connection = h2::server::handshake(stream).await?;
            let mut answers = JoinSet::new();
            while let Some(request) = connection.accept().await {
                let (request, mut respond) = request?;
                seen.requests.fetch_add(1, Relaxed);
                let seen = Arc::clone(&seen);
                answers.spawn(async move {
                    let mut body = request.into_body();
                    while let Some(Ok(part)) = body.data().await {
                        seen.body_bytes.fetch_add(part.len() as u64, Relaxed);
                        body.flow_control().release_capacity(part.len()).ok();
                    }
                    if let Ok(mut send) = respond.send_response(http::Response::new(()), false) {
                        send.send_data(Bytes::from(vec![b'x'; bytes]), true).ok();
                    }
                });
            }
            Ok(())
        })
        .await
    }

    /// Sends messages back; of each tenth another one if `wrong`.
    pub(crate) async fn echo(wrong: bool) -> Result<Self> {
        Self::start(move |stream, seen| async move {
            let mut socket = tokio_tungstenite::accept_async(stream).await?;
            while let Some(Ok(message)) = socket.next().await {
                let number = seen.requests.fetch_add(1, Relaxed);
                if !message.is_binary() {
                    break;
                }
                seen.body_bytes.fetch_add(message.len() as u64, Relaxed);
                let answer = if wrong && number % 10 == 9 { Message::text("no") } else { message };
                socket.send(answer).await?;
            }
            Ok(())
        })
        .await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Call {
    /// Sends `bytes` in one write.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.get_mut().write_all(bytes).await?)
    }
}

/// The path and the length of the body; `None` at the end of the connection.
async fn read_request(stream: &mut BufReader<TcpStream>) -> Result<Option<(String, u64)>> {
    let (mut path, mut body) = (None, 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        match line.strip_prefix("content-length: ") {
            Some(length) => body = length.parse()?,
            None if path.is_none() => path = line.split(' ').nth(1).map(str::to_owned),
            None => {}
        }
    }
    let read = tokio::io::copy(&mut stream.take(body), &mut tokio::io::sink()).await?;
    Ok((read == body).then_some((path.context("a request has a path")?, body)))
}
