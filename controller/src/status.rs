//! The status of an Agent: from what is observed to what a person reads.
//!
//! Owns every word and sentence of a status and of its Events. Pure and synchronous: never does I/O, never reads a
//! clock, and gives the same status for the same input, so that a converged Agent costs no write.
//!
//! 1. [`DeploymentState`] and [`PodState`] are what Kubernetes reports, trimmed.
//! 2. [`build_status`] judges it: a cause for too few pods, a reason and a sentence for each condition, a phase.
//! 3. [`needs_write`] and [`status_patch`] say whether and what to write; [`InvocationLimiter`] when a mere time of a
//!    last call is worth a write.
//! 4. [`events`] tells what changed since the status before.
//! 5. [`next_check`] says when time alone may change the answer.

mod change;
pub mod events;
mod invocations;
mod observed;
mod pods;
mod refs;
pub(crate) mod silence;
mod text;
mod verdict;

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use krypton_crd::conditions::{
    AcceptedReason, AvailableReason, ConditionStatus, ConditionType, ProgrammedReason,
};
use krypton_crd::keys::AGENT_LABEL;
use krypton_crd::{AgentSpec, AgentStatus, DecodeError, Phase};

pub use crate::programmed::ProgrammedState;
pub use change::{needs_write, status_patch};
pub use invocations::{Due, InvocationLimiter};
pub use observed::{ContainerState, DeploymentState, Exit, PodState, Run};

use text::{MAX_MESSAGE, one_line};
use verdict::{Verdict, Verdicts};

/// All that the status of one Agent is made from.
#[derive(Debug, Clone)]
pub struct Observation<'a> {
    /// The Agent's namespace.
    pub namespace: &'a str,
    /// The Agent's name.
    pub name: &'a str,
    /// `metadata.generation`, which every condition is about.
    pub generation: i64,
    /// Its spec, or why it does not decode.
    pub spec: Result<&'a AgentSpec, &'a DecodeError>,
    /// The status before this one.
    pub before: Option<&'a AgentStatus>,
    /// Whether its children could be written. Without meaning where the spec does not decode.
    pub acceptance: Acceptance,
    /// What this reconciliation wrote to the Deployment.
    pub wrote: Wrote,
    /// Whether there is a Service that is the Agent's own.
    pub service: bool,
    /// The Deployment, if it is the Agent's own: as the API server answered to the last write, never an older one.
    pub deployment: Option<DeploymentState>,
    /// Pods of the Agent, in any order.
    pub pods: &'a [PodState],
    /// Pods there should be; `None` where the spec does not decode: what the Deployment says then stands.
    pub desired: Option<u32>,
    /// What the gateways hold.
    pub programmed: ProgrammedState,
    /// What the ingress in front cuts silence at; `None`: nobody knows.
    pub ingress_read_timeout: Option<Duration>,
    /// When a call last ended, and whether that alone is worth a write.
    pub last_invocation: Option<LastInvocation>,
    /// The time now.
    pub now: Timestamp,
}

/// Whether an Agent's children could be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acceptance {
    /// They are as they should be.
    Accepted,
    /// They are not.
    Refused {
        /// One of those whose status is False.
        reason: AcceptedReason,
        /// A sentence that names the field or the object, and what to do.
        message: String,
    },
    /// The API server has not answered: what was said of this generation before goes on to hold.
    Unsettled,
}

/// What a reconciliation wrote to the Deployment. Kubernetes counts pods of the old and the new template a moment
/// later only; until then this tells a rollout from a change of size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrote {
    /// Nothing.
    Nothing,
    /// Something, but the pod template stayed the same.
    NotTheTemplate,
    /// Another pod template, or the whole Deployment.
    Template,
}

/// When a call last ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastInvocation {
    /// When.
    pub at: Timestamp,
    /// Whether it is written even if nothing else is; see [`InvocationLimiter`].
    pub due: bool,
}

/// The status of an Agent, given what is observed.
///
/// All conditions are about [`Observation::generation`], with one exception: of an Agent that does not decode there is
/// no route to speak of, so its `Programmed` stays as it was, generation included.
#[must_use]
pub fn build_status(seen: &Observation<'_>) -> AgentStatus {
    let verdicts = verdict::judge(seen);
    let deployment = seen.deployment.clone().unwrap_or_default();
    let desired = verdict::desired(seen);
    let mut status = AgentStatus {
        phase: Some(phase(seen, &verdicts)),
        replicas: Some(int32(deployment.replicas)),
        ready_replicas: Some(int32(deployment.ready)),
        desired_replicas: Some(int32(desired)),
        selector: Some(format!("{AGENT_LABEL}={}", seen.name)),
        url: url(seen),
        last_invocation_at: seen.before.and_then(|before| before.last_invocation_at.clone()),
        observed_generation: Some(seen.generation),
        conditions: conditions(seen, verdicts),
    };
    advance_last_invocation(&mut status, seen);
    status
}

