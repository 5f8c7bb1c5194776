//! What Kubernetes reports of an Agent's Deployment and pods, trimmed to what a status is made from.
//!
//! Owns the way from the API's types, in which everything is optional, to plain values. Judges nothing.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition};
use k8s_openapi::api::core::v1::{self as core, ContainerStatus, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// Label that the Deployment controller puts on the pods of one version of the template.
const TEMPLATE_HASH_LABEL: &str = "pod-template-hash";

/// An Agent's Deployment. Counts are of pods that are not on their way out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeploymentState {
    /// Whether the counts and conditions are about the newest version of the object.
    pub observed: bool,
    /// Pods it should have.
    pub wanted: u32,
    /// Pods it has, of any version of the template.
    pub replicas: u32,
    /// Pods of the newest version.
    pub updated: u32,
    /// Pods that are ready.
    pub ready: u32,
    /// Why pods cannot be created, as the API server said it.
    pub replica_failure: Option<String>,
    /// Whether a rollout went on for longer than `progressDeadlineSeconds`.
    pub deadline_exceeded: bool,
}

/// One pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodState {
    /// Its name.
    pub name: String,
    /// Which version of the template it was made from; the same for pods of one version.
    pub revision: Option<String>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Whether it was told to stop.
    pub terminating: bool,
    /// Whether it has ended: it will not run again, and another takes its place.
    pub ended: bool,
    /// Why it ended or was refused by its node: reason and message; empty where nothing is said.
    pub ended_because: String,
    /// Whether calls may go to it.
    pub ready: bool,
    /// Why no node takes it.
    pub unschedulable: Option<String>,
    /// Its init containers.
    pub init_containers: Vec<ContainerState>,
    /// Its containers.
    pub containers: Vec<ContainerState>,
}

/// One container of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerState {
    /// Its name.
    pub name: String,
    /// Its image, as the pod names it.
    pub image: String,
    /// Whether it passes its readiness probe.
    pub ready: bool,
    /// How often it was started again.
    pub restarts: u32,
    /// What it does now.
    pub now: Run,
    /// How it ended the last time.
    pub last: Option<Exit>,
}

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Run {
    /// It does not run yet, or not again.
    Waiting {
        /// In one word.
        reason: String,
        /// In a sentence; may be empty.
        message: String,
    },
    /// It runs.
    Running {
        /// Since when.
        since: Option<Timestamp>,
    },
    /// It has ended.
    Exited(Exit),
}

/// How a container ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code.
    pub code: i32,
    /// In one word: `Error`, `OOMKilled`, `StartError`, `Completed`.
    pub reason: String,
    /// What it left behind as its last words, or why it could not be started; may be empty.
    pub message: String,
}

// === impl DeploymentState ===

impl DeploymentState {
    /// What a status needs of `deployment`.
    #[must_use]
    pub fn from_deployment(deployment: &Deployment) -> Self {
        let Some(status) = &deployment.status else {
            return Self { wanted: wanted(deployment), ..Self::default() };
        };
        let conditions = status.conditions.as_deref().unwrap_or_default();
        let condition = |kind: &str, is: &str| {
            conditions.iter().find(|condition| condition.type_ == kind && condition.status == is)
        };
        let message = |condition: &DeploymentCondition| condition.message.clone().unwrap_or_default();
        Self {
            observed: status.observed_generation >= deployment.metadata.generation,
            wanted: wanted(deployment),
            replicas: count(status.replicas),
            updated: count(status.updated_replicas),
            ready: count(status.ready_replicas),
            replica_failure: condition("ReplicaFailure", "True").map(message),
            deadline_exceeded: condition("Progressing", "False")
                .is_some_and(|progress| progress.reason.as_deref() == Some("ProgressDeadlineExceeded")),
        }
    }
}

/// The API server stores 1 where nothing is said.
fn wanted(deployment: &Deployment) -> u32 {
    count(deployment.spec.as_ref().map_or(Some(1), |spec| spec.replicas.or(Some(1))))
}

// === impl PodState ===

impl PodState {
    /// What a status needs of `pod`.
    #[must_use]
    pub fn from_pod(pod: &Pod) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let conditions = status.conditions.as_deref().unwrap_or_default();
        let condition = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind);
        let unschedulable = |condition: &&PodCondition| {
            condition.status == "False"
                && matches!(condition.reason.as_deref(), Some("Unschedulable" | "SchedulingGated"))
        };
        let said = [status.reason, status.message].into_iter().flatten().collect::<Vec<_>>().join(": ");
        let of = |statuses: &Option<Vec<ContainerStatus>>| {
            statuses.iter().flatten().map(ContainerState::from_status).collect()
        };
        Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            revision: pod
                .metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get(TEMPLATE_HASH_LABEL))
                .cloned(),
            created: pod.metadata.creation_timestamp.as_ref().map(|Time(at)| *at),
            terminating: pod.metadata.deletion_timestamp.is_some(),
            ended: matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")),
            ended_because: said,
            ready: condition("Ready").is_some_and(|ready| ready.status == "True"),
            unschedulable: condition("PodScheduled")
                .filter(unschedulable)
                .map(|condition| condition.message.clone().unwrap_or_default()),
            init_containers: of(&status.init_container_statuses),
            containers: of(&status.container_statuses),
        }
    }
}

// === impl ContainerState ===

impl ContainerState {
    fn from_status(status: &ContainerStatus) -> Self {
        Self {
            name: status.name.clone(),
            image: status.image.clone(),
            ready: status.ready,
            restarts: count(Some(status.restart_count)),
            now: Run::from_state(status.state.as_ref()),
            last: status.last_state.as_ref().and_then(|last| last.terminated.as_ref()).map(Exit::from_state),
        }
    }
}

impl Run {
    /// A state that says nothing means waiting, as in the API.
    fn from_state(state: Option<&core::ContainerState>) -> Self {
        let Some(state) = state else {
            return Self::Waiting { reason: String::new(), message: String::new() };
        };
        if let Some(exit) = &state.terminated {
            Self::Exited(Exit::from_state(exit))
        } else if let Some(running) = &state.running {
            Self::Running { since: running.started_at.as_ref().map(|Time(at)| *at) }
        } else {
            let waiting = state.waiting.clone().unwrap_or_default();
            Self::Waiting {
                reason: waiting.reason.unwrap_or_default(),
                message: waiting.message.unwrap_or_default(),
            }
        }
    }
}

impl Exit {
    fn from_state(state: &core::ContainerStateTerminated) -> Self {
        Self {
            code: state.exit_code,
            reason: state.reason.clone().unwrap_or_default(),
            message: state.message.clone().unwrap_or_default(),
        }
    }
}

/// A count of the API's: absent means none.
fn count(number: Option<i32>) -> u32 {
    number.and_then(|number| u32::try_from(number).ok()).unwrap_or_default()
}
