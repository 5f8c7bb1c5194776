//! What one thread saw.
//!
//! Owns: which calls count, the histograms, a row for each second, causes of failures. Never measures: times come from
//! the callers. Not shared: each thread has one, and they are merged when all have ended.
//!
//! A closed loop counts the calls that *ended* in the window, an open one those that were *due* in it: so it counts
//! exactly its rate, and a server that stalls at the end is not spared.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use hdrhistogram::Histogram;

use super::clock::now_ns;
use super::failure::Failure;

/// An hour: the longest latency that is told apart, and the longest run.
pub(super) const LONGEST_NS: u64 = 3_600_000_000_000;

const SECOND_NS: u64 = 1_000_000_000;

/// The time that is measured, shared by all threads. It is set when all connections are there; its end moves when the
/// run is stopped early.
#[derive(Clone, Debug)]
pub(super) struct Window(Arc<Bounds>);

#[derive(Debug)]
struct Bounds {
    start_ns: AtomicU64,
    end_ns: AtomicU64,
}

/// How far a thread is, for the progress bar.
#[derive(Debug, Default)]
pub(super) struct Live {
    completed: AtomicU64,
    failed: AtomicU64,
}

/// Shared by all tasks of a thread.
#[derive(Clone, Debug)]
pub(super) struct Recorder {
    window: Window,
    live: Arc<Live>,
    seen: Rc<RefCell<Seen>>,
}

/// What was seen in the window.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Calls, events or messages that ended well.
    pub(super) completed: u64,
    /// Those that ended well within the window, whenever they were due: what a server did in that time.
    pub(super) ended: u64,
    /// Those that did not, by cause.
    pub(super) failures: BTreeMap<Failure, u64>,
    /// Bytes of bodies that came.
    pub(super) bytes: u64,
    /// Nanoseconds.
    pub(super) latency: Histogram<u64>,
    /// Nanoseconds from the time at which a call was due and a connection free to its sending.
    pub(super) late: Histogram<u64>,
    /// From the start of the window. What ended after it is in the last.
    pub(super) seconds: Vec<SecondSeen>,
    /// Connections that were made anew, over the whole run.
    pub(super) reconnects: u64,
    /// What came of streams.
    pub(super) streams: Streams,
}

/// One second of a thread.
#[derive(Clone, Debug)]
pub(super) struct SecondSeen {
    /// As in [`Seen`].
    pub(super) completed: u64,
    /// As in [`Seen`].
    pub(super) failed: u64,
    /// Nanoseconds, to two digits.
    pub(super) latency: Histogram<u32>,
}

/// What came of streams of events.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Streams {
    /// Events that are missing in a sequence.
    pub(super) gaps: u64,
    /// Events that came twice, or after a later one.
    pub(super) duplicates: u64,
    /// Events that shared a read with an earlier one.
    pub(super) coalesced: u64,
    /// Events without a stamp of the origin.
    pub(super) unstamped: u64,
    /// Over the whole run.
    pub(super) opened: u64,
    /// Streams that ended as their origin wished.
    pub(super) ended: u64,
    /// Streams that ended otherwise.
    pub(super) broken: u64,
}

/// How a call went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// When it was due: what its latency is counted from.
    pub(super) due_ns: u64,
    /// When it ended.
    pub(super) end_ns: u64,
    /// Bytes of the answer's body.
    pub(super) bytes: u64,
}

// === impl Window ===

impl Window {
    /// One that holds nothing yet.
    #[must_use]
    pub(super) fn unset() -> Self {
        Self(Arc::new(Bounds { start_ns: AtomicU64::new(u64::MAX), end_ns: AtomicU64::new(u64::MAX) }))
    }

    /// Lets it be from `start_ns`, for `length_ns`.
    pub(super) fn set(&self, start_ns: u64, length_ns: u64) {
        self.0.end_ns.store(start_ns.saturating_add(length_ns), Relaxed);
        self.0.start_ns.store(start_ns, Relaxed);
    }

    /// When it begins.
    #[must_use]
    pub(super) fn start_ns(&self) -> u64 {
        self.0.start_ns.load(Relaxed)
    }

