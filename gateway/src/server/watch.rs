//! The clock over one connection's header and one call, and the means to end either from outside.
//!
//! Pingora has no deadline for a header, none for a whole call, and no hook that runs while nothing happens. So
//! the future that handles a call is polled by [`limited`](super::limited::limited), which knows the deadline in force
//! from a [`CallWatch`] that the call's own hooks keep up to date.
//!
//! A deadline that passes on HTTP/1 makes the client's side of the pump fail on its next read
//! ([`CallWatch::fails_reads`]), so that the call ends the ordinary way and the client still gets an answer.
//! Where that cannot be (no call yet, HTTP/2, a pump that is not reading), the future is dropped: the stream is
//! reset. But a standing stream over HTTP/2 is to end cleanly when the gateway stops: for that the watch holds a
//! handle of its agent's socket and hangs up there.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use pingora::ErrorType::SocketError;
use pingora::OrErr as _;
use pingora::protocols::SocketDigest;
use socket2::{SockRef, Socket};
use tokio::time::Instant;

/// How long a stopping gateway waits for a call that may be on its way, and for an idle HTTP/2 client to answer our goodbye.
pub(super) const GOODBYE: Duration = Duration::from_secs(2);

/// No deadline.
pub(super) const NEVER: u64 = u64::MAX;

/// What times are counted from.
pub(super) static START: LazyLock<Instant> = LazyLock::new(Instant::now);

tokio::task_local! {
    /// The watch over the call that this task is handling.
    pub(super) static CURRENT: Arc<CallWatch>;
}

/// What is happening on a connection and how long it may take. Shared by the socket, the call and its keeper,
/// all of which run in one task: the atomics only say so to the compiler.
#[derive(Debug)]
pub(crate) struct CallWatch {
    phase: AtomicU8,
    /// Milliseconds after [`START`].
    deadline: AtomicU64,
    /// What a header may take from its first byte on a kept connection, in milliseconds.
    header_limit: u64,
    /// Ends with the connection rather than the answer: idle, or a standing stream.
    ends_with_drain: AtomicBool,
    /// Since when the connection is new or kept, milliseconds as in `deadline`.
    quiet_since: AtomicU64,
    interrupt: AtomicU8,
    /// Reads from the client are to fail, so that the call notices its interruption.
    fails_reads: AtomicBool,
    /// The request is whole: what comes from the client now belongs to its next one.
    upload_done: AtomicBool,
    /// By when more of an upload has to come, and how long each wait may be; milliseconds as in `deadline`.
    upload_deadline: AtomicU64,
    upload_limit: AtomicU64,
    /// The socket to the agent, to ask whether it is the agent that an upload waits for.
    upload_to: ArcSwapOption<SocketDigest>,
    reset: AtomicBool,
    /// A handle of the socket to the agent, where [`Self::hold_agent`] was asked to keep one.
    agent: ArcSwapOption<Socket>,
    /// How long a write may wait for the client to read, in milliseconds; `NEVER` for ever.
    write_limit: AtomicU64,
    /// A write has waited for longer.
    stalled: AtomicBool,
}

/// Why a call was ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// A deadline of the call has passed.
    Deadline = 1,
    /// The gateway stops, and the call is a standing stream.
    Drain = 2,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No byte yet, on a new connection.
    New = 0,
    /// No byte of the next header yet, on a kept one.
    Kept = 1,
    /// Some of a header.
    Header = 2,
    /// A whole header: a call.
    Call = 3,
}

// === impl CallWatch ===

impl CallWatch {
    /// A new connection, whose first header has to be whole within `header_limit`.
    pub(crate) fn new(header_limit: Duration) -> Arc<Self> {
        let (now, limit) = (now(), millis(header_limit));
        Arc::new(Self {
            phase: AtomicU8::new(Phase::New as u8),
            deadline: AtomicU64::new(now.saturating_add(limit)),
            header_limit: limit,
            ends_with_drain: AtomicBool::new(true),
            quiet_since: AtomicU64::new(now),
            interrupt: AtomicU8::new(0),
            fails_reads: AtomicBool::new(false),
            upload_done: AtomicBool::new(false),
            upload_deadline: AtomicU64::new(NEVER),
            upload_limit: AtomicU64::new(NEVER),
            upload_to: ArcSwapOption::empty(),
            reset: AtomicBool::new(false),
            agent: ArcSwapOption::empty(),
            write_limit: AtomicU64::new(NEVER),
            stalled: AtomicBool::new(false),
        })
    }

