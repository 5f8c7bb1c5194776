//! Uploads in lockstep: the second half leaves only after the agent has the first. So whoever holds uploads back is seen
//! whatever the machine's speed. The agent is the test's own, since it has to be seen reading.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::support::{PATIENCE, SOON, Stage};

const FIRST: &[u8] = b"what is known so far; ";
const SECOND: &[u8] = b"and what came of it";

/// One that reads a single call.
struct Reader {
    listener: TcpListener,
    call: Option<TcpStream>,
    read: Vec<u8>,
}

/// The first half of an upload reaches the agent while the second is still to come.
pub(crate) async fn upload_is_passed_on(stage: &Stage, front: SocketAddr) {
    assert!(first_half_comes(stage, front, PATIENCE).await, "the first half is held back");
}

/// It does not: the whole comes at once, when it is whole.
pub(crate) async fn upload_is_held_back(stage: &Stage, front: SocketAddr) {
    let came = first_half_comes(stage, front, Duration::from_secs(1)).await;
    assert!(!came, "the first half was not held back");
}

/// Whether the first half comes within `patience`. With the second, the whole does in any case.
async fn first_half_comes(stage: &Stage, front: SocketAddr, patience: Duration) -> bool {
    let mut agent = Reader::start().await;
    stage.add("reader", agent.listener.local_addr().unwrap()).await;
    let mut client = TcpStream::connect(front).await.unwrap();
    let length = FIRST.len() + SECOND.len();
    let path = "/v1/agents/default/reader/upload";
    let head = format!("POST {path} HTTP/1.1\r\nHost: {front}\r\nContent-Length: {length}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(FIRST).await.unwrap();
    let came = timeout(patience, agent.reads(FIRST)).await.is_ok();
    client.write_all(SECOND).await.unwrap();
    timeout(SOON, agent.reads(&[FIRST, SECOND].concat())).await.expect("the whole upload comes");
    agent.answers().await;
    let mut status = [0; 12];
    timeout(SOON, client.read_exact(&mut status)).await.expect("an answer").unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    came
}

// === impl Reader ===

impl Reader {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self { listener, call: None, read: Vec::new() }
    }

    /// Reads until `what` has come. May be given up and begun again.
    async fn reads(&mut self, what: &[u8]) {
        while !self.read.ends_with(what) {
            let call = match &mut self.call {
                Some(call) => call,
                none => none.insert(self.listener.accept().await.unwrap().0),
            };
            let count = call.read_buf(&mut self.read).await.unwrap();
            assert!(count > 0, "the call is cut: {}", String::from_utf8_lossy(&self.read));
        }
    }

    async fn answers(&mut self) {
        let call = self.call.as_mut().expect("it was called");
        call.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    }
}
