//! Why an Agent has too few ready pods: one cause, in words that say what to do.
//!
//! Reads what Kubernetes reports and picks the cause that explains most. Gives the same answer for the same input,
//! whatever the order of the pods, and leaves out what changes all the time (restart counts, back-off times, names
//! that Kubernetes makes up at each try): a message that differs is a write.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use krypton_crd::AgentSpec;
use krypton_crd::conditions::AvailableReason;
use krypton_crd::keys::AGENT_CONTAINER;
use serde_json::Value;

use super::observed::{ContainerState, DeploymentState, Exit, PodState, Run};
use super::refs::MissingRef;
use super::text::{quote, quote_end};

/// How long an agent may run without passing its readiness probe before that is called a problem: most servers listen
/// after a few seconds.
pub(super) const PROBE_GRACE: Duration = Duration::from_secs(30);

/// How long a pod may take to get its containers created before the status points at its Events.
pub(super) const CREATION_GRACE: Duration = Duration::from_mins(1);

/// What keeps pods from being ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) reason: AvailableReason,
    /// One or more sentences.
    pub(super) text: String,
    /// What it is about, where it is a reference that leads nowhere.
    pub(super) missing_ref: Option<String>,
    /// Where Kubernetes did not repeat the cause that it gave before: the words before and after it in `text`.
    pub(super) cause_between: Option<(String, &'static str)>,
}

/// What a diagnosis looks at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) namespace: &'a str,
    pub(super) spec: Option<&'a AgentSpec>,
    pub(super) now: Timestamp,
}

const IMAGE_HINT: &str =
    "Check the image's name, and spec.imagePullSecrets if its registry asks for credentials.";

/// Pods of the version that should run: those a person can repair by a change. While a rollout is under way the
/// newest pod is of it; where none has been made yet there is no such pod.
pub(super) fn current<'a>(
    deployment: &DeploymentState,
    rolling_out: bool,
    pods: &'a [PodState],
) -> Vec<&'a PodState> {
    let mut live: Vec<_> = pods.iter().filter(|pod| !pod.terminating && !pod.ended).collect();
    live.sort_by(|a, b| a.name.cmp(&b.name));
    if rolling_out {
        let newest = live.iter().max_by_key(|pod| (pod.created, &pod.name)).map(|pod| pod.revision.clone());
        live.retain(|pod| deployment.updated > 0 && newest.as_ref() == Some(&pod.revision));
    }
    live
}

/// The problem that explains most, of those that pods have and that the Deployment has in making some.
pub(super) fn diagnose(
    scene: Scene<'_>,
    deployment: &DeploymentState,
    pods: &[&PodState],
) -> Option<Problem> {
    let of_pods = pods.iter().filter_map(|pod| of_pod(scene, pod));
    let refused = deployment.replica_failure.as_deref().map(|message| of_refusal(scene, message));
    // The first of those that weigh the same: pods come sorted by name.
    of_pods.chain(refused).min_by_key(weight)
}

/// Why a pod that has ended did, where no pod is ready: the newest one tells.
pub(super) fn ended(pods: &[PodState]) -> Option<String> {
    let ended = pods.iter().filter(|pod| pod.ended && !pod.ended_because.is_empty());
    let newest = ended.max_by_key(|pod| (pod.created, &pod.name))?;
    Some(format!("Pod {} ended: {}.", newest.name, quote(&newest.ended_because)))
}

