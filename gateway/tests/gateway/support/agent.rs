//! Agents on a real socket, scripted byte by byte.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::{DEADLINE, spawn};

/// An agent that runs a script on every connection.
pub(crate) struct ScriptedAgent {
    pub(crate) address: SocketAddr,
    /// Connections that were accepted.
    pub(crate) connections: Arc<AtomicUsize>,
}

/// An agent whose connections the test plays itself, one after another.
pub(crate) struct ManualAgent {
    pub(crate) address: SocketAddr,
    accepted: mpsc::Receiver<Conn>,
}

/// One connection at the agent's side.
pub(crate) struct Conn {
    pub(crate) tcp: TcpStream,
    buffer: Vec<u8>,
}

/// A request's head and body as they came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl ScriptedAgent {
    /// Runs `script` on each connection.
    pub(crate) async fn start<F, Fut>(script: F) -> Self
    where
        F: Fn(Conn) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), script).await
    }

    /// The same at this address.
    pub(crate) async fn start_at<F, Fut>(address: SocketAddr, script: F) -> Self
    where
        F: Fn(Conn) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let (counted, script) = (Arc::clone(&connections), Arc::new(script));
        spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let script = Arc::clone(&script);
                spawn(async move { script(Conn { tcp, buffer: Vec::new() }).await });
            }
        });
        Self { address, connections }
    }

    /// Answers every request with `response`, on kept connections. The requests come out of the channel.
    pub(crate) async fn answering(response: &'static str) -> (Self, mpsc::Receiver<Request>) {
        let (sender, receiver) = mpsc::channel(1024);
        let agent = Self::start(move |mut conn| {
            let sender = sender.clone();
            async move {
                while let Some(request) = conn.request().await {
                    sender.try_send(request).expect("a test reads its requests");
                    conn.write(response).await;
                }
            }
        })
        .await;
        (agent, receiver)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl ManualAgent {
    pub(crate) async fn start() -> Self {
        let (sender, accepted) = mpsc::channel(1024);
        let agent = ScriptedAgent::start(move |conn| {
            let sender = sender.clone();
            async move { sender.send(conn).await.unwrap_or(()) }
        })
        .await;
        Self { address: agent.address, accepted }
    }

    /// The next connection.
    pub(crate) async fn accept(&mut self) -> Conn {
        let accepted = tokio::time::timeout(DEADLINE, self.accepted.recv()).await;
        accepted.expect("the gateway dials in time").expect("the listener lives")
    }

    /// The next connection and the first request on it.
    pub(crate) async fn request(&mut self) -> (Conn, Request) {
        let mut conn = self.accept().await;
        let request = conn.expect_request().await;
        (conn, request)
    }

    /// Whether the gateway has dialled again. Ask when the call is over.
    pub(crate) fn was_dialled_again(&mut self) -> bool {
        self.accepted.try_recv().is_ok()
    }
}

impl Conn {
    /// The next request. Panics where none comes in time.
    pub(crate) async fn expect_request(&mut self) -> Request {
        let request = tokio::time::timeout(DEADLINE, self.request()).await;
        request.expect("a request comes in time").expect("a request comes before the end")
    }

    /// The next request's head. Panics where none comes in time.
    pub(crate) async fn expect_head(&mut self) -> String {
        let head = tokio::time::timeout(DEADLINE, self.head()).await;
        head.expect("a head comes in time").expect("a head comes before the end")
    }

    /// Exactly these bytes come next.
    pub(crate) async fn expect(&mut self, bytes: impl AsRef<[u8]>) {
        let taken = tokio::time::timeout(DEADLINE, self.take(bytes.as_ref().len())).await;
        let taken = taken.expect("bytes come in time").expect("bytes come before the end");
        assert_eq!(String::from_utf8_lossy(&taken), String::from_utf8_lossy(bytes.as_ref()));
    }

    /// The next request, `None` when the peer has closed.
    pub(crate) async fn request(&mut self) -> Option<Request> {
        let head = self.head().await?;
        let length = header(&head, "content-length").and_then(|length| length.parse().ok());
        let body = match length {
            Some(length) => self.take(length).await?,
            None if header(&head, "transfer-encoding").is_some() => self.chunked().await?,
            None => Vec::new(),
        };
        Some(Request { head, body })
    }

    /// The next request's head alone, with its blank line.
    pub(crate) async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return Some(String::from_utf8_lossy(&head).into_owned());
            }
            self.fill().await?;
        }
    }

    /// This many bytes.
    pub(crate) async fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            self.fill().await?;
        }
        Some(self.buffer.drain(..count).collect())
    }

    async fn chunked(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                match find(&self.buffer, b"\r\n") {
                    Some(end) => break end,
                    None => self.fill().await?,
                }
            };
            let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
            let size = usize::from_str_radix(std::str::from_utf8(&line[..end]).ok()?, 16).ok()?;
            let chunk = self.take(size + 2).await?;
            if size == 0 {
                return Some(body);
            }
            body.extend(&chunk[..size]);
        }
    }

    async fn fill(&mut self) -> Option<()> {
        match self.tcp.read_buf(&mut self.buffer).await {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(()),
        }
    }

    /// Writes; a peer that is gone is the test's to notice elsewhere.
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.tcp.write_all(bytes.as_ref()).await.ok();
    }

    /// Closes with a reset.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.tcp).set_linger(Some(std::time::Duration::ZERO)).expect("linger");
    }

    /// Returns when the peer has closed or reset. Panics when it does not.
    pub(crate) async fn await_close(&mut self) {
        let closed = async { while self.fill().await.is_some() {} };
        tokio::time::timeout(DEADLINE, closed).await.expect("the gateway lets go of the agent");
    }
}

/// A header's value in a head.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
