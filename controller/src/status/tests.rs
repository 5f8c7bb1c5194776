//! One Agent, seen in many states.

#![expect(clippy::needless_pass_by_value, reason = "`json!` is written in the call")]

mod causes;
mod idempotent;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use krypton_crd::{Agent, conditions};
use serde_json::{Value, json};

use super::*;

/// A moment, as seconds after an arbitrary start.
fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_764_000_000 + second).unwrap()
}

fn mk_spec(more: Value) -> AgentSpec {
    let mut spec = json!({ "image": "ghcr.io/org/travel:1", "port": 9000, "invocationPath": "/a2a" });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let agent = json!({ "apiVersion": "krypton.ai/v1alpha1", "kind": "Agent", "metadata": {}, "spec": spec });
    Agent::from_value(agent).unwrap().spec
}

/// A Deployment as the API server tells it, of the newest generation.
fn mk_deployment(wanted: i32, replicas: i32, updated: i32, ready: i32, conditions: Value) -> DeploymentState {
    let deployment = json!({
        "metadata": { "name": "travel", "generation": 4 },
        "spec": { "replicas": wanted, "selector": {}, "template": {} },
        "status": {
            "observedGeneration": 4, "replicas": replicas, "updatedReplicas": updated, "readyReplicas": ready,
            "availableReplicas": ready, "conditions": conditions,
        },
    });
    DeploymentState::from_deployment(&serde_json::from_value::<Deployment>(deployment).unwrap())
}

/// A pod of the version `revision`, created at `created`, with the container `agent` in `state`.
fn mk_pod(name: &str, revision: &str, created: i64, ready: bool, state: Value) -> PodState {
    let mut container = json!({
        "name": "agent", "image": "ghcr.io/org/travel:1", "imageID": "", "ready": ready, "restartCount": 0,
    });
    container.as_object_mut().unwrap().extend(state.as_object().unwrap().clone());
    let pod = json!({
        "metadata": {
            "name": name, "labels": { "krypton.ai/agent": "travel", "pod-template-hash": revision },
            "creationTimestamp": at(created).to_string(),
        },
        "status": {
            "phase": if ready { "Running" } else { "Pending" },
            "conditions": [
                { "type": "PodScheduled", "status": "True" },
                { "type": "Ready", "status": if ready { "True" } else { "False" } },
            ],
            "containerStatuses": [container],
        },
    });
    PodState::from_pod(&serde_json::from_value::<Pod>(pod).unwrap())
}

fn running(since: i64) -> Value {
    json!({ "state": { "running": { "startedAt": at(since).to_string() } } })
}

fn ready_pod(name: &str) -> PodState {
    mk_pod(name, "v1", 0, true, running(1))
}

/// An accepted Agent whose gateways hold its route, without a Deployment.
fn mk_seen<'a>(spec: &'a AgentSpec, pods: &'a [PodState]) -> Observation<'a> {
    Observation {
        namespace: "team-a",
        name: "travel",
        generation: 7,
        spec: Ok(spec),
        before: None,
        acceptance: Acceptance::Accepted,
        wrote: Wrote::Nothing,
        service: true,
        deployment: None,
        pods,
        desired: Some(1),
        programmed: ProgrammedState::Held,
        ingress_read_timeout: None,
        last_invocation: None,
        now: at(100),
    }
}

fn condition<'a>(status: &'a AgentStatus, kind: &str) -> &'a Condition {
    status.conditions.iter().find(|condition| condition.type_ == kind).expect(kind)
}

/// `Type=Status Reason` of every condition.
fn words(status: &AgentStatus) -> Vec<String> {
    let word = |c: &Condition| format!("{}={} {}", c.type_, c.status, c.reason);
    status.conditions.iter().map(word).collect()
}

#[test]
fn a_running_agent() {
    let (spec, pods) = (mk_spec(json!({})), [ready_pod("travel-a")]);
    let seen =
        Observation { deployment: Some(mk_deployment(1, 1, 1, 1, json!([]))), ..mk_seen(&spec, &pods) };
    let status = build_status(&seen);
    assert_eq!(
        words(&status),
        [
            "Accepted=True Accepted",
            "ResolvedRefs=True ResolvedRefs",
            "Programmed=True Programmed",
            "Available=True Ready",
            "Ready=True Ready",
        ]
    );
    assert_eq!(status.phase, Some(Phase::Ready));
    assert_eq!(
        (status.replicas, status.ready_replicas, status.desired_replicas),
        (Some(1), Some(1), Some(1))
    );
    assert_eq!(status.selector.as_deref(), Some("krypton.ai/agent=travel"));
    assert_eq!(status.url.as_deref(), Some("http://travel.team-a.svc:9000/a2a"));
    assert_eq!(status.observed_generation, Some(7));
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(7)));
    assert_eq!(condition(&status, "Available").message, "1 pod is ready.");
}

