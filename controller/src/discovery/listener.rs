//! Connections of gateways, over TLS where there are certificates, else in plain text.
//!
//! Owns the handshakes and the places: how many there are at one time, in all and of one address, and how long a
//! connection may be of no use. Each handshake begins with the newest certificate; while there is none yet, connections
//! are closed. What is already connected goes on with what it began with. Nobody waits to be accepted: who comes when
//! there is no room is turned away at once, so that those for whom there is room are not behind it.

mod connection;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::either::Either;

use super::Limits;
use super::places::{Full, Place, Places};
use super::refused::{Refused, Teller};
use crate::certificate::Configs;
pub(super) use connection::{Connection, LetIn, Peer};

/// How long nothing is accepted after accepting failed: file descriptors may have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that wait to be served. They are taken at once.
const READY: usize = 16;

/// Bounds of the listener.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Connections at one time, handshakes included: in all, and of one address.
    pub(super) connections: (usize, usize),
    /// Connections of an address that is this machine's.
    pub(super) of_own_address: usize,
    /// Handshakes at one time: in all, and of one address.
    pub(super) handshakes: (usize, usize),
    /// How long one may take.
    pub(super) handshake: Duration,
    /// How long a connection may have no stream that was let in.
    pub(super) idle: Duration,
}

/// What accepting remembers.
struct Listener {
    tcp: TcpListener,
    /// Unset: in plain text.
    configs: Option<Configs>,
    bounds: Bounds,
    connections: Places,
    handshakes: Places,
    teller: Teller,
}

/// A place that the metrics know of.
struct Counted {
    teller: Teller,
    _place: Place,
}

/// One connection before it is served.
struct Begun {
    stream: TcpStream,
    address: SocketAddr,
    connection: Counted,
    /// Unset: in plain text.
    handshake: Option<Handshake>,
}

/// What is still to be done, and its place.
struct Handshake {
    acceptor: TlsAcceptor,
    _place: Place,
}

/// What bytes of a connection go through.
type Transport = Either<TlsStream<TcpStream>, TcpStream>;

// === impl Bounds ===

impl Bounds {
    /// Four connections for each gateway, which needs two, and 128 more; 64 of one address, behind which there may be
    /// some gateways where addresses are translated; all of an address of this machine, which is what the proxy of a
    /// mesh shows of all gateways. As many handshakes as there may be gateways, which all come at once after a restart,
    /// and 128 more; 8 of one address, of 5 s: one takes some milliseconds.
    pub(super) fn new(limits: &Limits) -> Self {
        let connections = 4 * limits.gateways + 128;
        Self {
            connections: (connections, 64),
            of_own_address: connections,
            handshakes: (limits.gateways + 128, 8),
            handshake: Duration::from_secs(5),
            idle: limits.idle_timeout,
        }
    }
}

/// The connections on `tcp`, and what must be polled for them to come; over TLS where there are `configs`.
pub(super) fn incoming(
    tcp: TcpListener,
    configs: Option<Configs>,
    bounds: Bounds,
    teller: Teller,
) -> (impl Future<Output = Infallible>, ReceiverStream<io::Result<Connection>>) {
    let (ready, served) = mpsc::channel(READY);
    let [connections, handshakes] =
        [bounds.connections, bounds.handshakes].map(|(all, of_address)| Places::new(all, of_address));
    let listener = Listener { tcp, configs, bounds, connections, handshakes, teller };
    (listener.run(ready), ReceiverStream::new(served))
}

// === impl Listener ===

impl Listener {
    async fn run(self, ready: mpsc::Sender<io::Result<Connection>>) -> Infallible {
        let mut handshakes = JoinSet::new();
        loop {
            tokio::select! {
                () = ready.closed() => break,
                Some(ended) = handshakes.join_next() => if let Err(error) = ended {
                    log::error!(error:%; "A handshake with a gateway panicked");
                },
                (stream, address) = self.accept() => match self.begin(stream, address) {
                    Ok(begun) => {
                        let (ready, bounds) = (ready.clone(), self.bounds);
                        handshakes.spawn(async move {
                            if let Some(connection) = begun.finish(bounds).await {
                                // Fails when nobody is served any more.
                                ready.send(Ok(connection)).await.ok();
                            }
                        });
                    }
                    Err(refused) => self.teller.refused(refused, address),
                }
            }
        }
        drop((self, handshakes));
        std::future::pending().await
    }

