//! HTTP/2 at both ends: a client with every stream in its hand, and agents that answer stream by stream.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::{DEADLINE, spawn};

/// A client's connection with prior knowledge.
pub(crate) struct H2Client {
    send: SendRequest<Bytes>,
    ping_pong: h2::PingPong,
    /// Ends with the connection.
    pub(crate) connection: JoinHandle<Result<(), h2::Error>>,
}

/// A request whose answer has not begun.
pub(crate) struct H2Call {
    answer: ResponseFuture,
    /// The request's body.
    pub(crate) upload: SendStream<Bytes>,
}

/// An answer whose head has come.
pub(crate) struct H2Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    body: RecvStream,
}

/// An agent that speaks HTTP/2 and runs a script on every stream.
pub(crate) struct H2Agent {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// Those that are open: it closes them when it is told.
    open: watch::Sender<usize>,
    close: Arc<Notify>,
}

/// Waits for what a test expects, with a deadline.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    let output = tokio::time::timeout(DEADLINE, future).await;
    assert!(output.is_ok(), "never came: {what}");
    output.expect("checked")
}

/// A request to `http://test{target}`.
pub(crate) fn request(method: Method, target: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("http://test{target}")).body(()).expect("a request")
}

// === impl H2Client ===

impl H2Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        // Until the gateway has told its limit: what browsers and hyper take for it, too.
        Self::connect_by(address, h2::client::Builder::new().initial_max_send_streams(100)).await
    }

    /// One that takes this many bytes of an answer, and no more until it reads.
    pub(crate) async fn connect_with_window(address: SocketAddr, window: u32) -> Self {
        Self::connect_by(address, h2::client::Builder::new().initial_window_size(window)).await
    }

    async fn connect_by(address: SocketAddr, builder: &h2::client::Builder) -> Self {
        let tcp = TcpStream::connect(address).await.expect("the gateway accepts");
        tcp.set_nodelay(true).expect("nodelay");
        let (send, mut connection) = builder.handshake(tcp).await.expect("a handshake");
        let ping_pong = connection.ping_pong().expect("the only one");
        Self { send, ping_pong, connection: spawn(connection) }
    }

    /// Sends a head. Its body follows, unless it `ends` here.
    pub(crate) async fn start(&self, request: Request<()>, ends: bool) -> H2Call {
        // One that waits for the limit of streams keeps its handle busy: each has its own.
        let ready = soon("a stream", self.send.clone().ready()).await.expect("an open connection");
        let (answer, upload) = { ready }.send_request(request, ends).expect("a stream");
        H2Call { answer, upload }
    }

    /// A request with a body that is whole.
    pub(crate) async fn send(&self, request: Request<()>, body: impl Into<Bytes>) -> H2Call {
        let mut call = self.start(request, false).await;
        call.upload.send_data(body.into(), true).expect("the gateway reads");
        call
    }

    /// `GET target`, unanswered.
    pub(crate) async fn begin_get(&self, target: &str) -> H2Call {
        self.start(request(Method::GET, target), true).await
    }

    /// `GET target` and its answer's head.
    pub(crate) async fn get(&self, target: &str) -> H2Answer {
        self.begin_get(target).await.answer().await.expect("an answer")
    }

    /// Waits until the gateway takes no new streams on this connection.
    pub(crate) async fn refuses_streams(&self) {
        while self.send.clone().ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    /// Waits until everything that the gateway had to say has come.
    pub(crate) async fn ping(&mut self) {
        let pong = self.ping_pong.ping(h2::Ping::opaque());
        soon("the pong", pong).await.expect("a pong");
    }

    /// Waits until the gateway has closed the connection.
    pub(crate) async fn closed(self) -> Result<(), h2::Error> {
        soon("the end of the connection", self.connection).await.expect("the connection's task")
    }
}

impl H2Call {
    /// The answer's head.
    ///
    /// # Errors
    /// The stream was reset, or the connection ended.
    pub(crate) async fn answer(self) -> Result<H2Answer, h2::Error> {
        // An unfinished upload is given up only when the answer's head is here.
        let Self { answer, upload: _upload } = self;
        head(answer).await
    }

    /// Sends as much of the `left` bytes of the body as the gateway takes now, and returns how many. Ends the body
    /// with the last. Cancel safe.
    pub(crate) async fn send_some(&mut self, left: usize) -> usize {
        self.upload.reserve_capacity(left.min(64 * 1024));
        let granted = std::future::poll_fn(|cx| self.upload.poll_capacity(cx)).await;
        let taken = granted.expect("an open stream").expect("an open connection").min(left);
        self.upload.send_data(vec![b'x'; taken].into(), taken == left).expect("an open stream");
        taken
    }