#[test]
fn a_new_agent_waits() {
    let spec = mk_spec(json!({}));
    let seen = Observation { programmed: ProgrammedState::Unsettled, ..mk_seen(&spec, &[]) };
    let status = build_status(&seen);
    assert_eq!(
        words(&status),
        [
            "Accepted=True Accepted",
            "ResolvedRefs=Unknown Pending",
            "Programmed=Unknown Pending",
            "Available=False WaitingForPods",
            "Ready=False Unavailable",
        ]
    );
    assert_eq!(status.phase, Some(Phase::Pending));
    assert_eq!(condition(&status, "Ready").message, "No pod exists yet; 1 is wanted.");
}

#[test]
fn replicas_0_turns_off() {
    let spec = mk_spec(json!({ "replicas": 0 }));
    let seen = Observation {
        desired: Some(0),
        deployment: Some(mk_deployment(0, 0, 0, 0, json!([]))),
        ..mk_seen(&spec, &[])
    };
    let status = build_status(&seen);
    assert_eq!(words(&status)[3..], ["Available=False TurnedOff", "Ready=False TurnedOff"]);
    assert_eq!(status.phase, Some(Phase::Pending));
    assert!(condition(&status, "Ready").message.contains("remove spec.replicas or set it to 1"));
}

#[test]
fn an_agent_asleep_is_ready() {
    let spec = mk_spec(json!({ "mode": "serverless" }));
    let seen = Observation {
        desired: Some(0),
        deployment: Some(mk_deployment(0, 0, 0, 0, json!([]))),
        ..mk_seen(&spec, &[])
    };
    let status = build_status(&seen);
    assert_eq!(words(&status)[3..], ["Available=True ScaledToZero", "Ready=True ScaledToZero"]);
    assert_eq!(status.phase, Some(Phase::Ready));
}

#[test]
fn a_pinned_agent_says_how_to_unpin() {
    let (spec, pods) = (mk_spec(json!({ "replicas": 2 })), [ready_pod("travel-a"), ready_pod("travel-b")]);
    let seen = Observation {
        desired: Some(2),
        deployment: Some(mk_deployment(2, 2, 2, 2, json!([]))),
        ..mk_seen(&spec, &pods)
    };
    let status = build_status(&seen);
    assert_eq!(words(&status)[3..], ["Available=True Ready", "Ready=True Pinned"]);
    assert_eq!(
        condition(&status, "Ready").message,
        "Calls are answered. spec.replicas pins the size to 2 pods; to unpin: kubectl patch agent -n team-a travel \
         --type=json -p '[{\"op\":\"remove\",\"path\":\"/spec/replicas\"}]'"
    );
}

/// A change of size is no rollout, whether Kubernetes has counted it or not.
#[test]
fn scaling_stays_ready() {
    let (spec, pods) = (mk_spec(json!({})), [ready_pod("travel-a")]);
    let seen = Observation {
        desired: Some(3),
        deployment: Some(mk_deployment(3, 3, 3, 1, json!([]))),
        ..mk_seen(&spec, &pods)
    };
    let status = build_status(&seen);
    assert_eq!(words(&status)[3..], ["Available=True Ready", "Ready=True Ready"]);
    assert_eq!(status.phase, Some(Phase::Scaling));
    assert_eq!(condition(&status, "Available").message, "1 of 3 pods are ready.");

    let seen = Observation {
        generation: 8,
        before: Some(&status),
        wrote: Wrote::NotTheTemplate,
        deployment: Some(DeploymentState { observed: false, ..mk_deployment(3, 1, 1, 1, json!([])) }),
        ..seen
    };
    assert_eq!(words(&build_status(&seen))[4], "Ready=True Ready");
}