    /// When it ends.
    #[must_use]
    pub(super) fn end_ns(&self) -> u64 {
        self.0.end_ns.load(Acquire)
    }

    /// Ends it now, unless it has ended.
    pub(super) fn end_now(&self) {
        self.0.end_ns.fetch_min(now_ns(), Release);
    }

    /// Whether `time_ns` is in it.
    #[must_use]
    pub(super) fn holds(&self, time_ns: u64) -> bool {
        self.start_ns() <= time_ns && time_ns < self.end_ns()
    }

    /// Its length.
    #[must_use]
    pub(super) fn length_ns(&self) -> u64 {
        self.end_ns().saturating_sub(self.start_ns())
    }
}

// === impl Live ===

impl Live {
    /// Completed and failed, warm-up and all.
    #[must_use]
    pub(super) fn get(&self) -> (u64, u64) {
        (self.completed.load(Relaxed), self.failed.load(Relaxed))
    }

    /// Only its own thread writes, so that no locked instruction is needed.
    fn add(counter: &AtomicU64) {
        counter.store(counter.load(Relaxed) + 1, Relaxed);
    }
}

// === impl Recorder ===

impl Recorder {
    /// One for a thread.
    #[must_use]
    pub(super) fn new(window: Window, live: Arc<Live>) -> Self {
        Self { window, live, seen: Rc::new(RefCell::new(Seen::new())) }
    }

    /// The time that is measured.
    #[must_use]
    pub(super) fn window(&self) -> &Window {
        &self.window
    }

    /// A call went well. It counts if `counts_ns` is in the window.
    pub(super) fn completed(&self, counts_ns: u64, call: Call) {
        Live::add(&self.live.completed);
        if self.window.holds(call.end_ns) {
            self.seen.borrow_mut().ended += 1;
        }
        if self.window.holds(counts_ns) {
            self.count(call, true);
        }
    }

    /// A call failed. It counts if `counts_ns` is in the window.
    pub(super) fn failed(&self, counts_ns: u64, call: Call, failure: Failure) {
        Live::add(&self.live.failed);
        if self.window.holds(counts_ns) {
            self.fail(call, failure, 1);
        }
    }

    fn fail(&self, call: Call, failure: Failure, count: u64) {
        let mut seen = self.seen.borrow_mut();
        *seen.failures.entry(failure).or_default() += count;
        let waited = call.end_ns.saturating_sub(call.due_ns);
        if failure.is_a_wait() {
            seen.latency.saturating_record_n(waited, count);
        }
        let second = seen.second(&self.window, call.end_ns);
        second.failed += count;
        if failure.is_a_wait() {
            second.latency.saturating_record_n(waited, u32::try_from(count).unwrap_or(u32::MAX));
        }
    }

    /// How late a call was sent though a connection was free.
    pub(super) fn late(&self, counts_ns: u64, late_ns: u64) {
        if self.window.holds(counts_ns) {
            self.seen.borrow_mut().late.saturating_record(late_ns);
        }
    }

    /// An event came within the window. Without a stamp its latency is not known.
    pub(super) fn event(&self, call: Call, is_stamped: bool) {
        Live::add(&self.live.completed);
        self.seen.borrow_mut().ended += 1;
        self.count(call, is_stamped);
    }

    fn count(&self, call: Call, is_timed: bool) {
        let mut seen = self.seen.borrow_mut();
        seen.completed += 1;
        seen.bytes += call.bytes;
        let latency = call.end_ns.saturating_sub(call.due_ns);
        if is_timed {
            seen.latency.saturating_record(latency);
        }
        let second = seen.second(&self.window, call.end_ns);
        second.completed += 1;
        if is_timed {
            second.latency.saturating_record(latency);
        }
    }

    /// A connection or stream that is only held was opened, whatever the time.
    pub(super) fn held(&self, call: Call) {
        Live::add(&self.live.completed);
        let mut seen = self.seen.borrow_mut();
        seen.completed += 1;
        seen.bytes += call.bytes;
        seen.latency.saturating_record(call.end_ns.saturating_sub(call.due_ns));
    }

