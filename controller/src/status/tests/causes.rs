//! Each cause of too few pods, from what Kubernetes says to what a person reads.

use super::*;

fn waiting(reason: &str, message: &str) -> Value {
    json!({ "state": { "waiting": { "reason": reason, "message": message } } })
}

/// The reason and message of `Available` for an Agent whose only pod is `pod`.
fn told(pod: PodState) -> (String, String) {
    let status = status_of(&mk_spec(json!({})), pod, json!([]));
    let available = condition(&status, "Available");
    (available.reason.clone(), available.message.clone())
}

fn status_of(spec: &AgentSpec, pod: PodState, conditions: Value) -> AgentStatus {
    let pods = [pod];
    build_status(&Observation {
        deployment: Some(mk_deployment(1, 1, 1, 0, conditions)),
        ..mk_seen(spec, &pods)
    })
}

fn told_of(state: Value) -> (String, String) {
    told(mk_pod("travel-a", "v1", 0, false, state))
}

fn assert_told(state: Value, reason: &str, message: &str) {
    let told = told_of(state);
    assert_eq!((told.0.as_str(), told.1.as_str()), (reason, message));
}

#[test]
fn images_that_cannot_be_pulled() {
    let missing = r#"rpc error: code = NotFound desc = failed to pull and unpack image "ghcr.io/org/travel:1": failed to resolve reference "ghcr.io/org/travel:1": ghcr.io/org/travel:1: not found"#;
    let message = "Pod travel-a: image \"ghcr.io/org/travel:1\" cannot be pulled: failed to pull and unpack image \
                   \"ghcr.io/org/travel:1\": failed to resolve reference \"ghcr.io/org/travel:1\": \
                   ghcr.io/org/travel:1: not found. Check the image's name, and spec.imagePullSecrets if its \
                   registry asks for credentials.";
    assert_told(waiting("ErrImagePull", missing), "ImagePullFailed", message);
    // The kubelet goes back and forth between the two; the message must not.
    let backing_off = format!(r#"Back-off pulling image "ghcr.io/org/travel:1": ErrImagePull: {missing}"#);
    assert_told(waiting("ImagePullBackOff", &backing_off), "ImagePullFailed", message);
    assert_told(
        waiting(
            "InvalidImageName",
            r#"Failed to apply default image tag "Travel": couldn't parse image name "Travel": invalid reference format: repository name must be lowercase"#,
        ),
        "ImagePullFailed",
        "Pod travel-a: \"ghcr.io/org/travel:1\" is not the name of an image: Failed to apply default image tag \
         \"Travel\": couldn't parse image name \"Travel\": invalid reference format: repository name must be \
         lowercase. Check the image's name, and spec.imagePullSecrets if its registry asks for credentials.",
    );
    let (reason, message) = told_of(waiting(
        "ErrImageNeverPull",
        r#"Container image "ghcr.io/org/travel:1" is not present with pull policy of Never"#,
    ));
    assert_eq!(reason, "ImagePullFailed");
    assert!(message.contains("its node does not have image"), "{message}");
    assert!(message.contains("spec.imagePullPolicy is Never"), "{message}");
}

/// Kubelets before 1.32 leave the cause out while they back off.
#[test]
fn a_cause_told_once_is_kept_while_the_kubelet_backs_off() {
    let (spec, pods) = (
        mk_spec(json!({})),
        [mk_pod("travel-a", "v1", 0, false, waiting("ErrImagePull", "pull access denied"))],
    );
    let seen =
        Observation { deployment: Some(mk_deployment(1, 1, 1, 0, json!([]))), ..mk_seen(&spec, &pods) };
    let first = build_status(&seen);
    let message = &condition(&first, "Available").message;
    assert!(message.contains("pull access denied"), "{message}");
    let pods = [mk_pod(
        "travel-a",
        "v1",
        0,
        false,
        waiting("ImagePullBackOff", "Back-off pulling image \"ghcr.io/org/travel:1\""),
    )];
    let second = build_status(&Observation { pods: &pods, before: Some(&first), ..seen.clone() });
    assert_eq!(first, second);
    let unknown = build_status(&Observation { pods: &pods, ..seen });
    assert!(
        condition(&unknown, "Available")
            .message
            .starts_with("Pod travel-a: image \"ghcr.io/org/travel:1\" cannot be pulled. Check")
    );
}

#[test]
fn agents_that_crash() {
    let exited = json!({ "terminated": { "exitCode": 1, "reason": "Error", "message": "no API_KEY\n" } });
    let message = "Pod travel-a: the agent exited with code 1. Its last words: no API_KEY. See why: kubectl logs -n \
                   team-a travel-a -c agent --previous.";
    assert_told(json!({ "state": exited }), "CrashLooping", message);
    let backing_off = json!({
        "state": { "waiting": {
            "reason": "CrashLoopBackOff",
            "message": "back-off 40s restarting failed container=agent pod=travel-a_team-a(6f0)",
        }},
        "lastState": exited, "restartCount": 4,
    });
    assert_told(backing_off, "CrashLooping", message);
    // Between two crashes.
    let mut again = running(99);
    again["lastState"] = exited.clone();
    again["restartCount"] = json!(2);
    assert_told(again.clone(), "CrashLooping", message);
    again["restartCount"] = json!(1);
    assert_eq!(told_of(again).0, "WaitingForPods", "one restart may be all it took");

    let oom = json!({ "state": { "terminated": { "exitCode": 137, "reason": "OOMKilled", "message": "GET /\n" } } });
    let (reason, message) = told_of(oom);
    assert_eq!(reason, "CrashLooping");
    assert!(
        message
            .contains("more memory than its limit (OOMKilled); raise spec.resources.limits.memory. See why"),
        "{message}"
    );
    let done = json!({ "state": { "terminated": { "exitCode": 0, "reason": "Completed" } } });
    assert!(told_of(done).1.contains("ended by itself with exit code 0, but must go on running."));
}

/// Neither restarts nor back-off times are in it: they would be a write each.
#[test]
fn a_crash_loop_is_one_write() {
    let spec = mk_spec(json!({}));
    let crash = |restarts: u32, seconds: u32| {
        let state = json!({
            "state": { "waiting": {
                "reason": "CrashLoopBackOff", "message": format!("back-off {seconds}s restarting failed container"),
            }},
            "lastState": { "terminated": { "exitCode": 1, "reason": "Error" } }, "restartCount": restarts,
        });
        status_of(&spec, mk_pod("travel-a", "v1", 0, false, state), json!([]))
    };
    assert_eq!(crash(2, 20), crash(9, 300));
}

#[test]
fn containers_that_cannot_be_started() {
    let why = r#"failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "serve": executable file not found in $PATH"#;
    let message = format!(
        "Pod travel-a: container \"agent\" cannot be started: {why}. Check the image and spec.podTemplate."
    );
    assert_told(waiting("RunContainerError", why), "PodsFailing", &message);
    let looping = json!({
        "state": { "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 10s" } },
        "lastState": { "terminated": { "exitCode": 128, "reason": "StartError", "message": why } },
    });
    assert_told(looping, "PodsFailing", &message);
    let (reason, message) = told_of(waiting(
        "CreateContainerConfigError",
        "container has runAsNonRoot and image will run as root (pod: \"x\", container: agent)",
    ));
    assert_eq!(reason, "PodsFailing");
    assert!(message.contains("image will run as root"), "{message}");
}