    /// The watch over the call that this task is handling, a fresh one outside of a server.
    pub(crate) fn current() -> Arc<Self> {
        CURRENT.try_with(Arc::clone).unwrap_or_else(|_| Self::new(Duration::MAX))
    }

    /// The connection waits for its next header, for `idle` at most.
    pub(super) fn begin_kept(&self, idle: Duration) {
        let now = now();
        self.set_phase(Phase::Kept);
        self.upload_done.store(false, Ordering::Relaxed);
        self.quiet_since.store(now, Ordering::Relaxed);
        self.deadline.store(now.saturating_add(millis(idle)), Ordering::Relaxed);
        self.ends_with_drain.store(true, Ordering::Relaxed);
    }

    /// Bytes came from the client.
    pub(super) fn on_bytes(&self) {
        let since = match self.phase() {
            // The deadline of a new connection covers its header too; a stop may have shortened it.
            Phase::New => self.quiet_since.load(Ordering::Relaxed),
            Phase::Kept => now(),
            Phase::Header | Phase::Call => return,
        };
        self.set_phase(Phase::Header);
        self.deadline.store(since.saturating_add(self.header_limit), Ordering::Relaxed);
        self.ends_with_drain.store(false, Ordering::Relaxed);
    }

    /// The header is whole: a call begins, without a deadline.
    pub(crate) fn begin_call(&self) {
        self.set_phase(Phase::Call);
        self.deadline.store(NEVER, Ordering::Relaxed);
        self.set_upload_limit(None);
        self.ends_with_drain.store(false, Ordering::Relaxed);
    }

    /// The call has to end by `deadline`; `None` lifts the limit.
    pub(crate) fn set_deadline(&self, deadline: Option<Instant>) {
        let millis = deadline.map_or(NEVER, |at| millis_ceil(at.saturating_duration_since(*START)));
        self.deadline.store(millis, Ordering::Relaxed);
    }

    /// More of an upload has to come within `limit`; `None` lifts that. A wait that is the agent's does not count.
    pub(crate) fn set_upload_limit(&self, limit: Option<Duration>) {
        let limit = limit.map(millis);
        self.upload_limit.store(limit.unwrap_or(NEVER), Ordering::Relaxed);
        let deadline = limit.map_or(NEVER, |limit| now().saturating_add(limit));
        self.upload_deadline.store(deadline, Ordering::Relaxed);
    }

    /// Where the upload goes.
    pub(crate) fn set_upload_to(&self, agent: Option<Arc<SocketDigest>>) {
        self.upload_to.store(agent);
    }

    /// The request is whole.
    pub(crate) fn set_upload_done(&self) {
        self.upload_done.store(true, Ordering::Relaxed);
    }

    /// Whether what comes from the client now belongs to its next request.
    pub(super) fn is_upload_done(&self) -> bool {
        self.phase() == Phase::Call && self.upload_done.load(Ordering::Relaxed)
    }

    /// The call is a standing stream, which a stopping gateway ends, or turned out not to be one.
    pub(crate) fn set_standing(&self, is_standing: bool) {
        self.ends_with_drain.store(is_standing, Ordering::Relaxed);
        if !is_standing {
            self.agent.store(None);
        }
    }

