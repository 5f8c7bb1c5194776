//! How long to wait before the next try.

use std::time::Duration;

/// The first pause: a controller that restarts in place is back at once.
const FIRST: Duration = Duration::from_millis(10);

/// The longest pause: how late a gateway may notice that the controller is back.
const LONGEST: Duration = Duration::from_secs(15);

/// A stream that ends sooner was of no use: a controller that fails on each must not be asked a hundred times a
/// second.
const STABLE: Duration = Duration::from_secs(1);

/// Pauses that double, each somewhere in its upper half, so that the gateways of one controller do not all come
/// back in the same moment.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    rng: fastrand::Rng,
}

// === impl Backoff ===

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST, rng: fastrand::Rng::new() }
    }
}

impl Backoff {
    /// The pause after a stream that was of use for this long, `None` where it never was. It begins
    /// anew after one that was so for a while.
    pub(crate) fn next(&mut self, served: Option<Duration>) -> Duration {
        if served.is_some_and(|served| served >= STABLE) {
            self.next = FIRST;
        }
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST);
        pause.mul_f64(self.rng.f64().mul_add(0.5, 0.5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let mut expected = 10;
        for _ in 0..20 {
            let pause = backoff.next(None);
            let upper = Duration::from_millis(expected.min(15_000));
            assert!(pause >= upper / 2 && pause <= upper, "{pause:?} of {upper:?}");
            expected *= 2;
        }
        assert!(backoff.next(Some(Duration::from_millis(999))) > FIRST);
        assert!(backoff.next(Some(STABLE)) <= FIRST);
    }

    #[test]
    fn two_gateways_do_not_wait_alike() {
        let pauses = |seed| {
            let mut backoff = Backoff { next: LONGEST, rng: fastrand::Rng::with_seed(seed) };
            [backoff.next(None), backoff.next(None)]
        };
        assert_ne!(pauses(1), pauses(2));
    }
}
