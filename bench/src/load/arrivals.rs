//! The calls of an open loop, handed out when they are due.
//!
//! Owns: which call is next, the lanes that wait for one, and a timer of the kernel: the runtime's own timers tick once
//! in a millisecond, which would be most of what is measured. Never sends.
//!
//! 1. A lane that is free takes the next call at once if that is overdue; else it waits in line.
//! 2. The timer fires when the next call is due; the lane that has waited longest gets it.
//! 3. While all lanes are busy calls become overdue: that wait is part of their latency.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::net::unix::pipe::Receiver;

use super::clock::now_ns;
use super::record::Window;
use super::schedule::Schedule;

/// A call that is due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Arrival {
    /// When it was due.
    pub(super) due_ns: u64,
    /// From when on it could be sent: due, and a lane free.
    pub(super) ready_ns: u64,
}

/// The calls of one thread.
pub(super) struct Arrivals {
    schedule: Schedule,
    window: Window,
    timer: Receiver,
    next: Cell<u64>,
    waiting: RefCell<VecDeque<Rc<Place>>>,
}

/// A lane's place in the line.
#[derive(Default)]
pub(super) struct Place {
    given: Cell<Option<Given>>,
    waker: Cell<Option<Waker>>,
}

#[derive(Clone, Copy, Debug)]
enum Given {
    Call(Arrival),
    NoMore,
}

// === impl Arrivals ===

impl Arrivals {
    /// The calls of `schedule` until the end of `window`. Must be called within a runtime.
    ///
    /// # Errors
    /// When the kernel has no timer left.
    pub(super) fn new(schedule: Schedule, window: Window) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        // A timer is read as a pipe is. What the runtime has for descriptors of any kind can only be used unsafely.
        let timer = Receiver::from_owned_fd_unchecked(timerfd_create(TimerfdClockId::Monotonic, flags)?)?;
        Ok(Self { schedule, window, timer, next: Cell::new(0), waiting: RefCell::default() })
    }

    /// The next call for the lane with `place`, when it is due; `None` after the last one.
    pub(super) async fn next(&self, place: &Rc<Place>) -> Option<Arrival> {
        let now = now_ns();
        let due_ns = self.schedule.at(self.next.get());
        if due_ns >= self.window.end_ns() {
            return None;
        }
        if due_ns <= now && self.waiting.borrow().is_empty() {
            self.next.set(self.next.get() + 1);
            return Some(Arrival { due_ns, ready_ns: now });
        }
        let first = self.waiting.borrow().is_empty();
        self.waiting.borrow_mut().push_back(Rc::clone(place));
        if first {
            self.arm(due_ns);
        }
        match std::future::poll_fn(|context| place.poll(context)).await {
            Given::Call(arrival) => Some(arrival),
            Given::NoMore => None,
        }
    }

    /// Hands calls out. Must run beside the lanes; ends only when the timer breaks.
    pub(super) async fn hand_out(&self) -> io::Error {
        loop {
            if let Err(error) = self.timer.readable().await {
                return error;
            }
            match self.timer.try_read(&mut [0; 8]) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return error,
            }
            self.release(now_ns());
            if self.schedule.at(self.next.get()) >= self.window.end_ns() {
                self.waiting.borrow_mut().drain(..).for_each(|place| place.give(Given::NoMore));
            } else if !self.waiting.borrow().is_empty() {
                self.arm(self.schedule.at(self.next.get()));
            }
        }
    }

    /// How many calls are due in the window.
    #[must_use]
    pub(super) fn due_in_window(&self) -> u64 {
        let (start_ns, end_ns) = (self.window.start_ns(), self.window.end_ns());
        self.schedule.before(end_ns).saturating_sub(self.schedule.before(start_ns))
    }

    fn release(&self, now: u64) {
        let mut waiting = self.waiting.borrow_mut();
        loop {
            let due_ns = self.schedule.at(self.next.get());
            if due_ns > now || due_ns >= self.window.end_ns() {
                return;
            }
            let Some(place) = waiting.pop_front() else { return };
            self.next.set(self.next.get() + 1);
            // The lane waited before the call was due.
            place.give(Given::Call(Arrival { due_ns, ready_ns: due_ns }));
        }
    }

    fn arm(&self, at_ns: u64) {
        let time = Timespec {
            tv_sec: i64::try_from(at_ns / 1_000_000_000).unwrap_or(i64::MAX),
            // A time of all zeros would turn the timer off.
            tv_nsec: i64::try_from(at_ns % 1_000_000_000).unwrap_or(0).max(1),
        };
        let spec = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: time };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &spec)
            .expect("the timer is ours and the time is one");
    }
}

// === impl Place ===

impl Place {
    fn give(&self, given: Given) {
        self.given.set(Some(given));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Given> {
        if let Some(given) = self.given.take() {
            return Poll::Ready(given);
        }
        self.waker.set(Some(context.waker().clone()));
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MS: u64 = 1_000_000;

    /// 1,000 calls a second, from now on, for 100 ms.
    fn arrivals() -> Arrivals {
        let now = now_ns();
        let window = Window::unset();
        window.set(now, 100 * MS);
        Arrivals::new(Schedule::new(now, 1_000_000, 0, 1), window).unwrap()
    }

    async fn lane(arrivals: &Arrivals, busy: Duration) -> Vec<Arrival> {
        let (place, mut got) = (Rc::default(), Vec::new());
        while let Some(arrival) = arrivals.next(&place).await {
            got.push(arrival);
            tokio::time::sleep(busy).await;
        }
        got
    }

    #[tokio::test]
    async fn each_call_is_handed_out_once_and_not_before_it_is_due() {
        let arrivals = arrivals();
        let punctual = async {
            let (place, mut got) = (Rc::default(), Vec::new());
            while let Some(arrival) = arrivals.next(&place).await {
                assert!(arrival.due_ns <= now_ns());
                got.push(arrival);
            }
            got
        };
        let lanes = async { tokio::join!(punctual, lane(&arrivals, Duration::from_millis(5))) };
        let (a, b) = tokio::select! {
            both = lanes => both,
            error = arrivals.hand_out() => panic!("{error}"),
        };
        let mut due: Vec<u64> = a.iter().chain(&b).map(|arrival| arrival.due_ns).collect();
        due.sort_unstable();
        assert_eq!(due, (0..100).map(|n| arrivals.schedule.at(n)).collect::<Vec<_>>());
        assert_eq!(arrivals.due_in_window(), 100);
    }

    #[tokio::test]
    async fn calls_that_no_lane_was_free_for_keep_their_time() {
        let arrivals = arrivals();
        let got = tokio::select! {
            got = lane(&arrivals, Duration::from_millis(2)) => got,
            error = arrivals.hand_out() => panic!("{error}"),
        };
        // It never catches up: of a call each millisecond it can take one in two.
        assert_eq!(got.len(), 100);
        let last = got.last().unwrap();
        assert!(last.ready_ns - last.due_ns >= 99 * MS, "{last:?}");
    }
}