#[test]
fn references_that_lead_nowhere() {
    let spec = mk_spec(json!({
        "serviceAccountName": "robot",
        "env": [
            { "name": "A", "value": "b" },
            { "name": "TOKEN", "valueFrom": { "secretKeyRef": { "name": "llm", "key": "token" } } },
        ],
        "envFrom": [{ "configMapRef": { "name": "settings" } }],
    }));
    let config = |message: &str| {
        let pod = mk_pod("travel-a", "v1", 0, false, waiting("CreateContainerConfigError", message));
        status_of(&spec, pod, json!([]))
    };
    let cases = [
        (
            r#"secret "llm" not found"#,
            "Secret \"llm\" does not exist in namespace team-a, but spec.env[1] refers to it. Create it or mark the \
             reference optional.",
        ),
        (
            r#"configmap "settings" not found"#,
            "ConfigMap \"settings\" does not exist in namespace team-a, but spec.envFrom[0] refers to it. Create it \
             or mark the reference optional.",
        ),
        (
            "couldn't find key token in Secret team-a/llm",
            "Secret \"llm\" in namespace team-a has no key \"token\", but spec.env[1] refers to it. Add the key or \
             mark the reference optional.",
        ),
        (
            "couldn't find key k in ConfigMap team-a/of-a-sidecar",
            "ConfigMap \"of-a-sidecar\" in namespace team-a has no key \"k\". Add the key or mark the reference \
             optional.",
        ),
    ];
    for (message, told) in cases {
        let status = config(message);
        assert_eq!(words(&status)[1], "ResolvedRefs=False RefNotFound");
        assert_eq!(condition(&status, "ResolvedRefs").message, told);
        assert_eq!(words(&status)[3..], ["Available=False PodsFailing", "Ready=False UnresolvedRefs"]);
        assert_eq!(condition(&status, "Ready").message, told);
        assert_eq!(status.phase, Some(Phase::Failed));
    }
    let status = no_pods(
        &spec,
        r#"pods "travel-6d4f9-" is forbidden: error looking up service account team-a/robot: serviceaccount "robot" not found"#,
    );
    assert_eq!(words(&status)[1], "ResolvedRefs=False RefNotFound");
    assert_eq!(
        condition(&status, "Ready").message,
        "ServiceAccount \"robot\" does not exist in namespace team-a, but spec.serviceAccountName refers to it. \
         Create it or name another."
    );
}

