//! Connections of the API server: TLS, then HTTP/1.1, with a bound on their number and on each wait.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::certificate::Configs;
use crate::seldom::Seldom;

/// How long nothing is accepted after accepting failed: file descriptors may have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes of a request's header.
const MAX_HEADER: usize = 64 << 10;

/// Bounds of the server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections at one time; further ones wait to be accepted.
    pub(super) connections: usize,
    /// How long a TLS handshake may take.
    pub(super) handshake: Duration,
    /// How long a connection may take to its next complete header, idle time included.
    pub(super) header: Duration,
    /// How long a question that was being answered at shutdown may take.
    pub(super) drain: Duration,
}

/// What every connection shares.
#[derive(Clone)]
struct Shared {
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
    /// When the log was told that handshakes fail.
    told_handshake: Seldom<()>,
}

// === impl Limits ===

impl Default for Limits {
    /// 256 connections, where an API server keeps some 25 open; 10 s for a handshake; 2 min for a header, more than the
    /// 90 s after which the API server closes an idle connection itself, so that it never asks on one that we close;
    /// 1 s at the end.
    fn default() -> Self {
        Self {
            connections: 256,
            handshake: Duration::from_secs(10),
            header: Duration::from_mins(2),
            drain: Duration::from_secs(1),
        }
    }
}

/// Serves `router` on `listener` until `shutdown`; each connection with the newest of `configs`. While there is none,
/// connections are closed: whoever asks is told at once, and not by a wait.
pub(super) async fn serve(
    listener: TcpListener,
    configs: Configs,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let shared = Shared { router, limits, shutdown: shutdown.clone(), told_handshake: Seldom::default() };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(ended) = connections.join_next() => log_panic(ended),
            (stream, permit) = accept(&listener, &permits) => {
                let Some(config) = configs.borrow().clone() else { continue };
                let acceptor = TlsAcceptor::from(config);
                connections.spawn(connection(stream, permit, acceptor, shared.clone()));
            }
        }
    }
    drop(listener);
    let drained = async {
        while let Some(ended) = connections.join_next().await {
            log_panic(ended);
        }
    };
    tokio::time::timeout(limits.drain, drained).await.ok();
}

/// The next connection, once there is room for it.
async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let permit = Arc::clone(permits).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) => {
                log::debug!(error:% = error; "Webhook connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, permit: OwnedSemaphorePermit, acceptor: TlsAcceptor, shared: Shared) {
    stream.set_nodelay(true).ok();
    let handshake = tokio::time::timeout(shared.limits.handshake, acceptor.accept(stream));
    let stream = tokio::select! {
        () = shared.shutdown.cancelled() => return,
        handshake = handshake => match handshake {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return shared.tell_handshake(&error),
            Err(_) => return,
        },
    };
    let service = TowerToHyperService::new(shared.router);
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.header)
        .max_buf_size(MAX_HEADER)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = pin!(served);
    // How a connection ends is the client's business: an answer it did not get, it asks for again.
    tokio::select! {
        _ = served.as_mut() => {}
        () = shared.shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await.ok();
        }
    }
    drop(permit);
}

// === impl Shared ===

impl Shared {
    /// Says now and then that handshakes fail: an API server with a wrong `caBundle` says so only there.
    /// Whoever only looks whether the port is open is no failure.
    fn tell_handshake(&self, error: &io::Error) {
        let closed = matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset);
        if !closed && self.told_handshake.is_due((), Instant::now()) {
            log::warn!(error:% = error;
                "TLS handshake with the webhooks failed; does caBundle fit the certificate?");
        }
    }
}

fn log_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        log::error!(error:% = error; "A webhook connection panicked");
    }
}
