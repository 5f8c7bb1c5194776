//! One term of leadership, as those see it who work under it.
//!
//! Owns the promise between the election and the leader's tasks: [`Term::token`] is cancelled the moment the term
//! ends, and the Lease is given away only when every [`Hold`] is gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::metrics::Metrics;

/// What this controller knows of leadership. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Leadership {
    /// The term in which this controller leads; unset while it does not.
    pub term: watch::Receiver<Option<Term>>,
    /// Whether this controller leads: whether there is a term.
    pub leading: watch::Receiver<bool>,
    /// Where the leader is reached, as `host:port`, be it this controller or another. Unset while no leader is
    /// known, or none that says where.
    pub address: watch::Receiver<Option<String>>,
}

/// A term in which this controller leads. Cheap to clone.
///
/// A call made under it must not wait for longer than [`Term::remaining`]: a term ends 3 s before the Lease runs out,
/// and Kubernetes does not refuse a late write for its term.
#[derive(Debug, Clone)]
pub struct Term {
    number: i32,
    token: CancellationToken,
    until: watch::Receiver<Instant>,
    tasks: TaskTracker,
}

/// Keeps the Lease from being given away. Whatever writes under a term holds one, spawned tasks too: that a task is
/// aborted does not mean that it has ended.
#[derive(Debug)]
pub struct Hold {
    _tasks: TaskTrackerToken,
}

/// Tells everyone of terms and leaders.
#[derive(Debug)]
pub(super) struct Publisher {
    term: watch::Sender<Option<Term>>,
    leading: watch::Sender<bool>,
    address: watch::Sender<Option<String>>,
    metrics: Arc<Metrics>,
    reign: Option<Reign>,
}

/// The election's side of a term.
#[derive(Debug)]
struct Reign {
    term: Term,
    until: watch::Sender<Instant>,
}

// === impl Leadership ===

impl Leadership {
    /// Runs `work` in each term: from its beginning until it returns or the term ends, then waits for the next.
    /// Returns when there is no election any more.
    pub async fn in_each_term<F: Future>(&self, mut work: impl FnMut(Term) -> F) {
        let mut terms = self.term.clone();
        let mut last = None;
        loop {
            // Not again in the same term: work that returns has done what there was to do.
            let fresh =
                terms.wait_for(|term| term.as_ref().is_some_and(|term| Some(term.number) != last)).await;
            let Some(term) = fresh.ok().and_then(|term| term.clone()) else { return };
            last = Some(term.number);
            term.run(work(term.clone())).await;
        }
    }
}

// === impl Term ===

impl Term {
    /// Differs from that of every other term; greater than those before unless the Lease was made anew.
    #[must_use]
    pub fn number(&self) -> i32 {
        self.number
    }

    /// Cancelled when the term ends, and never before.
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Leave to work under this term; `None` if it has ended.
    #[must_use]
    pub fn hold(&self) -> Option<Hold> {
        // In this order: the election cancels first and counts then.
        let hold = Hold { _tasks: self.tasks.token() };
        (!self.token.is_cancelled()).then_some(hold)
    }

    /// For how long the term is sure to last; zero once it has ended. It grows with each renewal.
    ///
    /// A process that was stopped for a while may run its tasks before the election notices that its time is up:
    /// who asks right before a write does not write then.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        if self.token.is_cancelled() {
            return Duration::ZERO;
        }
        self.until.borrow().saturating_duration_since(Instant::now())
    }

    /// Runs `work` until it returns or the term ends; `None` if that came first.
    pub async fn run<F: Future>(&self, work: F) -> Option<F::Output> {
        let _hold = self.hold()?;
        tokio::select! {
            biased;
            () = self.token.cancelled() => None,
            output = work => Some(output),
        }
    }
}

// === impl Publisher ===

impl Publisher {
    /// Tells of no leader yet.
    pub(super) fn new(metrics: Arc<Metrics>) -> (Self, Leadership) {
        let (term, terms) = watch::channel(None);
        let (leading, leads) = watch::channel(false);
        let (address, addresses) = watch::channel(None);
        let leadership = Leadership { term: terms, leading: leads, address: addresses };
        (Self { term, leading, address, metrics, reign: None }, leadership)
    }

    /// This controller leads in the term `number`, for sure until then.
    pub(super) fn leads(&mut self, number: i32, until: Instant) {
        if let Some(reign) = &self.reign {
            reign.until.send_if_modified(|known| std::mem::replace(known, until) != until);
            return;
        }
        let (until, known) = watch::channel(until);
        let tasks = TaskTracker::new();
        tasks.close();
        let term = Term { number, token: CancellationToken::new(), until: known, tasks };
        self.term.send_replace(Some(term.clone()));
        self.leading.send_replace(true);
        self.metrics.set_leader(true);
        self.reign = Some(Reign { term, until });
    }

    /// This controller does not lead any more, if it did. Its tasks are told so before this returns.
    pub(super) fn ends(&self) {
        if let Some(reign) = self.reign.as_ref().filter(|reign| !reign.term.token.is_cancelled()) {
            reign.term.token.cancel();
            self.term.send_replace(None);
            self.leading.send_replace(false);
            self.metrics.set_leader(false);
        }
    }

    /// Returns when all tasks of the term that ended are over.
    pub(super) async fn tasks_ended(&mut self) {
        if let Some(reign) = &self.reign {
            reign.term.tasks.wait().await;
        }
        self.reign = None;
    }

    /// The leader is reached there.
    pub(super) fn set_address(&self, address: Option<&str>) {
        self.address.send_if_modified(|known| {
            let differs = known.as_deref() != address;
            if differs {
                *known = address.map(str::to_owned);
            }
            differs
        });
    }
}

impl Drop for Publisher {
    /// Nobody works under an election that is gone.
    fn drop(&mut self) {
        self.ends();
    }
}
