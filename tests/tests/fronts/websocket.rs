//! A WebSocket through a proxy.

use futures::{SinkExt as _, StreamExt as _};
use krypton_e2e::lockstep::Base;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use crate::support::SOON;

/// Says something to the agent at `base` over a WebSocket and hears it back, twice.
pub(crate) async fn websocket_passes(base: &Base) {
    let tcp = TcpStream::connect(base.address).await.unwrap();
    let url = format!("ws://{}{}/ws", base.host, base.path);
    let (mut socket, _) = timeout(SOON, client_async(url, tcp)).await.expect("an upgrade").unwrap();
    for message in [Message::text("hello"), Message::binary(vec![0, 255])] {
        socket.send(message.clone()).await.unwrap();
        let echoed = timeout(SOON, socket.next()).await.expect("an echo").unwrap().unwrap();
        assert_eq!(echoed, message);
    }
    socket.close(None).await.unwrap();
    let last = timeout(SOON, socket.next()).await.expect("a goodbye");
    assert!(matches!(last, Some(Ok(Message::Close(_)))), "{last:?}");
}
