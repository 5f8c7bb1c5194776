//! When each Agent was last called, as far as gateways told.

use std::collections::{BTreeSet, HashMap};
use std::time::SystemTime;

use krypton_discovery::AgentKey;

/// The newest call of each Agent.
#[derive(Debug, Default)]
pub(super) struct Calls {
    last: HashMap<AgentKey, SystemTime>,
    /// Agents with a newer call than when they were last asked for.
    called: BTreeSet<AgentKey>,
}

// === impl Calls ===

impl Calls {
    /// A call of `key` ended at about `at`, by our clock.
    pub(super) fn note(&mut self, key: &AgentKey, at: SystemTime) {
        if self.last.get(key).is_none_or(|last| *last < at) {
            self.last.insert(key.clone(), at);
            self.called.insert(key.clone());
        }
    }

    /// When a call of `key` last ended; `None` where no gateway told of one.
    pub(super) fn last(&self, key: &AgentKey) -> Option<SystemTime> {
        self.last.get(key).copied()
    }

    /// The Agents with calls since this was last called, each once.
    pub(super) fn take_called(&mut self) -> BTreeSet<AgentKey> {
        std::mem::take(&mut self.called)
    }

    /// How many Agents are known to have been called.
    pub(super) fn len(&self) -> usize {
        self.last.len()
    }

    /// The Agent is gone.
    pub(super) fn forget(&mut self, key: &AgentKey) {
        self.last.remove(key);
        self.called.remove(key);
    }
}
