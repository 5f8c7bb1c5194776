//! A reason and a sentence for each of the five conditions.
//!
//! Two choices that people feel:
//!
//! - `Ready` is False while a rollout goes on (`RollingOut`, `RolloutStuck`), though `Available` stays True. Somebody
//!   who changes an image and waits with `kubectl wait --for=condition=Ready` wants to know when the new one is there;
//!   `kstatus` (Flux, Argo CD) reads it as in progress, as it does for a Deployment. Knative's Service does the same.
//!   A change of size alone is no rollout: `Ready` stays True and the phase says Scaling.
//! - `Ready` copies the sentence of the condition that keeps it from being True, so that one condition is enough to
//!   read.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use krypton_crd::conditions::{
    AcceptedReason, AvailableReason, ConditionStatus, ConditionType, ProgrammedReason, ReadyReason,
    ResolvedRefsReason,
};

use super::observed::{DeploymentState, PodState, Run};
use super::pods::{self, Problem, Scene};
use super::silence;
use super::text::{pods as count_of, quote};
use super::{Acceptance, Observation, ProgrammedState, Wrote, condition_before};

/// What is said in one condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict<R> {
    pub(super) status: ConditionStatus,
    pub(super) reason: R,
    pub(super) message: String,
}

/// What is said in all of them.
#[derive(Debug, Clone)]
pub(super) struct Verdicts {
    pub(super) accepted: Verdict<AcceptedReason>,
    pub(super) resolved_refs: Verdict<ResolvedRefsReason>,
    /// `None`: stays as it was.
    pub(super) programmed: Option<Verdict<ProgrammedReason>>,
    pub(super) available: Verdict<AvailableReason>,
    pub(super) ready: Verdict<ReadyReason>,
    /// Whether the agent is on the way to another size, and on no other way.
    pub(super) scaling: bool,
}

/// Reasons know their word and their status.
macro_rules! verdict_of {
    ($($reason:ident),+) => {$(
        impl From<($reason, String)> for Verdict<$reason> {
            fn from((reason, message): ($reason, String)) -> Self {
                Self { status: reason.status(), reason, message }
            }
        }

        impl Verdict<$reason> {
            pub(super) fn into_words(self) -> Verdict<&'static str> {
                Verdict { status: self.status, reason: self.reason.as_str(), message: self.message }
            }
        }
    )+};
}

verdict_of!(AcceptedReason, ResolvedRefsReason, ProgrammedReason, AvailableReason, ReadyReason);

/// Judges all that is observed.
pub(super) fn judge(seen: &Observation<'_>) -> Verdicts {
    let found = Found::new(seen);
    let accepted = accepted(seen);
    let resolved_refs = resolved_refs(seen, &found);
    let programmed = seen.spec.ok().map(|_| programmed(seen));
    let available = available(seen, &found, &accepted);
    let ready = ready(seen, &found, (&accepted, &resolved_refs, programmed.as_ref(), &available));
    Verdicts { scaling: found.scaling(), accepted, resolved_refs, programmed, available, ready }
}

/// Pods there should be.
pub(super) fn desired(seen: &Observation<'_>) -> u32 {
    seen.desired.or(seen.deployment.as_ref().map(|deployment| deployment.wanted)).unwrap_or_default()
}

/// What several conditions look at.
struct Found<'a> {
    desired: u32,
    /// All zero where there is none.
    deployment: DeploymentState,
    /// Kubernetes counts pods of an older template.
    old_pods: bool,
    current: Vec<&'a PodState>,
    problem: Option<Problem>,
}

// === impl Found ===

impl<'a> Found<'a> {
    fn new(seen: &Observation<'a>) -> Self {
        let deployment = seen.deployment.clone().unwrap_or_default();
        let old_pods = deployment.updated < deployment.replicas;
        let current = pods::current(&deployment, old_pods, seen.pods);
        let problem = pods::diagnose(scene(seen), &deployment, &current);
        Self {
            desired: desired(seen),
            deployment,
            old_pods,
            current,
            problem: problem.map(|problem| with_cause_before(seen, problem)),
        }
    }

