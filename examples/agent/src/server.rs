//! The listener and the life of its connections.
//!
//! Owns every connection's task. Never reads HTTP: that is `connection`.
//!
//! Life: bound → accepting → draining (nothing new; open answers go on) → what is left at the deadline is cut.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::routes::Agent;
use crate::{Args, connection, routes};

/// Pause after an accept that failed, mostly for want of file descriptors: trying at once would spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// A running instance. Dropping it cuts everything at once.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    drain: CancellationToken,
    /// Holds one task, the listener's; dropping it ends that and with it the tasks of all connections.
    listener: JoinSet<Drained>,
    /// Ends the MCP sessions, whose tasks belong to the SDK.
    _sessions: DropGuard,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections and WebSockets that were still busy at `drain_timeout` and were cut.
    pub cut: usize,
}

struct Listener {
    socket: TcpListener,
    agent: Arc<Agent>,
    router: Router,
    connections: JoinSet<()>,
    max_connections: usize,
    drain_timeout: Duration,
}

/// Binds and begins to accept calls.
///
/// # Errors
/// The address cannot be bound.
pub async fn serve(args: Args) -> io::Result<Server> {
    let socket = TcpListener::bind(args.address()).await?;
    let address = socket.local_addr()?;
    let drain = CancellationToken::new();
    let sessions = CancellationToken::new();
    let agent = Arc::new(Agent::new(&args, drain.clone(), sessions.clone()));
    log::info!(name = agent.name(), address:% = address; "Agent started");

    let listener = Listener {
        socket,
        router: routes::router(Arc::clone(&agent)),
        agent,
        connections: JoinSet::new(),
        max_connections: usize::try_from(args.max_connections).unwrap_or(usize::MAX),
        drain_timeout: args.drain_timeout,
    };
    let mut task = JoinSet::new();
    task.spawn(listener.run(drain.clone()));
    Ok(Server { address, drain, listener: task, _sessions: sessions.drop_guard() })
}

// === impl Server ===

impl Server {
    /// The address that was bound, with its real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting and lets open answers finish, without waiting for them. May be called again.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// [`drain`](Self::drain)s, and waits until the last answer ended or `drain_timeout` has passed.
    ///
    /// # Panics
    /// When the listener's own task panicked, which is a defect of this crate.
    pub async fn shutdown(mut self) -> Drained {
        self.drain();
        let ended = self.listener.join_next().await.expect("the one task is joined only here");
        ended.expect("the listener neither panics nor is aborted")
    }
}

// === impl Listener ===

impl Listener {
    async fn run(mut self, drain: CancellationToken) -> Drained {
        loop {
            tokio::select! {
                biased;
                () = drain.cancelled() => break,
                Some(ended) = self.connections.join_next() => report(&ended),
                accepted = self.socket.accept(), if self.connections.len() < self.max_connections => {
                    self.accept(accepted).await;
                }
            }
        }
        self.drain().await
    }

    async fn accept(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        match accepted {
            Ok((stream, peer)) => {
                self.connections.spawn(connection::run(
                    stream,
                    peer,
                    Arc::clone(&self.agent),
                    self.router.clone(),
                ));
            }
            Err(error) => {
                log::warn!(error:% = error; "Accept failed");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }

    async fn drain(self) -> Drained {
        let Self { socket, agent, mut connections, drain_timeout, .. } = self;
        drop(socket);
        let websockets = agent.websockets();
        let all_ended = async {
            while let Some(ended) = connections.join_next().await {
                report(&ended);
            }
            websockets.close();
            websockets.wait().await;
        };
        let cut = match tokio::time::timeout(drain_timeout, all_ended).await {
            Ok(()) => 0,
            Err(_) => connections.len() + websockets.len(),
        };
        Drained { cut }
    }
}

/// A connection's task ends by itself; anything else is a defect that must be seen.
fn report(ended: &Result<(), JoinError>) {
    if let Err(error) = ended {
        log::error!(error:% = error; "Connection task failed");
    }
}
