//! What is remembered of one Agent while this controller leads. Nothing of it outlives the term: the next leader finds
//! it in the cluster, or does without.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use krypton_crd::AgentStatus;
use tokio::time::Instant;

use super::children::Known;
use super::live::is_newer;
use crate::status::events::{AgentEvent, EventReason};
use crate::status::{Wrote, silence};

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
    /// When the Go controller's finalizer was last taken away.
    pub(crate) finalizer_dropped: Option<Instant>,
    /// Whether the last look failed.
    pub(crate) failing: bool,
    /// The warning about the ingress that holds and was told; empty: none. Kept while `Accepted` is lost, so that it is
    /// not told again after.
    warned: String,
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
            finalizer_dropped: None,
            failing: false,
            warned: String::new(),
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

    /// `events` of the change to `after`, without a warning that was told and still holds.
    pub(crate) fn not_told_twice(
        &mut self,
        after: Option<&AgentStatus>,
        mut events: Vec<AgentEvent>,
    ) -> Vec<AgentEvent> {
        events
            .retain(|event| event.reason != EventReason::TimeoutReachesIngress || event.note != self.warned);
        if let Some(said) = after.and_then(silence::behind_accepted)
            && said != self.warned
        {
            said.clone_into(&mut self.warned);
        }
        events
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

    /// Whether a status of `generation` was written.
    pub(crate) fn has_told(&self, generation: i64) -> bool {
        self.written.as_ref().is_some_and(|(written, _, _)| written.observed_generation == Some(generation))
    }

    /// When a status was last written.
    pub(crate) fn last_write(&self) -> Option<Instant> {
        self.written.as_ref().map(|(_, _, at)| *at)
    }

    /// Whether what `status` says was written before, and is not what the Agent has now, `current`: somebody else
    /// writes the status too. Times are worked out anew from what that one left, and say nothing.
    pub(crate) fn is_undone(&self, current: Option<&AgentStatus>, status: &AgentStatus) -> bool {
        let wanted = without_times(status);
        let written = self.written.as_ref().is_some_and(|(written, _, _)| without_times(written) == wanted);
        written && current.is_none_or(|current| without_times(current) != wanted)
    }
}

fn without_times(status: &AgentStatus) -> AgentStatus {
    let mut status = AgentStatus { last_invocation_at: None, ..status.clone() };
    for condition in &mut status.conditions {
        condition.last_transition_time = Time(Timestamp::UNIX_EPOCH);
    }
    status
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

    use super::*;

    fn status(reason: &str, since: i64) -> AgentStatus {
        let condition = Condition {
            type_: "Ready".to_owned(),
            status: "True".to_owned(),
            reason: reason.to_owned(),
            message: String::new(),
            last_transition_time: Time(Timestamp::from_second(since).unwrap()),
            observed_generation: Some(1),
        };
        AgentStatus { conditions: vec![condition], ..AgentStatus::default() }
    }

    #[test]
    fn somebody_who_writes_the_status_too_is_noticed() {
        let (ours, theirs) = (status("Ready", 1), status("WaitingForPods", 1));
        let mut memory = StatusMemory::default();
        assert!(!memory.is_undone(Some(&theirs), &ours), "never written");
        memory.wrote(ours.clone(), "7", Instant::now());
        assert!(memory.is_undone(Some(&theirs), &status("Ready", 2)));
        assert!(memory.is_undone(None, &ours));
        assert!(!memory.is_undone(Some(&theirs), &status("Pinned", 1)), "another truth");
        let called = AgentStatus { last_invocation_at: Some(Time(Timestamp::UNIX_EPOCH)), ..ours.clone() };
        assert!(!memory.is_undone(Some(&ours), &called), "only a time is new");
    }

    #[test]
    fn a_warning_is_told_once_while_it_holds() {
        let accepted = |message: &str| {
            let mut status = status("Accepted", 1);
            status.conditions[0].type_ = "Accepted".to_owned();
            status.conditions[0].message = message.to_owned();
            status
        };
        let plain = "The spec is valid and the agent's objects are as it says.";
        let (warned, plain) = (accepted(&format!("{plain} But so.")), accepted(plain));
        let mut lost = warned.clone();
        lost.conditions[0].status = "Unknown".to_owned();
        let mut memory = Memory::default();
        let mut told = |before: &AgentStatus, after: &AgentStatus| {
            memory.not_told_twice(Some(after), crate::status::events::events(Some(before), after, &[])).len()
        };
        assert_eq!(told(&plain, &warned), 1);
        assert_eq!(told(&warned, &lost), 0);
        assert_eq!(told(&lost, &warned), 0, "it never ceased to hold");
        assert_eq!(told(&warned, &plain), 0);
        assert_eq!(told(&plain, &warned), 1, "it did");
    }

    #[test]
    fn the_status_is_the_newer_of_ours_and_the_watchs() {
        let (ours, seen) = (status("Ready", 1), status("Pinned", 1));
        let mut memory = StatusMemory::default();
        assert_eq!(memory.current(Some(&seen), "6"), Some(&seen));
        memory.wrote(ours.clone(), "7", Instant::now());
        assert_eq!(memory.current(Some(&seen), "6"), Some(&ours));
        assert_eq!(memory.current(Some(&seen), "8"), Some(&seen));
    }

    #[test]
    fn another_agent_of_the_same_name_is_another() {
        let known = Memory { size: Some(3), ..Memory::default() }.of("first");
        let mut known = Memory { size: Some(3), ..known };
        known.meet(1, Instant::now());
        assert_eq!(known.clone().of("first").size, Some(3));
        assert_eq!(known.of("second").size, None);
    }
}
