//! Events about an Agent: what changed, told once.
//!
//! Made from two statuses and from what was done to the children; without a change there is none, so a restart over a
//! converged cluster is silent. `kube::runtime::events::Recorder` counts repetitions of one reason and action in one
//! Event and keeps the note of the first, so an action that matters each time names what it did.

use std::fmt;

use krypton_crd::AgentStatus;
use krypton_crd::conditions::{
    AcceptedReason, AvailableReason, ConditionStatus, ConditionType, ProgrammedReason, ReadyReason,
    ResolvedRefsReason,
};
use kube::runtime::events::{Event, EventType};

use super::silence;
use super::text::{MAX_MESSAGE, one_line, pods, quote};

/// Something that was done to an Agent or its children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Children were created, all in one go.
    Created(Vec<Child>),
    /// A child was put back to what it should be.
    Repaired {
        /// Which.
        child: Child,
        /// The field that differed, or the first of them.
        field: String,
        /// Who wrote it, if that is known.
        manager: Option<String>,
    },
    /// The Deployment was given another size.
    Scaled {
        /// From this many pods.
        from: u32,
        /// To this many.
        to: u32,
    },
    /// Children that the Go controller had made were taken over.
    TakenOver(Vec<Child>),
    /// The Go system's finalizer was removed.
    FinalizerRemoved,
}

/// An object made for an Agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Child {
    /// The account that its pods run as.
    ServiceAccount,
    /// What gives its pods an address.
    Service,
    /// What runs its pods.
    Deployment,
}

/// Why there is an Event: a deed, a warning, or a condition whose reason changed. The words of the latter are the conditions'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventReason {
    /// See [`Deed::Created`].
    Created,
    /// See [`Deed::Repaired`].
    Repaired,
    /// See [`Deed::Scaled`].
    Scaled,
    /// See [`Deed::TakenOver`].
    TakenOver,
    /// See [`Deed::FinalizerRemoved`].
    FinalizerRemoved,
    /// The agent may be silent for as long as the ingress waits; see [`silence`].
    TimeoutReachesIngress,
    /// `Accepted` has another reason.
    Accepted(AcceptedReason),
    /// `ResolvedRefs` has another reason.
    ResolvedRefs(ResolvedRefsReason),
    /// `Programmed` has another reason.
    Programmed(ProgrammedReason),
    /// `Available` has another reason.
    Available(AvailableReason),
    /// `Ready` has another reason.
    Ready(ReadyReason),
}

/// An Event about an Agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentEvent {
    /// Whether a person should look.
    pub warning: bool,
    /// Why.
    pub reason: EventReason,
    /// What was done or judged, as one word.
    pub action: String,
    /// What happened, in a sentence; at most 1024 bytes.
    pub note: String,
}

/// What to tell after `before` became `after` and `deeds` were done.
#[must_use]
pub fn events(before: Option<&AgentStatus>, after: &AgentStatus, deeds: &[Deed]) -> Vec<AgentEvent> {
    let changes = ConditionType::ALL.iter().filter_map(|kind| of_condition(*kind, before, after));
    deeds.iter().map(of_deed).chain(changes).chain(of_silence(before, after)).collect()
}

// === deeds ===

fn of_deed(deed: &Deed) -> AgentEvent {
    let (warning, reason, action, note) = match deed {
        Deed::Created(children) => {
            (false, EventReason::Created, "Create".to_owned(), format!("Created {}.", list(children)))
        }
        Deed::Repaired { child, field, manager } => {
            let by = manager.as_ref().map(|manager| format!(", which {} had changed", quote(manager)));
            let note = format!("Put back {} of the {child}{}.", quote(field), by.unwrap_or_default());
            (true, EventReason::Repaired, format!("Repair{child}"), note)
        }
        Deed::Scaled { from, to } => {
            let note = format!("Changed the size from {from} to {}.", pods(*to));
            (false, EventReason::Scaled, format!("Scale{from}To{to}"), note)
        }
        Deed::TakenOver(children) => {
            let note = format!("Took over {} from the Go controller.", list(children));
            (false, EventReason::TakenOver, "TakeOver".to_owned(), note)
        }
        Deed::FinalizerRemoved => {
            let note = "Removed the Go controller's finalizer.".to_owned();
            (false, EventReason::FinalizerRemoved, "RemoveFinalizer".to_owned(), note)
        }
    };
    AgentEvent { warning, reason, action, note: one_line(&note, MAX_MESSAGE) }
}

