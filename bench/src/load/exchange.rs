//! A call and its answer, whatever the protocol.
//!
//! Owns: what a lane may ask of a connection, connecting, and a time limit that costs nothing while it is kept.
//! Never counts: lanes do.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::clock::{nanos, now_ns};
use super::failure::Failure;
use super::mix::Prepared;

/// The beginning of an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Begun {
    /// The status code.
    pub(super) status: u16,
    /// Whether the body is a stream of events.
    pub(super) event_stream: bool,
}

/// What is left of an answer after a part of it was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Rest {
    /// More is to come.
    More,
    /// Nothing.
    Nothing,
}

/// A connection, or a stream of one. After a failure that is no status it is closed, and the next call opens another.
pub(super) trait Exchange {
    /// Connects, unless it is connected.
    async fn connect(&mut self) -> Result<(), Failure>;

    /// Sends a request and reads the head of its answer.
    async fn begin(&mut self, prepared: &Prepared) -> Result<Begun, Failure>;

    /// Reads once, and gives what came of the body to `sink`, in any number of parts.
    async fn part(&mut self, sink: &mut impl FnMut(&[u8])) -> Result<Rest, Failure>;

    /// Lets the answer that has begun take as long as it likes.
    fn no_deadline(&mut self);

    /// Waits until the other side closes.
    async fn closed(&mut self) -> Failure;
}

/// How to connect to a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialer {
    /// The server.
    pub(super) address: SocketAddr,
    /// From where; `None`: as the kernel likes.
    pub(super) source: Option<IpAddr>,
    /// For connecting, and for each answer.
    pub(super) timeout: Duration,
}

/// A time limit that is moved with every call and hardly ever reached: the timer is only touched when it fires, and then
/// set to where the limit has moved to.
#[derive(Debug)]
pub(super) struct Deadline {
    at_ns: u64,
    timer: Pin<Box<Sleep>>,
}

// === impl Dialer ===

impl Dialer {
    /// Connects.
    pub(super) async fn dial(&self) -> Result<TcpStream, Failure> {
        let stream = match timeout(self.timeout, self.connect()).await {
            Ok(connected) => connected.map_err(|error| Failure::of_connect(&error))?,
            Err(_elapsed) => return Err(Failure::Timeout),
        };
        stream.set_nodelay(true).map_err(|error| Failure::of_connect(&error))?;
        Ok(stream)
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        let socket = if self.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(source) = self.source {
            socket.bind((source, 0).into())?;
        }
        socket.connect(self.address).await
    }
}

// === impl Deadline ===

impl Deadline {
    /// One that is not reached. Must be called within a runtime.
    pub(super) fn new(first: Duration) -> Self {
        Self { at_ns: u64::MAX, timer: Box::pin(sleep(first)) }
    }

    /// Moves it to `after` from now.
    pub(super) fn set(&mut self, after: Duration) {
        self.at_ns = now_ns().saturating_add(nanos(after));
    }

    /// Never.
    pub(super) fn clear(&mut self) {
        self.at_ns = u64::MAX;
    }

    /// Ready when it is reached. To be polled whenever what it limits is not ready.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(context).is_ready() {
            let left = self.at_ns.saturating_sub(now_ns());
            if left == 0 {
                // Armed again, since a timer that has fired must not be polled.
                self.timer.as_mut().reset(Instant::now());
                return Poll::Ready(());
            }
            let left = Duration::from_nanos(left).clamp(Duration::from_millis(1), Duration::from_hours(1));
            self.timer.as_mut().reset(Instant::now() + left);
        }
        Poll::Pending
    }

    /// `work`, or [`Failure::Timeout`] when it takes too long.
    pub(super) async fn limit<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failure> {
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self.poll(context).map(|()| Err(Failure::Timeout)),
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deadline_that_moved_is_kept_where_it_is() {
        let mut deadline = Deadline::new(Duration::from_millis(5));
        let began = Instant::now();
        deadline.set(Duration::from_millis(40));
        assert_eq!(deadline.limit(std::future::pending::<()>()).await, Err(Failure::Timeout));
        assert!(began.elapsed() >= Duration::from_millis(40));
        deadline.set(Duration::from_mins(1));
        assert_eq!(deadline.limit(tokio::task::yield_now()).await, Ok(()));
    }

    #[tokio::test]
    async fn a_closed_port_is_a_failure_to_connect() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let dialer = Dialer { address: port, source: None, timeout: Duration::from_secs(5) };
        assert_eq!(dialer.dial().await.unwrap_err(), Failure::Connect);
        let elsewhere = Dialer { source: Some("192.0.2.1".parse().unwrap()), ..dialer };
        assert_eq!(elsewhere.dial().await.unwrap_err(), Failure::NoPort);
    }
}
