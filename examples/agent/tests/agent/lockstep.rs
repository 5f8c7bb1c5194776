//! `/stream/lockstep` and `/stream/confirm`.

use http::StatusCode;
use krypton_example_agent::Server;

use crate::client::{Client, frame, start, text};

async fn confirm(server: &Server, n: u32) -> StatusCode {
    Client::new(server).post(&format!("/stream/confirm?id=a&n={n}"), "").await.status()
}

#[tokio::test]
async fn events_come_as_they_are_confirmed_in_the_format_asked_for() {
    let server = start().await;
    let client = Client::new(&server);
    for (format, content_type, first, second) in [
        ("sse", "text/event-stream", "id: 1\ndata: {\"n\":1}\n\n", "id: 2\ndata: {\"n\":2}\n\n"),
        ("ndjson", "application/x-ndjson", "{\"n\":1}\n", "{\"n\":2}\n"),
    ] {
        let mut stream = client.get(&format!("/stream/lockstep?id=a&events=2&format={format}")).await;
        assert_eq!(stream.headers()["content-type"], content_type);
        assert_eq!(frame(&mut stream).await.unwrap().unwrap(), first);
        assert_eq!(confirm(&server, 2).await, 409);
        assert_eq!(confirm(&server, 1).await, 200);
        assert_eq!(frame(&mut stream).await.unwrap().unwrap(), second);
        assert_eq!(confirm(&server, 2).await, 200);
        assert!(frame(&mut stream).await.is_none());
    }
}

#[tokio::test]
async fn a_bad_query_names_what_is_wrong() {
    let server = start().await;
    let client = Client::new(&server);
    for (query, names) in [
        ("", "id"),
        ("?id=", "id"),
        ("?id=a&events=0", "events"),
        ("?id=a&events=many", "events"),
        ("?id=a&format=xml", "xml"),
    ] {
        let answer = client.get(&format!("/stream/lockstep{query}")).await;
        assert_eq!(answer.status(), 400, "{query}");
        let said = text(answer).await;
        assert!(said.contains(names), "{query}: {said}");
    }
    assert_eq!(confirm(&server, 0).await, 404);
}
