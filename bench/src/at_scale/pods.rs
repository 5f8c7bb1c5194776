//! Two pods that say who they are, and a client that asks.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// A pod's name is one byte, so that a body is.
const NAMES: [u8; 2] = *b"AB";

/// Two servers in this process, at one port of two addresses. They end with it.
pub(super) struct Pods([SocketAddrV4; 2]);

/// Calls the agent that is changed, over one connection as long as that holds.
pub(super) struct Caller {
    gateway: SocketAddr,
    deadline: Duration,
    connection: Option<TcpStream>,
    calls: u64,
    failed: u64,
}

// === impl Pods ===

impl Pods {
    pub(super) fn start() -> anyhow::Result<Self> {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = first.local_addr()?.port();
        let other = Ipv4Addr::new(127, 0, 0, 2);
        let second = TcpListener::bind((other, port)).context("a second address of the loopback network")?;
        for (listener, name) in [first, second].into_iter().zip(NAMES) {
            thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    thread::spawn(move || serve(client, name));
                }
            });
        }
        Ok(Self([SocketAddrV4::new(Ipv4Addr::LOCALHOST, port), SocketAddrV4::new(other, port)]))
    }

    pub(super) fn addresses(&self) -> [SocketAddrV4; 2] {
        self.0
    }
}

/// Answers every request of a connection; requests have no body here.
fn serve(mut client: TcpStream, name: u8) -> io::Result<()> {
    loop {
        read_head(&mut client)?;
        client.write_all(&[b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n", &[name][..]].concat())?;
    }
}

/// Reads to the end of a head, a byte at a time: whatever follows is left.
fn read_head(from: &mut TcpStream) -> io::Result<Vec<u8>> {
    let (mut head, mut byte) = (Vec::with_capacity(512), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        from.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(head)
}

// === impl Caller ===

impl Caller {
    pub(super) fn new(gateway: SocketAddr, deadline: Duration) -> Self {
        Self { gateway, deadline, connection: None, calls: 0, failed: 0 }
    }

    /// Calls until `pod` is the one that answers.
    pub(super) fn call_until_answered_by(&mut self, pod: usize, pace: Duration) -> anyhow::Result<()> {
        let began = Instant::now();
        while began.elapsed() < self.deadline {
            self.calls += 1;
            match self.call() {
                Ok(name) if name == NAMES[pod] => return Ok(()),
                Ok(_) => {}
                Err(_) => {
                    self.failed += 1;
                    self.connection = None;
                }
            }
            thread::park_timeout(pace);
        }
        bail!("a change was not used within {:?}", self.deadline);
    }

    /// How many calls were made.
    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    /// How many of them no pod answered.
    pub(super) fn failed(&self) -> u64 {
        self.failed
    }

    /// The name of the pod that answers.
    fn call(&mut self) -> io::Result<u8> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => TcpStream::connect(self.gateway)?,
        };
        connection.set_read_timeout(Some(self.deadline))?;
        connection.write_all(b"GET /v1/agents/team-0/agent-0/who HTTP/1.1\r\nhost: bench\r\n\r\n")?;
        let head = read_head(&mut connection)?;
        if !head.starts_with(b"HTTP/1.1 200 ") {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut name = [0];
        connection.read_exact(&mut name)?;
        self.connection = Some(connection);
        Ok(name[0])
    }
}
