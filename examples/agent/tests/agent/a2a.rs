//! A2A over JSON-RPC.

use std::time::Duration;

use axum::body::Body;
use http::{Method, StatusCode};
use krypton_example_agent::{Args, Server};
use serde_json::{Value, json};

use crate::client::{Client, events, json, start, start_with};

/// An instance that would take a day for its second word.
async fn start_slow() -> Server {
    start_with(Args { pace: Duration::from_hours(24), ..Args::local("tester") }).await
}

async fn call(client: &Client, method: &str, params: Value) -> Value {
    let request = json!({ "jsonrpc": "2.0", "id": "c1", "method": method, "params": params });
    let answer = client.post("/", request.to_string()).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], "application/json");
    let answer = json(answer).await;
    assert_eq!((&answer["jsonrpc"], &answer["id"]), (&json!("2.0"), &json!("c1")));
    answer
}

async fn stream(client: &Client, path: &str, params: Value) -> Vec<Value> {
    let request = json!({ "jsonrpc": "2.0", "id": 7, "method": "message/stream", "params": params });
    let events = events(client.post(path, request.to_string()).await).await;
    assert!(events.iter().all(|event| event["jsonrpc"] == "2.0" && event["id"] == 7));
    events.into_iter().map(|mut event| event["result"].take()).collect()
}

fn message(text: &str) -> Value {
    json!({ "message": {
        "kind": "message", "messageId": "m1", "role": "user", "parts": [{ "kind": "text", "text": text }],
    }})
}

fn unblocked(text: &str) -> Value {
    let mut params = message(text);
    params["configuration"] = json!({ "blocking": false });
    params
}

fn spoken(task: &Value) -> &str {
    task["artifacts"][0]["parts"][0]["text"].as_str().expect("a text")
}

#[tokio::test]
async fn a_message_is_answered_by_a_completed_task() {
    let server = start().await;
    let client = Client::new(&server);
    let mut params = message("good morning");
    params["message"]["contextId"] = json!("talk-1");
    params["message"]["metadata"] = json!({ "kept": true });
    let task = &call(&client, "message/send", params).await["result"];

    assert_eq!((&task["kind"], &task["status"]["state"]), (&json!("task"), &json!("completed")));
    assert!(spoken(task).starts_with("This is tester. You said: good morning"), "{task}");
    assert_eq!(task["contextId"], "talk-1");
    let history = &task["history"][0];
    assert_eq!((&history["messageId"], &history["taskId"]), (&json!("m1"), &task["id"]));
    assert_eq!(history["metadata"]["kept"], true);

    let again = call(&client, "tasks/get", json!({ "id": task["id"] })).await;
    assert_eq!(&again["result"], task);
    let short = call(&client, "tasks/get", json!({ "id": task["id"], "historyLength": 0 })).await;
    assert_eq!(short["result"].get("history"), None);
}

#[tokio::test]
async fn a_streamed_message_tells_the_task_each_word_and_the_end() {
    let server = start().await;
    let client = Client::new(&server);
    let params = message("good morning");
    for path in ["/", "/a2a"] {
        let events = stream(&client, path, params.clone()).await;
        let (first, last) = (&events[0], events.last().unwrap());
        assert_eq!((&first["kind"], &first["status"]["state"]), (&json!("task"), &json!("working")));
        assert_eq!((&last["kind"], &last["final"]), (&json!("status-update"), &json!(true)));
        assert_eq!(last["status"]["state"], "completed");

        let words = &events[1..events.len() - 1];
        assert!(words.iter().all(|word| word["kind"] == "artifact-update" && word["taskId"] == first["id"]));
        let text: String =
            words.iter().map(|word| word["artifact"]["parts"][0]["text"].as_str().unwrap()).collect();
        assert!(text.starts_with("This is tester. You said: good morning"), "{text}");
        assert!(words.len() == text.split(' ').count(), "one word in each");
    }
}

#[tokio::test]
async fn a_task_is_watched_and_canceled_while_it_works() {
    let server = start_slow().await;
    let client = Client::new(&server);
    let task = call(&client, "message/send", unblocked("x")).await["result"].take();
    assert_eq!((&task["status"]["state"], spoken(&task)), (&json!("working"), "This"));
    let id = json!({ "id": task["id"] });

    let (events, canceled) = tokio::join!(
        async {
            let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "tasks/resubscribe", "params": id });
            events(client.post("/", request.to_string()).await).await
        },
        call(&client, "tasks/cancel", id.clone()),
    );
    assert_eq!(canceled["result"]["status"]["state"], "canceled");
    let end = events.last().unwrap();
    assert_eq!(
        (&end["result"]["status"]["state"], &end["result"]["final"]),
        (&json!("canceled"), &json!(true))
    );
    assert_eq!(call(&client, "tasks/cancel", id.clone()).await["error"]["code"], -32002);
    assert_eq!(call(&client, "tasks/get", id).await["result"]["status"]["state"], "canceled");
}

