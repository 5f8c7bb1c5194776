//! What holds for any observation.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn arb_container() -> impl Strategy<Value = ContainerState> {
    let exit = || {
        (select(vec![0, 1, 137]), select(vec!["Error", "OOMKilled", "StartError", ""]), ".{0,600}")
            .prop_map(|(code, reason, message)| Exit { code, reason: reason.to_owned(), message })
    };
    let reasons = vec![
        "",
        "ContainerCreating",
        "ErrImagePull",
        "ImagePullBackOff",
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "RunContainerError",
        "Other",
    ];
    let messages = prop_oneof![
        Just(String::new()),
        Just(r#"secret "llm" not found"#.to_owned()),
        Just(r#"Back-off pulling image "i""#.to_owned()),
        ".{0,2000}",
    ];
    let now = prop_oneof![
        (select(reasons), messages)
            .prop_map(|(reason, message)| Run::Waiting { reason: reason.to_owned(), message }),
        (0..200_i64).prop_map(|since| Run::Running { since: Some(at(since)) }),
        exit().prop_map(Run::Exited),
    ];
    (select(vec!["agent", "other"]), any::<bool>(), 0..4_u32, now, proptest::option::of(exit())).prop_map(
        |(name, ready, restarts, now, last)| ContainerState {
            name: name.to_owned(),
            image: "i".to_owned(),
            ready,
            restarts,
            now,
            last,
        },
    )
}

fn arb_pod() -> impl Strategy<Value = PodState> {
    let containers = || proptest::collection::vec(arb_container(), 0..3);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let unschedulable = proptest::option::of(".{0,100}");
    ("[a-c]", select(vec!["v1", "v2"]), 0..200_i64, flags, unschedulable, containers(), containers())
        .prop_map(
            |(
                name,
                revision,
                created,
                (terminating, ended, ready),
                unschedulable,
                init_containers,
                containers,
            )| PodState {
                name,
                revision: Some(revision.to_owned()),
                created: Some(at(created)),
                terminating,
                ended,
                ended_because: "Evicted".to_owned(),
                ready,
                unschedulable,
                init_containers,
                containers,
            },
        )
}

fn arb_deployment() -> impl Strategy<Value = DeploymentState> {
    let counts = (0..4_u32, 0..4_u32, 0..4_u32, 0..4_u32);
    let failure = prop_oneof![
        Just("exceeded quota".to_owned()),
        Just(r#"serviceaccount "x" not found"#.to_owned()),
        ".{0,2000}"
    ];
    (any::<bool>(), counts, proptest::option::of(failure), any::<bool>()).prop_map(
        |(observed, (wanted, replicas, updated, ready), replica_failure, deadline_exceeded)| {
            DeploymentState { observed, wanted, replicas, updated, ready, replica_failure, deadline_exceeded }
        },
    )
}

fn arb_acceptance() -> impl Strategy<Value = Acceptance> {
    let refused = AcceptedReason::ALL.iter().copied().filter(|r| r.status() == ConditionStatus::False);
    prop_oneof![
        Just(Acceptance::Accepted),
        Just(Acceptance::Unsettled),
        (select(refused.collect::<Vec<_>>()), "No.{0,3000}")
            .prop_map(|(reason, message)| Acceptance::Refused { reason, message }),
    ]
}

fn arb_programmed() -> impl Strategy<Value = ProgrammedState> {
    prop_oneof![
        Just(ProgrammedState::Unsettled),
        Just(ProgrammedState::NoGateways),
        Just(ProgrammedState::Held),
        Just(ProgrammedState::Pending { missing: vec!["g".to_owned()], more: 1 }),
        ".{0,2000}".prop_map(|reason| ProgrammedState::Rejected { gateway: "g".to_owned(), reason }),
    ]
}

/// Why the spec of a look does not decode.
static BROKEN: DecodeError = DecodeError::Field { path: String::new(), reason: String::new() };

/// What changes from one look to the next.
type Look =
    (Acceptance, Wrote, Option<DeploymentState>, Vec<PodState>, ProgrammedState, (Option<u32>, i64), bool);

fn arb_look() -> impl Strategy<Value = Look> {
    (
        arb_acceptance(),
        select(vec![Wrote::Nothing, Wrote::NotTheTemplate, Wrote::Template]),
        proptest::option::of(arb_deployment()),
        proptest::collection::vec(arb_pod(), 0..4),
        arb_programmed(),
        (proptest::option::of(0..4_u32), 1..3_i64),
        any::<bool>(),
    )
}

fn seen<'a>(
    spec: &'a AgentSpec,
    look: &'a Look,
    before: Option<&'a AgentStatus>,
    now: i64,
) -> Observation<'a> {
    let (acceptance, wrote, deployment, pods, programmed, (desired, generation), decodes) = look;
    Observation {
        generation: *generation,
        spec: if *decodes { Ok(spec) } else { Err(&BROKEN) },
        before,
        acceptance: acceptance.clone(),
        wrote: *wrote,
        deployment: deployment.clone(),
        desired: *desired,
        programmed: programmed.clone(),
        last_invocation: Some(LastInvocation { at: at(now), due: *decodes }),
        now: at(now),
        ..mk_seen(spec, pods)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Whatever was before, a status that was written is not written again.
    #[test]
    fn a_second_look_writes_nothing(
        first in arb_look(), second in arb_look(), replicas in proptest::option::of(0..3_u32),
    ) {
        let spec = mk_spec(json!({ "replicas": replicas, "mode": "serverless" }));
        let before = build_status(&seen(&spec, &first, None, 10));
        let written = build_status(&seen(&spec, &second, Some(&before), 100));
        let again = Observation { now: at(100), ..seen(&spec, &second, Some(&written), 100) };
        let again = build_status(&again);
        prop_assert!(!needs_write(Some(&written), &again), "{written:#?}\n{again:#?}");
        prop_assert!(events::events(Some(&written), &again, &[]).is_empty());

        // As it comes back from the API server.
        let stored: AgentStatus = serde_json::from_value(serde_json::to_value(&written).unwrap()).unwrap();
        prop_assert_eq!(&stored, &written);
    }

    #[test]
    fn conditions_are_whole(first in arb_look(), second in arb_look()) {
        let spec = mk_spec(json!({}));
        let before = build_status(&seen(&spec, &first, None, 10));
        let status = build_status(&seen(&spec, &second, Some(&before), 100));
        let (generation, decodes) = (second.5.1, second.6);
        prop_assert_eq!(status.observed_generation, Some(generation));
        let types: Vec<_> = status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
        let all: Vec<_> = ConditionType::ALL.iter().map(|kind| kind.as_str()).collect();
        if decodes {
            prop_assert_eq!(types, all);
        } else {
            prop_assert_eq!(types.iter().filter(|kind| **kind != "Programmed").count(), 4);
        }
        for condition in &status.conditions {
            prop_assert!(condition.observed_generation == Some(generation)
                || (!decodes && condition.type_ == "Programmed"));
            prop_assert!(!condition.reason.is_empty() && !condition.message.is_empty());
            prop_assert!(condition.message.len() <= 1024, "{}", condition.message.len());
            prop_assert!(!condition.message.chars().any(char::is_control));
        }
        let ready = condition(&status, "Ready").status == "True";
        let hold = status.conditions.iter().all(|c| c.status == "True" || c.type_ == "ResolvedRefs");
        prop_assert!(!ready || hold, "Ready sums up the others: {:?}", words(&status));
    }
}
