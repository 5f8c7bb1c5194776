//! `/ws`.

use futures::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Client, connect, start, within};

#[tokio::test]
async fn messages_come_back() {
    let server = start().await;
    let (mut socket, answer) = client_async("ws://h/ws", connect(&server).await).await.unwrap();
    assert_eq!(answer.headers()["x-agent-name"], "tester");
    for message in [Message::text("hello"), Message::binary(vec![0, 255]), Message::text("")] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(within(socket.next()).await.unwrap().unwrap(), message);
    }
    socket.send(Message::Ping("p".into())).await.unwrap();
    assert_eq!(within(socket.next()).await.unwrap().unwrap(), Message::Pong("p".into()));
    socket.close(None).await.unwrap();
    assert!(matches!(within(socket.next()).await, Some(Ok(Message::Close(_)))));
}

#[tokio::test]
async fn too_long_a_message_ends_it() {
    let server = start().await;
    let (mut socket, _) = client_async("ws://h/ws", connect(&server).await).await.unwrap();
    // The agent may hang up while it is still being sent.
    socket.send(Message::text("x".repeat((1 << 20) + 1))).await.ok();
    assert!(!matches!(within(socket.next()).await, Some(Ok(Message::Text(_)))));
}

#[tokio::test]
async fn a_plain_call_is_refused() {
    let server = start().await;
    let answer = Client::new(&server).get("/ws").await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
}
