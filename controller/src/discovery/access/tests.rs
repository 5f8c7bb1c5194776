//! Calls with tokens, against an API server whose answers the test writes.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};
use tonic::Code;

use super::*;

/// Answers each review with `answer`, and counts them. `None`: it never answers.
fn mk_access(
    answer: impl Fn(&Value) -> Option<(StatusCode, Value)> + Clone + Send + Sync + 'static,
) -> (Access, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (answer, count) = (answer.clone(), Arc::clone(&count));
        async move {
            assert_eq!(request.uri().path(), "/apis/authentication.k8s.io/v1/tokenreviews");
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let review: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(review["spec"]["audiences"], json!([AUDIENCE]));
            count.fetch_add(1, Ordering::Relaxed);
            let Some((code, body)) = answer(&review) else { return std::future::pending().await };
            let response = Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
            Ok::<_, std::convert::Infallible>(response.unwrap())
        }
    });
    let account = "krypton-system/krypton-gateway".parse().unwrap();
    (Access::patient(&[account], Client::new(service, "default"), 2, Duration::from_millis(200)), asked)
}

fn reviewed(status: &Value) -> (StatusCode, Value) {
    let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {}, "status": status });
    (StatusCode::CREATED, review)
}

fn good() -> Value {
    json!({
        "authenticated": true, "audiences": [AUDIENCE],
        "user": { "username": "system:serviceaccount:krypton-system:krypton-gateway" },
    })
}

async fn check(access: &Access, token: &str) -> Result<(), Status> {
    let mut metadata = MetadataMap::new();
    if !token.is_empty() {
        metadata.insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    access.check(&metadata, None).await
}

#[tokio::test]
async fn who_is_known_is_asked_about_once() {
    let (access, asked) = mk_access(|review| {
        assert_eq!(review["spec"]["token"], "t");
        Some(reviewed(&good()))
    });
    check(&access, "t").await.unwrap();
    check(&access, "t").await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn nobody_is_asked_where_everybody_may() {
    check(&Access::open(), "").await.unwrap();
}

#[tokio::test]
async fn no_token_is_refused_without_a_question() {
    let (access, asked) = mk_access(|_| Some(reviewed(&good())));
    let status = check(&access, "").await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("--discovery-token-file"), "{status}");
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn every_other_answer_is_a_refusal() {
    let other = |field: &str, value: Value| {
        let mut status = good();
        status[field] = value;
        status
    };
    for (status, code) in [
        (json!({}), Code::Unauthenticated),
        (other("authenticated", json!(false)), Code::Unauthenticated),
        (other("audiences", json!([])), Code::Unauthenticated),
        (other("audiences", json!(["https://kubernetes.default.svc"])), Code::Unauthenticated),
        (
            other("user", json!({ "username": "system:serviceaccount:a:krypton-gateway" })),
            Code::PermissionDenied,
        ),
        (other("user", json!({})), Code::PermissionDenied),
    ] {
        let said = status.clone();
        let (access, asked) = mk_access(move |_| Some(reviewed(&said)));
        for _ in 0..2 {
            let refused = check(&access, "secret").await.unwrap_err();
            assert_eq!(refused.code(), code, "{status}");
            assert!(!refused.message().contains("secret"), "{refused}");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1, "{status}");
    }
}

#[tokio::test]
async fn an_api_server_that_cannot_say_is_no_refusal() {
    let failure = |code: StatusCode| {
        let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(), "message": "no" });
        move |_: &Value| Some((code, status.clone()))
    };
    for code in [StatusCode::FORBIDDEN, StatusCode::INTERNAL_SERVER_ERROR, StatusCode::TOO_MANY_REQUESTS] {
        let (access, asked) = mk_access(failure(code));
        for _ in 0..2 {
            assert_eq!(check(&access, "t").await.unwrap_err().code(), Code::Unavailable, "{code}");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 2, "asked again");
    }
}

#[tokio::test]
async fn questions_are_bounded_in_number_and_time() {
    let (access, asked) = mk_access(|_| None);
    // Two may wait; the third is told at once.
    let (first, second, third) = tokio::join!(check(&access, "a"), check(&access, "b"), check(&access, "c"));
    for checked in [first, second, third] {
        assert_eq!(checked.unwrap_err().code(), Code::Unavailable);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[test]
fn accounts_are_a_namespace_and_a_name() {
    let account: ServiceAccountName = "krypton-system/krypton-gateway".parse().unwrap();
    assert_eq!(account.user(), "system:serviceaccount:krypton-system:krypton-gateway");
    "a/b.c".parse::<ServiceAccountName>().unwrap();
    for text in ["", "a", "a/", "/a", "a/b/c", "A/b", "a/b:c", "a/*"] {
        assert_eq!(text.parse::<ServiceAccountName>(), Err(NoServiceAccount), "{text}");
    }
}
