//! The accept loop and the life of a client's connection.
//!
//! Owns: the listener, the bound on connections, the deadline of every header, and the two steps of a drain.
//! Never looks into a call: that is [`crate::proxy`]'s.
//!
//! 1. A connection is accepted while there is a permit for it, and its first three bytes tell HTTP/1 from HTTP/2.
//! 2. HTTP/1: one call after another through Pingora's `process_new_http`, each [`limited()`] by its [`CallWatch`].
//! 3. HTTP/2: one task a stream, each through the same function; siblings never wait for each other.
//! 4. Drain: [`Drain::begin`] makes answers say `Connection: close` and sends GOAWAY, while connections are still
//!    accepted. [`Drain::stop`] ends the listener, idle connections and standing streams; calls go on, and so do
//!    connections on which the next call may be on its way, for [`GOODBYE`]. [`Drain::cut`] ends them too.

mod limited;
mod outbox;
mod stream;
pub(crate) mod watch;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pingora::apps::HttpServerApp as _;
use pingora::protocols::Digest;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{
    H2Accept, HttpSession as H2Session, default_h2_options, handshake,
};
use pingora::protocols::{GetSocketDigest as _, GetTimingDigest as _, Stream};
use pingora::proxy::HttpProxy;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch as watch_channel};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::proxy::Gateway;
use limited::limited;
use stream::{ClientStream, Speaks};
use watch::{CallWatch, GOODBYE};

/// Streams that one HTTP/2 connection may have open: Pingora's own safe limit.
const H2_STREAMS: u32 = 100;
/// What one HTTP/2 stream may send ahead: the protocol's default, RFC 9113 §6.9.2.
const H2_STREAM_WINDOW: u32 = 65_535;
/// Streams that a client may get wrong before its connection is closed, as in Pingora's own loop.
const H2_MALFORMED: usize = 32;
/// After an accept fails for want of descriptors or memory: long enough not to spin, short enough not to be felt.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Finds dead clients of silent streams: about 60 + 5 x 10 s.
const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 5;

/// Limits of a client's connection.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Connections at one time. Further ones wait in the kernel's queue.
    pub connections: usize,
    /// From a connection's begin, or from a kept one's first byte, to a complete header.
    pub header: Duration,
    /// How long a kept connection may be idle.
    pub idle: Duration,
}

/// The steps in which the gateway stops. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    draining: watch_channel::Sender<bool>,
    stop: CancellationToken,
    cut: CancellationToken,
}

/// Accepts connections and hands their calls to the proxy.
pub struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
    connections: Arc<Semaphore>,
    tasks: TaskTracker,
}

struct Shared {
    proxy: Arc<HttpProxy<Gateway>>,
    limits: ConnectionLimits,
    drain: Drain,
    open: Gauge,
    /// Connections that were cut in a call.
    cut: AtomicUsize,
    /// The tasks of HTTP/2 streams, which their connections' tasks do not outlive but by a moment.
    streams: TaskTracker,
}

/// A client's connection with its permit.
struct Accepted {
    tcp: TcpStream,
    client: SocketAddr,
    permit: OwnedSemaphorePermit,
}

/// Counts a connection while it is open.
struct Open(Gauge);

// === impl Drain ===

impl Drain {
    /// No step was taken.
    pub fn new() -> Self {
        Self::default()
    }

    /// Step one: say goodbye with every answer, go on accepting.
    pub fn begin(&self) {
        self.draining.send_replace(true);
    }

    /// Step two: no new connections, idle ones and standing streams end.
    pub fn stop(&self) {
        self.begin();
        self.stop.cancel();
    }

    /// Instead of waiting any longer: calls end in the middle, and their clients can tell.
    pub fn cut(&self) {
        self.stop();
        self.cut.cancel();
    }

    /// Cancelled with step two.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    /// Whether step one was taken.
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }
}

// === impl Server ===

impl Server {
    /// A server on `listener`, which accepts nothing until [`Self::run`].
    pub fn new(
        listener: TcpListener,
        proxy: HttpProxy<Gateway>,
        limits: ConnectionLimits,
        drain: Drain,
        open: Gauge,
    ) -> Self {
        Self {
            listener,
            connections: Arc::new(Semaphore::new(limits.connections)),
            shared: Arc::new(Shared {
                proxy: Arc::new(proxy),
                limits,
                drain,
                open,
                cut: AtomicUsize::new(0),
                streams: TaskTracker::new(),
            }),
            tasks: TaskTracker::new(),
        }
    }

