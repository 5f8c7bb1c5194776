//! The keeper of a call: polls it, and ends it when its [`CallWatch`] or the gateway's stop says so.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::outbox::Outbox;
use super::watch::{CURRENT, CallWatch, Interrupt, NEVER, START};

/// How long an interrupted call has to write its last answer, and to read on until the client has it.
const LAST_WORDS: Duration = Duration::from_secs(4);

/// The gateway's stop, waited for.
struct Stop<'a, F> {
    token: &'a CancellationToken,
    /// Ends one turn after the stop.
    stopped: Pin<&'a mut F>,
    has_come: bool,
    /// Whom `stopped` wakes. To ask it with every event of a stream would cost more than to remember that.
    told: Option<Waker>,
}

/// Runs `call` under `watch`. `None`: it was dropped, since a deadline passed or `stop` came, and it could not speak or
/// did not finish in time. `http1`: where its answer goes; a failing read then ends the call the ordinary way.
pub(super) async fn limited<F: Future>(
    call: F,
    watch: &Arc<CallWatch>,
    stop: &CancellationToken,
    http1: Option<&Outbox>,
) -> Option<F::Output> {
    let mut call = pin!(CURRENT.scope(Arc::clone(watch), call));
    let stopped = pin!(async {
        stop.cancelled().await;
        // One turn of the runtime, in which it learns of bytes that came before: what asks is served.
        tokio::task::yield_now().await;
    });
    let mut stop = Stop { token: stop, stopped, has_come: false, told: None };
    // It is set before it is used; to ask for the time here would be for nothing.
    let mut timer = pin!(tokio::time::sleep_until(*START));
    // What the timer is set to; `NEVER` while it is not in use.
    let mut armed = NEVER;
    let mut interrupted = false;
    std::future::poll_fn(move |cx| {
        loop {
            let polled = call.as_mut().poll(cx);
            // It waits or has ended: what it wrote goes out now. An error is for its next write or read to meet.
            let _flushed = http1.map(|outbox| outbox.poll_flush(cx));
            if let Poll::Ready(output) = polled {
                return Poll::Ready(Some(output));
            }
            if !interrupted && watch.ends_with_drain() && stop.has_come(cx) {
                if watch.may_be_called() {
                    continue;
                }
                if !watch.interrupt_with(Interrupt::Drain, http1.is_some() || watch.hang_up()) {
                    return Poll::Ready(None);
                }
                interrupted = true;
                watch.set_deadline(Some(Instant::now() + LAST_WORDS));
                continue;
            }
            let deadline = watch.deadline();
            if deadline == NEVER {
                return Poll::Pending;
            }
            if armed != deadline {
                armed = deadline;
                timer.as_mut().reset(*START + Duration::from_millis(deadline));
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if interrupted {
                // It was asked to end and did not: whatever it had begun to say stays unfinished.
                watch.request_reset();
                return Poll::Ready(None);
            }
            if watch.waits_for_agent() {
                continue;
            }
            if !watch.interrupt_with(Interrupt::Deadline, http1.is_some()) {
                return Poll::Ready(None);
            }
            interrupted = true;
            watch.set_deadline(Some(Instant::now() + LAST_WORDS));
        }
    })
    .await
}

// === impl Stop ===

impl<F: Future> Stop<'_, F> {
    /// Whether it has come. If not, it wakes the task of `cx` when it does.
    fn has_come(&mut self, cx: &mut Context<'_>) -> bool {
        let is_told = self.told.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if !self.has_come && (!is_told || self.token.is_cancelled()) {
            self.told = Some(cx.waker().clone());
            self.has_come = self.stopped.as_mut().poll(cx).is_ready();
        }
        self.has_come
    }
}