/// When time alone may change the status: an agent may take a while to listen before that is called a problem.
#[must_use]
pub fn next_check(seen: &Observation<'_>) -> Option<Timestamp> {
    seen.pods.iter().filter_map(|pod| pods::next_check(pod, seen.now)).min()
}

/// One word for a person, about whether calls are answered; `Ready` is about whether what was applied is in place.
/// So an Agent whose new version does not start is `phase: Ready`, `Ready=False`.
fn phase(seen: &Observation<'_>, verdicts: &Verdicts) -> Phase {
    let answered_before =
        seen.before.is_some_and(|before| matches!(before.phase, Some(Phase::Ready | Phase::Scaling)));
    match verdicts.available.reason {
        AvailableReason::Ready | AvailableReason::ScaledToZero => {
            let answering = if verdicts.scaling { Phase::Scaling } else { Phase::Ready };
            match verdicts.programmed.as_ref().map(|programmed| programmed.reason) {
                Some(ProgrammedReason::Programmed) => answering,
                // The gateways go on with the route that they have.
                _ if answered_before => answering,
                Some(ProgrammedReason::Rejected) => Phase::Failed,
                Some(ProgrammedReason::Pending | ProgrammedReason::NoGateways) | None => Phase::Pending,
            }
        }
        AvailableReason::TurnedOff => Phase::Pending,
        AvailableReason::WaitingForPods | AvailableReason::Unschedulable | AvailableReason::ProbeFailing
            if verdicts.accepted.reason.status() != ConditionStatus::False =>
        {
            Phase::Pending
        }
        _ => Phase::Failed,
    }
}

/// As `http://<name>.<namespace>.svc:<port><invocationPath>`; none where that name is not the Agent's.
fn url(seen: &Observation<'_>) -> Option<String> {
    if !seen.service {
        return None;
    }
    let Ok(spec) = seen.spec else { return seen.before.and_then(|before| before.url.clone()) };
    let spec = spec.effective();
    Some(format!("http://{}.{}.svc:{}{}", seen.name, seen.namespace, spec.port, spec.invocation_path))
}

fn conditions(seen: &Observation<'_>, verdicts: Verdicts) -> Vec<Condition> {
    let Verdicts { accepted, resolved_refs, programmed, available, ready, scaling: _ } = verdicts;
    let programmed = match programmed {
        Some(programmed) => Some(condition(seen, ConditionType::Programmed, &programmed.into_words())),
        None => condition_before(seen, ConditionType::Programmed).cloned(),
    };
    let words = [
        (ConditionType::Accepted, accepted.into_words()),
        (ConditionType::ResolvedRefs, resolved_refs.into_words()),
        (ConditionType::Available, available.into_words()),
        (ConditionType::Ready, ready.into_words()),
    ];
    let mut conditions: Vec<_> =
        words.iter().map(|(kind, words)| condition(seen, *kind, words)).chain(programmed).collect();
    // As the type declares them, so that a list never differs by its order.
    let place =
        |condition: &Condition| ConditionType::ALL.iter().position(|kind| kind.as_str() == condition.type_);
    conditions.sort_by_key(place);
    conditions
}

/// The time of the last change of `status` is kept while it stays the same, as in Kubernetes' own conditions.
fn condition(seen: &Observation<'_>, kind: ConditionType, words: &Verdict<&'static str>) -> Condition {
    let status = words.status.as_str();
    let since = condition_before(seen, kind)
        .filter(|before| before.status == status)
        .map_or_else(|| whole_seconds(seen.now), |before| before.last_transition_time.clone());
    Condition {
        type_: kind.as_str().to_owned(),
        status: status.to_owned(),
        reason: words.reason.to_owned(),
        message: one_line(&words.message, MAX_MESSAGE),
        last_transition_time: since,
        observed_generation: Some(seen.generation),
    }
}

fn condition_before<'a>(seen: &Observation<'a>, kind: ConditionType) -> Option<&'a Condition> {
    seen.before?.conditions.iter().find(|condition| condition.type_ == kind.as_str())
}

/// The time rides along with any write, and makes one only where that is due.
fn advance_last_invocation(status: &mut AgentStatus, seen: &Observation<'_>) {
    let Some(last) = seen.last_invocation else { return };
    let at = whole_seconds(last.at);
    let newer = status.last_invocation_at.as_ref().is_none_or(|known| known.0 < at.0);
    if newer && (last.due || needs_write(seen.before, status)) {
        status.last_invocation_at = Some(at);
    }
}

/// As the API server stores a time: a fraction would look like a change for ever.
fn whole_seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

fn int32(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
