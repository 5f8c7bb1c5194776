//! When the calls of an open loop are due.
//!
//! Owns the arithmetic. Never looks at a clock.

/// A call a thousand times in a second is 1,000,000: rates are kept in thousandths, so that times are exact.
const NANOS_PER_KILOSECOND: u128 = 1_000_000_000_000;

/// The arrivals that one thread serves: every `step`-th of a series that is even but for its places within their gaps.
/// Even altogether, a rate such as 2,000 would come in step with the kernel's clock tick, which tells then where a
/// process always is at one point of a call instead of where it spends its time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    start_ns: u64,
    /// Calls in a thousand seconds, over all threads.
    per_kilosecond: u64,
    first: u64,
    step: u64,
}

// === impl Schedule ===

impl Schedule {
    /// The share of thread `thread` of `threads` in `per_kilosecond` calls in a thousand seconds. The first gap
    /// begins at `start_ns`. Must not be 0: `per_kilosecond`, `threads`.
    #[must_use]
    pub(super) fn new(start_ns: u64, per_kilosecond: u64, thread: usize, threads: usize) -> Self {
        Self {
            start_ns,
            per_kilosecond: per_kilosecond.max(1),
            first: thread as u64,
            step: threads.max(1) as u64,
        }
    }

    /// When this thread's arrival `n` is due, in nanoseconds of the same clock as the start.
    #[must_use]
    pub(super) fn at(&self, n: u64) -> u64 {
        let overall = self.first.saturating_add(n.saturating_mul(self.step));
        // Always the same for the same arrival: the time of one is asked for more than once.
        let place = fastrand::Rng::with_seed(overall).u32(..);
        let gaps = (u128::from(overall) << 32) + u128::from(place);
        let after = (gaps * NANOS_PER_KILOSECOND / u128::from(self.per_kilosecond)) >> 32;
        self.start_ns.saturating_add(u64::try_from(after).unwrap_or(u64::MAX))
    }

    /// How many arrivals of this thread are due before `time_ns`.
    #[must_use]
    pub(super) fn before(&self, time_ns: u64) -> u64 {
        let (mut low, mut high) = (0, 1);
        while self.at(high) < time_ns {
            high *= 2;
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if self.at(middle) < time_ns { low = middle + 1 } else { high = middle }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn threads_share_a_series_with_an_arrival_in_each_gap() {
        let shares = [0, 1, 2].map(|thread| Schedule::new(5, 3_000_000, thread, 3));
        let mut times: Vec<u64> = shares.iter().flat_map(|share| (0..400).map(|n| share.at(n))).collect();
        times.sort_unstable();
        let gaps: Vec<u64> = times.iter().map(|time| (time - 5) * 3000 / SECOND).collect();
        assert_eq!(gaps, (0..1200).collect::<Vec<_>>());
    }

    #[test]
    fn no_point_of_the_clock_tick_is_preferred() {
        let schedule = Schedule::new(0, 2_000_000, 0, 1);
        // Every gap is an eighth of a tick of 4 ms.
        let mut eighths = [0_u32; 8];
        for n in 0..8000 {
            eighths[usize::try_from(schedule.at(n) % (SECOND / 2000) * 8 / (SECOND / 2000)).unwrap()] += 1;
        }
        assert!(eighths.iter().all(|count| (850..1150).contains(count)), "{eighths:?}");
    }

    #[test]
    fn the_millionth_is_in_its_gap() {
        let at = Schedule::new(0, 3_000_000, 0, 1).at(3_000_000);
        assert!((1000 * SECOND..1000 * SECOND + SECOND / 3000).contains(&at), "{at}");
    }

    #[test]
    fn a_window_holds_exactly_its_calls() {
        for threads in 1..5 {
            let due =
                |time| (0..threads).map(|n| Schedule::new(9, 777_000, n, threads).before(time)).sum::<u64>();
            assert_eq!(due(9), 0);
            assert_eq!(due(9 + SECOND / 777 + 1), 1);
            assert_eq!(due(9 + 10 * SECOND) - due(9 + 2 * SECOND), 777 * 8);
        }
    }
}