    /// One that is only held could not be opened or was closed, whatever the time.
    pub(super) fn not_held(&self, failure: Failure) {
        Live::add(&self.live.failed);
        *self.seen.borrow_mut().failures.entry(failure).or_default() += 1;
    }

    /// A connection was made anew.
    pub(super) fn reconnected(&self) {
        self.seen.borrow_mut().reconnects += 1;
    }

    /// Changes the counts of streams.
    pub(super) fn streams(&self, change: impl FnOnce(&mut Streams)) {
        change(&mut self.seen.borrow_mut().streams);
    }

    /// The end of an open loop: of `due` calls that were due in the window, those that have not ended are failures that
    /// waited at least from the end of the window to now.
    pub(super) fn close(&self, due: u64) {
        let ended = {
            let seen = self.seen.borrow();
            seen.completed + seen.failures.values().sum::<u64>()
        };
        let left = due.saturating_sub(ended);
        if left > 0 {
            let call = Call { due_ns: self.window.end_ns(), end_ns: now_ns(), bytes: 0 };
            self.fail(call, Failure::Unfinished, left);
        }
    }

    /// What was seen so far.
    #[must_use]
    pub(super) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }
}

// === impl Seen ===

impl Seen {
    /// Nothing.
    ///
    /// # Panics
    /// Never: the bounds are good.
    #[must_use]
    pub(super) fn new() -> Self {
        let histogram = || Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("1 to an hour, three digits");
        Self {
            completed: 0,
            ended: 0,
            failures: BTreeMap::new(),
            bytes: 0,
            latency: histogram(),
            late: histogram(),
            seconds: Vec::new(),
            reconnects: 0,
            streams: Streams::default(),
        }
    }

    /// Calls that failed.
    #[must_use]
    pub(super) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Adds what another thread saw.
    ///
    /// # Panics
    /// Never: all histograms have the same bounds.
    pub(super) fn merge(&mut self, other: &Self) {
        self.completed += other.completed;
        self.ended += other.ended;
        self.bytes += other.bytes;
        self.reconnects += other.reconnects;
        for (failure, count) in &other.failures {
            *self.failures.entry(*failure).or_default() += count;
        }
        self.latency.add(&other.latency).expect("the same bounds");
        self.late.add(&other.late).expect("the same bounds");
        self.streams.merge(&other.streams);
        while self.seconds.len() < other.seconds.len() {
            self.seconds.push(SecondSeen::new());
        }
        for (mine, theirs) in self.seconds.iter_mut().zip(&other.seconds) {
            mine.completed += theirs.completed;
            mine.failed += theirs.failed;
            mine.latency.add(&theirs.latency).expect("the same bounds");
        }
    }

    fn second(&mut self, window: &Window, end_ns: u64) -> &mut SecondSeen {
        let last = window.length_ns().div_ceil(SECOND_NS).saturating_sub(1);
        let at = (end_ns.saturating_sub(window.start_ns()) / SECOND_NS).min(last).min(LONGEST_NS / SECOND_NS);
        let at = usize::try_from(at).unwrap_or(0);
        while self.seconds.len() <= at {
            self.seconds.push(SecondSeen::new());
        }
        &mut self.seconds[at]
    }
}

impl Default for Seen {
    fn default() -> Self {
        Self::new()
    }
}

// === impl SecondSeen ===

impl SecondSeen {
    fn new() -> Self {
        // From a microsecond on: a finer one would only cost memory.
        let latency =
            Histogram::new_with_bounds(1_000, LONGEST_NS, 2).expect("a microsecond to an hour, two digits");
        Self { completed: 0, failed: 0, latency }
    }
}

// === impl Streams ===

impl Streams {
    fn merge(&mut self, other: &Self) {
        self.gaps += other.gaps;
        self.duplicates += other.duplicates;
        self.coalesced += other.coalesced;
        self.unstamped += other.unstamped;
        self.opened += other.opened;
        self.ended += other.ended;
        self.broken += other.broken;
    }
}

#[cfg(test)]
mod tests;