/// The status of an Agent whose pods the API server refuses with `message`.
fn no_pods(spec: &AgentSpec, message: &str) -> AgentStatus {
    let failure =
        json!([{ "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message }]);
    build_status(&Observation { deployment: Some(mk_deployment(1, 0, 0, 0, failure)), ..mk_seen(spec, &[]) })
}

#[test]
fn pods_that_are_refused() {
    let spec = mk_spec(json!({}));
    let cases = [
        (
            r#"pods "travel-6d4f9-x7k2p" is forbidden: exceeded quota: team-quota, requested: requests.cpu=2, used: requests.cpu=9, limited: requests.cpu=10"#,
            "QuotaExceeded",
            "No further pod may be made: exceeded quota: team-quota, requested: requests.cpu=2, used: \
             requests.cpu=9, limited: requests.cpu=10. Ask for less in spec.resources, run fewer pods, or have the \
             ResourceQuota raised.",
        ),
        (
            r#"pods "travel-6d4f9-x7k2p" is forbidden: failed quota: team-quota: must specify limits.memory for: agent"#,
            "QuotaExceeded",
            "No pod may be made: failed quota: team-quota: must specify limits.memory for: agent. Set those in \
             spec.resources.",
        ),
        (
            r#"pods "travel-6d4f9-x7k2p" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true (pod or container "agent" must set securityContext.runAsNonRoot=true)"#,
            "PodsRefused",
            "Pods are refused: violates PodSecurity \"restricted:latest\": runAsNonRoot != true (pod or container \
             \"agent\" must set securityContext.runAsNonRoot=true). Change spec.resources or spec.podTemplate, or \
             what refuses them.",
        ),
        (
            r#"admission webhook "policy.example.com" denied the request: images must be signed"#,
            "PodsRefused",
            "Pods are refused: admission webhook \"policy.example.com\" denied the request: images must be signed. \
             Change spec.resources or spec.podTemplate, or what refuses them.",
        ),
    ];
    for (said, reason, message) in cases {
        let status = no_pods(&spec, said);
        let available = condition(&status, "Available");
        assert_eq!((available.reason.as_str(), available.message.as_str()), (reason, message));
        assert_eq!(condition(&status, "Ready").reason, "Unavailable");
        assert_eq!(status.phase, Some(Phase::Failed));
    }
}

#[test]
fn a_quota_that_leaves_room_for_some_is_told_beside_the_ready_ones() {
    let (spec, pods) = (mk_spec(json!({})), [ready_pod("travel-a")]);
    let failure = json!([{
        "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
        "message": "pods \"travel-x\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1",
    }]);
    let status = build_status(&Observation {
        desired: Some(3),
        deployment: Some(mk_deployment(3, 1, 1, 1, failure)),
        ..mk_seen(&spec, &pods)
    });
    assert_eq!(words(&status)[3..], ["Available=True Ready", "Ready=True Ready"]);
    let message = &condition(&status, "Available").message;
    assert!(
        message.starts_with("1 of 3 pods are ready. No further pod may be made: exceeded quota: q"),
        "{message}"
    );
    assert_eq!(status.phase, Some(Phase::Scaling));
}

#[test]
fn pods_that_no_node_takes() {
    // What follows the cause in 1.33 and in 1.36.
    for more in [
        " preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.",
        " no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.",
    ] {
        let cause =
            "0/3 nodes are available: 1 node(s) had untolerated taint {gpu: yes}, 2 Insufficient cpu.";
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "travel-a" },
            "status": { "phase": "Pending", "conditions": [{
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": format!("{cause}{more}"),
            }]},
        }))
        .unwrap();
        let status = status_of(&mk_spec(json!({})), PodState::from_pod(&pod), json!([]));
        assert_eq!(condition(&status, "Available").reason, "Unschedulable");
        assert_eq!(
            condition(&status, "Available").message,
            format!("No node takes pod travel-a: {cause} Add room, or ask for less in spec.resources.")
        );
        assert_eq!(status.phase, Some(Phase::Pending));
    }
}

