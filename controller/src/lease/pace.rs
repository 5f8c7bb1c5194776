//! When the next call may be made: pauses after failures, and space between reads that a watch asks for.

use std::time::Duration;

use super::record::Moment;

/// The pause after a first failure; it doubles with each in a row.
const MIN_PAUSE: Duration = Duration::from_millis(200);

/// The longest pause: a leader must have tries left.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The least time between two reads that the watch asks for.
const RING_SPACING: Duration = Duration::from_millis(100);

/// What has failed, and what that means for the next call.
#[derive(Debug)]
pub(super) struct Pace {
    random: fastrand::Rng,
    failed_reads: u32,
    failed_writes: u32,
    not_before: Moment,
}

// === impl Pace ===

impl Pace {
    /// Nothing has failed. `seed` is for the jitter, so that many candidates do not come at once.
    pub(super) fn new(seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self { random, failed_reads: 0, failed_writes: 0, not_before: Moment::new(Duration::ZERO) }
    }

    /// The earliest moment for the next call.
    pub(super) fn not_before(&self) -> Moment {
        self.not_before
    }

    /// A read was answered.
    pub(super) fn read_succeeded(&mut self) {
        self.failed_reads = 0;
    }

    /// A read failed.
    pub(super) fn read_failed(&mut self, now: Moment) {
        self.failed_reads = self.failed_reads.saturating_add(1);
        self.pause(now, self.failed_reads);
    }

    /// A write was done, or there is no point in more of the kind that failed.
    pub(super) fn writes_are_fine(&mut self) {
        self.failed_writes = 0;
    }

    /// A write failed.
    pub(super) fn write_failed(&mut self, now: Moment) {
        self.failed_writes = self.failed_writes.saturating_add(1);
        self.pause(now, self.failed_writes);
    }

    /// A write came too late. Once that is routine; again and again it is somebody who never stops writing.
    pub(super) fn write_conflicted(&mut self, now: Moment) {
        self.pause(now, self.failed_writes);
        self.failed_writes = self.failed_writes.saturating_add(1);
    }

    /// The watch asks for a read; the one before was then.
    pub(super) fn rung(&mut self, last_read: Option<Moment>) {
        if let Some(read) = last_read {
            self.not_before = self.not_before.max(read + RING_SPACING);
        }
    }

    fn pause(&mut self, now: Moment, failures: u32) {
        let Some(doublings) = failures.checked_sub(1) else { return };
        let longest = MIN_PAUSE.saturating_mul(1 << doublings.min(8)).min(MAX_PAUSE);
        self.not_before = now + longest.mul_f64(0.5 + self.random.f64() / 2.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_with_jitter() {
        let now = Moment::new(Duration::from_secs(100));
        let mut pace = Pace::new(1);
        let mut longest = MIN_PAUSE;
        for _ in 0..40 {
            pace.write_failed(now);
            assert!(pace.not_before() <= now + longest && pace.not_before() >= now + longest / 2);
            longest = (longest * 2).min(MAX_PAUSE);
        }
        pace.writes_are_fine();
        pace.write_failed(now);
        assert!(pace.not_before() <= now + MIN_PAUSE);
    }

    #[test]
    fn only_the_second_conflict_in_a_row_costs_a_pause() {
        let now = Moment::new(Duration::from_secs(100));
        let mut pace = Pace::new(1);
        pace.write_conflicted(now);
        assert!(pace.not_before() <= now);
        pace.write_conflicted(now);
        assert!(pace.not_before() >= now + MIN_PAUSE / 2);
    }
}