#[tokio::test]
async fn what_cannot_be_done_is_an_error_of_the_protocol() {
    let server = start().await;
    let client = Client::new(&server);
    let task = call(&client, "message/send", message("x")).await["result"].take();
    let with = |member: &str, value: Value| {
        let mut params = message("x");
        params["message"][member] = value;
        params
    };
    for (method, params, code) in [
        ("message/shout", json!({}), -32601),
        ("message/send", json!(null), -32602),
        ("message/send", json!({ "message": "hi" }), -32602),
        ("message/stream", with("role", json!("robot")), -32602),
        ("message/send", with("parts", json!([{ "kind": "smell" }])), -32602),
        ("message/send", with("parts", json!([{ "kind": "data", "data": {} }])), -32005),
        ("message/stream", with("taskId", json!("none")), -32001),
        ("message/send", with("taskId", task["id"].clone()), -32004),
        ("tasks/get", json!({ "id": "none" }), -32001),
        ("tasks/get", json!({ "id": 1 }), -32602),
        ("tasks/cancel", json!({ "id": "none" }), -32001),
        ("tasks/cancel", json!({ "id": task["id"] }), -32002),
        ("tasks/resubscribe", json!({ "id": "none" }), -32001),
        ("tasks/pushNotificationConfig/set", json!({}), -32003),
        ("agent/getAuthenticatedExtendedCard", json!(null), -32007),
    ] {
        let answer = call(&client, method, params.clone()).await;
        assert_eq!(answer["error"]["code"], code, "{method} {params}: {answer}");
        assert!(answer.get("result").is_none());
    }
    let error = call(&client, "tasks/get", json!({})).await["error"]["message"].take();
    assert!(error.as_str().unwrap().contains("`id`"), "names the member: {error}");
}

#[tokio::test]
async fn what_is_no_call_is_refused() {
    let server = start().await;
    let client = Client::new(&server);
    for (body, code) in [
        ("", -32700),
        ("{", -32700),
        ("\u{0}", -32700),
        ("[]", -32600),
        ("1", -32600),
        (r#"{"jsonrpc":"1.0","id":1,"method":"tasks/get"}"#, -32600),
        (r#"{"jsonrpc":"2.0","method":"tasks/get"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":null,"method":"tasks/get"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1.5,"method":"tasks/get"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":2}"#, -32600),
    ] {
        let answer = json(client.post("/", body).await).await;
        assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(code), &json!(null)), "{body}");
    }
    let long = json(client.post("/", "x".repeat((1 << 20) + 1)).await).await;
    assert_eq!(long["error"]["code"], -32600);
}

#[tokio::test]
async fn the_card_names_the_url_that_the_caller_can_use() {
    let server = start().await;
    let client = Client::new(&server);
    for path in ["/.well-known/agent-card.json", "/.well-known/agent.json"] {
        let card = json(client.get(path).await).await;
        assert_eq!(card["url"], format!("{}/", client.base));

        let request = client
            .request(Method::GET, path)
            .header("x-forwarded-proto", "https")
            .header("x-forwarded-host", "agents.example.com")
            .header("x-forwarded-prefix", "/v1/agents/ns/a");
        let card = json(client.send(request.body(Body::empty()).unwrap()).await).await;
        let url = "https://agents.example.com/v1/agents/ns/a/";
        assert_eq!((&card["url"], &card["additionalInterfaces"][0]["url"]), (&json!(url), &json!(url)));
        assert_eq!(
            (&card["protocolVersion"], &card["preferredTransport"]),
            (&json!("0.3.0"), &json!("JSONRPC"))
        );
        assert_eq!((&card["name"], &card["capabilities"]["streaming"]), (&json!("tester"), &json!(true)));
        for member in ["description", "version", "defaultInputModes", "defaultOutputModes"] {
            assert!(card.get(member).is_some(), "{member} is required");
        }
        let skill = &card["skills"][0];
        assert!(
            ["id", "name", "description", "tags"].iter().all(|member| skill.get(member).is_some()),
            "{skill}"
        );
    }
}
