//! Whether the gateway may be sent traffic: said, never inferred.
//!
//! Each part that must be up registers a condition at the start and says itself when it holds. A part that ends,
//! for whatever reason, drops its [`Condition`], and with that the gateway is not ready: no answer is "ready" only
//! because nobody objected.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use arc_swap::ArcSwap;

/// Reads the conditions. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Shared>);

/// One condition, held by the part that it depends on.
#[derive(Debug)]
pub struct Condition(Arc<Named>);

/// How a condition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionState {
    /// Not said yet, or taken back.
    Waiting,
    /// It holds.
    Ready,
    /// The part that it depends on has ended.
    Gone,
}

#[derive(Debug, Default)]
struct Shared {
    conditions: ArcSwap<Vec<Arc<Named>>>,
    draining: AtomicBool,
}

#[derive(Debug)]
struct Named {
    name: &'static str,
    /// A [`ConditionState`].
    state: AtomicU8,
}

// === impl Readiness ===

impl Readiness {
    /// Adds a condition that does not hold yet.
    pub fn register(&self, name: &'static str) -> Condition {
        let named = Arc::new(Named { name, state: AtomicU8::new(ConditionState::Waiting as u8) });
        self.0.conditions.rcu(|conditions| {
            let mut conditions = Vec::clone(conditions);
            conditions.push(Arc::clone(&named));
            conditions
        });
        Condition(named)
    }

    /// Says that the gateway is about to stop. Cannot be taken back.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    /// Whether the gateway is about to stop.
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    /// Whether there are conditions, all of them hold, and the gateway is not about to stop.
    pub fn is_ready(&self) -> bool {
        let conditions = self.0.conditions.load();
        let hold = conditions.iter().all(|named| named.state() == ConditionState::Ready);
        !self.is_draining() && !conditions.is_empty() && hold
    }

    /// Every condition and how it stands, in the order of their registration.
    pub fn conditions(&self) -> Vec<(&'static str, ConditionState)> {
        self.0.conditions.load().iter().map(|named| (named.name, named.state())).collect()
    }
}

// === impl Condition ===

impl Condition {
    /// Says whether it holds.
    pub fn set(&self, holds: bool) {
        self.0.set(if holds { ConditionState::Ready } else { ConditionState::Waiting });
    }
}

impl Drop for Condition {
    fn drop(&mut self) {
        self.0.set(ConditionState::Gone);
    }
}

// === impl ConditionState ===

impl ConditionState {
    /// As `/readyz?verbose` spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Gone => "gone",
        }
    }
}

// === impl Named ===

impl Named {
    fn state(&self) -> ConditionState {
        match self.state.load(Ordering::Acquire) {
            state if state == ConditionState::Ready as u8 => ConditionState::Ready,
            state if state == ConditionState::Waiting as u8 => ConditionState::Waiting,
            _ => ConditionState::Gone,
        }
    }

    fn set(&self, state: ConditionState) {
        self.state.store(state as u8, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_what_all_have_said() {
        let readiness = Readiness::default();
        assert!(!readiness.is_ready(), "nobody has said anything");
        let (listener, table) = (readiness.register("listener"), readiness.register("table"));
        listener.set(true);
        assert!(!readiness.is_ready());
        table.set(true);
        assert!(readiness.is_ready());
        table.set(false);
        assert!(!readiness.is_ready());
        let expected = [("listener", ConditionState::Ready), ("table", ConditionState::Waiting)];
        assert_eq!(readiness.conditions(), expected);
    }

    #[test]
    fn a_part_that_ended_is_not_ready() {
        let readiness = Readiness::default();
        let condition = readiness.register("listener");
        condition.set(true);
        drop(condition);
        assert!(!readiness.is_ready());
        assert_eq!(readiness.conditions(), [("listener", ConditionState::Gone)]);
    }

    #[test]
    fn a_gateway_that_is_about_to_stop_is_not_ready() {
        let readiness = Readiness::default();
        let condition = readiness.register("listener");
        condition.set(true);
        readiness.drain();
        assert!(!readiness.is_ready());
        assert!(readiness.is_draining());
    }
}
