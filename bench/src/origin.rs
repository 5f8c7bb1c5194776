//! The agent behind all peers: answers at once, in the size that the request asks for, and streams events that say when
//! they were sent.
//!
//! Owns its connections and nothing else; it never looks at who calls. It must be cheap, since on a small machine it
//! shares a core with the generator: a parser and one write an answer, no framework.
//!
//! 1. One thread accepts and hands connections to all threads in turn, each with a runtime of its own: with few
//!    connections the kernel's own distribution would be uneven.
//! 2. The first bytes tell HTTP/2 ([`http2`]) from HTTP/1.1 ([`http1`]).
//! 3. [`plan`] says what a request asks for, [`body`] which bytes that is.
//!
//! | request | answer |
//! |---|---|
//! | `GET /bytes/N` | N bytes with Content-Length |
//! | `POST` anything | reads the body, then `?bytes=N` (1024) bytes of JSON: `{"received":BYTES,…}` |
//! | `GET /events?interval_us=I&count=C&pad=P` | `text/event-stream`; each event in one write, with its time in nanoseconds of CLOCK_MONOTONIC |
//! | `GET /hold` | as `/events`, but silent after the first event |
//! | `GET /ws` | a WebSocket that sends back what it receives |
//! | `GET /echo` | target and headers as they arrived |
//!
//! `delay_ms=D` on any of them waits before the answer.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::BytesMut;
use rustix::time::{ClockId, clock_gettime};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::busy_poll::busy_poll;

pub mod body;
mod http1;
mod http2;
pub mod plan;
mod process;
pub mod request;

pub use process::Origin;

/// Connections that a thread has not taken yet; the accepting thread waits then.
const HANDED_OVER: usize = 1024;

/// Ports that are tried: somebody else may have one at one of the addresses.
const PORTS: u32 = 10;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 4096;

/// After an accept fails for want of descriptors: long enough not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Be an agent that answers at once
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where to listen; port 0 takes a free one, the same for different addresses. Give it several times for several
    /// endpoints
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub listen: Vec<SocketAddr>,

    /// Threads that answer
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: u16,

    /// Never sleep, so that a client does not pay for waking this process. Takes its cores for itself
    #[arg(long)]
    pub busy_poll: bool,

    /// Cores to run on, as 1,2 [default: all]
    #[arg(long, value_name = "CORE,...", value_delimiter = ',')]
    pub cores: Vec<usize>,

    /// Stand still so often: to see whether a generator notices
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, requires = "stall_for")]
    pub stall_every: Option<Duration>,

    /// Stand still so long, at the end of each --stall-every
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, requires = "stall_every")]
    pub stall_for: Option<Duration>,
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    began: Instant,
    stalls: Option<Stalls>,
    /// Numbers streams, for their phases.
    streams: AtomicU32,
}

/// When all stands still: the end of each period.
#[derive(Debug, Clone, Copy)]
struct Stalls {
    every: Duration,
    length: Duration,
}

/// When the events of a stream are due.
#[derive(Debug)]
struct Pace {
    next: Instant,
    interval: Duration,
}

/// Serves until standard input ends, where that is a pipe, or until SIGTERM or SIGINT.
///
/// # Errors
/// An address is in use, or a core is not there.
pub fn main(args: &Args) -> anyhow::Result<()> {
    let stalls = args.stalls()?;
    crate::procfs::pin(&args.cores).context("--cores")?;
    rlimit::increase_nofile_limit(u64::MAX).context("cannot raise the limit of open files")?;
    let listeners = listen_at_all(&args.listen)?;
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;
    println!("{}", serde_json::json!({ "listening": addresses }));
    io::stdout().flush()?;

    let shared = Arc::new(Shared { began: Instant::now(), stalls, streams: AtomicU32::new(0) });
    let mut workers = Vec::new();
    for _ in 0..args.threads {
        let (sender, connections) = mpsc::channel(HANDED_OVER);
        let shared = Arc::clone(&shared);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        if args.busy_poll {
            runtime.spawn(busy_poll());
        }
        thread::Builder::new()
            .name("origin".to_owned())
            .spawn(move || runtime.block_on(work(connections, shared)))?;
        workers.push(sender);
    }
    Builder::new_current_thread().enable_all().build()?.block_on(accept_until_the_end(listeners, workers))
}

async fn accept_until_the_end(
    listeners: Vec<TcpListener>,
    workers: Vec<mpsc::Sender<std::net::TcpStream>>,
) -> anyhow::Result<()> {
    let mut ends = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (closed, input_ends) = tokio::sync::oneshot::channel();
    let mut closed = Some(closed);
    if input_is_a_pipe()? {
        let closed = closed.take();
        thread::spawn(move || {
            io::copy(&mut io::stdin().lock(), &mut io::sink()).ok();
            closed.map(|closed| closed.send(()));
        });
    }
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(accept(listener, workers.clone()));
    }
    let ended = tokio::select! {
        _ = ends.0.recv() => Ok(()),
        _ = ends.1.recv() => Ok(()),
        _ = input_ends => Ok(()),
        Some(ended) = accepting.join_next() => ended?,
    };
    // Until here it kept the channel open: nobody would have said that the input ended.
    drop(closed);
    ended
}