    /// Whether, and why, the call was ended from outside.
    pub(crate) fn interrupt(&self) -> Option<Interrupt> {
        match self.interrupt.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Interrupt::Deadline),
            _ => Some(Interrupt::Drain),
        }
    }

    /// Whether reads from the client are to fail.
    pub(super) fn fails_reads(&self) -> bool {
        self.fails_reads.load(Ordering::Relaxed)
    }

    /// The call has noticed its interruption: from now on it may read what the client goes on to send.
    pub(crate) fn let_read(&self) {
        self.fails_reads.store(false, Ordering::Relaxed);
    }

    /// The answer was cut: the client has to see an error and not an end.
    pub(crate) fn request_reset(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }

    /// Keeps a handle of the socket to the agent, by which a call that cannot be interrupted at the client's side
    /// can be ended at the agent's.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub(crate) fn hold_agent(&self, socket: &impl AsFd) -> pingora::Result<()> {
        let handle =
            SockRef::from(socket).try_clone().or_err(SocketError, "a handle of the agent's socket")?;
        self.agent.store(Some(Arc::new(handle)));
        Ok(())
    }

    /// Hangs up on the agent. Whether that could be done: the call then ends the ordinary way.
    pub(super) fn hang_up(&self) -> bool {
        self.agent.load().as_ref().is_some_and(|socket| socket.shutdown(std::net::Shutdown::Both).is_ok())
    }

    /// Sets how long a write to this connection may wait for the client to read.
    pub(crate) fn set_write_limit(&self, limit: Duration) {
        self.write_limit.store(millis(limit), Ordering::Relaxed);
    }

    pub(super) fn write_limit(&self) -> Option<Duration> {
        Some(self.write_limit.load(Ordering::Relaxed))
            .filter(|limit| *limit != NEVER)
            .map(Duration::from_millis)
    }

    /// The client has not read for longer than the limit.
    pub(super) fn note_stalled(&self) {
        self.stalled.store(true, Ordering::Relaxed);
    }

    /// Whether a write failed since the client does not read.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    pub(super) fn must_reset(&self) -> bool {
        self.reset.load(Ordering::Relaxed)
    }

    /// Whether nothing of a call has come yet.
    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.phase(), Phase::New | Phase::Kept)
    }

    /// Whether it ends with the gateway's stop rather than with its answer.
    pub(super) fn ends_with_drain(&self) -> bool {
        self.ends_with_drain.load(Ordering::Relaxed)
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::New,
            1 => Phase::Kept,
            2 => Phase::Header,
            _ => Phase::Call,
        }
    }

    fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// The deadline in force.
    pub(super) fn deadline(&self) -> u64 {
        let upload = self.upload_deadline.load(Ordering::Relaxed);
        self.deadline.load(Ordering::Relaxed).min(upload)
    }

    /// Whether the deadline that has passed was only that of an upload which waits for its agent. Then the wait
    /// begins anew.
    pub(super) fn waits_for_agent(&self) -> bool {
        let is_backed_up = || {
            let info = self.upload_to.load().as_ref().and_then(|agent| agent.tcp_info());
            info.is_some_and(|info| info.tcpi_notsent_bytes > 0)
        };
        let waits = self.deadline.load(Ordering::Relaxed) > now() && is_backed_up();
        if waits {
            let limit = self.upload_limit.load(Ordering::Relaxed);
            self.upload_deadline.store(now().saturating_add(limit), Ordering::Relaxed);
        }
        waits
    }

    /// Whether a stopping gateway has to wait for a call that may be on its way: a client that has just connected, or
    /// was just answered, does not know that we leave. The wait is then bounded, and begins only once.
    pub(super) fn may_be_called(&self) -> bool {
        let until = self.quiet_since.load(Ordering::Relaxed).saturating_add(millis(GOODBYE));
        let may_be_called = self.is_quiet() && until > now();
        if may_be_called {
            self.ends_with_drain.store(false, Ordering::Relaxed);
            self.deadline.fetch_min(until, Ordering::Relaxed);
        }
        may_be_called
    }

    /// Ends the call from outside. Whether it may still speak; where not, it is about to be dropped.
    pub(super) fn interrupt_with(&self, why: Interrupt, can_speak: bool) -> bool {
        let is_call = self.phase() == Phase::Call;
        self.interrupt.store(why as u8, Ordering::Relaxed);
        self.fails_reads.store(true, Ordering::Relaxed);
        is_call && can_speak
    }
}

fn now() -> u64 {
    millis_ceil(START.elapsed())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(NEVER)
}

/// Rounded up: a deadline must not pass early.
fn millis_ceil(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(NEVER)
}
