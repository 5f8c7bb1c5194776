//! All connections first, then the load.
//!
//! Owns: how many connections of a thread are made at the same time, and when all have been tried. Never connects.

use std::cell::Cell;
use std::future::Future;

use tokio::sync::{Notify, Semaphore};

use super::failure::Failure;

/// Connections that a thread makes at the same time: fewer than a listener keeps in its queue (net.core.somaxconn,
/// 4096, shared by some threads).
const AT_ONCE: usize = 128;

/// What came of the connections of a thread.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Opened {
    /// Those that were made.
    pub(super) made: usize,
    /// Those that were not.
    pub(super) failed: usize,
    /// Why the first of these was not.
    pub(super) why: Option<Failure>,
}

/// Where the lanes of a thread pass once each.
#[derive(Debug)]
pub(super) struct Gate {
    lanes: usize,
    permits: Semaphore,
    opened: Cell<Opened>,
    last: Notify,
}

// === impl Gate ===

impl Gate {
    /// For so many lanes.
    #[must_use]
    pub(super) fn new(lanes: usize) -> Self {
        Self { lanes, permits: Semaphore::new(AT_ONCE), opened: Cell::default(), last: Notify::new() }
    }

    /// Does `open` when not too many others are at it.
    ///
    /// # Panics
    /// Never: the semaphore is not closed.
    pub(super) async fn pass<T>(&self, open: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let permit = self.permits.acquire().await.expect("it is never closed");
        let outcome = open.await;
        drop(permit);
        let mut opened = self.opened.get();
        match outcome {
            Ok(_) => opened.made += 1,
            Err(failure) => {
                opened.failed += 1;
                opened.why.get_or_insert(failure);
            }
        }
        self.opened.set(opened);
        if opened.made + opened.failed == self.lanes {
            self.last.notify_one();
        }
        outcome
    }

    /// Waits until all have passed.
    pub(super) async fn all(&self) -> Opened {
        self.last.notified().await;
        self.opened.get()
    }
}

// === impl Opened ===

impl Opened {
    /// Both together.
    #[must_use]
    pub(super) fn and(self, other: Self) -> Self {
        Self { made: self.made + other.made, failed: self.failed + other.failed, why: self.why.or(other.why) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_one_opens_it() {
        let gate = Gate::new(3);
        let pass = |outcome| gate.pass(async move { outcome });
        let (opened, ..) =
            tokio::join!(gate.all(), pass(Ok(())), pass(Err(Failure::Connect)), pass(Err(Failure::Reset)));
        assert_eq!((opened.made, opened.failed, opened.why), (1, 2, Some(Failure::Connect)));
        assert_eq!(opened.and(opened).failed, 4);
    }
}