    /// Where it listens: the real port where 0 was asked for.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until [`Drain::stop`], then until the last call has ended, `drain_timeout` at most. Returns how many
    /// connections were cut in a call since that time was over.
    pub async fn run(self, drain_timeout: Duration) -> usize {
        let Self { listener, shared, connections, tasks } = self;
        let stop = shared.drain.stop.clone();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = accept(&listener, &connections) => accepted,
            };
            match accepted {
                Ok(accepted) => shared.spawn(&tasks, accepted),
                Err(error) => {
                    log::warn!(error:%; "Accepting a connection failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        for accepted in waiting(listener, &connections) {
            shared.spawn(&tasks, accepted);
        }
        tasks.close();
        let is_over = tokio::time::timeout(drain_timeout, tasks.wait()).await.is_err();
        // A call that is cut is accounted for when it is dropped, so there is something to wait for.
        shared.drain.cut();
        tasks.wait().await;
        shared.streams.close();
        shared.streams.wait().await;
        if is_over { shared.cut.load(Ordering::Relaxed) } else { 0 }
    }
}

async fn accept(listener: &TcpListener, connections: &Arc<Semaphore>) -> io::Result<Accepted> {
    let permit = Arc::clone(connections).acquire_owned().await.map_err(io::Error::other)?;
    let (tcp, client) = listener.accept().await?;
    Ok(Accepted::new(tcp, client, permit))
}

/// What the kernel accepted before the listener ends: those clients believe that they are connected.
fn waiting(listener: TcpListener, connections: &Arc<Semaphore>) -> impl Iterator<Item = Accepted> {
    // Not through the runtime, which may not know of them yet. It made the listener non-blocking.
    let listener = listener.into_std().ok();
    std::iter::from_fn(move || {
        let permit = Arc::clone(connections).try_acquire_owned().ok()?;
        let (tcp, client) = listener.as_ref()?.accept().ok()?;
        tcp.set_nonblocking(true).ok()?;
        Some(Accepted::new(TcpStream::from_std(tcp).ok()?, client, permit))
    })
}

// === impl Accepted ===

impl Accepted {
    fn new(tcp: TcpStream, client: SocketAddr, permit: OwnedSemaphorePermit) -> Self {
        // Both are comforts: a connection without them still works.
        tcp.set_nodelay(true).ok();
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_PROBES);
        socket2::SockRef::from(&tcp).set_tcp_keepalive(&keepalive).ok();
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        Self { tcp, client, permit }
    }
}

// === impl Shared ===

impl Shared {
    fn spawn(self: &Arc<Self>, tasks: &TaskTracker, accepted: Accepted) {
        let shared = Arc::clone(self);
        tasks.spawn(async move {
            let Accepted { tcp, client, permit } = accepted;
            let _open = Open::new(&shared.open);
            shared.serve(tcp, client).await;
            drop(permit);
        });
    }

    async fn serve(&self, tcp: TcpStream, client: SocketAddr) {
        let watch = CallWatch::new(self.limits.header);
        let mut served = pin!(self.serve_watched(tcp, client, &watch));
        tokio::select! {
            () = served.as_mut() => {}
            // An answer without a length must not look whole. Who waits for a call loses nothing.
            () = self.drain.cut.cancelled() => if !watch.is_quiet() {
                watch.request_reset();
                self.cut.fetch_add(1, Ordering::Relaxed);
            },
        }
    }

    async fn serve_watched(&self, tcp: TcpStream, client: SocketAddr, watch: &Arc<CallWatch>) {
        let mut stream = ClientStream::new(tcp, client, Arc::clone(watch));
        match limited(stream.speaks(), watch, &self.drain.stop, None).await {
            Some(Ok(Speaks::Http1)) => self.serve_h1(stream, watch).await,
            Some(Ok(Speaks::Http2)) => self.serve_h2(stream).await,
            Some(Err(_)) | None => {}
        }
    }