/// `kubectl wait --for=condition=Ready` after a change of the image must not end with the old pods.
#[test]
fn a_rollout_is_not_ready_from_its_first_moment_to_its_last() {
    let (spec, pods) = (mk_spec(json!({})), [ready_pod("travel-a")]);
    let seen =
        Observation { deployment: Some(mk_deployment(1, 1, 1, 1, json!([]))), ..mk_seen(&spec, &pods) };
    let old = build_status(&seen);

    let unobserved = DeploymentState { observed: false, ..mk_deployment(1, 1, 1, 1, json!([])) };
    let seen = Observation { generation: 8, before: Some(&old), deployment: Some(unobserved), ..seen };
    let begun = build_status(&Observation { wrote: Wrote::Template, ..seen.clone() });
    assert_eq!(words(&begun)[1], "ResolvedRefs=Unknown Pending", "old pods say nothing of new references");
    assert_eq!(words(&begun)[3..], ["Available=True Ready", "Ready=False RollingOut"]);
    assert_eq!(begun.phase, Some(Phase::Ready), "calls are answered");

    // The writer may die between its write and the status; or look again before Kubernetes has counted.
    assert_eq!(words(&build_status(&seen))[4], "Ready=False RollingOut");
    let again = Observation { before: Some(&begun), ..seen.clone() };
    assert_eq!(words(&build_status(&again))[4], "Ready=False RollingOut");
    let resized = Observation { wrote: Wrote::NotTheTemplate, ..again.clone() };
    assert_eq!(words(&build_status(&resized))[4], "Ready=False RollingOut");

    let both = [ready_pod("travel-a"), mk_pod("travel-b", "v2", 90, false, running(95))];
    let counted =
        Observation { deployment: Some(mk_deployment(1, 2, 1, 1, json!([]))), pods: &both, ..again.clone() };
    let under_way = build_status(&counted);
    assert_eq!(words(&under_way)[3..], ["Available=True Ready", "Ready=False RollingOut"]);
    assert_eq!(
        condition(&under_way, "Ready").message,
        "A rollout is under way: 1 of 1 pods are of the new version."
    );

    let done = [mk_pod("travel-b", "v2", 90, true, running(95))];
    let done =
        Observation { deployment: Some(mk_deployment(1, 1, 1, 1, json!([]))), pods: &done, ..again.clone() };
    assert_eq!(
        words(&build_status(&done))[1..],
        [
            "ResolvedRefs=True ResolvedRefs",
            "Programmed=True Programmed",
            "Available=True Ready",
            "Ready=True Ready"
        ]
    );
}

#[test]
fn a_rollout_without_progress_is_stuck() {
    let (spec, pods) = (mk_spec(json!({})), [ready_pod("travel-a")]);
    let deadline = json!([{
        "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
        "message": "ReplicaSet \"travel-6d4\" has timed out progressing.",
    }]);
    let seen = Observation { deployment: Some(mk_deployment(1, 2, 1, 1, deadline)), ..mk_seen(&spec, &pods) };
    let status = build_status(&seen);
    assert_eq!(words(&status)[3..], ["Available=True Ready", "Ready=False RolloutStuck"]);
    assert_eq!(status.phase, Some(Phase::Ready));
}

#[test]
fn programmed_follows_the_gateways_and_sticks() {
    let (spec, pods) = (mk_spec(json!({})), [ready_pod("travel-a")]);
    let base =
        Observation { deployment: Some(mk_deployment(1, 1, 1, 1, json!([]))), ..mk_seen(&spec, &pods) };
    let with = |programmed: ProgrammedState, before: Option<&AgentStatus>, generation| {
        build_status(&Observation { generation, before, programmed, ..base.clone() })
    };
    let held = with(ProgrammedState::Held, None, 7);
    let rejected = ProgrammedState::Rejected { gateway: "gw-1".into(), reason: "bad endpoint.".into() };
    let pending = ProgrammedState::Pending { missing: vec!["gw-1".into(), "gw-2".into()], more: 3 };

    for state in [ProgrammedState::Unsettled, ProgrammedState::NoGateways, pending.clone()] {
        assert_eq!(words(&with(state.clone(), Some(&held), 7))[2], "Programmed=True Programmed", "{state:?}");
    }
    let status = with(rejected, Some(&held), 7);
    assert_eq!(words(&status)[2], "Programmed=False Rejected");
    assert_eq!(condition(&status, "Programmed").message, "Gateway gw-1 refuses the route: bad endpoint.");
    assert_eq!(words(&status)[4], "Ready=False NotProgrammed");
    assert_eq!(status.phase, Some(Phase::Ready), "gateways keep the last good route");
    assert_eq!(
        words(&with(ProgrammedState::Unsettled, Some(&status), 7))[2],
        "Programmed=False Rejected",
        "a new leader does not forget"
    );

    let status = with(pending, Some(&held), 8);
    assert_eq!(words(&status)[2], "Programmed=Unknown Pending");
    assert_eq!(
        condition(&status, "Programmed").message,
        "Gateways that do not hold the route yet: gw-1, gw-2 and 3 more."
    );
    assert_eq!(words(&with(ProgrammedState::Unsettled, Some(&held), 8))[2], "Programmed=Unknown Pending");

    let status = with(ProgrammedState::NoGateways, None, 7);
    assert_eq!(
        words(&status)[2..],
        ["Programmed=False NoGateways", "Available=True Ready", "Ready=False NotProgrammed"]
    );
    assert_eq!(status.phase, Some(Phase::Pending));
}

