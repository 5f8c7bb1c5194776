//! Who takes part: ours, four others, and nobody.
//!
//! Owns the start of each peer from its checked-in configuration (`bench/peers/`), its processes, and the proof that it
//! does the same work as the others. Never measures.
//!
//! Every peer has the same agents (named by [`routes::names`]) with the same three endpoints; it finds the agent of
//! `/v1/agents/{namespace}/{name}/rest` among all, strips that prefix, and adds `X-Request-Id` and four
//! `X-Forwarded-*` headers. Pools and limits are alike, requests on a connection unlimited. What makes each
//! configuration fair is said in it; the Go gateway is wired as another project's is: it adds no headers, and its pools
//! are Go's own.
//!
//! 1. [`start()`] makes a folder with the files, starts the processes on their cores, and waits until they serve.
//! 2. [`Peer::check`] calls it once in every way that the scenarios do.
//! 3. Dropping a [`Peer`], or [`Peer::stop`], ends all of its processes.

use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use krypton_e2e::front::Port;
use krypton_e2e::process::Running;
use tempfile::TempDir;

use crate::procfs;
use crate::programs::Programs;
use crate::result::PeerInfo;
use crate::routes;
use start::{OnPath, Start};

mod check;
mod envoy;
mod go;
mod haproxy;
mod krypton;
pub mod manifests;
mod nginx;
mod start;
mod template;

/// How long the kernel may take to clear away killed processes.
const END_DEADLINE: Duration = Duration::from_secs(30);

/// An access log that is longer is emptied by [`Peer::trim_logs`].
const LOG_BYTES: u64 = 16 << 20;

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum PeerKind {
    /// No proxy: the endpoint itself.
    Direct,
    /// Krypton's gateway, with a controller beside it.
    Krypton,
    /// nginx.
    Nginx,
    /// HAProxy.
    Haproxy,
    /// Envoy.
    Envoy,
    /// A gateway of `net/http/httputil`, with a sidecar.
    Go,
}

/// No peer of that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no peer {0:?}; those known are direct, krypton, nginx, haproxy, envoy, go")]
pub struct UnknownPeer(String);

/// How a peer is to be.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Agents in its table, at least one.
    pub agents: usize,
    /// The endpoints of every agent, at least one.
    pub origins: Vec<SocketAddr>,
    /// Whether it writes a line for each call. The Go gateway never does.
    pub access_log: bool,
    /// Whether it may collect requests and answers; only nginx can.
    pub buffering: bool,
    /// The cores of its data path; empty: all.
    pub cores: Vec<usize>,
    /// Of the Go gateway: 1, or 2 for gateway and sidecar.
    pub hops: u8,
    /// Whether clients speak HTTP/2 without TLS to it.
    pub h2c: bool,
    /// Those of Krypton.
    pub programs: Programs,
    /// Threads, or processes, that carry calls.
    pub threads: usize,
    /// Idle connections that the Go gateway keeps; `None`: as Go does.
    pub go_pool: Option<usize>,
}

/// Why a peer does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its program is not on this machine.
    #[error("{what} is not there: {how_to_get}")]
    Missing {
        /// The program.
        what: String,
        /// The command or the page that helps.
        how_to_get: String,
    },
    /// It does not start.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

/// A peer that serves. Its processes end with it.
#[derive(Debug)]
pub struct Peer {
    kind: PeerKind,
    address: SocketAddr,
    is_h2c: bool,
    agents: usize,
    clients: usize,
    processes: Vec<(Running, OnPath)>,
    logs: Vec<PathBuf>,
    info: PeerInfo,
    manifests: Option<PathBuf>,
    // Below: what it needs until its end.
    _port: Option<Port>,
    _folder: TempDir,
}

/// Starts one, ready for calls to every agent. Its processes are killed when the thread that polls this ends: that is
/// the main thread, or the test's.
///
/// # Errors
/// [`StartError::Missing`] where its program is not there; else with the end of its log.
pub async fn start(kind: PeerKind, setup: &Setup) -> Result<Peer, StartError> {
    if setup.agents == 0 || setup.origins.is_empty() || setup.threads == 0 {
        return Err(anyhow::anyhow!("a peer needs an agent, an endpoint and a thread").into());
    }
    let start = Start::new(kind, setup)?;
    match kind {
        PeerKind::Direct => Ok(start.finish(setup.origins[0], None)),
        PeerKind::Krypton => krypton::start(start).await,
        PeerKind::Nginx => nginx::start(start).await,
        PeerKind::Haproxy => haproxy::start(start).await,
        PeerKind::Envoy => envoy::start(start).await,
        PeerKind::Go => go::start(start).await,
    }
}