#[test]
fn an_agent_that_does_not_listen() {
    assert_eq!(told_of(running(71)).0, "WaitingForPods", "29 s are not long");
    assert_told(
        running(70),
        "ProbeFailing",
        "Pod travel-a has run for more than 30 s, but nothing listens on its port 9000 yet. The agent must listen on \
         0.0.0.0:9000; or set spec.port to the port that it listens on.",
    );
    let probe = json!({ "httpGet": { "path": "/", "port": "http" } });
    let own = mk_spec(json!({
        "podTemplate": { "spec": { "containers": [{ "name": "agent", "readinessProbe": probe }] } },
    }));
    let status = status_of(&own, mk_pod("travel-a", "v1", 0, false, running(70)), json!([]));
    assert_eq!(
        condition(&status, "Available").message,
        "Pod travel-a has run for more than 30 s without passing its readiness probe. See why: kubectl describe pod \
         -n team-a travel-a."
    );
}

#[test]
fn containers_that_take_long_to_create() {
    let creating = |created| mk_pod("travel-a", "v1", created, false, waiting("ContainerCreating", ""));
    assert_eq!(told(creating(50)).1, "0 of 1 pods are ready; they are starting.");
    let (reason, message) = told(creating(40));
    assert_eq!(reason, "WaitingForPods");
    assert!(message.contains("a volume that cannot be mounted"), "{message}");
    assert!(message.ends_with("kubectl describe pod -n team-a travel-a."), "{message}");
}

/// Time alone changes two answers; the caller looks again then.
#[test]
fn the_next_check_is_when_patience_ends() {
    let spec = mk_spec(json!({}));
    let next = |pod: PodState| {
        let pods = [pod];
        next_check(&mk_seen(&spec, &pods))
    };
    assert_eq!(next(mk_pod("travel-a", "v1", 0, false, running(90))), Some(at(120)));
    assert_eq!(next(mk_pod("travel-a", "v1", 0, false, running(10))), None, "told already");
    assert_eq!(next(ready_pod("travel-a")), None);
    let creating = mk_pod("travel-a", "v1", 90, false, waiting("ContainerCreating", ""));
    assert_eq!(next(creating), Some(at(150)));
}

#[test]
fn init_containers_that_fail() {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "travel-a" },
        "status": {
            "phase": "Pending",
            "initContainerStatuses": [
                { "name": "first", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                  "state": { "terminated": { "exitCode": 0, "reason": "Completed" } } },
                { "name": "migrate", "image": "i", "imageID": "", "ready": false, "restartCount": 3,
                  "state": { "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 40s" } },
                  "lastState": { "terminated": { "exitCode": 2, "reason": "Error" } } },
            ],
            "containerStatuses": [
                { "name": "agent", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                  "state": { "waiting": { "reason": "PodInitializing" } } },
            ],
        },
    }))
    .unwrap();
    let (reason, message) = told(PodState::from_pod(&pod));
    assert_eq!(reason, "PodsFailing");
    assert_eq!(
        message,
        "Pod travel-a: init container \"migrate\" exited with code 2. See why: kubectl logs -n team-a travel-a -c \
         migrate --previous."
    );
}