/// The pod, if any, that has waited too long for its containers to be created.
pub(super) fn slow_creation<'a>(scene: Scene<'_>, pods: &[&'a PodState]) -> Option<&'a PodState> {
    pods.iter().copied().find(|pod| {
        is_creating(pod) && pod.created.is_some_and(|created| past(created, CREATION_GRACE, scene.now))
    })
}

/// When time alone may change the answer for `pod`.
pub(super) fn next_check(pod: &PodState, now: Timestamp) -> Option<Timestamp> {
    let creating = pod.created.filter(|_| is_creating(pod)).and_then(|at| after(at, CREATION_GRACE));
    let running = silent_since(pod).and_then(|since| after(since, PROBE_GRACE));
    [creating, running].into_iter().flatten().filter(|at| *at > now).min()
}

/// What explains most comes first: a cause that only a change removes before one that time may remove.
fn weight(problem: &Problem) -> u8 {
    match problem.reason {
        _ if problem.missing_ref.is_some() => 0,
        AvailableReason::ImagePullFailed => 1,
        AvailableReason::CrashLooping => 2,
        AvailableReason::PodsFailing => 3,
        AvailableReason::QuotaExceeded | AvailableReason::PodsRefused => 4,
        AvailableReason::Unschedulable => 5,
        _ => 6,
    }
}

fn of_pod(scene: Scene<'_>, pod: &PodState) -> Option<Problem> {
    if pod.ready {
        return None;
    }
    if let Some(why) = &pod.unschedulable {
        // The scheduler adds what it thought of claims and of preempting others, which helps nobody to make room.
        let why = [". no new claims to deallocate", " preemption:"]
            .iter()
            .fold(why.as_str(), |why, more| why.split(more).next().unwrap_or(why));
        return Some(problem(
            AvailableReason::Unschedulable,
            format!(
                "No node takes pod {}: {}. Add room, or ask for less in spec.resources.",
                pod.name,
                quote(why)
            ),
        ));
    }
    let init = pod.init_containers.iter().find_map(|container| of_container(scene, pod, container, true));
    init.or_else(|| pod.containers.iter().find_map(|container| of_container(scene, pod, container, false)))
        .or_else(|| of_silence(scene, pod))
}

fn of_container(scene: Scene<'_>, pod: &PodState, container: &ContainerState, init: bool) -> Option<Problem> {
    if container.ready {
        return None;
    }
    match &container.now {
        Run::Waiting { reason, message } => match reason.as_str() {
            "ErrImagePull"
            | "ImagePullBackOff"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "ImageInspectError"
            | "RegistryUnavailable"
            | "SignatureValidationFailed" => Some(of_image(pod, container, reason, message)),
            "CreateContainerConfigError" => Some(of_config(scene, pod, container, message)),
            "CrashLoopBackOff" => {
                let exit = container.last.clone().unwrap_or_default();
                Some(of_exit(scene, pod, container, &exit, init))
            }
            "" | "ContainerCreating" | "PodInitializing" => None,
            // CreateContainerError, RunContainerError, and words of runtimes and later versions.
            _ => Some(cannot_start(pod, container, if message.is_empty() { reason } else { message })),
        },
        Run::Exited(exit) if init && exit.code == 0 => None,
        Run::Exited(exit) => Some(of_exit(scene, pod, container, exit, init)),
        // Between two crashes it runs; the first restart may be all it takes.
        Run::Running { .. } => container
            .last
            .as_ref()
            .filter(|exit| container.restarts >= 2 && !(init && exit.code == 0))
            .map(|exit| of_exit(scene, pod, container, exit, init)),
    }
}

fn of_image(pod: &PodState, container: &ContainerState, reason: &str, message: &str) -> Problem {
    let image = quote(&container.image);
    let before = match reason {
        "InvalidImageName" => format!("Pod {}: {image:?} is not the name of an image", pod.name),
        "ErrImageNeverPull" => {
            format!(
                "Pod {}: its node does not have image {image:?}, and spec.imagePullPolicy is Never",
                pod.name
            )
        }
        _ => format!("Pod {}: image {image:?} cannot be pulled", pod.name),
    };
    // While it backs off, the kubelet puts words of its own before the cause; older ones leave the cause out.
    let cause = match message.split_once("ack-off pulling image") {
        Some((_, rest)) => rest.split_once("\": ").map_or("", |(_, cause)| cause),
        None => message,
    };
    let cause = cause.split_once(" desc = ").map_or(cause, |(_, described)| described);
    let cause = ["ErrImagePull: ", "SignatureValidationFailed: ", "RegistryUnavailable: "]
        .iter()
        .find_map(|word| cause.strip_prefix(word))
        .unwrap_or(cause);
    match reason {
        "ErrImageNeverPull" => problem(AvailableReason::ImagePullFailed, format!("{before}. {IMAGE_HINT}")),
        _ if cause.is_empty() => Problem {
            cause_between: Some((before.clone(), IMAGE_HINT)),
            ..problem(AvailableReason::ImagePullFailed, format!("{before}. {IMAGE_HINT}"))
        },
        _ => problem(AvailableReason::ImagePullFailed, format!("{before}: {}. {IMAGE_HINT}", quote(cause))),
    }
}

fn of_config(scene: Scene<'_>, pod: &PodState, container: &ContainerState, message: &str) -> Problem {
    let Some(missing) = MissingRef::of_container(message) else {
        return cannot_start(pod, container, message);
    };
    let missing = missing.tell(scene.namespace, scene.spec);
    Problem {
        missing_ref: Some(missing.clone()),
        ..problem(AvailableReason::PodsFailing, format!("Pod {} cannot start: {missing}", pod.name))
    }
}

fn cannot_start(pod: &PodState, container: &ContainerState, why: &str) -> Problem {
    let text = format!(
        "Pod {}: container {:?} cannot be started: {}. Check the image and spec.podTemplate.",
        pod.name,
        container.name,
        quote(why)
    );
    problem(AvailableReason::PodsFailing, text)
}

fn of_exit(scene: Scene<'_>, pod: &PodState, container: &ContainerState, exit: &Exit, init: bool) -> Problem {
    if matches!(exit.reason.as_str(), "StartError" | "ContainerCannotRun") {
        return cannot_start(pod, container, &exit.message);
    }
    let who = match (init, container.name.as_str()) {
        (true, name) => format!("init container {name:?}"),
        (false, AGENT_CONTAINER) => "the agent".to_owned(),
        (false, name) => format!("container {name:?}"),
    };
    let how = match (exit.reason.as_str(), exit.code) {
        ("OOMKilled", _) => {
            "was killed because it used more memory than its limit (OOMKilled); raise spec.resources.limits.memory"
                .to_owned()
        }
        (_, 0) => "ended by itself with exit code 0, but must go on running".to_owned(),
        (_, 137) => "was killed (exit code 137)".to_owned(),
        (_, code) => format!("exited with code {code}"),
    };
    // One that is killed has no time to say why: its last line is of something else.
    let words = if exit.message.trim().is_empty() || exit.reason == "OOMKilled" {
        String::new()
    } else {
        format!(" Its last words: {}.", quote_end(&exit.message))
    };
    let text = format!(
        "Pod {}: {who} {how}.{words} See why: kubectl logs -n {} {} -c {} --previous.",
        pod.name, scene.namespace, pod.name, container.name
    );
    problem(if init { AvailableReason::PodsFailing } else { AvailableReason::CrashLooping }, text)
}

/// The agent runs, but its readiness probe does not succeed.
fn of_silence(scene: Scene<'_>, pod: &PodState) -> Option<Problem> {
    silent_since(pod).filter(|since| past(*since, PROBE_GRACE, scene.now))?;
    let port = scene.spec.map(|spec| spec.port.get().to_string()).unwrap_or_default();
    let seconds = PROBE_GRACE.as_secs();
    let text = if scene.spec.is_some_and(has_own_probe) || port.is_empty() {
        format!(
            "Pod {} has run for more than {seconds} s without passing its readiness probe. See why: kubectl describe \
             pod -n {} {}.",
            pod.name, scene.namespace, pod.name
        )
    } else {
        format!(
            "Pod {} has run for more than {seconds} s, but nothing listens on its port {port} yet. The agent must \
             listen on 0.0.0.0:{port}; or set spec.port to the port that it listens on.",
            pod.name
        )
    };
    Some(problem(AvailableReason::ProbeFailing, text))
}

/// Since when a pod runs without being ready.
fn silent_since(pod: &PodState) -> Option<Timestamp> {
    if pod.ready || pod.terminating || pod.ended {
        return None;
    }
    pod.containers.iter().filter(|container| !container.ready).find_map(|container| match container.now {
        Run::Running { since } => since,
        Run::Waiting { .. } | Run::Exited(_) => None,
    })
}

fn has_own_probe(spec: &AgentSpec) -> bool {
    let containers = spec.pod_template.as_ref().and_then(|template| template.get("spec")?.get("containers"));
    let ours = |container: &&Value| container.get("name").and_then(Value::as_str) == Some(AGENT_CONTAINER);
    let agent = containers.and_then(Value::as_array).and_then(|list| list.iter().find(ours));
    agent.is_some_and(|agent| agent.get("readinessProbe").is_some() || agent.get("startupProbe").is_some())
}

/// The API server refused to create a pod.
fn of_refusal(scene: Scene<'_>, message: &str) -> Problem {
    if let Some(missing) = MissingRef::of_refusal(message) {
        let missing = missing.tell(scene.namespace, scene.spec);
        return Problem {
            missing_ref: Some(missing.clone()),
            ..problem(AvailableReason::PodsRefused, format!("No pod can be made: {missing}"))
        };
    }
    // What stands before it is the name of the pod, another one at each try.
    let why = message.split_once(" is forbidden: ").map_or(message, |(_, why)| why);
    if why.contains("exceeded quota") {
        let todo = "Ask for less in spec.resources, run fewer pods, or have the ResourceQuota raised.";
        problem(AvailableReason::QuotaExceeded, format!("No further pod may be made: {}. {todo}", quote(why)))
    } else if why.contains("failed quota") {
        let todo = "Set those in spec.resources.";
        problem(AvailableReason::QuotaExceeded, format!("No pod may be made: {}. {todo}", quote(why)))
    } else {
        let todo = "Change spec.resources or spec.podTemplate, or what refuses them.";
        problem(AvailableReason::PodsRefused, format!("Pods are refused: {}. {todo}", quote(why)))
    }
}

fn is_creating(pod: &PodState) -> bool {
    let waits = |container: &ContainerState| {
        matches!(&container.now, Run::Waiting { reason, .. }
            if matches!(reason.as_str(), "" | "ContainerCreating" | "PodInitializing"))
    };
    !pod.terminating && !pod.ended && pod.unschedulable.is_none() && pod.containers.iter().any(waits)
}

fn problem(reason: AvailableReason, text: String) -> Problem {
    Problem { reason, text, missing_ref: None, cause_between: None }
}

fn past(start: Timestamp, grace: Duration, now: Timestamp) -> bool {
    after(start, grace).is_some_and(|end| end <= now)
}

/// `None` for a time that no clock shows.
fn after(start: Timestamp, grace: Duration) -> Option<Timestamp> {
    start.checked_add(SignedDuration::try_from(grace).ok()?).ok()
}
