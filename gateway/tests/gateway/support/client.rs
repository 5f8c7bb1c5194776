//! An HTTP/1 client that shows what came over the socket, and when.

use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::DEADLINE;
use super::agent::header;

/// A client's connection.
pub(crate) struct Client {
    pub(crate) tcp: TcpStream,
    buffer: Vec<u8>,
}

/// An answer that was read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With a FIN.
    Closed,
    /// With a reset.
    Reset,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let tcp = TcpStream::connect(address).await.expect("the gateway accepts");
        tcp.set_nodelay(true).expect("nodelay");
        Self { tcp, buffer: Vec::new() }
    }

    /// A second handle of the same connection, to write while an answer is awaited.
    pub(crate) fn writer(&self) -> TcpStream {
        let twin = socket2::SockRef::from(&self.tcp).try_clone().expect("a descriptor");
        TcpStream::from_std(twin.into()).expect("a runtime")
    }

    /// Sends bytes as they stand.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.tcp.write_all(bytes.as_ref()).await.expect("the gateway reads");
    }

    /// Sends what may no longer be read.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        self.tcp.write_all(bytes.as_ref()).await.ok();
    }

    /// Exactly these bytes come next.
    pub(crate) async fn expect(&mut self, bytes: impl AsRef<[u8]>) {
        let taken = self.take(bytes.as_ref().len()).await;
        assert_eq!(String::from_utf8_lossy(&taken), String::from_utf8_lossy(bytes.as_ref()));
    }

    /// Leaves with a reset.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO)).expect("linger");
    }

    /// `GET target` and its answer.
    pub(crate) async fn get(&mut self, target: &str) -> Answer {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n")).await;
        self.answer().await
    }

    /// `POST target` with a body, and its answer.
    pub(crate) async fn post(&mut self, target: &str, body: &str) -> Answer {
        let length = body.len();
        self.send(format!("POST {target} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{body}"))
            .await;
        self.answer().await
    }

    /// A whole answer, by its framing.
    pub(crate) async fn answer(&mut self) -> Answer {
        let head = self.head().await;
        let status = status_of(&head);
        let body = if let Some(length) = header(&head, "content-length") {
            self.take(length.parse().expect("a length")).await
        } else if header(&head, "transfer-encoding").is_some() {
            let mut body = Vec::new();
            while let Some(chunk) = self.chunk().await {
                body.extend(chunk);
            }
            body
        } else {
            Vec::new()
        };
        Answer { status, head, body }
    }

    /// The next head, with its blank line.
    pub(crate) async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return String::from_utf8(head).expect("a head in ASCII");
            }
            assert!(self.fill().await, "closed before a head: {:?}", String::from_utf8_lossy(&self.buffer));
        }
    }

    /// The next chunk of a chunked body, `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let end = loop {
            match self.buffer.windows(2).position(|window| window == b"\r\n") {
                Some(end) => break end,
                None => assert!(self.fill().await, "closed before the last chunk"),
            }
        };
        let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
        let size = usize::from_str_radix(std::str::from_utf8(&line[..end]).expect("hex"), 16).expect("hex");
        let chunk = self.take(size + 2).await;
        (size > 0).then(|| chunk[..size].to_vec())
    }

    /// Packets with data that have come so far.
    pub(crate) fn packets(&self) -> u32 {
        let info = pingora::protocols::l4::ext::get_tcp_info(self.tcp.as_raw_fd());
        info.expect("the kernel tells of its sockets").tcpi_data_segs_in
    }

    /// This many bytes.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(self.fill().await, "closed {} bytes early", count - self.buffer.len());
        }
        self.buffer.drain(..count).collect()
    }

    async fn fill(&mut self) -> bool {
        let read = tokio::time::timeout(DEADLINE, self.tcp.read_buf(&mut self.buffer)).await;
        read.expect("the gateway goes on in time").is_ok_and(|read| read > 0)
    }

    /// Reads on to the end of the connection: what came, and how it ended.
    pub(crate) async fn end(&mut self) -> (Vec<u8>, End) {
        let mut rest = std::mem::take(&mut self.buffer);
        let read = async {
            loop {
                match self.tcp.read_buf(&mut rest).await {
                    Ok(0) => return End::Closed,
                    Ok(_) => {}
                    Err(_) => return End::Reset,
                }
            }
        };
        let end = tokio::time::timeout(DEADLINE, read).await.expect("the gateway ends the connection");
        (rest, end)
    }

    /// Whether nothing comes for this long, and the connection stays.
    pub(crate) async fn is_silent_for(&mut self, time: Duration) -> bool {
        self.buffer.is_empty()
            && tokio::time::timeout(time, self.tcp.read_buf(&mut self.buffer)).await.is_err()
    }
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

pub(crate) fn status_of(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line")
}
