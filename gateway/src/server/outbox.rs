//! The writing side of a client's socket, and the little that waits there to go out with what comes next.
//!
//! Pingora writes the head of an answer and its body one after the other. Each by itself would be a call of the kernel,
//! a packet and a client that wakes up, which cost more than all else that is done for a small call. So a small write
//! is kept until
//!
//! - the next one, which takes it along,
//! - a flush,
//! - or the call waits for anything at all: [`limited`](super::limited::limited) sees that and flushes.
//!
//! Nothing is held back from a client: what is kept is kept while the gateway computes, and never while it waits.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;

/// The longest write that is kept: the head of an answer, of nearly any length that one has.
const MAX_KEPT: usize = 2048;

/// Pieces of one write, beside what was kept: a chunk has three.
const MAX_PIECES: usize = 8;

/// The writing side of a client's socket.
#[derive(Debug)]
pub(super) struct Outbox {
    /// `None` only while it is dropped.
    socket: Option<OwnedWriteHalf>,
    /// Its users are polled by one task.
    kept: Mutex<Vec<u8>>,
}

// === impl Outbox ===

impl Outbox {
    pub(super) fn new(socket: OwnedWriteHalf) -> Self {
        Self { socket: Some(socket), kept: Mutex::default() }
    }

    fn socket(&self) -> io::Result<&TcpStream> {
        self.socket.as_ref().map(AsRef::as_ref).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// For options of the socket.
    pub(super) fn options(&self) -> io::Result<SockRef<'_>> {
        self.socket().map(SockRef::from)
    }

    /// Keeps `bytes` for later, if they are few and nothing is kept. Whether it did.
    pub(super) fn keep(&self, bytes: &[u8]) -> bool {
        let mut kept = self.kept.lock();
        let is_kept = kept.is_empty() && bytes.len() <= MAX_KEPT;
        if is_kept {
            kept.extend_from_slice(bytes);
        }
        is_kept
    }

    /// Writes what is kept and then `pieces`. Returns how many bytes of `pieces` were written.
    pub(super) fn poll_write(&self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if pieces.iter().all(|piece| piece.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        let mut kept = self.kept.lock();
        while !kept.is_empty() {
            let mut all = [IoSlice::new(&[]); MAX_PIECES + 1];
            let count = pieces.len().min(MAX_PIECES);
            all[0] = IoSlice::new(&kept);
            all[1..=count].copy_from_slice(&pieces[..count]);
            let written = ready!(self.poll_socket(cx, |socket| socket.try_write_vectored(&all[..=count])))?;
            let of_kept = written.min(kept.len());
            kept.drain(..of_kept);
            if written > of_kept {
                return Poll::Ready(Ok(written - of_kept));
            }
        }
        self.poll_socket(cx, |socket| match pieces {
            [only] => socket.try_write(only),
            pieces => socket.try_write_vectored(pieces),
        })
    }

    /// Writes what is kept.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut kept = self.kept.lock();
        while !kept.is_empty() {
            let written = ready!(self.poll_socket(cx, |socket| socket.try_write(&kept)))?;
            kept.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_socket(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let socket = self.socket()?;
        loop {
            ready!(socket.poll_write_ready(cx))?;
            match write(socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => return Poll::Ready(written),
            }
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        // Else it would say goodbye first, and a reset would look like an end.
        if let Some(socket) = self.socket.take() {
            socket.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn mk_outbox() -> (Outbox, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (_, write) = listener.accept().await.unwrap().0.into_split();
        (Outbox::new(write), client)
    }

    async fn write(outbox: &Outbox, bytes: &[u8]) -> usize {
        poll_fn(|cx| outbox.poll_write(cx, &[IoSlice::new(bytes)])).await.unwrap()
    }

    async fn read(client: &mut TcpStream, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        client.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn what_is_kept_goes_out_with_the_next_write_and_before_it() {
        let (outbox, mut client) = mk_outbox().await;
        assert!(outbox.keep(b"head "));
        assert!(!outbox.keep(b"more"), "only the first of several");
        assert!(client.try_read(&mut [0]).is_err());
        assert_eq!(write(&outbox, b"body").await, 4);
        let mut bytes = [0; 64];
        let read = client.read(&mut bytes).await.unwrap();
        assert_eq!(&bytes[..read], b"head body", "in one piece");
    }

    #[tokio::test]
    async fn a_flush_sends_what_is_kept() {
        let (outbox, mut client) = mk_outbox().await;
        assert!(outbox.keep(b"head"));
        poll_fn(|cx| outbox.poll_flush(cx)).await.unwrap();
        assert_eq!(read(&mut client, 4).await, b"head");
    }

    #[tokio::test]
    async fn what_is_large_is_not_kept() {
        let (outbox, _client) = mk_outbox().await;
        assert!(!outbox.keep(&[0; MAX_KEPT + 1]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn bytes_keep_their_order_however_slowly_they_are_read(
            writes in prop::collection::vec((1..20_000usize, any::<bool>()), 1..10),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let (sent, received) = runtime.block_on(async {
                let (outbox, client) = mk_outbox().await;
                outbox.options().unwrap().set_send_buffer_size(4096).unwrap();
                let all: usize = writes.iter().map(|(count, _)| count).sum();
                let sending = async {
                    let mut sent = Vec::with_capacity(all);
                    for (count, flushes) in &writes {
                        let bytes: Vec<u8> = (0..*count).map(|n| (sent.len() + n).to_le_bytes()[0]).collect();
                        let mut left = if outbox.keep(&bytes) { &[][..] } else { &bytes[..] };
                        while !left.is_empty() {
                            left = &left[write(&outbox, left).await..];
                        }
                        sent.extend(bytes);
                        if *flushes {
                            poll_fn(|cx| outbox.poll_flush(cx)).await.unwrap();
                        }
                    }
                    poll_fn(|cx| outbox.poll_flush(cx)).await.unwrap();
                    sent
                };
                let mut client = client;
                tokio::join!(sending, read(&mut client, all))
            });
            prop_assert!(sent == received);
        }
    }

    #[tokio::test]
    async fn a_reset_is_seen_as_one() {
        let (outbox, mut client) = mk_outbox().await;
        client.write_all(b"x").await.unwrap();
        outbox.options().unwrap().set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(outbox);
        assert!(client.read(&mut [0]).await.is_err());
    }
}
