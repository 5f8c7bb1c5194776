//! Which Agents are to be reconciled, and when: pure.
//!
//! Owns the order of work. Each Agent is in it at most once, so it is bounded by their number; one that is being
//! worked on is not given out a second time. Never waits and knows no clock: every call brings the time.
//!
//! 1. [`Queue::add`] asks for an Agent, at the earlier of two times if it is there already.
//! 2. [`Queue::pop`] gives one that is due and marks it as being worked on.
//! 3. [`Queue::finish`] gives it back: done, to be looked at again later, or failed, to be tried again after a
//!    pause that doubles.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::object::ObjectId;

/// The pause after a first failure.
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// The longest pause after failures: how long the end of an outage may go unnoticed.
const LAST_RETRY: Duration = Duration::from_secs(30);

/// A change does not make an Agent that fails run sooner than this after the failure: its own half-done work is seen
/// as a change too, and would drive it round without a pause.
const SETTLE: Duration = Duration::from_millis(500);

/// Work to do.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: BTreeSet<(Instant, ObjectId)>,
    /// When each waiting Agent is due; the same as in `waiting`.
    due: HashMap<ObjectId, Instant>,
    /// Being worked on, with the time that it was asked for meanwhile.
    working: HashMap<ObjectId, Option<Instant>>,
    failing: HashMap<ObjectId, Failing>,
}

#[derive(Debug, Clone, Copy)]
struct Failing {
    /// Failures in a row, at least 1.
    count: u32,
    not_before: Instant,
}

/// How the work on an Agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finished {
    /// Nothing is to be done before something changes, or before this time has passed.
    Done(Option<Duration>),
    /// It has to be tried again.
    Failed,
}

// === impl Queue ===

impl Queue {
    /// Asks for `agent`, not before `at`.
    pub(crate) fn add(&mut self, agent: ObjectId, at: Instant) {
        if let Some(asked) = self.working.get_mut(&agent) {
            *asked = Some(asked.map_or(at, |before| before.min(at)));
            return;
        }
        let at = self.failing.get(&agent).map_or(at, |failing| at.max(failing.not_before));
        match self.due.get(&agent) {
            Some(before) if *before <= at => return,
            Some(before) => self.waiting.remove(&(*before, agent.clone())),
            None => false,
        };
        self.due.insert(agent.clone(), at);
        self.waiting.insert((at, agent));
    }

    /// The Agent that is due the longest, now being worked on.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<ObjectId> {
        let (at, _) = self.waiting.first()?;
        if *at > now {
            return None;
        }
        let (_, agent) = self.waiting.pop_first()?;
        self.due.remove(&agent);
        self.working.insert(agent.clone(), None);
        Some(agent)
    }

    /// The work on `agent` has ended. `jitter` is from 0 to 1.
    pub(crate) fn finish(&mut self, agent: &ObjectId, finished: Finished, now: Instant, jitter: f64) {
        let asked = self.working.remove(agent).flatten();
        let next = match finished {
            Finished::Done(again) => {
                self.failing.remove(agent);
                again.map(|pause| now + pause)
            }
            Finished::Failed => Some(now + self.count_failure(agent, now, jitter)),
        };
        for at in [asked, next].into_iter().flatten() {
            self.add(agent.clone(), at);
        }
    }

    /// When the next Agent is due; `None` if none waits.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.waiting.first().map(|(at, _)| *at)
    }

    /// How many wait, and how many of all fail.
    pub(crate) fn depth(&self) -> (usize, usize) {
        (self.waiting.len(), self.failing.len())
    }

    /// Nothing is remembered of `agent`, which is gone.
    pub(crate) fn forget(&mut self, agent: &ObjectId) {
        self.failing.remove(agent);
        if let Some(at) = self.due.remove(agent) {
            self.waiting.remove(&(at, agent.clone()));
        }
    }

    fn count_failure(&mut self, agent: &ObjectId, now: Instant, jitter: f64) -> Duration {
        let count = self.failing.get(agent).map_or(0, |failing| failing.count).saturating_add(1);
        self.failing.insert(agent.clone(), Failing { count, not_before: now + SETTLE });
        let longest = FIRST_RETRY.saturating_mul(1 << (count - 1).min(10)).min(LAST_RETRY);
        longest.mul_f64(0.5 + jitter / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> ObjectId {
        ObjectId::new("ns", name)
    }

    const DONE: Finished = Finished::Done(None);

    #[test]
    fn an_agent_is_given_out_once_and_again_only_if_asked_for_meanwhile() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(id("a"), now);
        queue.add(id("a"), now);
        assert_eq!(queue.pop(now), Some(id("a")));
        assert_eq!(queue.pop(now), None);
        queue.add(id("a"), now);
        assert_eq!(queue.pop(now), None, "it is being worked on");
        queue.finish(&id("a"), DONE, now, 0.5);
        assert_eq!(queue.pop(now), Some(id("a")));
        queue.finish(&id("a"), DONE, now, 0.5);
        assert_eq!((queue.pop(now), queue.next_due()), (None, None));
    }

    #[test]
    fn the_earlier_of_two_times_counts() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let (soon, late) = (now + Duration::from_secs(1), now + Duration::from_secs(9));
        queue.add(id("a"), late);
        queue.add(id("a"), soon);
        queue.add(id("a"), late);
        assert_eq!((queue.pop(now), queue.next_due()), (None, Some(soon)));
        assert_eq!(queue.pop(soon), Some(id("a")));
        queue.finish(&id("a"), Finished::Done(Some(Duration::from_mins(1))), soon, 0.5);
        assert_eq!(queue.next_due(), Some(soon + Duration::from_mins(1)));
    }

    #[test]
    fn failures_pause_longer_and_longer_and_a_change_does_not_drive_them_round() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        let mut pauses = Vec::new();
        queue.add(id("a"), now);
        for _ in 0..9 {
            assert_eq!(queue.pop(now), Some(id("a")));
            // What it wrote before it failed comes back as a change.
            queue.add(id("b"), now);
            queue.finish(&id("a"), Finished::Failed, now, 1.0);
            let due = queue.due[&id("a")];
            pauses.push((due - now).as_millis());
            assert_eq!(queue.pop(now), Some(id("b")));
            queue.finish(&id("b"), DONE, now, 1.0);
            now = due;
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);

        queue.pop(now);
        queue.finish(&id("a"), Finished::Failed, now, 1.0);
        queue.add(id("a"), now);
        assert_eq!(queue.next_due(), Some(now + SETTLE), "a change brings it forward, but not to now");
        assert_eq!(queue.depth(), (1, 1));

        now += SETTLE;
        queue.pop(now);
        queue.finish(&id("a"), DONE, now, 1.0);
        queue.add(id("a"), now);
        assert_eq!(queue.next_due(), Some(now), "a success clears it");
    }

    #[test]
    fn nothing_is_kept_of_what_is_gone() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(id("a"), now);
        queue.pop(now);
        queue.finish(&id("a"), Finished::Failed, now, 0.0);
        queue.forget(&id("a"));
        assert_eq!((queue.depth(), queue.next_due()), ((0, 0), None));
        assert!(queue.due.is_empty() && queue.working.is_empty());
    }
}
