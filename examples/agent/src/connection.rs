//! One connection: HTTP/1.1 or h2c on a socket that can be reset on purpose.
//!
//! Never decides what is answered: that is the router's. It adds what only the connection knows (the peer, the
//! way to reset) to each request, and the instance's name to each answer.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::routes::Agent;

/// What a handler may know of the connection its request came on.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    peer: SocketAddr,
    reset: Arc<AtomicBool>,
}

/// Marks a response that must not be sent: the connection (HTTP/1) or the stream (HTTP/2) ends instead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unanswered;

/// Why an answer ends early. Its text never reaches a client.
#[derive(Debug, thiserror::Error)]
#[error("aborted because a knob asked for it")]
pub(crate) struct Aborted;

/// A socket whose end can be turned into a reset.
struct Socket {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

/// Serves one connection until its end; a drain lets the answers in progress finish and takes no new call.
pub(crate) async fn run(stream: TcpStream, peer: SocketAddr, agent: Arc<Agent>, router: Router) {
    // Words and events are small and must leave at once.
    stream.set_nodelay(true).ok();
    let connection = Connection { peer, reset: Arc::default() };
    let socket = Socket { stream, reset: Arc::clone(&connection.reset) };
    let drain = agent.drain().clone();
    let headers = agent.identity();
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(connection.clone());
        let response = router.call(request.map(Body::new));
        let headers = headers.clone();
        async move {
            let mut response: Response<Body> = response.await.unwrap_or_else(|never| match never {});
            if response.extensions().get::<Unanswered>().is_some() {
                return Err(Aborted);
            }
            response.headers_mut().extend(headers);
            Ok(response)
        }
    });

    let builder = auto::Builder::new(TokioExecutor::new());
    let mut serving = pin!(builder.serve_connection_with_upgrades(TokioIo::new(socket), service));
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = drain.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        log::debug!(peer:% = peer, error:% = error; "Connection ended early");
    }
}

// === impl Connection ===

impl Connection {
    /// The other side's address.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Makes the connection end with a TCP reset instead of a close. HTTP/2 has a reset of its own for each stream,
    /// which must not take its neighbours along, so there this does nothing.
    pub(crate) fn reset_at_end(&self, version: Version) {
        if version < Version::HTTP_2 {
            self.reset.store(true, Ordering::Relaxed);
        }
    }
}

// === impl Socket ===

impl Drop for Socket {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            self.stream.set_zero_linger().ok();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
