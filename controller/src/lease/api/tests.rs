//! How claims are written down and read, and what the answers of the API mean.

use std::future::pending;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::any;
use kube::Client;
use serde_json::{Value, json};

use super::*;

fn mk_lease(spec: &Value) -> Lease {
    serde_json::from_value(json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": "l", "namespace": "n", "uid": "u", "resourceVersion": "7",
            "labels": {"of": "others"}, "annotations": {"of": "others"},
        },
        "spec": spec,
    }))
    .unwrap()
}

fn mk_claim() -> Claim {
    let address = Some("10.0.0.1:9090".to_owned());
    Claim { holder: Some("me".into()), stamp: Some(1_700_000_000_123_456), transitions: 4, address }
}

fn mk_api(answer: Router) -> LeaseApi {
    LeaseApi::new(Api::namespaced(Client::new(answer, "n"), "n"), "l".into())
}

/// An API that refuses everything with `code`.
fn refusing(code: u16) -> LeaseApi {
    let reason = if code == 404 { "NotFound" } else { "Because" };
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {},
        "status": "Failure", "code": code, "reason": reason, "message": "it is so",
    });
    let code = StatusCode::from_u16(code).unwrap();
    mk_api(Router::new().fallback(any(move || async move { (code, status.to_string()) })))
}

fn replace() -> Call {
    Call::Replace { version: "7".into(), claim: mk_claim() }
}

#[test]
fn what_is_written_is_what_is_read() {
    let written = write(&mk_claim(), mk_lease(&json!({})));
    let record = read(&written).unwrap();
    assert_eq!(record, Record { version: "7".into(), claim: mk_claim(), duration: LEASE_DURATION });
}

#[test]
fn what_others_wrote_stays() {
    let base = mk_lease(
        &json!({"strategy": "s", "leaseTransitions": 4, "acquireTime": "2020-01-01T00:00:00.000000Z"}),
    );
    let written = serde_json::to_value(write(&mk_claim(), base)).unwrap();
    assert_eq!(written["metadata"]["labels"], json!({"of": "others"}));
    assert_eq!(written["metadata"]["annotations"]["of"], "others");
    assert_eq!(written["metadata"]["uid"], "u");
    assert_eq!(written["spec"]["strategy"], "s");
    assert_eq!(written["spec"]["acquireTime"], "2020-01-01T00:00:00.000000Z", "renewed, not acquired");
    assert_eq!(written["spec"]["renewTime"], "2023-11-14T22:13:20.123456Z");
    assert_eq!(written["spec"]["leaseDurationSeconds"], 10);
}

#[test]
fn a_lease_that_is_acquired_says_when() {
    let base = mk_lease(&json!({"leaseTransitions": 3, "acquireTime": "2020-01-01T00:00:00.000000Z"}));
    let written = write(&mk_claim(), base).spec.unwrap();
    assert_eq!(written.acquire_time, written.renew_time);
}

#[test]
fn a_released_lease_names_nobody() {
    let claim = Claim { holder: None, address: None, ..mk_claim() };
    let written = write(&claim, write(&mk_claim(), mk_lease(&json!({}))));
    assert_eq!(written.spec.as_ref().unwrap().holder_identity.as_deref(), Some(""));
    assert_eq!(written.metadata.annotations, Some(BTreeMap::from([("of".into(), "others".into())])));
    assert_eq!(read(&written).unwrap().claim, claim);
}

#[test]
fn a_lease_with_next_to_nothing_in_it_can_be_read() {
    for spec in [json!(null), json!({}), json!({"holderIdentity": "", "leaseDurationSeconds": 0})] {
        let record = read(&mk_lease(&spec)).unwrap();
        assert_eq!(record.claim, Claim { holder: None, stamp: None, transitions: 0, address: None });
        assert_eq!(record.duration, LEASE_DURATION);
    }
}

#[test]
fn an_address_that_cannot_be_dialled_is_none() {
    for (address, is_one) in [("10.0.0.1:9090", true), ("http://10.0.0.1:9090/", false), ("", false)] {
        let mut lease = mk_lease(&json!({"holderIdentity": "other"}));
        lease
            .metadata
            .annotations
            .get_or_insert_default()
            .insert(keys::LEADER_ADDRESS_ANNOTATION.into(), address.into());
        assert_eq!(read(&lease).unwrap().claim.address.is_some(), is_one, "{address}");
    }
}

#[tokio::test]
async fn refusals_say_whether_the_lease_differs() {
    let base = Some(mk_lease(&json!({})));
    for (code, call, answer) in [
        (409, replace(), Answer::Conflict),
        (404, replace(), Answer::Absent),
        (429, replace(), Answer::Failed),
        (500, replace(), Answer::Failed),
        (409, Call::Create(mk_claim()), Answer::Conflict),
        // The namespace is not there.
        (404, Call::Create(mk_claim()), Answer::Failed),
        (403, Call::Create(mk_claim()), Answer::Failed),
        (404, Call::Read, Answer::Absent),
        (403, Call::Read, Answer::Failed),
    ] {
        let done = refusing(code).perform(call.clone(), base.clone()).await;
        assert_eq!(done.answer, answer, "{code} {call:?}");
        assert_eq!(done.error.is_some(), answer == Answer::Failed, "{code} {call:?}");
    }
    let done = refusing(403).perform(Call::Read, None).await;
    assert_eq!(done.error.as_deref(), Some("it is so (403)"));
}

#[tokio::test]
async fn nothing_is_replaced_that_was_not_read() {
    // Without a uid the API would make a new Lease of one that was deleted; this one would say 403.
    let mut without_uid = mk_lease(&json!({}));
    without_uid.metadata.uid = None;
    let mut other_version = mk_lease(&json!({}));
    other_version.metadata.resource_version = Some("8".into());
    for base in [None, Some(without_uid), Some(other_version)] {
        assert_eq!(refusing(403).perform(replace(), base).await.answer, Answer::Conflict);
    }
}

#[tokio::test]
async fn a_call_without_an_answer_ends_all_the_same() {
    let api = mk_api(Router::new().fallback(any(|| async { pending::<StatusCode>().await })));
    let done = api.perform(Call::Read, None).await;
    assert_eq!(done.answer, Answer::Failed);
    assert_eq!(done.error.as_deref(), Some("no answer within 2 s"));
}
