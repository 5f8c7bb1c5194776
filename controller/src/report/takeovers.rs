//! Gateways of one name that push each other out: pure, with the time given.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::seldom::TELL_AGAIN;

/// How soon a second takeover follows the first where two gateways have one name: each comes back within the 15 s that a
/// gateway pauses at most.
const SOON: Duration = Duration::from_secs(20);

/// Names that are remembered: as many as there may be gateways by default.
const CAPACITY: usize = 1_000;

/// When a stream of a name was last pushed out, and when that was last told.
#[derive(Debug, Default)]
pub(super) struct Takeovers(HashMap<String, Seen>);

#[derive(Debug)]
struct Seen {
    last: Instant,
    told: Option<Instant>,
}

// === impl Takeovers ===

impl Takeovers {
    /// Takes in that a stream of `node` was pushed out at `now`. Whether the log is to be told: not of a first one, which
    /// a gateway that reconnects causes too, and once a minute of a name.
    pub(super) fn note(&mut self, node: &str, now: Instant) -> bool {
        if self.0.len() >= CAPACITY && !self.0.contains_key(node) {
            self.0.retain(|_, seen| now.saturating_duration_since(seen.last) < TELL_AGAIN);
            if self.0.len() >= CAPACITY {
                return false;
            }
        }
        let Some(seen) = self.0.get_mut(node) else {
            self.0.insert(node.to_owned(), Seen { last: now, told: None });
            return false;
        };
        let is_again = now.saturating_duration_since(seen.last) < SOON;
        seen.last = now;
        let is_due =
            is_again && seen.told.is_none_or(|told| now.saturating_duration_since(told) >= TELL_AGAIN);
        if is_due {
            seen.told = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_of_a_name_are_told_of_once_a_minute_and_one_that_reconnects_is_not() {
        let (mut takeovers, start) = (Takeovers::default(), Instant::now());
        let mut told = |node, at| takeovers.note(node, start + Duration::from_secs(at));
        assert!(!told("alone", 0) && !told("alone", 300));
        assert!(!told("two", 0) && told("two", 1));
        assert!((2..60).all(|at| !told("two", at)));
        assert!(told("two", 61));
        assert!(!told("other", 61));
    }

    #[test]
    fn names_are_bounded_in_number() {
        let (mut takeovers, start) = (Takeovers::default(), Instant::now());
        for number in 0..2 * CAPACITY {
            takeovers.note(&number.to_string(), start);
        }
        assert_eq!(takeovers.0.len(), CAPACITY);
        takeovers.note("late", start + TELL_AGAIN);
        assert_eq!(takeovers.0.len(), 1);
    }
}
