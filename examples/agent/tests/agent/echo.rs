//! The report of what arrived.

use axum::body::Body;
use http::Method;
use krypton_example_agent::Args;
use serde_json::json;

use crate::client::{Client, bytes, json, raw, start, start_with};

#[tokio::test]
async fn the_report_loses_nothing_of_the_head() {
    let server = start().await;
    let request = b"PURGE /a%2Fb//c;d=1/../e%00?x=%20y&&z=[] HTTP/1.1\r\nHost: h:1\r\nX-Two: 1\r\nX-Bytes: \xff\xc3\xa9 \r\n\
        x-two:  2\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    let (answer, end) = raw(&server, request).await;
    end.expect("a clean end");

    let start = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let mut report: serde_json::Value = serde_json::from_slice(&answer[start..]).expect("JSON");
    let report = report.as_object_mut().expect("an object");
    assert!(report.remove("peer").unwrap().as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(
        json!(report),
        json!({
            "name": "tester",
            "pid": std::process::id(),
            "method": "PURGE",
            "target": "/a%2Fb//c;d=1/../e%00?x=%20y&&z=[]",
            "version": "HTTP/1.1",
            "headers": [
                ["host", "h:1"],
                ["x-two", "1"],
                ["x-two", "2"],
                ["x-bytes", "\u{ff}\u{c3}\u{a9}"],
                ["content-length", "5"],
                ["connection", "close"],
            ],
            "body": { "bytes": 5, "crc32": "3610a686", "text": "hello" },
        })
    );
}

#[tokio::test]
async fn targets_of_other_forms_are_reported_as_they_came() {
    let server = start().await;
    for target in ["//", "*", "/?", "http://other:99/x?y", "/\u{e9}", "/v1/agents/../%2e%2e"] {
        let request = format!("OPTIONS {target} HTTP/1.1\r\nHost: other:99\r\nConnection: close\r\n\r\n");
        let (answer, _) = raw(&server, request.as_bytes()).await;
        let answer = String::from_utf8(answer).expect("UTF-8");
        assert!(answer.contains(&format!("\"target\":\"{target}\",")), "{target}: {answer}");
    }
}

#[tokio::test]
async fn every_method_and_path_that_is_no_protocols_is_echoed() {
    let server = start().await;
    let client = Client::new(&server);
    for (method, path) in [
        (Method::GET, "/"),
        (Method::PUT, "/"),
        (Method::GET, "/a2a"),
        (Method::DELETE, "/a2a/"),
        (Method::POST, "/mcp/"),
        (Method::PATCH, "/anything"),
    ] {
        let report =
            json(client.send(client.request(method.clone(), path).body(Body::empty()).unwrap()).await).await;
        assert_eq!((&report["method"], &report["target"]), (&json!(method.as_str()), &json!(path)));
    }
}

#[tokio::test]
async fn a_long_or_binary_body_is_counted_and_not_shown() {
    let server = start().await;
    let client = Client::new(&server);
    let shown = json(client.post("/x", "x".repeat(64 << 10)).await).await;
    assert_eq!(shown["body"]["text"].as_str().map(str::len), Some(64 << 10));

    let long = json(client.post("/x", "x".repeat((64 << 10) + 1)).await).await;
    assert_eq!((&long["body"]["bytes"], long["body"].get("text")), (&json!((64 << 10) + 1), None));

    let binary = json(client.post("/x", vec![0xff, 0xfe]).await).await;
    assert_eq!((&binary["body"]["bytes"], binary["body"].get("text")), (&json!(2), None));
}

#[tokio::test]
async fn an_answer_tells_its_instance_and_its_connection() {
    let server = start().await;
    let client = Client::new(&server);
    let first = client.get("/x").await;
    assert_eq!(first.headers()["x-agent-name"], "tester");
    assert_eq!(first.headers()["x-agent-pid"], std::process::id().to_string());
    let first = json(first).await;
    assert_eq!(json(client.get("/x").await).await["peer"], first["peer"], "one kept connection");
    assert_ne!(json(Client::new(&server).get("/x").await).await["peer"], first["peer"], "another connection");

    let card = client.get("/.well-known/agent-card.json").await;
    assert_eq!(card.headers()["x-agent-name"], "tester", "on answers of the protocols too");
    assert!(!card.headers().contains_key("x-agent-version"), "nobody gave it one");

    let second = start_with(Args { agent_version: Some("2".to_owned()), ..Args::local("tester") }).await;
    assert_eq!(Client::new(&second).get("/x").await.headers()["x-agent-version"], "2");
}

#[tokio::test]
async fn http2_without_tls_is_spoken_on_the_same_port() {
    let server = start().await;
    let report = json(Client::h2c(&server).post("/x?y", "hello").await).await;
    assert_eq!((&report["version"], &report["body"]["text"]), (&json!("HTTP/2.0"), &json!("hello")));
    assert!(report["target"].as_str().unwrap().ends_with("/x?y"), "{report}");
}

#[tokio::test]
async fn a_body_that_breaks_off_does_not_disturb_the_next_call() {
    let server = start().await;
    let broken = b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX";
    let (answer, _) = raw(&server, broken).await;
    assert!(answer.starts_with(b"HTTP/1.1 400 "), "{}", String::from_utf8_lossy(&answer));
    assert!(!bytes(Client::new(&server).get("/x").await).await.is_empty());
}