/// The one that was evicted stays around, and is told of while nothing else answers.
#[test]
fn evicted_pods() {
    let evicted: Pod = serde_json::from_value(json!({
        "metadata": { "name": "travel-a", "creationTimestamp": at(0).to_string() },
        "status": {
            "phase": "Failed", "reason": "Evicted",
            "message": "The node was low on resource: memory. Threshold quantity: 100Mi, available: 52Mi. ",
        },
    }))
    .unwrap();
    let evicted = PodState::from_pod(&evicted);
    let (reason, message) = told(evicted.clone());
    assert_eq!(reason, "WaitingForPods");
    assert_eq!(
        message,
        "No pod exists yet; 1 is wanted. Pod travel-a ended: Evicted: The node was low on resource: memory. Threshold \
         quantity: 100Mi, available: 52Mi."
    );
    let (spec, pods) = (mk_spec(json!({})), [evicted, ready_pod("travel-b")]);
    let seen =
        Observation { deployment: Some(mk_deployment(1, 1, 1, 1, json!([]))), ..mk_seen(&spec, &pods) };
    assert_eq!(condition(&build_status(&seen), "Available").message, "1 pod is ready.");
}

#[test]
fn a_bad_image_in_a_rollout_leaves_the_old_pods_serving() {
    let bad = waiting("ErrImagePull", "not found");
    let (spec, pods) =
        (mk_spec(json!({})), [ready_pod("travel-a"), mk_pod("travel-b", "v2", 90, false, bad)]);
    let status = build_status(&Observation {
        deployment: Some(mk_deployment(1, 2, 1, 1, json!([]))),
        ..mk_seen(&spec, &pods)
    });
    assert_eq!(words(&status)[3..], ["Available=True Ready", "Ready=False RolloutStuck"]);
    assert_eq!(status.phase, Some(Phase::Ready));
    assert_eq!(
        condition(&status, "Ready").message,
        "Pods of the new version do not start; older ones answer calls meanwhile. Pod travel-b: image \
         \"ghcr.io/org/travel:1\" cannot be pulled: not found. Check the image's name, and spec.imagePullSecrets if \
         its registry asks for credentials."
    );
}

/// What is wrong with the old pods is what the rollout repairs.
#[test]
fn a_rollout_is_judged_by_its_new_pods() {
    let crash = json!({ "state": { "terminated": { "exitCode": 1, "reason": "Error" } } });
    let (spec, pods) = (
        mk_spec(json!({})),
        [mk_pod("travel-a", "v1", 0, false, crash), mk_pod("travel-b", "v2", 95, false, running(99))],
    );
    let seen =
        Observation { deployment: Some(mk_deployment(1, 2, 1, 0, json!([]))), ..mk_seen(&spec, &pods) };
    assert_eq!(condition(&build_status(&seen), "Available").reason, "WaitingForPods");
    let not_begun =
        Observation { deployment: Some(mk_deployment(1, 1, 0, 0, json!([]))), pods: &pods[..1], ..seen };
    assert_eq!(condition(&build_status(&not_begun), "Available").reason, "WaitingForPods");
}

/// A slow start and a full cluster may yet turn out well.
#[test]
fn a_slow_rollout_is_not_stuck_before_its_deadline() {
    let (spec, pods) =
        (mk_spec(json!({})), [ready_pod("travel-a"), mk_pod("travel-b", "v2", 60, false, running(65))]);
    let seen =
        Observation { deployment: Some(mk_deployment(1, 2, 1, 1, json!([]))), ..mk_seen(&spec, &pods) };
    let status = build_status(&seen);
    assert_eq!(condition(&status, "Ready").reason, "RollingOut");
    assert!(condition(&status, "Ready").message.contains("nothing listens on its port 9000"));
}

#[test]
fn the_gravest_problem_is_told_whatever_the_order() {
    let pods = [
        mk_pod("travel-a", "v1", 0, false, running(1)),
        mk_pod("travel-b", "v1", 0, false, waiting("ErrImagePull", "denied")),
        mk_pod("travel-c", "v1", 0, false, waiting("ErrImagePull", "denied")),
    ];
    let spec = mk_spec(json!({}));
    let seen = Observation {
        desired: Some(3),
        deployment: Some(mk_deployment(3, 3, 3, 0, json!([]))),
        ..mk_seen(&spec, &pods)
    };
    let status = build_status(&seen);
    assert!(condition(&status, "Available").message.starts_with("Pod travel-b: image"));
    let turned: Vec<_> = pods.iter().rev().cloned().collect();
    assert_eq!(build_status(&Observation { pods: &turned, ..seen }), status);
}

#[test]
fn terminating_pods_are_not_asked() {
    let mut pod = mk_pod("travel-a", "v1", 0, false, waiting("ErrImagePull", "denied"));
    pod.terminating = true;
    assert_eq!(told(pod).0, "WaitingForPods");
}
