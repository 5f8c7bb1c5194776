//! Lines of the log that anybody who can connect may cause: each kind is written once a minute at most.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Between two lines of one kind: often enough to be seen, and too seldom to fill a disk.
pub(crate) const TELL_AGAIN: Duration = Duration::from_mins(1);

/// When each kind was last told of. The kinds are few: nobody else's text is one. All clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Seldom<K>(watch::Sender<HashMap<K, Instant>>);

// === impl Seldom ===

impl<K> Default for Seldom<K> {
    fn default() -> Self {
        Self(watch::Sender::new(HashMap::new()))
    }
}

impl<K: Eq + Hash> Seldom<K> {
    /// Whether the log is to be told of `kind` at `now`. If so, it counts as told.
    pub(crate) fn is_due(&self, kind: K, now: Instant) -> bool {
        let mut is_due = false;
        self.0.send_if_modified(|told| {
            is_due = told.get(&kind).is_none_or(|told| now >= *told + TELL_AGAIN);
            if is_due {
                told.insert(kind, now);
            }
            false
        });
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_once_a_minute() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        let soon = start + TELL_AGAIN.mul_f64(0.9);
        assert!(seldom.is_due("a", start) && seldom.is_due("b", soon));
        assert!(!seldom.is_due("a", soon) && !seldom.clone().is_due("b", soon + TELL_AGAIN / 2));
        assert!(seldom.is_due("a", start + TELL_AGAIN));
    }
}