/// Accepts for ever.
async fn accept(
    listener: TcpListener,
    workers: Vec<mpsc::Sender<std::net::TcpStream>>,
) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    for worker in workers.iter().cycle() {
        let socket = loop {
            match listener.accept().await {
                Ok((socket, _)) => break socket,
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        };
        worker.send(socket.into_std()?).await.context("a thread has ended")?;
    }
    Ok(())
}

/// Serves what it is handed.
async fn work(mut connections: mpsc::Receiver<std::net::TcpStream>, shared: Arc<Shared>) {
    let mut served = JoinSet::new();
    loop {
        tokio::select! {
            socket = connections.recv() => {
                let Some(socket) = socket else { return };
                // A client that leaves is no error of ours.
                served.spawn({
                    let shared = Arc::clone(&shared);
                    async move { connection(socket, shared).await.ok() }
                });
            }
            Some(_) = served.join_next() => {}
        }
    }
}

async fn connection(socket: std::net::TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    let mut socket = TcpStream::from_std(socket)?;
    socket.set_nodelay(true)?;
    let mut buffer = BytesMut::with_capacity(4096);
    while buffer.len() < http2::PREFACE.len() {
        if socket.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
    if buffer.starts_with(http2::PREFACE) {
        http2::serve(socket, buffer, shared).await
    } else {
        http1::Connection::new(socket, buffer, shared).serve().await
    }
}

/// Port 0 is a free one, and the same at every address that is there once: endpoints of an agent have one port.
fn listen_at_all(addresses: &[SocketAddr]) -> anyhow::Result<Vec<TcpListener>> {
    for _ in 1..PORTS {
        if let Ok(listeners) = try_all(addresses) {
            return Ok(listeners);
        }
    }
    try_all(addresses)
}

fn try_all(addresses: &[SocketAddr]) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners: Vec<TcpListener> = Vec::with_capacity(addresses.len());
    for (at, address) in addresses.iter().enumerate() {
        let first = listeners.first().map(TcpListener::local_addr).transpose()?;
        let is_new = addresses[..at].iter().all(|earlier| earlier.ip() != address.ip());
        let port = first.map(|first| first.port()).filter(|_| address.port() == 0 && is_new);
        listeners.push(listen(SocketAddr::new(address.ip(), port.unwrap_or(address.port())))?);
    }
    Ok(listeners)
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listen = || -> io::Result<TcpListener> {
        let socket =
            socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    listen().with_context(|| format!("--listen: cannot listen on {address}"))
}

/// Whether somebody holds the other end of standard input. `/dev/null` and terminals say nothing by ending.
fn input_is_a_pipe() -> io::Result<bool> {
    let input = std::os::fd::AsFd::as_fd(&io::stdin()).try_clone_to_owned()?;
    Ok(std::fs::File::from(input).metadata()?.file_type().is_fifo())
}

/// CLOCK_MONOTONIC in nanoseconds: one clock for all processes of a machine.
#[must_use]
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // It counts from the boot of the machine: neither is ever negative.
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

// === impl Args ===

impl Args {
    fn stalls(&self) -> anyhow::Result<Option<Stalls>> {
        let (Some(every), Some(length)) = (self.stall_every, self.stall_for) else { return Ok(None) };
        ensure!(length < every, "--stall-for must be shorter than --stall-every");
        Ok(Some(Stalls { every, length }))
    }
}

// === impl Shared ===

impl Shared {
    /// Waits while all stands still.
    async fn stall(&self) {
        if let Some(left) = self.stalls.and_then(|stalls| stalls.left(self.began.elapsed())) {
            tokio::time::sleep(left).await;
        }
    }

    /// The pace of one more stream. Streams are opened in bursts; without phases they would send in bursts for ever.
    fn pace(&self, interval: Duration) -> Pace {
        /// The golden ratio: each further multiple of it falls into the largest gap of those before.
        const STEP: f64 = 0.618_033_988_749_895;
        let number = self.streams.fetch_add(1, Ordering::Relaxed);
        let phase = interval.mul_f64((f64::from(number) * STEP).fract());
        Pace { next: Instant::now() + phase, interval }
    }
}

// === impl Stalls ===

impl Stalls {
    /// How long it still stands still, so long after the begin.
    fn left(self, since: Duration) -> Option<Duration> {
        let period = self.every.as_nanos();
        let into = since.as_nanos().checked_rem(period)?;
        let left = period - into;
        let left = u64::try_from(left).map(Duration::from_nanos).ok()?;
        (left <= self.length).then_some(left)
    }
}

// === impl Pace ===

impl Pace {
    /// When the next event is due; in the past where we are late, so that none is left out.
    fn next(&mut self) -> Instant {
        let due = self.next;
        self.next += self.interval;
        due
    }
}

#[cfg(test)]
mod tests;
