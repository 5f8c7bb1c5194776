//! What the knobs do to an answer.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use futures::{StreamExt as _, stream};
use http::{Method, StatusCode};
use serde_json::json;

use crate::client::{Client, bytes, events, frame, get_request, json, raw, start, text};

#[tokio::test]
async fn filler_comes_in_the_chunks_that_were_asked_for() {
    let server = start().await;
    let chunks =
        |answer: Vec<u8>| String::from_utf8(answer).unwrap().split_once("\r\n\r\n").unwrap().1.to_owned();

    let (answer, _) = raw(&server, &get_request("/x?chunks=2&size=3")).await;
    assert_eq!(chunks(answer), "3\r\nabc\r\n3\r\nabc\r\n0\r\n\r\n");

    let client = Client::new(&server);
    for (query, length) in
        [("chunks=2", 128), ("size=100000", 100_000), ("chunks=0", 0), ("chunks=1000&size=1", 1000)]
    {
        assert_eq!(bytes(client.get(&format!("/x?{query}")).await).await.len(), length, "{query}");
    }
}

#[tokio::test]
async fn the_length_is_told_when_asked_for() {
    let server = start().await;
    let client = Client::new(&server);
    for (query, length) in [
        ("", true),
        ("length=0", false),
        ("chunks=5&size=7", false),
        ("chunks=5&size=7&length=1", true),
        ("sse=1", false),
    ] {
        let answer = client.get(&format!("/x?{query}")).await;
        let told = answer.headers().get("content-length").map(|value| value.to_str().unwrap().to_owned());
        let body = bytes(answer).await;
        assert_eq!(told, length.then(|| body.len().to_string()), "{query}");
    }
}

#[tokio::test]
async fn events_are_numbered_and_timed() {
    let server = start().await;
    let client = Client::new(&server);
    let answer = text(client.get("/x?sse=1&chunks=2").await).await;
    assert!(answer.starts_with("id: 0\ndata: {\"seq\":0,\"sentAtUs\":"), "{answer}");

    let events = events(client.get("/x?sse=1&size=5").await).await;
    assert_eq!(
        events.iter().map(|event| event["seq"].as_u64().unwrap()).collect::<Vec<_>>(),
        (0..10).collect::<Vec<_>>()
    );
    assert!(events.is_sorted_by_key(|event| event["sentAtUs"].as_u64().unwrap()));
    assert!(events.iter().all(|event| event["pad"] == "abcde"));
}

#[tokio::test]
async fn a_delay_is_waited_before_the_head() {
    let server = start().await;
    let begun = Instant::now();
    Client::new(&server).get("/x?delay=60ms").await;
    assert!(begun.elapsed() >= Duration::from_millis(60));
}

#[tokio::test]
async fn chunks_leave_at_their_pace_and_at_once() {
    let server = start().await;
    let client = Client::new(&server);
    // The second chunk is a day away: the first can only have come on its own.
    let mut answer = client.get("/x?chunks=2&size=3&pace=24h").await;
    assert_eq!(frame(&mut answer).await.unwrap().unwrap(), "abc");

    let begun = Instant::now();
    bytes(client.get("/x?chunks=4&pace=20ms").await).await;
    assert!(begun.elapsed() >= Duration::from_millis(60));
}

#[tokio::test]
async fn the_status_is_the_one_that_was_asked_for() {
    let server = start().await;
    let client = Client::new(&server);
    let answer = client.get("/x?status=503").await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(json(answer).await["target"], "/x?status=503");
    assert_eq!(bytes(client.get("/x?status=204").await).await, "");
}

#[tokio::test]
async fn an_abort_cuts_the_answer_after_its_chunks() {
    let server = start().await;
    for (query, whole) in [
        ("chunks=3&size=3&abort=2", "3\r\nabc\r\n3\r\nabc\r\n"),
        ("chunks=3&size=3&abort=0", ""),
        ("chunks=1&size=3&abort=9", "3\r\nabc\r\n"),
        ("chunks=3&size=3&length=1&abort=1", "abc"),
    ] {
        let (answer, end) = raw(&server, &get_request(&format!("/x?{query}"))).await;
        end.expect("closed, not reset");
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{query}: {answer}");
        assert_eq!(answer.split_once("\r\n\r\n").unwrap().1, whole, "{query}");
    }
}

#[tokio::test]
async fn an_abort_can_come_before_the_head_and_by_a_reset() {
    let server = start().await;
    let (answer, end) = raw(&server, &get_request("/x?abort=head")).await;
    assert_eq!((answer.as_slice(), end.is_ok()), (&b""[..], true));

    for query in ["abort=head&cut=reset", "chunks=9&abort=2&cut=reset"] {
        let (_, end) = raw(&server, &get_request(&format!("/x?{query}"))).await;
        assert_eq!(end.expect_err(query).kind(), ErrorKind::ConnectionReset, "{query}");
    }
}

#[tokio::test]
async fn an_abort_on_http2_takes_only_its_own_stream() {
    let server = start().await;
    let client = Client::h2c(&server);
    let mut neighbour = client.get("/x?chunks=2&size=3&pace=300ms").await;
    assert_eq!(frame(&mut neighbour).await.unwrap().unwrap(), "abc");

    let mut aborted = client.get("/x?chunks=9&size=3&abort=1&cut=reset&pace=10ms").await;
    assert_eq!(frame(&mut aborted).await.unwrap().unwrap(), "abc");
    assert!(frame(&mut aborted).await.unwrap().is_err(), "the stream was reset");
    assert!(client.try_get("/x?abort=head").await.is_err());

    assert_eq!(bytes(neighbour).await, "abc", "the neighbour ended well");
}

#[tokio::test]
async fn an_upload_is_read_at_its_pace() {
    let server = start().await;
    let client = Client::new(&server);
    let pieces = stream::iter(["one", "two"]).map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece)));
    let begun = Instant::now();
    let report = json(client.post("/x?read-pace=40ms", Body::from_stream(pieces)).await).await;
    assert_eq!(report["body"]["text"], "onetwo");
    // How many pieces arrive is the transport's affair; one at least does.
    assert!(begun.elapsed() >= Duration::from_millis(40));
}

#[tokio::test]
async fn knobs_are_headers_too() {
    let server = start().await;
    let client = Client::new(&server);
    let request = client.request(Method::GET, "/x").header("x-agent-chunks", "3").header("x-agent-size", "2");
    assert_eq!(text(client.send(request.body(Body::empty()).unwrap()).await).await, "ababab");
}

#[tokio::test]
async fn a_bad_knob_is_a_400_that_names_it() {
    let server = start().await;
    let client = Client::new(&server);
    for (path, knob, error) in [
        ("/x?delay=5", "delay", "delay: expected a time such as `250ms`"),
        ("/stream?status=1", "status", "status: expected 200 to 599"),
        ("/x?sse=1&length=1", "length", "length: the length of events is not known beforehand"),
        ("/stream?length=1", "length", "length: the length of events is not known beforehand"),
    ] {
        let answer = client.get(path).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        assert_eq!(json(answer).await, json!({ "error": error, "knob": knob }));
    }
    let answer = client.post("/?pace=fast", "{}").await;
    assert_eq!(
        (answer.status(), json(answer).await["knob"].clone()),
        (StatusCode::BAD_REQUEST, json!("pace"))
    );
}