fn list(children: &[Child]) -> String {
    let names: Vec<_> = children.iter().map(Child::to_string).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

// === what is said beside a reason ===

fn of_silence(before: Option<&AgentStatus>, after: &AgentStatus) -> Option<AgentEvent> {
    let note = silence::said(after)?;
    if before.is_some_and(|before| silence::says(before, note)) {
        return None;
    }
    Some(AgentEvent {
        warning: true,
        reason: EventReason::TimeoutReachesIngress,
        // The other of the two values is a flag, and changes with the process.
        action: format!("CompareTimeoutsOfGeneration{}", after.observed_generation.unwrap_or_default()),
        note: one_line(note, MAX_MESSAGE),
    })
}

// === conditions ===

fn of_condition(
    kind: ConditionType,
    before: Option<&AgentStatus>,
    after: &AgentStatus,
) -> Option<AgentEvent> {
    let (now, message) = said(after, kind)?;
    let was = before.and_then(|before| said(before, kind)).map(|(reason, _)| reason);
    if was.is_some_and(|was| was.as_str() == now.as_str()) {
        return None;
    }
    let warning = is_worth_telling(was, now, after)?;
    let action = match kind {
        ConditionType::Accepted => "Accept",
        ConditionType::ResolvedRefs => "ResolveRefs",
        ConditionType::Programmed => "Program",
        ConditionType::Available => "RunPods",
        ConditionType::Ready => "Serve",
    };
    Some(AgentEvent { warning, reason: now, action: action.to_owned(), note: one_line(message, MAX_MESSAGE) })
}

/// The reason that `status` gives in one of its conditions, if it is one of ours.
fn said(status: &AgentStatus, kind: ConditionType) -> Option<(EventReason, &str)> {
    let condition = status.conditions.iter().find(|condition| condition.type_ == kind.as_str())?;
    let word = condition.reason.as_str();
    let reason = match kind {
        ConditionType::Accepted => AcceptedReason::from_word(word).map(EventReason::Accepted),
        ConditionType::ResolvedRefs => ResolvedRefsReason::from_word(word).map(EventReason::ResolvedRefs),
        ConditionType::Programmed => ProgrammedReason::from_word(word).map(EventReason::Programmed),
        ConditionType::Available => AvailableReason::from_word(word).map(EventReason::Available),
        ConditionType::Ready => ReadyReason::from_word(word).map(EventReason::Ready),
    };
    Some((reason?, &condition.message))
}

/// Whether it is a warning; `None` if nobody needs to hear of it. Steps on the way of every new Agent are not told,
/// and each trouble is told by one condition alone.
fn is_worth_telling(was: Option<EventReason>, now: EventReason, after: &AgentStatus) -> Option<bool> {
    let was_false = was.is_some_and(|was| was.status() == Some(ConditionStatus::False));
    let was_true = was.is_some_and(|was| was.status() == Some(ConditionStatus::True));
    match (now, now.status()?) {
        (EventReason::Accepted(_) | EventReason::ResolvedRefs(_), ConditionStatus::False)
        | (
            EventReason::Programmed(ProgrammedReason::Rejected)
            | EventReason::Ready(ReadyReason::RolloutStuck),
            _,
        ) => Some(true),
        (EventReason::Accepted(_) | EventReason::ResolvedRefs(_), ConditionStatus::True) => {
            was_false.then_some(false)
        }
        // Every Agent of a cluster without a gateway would say so; `Ready` does.
        (EventReason::Programmed(ProgrammedReason::Programmed), _) => {
            matches!(was, Some(EventReason::Programmed(ProgrammedReason::Rejected))).then_some(false)
        }
        (EventReason::Available(reason), ConditionStatus::False) => match reason {
            AvailableReason::TurnedOff | AvailableReason::NotAccepted | AvailableReason::WaitingForPods => {
                None
            }
            // `ResolvedRefs` has told it.
            _ if refs_are_missing(after) => None,
            _ => Some(true),
        },
        // Pods are gone for no reason known: nobody else tells.
        (EventReason::Ready(ReadyReason::Unavailable), _) => {
            let waiting = said(after, ConditionType::Available).map(|(reason, _)| reason)
                == Some(EventReason::Available(AvailableReason::WaitingForPods));
            (was_true && waiting).then_some(true)
        }
        (EventReason::Ready(ReadyReason::TurnedOff | ReadyReason::RollingOut), _)
        | (EventReason::Ready(_), ConditionStatus::True) => Some(false),
        _ => None,
    }
}

fn refs_are_missing(status: &AgentStatus) -> bool {
    said(status, ConditionType::ResolvedRefs)
        .is_some_and(|(reason, _)| reason.status() == Some(ConditionStatus::False))
}

// === impl EventReason ===

impl EventReason {
    /// Reasons that are no condition's, as they stand in the reference.
    pub const OWN: [Self; 6] = [
        Self::Created,
        Self::Repaired,
        Self::Scaled,
        Self::TakenOver,
        Self::FinalizerRemoved,
        Self::TimeoutReachesIngress,
    ];

    /// The word in the Event.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "Created",
            Self::Repaired => "Repaired",
            Self::Scaled => "Scaled",
            Self::TakenOver => "TakenOver",
            Self::FinalizerRemoved => "FinalizerRemoved",
            Self::TimeoutReachesIngress => "TimeoutReachesIngress",
            Self::Accepted(reason) => reason.as_str(),
            Self::ResolvedRefs(reason) => reason.as_str(),
            Self::Programmed(reason) => reason.as_str(),
            Self::Available(reason) => reason.as_str(),
            Self::Ready(reason) => reason.as_str(),
        }
    }

    /// The status of the condition; `None` for what is none.
    fn status(self) -> Option<ConditionStatus> {
        match self {
            Self::Accepted(reason) => Some(reason.status()),
            Self::ResolvedRefs(reason) => Some(reason.status()),
            Self::Programmed(reason) => Some(reason.status()),
            Self::Available(reason) => Some(reason.status()),
            Self::Ready(reason) => Some(reason.status()),
            _ => None,
        }
    }
}

// === impl AgentEvent ===

impl From<AgentEvent> for Event {
    fn from(event: AgentEvent) -> Self {
        Self {
            type_: if event.warning { EventType::Warning } else { EventType::Normal },
            reason: event.reason.as_str().to_owned(),
            note: Some(event.note),
            action: event.action,
            secondary: None,
        }
    }
}

// === impl Child ===

impl fmt::Display for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ServiceAccount => "ServiceAccount",
            Self::Service => "Service",
            Self::Deployment => "Deployment",
        })
    }
}

#[cfg(test)]
mod tests;