    /// Whether the agent is on the way to another size, and on no other way.
    fn scaling(&self) -> bool {
        let Self { deployment, desired, .. } = self;
        !self.old_pods && (deployment.replicas != *desired || deployment.ready < *desired)
    }
}

fn scene<'a>(seen: &Observation<'a>) -> Scene<'a> {
    Scene { namespace: seen.namespace, spec: seen.spec.ok(), now: seen.now }
}

/// Puts back the cause that Kubernetes gave before and does not repeat, so that the message does not go back and forth
/// with every try.
fn with_cause_before(seen: &Observation<'_>, problem: Problem) -> Problem {
    let told = || {
        let (before, after) = problem.cause_between.as_ref()?;
        let message = &condition_before(seen, ConditionType::Available)?.message;
        let start = message.find(&format!("{before}: "))?;
        let end = start + message[start..].find(after)? + after.len();
        Some(message[start..end].to_owned())
    };
    match told() {
        Some(text) => Problem { text, ..problem },
        None => problem,
    }
}

// === conditions ===

fn accepted(seen: &Observation<'_>) -> Verdict<AcceptedReason> {
    if let Err(error) = seen.spec {
        return (
            AcceptedReason::InvalidSpec,
            format!("{error}. Correct the field and apply the Agent again."),
        )
            .into();
    }
    match &seen.acceptance {
        Acceptance::Accepted => {
            let warning = seen.spec.ok().and_then(|spec| silence::warning(spec, seen.ingress_read_timeout));
            let message = warning
                .map_or_else(|| silence::ACCEPTED.to_owned(), |said| format!("{} {said}", silence::ACCEPTED));
            (AcceptedReason::Accepted, message).into()
        }
        Acceptance::Refused { reason, message } => (*reason, message.clone()).into(),
        Acceptance::Unsettled => said_before(seen, ConditionType::Accepted, AcceptedReason::from_word)
            .unwrap_or_else(|| {
                let message = "The API server has not answered yet to what was written; Krypton tries again.";
                (AcceptedReason::Pending, message.to_owned())
            })
            .into(),
    }
}

fn resolved_refs(seen: &Observation<'_>, found: &Found<'_>) -> Verdict<ResolvedRefsReason> {
    if let Some(missing) = found.problem.as_ref().and_then(|problem| problem.missing_ref.clone()) {
        return (ResolvedRefsReason::RefNotFound, missing).into();
    }
    let has_run = |pod: &&PodState| {
        pod.containers
            .iter()
            .any(|container| container.last.is_some() || !matches!(container.now, Run::Waiting { .. }))
    };
    let all_found = || {
        let message = "Kubernetes found all that the spec refers to.";
        (ResolvedRefsReason::ResolvedRefs, message.to_owned())
    };
    if found.deployment.observed && !found.old_pods && found.current.iter().any(has_run) {
        return all_found().into();
    }
    // What was found once for this generation is taken as there: without pods nobody looks.
    let before = said_before(seen, ConditionType::ResolvedRefs, ResolvedRefsReason::from_word);
    if matches!(before, Some((ResolvedRefsReason::ResolvedRefs, _))) {
        return all_found().into();
    }
    let message =
        "No pod of this generation has started yet; Kubernetes looks up what the spec refers to then.";
    (ResolvedRefsReason::Pending, message.to_owned()).into()
}