#[test]
fn a_refusal_is_told_and_old_pods_go_on() {
    let (spec, pods) = (mk_spec(json!({})), [ready_pod("travel-a")]);
    let refused =
        |reason| Acceptance::Refused { reason, message: "Service \"travel\" is not Krypton's.".into() };
    for reason in conditions::AcceptedReason::ALL.iter().filter(|r| r.status() == ConditionStatus::False) {
        let seen = Observation { acceptance: refused(*reason), ..mk_seen(&spec, &pods) };
        let status = build_status(&seen);
        assert_eq!(condition(&status, "Accepted").reason, reason.as_str());
        assert_eq!(words(&status)[3..], ["Available=False NotAccepted", "Ready=False NotAccepted"]);
        assert_eq!(condition(&status, "Ready").message, "Service \"travel\" is not Krypton's.");
        assert_eq!(status.phase, Some(Phase::Failed));

        let seen = Observation { deployment: Some(mk_deployment(1, 1, 1, 1, json!([]))), ..seen };
        let status = build_status(&seen);
        assert_eq!(words(&status)[3..], ["Available=True Ready", "Ready=False NotAccepted"]);

        let state = json!({ "state": { "terminated": { "exitCode": 1, "reason": "Error" } } });
        let crashing = [mk_pod("travel-a", "v1", 0, false, state)];
        let deployment = Some(mk_deployment(1, 1, 1, 0, json!([])));
        let status = build_status(&Observation { deployment, pods: &crashing, ..seen });
        assert_eq!(words(&status)[3..], ["Available=False CrashLooping", "Ready=False NotAccepted"]);
    }
}

#[test]
fn no_url_names_somebody_elses_service() {
    let (spec, pods) = (mk_spec(json!({})), [ready_pod("travel-a")]);
    let own = spec.clone();
    let before = build_status(&mk_seen(&own, &pods));
    assert!(before.url.is_some());
    let error = DecodeError::Field { path: "spec.timeout".into(), reason: "must be greater than 0".into() };
    for spec in [Ok(&spec), Err(&error)] {
        let seen = Observation { before: Some(&before), spec, ..mk_seen(&own, &pods) };
        assert_eq!(build_status(&seen).url, before.url);
        assert_eq!(build_status(&Observation { service: false, ..seen }).url, None);
    }
}

#[test]
fn an_api_server_that_does_not_answer_changes_nothing() {
    let (spec, pods) = (mk_spec(json!({})), [ready_pod("travel-a")]);
    let seen =
        Observation { deployment: Some(mk_deployment(1, 1, 1, 1, json!([]))), ..mk_seen(&spec, &pods) };
    let before = build_status(&seen);
    let away = Observation { acceptance: Acceptance::Unsettled, before: Some(&before), ..seen };
    assert_eq!(build_status(&away), before);
    let newer = build_status(&Observation { generation: 8, ..away });
    assert_eq!(words(&newer)[0], "Accepted=Unknown Pending");
    assert_eq!(words(&newer)[4], "Ready=False NotAccepted");
}