// === impl PeerKind ===

impl PeerKind {
    /// All of them: nobody first, then ours.
    pub const ALL: [Self; 6] =
        [Self::Direct, Self::Krypton, Self::Nginx, Self::Haproxy, Self::Envoy, Self::Go];

    /// As it is called in results and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Krypton => "krypton",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Go => "go",
        }
    }
}

impl Display for PeerKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for PeerKind {
    type Err = UnknownPeer;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.as_str() == text).ok_or_else(|| UnknownPeer(text.to_owned()))
    }
}

// === impl StartError ===

impl StartError {
    /// A program that the system's packages have.
    fn no_package(program: &str) -> Self {
        let how_to_get = format!("apt-get install -y --no-install-recommends {program}");
        Self::Missing { what: program.to_owned(), how_to_get }
    }
}

// === impl Peer ===

impl Peer {
    /// Which one it is.
    #[must_use]
    pub fn kind(&self) -> PeerKind {
        self.kind
    }

    /// Where clients call.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Agents in its table.
    #[must_use]
    pub fn agents(&self) -> usize {
        self.agents
    }

    /// Connections that clients may have at one time: all peers have the same limit, and it is lower where this machine
    /// allows few open files (`ulimit -Hn`).
    #[must_use]
    pub fn clients(&self) -> usize {
        self.clients
    }

    /// The URL of `rest`, without a leading slash, at agent `agent`.
    #[must_use]
    pub fn url(&self, agent: usize, rest: &str) -> String {
        format!("http://{}{}", self.address, self.target(agent, rest))
    }

    /// The same without scheme and address.
    #[must_use]
    pub fn target(&self, agent: usize, rest: &str) -> String {
        if self.kind == PeerKind::Direct {
            return format!("/{rest}");
        }
        let (namespace, name) = routes::names(agent);
        format!("/v1/agents/{namespace}/{name}/{rest}")
    }

    /// The processes that carry calls, those of all hops; none for [`PeerKind::Direct`].
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let on_path = self.processes.iter().filter(|(_, on_path)| *on_path == OnPath::Yes);
        let mut pids: Vec<u32> = on_path.map(|(running, _)| running.pid()).collect();
        // nginx works in processes of its own.
        let children = pids.iter().filter_map(|pid| procfs::children(*pid).ok());
        let children: Vec<u32> = children.flatten().collect();
        pids.extend(children);
        pids
    }

    /// Who it is, for the report.
    #[must_use]
    pub fn info(&self) -> PeerInfo {
        self.info.clone()
    }

    /// Calls it once in every way that the scenarios do: a known agent answers the right bytes with the prefix
    /// stripped and the headers added, an unknown one is 404, an event comes before the next is sent, an upload of
    /// 1 MiB arrives whole.
    ///
    /// # Errors
    /// What it does otherwise.
    pub async fn check(&self) -> anyhow::Result<()> {
        check::check(self).await.with_context(|| format!("{} does not do what it should", self.kind))
    }

    /// Where its processes write, access logs included; not all of these need be there.
    #[must_use]
    pub fn logs(&self) -> &[PathBuf] {
        &self.logs
    }

    /// Empties access logs that have become long. Call it between measurements.
    ///
    /// # Errors
    /// A log cannot be written.
    pub fn trim_logs(&self) -> anyhow::Result<()> {
        for log in self.logs.iter().filter(|log| log.is_file()) {
            if log.metadata()?.len() > LOG_BYTES {
                // All of them are opened for appending: what comes next begins at the begin.
                File::options().write(true).open(log)?.set_len(0)?;
            }
        }
        Ok(())
    }

    /// Krypton's folder of manifests, a file an Agent as long as [`manifests::are_single`]: what is written there is
    /// served a moment later.
    #[must_use]
    pub fn manifests(&self) -> Option<&Path> {
        self.manifests.as_deref()
    }

    /// Why it does not run any more, with the end of its log; `None` while all of its processes run.
    pub fn has_ended(&mut self) -> Option<String> {
        let kind = self.kind;
        self.processes.iter_mut().find_map(|(running, _)| {
            let ended = match running.exit_status() {
                Ok(None) => return None,
                Ok(Some(status)) => format!("it ended with {status}"),
                Err(error) => format!("{error:#}"),
            };
            Some(format!("{kind}: {ended}; the end of its log:\n{}", running.log().tail()))
        })
    }

    /// Ends all of its processes and waits until they are gone.
    ///
    /// # Errors
    /// When one still runs after half a minute.
    pub async fn stop(self) -> anyhow::Result<()> {
        for (running, _) in self.processes {
            running.end(END_DEADLINE).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
