//! One call after the other.
//!
//! Owns: the loops, closed and open, what of a call is recorded, and the pause after a failure. Knows no protocol.

use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;

use super::arrivals::{Arrivals, Place};
use super::clock::now_ns;
use super::exchange::{Exchange, Rest};
use super::failure::Failure;
use super::mix::{Mix, Prepared};
use super::record::{Call, Recorder};

/// The pause after a connection failed; doubled with each failure after that.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// The longest pause. Short, so that a server that comes back is seen soon.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Something that answers.
pub(super) trait Caller {
    /// Connects, unless it is connected.
    async fn connect(&mut self) -> Result<(), Failure>;

    /// Calls, and waits for the whole answer: the bytes of its body.
    async fn call(&mut self, prepared: &Prepared) -> Result<u64, Failure>;
}

/// Calls over HTTP.
#[derive(Debug)]
pub(super) struct Unary<E>(pub(super) E);

/// The pauses of one lane.
#[derive(Debug, Default)]
pub(super) struct BackOff(Option<Duration>);

// === impl Unary ===

impl<E: Exchange> Caller for Unary<E> {
    async fn connect(&mut self) -> Result<(), Failure> {
        self.0.connect().await
    }

    async fn call(&mut self, prepared: &Prepared) -> Result<u64, Failure> {
        let begun = self.0.begin(prepared).await?;
        let mut bytes = 0;
        while self.0.part(&mut |part: &[u8]| bytes += part.len() as u64).await? == Rest::More {}
        check(begun.status)?;
        Ok(bytes)
    }
}

/// Whether an answer is a good one.
pub(super) fn check(status: u16) -> Result<(), Failure> {
    if (200..400).contains(&status) { Ok(()) } else { Err(Failure::Status(status)) }
}

/// Calls whenever the last call has ended, until the window has.
pub(super) async fn closed_loop(mut caller: impl Caller, mix: &Mix, mut random: Rng, recorder: &Recorder) {
    let mut back_off = BackOff::default();
    let mut sent_ns = now_ns();
    while sent_ns < recorder.window().end_ns() {
        let outcome = caller.call(mix.pick(&mut random)).await;
        let end_ns = now_ns();
        record(recorder, end_ns, sent_ns, end_ns, outcome);
        sent_ns = if back_off.after(outcome).await { now_ns() } else { end_ns };
    }
}

/// Calls whenever a call is due, until none is. Latency counts from then.
pub(super) async fn open_loop(
    mut caller: impl Caller,
    mix: &Mix,
    mut random: Rng,
    recorder: &Recorder,
    arrivals: &Arrivals,
) {
    let mut back_off = BackOff::default();
    let place = Rc::<Place>::default();
    while let Some(arrival) = arrivals.next(&place).await {
        recorder.late(arrival.due_ns, now_ns().saturating_sub(arrival.ready_ns));
        let outcome = caller.call(mix.pick(&mut random)).await;
        record(recorder, arrival.due_ns, arrival.due_ns, now_ns(), outcome);
        back_off.after(outcome).await;
    }
}

fn record(recorder: &Recorder, counts_ns: u64, due_ns: u64, end_ns: u64, outcome: Result<u64, Failure>) {
    match outcome {
        Ok(bytes) => recorder.completed(counts_ns, Call { due_ns, end_ns, bytes }),
        Err(failure) => recorder.failed(counts_ns, Call { due_ns, end_ns, bytes: 0 }, failure),
    }
}

// === impl BackOff ===

impl BackOff {
    /// Pauses if `outcome` is a failure of the connection. Gives back whether it did.
    pub(super) async fn after<T>(&mut self, outcome: Result<T, Failure>) -> bool {
        match outcome {
            Err(failure) if !failure.keeps_connection() => {
                self.pause().await;
                true
            }
            _ => {
                self.reset();
                false
            }
        }
    }

    /// Pauses, longer each time.
    pub(super) async fn pause(&mut self) {
        tokio::time::sleep(self.next()).await;
    }

    /// The next pause is a short one.
    pub(super) fn reset(&mut self) {
        self.0 = None;
    }

    fn next(&mut self) -> Duration {
        let pause = self.0.map_or(FIRST_PAUSE, |last| (2 * last).min(LONGEST_PAUSE));
        self.0 = Some(pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded() {
        let mut back_off = BackOff::default();
        let pauses: Vec<u128> = (0..12).map(|_| back_off.next().as_millis()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 500, 500, 500]);
    }

    #[tokio::test]
    async fn an_answer_ends_them() {
        let mut back_off = BackOff::default();
        assert!(back_off.after(Err::<(), _>(Failure::Reset)).await);
        assert!(!back_off.after(Err::<(), _>(Failure::Status(503))).await);
        assert_eq!(back_off.next(), FIRST_PAUSE);
    }
}
