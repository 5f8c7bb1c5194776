//! What the start of every peer has in common: a folder, files, processes on the right cores, and the record of it all.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use krypton_e2e::front::Port;
use krypton_e2e::process::{Program, Running};
use krypton_e2e::state::RunDir;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{Peer, PeerKind, Setup, template};
use crate::procfs;
use crate::result::PeerInfo;
use crate::routes;

/// With 100,000 agents on a machine that is busy; usually it is milliseconds.
pub(super) const START_DEADLINE: Duration = Duration::from_mins(5);

/// Idle connections to endpoints that a peer keeps, and calls that it makes at a time: what Krypton's gateway has.
const POOL: usize = 16_384;

/// Connections of clients at one time, where the limit of open files allows it.
const CLIENTS: usize = 16_384;

/// Files that a peer has open besides connections.
const OTHER_FILES: u64 = 512;

/// Limits, by the names that they have in every template. Times are read alike by all peers.
const LIMITS: [(&str, &str); 4] = [
    // The longest silence of an endpoint, and how long an idle connection to one is kept: an Agent's timeout.
    ("silence", "300s"),
    // How long a client's connection may be idle between calls.
    ("client_idle", "75s"),
    // Time for a request's complete header.
    ("header", "10s"),
    // How long a connection to an endpoint may take.
    ("connect", "2s"),
];

/// Lines of a generated file that the report shows.
const SHOWN_LINES: usize = 5;

/// A peer that is being started. Dropping it ends what runs already.
pub(super) struct Start<'a> {
    pub(super) setup: &'a Setup,
    kind: PeerKind,
    clients: usize,
    folder: TempDir,
    processes: Vec<(Running, OnPath)>,
    logs: Vec<PathBuf>,
    info: PeerInfo,
}

/// Whether calls go through a process, so that its CPU is the peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnPath {
    Yes,
    No,
}

// === impl Start ===

