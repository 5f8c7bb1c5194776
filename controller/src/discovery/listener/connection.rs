//! One connection, which ends when nobody who was let in uses it.
//!
//! HTTP/2 pings find a peer that is gone, and never one that is there and does nothing: such a one would keep its place
//! for ever.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use super::{Counted, Refused, Teller, Transport};

/// A gateway's connection.
pub(in crate::discovery) struct Connection {
    pub(super) stream: Transport,
    peer: Peer,
    /// Comes when the connection was of no use for too long.
    idle: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_over: bool,
    teller: Teller,
    _place: Counted,
}

/// Who is at the other end, and how many of its streams were let in. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::discovery) struct Peer {
    address: SocketAddr,
    streams: watch::Sender<usize>,
}

/// A stream of responses to somebody who was let in: while there is one, its connection stays.
#[derive(Debug)]
pub struct LetIn<S> {
    responses: S,
    peer: Peer,
}

// === impl Connection ===

impl Connection {
    pub(super) fn new(
        stream: Transport,
        address: SocketAddr,
        idle: Duration,
        teller: Teller,
        place: Counted,
    ) -> Self {
        let peer = Peer { address, streams: watch::Sender::default() };
        let idle = Box::pin(until_idle(peer.streams.subscribe(), idle));
        Self { stream, peer, idle, is_over: false, teller, _place: place }
    }

    /// Asked before each transfer, since a peer that does not read is written to only.
    fn poll_use(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.is_over && self.idle.as_mut().poll(cx).is_ready() {
            self.is_over = true;
            self.teller.refused(Refused::Idle, self.peer.address);
        }
        if self.is_over { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

/// Comes when there were no `streams` for `limit`.
async fn until_idle(mut streams: watch::Receiver<usize>, limit: Duration) {
    // Who holds the other end is dropped together with this.
    while streams.wait_for(|count| *count == 0).await.is_ok() {
        if timeout(limit, streams.wait_for(|count| *count > 0)).await.is_err() {
            return;
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_use(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_use(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_use(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_use(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_use(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

// === impl Peer ===

impl Peer {
    pub(in crate::discovery) fn address(&self) -> SocketAddr {
        self.address
    }
}

// === impl LetIn ===

impl<S> LetIn<S> {
    pub(in crate::discovery) fn new(responses: S, peer: Peer) -> Self {
        peer.streams.send_modify(|count| *count += 1);
        Self { responses, peer }
    }
}

impl<S: Stream + Unpin> Stream for LetIn<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        Pin::new(&mut self.responses).poll_next(cx)
    }
}

impl<S> Drop for LetIn<S> {
    fn drop(&mut self) {
        self.peer.streams.send_modify(|count| *count -= 1);
    }
}
