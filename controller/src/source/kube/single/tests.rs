//! What is seen through lists and watches that work, break and resume. The API server is a script of answers.

use std::convert::Infallible;

use futures::StreamExt as _;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;

/// An answer of the API server.
struct Answer {
    /// Whether it is to a watch; else to a list.
    watch: bool,
    code: u16,
    body: Value,
}

fn list(items: &[Value]) -> Answer {
    let metadata = json!({ "resourceVersion": "7" });
    let body = json!({ "apiVersion": "v1", "kind": "SecretList", "metadata": metadata, "items": items });
    Answer { watch: false, code: 200, body }
}

fn watch(event: Value) -> Answer {
    Answer { watch: true, code: 200, body: event }
}

fn refusal(watch: bool, code: u16) -> Answer {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": "r", "message": "because",
    });
    Answer { watch, code, body }
}

fn secret(version: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s", "namespace": "ns", "resourceVersion": version },
        "data": { "tls.key": "c2VjcmV0" },
    })
}

/// What is seen while the API server gives one of `answers` after the other, and then nothing any more.
async fn seen(answers: Vec<Answer>) -> Vec<String> {
    let (sender, script) = mpsc::channel(answers.len());
    for answer in answers {
        sender.try_send(answer).unwrap();
    }
    let (told, mut done) = mpsc::channel::<()>(1);
    let script = std::sync::Arc::new(tokio::sync::Mutex::new(script));
    let service = tower::service_fn(move |request: Request<Body>| {
        let (script, told) = (std::sync::Arc::clone(&script), told.clone());
        async move {
            let query = request.uri().query().unwrap_or_default().to_owned();
            assert!(query.contains("fieldSelector=metadata.name%3Ds"), "{query}");
            let Ok(answer) = script.lock().await.try_recv() else {
                // Kept open, as a watch of what does not change.
                told.try_send(()).ok();
                return std::future::pending().await;
            };
            assert_eq!(answer.watch, query.contains("watch=true"), "{query}");
            let body = Full::new(hyper::body::Bytes::from(format!("{}\n", answer.body)));
            let body = body.map_err(|never: Infallible| match never {}).boxed_unsync();
            Ok::<_, Infallible>(Response::builder().status(answer.code).body(body).unwrap())
        }
    });
    let sights = follow::<Secret>(Api::namespaced(Client::new(service, "ns"), "ns"), "s");
    tokio::pin!(sights);
    let mut seen = Vec::new();
    loop {
        tokio::select! {
            biased;
            Some(sight) = sights.next() => seen.push(match sight {
                Sight::There(secret) => format!("There {}", secret.metadata.resource_version.unwrap()),
                other => format!("{other:?}"),
            }),
            _ = done.recv() => return seen,
        }
    }
}

#[tokio::test]
async fn a_watch_that_broke_says_again_what_is_there_although_it_did_not_change() {
    let answers = vec![list(&[secret("5")]), refusal(true, 500), refusal(false, 403), list(&[secret("5")])];
    let seen = seen(answers).await;
    assert_eq!([&seen[0], &seen[3]], ["There 5", "There 5"], "{seen:?}");
    for failure in &seen[1..3] {
        assert!(failure.starts_with("Failed(") && failure.contains("because"), "{seen:?}");
    }
    assert_eq!(seen.len(), 4);
}

#[tokio::test]
async fn a_watch_that_is_too_old_is_no_failure() {
    let gone = json!({ "type": "ERROR", "object": refusal(true, 410).body });
    let answers = vec![
        list(&[secret("5")]),
        refusal(true, 410),
        list(&[secret("6")]),
        watch(gone),
        list(&[secret("7")]),
    ];
    assert_eq!(seen(answers).await, ["There 5", "There 6", "There 7"]);
}

#[tokio::test]
async fn what_is_not_there_is_absent_whether_it_never_was_or_went() {
    let answers = vec![
        list(&[]),
        watch(json!({ "type": "ADDED", "object": secret("8") })),
        watch(json!({ "type": "MODIFIED", "object": secret("9") })),
        watch(json!({ "type": "DELETED", "object": secret("10") })),
    ];
    assert_eq!(seen(answers).await, ["Absent", "There 8", "There 9", "Absent"]);
    let answers = vec![list(&[secret("5")]), refusal(true, 500), list(&[])];
    assert_eq!(seen(answers).await.last().unwrap(), "Absent");
}

#[test]
fn no_object_is_shown_to_a_reader_of_logs() {
    let secret: Secret = serde_json::from_value(secret("5")).unwrap();
    assert_eq!(format!("{:?}", Sight::There(secret)), "There");
}