    /// Both halves, to use at once.
    pub(crate) fn split(self) -> (SendStream<Bytes>, impl Future<Output = Result<H2Answer, h2::Error>>) {
        let Self { answer, upload } = self;
        (upload, head(answer))
    }

    /// Resets the stream.
    pub(crate) fn reset(mut self) {
        self.upload.send_reset(h2::Reason::CANCEL);
    }
}

impl H2Answer {
    /// The next bytes of the body, `None` at its clean end.
    ///
    /// # Errors
    /// The stream was reset, or the connection ended.
    pub(crate) async fn chunk(&mut self) -> Option<Result<Bytes, h2::Error>> {
        loop {
            let chunk = soon("more of the body", self.body.data()).await?;
            if let Ok(chunk) = &chunk {
                self.body.flow_control().release_capacity(chunk.len()).expect("capacity");
                if chunk.is_empty() {
                    // The frame that says that it ends.
                    continue;
                }
            }
            return Some(chunk);
        }
    }

    /// The whole body.
    ///
    /// # Errors
    /// The stream was reset, or the connection ended.
    pub(crate) async fn body(&mut self) -> Result<Vec<u8>, h2::Error> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await {
            body.extend(chunk?);
        }
        Ok(body)
    }

    pub(crate) async fn text(&mut self) -> String {
        String::from_utf8(self.body().await.expect("a whole body")).expect("text")
    }

    pub(crate) async fn json(&mut self) -> serde_json::Value {
        serde_json::from_slice(&self.body().await.expect("a whole body")).expect("JSON")
    }

    /// What follows the body.
    pub(crate) async fn trailers(&mut self) -> Option<HeaderMap> {
        soon("the trailers", self.body.trailers()).await.expect("a whole answer")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("ASCII"))
    }

    /// Resets the stream.
    pub(crate) fn reset(self) {
        // Dropping the last handle of an unfinished stream cancels it.
        drop(self.body);
    }
}

async fn head(answer: ResponseFuture) -> Result<H2Answer, h2::Error> {
    let (head, body) = soon("an answer", answer).await?.into_parts();
    Ok(H2Answer { status: head.status.as_u16(), headers: head.headers, body })
}

// === impl H2Agent ===

impl H2Agent {
    /// Runs `script` on each stream.
    pub(crate) async fn start<F, Fut>(script: F) -> Self
    where
        F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let (open, close) = (watch::Sender::new(0), Arc::new(Notify::new()));
        let agent = Self { address, connections, open, close };
        let (counted, script) = (Arc::clone(&agent.connections), Arc::new(script));
        let (open, close) = (agent.open.clone(), Arc::clone(&agent.close));
        spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                open.send_modify(|open| *open += 1);
                let (script, open, close) = (Arc::clone(&script), open.clone(), Arc::clone(&close));
                spawn(async move {
                    tokio::select! {
                        () = close.notified() => {}
                        () = serve(tcp, &*script) => {}
                    }
                    open.send_modify(|open| *open -= 1);
                });
            }
        });
        agent
    }

    /// Closes its connections and waits until that is done.
    pub(crate) async fn close_connections(&self) {
        self.close.notify_waiters();
        soon("the close", self.open.subscribe().wait_for(|open| *open == 0)).await.expect("the agent");
    }

    /// Connections that were accepted.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve<F, Fut>(tcp: TcpStream, script: &F)
where
    F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let mut connection = h2::server::handshake(tcp).await.expect("the gateway speaks HTTP/2");
    while let Some(Ok((request, respond))) = connection.accept().await {
        spawn(script(request, respond));
    }
}

/// An ordinary answer to a stream of an [`H2Agent`].
pub(crate) fn answer(mut respond: SendResponse<Bytes>, body: impl Into<Bytes>) {
    // The gateway may have left.
    if let Ok(mut stream) = respond.send_response(Response::new(()), false) {
        stream.send_data(body.into(), true).ok();
    }
}

/// A request's whole body.
pub(crate) async fn read(mut body: RecvStream) -> Vec<u8> {
    let mut read = Vec::new();
    while let Some(Ok(chunk)) = body.data().await {
        body.flow_control().release_capacity(chunk.len()).expect("capacity");
        read.extend(chunk);
    }
    read
}