    async fn serve_h1(&self, mut stream: ClientStream, watch: &Arc<CallWatch>) {
        let (draining, outbox) = (self.drain.draining.subscribe(), stream.keep_writes());
        let mut session = ServerSession::new_http1(Box::new(stream));
        loop {
            // Pingora's own limit between requests: ours is in the watch.
            session.set_keepalive(Some(0));
            // Without it, a request that comes too early fails the one before it.
            session.set_pipelining_enabled(true);
            let call = self.proxy.process_new_http(session, &draining);
            let ended = limited(call, watch, &self.drain.stop, Some(&outbox)).await;
            let Some(reused) = ended.flatten() else { return };
            if watch.must_reset() || watch.interrupt().is_some() {
                return;
            }
            watch.begin_kept(self.limits.idle);
            let (stream, settings) = reused.consume();
            session = ServerSession::new_http1(stream);
            if let Some(settings) = settings {
                settings.apply_to_session(&mut session);
            }
        }
    }

    async fn serve_h2(&self, stream: ClientStream) {
        let digest = Arc::new(Digest {
            timing_digest: stream.get_timing_digest(),
            socket_digest: stream.get_socket_digest(),
            ..Digest::default()
        });
        let mut options = default_h2_options();
        options
            .max_concurrent_streams(H2_STREAMS)
            .initial_window_size(H2_STREAM_WINDOW)
            // Wide enough for all streams at once: an upload that is held must not block its neighbours.
            .initial_connection_window_size(H2_STREAM_WINDOW * H2_STREAMS);
        let stream: Stream = Box::new(stream);
        let Ok(Ok(mut connection)) =
            tokio::time::timeout(self.limits.header, handshake(stream, Some(options))).await
        else {
            return;
        };
        let mut calls = JoinSet::new();
        let mut draining = self.drain.draining.subscribe();
        // As for HTTP/1: a new connection has this long to its first header.
        let mut idle = self.limits.header;
        let mut malformed = 0;
        let mut said_goodbye = false;
        let mut has_stopped = false;
        // A connection that comes after the first step was accepted for a call: it leaves with that.
        let mut may_leave = !self.drain.is_draining();
        while malformed < H2_MALFORMED {
            tokio::select! {
                biased;
                _ = draining.wait_for(|draining| *draining), if may_leave && !said_goodbye => {
                    connection.graceful_shutdown();
                    said_goodbye = true;
                }
                () = self.drain.stop.cancelled(), if !has_stopped => {
                    has_stopped = true;
                    may_leave = true;
                    // A client that does not answer our goodbye must not hold the exit.
                    idle = idle.min(GOODBYE);
                }
                accepted = H2Session::from_h2_conn(&mut connection, Arc::clone(&digest)) => match accepted {
                    Ok(Some(H2Accept::Session(stream))) => {
                        self.spawn_h2_call(&mut calls, stream);
                        may_leave = true;
                        idle = if has_stopped { GOODBYE } else { self.limits.idle };
                    }
                    Ok(Some(H2Accept::Rejected)) => malformed += 1,
                    Ok(None) | Err(_) => break,
                },
                Some(_) = calls.join_next() => {}
                () = tokio::time::sleep(idle), if calls.is_empty() => {
                    if std::mem::replace(&mut said_goodbye, true) {
                        break;
                    }
                    // A call that crosses the goodbye is told that it was not served.
                    connection.graceful_shutdown();
                    idle = idle.min(GOODBYE);
                }
            }
        }
        // Without their connection the calls that are left fail by themselves; each is counted as it ends.
        drop(connection);
        while calls.join_next().await.is_some() {}
    }

    fn spawn_h2_call(&self, calls: &mut JoinSet<()>, stream: H2Session) {
        let watch = CallWatch::new(self.limits.header);
        let stop = self.drain.stop.clone();
        let draining = self.drain.draining.subscribe();
        let proxy = Arc::clone(&self.proxy);
        calls.spawn(self.streams.track_future(async move {
            let call = proxy.process_new_http(ServerSession::new_http2(stream), &draining);
            limited(call, &watch, &stop, None).await;
        }));
    }
}

// === impl Open ===

impl Open {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