    async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.tcp.accept().await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    log::debug!(error:%; "A gateway's connection was not accepted");
                    self.teller.refused(Refused::Accept, None);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn begin(&self, stream: TcpStream, address: SocketAddr) -> Result<Begun, Refused> {
        let acceptor = self.configs.as_ref().map(|configs| self.acceptor(configs)).transpose()?;
        let of_address =
            if is_own(&stream, address) { self.bounds.of_own_address } else { self.bounds.connections.1 };
        let place = self.connections.take_up_to(address.ip(), of_address).map_err(|full| match full {
            Full::All => Refused::Connections,
            Full::Address => Refused::ConnectionsOfAddress,
        })?;
        let handshake = acceptor.map(|acceptor| self.handshake(acceptor, address)).transpose()?;
        Ok(Begun { stream, address, connection: Counted::new(self.teller.clone(), place), handshake })
    }

    fn acceptor(&self, configs: &Configs) -> Result<TlsAcceptor, Refused> {
        if let Some(config) = configs.borrow().clone() {
            return Ok(TlsAcceptor::from(config));
        }
        if self.teller.is_due(Refused::NoCertificate) {
            log::warn!("Gateways are turned away until there is a certificate for discovery");
        }
        Err(Refused::NoCertificate)
    }

    fn handshake(&self, acceptor: TlsAcceptor, address: SocketAddr) -> Result<Handshake, Refused> {
        let place = self.handshakes.take(address.ip()).map_err(|full| match full {
            Full::All => Refused::Handshakes,
            Full::Address => Refused::HandshakesOfAddress,
        })?;
        Ok(Handshake { acceptor, _place: place })
    }
}

/// Whether `address` is this machine's.
fn is_own(stream: &TcpStream, address: SocketAddr) -> bool {
    let address = address.ip().to_canonical();
    address.is_loopback() || stream.local_addr().is_ok_and(|own| own.ip().to_canonical() == address)
}

// === impl Counted ===

impl Counted {
    fn new(teller: Teller, place: Place) -> Self {
        teller.metrics.discovery_connection_began();
        Self { teller, _place: place }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.teller.metrics.discovery_connection_ended();
    }
}

// === impl Begun ===

impl Begun {
    async fn finish(self, bounds: Bounds) -> Option<Connection> {
        let Self { stream, address, connection, handshake } = self;
        let teller = connection.teller.clone();
        // What is small is sent at once: else it waits some 40 ms for the gateway to confirm what came before.
        stream.set_nodelay(true).ok();
        let transport = match handshake {
            None => Transport::Right(stream),
            Some(Handshake { acceptor, _place }) => {
                let Some(stream) = shake_hands(acceptor, stream, address, bounds.handshake, &teller).await
                else {
                    teller.refused(Refused::Handshake, address);
                    return None;
                };
                Transport::Left(stream)
            }
        };
        Some(Connection::new(transport, address, bounds.idle, teller, connection))
    }
}

async fn shake_hands(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
    limit: Duration,
    teller: &Teller,
) -> Option<TlsStream<TcpStream>> {
    match timeout(limit, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => {
            // Whoever only looks whether the port is open is no failure.
            let closed =
                matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset);
            if !closed && teller.is_due(Refused::Handshake) {
                log::warn!(address:%, error:%;
                    "TLS handshake with a gateway failed; does its --discovery-ca-file fit the certificate?");
            }
        }
        Err(_elapsed) => log::debug!(address:%; "A handshake took too long"),
    }
    None
}

#[cfg(test)]
pub(super) mod tests;
