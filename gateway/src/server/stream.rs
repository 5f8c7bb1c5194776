//! The client's socket as Pingora reads and writes it, with what Pingora does not offer: a look at the first
//! bytes, a note of when a header begins, an interruption from outside, and a reset on purpose.

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::Sleep;

use super::outbox::Outbox;
use super::watch::CallWatch;

/// How an HTTP/2 connection begins. Three bytes tell it from HTTP/1: RFC 9113 §3.4 reserves the method `PRI`.
const H2_FIRST_BYTES: [u8; 3] = *b"PRI";

/// Bytes of further requests that are taken while one is answered; the rest waits in the kernel. More than a client
/// that pipelines sends, and too few to matter.
const MAX_EARLY: usize = 16 * 1024;

/// One client's connection.
#[derive(Debug)]
pub(super) struct ClientStream {
    tcp: OwnedReadHalf,
    out: Arc<Outbox>,
    /// Whether small writes may be kept: there is somebody who empties the outbox.
    keeps: bool,
    id: UniqueIDType,
    /// What was read to tell the protocol, still to be given out.
    first: FirstBytes,
    /// What the client sent of its next request before the present one was answered.
    early: Vec<u8>,
    watch: Arc<CallWatch>,
    /// Runs while a write waits for the client to read.
    unread: Option<Pin<Box<Sleep>>>,
    digest: Arc<SocketDigest>,
    accepted: std::time::SystemTime,
}

/// What a connection speaks, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    Http1,
    Http2,
}

#[derive(Debug, Default)]
struct FirstBytes {
    bytes: [u8; H2_FIRST_BYTES.len()],
    given: u8,
    len: u8,
}

// === impl ClientStream ===

impl ClientStream {
    pub(super) fn new(tcp: TcpStream, client: SocketAddr, watch: Arc<CallWatch>) -> Self {
        let digest = SocketDigest::from_raw_fd(tcp.as_raw_fd());
        digest.peer_addr.set(Some(client.into())).ok();
        let id = tcp.as_raw_fd();
        let (tcp, out) = tcp.into_split();
        Self {
            tcp,
            out: Arc::new(Outbox::new(out)),
            keeps: false,
            id,
            first: FirstBytes::default(),
            early: Vec::new(),
            watch,
            unread: None,
            digest: Arc::new(digest),
            accepted: std::time::SystemTime::now(),
        }
    }

    /// The writing side. Small writes are kept there from now on, so whoever asked for it has to empty it whenever the
    /// call waits.
    pub(super) fn keep_writes(&mut self) -> Arc<Outbox> {
        self.keeps = true;
        Arc::clone(&self.out)
    }

    /// Reads as few bytes as tell the protocol. They are given out again. Cancel safe.
    ///
    /// # Errors
    /// The connection ended or broke before they came.
    pub(super) async fn speaks(&mut self) -> io::Result<Speaks> {
        loop {
            let have = usize::from(self.first.len);
            if self.first.bytes[..have] != H2_FIRST_BYTES[..have] {
                return Ok(Speaks::Http1);
            }
            if have == H2_FIRST_BYTES.len() {
                return Ok(Speaks::Http2);
            }
            match self.tcp.read(&mut self.first.bytes[have..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.first.len += u8::try_from(read).unwrap_or_default(),
            }
            self.watch.on_bytes();
        }
    }
}

impl ClientStream {
    /// Waits for the client to leave. What it sends instead is kept for its next request: given to Pingora now, it
    /// would hide the leaving, and every interruption.
    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [0; 1024];
        while self.early.len() < MAX_EARLY {
            let mut read = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.early.extend_from_slice(read.filled());
        }
        Poll::Pending
    }

    /// Fails a write that waits for longer than the client may leave us unread.
    fn limit_wait<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.unread = None;
            return written;
        }
        let Some(limit) = self.watch.write_limit() else { return Poll::Pending };
        let unread = self.unread.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if unread.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.watch.note_stalled();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        if self.watch.must_reset() {
            // An HTTP/1.0 answer ends where the connection does: only a reset tells a cut from an end.
            self.out.options().and_then(|socket| socket.set_linger(Some(Duration::ZERO))).ok();
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.watch.fails_reads() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if self.watch.is_upload_done() {
            return self.poll_leave(cx);
        }
        if self.first.give(buf) {
            return Poll::Ready(Ok(()));
        }
        if !self.early.is_empty() {
            let taken = self.early.len().min(buf.remaining());
            buf.put_slice(&self.early[..taken]);
            self.early.drain(..taken);
            self.watch.on_bytes();
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let result = Pin::new(&mut self.tcp).poll_read(cx, buf);
        if result.is_ready() && buf.filled().len() > before {
            self.watch.on_bytes();
        }
        result
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.keeps && self.out.keep(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = self.out.poll_write(cx, &[io::IoSlice::new(buf)]);
        self.limit_wait(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.out.poll_write(cx, bufs);
        self.limit_wait(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.out.poll_flush(cx);
        self.limit_wait(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.watch.must_reset() {
            // A FIN first would make the cut look like an end; the reset comes with the drop.
            return Poll::Ready(Ok(()));
        }
        ready!(self.as_mut().poll_flush(cx))?;
        Poll::Ready(self.out.options().and_then(|socket| socket.shutdown(std::net::Shutdown::Write)))
    }
}

#[async_trait]
impl Shutdown for ClientStream {
    async fn shutdown(&mut self) {
        AsyncWriteExt::shutdown(self).await.ok();
    }
}

impl UniqueID for ClientStream {
    fn id(&self) -> UniqueIDType {
        self.id
    }
}

impl Ssl for ClientStream {}

/// Never asked for: the protocol is told before the stream is handed over.
impl Peek for ClientStream {}

impl GetTimingDigest for ClientStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        vec![Some(TimingDigest { established_ts: self.accepted, ..TimingDigest::default() })]
    }
}

impl GetProxyDigest for ClientStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for ClientStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.digest))
    }
}

// === impl FirstBytes ===

impl FirstBytes {
    /// Gives what is left into `buf`. Whether there was anything.
    fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let left = &self.bytes[usize::from(self.given)..usize::from(self.len)];
        if left.is_empty() {
            return false;
        }
        let taken = left.len().min(buf.remaining());
        buf.put_slice(&left[..taken]);
        self.given += u8::try_from(taken).unwrap_or_default();
        true
    }
}
