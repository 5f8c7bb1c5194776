//! A histogram that is counted without a lock: a call adds to three atomics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds in milliseconds, up to an hour: agents work for long. They hold those of the Go system from 25 ms
/// to 10 s, so that its dashboards read on.
const BOUNDS_MS: [u64; 18] = [
    1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 900_000,
    1_800_000, 3_600_000,
];

/// Durations, by how long they are.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    /// One for each bound, and one for what is above them all.
    buckets: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_us: AtomicU64,
}

/// A histogram at one moment.
pub(super) struct Observed {
    /// Upper bound in seconds and how many are in this bucket alone.
    pub(super) buckets: Vec<(f64, u64)>,
    /// All of them.
    pub(super) count: u64,
    /// All durations together, in seconds.
    pub(super) sum_seconds: f64,
}

// === impl Histogram ===

impl Histogram {
    /// Counts one.
    pub(super) fn observe(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MS.partition_point(|bound| bound * 1000 < us);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// What was counted. The count is that of the buckets, so that they agree while calls go on.
    pub(super) fn read(&self) -> Observed {
        let seconds = |ms: u64| Duration::from_millis(ms).as_secs_f64();
        let bounds = BOUNDS_MS.into_iter().map(seconds).chain([f64::INFINITY]);
        let counts = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let buckets: Vec<_> = bounds.zip(counts).collect();
        Observed {
            count: buckets.iter().map(|(_, count)| count).sum(),
            sum_seconds: Duration::from_micros(self.sum_us.load(Ordering::Relaxed)).as_secs_f64(),
            buckets,
        }
    }
}
