//! Calls with tokens, against an API server whose answers the test writes.

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
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
    let (client, patience) = (Client::new(service, "default"), Duration::from_millis(200));
    (Access::patient(&[account], client, Places::new(3, 2), patience, Arc::default()), asked)
}

fn reviewed(status: &Value) -> (StatusCode, Value) {
    let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {}, "status": status });
    (StatusCode::CREATED, review)
}

fn good() -> Value {
    json!({
        "authenticated": true, "audiences": [AUDIENCE],
        "user": { "username": ACCOUNT },
    })
}

const ACCOUNT: &str = "system:serviceaccount:krypton-system:krypton-gateway";

/// A token that says that it is ours, and is `name`.
fn mk_token(name: &str) -> String {
    with_payload(&json!({ "aud": [AUDIENCE], "sub": ACCOUNT, "exp": 32_503_680_000_u64, "jti": name }))
}

fn with_payload(payload: &Value) -> String {
    format!("secret.{}.signature", URL_SAFE_NO_PAD.encode(payload.to_string()))
}

/// With the token of that name, from 10.0.0.1.
async fn check(access: &Access, name: &str) -> Result<(), Status> {
    check_from(access, &mk_token(name), 1).await
}

async fn check_from(access: &Access, token: &str, last: u8) -> Result<(), Status> {
    let mut metadata = MetadataMap::new();
    if !token.is_empty() {
        metadata.insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    access.check(&metadata, Some(SocketAddr::from(([10, 0, 0, last], 1)))).await
}

#[tokio::test]
async fn who_is_known_is_asked_about_once() {
    let (access, asked) = mk_access(|review| {
        assert_eq!(review["spec"]["token"], mk_token("t"));
        Some(reviewed(&good()))
    });
    check(&access, "t").await.unwrap();
    check(&access, "t").await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn nobody_is_asked_where_everybody_may() {
    check_from(&Access::open(), "", 1).await.unwrap();
}

#[tokio::test]
async fn no_token_is_refused_without_a_question() {
    let (access, asked) = mk_access(|_| Some(reviewed(&good())));
    let status = check_from(&access, "", 1).await.unwrap_err();
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
async fn what_cannot_be_ours_is_refused_without_a_question() {
    let (access, asked) = mk_access(|_| Some(reviewed(&good())));
    for (token, code) in [
        ("opaque".to_owned(), Code::Unauthenticated),
        (with_payload(&json!({ "sub": ACCOUNT })), Code::Unauthenticated),
        (with_payload(&json!({ "aud": ["https://a"], "sub": ACCOUNT })), Code::Unauthenticated),
        (with_payload(&json!({ "aud": [AUDIENCE], "sub": ACCOUNT, "exp": 1 })), Code::Unauthenticated),
        (
            with_payload(&json!({ "aud": [AUDIENCE], "sub": "system:serviceaccount:a:b" })),
            Code::PermissionDenied,
        ),
    ] {
        assert_eq!(check_from(&access, &token, 1).await.unwrap_err().code(), code, "{token}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn calls_with_one_token_are_one_question() {
    let (access, asked) = mk_access(|_| Some(reviewed(&good())));
    let token = mk_token("t");
    let from = |last| check_from(&access, &token, last);
    let (first, second, third) = tokio::join!(from(1), from(1), from(2));
    first.and(second).and(third).unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn questions_are_bounded_in_number_and_time() {
    let (access, asked) = mk_access(|_| None);
    let tokens = ["a", "b", "c", "d", "e"].map(mk_token);
    let from = |token: usize, last| check_from(&access, &tokens[token], last);
    // Two of an address may wait, and three in all; the others are told at once.
    let checked = tokio::join!(from(0, 1), from(1, 1), from(2, 1), from(3, 2), from(4, 3));
    for checked in [checked.0, checked.1, checked.2, checked.3, checked.4] {
        assert_eq!(checked.unwrap_err().code(), Code::Unavailable);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_stranger_uses_up_its_own_questions() {
    let (access, asked) = mk_access(|review| {
        let is_good = review["spec"]["token"] == mk_token("good");
        Some(reviewed(&if is_good { good() } else { json!({}) }))
    });
    let mut codes = Vec::new();
    for number in 0..40 {
        codes.push(check(&access, &number.to_string()).await.unwrap_err().code());
    }
    assert_eq!((codes[0], codes[39]), (Code::Unauthenticated, Code::Unavailable));
    assert!(asked.load(Ordering::Relaxed) < 40);
    check_from(&access, &mk_token("good"), 2).await.unwrap();
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
