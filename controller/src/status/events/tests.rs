use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::*;

/// A status with these `(type, reason)`; each message is `About <reason>.`
fn mk_status(reasons: &[(&str, &str)]) -> AgentStatus {
    let condition = |(kind, reason): &(&str, &str)| Condition {
        type_: (*kind).to_owned(),
        status: String::new(),
        reason: (*reason).to_owned(),
        message: format!("About {reason}."),
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
        observed_generation: Some(1),
    };
    AgentStatus { conditions: reasons.iter().map(condition).collect(), ..AgentStatus::default() }
}

fn told(before: Option<&AgentStatus>, after: &AgentStatus) -> Vec<String> {
    let one = |event: AgentEvent| {
        format!(
            "{} {} {}",
            if event.warning { "Warning" } else { "Normal" },
            event.reason.as_str(),
            event.note
        )
    };
    events(before, after, &[]).into_iter().map(one).collect()
}

const CONVERGED: [(&str, &str); 5] = [
    ("Accepted", "Accepted"),
    ("ResolvedRefs", "ResolvedRefs"),
    ("Programmed", "Programmed"),
    ("Available", "Ready"),
    ("Ready", "Ready"),
];

const NEW: [(&str, &str); 5] = [
    ("Accepted", "Accepted"),
    ("ResolvedRefs", "Pending"),
    ("Programmed", "Pending"),
    ("Available", "WaitingForPods"),
    ("Ready", "Unavailable"),
];

/// `from`, but for some reasons.
fn but(from: [(&'static str, &'static str); 5], others: &[(&'static str, &'static str)]) -> AgentStatus {
    let replaced = from.map(|(kind, reason)| {
        others.iter().copied().find(|(other, _)| *other == kind).unwrap_or((kind, reason))
    });
    mk_status(&replaced)
}

#[test]
fn without_a_change_there_is_silence() {
    let status = mk_status(&CONVERGED);
    assert!(told(Some(&status), &status).is_empty());
    let failing = but(CONVERGED, &[("Available", "CrashLooping"), ("Ready", "Unavailable")]);
    assert!(told(Some(&failing), &failing).is_empty());
}

#[test]
fn a_new_agent_is_told_of_when_it_is_ready() {
    let new = mk_status(&NEW);
    assert!(told(None, &new).is_empty(), "its children are told of");
    assert_eq!(told(Some(&new), &mk_status(&CONVERGED)), ["Normal Ready About Ready."]);
}

#[test]
fn each_trouble_is_told_once() {
    let good = mk_status(&CONVERGED);
    let cases = [
        (
            vec![("Accepted", "NameConflict"), ("Ready", "NotAccepted")],
            "Warning NameConflict About NameConflict.",
        ),
        (
            vec![("Available", "CrashLooping"), ("Ready", "Unavailable")],
            "Warning CrashLooping About CrashLooping.",
        ),
        (
            vec![("ResolvedRefs", "RefNotFound"), ("Available", "PodsFailing"), ("Ready", "UnresolvedRefs")],
            "Warning RefNotFound About RefNotFound.",
        ),
        (vec![("Programmed", "Rejected"), ("Ready", "NotProgrammed")], "Warning Rejected About Rejected."),
        (vec![("Ready", "RolloutStuck")], "Warning RolloutStuck About RolloutStuck."),
        (vec![("Ready", "RollingOut")], "Normal RollingOut About RollingOut."),
        (vec![("Available", "TurnedOff"), ("Ready", "TurnedOff")], "Normal TurnedOff About TurnedOff."),
        (
            vec![("Available", "ScaledToZero"), ("Ready", "ScaledToZero")],
            "Normal ScaledToZero About ScaledToZero.",
        ),
        (
            vec![("Available", "WaitingForPods"), ("Ready", "Unavailable")],
            "Warning Unavailable About Unavailable.",
        ),
    ];
    for (changes, event) in cases {
        let after = but(CONVERGED, &changes);
        assert_eq!(told(Some(&good), &after), [event]);
        let only: Vec<_> = told(None, &after);
        assert!(only.len() <= 1, "{only:?}");
    }
}

#[test]
fn the_end_of_a_trouble_is_told() {
    let good = mk_status(&CONVERGED);
    let refused = but(CONVERGED, &[("Accepted", "AnotherController"), ("Ready", "NotAccepted")]);
    assert_eq!(told(Some(&refused), &good), ["Normal Accepted About Accepted.", "Normal Ready About Ready."]);
    let rejected = but(CONVERGED, &[("Programmed", "Rejected"), ("Ready", "NotProgrammed")]);
    assert_eq!(
        told(Some(&rejected), &good),
        ["Normal Programmed About Programmed.", "Normal Ready About Ready."]
    );
}