/// Nothing is known of its route: `Programmed` stays as it was. Its pods are known.
#[test]
fn an_agent_that_does_not_decode() {
    let (spec, pods) = (mk_spec(json!({})), [ready_pod("travel-a")]);
    let seen =
        Observation { deployment: Some(mk_deployment(1, 1, 1, 1, json!([]))), ..mk_seen(&spec, &pods) };
    let before = build_status(&seen);
    let error = DecodeError::Field { path: "spec.timeout".into(), reason: "must be greater than 0".into() };
    let broken = Observation { spec: Err(&error), desired: None, generation: 8, ..seen };
    let status = build_status(&Observation { before: Some(&before), ..broken.clone() });
    assert_eq!(
        words(&status),
        [
            "Accepted=False InvalidSpec",
            "ResolvedRefs=True ResolvedRefs",
            "Programmed=True Programmed",
            "Available=True Ready",
            "Ready=False NotAccepted",
        ]
    );
    assert_eq!(condition(&status, "Programmed").observed_generation, Some(7));
    assert_eq!(status.observed_generation, Some(8));
    assert_eq!(status.desired_replicas, Some(1));
    assert_eq!(status.url, before.url);
    assert_eq!(
        condition(&status, "Ready").message,
        "spec.timeout: must be greater than 0. Correct the field and apply the Agent again."
    );

    let status = build_status(&Observation { deployment: None, pods: &[], ..broken });
    assert_eq!(
        words(&status),
        [
            "Accepted=False InvalidSpec",
            "ResolvedRefs=Unknown Pending",
            "Available=False NotAccepted",
            "Ready=False NotAccepted",
        ]
    );
    assert_eq!(status.phase, Some(Phase::Failed));
}

#[test]
fn a_transition_is_a_change_of_status_alone() {
    let (spec, pods) = (mk_spec(json!({})), [ready_pod("travel-a")]);
    let seen = mk_seen(&spec, &pods);
    let waiting = build_status(&seen);
    let image = [mk_pod(
        "travel-a",
        "v1",
        0,
        false,
        json!({ "state": { "waiting": { "reason": "InvalidImageName" } } }),
    )];
    let seen = Observation { pods: &image, before: Some(&waiting), now: at(200), ..seen };
    let failing =
        build_status(&Observation { deployment: Some(mk_deployment(1, 1, 1, 0, json!([]))), ..seen.clone() });
    assert_ne!(condition(&waiting, "Available").reason, condition(&failing, "Available").reason);
    assert_eq!(condition(&failing, "Available").last_transition_time.0, at(100));
    let seen = Observation { pods: &pods, now: at(300), ..seen };
    let ready = build_status(&Observation { deployment: Some(mk_deployment(1, 1, 1, 1, json!([]))), ..seen });
    assert_eq!(condition(&ready, "Available").last_transition_time.0, at(300));
    assert_eq!(condition(&ready, "Accepted").last_transition_time.0, at(100));
}

#[test]
fn the_last_invocation_rides_along_or_waits_until_due() {
    let (spec, pods) = (mk_spec(json!({})), [ready_pod("travel-a")]);
    let seen =
        Observation { deployment: Some(mk_deployment(1, 1, 1, 1, json!([]))), ..mk_seen(&spec, &pods) };
    let before = build_status(&seen);
    assert_eq!(before.last_invocation_at, None);
    let precise = Timestamp::from_millisecond(at(50).as_millisecond() + 678).unwrap();
    let last = |due| Some(LastInvocation { at: precise, due });
    let seen = Observation { before: Some(&before), last_invocation: last(false), ..seen };
    assert!(!needs_write(Some(&before), &build_status(&seen)), "not worth a write");

    let due = build_status(&Observation { last_invocation: last(true), ..seen.clone() });
    assert_eq!(due.last_invocation_at, Some(Time(at(50))), "in whole seconds");
    let along = build_status(&Observation { desired: Some(2), ..seen.clone() });
    assert_eq!(along.last_invocation_at, Some(Time(at(50))));

    let older = Some(LastInvocation { at: at(10), due: true });
    let kept = build_status(&Observation { before: Some(&due), last_invocation: older, ..seen });
    assert!(!needs_write(Some(&due), &kept), "never back in time");
}

/// A Go controller's status, or one with conditions of a later version, is replaced by ours.
#[test]
fn conditions_of_others_go() {
    let (spec, pods) = (mk_spec(json!({})), [ready_pod("travel-a")]);
    let before: AgentStatus = serde_json::from_value(json!({
        "phase": "Ready",
        "conditions": [
            { "type": "Available", "status": "True", "reason": "Ready", "message": "m",
              "lastTransitionTime": at(5).to_string() },
            { "type": "Progressing", "status": "False", "reason": "R", "message": "m",
              "lastTransitionTime": at(5).to_string() },
        ],
    }))
    .unwrap();
    let seen = Observation {
        deployment: Some(mk_deployment(1, 1, 1, 1, json!([]))),
        before: Some(&before),
        ..mk_seen(&spec, &pods)
    };
    let status = build_status(&seen);
    assert_eq!(status.conditions.len(), 5);
    assert_eq!(condition(&status, "Available").last_transition_time.0, at(5));
}