fn programmed(seen: &Observation<'_>) -> Verdict<ProgrammedReason> {
    let before = said_before(seen, ConditionType::Programmed, ProgrammedReason::from_word);
    let held_before = matches!(before, Some((ProgrammedReason::Programmed, _)));
    match &seen.programmed {
        ProgrammedState::Rejected { gateway, reason } => {
            let message = format!("Gateway {gateway} refuses the route: {}.", quote(reason));
            (ProgrammedReason::Rejected, message)
        }
        // Gateways that join, restart or leave do not undo it: they take the route before they take calls.
        ProgrammedState::Held => (ProgrammedReason::Programmed, "The gateways hold the route.".to_owned()),
        _ if held_before => (ProgrammedReason::Programmed, "The gateways hold the route.".to_owned()),
        ProgrammedState::NoGateways => {
            let message =
                "No gateway is connected to the controller. See that the gateway's pods run and reach it.";
            (ProgrammedReason::NoGateways, message.to_owned())
        }
        ProgrammedState::Pending { missing, more } => {
            let others = if *more > 0 { format!(" and {more} more") } else { String::new() };
            let message = format!("Gateways that do not hold the route yet: {}{others}.", missing.join(", "));
            (ProgrammedReason::Pending, message)
        }
        ProgrammedState::Unsettled => before.unwrap_or_else(|| {
            let message = "The gateways have not said yet whether they hold the route.";
            (ProgrammedReason::Pending, message.to_owned())
        }),
    }
    .into()
}

fn available(
    seen: &Observation<'_>,
    found: &Found<'_>,
    accepted: &Verdict<AcceptedReason>,
) -> Verdict<AvailableReason> {
    if turned_off(seen) {
        let message = "Turned off by spec.replicas: 0, so calls are answered 503. To turn it on, remove spec.replicas \
                       or set it to 1 or more.";
        return (AvailableReason::TurnedOff, message.to_owned()).into();
    }
    if found.deployment.ready > 0 {
        return (AvailableReason::Ready, ready_pods(found)).into();
    }
    let nothing_runs = seen.deployment.is_none() || (seen.spec.is_err() && found.desired == 0);
    if accepted.status == ConditionStatus::False && nothing_runs {
        let message = format!("No pod is made, since the Agent is not accepted: {}", accepted.message);
        return (AvailableReason::NotAccepted, message).into();
    }
    if found.desired == 0 {
        return (
            AvailableReason::ScaledToZero,
            "Asleep without pods; the next call wakes the agent.".to_owned(),
        )
            .into();
    }
    match &found.problem {
        Some(problem) => (problem.reason, problem.text.clone()),
        None => (AvailableReason::WaitingForPods, waiting(seen, found)),
    }
    .into()
}

/// How many pods are ready, and what keeps others from it.
fn ready_pods(found: &Found<'_>) -> String {
    let (ready, desired) = (found.deployment.ready, found.desired);
    let counted = if ready < desired {
        format!("{ready} of {desired} pods are ready.")
    } else {
        format!("{} ready.", if ready == 1 { "1 pod is".to_owned() } else { format!("{ready} pods are") })
    };
    match &found.problem {
        Some(problem) if ready < desired || found.old_pods => format!("{counted} {}", problem.text),
        _ => counted,
    }
}

/// What is known of pods that are on their way without a problem.
fn waiting(seen: &Observation<'_>, found: &Found<'_>) -> String {
    let mut message = match pods::slow_creation(scene(seen), &found.current) {
        Some(pod) => format!(
            "Pod {} has waited for more than {} s for its containers: for a large image, or a volume that cannot be \
             mounted. See why: kubectl describe pod -n {} {}.",
            pod.name,
            pods::CREATION_GRACE.as_secs(),
            seen.namespace,
            pod.name
        ),
        None if found.current.is_empty() => {
            format!(
                "No pod exists yet; {} wanted.",
                if found.desired == 1 { "1 is".to_owned() } else { format!("{} are", found.desired) }
            )
        }
        None => format!("0 of {} pods are ready; they are starting.", found.desired),
    };
    if let Some(ended) = pods::ended(seen.pods) {
        message.push(' ');
        message.push_str(&ended);
    }
    message
}

type Others<'a> = (
    &'a Verdict<AcceptedReason>,
    &'a Verdict<ResolvedRefsReason>,
    Option<&'a Verdict<ProgrammedReason>>,
    &'a Verdict<AvailableReason>,
);

