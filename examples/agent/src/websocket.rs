//! `/ws`: a WebSocket that sends back each message it gets, for as long as the client stays.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use tokio_util::sync::CancellationToken;

use crate::routes::Agent;

/// Largest message; a larger one ends the WebSocket.
const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// How long a drain waits for a client to answer the goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

pub(crate) async fn echo(State(agent): State<Arc<Agent>>, upgrade: WebSocketUpgrade) -> Response {
    // Taken before the upgrade, so that a drain that starts in between waits for this one too.
    let open = agent.websockets().token();
    let drain = agent.drain().clone();
    upgrade.max_message_size(MAX_MESSAGE_BYTES).on_upgrade(async move |socket| {
        // Losing the client is a normal end.
        run(socket, drain).await.ok();
        drop(open);
    })
}

async fn run(mut socket: WebSocket, drain: CancellationToken) -> Result<(), axum::Error> {
    loop {
        let message = tokio::select! {
            message = socket.recv() => message,
            () = drain.cancelled() => {
                return leave(socket).await;
            }
        };
        match message.transpose()? {
            Some(message @ (Message::Text(_) | Message::Binary(_))) => socket.send(message).await?,
            // The library answers these by itself, with the next read: after a close, that read is the end.
            Some(Message::Ping(_) | Message::Pong(_) | Message::Close(_)) => {}
            None => return Ok(()),
        }
    }
}

/// Says goodbye and hears the client out: hanging up on what it still sends would lose it the goodbye.
async fn leave(mut socket: WebSocket) -> Result<(), axum::Error> {
    let bye = CloseFrame { code: close_code::AWAY, reason: "draining".into() };
    socket.send(Message::Close(Some(bye))).await?;
    let heard_out = async { while let Some(Ok(_)) = socket.recv().await {} };
    // A client that does not answer is not waited for.
    tokio::time::timeout(GOODBYE, heard_out).await.ok();
    Ok(())
}