impl<'a> Start<'a> {
    pub(super) fn new(kind: PeerKind, setup: &'a Setup) -> anyhow::Result<Self> {
        let run = RunDir::of_this_process()?;
        let folder = tempfile::Builder::new().prefix("peer-").tempdir_in(run.path())?;
        let info = PeerInfo {
            name: kind.to_string(),
            version: String::new(),
            commands: Vec::new(),
            files: BTreeMap::new(),
            missing: None,
        };
        let files =
            rlimit::increase_nofile_limit(u64::MAX).context("cannot raise the limit of open files")?;
        let clients = clients_of(files);
        Ok(Self { setup, kind, clients, folder, processes: Vec::new(), logs: Vec::new(), info })
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Connections of clients at one time, the same for all peers on this machine.
    pub(super) fn clients(&self) -> usize {
        self.clients
    }

    /// Its path as text: what configuration files need.
    pub(super) fn path(&self, name: &str) -> anyhow::Result<String> {
        let path = self.folder.path().join(name).into_os_string();
        path.into_string().ok().context("the path of the state folder is not UTF-8")
    }

    /// What the program says of its version when it is called so: its first line with something in it.
    pub(super) async fn version(&mut self, program: &Path, argument: &str) -> anyhow::Result<()> {
        let mut command = tokio::process::Command::new(program);
        let output = command.arg(argument).kill_on_drop(true).output().await;
        let output = output.with_context(|| format!("cannot run {}", program.display()))?;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        text.lines()
            .find(|line| !line.trim().is_empty())
            .unwrap_or_default()
            .trim()
            .clone_into(&mut self.info.version);
        Ok(())
    }

    /// Writes a configuration file and gives its path: the template with the limits of all peers and these values.
    pub(super) fn configure(
        &mut self,
        name: &str,
        template: &str,
        switches: &[(&str, bool)],
        values: &[(&str, &str)],
    ) -> anyhow::Result<String> {
        let (pool, clients) = (POOL.to_string(), self.clients.to_string());
        let sizes = [("pool", pool.as_str()), ("clients", clients.as_str())];
        let text = template::render(template, switches, &[&LIMITS[..], &sizes, values].concat())?;
        let path = self.path(name)?;
        std::fs::write(&path, &text)?;
        self.info.files.insert(name.to_owned(), text);
        Ok(path)
    }

    /// Writes a file with all agents and gives its path. The report shows its begin.
    pub(super) fn list(&mut self, name: &str, text: &str) -> anyhow::Result<String> {
        let path = self.path(name)?;
        std::fs::write(&path, text)?;
        let (shown, lines) = (text.lines().take(SHOWN_LINES), text.lines().count());
        let mut shown = shown.collect::<Vec<_>>().join("\n");
        if lines > SHOWN_LINES {
            shown = format!("{shown}\n… and {} lines more", lines - SHOWN_LINES);
        }
        self.info.files.insert(name.to_owned(), shown);
        Ok(path)
    }

    /// `namespace/name` of all agents.
    pub(super) fn agents(&self) -> impl Iterator<Item = String> + use<> {
        (0..self.setup.agents).map(|n| {
            let (namespace, name) = routes::names(n);
            format!("{namespace}/{name}")
        })
    }

    /// Starts a process on `cores`. It is killed by the kernel when the calling thread ends.
    pub(super) fn run(
        &mut self,
        (name, program, args): (&str, &Path, &[&str]),
        envs: &[(&str, &str)],
        cores: &[usize],
        on_path: OnPath,
    ) -> anyhow::Result<&mut Running> {
        let words = envs.iter().map(|(name, value)| format!("{name}={value}"));
        let words = words.chain([program.display().to_string()]);
        let words = words.chain(args.iter().map(|arg| (*arg).to_owned()));
        self.info.commands.push(words.collect::<Vec<_>>().join(" "));
        let program = Program::new(name, program).args(args);
        let program = envs.iter().fold(program, |program, (name, value)| program.env(name, value));
        let pinned = procfs::pin_children(cores)?;
        let running = program.start(RunDir::of_this_process()?)?;
        drop(pinned);
        self.logs.push(running.log().path().to_owned());
        self.processes.push((running, on_path));
        let (running, _) = self.processes.last_mut().context("one was just added")?;
        Ok(running)
    }

    /// Starts the only process of a peer, on its cores, and waits until it listens.
    pub(super) async fn run_on(
        mut self,
        port: Port,
        command: (&str, &Path, &[&str]),
    ) -> anyhow::Result<Peer> {
        let (address, cores) = (port.address, self.setup.cores.clone());
        let running = self.run(command, &[], &cores, OnPath::Yes)?;
        let listens = async || Ok(TcpStream::connect(address).await?);
        running.until("it listens", START_DEADLINE, listens).await?;
        self.logs.push(self.folder.path().join("access.log"));
        Ok(self.finish(address, Some(port)))
    }

    /// It runs.
    pub(super) fn finish(self, address: SocketAddr, port: Option<Port>) -> Peer {
        Peer {
            kind: self.kind,
            address,
            is_h2c: self.setup.h2c,
            agents: self.setup.agents,
            clients: self.clients,
            processes: self.processes,
            logs: self.logs,
            info: self.info,
            manifests: None,
            _port: port,
            _folder: self.folder,
        }
    }
}

/// Connections of clients for which so many open files suffice: a call has one on either side.
fn clients_of(files: u64) -> usize {
    usize::try_from(files.saturating_sub(OTHER_FILES) / 2).unwrap_or(usize::MAX).clamp(64, CLIENTS)
}

/// A port for a program that cannot be asked which one it got.
pub(super) fn port() -> anyhow::Result<Port> {
    Port::reserve(Ipv4Addr::LOCALHOST)
}

/// The address behind `listening NAME=` in a log, the `index`-th of those.
pub(super) async fn listening(running: &mut Running, name: &str, index: usize) -> anyhow::Result<SocketAddr> {
    let (log, prefix) = (running.log(), format!("listening {name}="));
    let what = format!("it prints `{prefix}ADDRESS`");
    running
        .until(&what, START_DEADLINE, async || {
            let log = log.read()?;
            // A line that is not finished is not trusted.
            let (whole, _) = log.rsplit_once('\n').context("it says nothing yet")?;
            let mut found = whole.lines().filter_map(|line| line.strip_prefix(&prefix));
            Ok(found.nth(index).context("no such line")?.parse()?)
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_clients_as_files_are_for() {
        assert_eq!(clients_of(u64::MAX), CLIENTS);
        assert_eq!(clients_of(20_000), 9_744);
        assert_eq!(clients_of(100), 64);
    }
}