/// Every Agent of a new cluster would tell of them.
#[test]
fn missing_gateways_are_no_event() {
    let none = but(NEW, &[("Programmed", "NoGateways")]);
    assert!(told(Some(&mk_status(&NEW)), &none).is_empty());
    assert!(told(Some(&none), &mk_status(&NEW)).is_empty());
}

/// A converged status whose `Accepted` warns of the ingress, in these words.
fn mk_warned(words: &str) -> AgentStatus {
    let mut status = mk_status(&CONVERGED);
    status.conditions[0].status = "True".to_owned();
    status.conditions[0].message = format!("{} {words}", silence::ACCEPTED).trim_end().to_owned();
    status
}

#[test]
fn a_timeout_that_reaches_the_ingress_is_told_once() {
    let (plain, warned, other) = (mk_warned(""), mk_warned("But so."), mk_warned("But otherwise."));
    let event = |words: &str| vec![format!("Warning TimeoutReachesIngress {words}")];
    assert_eq!(told(Some(&plain), &warned), event("But so."));
    assert!(told(Some(&warned), &warned).is_empty());
    assert_eq!(told(Some(&warned), &other), event("But otherwise."));
    assert!(told(Some(&warned), &plain).is_empty(), "that it is over needs no Event");
    assert_eq!(told(None, &warned).first(), told(None, &plain).first(), "beside what is told of every Agent");
    assert_eq!(told(None, &warned).last(), event("But so.").last());
}

/// Another version may word the rest of the message otherwise.
#[test]
fn an_upgrade_does_not_warn_again() {
    let after = mk_warned("But so.");
    let mut before = after.clone();
    before.conditions[0].message = "All is well. But so.".to_owned();
    assert!(told(Some(&before), &after).is_empty());
}

#[test]
fn words_of_others_are_passed_over() {
    let go = mk_status(&[("Available", "Ready"), ("Progressing", "NewReplicaSetAvailable")]);
    assert_eq!(told(Some(&go), &mk_status(&CONVERGED)), ["Normal Ready About Ready."]);
    assert!(told(None, &mk_status(&[("Ready", "Odd"), ("Odd", "Ready")])).is_empty());
}

#[test]
fn deeds_are_told() {
    let deeds = [
        Deed::Created(vec![Child::ServiceAccount, Child::Service, Child::Deployment]),
        Deed::Created(vec![Child::Service]),
        Deed::Repaired {
            child: Child::Deployment,
            field: "spec.template.spec".to_owned(),
            manager: Some("kubectl-edit".to_owned()),
        },
        Deed::Repaired { child: Child::Service, field: "spec.ports".to_owned(), manager: None },
        Deed::Scaled { from: 1, to: 3 },
        Deed::TakenOver(vec![Child::Service, Child::Deployment]),
        Deed::FinalizerRemoved,
    ];
    let status = mk_status(&CONVERGED);
    let told: Vec<_> = events(Some(&status), &status, &deeds)
        .into_iter()
        .map(|event| {
            let event = Event::from(event);
            format!("{:?} {} {} {}", event.type_, event.reason, event.action, event.note.unwrap())
        })
        .collect();
    assert_eq!(
        told,
        [
            "Normal Created Create Created ServiceAccount, Service and Deployment.",
            "Normal Created Create Created Service.",
            "Warning Repaired RepairDeployment Put back spec.template.spec of the Deployment, which kubectl-edit had changed.",
            "Warning Repaired RepairService Put back spec.ports of the Service.",
            "Normal Scaled Scale1To3 Changed the size from 1 to 3 pods.",
            "Normal TakenOver TakeOver Took over Service and Deployment from the Go controller.",
            "Normal FinalizerRemoved RemoveFinalizer Removed the Go controller's finalizer.",
        ]
    );
}

/// The API server refuses an Event with a longer note, or action.
#[test]
fn a_note_is_bounded() {
    let deed =
        Deed::Repaired { child: Child::Service, field: "f".repeat(5000), manager: Some("m".repeat(5000)) };
    for event in events(None, &AgentStatus::default(), &[deed, Deed::Scaled { from: u32::MAX, to: u32::MAX }])
    {
        assert!(event.note.len() <= 1024 && event.action.len() <= 128 && event.reason.as_str().len() <= 128);
    }
}
