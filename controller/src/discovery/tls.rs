//! Connections of gateways over TLS.
//!
//! Owns the handshakes: how many there are at one time, and how long each may take. Each begins with the newest
//! certificate; without one, connections are closed. What is already connected goes on with what it began with.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::certificate::Configs;

/// How long nothing is accepted after accepting failed: file descriptors may have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that wait to be served. They are taken at once.
const READY: usize = 16;

/// Bounds of the listener.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Connections at one time, handshakes included; further ones wait to be accepted.
    pub(super) connections: usize,
    /// Handshakes at one time; further ones wait to be accepted.
    pub(super) handshakes: usize,
    /// How long one may take.
    pub(super) handshake: Duration,
}

/// A gateway's connection.
pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    _place: OwnedSemaphorePermit,
}

/// What accepting remembers.
struct Listener {
    tcp: TcpListener,
    configs: Configs,
    bounds: Bounds,
    places: Arc<Semaphore>,
    /// Whether the log knows that there is no certificate.
    told_none: bool,
    /// Whether it knows that handshakes fail.
    told_failed: Arc<AtomicBool>,
}

// === impl Bounds ===

impl Bounds {
    /// 128 handshakes of 10 s, and four connections for each of the `gateways`, which need two.
    pub(super) fn for_gateways(gateways: usize) -> Self {
        Self { connections: 4 * gateways + 128, handshakes: 128, handshake: Duration::from_secs(10) }
    }
}

/// The connections on `tcp`, and what must be polled for them to come.
pub(super) fn incoming(
    tcp: TcpListener,
    configs: Configs,
    bounds: Bounds,
) -> (impl Future<Output = Infallible>, ReceiverStream<io::Result<Connection>>) {
    let (ready, connections) = mpsc::channel(READY);
    let places = Arc::new(Semaphore::new(bounds.connections));
    let listener = Listener { tcp, configs, bounds, places, told_none: false, told_failed: Arc::default() };
    (listener.run(ready), ReceiverStream::new(connections))
}

// === impl Listener ===

impl Listener {
    async fn run(mut self, ready: mpsc::Sender<io::Result<Connection>>) -> Infallible {
        let mut handshakes = JoinSet::new();
        loop {
            let has_room = handshakes.len() < self.bounds.handshakes;
            tokio::select! {
                () = ready.closed() => break,
                Some(ended) = handshakes.join_next() => if let Err(error) = ended {
                    log::error!(error:%; "A handshake with a gateway panicked");
                },
                (stream, address, place) = self.accept(), if has_room => {
                    if let Some(acceptor) = self.acceptor() {
                        let told = Arc::clone(&self.told_failed);
                        let (ready, limit) = (ready.clone(), self.bounds.handshake);
                        handshakes.spawn(async move {
                            if let Some(stream) = shake_hands(acceptor, stream, address, limit, &told).await {
                                // Fails when nobody is served any more.
                                ready.send(Ok(Connection { stream, _place: place })).await.ok();
                            }
                        });
                    }
                }
            }
        }
        drop((self, handshakes));
        std::future::pending().await
    }

    /// The next connection, once there is room for it.
    async fn accept(&self) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        let place = Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed");
        loop {
            match self.tcp.accept().await {
                Ok((stream, address)) => return (stream, address, place),
                Err(error) => {
                    log::debug!(error:%; "A gateway's connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn acceptor(&mut self) -> Option<TlsAcceptor> {
        let config = self.configs.borrow().clone();
        if config.is_none() && !self.told_none {
            log::warn!("Gateways are turned away until there is a certificate for discovery");
        }
        self.told_none = config.is_none();
        config.map(TlsAcceptor::from)
    }
}

async fn shake_hands(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
    limit: Duration,
    told: &AtomicBool,
) -> Option<TlsStream<TcpStream>> {
    // What is small is sent at once: else it waits some 40 ms for the gateway to confirm what came before.
    stream.set_nodelay(true).ok();
    match timeout(limit, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            told.store(false, Ordering::Relaxed);
            Some(stream)
        }
        Ok(Err(error)) => {
            // Whoever only looks whether the port is open is no failure.
            let closed =
                matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset);
            if !closed && !told.swap(true, Ordering::Relaxed) {
                log::warn!(address:%, error:%;
                    "TLS handshake with a gateway failed; does its --discovery-ca-file fit the certificate?");
            }
            None
        }
        Err(_elapsed) => {
            log::debug!(address:%; "A handshake took too long");
            None
        }
    }
}

// === impl Connection ===

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.get_ref().0.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