fn ready(seen: &Observation<'_>, found: &Found<'_>, others: Others<'_>) -> Verdict<ReadyReason> {
    let (accepted, resolved_refs, programmed, available) = others;
    if accepted.status != ConditionStatus::True {
        return (ReadyReason::NotAccepted, accepted.message.clone()).into();
    }
    if available.reason == AvailableReason::TurnedOff {
        return (ReadyReason::TurnedOff, available.message.clone()).into();
    }
    if resolved_refs.status == ConditionStatus::False {
        return (ReadyReason::UnresolvedRefs, resolved_refs.message.clone()).into();
    }
    if available.status != ConditionStatus::True {
        return (ReadyReason::Unavailable, available.message.clone()).into();
    }
    if let Some(programmed) = programmed.filter(|programmed| programmed.status != ConditionStatus::True) {
        return (ReadyReason::NotProgrammed, programmed.message.clone()).into();
    }
    if is_rolling_out(seen, found) {
        return rollout(found);
    }
    if available.reason == AvailableReason::ScaledToZero {
        return (ReadyReason::ScaledToZero, available.message.clone()).into();
    }
    match seen.spec.ok().and_then(|spec| spec.replicas) {
        Some(pinned) => (ReadyReason::Pinned, pinned_at(seen, pinned)),
        None => (ReadyReason::Ready, "Calls are answered.".to_owned()),
    }
    .into()
}

fn pinned_at(seen: &Observation<'_>, pinned: u32) -> String {
    let unpin = r#"--type=json -p '[{"op":"remove","path":"/spec/replicas"}]'"#;
    format!(
        "Calls are answered. spec.replicas pins the size to {}; to unpin: kubectl patch agent -n {} {} {unpin}",
        count_of(pinned),
        seen.namespace,
        seen.name
    )
}

/// Whether pods of an older template answer calls. Until the counts are about the Deployment as it is now, what was
/// written tells, and else what was said before: a generation that was never Ready does not become so on old counts.
fn is_rolling_out(seen: &Observation<'_>, found: &Found<'_>) -> bool {
    if found.deployment.observed || found.deployment.ready == 0 {
        return found.old_pods;
    }
    let before = said_before(seen, ConditionType::Ready, ReadyReason::from_word).map(|(reason, _)| reason);
    match seen.wrote {
        Wrote::Template => true,
        Wrote::NotTheTemplate => matches!(before, Some(ReadyReason::RollingOut | ReadyReason::RolloutStuck)),
        Wrote::Nothing => before.is_none_or(|reason| reason.status() != ConditionStatus::True),
    }
}

fn rollout(found: &Found<'_>) -> Verdict<ReadyReason> {
    let problem = found.problem.as_ref();
    // An agent may take its time to listen, and a cluster to get another node.
    let hopeful = |problem: &Problem| {
        matches!(problem.reason, AvailableReason::ProbeFailing | AvailableReason::Unschedulable)
    };
    let why = problem.map(|problem| format!(" {}", problem.text)).unwrap_or_default();
    if found.deployment.deadline_exceeded || problem.is_some_and(|problem| !hopeful(problem)) {
        let message =
            format!("Pods of the new version do not start; older ones answer calls meanwhile.{why}");
        return (ReadyReason::RolloutStuck, message).into();
    }
    let message = if found.deployment.observed {
        format!(
            "A rollout is under way: {} of {} pods are of the new version.{why}",
            found.deployment.updated, found.desired
        )
    } else {
        "A rollout begins.".to_owned()
    };
    (ReadyReason::RollingOut, message).into()
}

fn turned_off(seen: &Observation<'_>) -> bool {
    seen.spec.is_ok_and(|spec| spec.replicas == Some(0))
}

/// What a condition says, if it is about this generation.
fn said_before<R>(
    seen: &Observation<'_>,
    kind: ConditionType,
    from_word: fn(&str) -> Option<R>,
) -> Option<(R, String)> {
    let of_now = |condition: &&Condition| condition.observed_generation == Some(seen.generation);
    let condition = condition_before(seen, kind).filter(of_now)?;
    Some((from_word(&condition.reason)?, condition.message.clone()))
}
