//! What is remembered of one Agent while this controller leads. Nothing of it outlives the term: the next leader finds
//! it in the cluster, or does without.

use std::time::Duration;

use krypton_crd::AgentStatus;
use tokio::time::Instant;

use super::children::Known;
use super::live::is_newer;
use crate::status::Wrote;

/// What is remembered of one Agent.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    /// The Agent that this is about: one of the same name that comes later has another.
    uid: String,
    /// The size that was decided; `None` before the first look.
    pub(crate) size: Option<u32>,
    pub(crate) service_account: Known,
    pub(crate) service: Known,
    pub(crate) deployment: Known,
    pub(crate) status: StatusMemory,
    /// What was written to the Deployment and is in no status yet.
    pub(crate) wrote: Wrote,
    /// Whether the last look failed.
    pub(crate) failing: bool,
    /// The newest generation that was met, and when.
    generation: Option<(i64, Instant)>,
}

/// The status as we wrote it.
#[derive(Debug, Clone, Default)]
pub(crate) struct StatusMemory {
    /// Status, `resourceVersion` of the Agent after it, and when.
    written: Option<(AgentStatus, String, Instant)>,
}

// === impl Memory ===

impl Default for Memory {
    fn default() -> Self {
        Self {
            uid: String::new(),
            size: None,
            service_account: Known::default(),
            service: Known::default(),
            deployment: Known::default(),
            status: StatusMemory::default(),
            wrote: Wrote::Nothing,
            failing: false,
            generation: None,
        }
    }
}

impl Memory {
    /// Forgets all that is about another Agent than that with `uid`.
    pub(crate) fn of(self, uid: &str) -> Self {
        if self.uid == uid { self } else { Self { uid: uid.to_owned(), ..Self::default() } }
    }

    /// Takes note of the Agent's generation.
    pub(crate) fn meet(&mut self, generation: i64, now: Instant) {
        if self.generation.is_none_or(|(known, _)| known != generation) {
            self.generation = Some((generation, now));
        }
    }

    /// How long the generation has been known.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        self.generation.map_or(Duration::ZERO, |(_, since)| now.duration_since(since))
    }
}

// === impl StatusMemory ===

impl StatusMemory {
    /// The status of an Agent that the watch shows at `version` with the status `seen`.
    pub(crate) fn current<'a>(
        &'a self,
        seen: Option<&'a AgentStatus>,
        version: &str,
    ) -> Option<&'a AgentStatus> {
        match &self.written {
            Some((written, at_version, _)) if is_newer(at_version, version) => Some(written),
            _ => seen,
        }
    }

    /// `status` was written, and made the Agent's `version`.
    pub(crate) fn wrote(&mut self, status: AgentStatus, version: &str, now: Instant) {
        self.written = Some((status, version.to_owned(), now));
    }

    /// When a status was last written.
    pub(crate) fn last_write(&self) -> Option<Instant> {
        self.written.as_ref().map(|(_, _, at)| *at)
    }

    /// Whether exactly `status` was written before: who changes it back is another controller.
    pub(crate) fn is_written(&self, status: &AgentStatus) -> bool {
        self.written.as_ref().is_some_and(|(written, _, _)| written == status)
    }
}
