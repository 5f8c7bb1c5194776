//! The programs of the tour as child processes.
//!
//! Owns each process from its start to its end. None is left behind: each is on the `leash`, and is killed when its
//! owner is dropped. Each has a process group of its own, so that Ctrl-C in the terminal is the tour's to handle.
//!
//! What a program writes goes to `<name>.log`; the lines on its standard output that say where it listens are read
//! on the way.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinSet;

use crate::wait::within;

/// All processes of a tour, by name.
#[derive(Debug)]
pub(crate) struct Processes {
    /// Where the programs are.
    programs: PathBuf,
    logs: PathBuf,
    running: BTreeMap<String, Process>,
}

/// What to start.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    /// The name of its file.
    pub(crate) file: &'a str,
    pub(crate) arguments: Vec<OsString>,
    /// How many addresses it says that it listens on.
    pub(crate) listens: usize,
}

#[derive(Debug)]
struct Process {
    child: Child,
    pid: u32,
    /// Carries what it writes into its log.
    _output: JoinSet<()>,
}

// === impl Processes ===

impl Processes {
    /// None yet. Programs are looked for next to this one; logs go into the folder `logs`.
    ///
    /// # Errors
    /// This program does not know where it lies.
    pub(crate) fn new(logs: PathBuf) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("where this program lies")?;
        let programs = own.parent().context("this program lies in no folder")?.to_owned();
        Ok(Self { programs, logs, running: BTreeMap::new() })
    }

    /// Starts `program` as `name`, and waits until it says where it listens.
    ///
    /// # Errors
    /// It is not there, or ends before it listens; with the end of its log.
    pub(crate) async fn start(
        &mut self,
        name: &str,
        program: Program<'_>,
    ) -> anyhow::Result<Vec<SocketAddr>> {
        let path = self.programs.join(program.file);
        ensure!(path.is_file(), "{} is not there: `make demo` builds it", path.display());
        let log = self.logs.join(format!("{name}.log"));
        let file = OpenOptions::new().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("cannot write {}", log.display()))?;
        let mut child = leashed(&path, &program.arguments)?
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {}", path.display()))?;
        let pid = child.id().context("a process that was just started has an id")?;
        let stdout = child.stdout.take().context("its standard output was asked for")?;
        // Owned before the first wait, so that an interrupted start leaves nothing.
        self.running.insert(name.to_owned(), Process { child, pid, _output: JoinSet::new() });

        let mut file = tokio::fs::OpenOptions::new().append(true).open(&log).await?;
        let mut stdout = BufReader::new(stdout);
        let listening = addresses(&mut stdout, &mut file, program.listens);
        let addresses = match within(&format!("{name} listening"), listening).await {
            Ok(addresses) => addresses,
            Err(error) => {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                bail!("{error:#}. Its log ends:\n{}", tail(&said));
            }
        };
        let mut output = JoinSet::new();
        output.spawn(async move {
            // Ends with the process, or leaves a log that ends early where the disk is full.
            tokio::io::copy(&mut stdout, &mut file).await.ok();
        });
        let process = self.take(name)?;
        self.running.insert(name.to_owned(), Process { _output: output, ..process });
        Ok(addresses)
    }

    /// The id of a process.
    pub(crate) fn pid(&self, name: &str) -> Option<u32> {
        self.running.get(name).map(|process| process.pid)
    }

    /// Asks a process to end (SIGTERM) and waits until it has.
    ///
    /// # Errors
    /// It does not run, or does not end in time.
    pub(crate) async fn terminate(&mut self, name: &str) -> anyhow::Result<ExitStatus> {
        let mut process = self.take(name)?;
        let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw).context("a process id")?;
        kill_process(pid, Signal::TERM).with_context(|| format!("SIGTERM to {name}"))?;
        within(&format!("{name} ending after SIGTERM"), process.child.wait()).await
    }

    /// Ends a process at once (SIGKILL).
    ///
    /// # Errors
    /// It does not run.
    pub(crate) async fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        let mut process = self.take(name)?;
        within(&format!("{name} ending after SIGKILL"), process.child.kill()).await
    }

    /// Ends all processes at once.
    pub(crate) async fn kill_all(&mut self) {
        for process in self.running.values_mut() {
            process.child.start_kill().ok();
        }
        for process in self.running.values_mut() {
            process.child.wait().await.ok();
        }
        self.running.clear();
    }

    /// The processes that ended unasked, and how.
    pub(crate) fn ended(&mut self) -> Vec<String> {
        let ended = |(name, process): (&String, &mut Process)| {
            let status = process.child.try_wait().ok().flatten()?;
            Some(format!("{name} ended by itself ({status})"))
        };
        self.running.iter_mut().filter_map(ended).collect()
    }

    fn take(&mut self, name: &str) -> anyhow::Result<Process> {
        self.running.remove(name).with_context(|| format!("{name} does not run"))
    }
}

/// A command that dies with this process, with nothing to read and its output to be read.
///
/// # Errors
/// This program does not know where it lies.
pub(crate) fn leashed(
    program: &Path,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("where this program lies")?);
    command
        .arg("leash")
        .arg(std::process::id().to_string())
        .arg("--")
        .arg(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    // What a person has set for a gateway of their own is not for this one.
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_setting(name)) {
        command.env_remove(name);
    }
    Ok(command)
}

fn is_setting(variable: &OsStr) -> bool {
    variable.as_encoded_bytes().starts_with(b"KRYPTON_")
}

/// Reads lines, which also go to the log, until `count` of them have named an address.
async fn addresses(
    stdout: &mut BufReader<ChildStdout>,
    log: &mut tokio::fs::File,
    count: usize,
) -> anyhow::Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    while addresses.len() < count {
        let mut line = String::new();
        if stdout.read_line(&mut line).await? == 0 {
            bail!("it ended");
        }
        log.write_all(line.as_bytes()).await?;
        addresses.extend(listening(&line));
    }
    log.flush().await?;
    Ok(addresses)
}

/// The address in `listening on 127.0.0.1:80` or `listening http=127.0.0.1:80`.
fn listening(line: &str) -> Option<SocketAddr> {
    line.trim_end().strip_prefix("listening ")?.rsplit([' ', '=']).next()?.parse().ok()
}

/// The last lines, indented.
fn tail(log: &str) -> String {
    const LINES: usize = 10;
    let lines: Vec<&str> = log.lines().collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    if last.is_empty() { "    (nothing)".to_owned() } else { format!("    {}", last.join("\n    ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_say_where_they_listen() {
        let address = "127.0.0.1:8080".parse().ok();
        assert_eq!(listening("listening on 127.0.0.1:8080\n"), address);
        assert_eq!(listening("listening http=127.0.0.1:8080"), address);
        assert_eq!(listening("listening soon"), None);
        assert_eq!(listening("{\"path\":\"127.0.0.1:8080\"}"), None);
    }

    #[test]
    fn a_tail_is_the_last_ten_lines() {
        let log = (1..=12).map(|n| format!("line {n}")).collect::<Vec<_>>().join("\n");
        assert!(tail(&log).starts_with("    line 3\n    line 4\n") && tail(&log).ends_with("    line 12"));
        assert_eq!(tail(""), "    (nothing)");
    }

    #[test]
    fn settings_of_other_gateways_stay_away() {
        assert!(is_setting(OsStr::new("KRYPTON_LISTEN")));
        assert!(!is_setting(OsStr::new("RUST_LOG")));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let logs = tempfile::tempdir().unwrap();
        let mut processes = Processes::new(logs.path().to_owned()).unwrap();
        let program = Program { file: "krypton-nothing", arguments: Vec::new(), listens: 1 };
        let error = processes.start("nothing", program).await.unwrap_err().to_string();
        assert!(error.contains("krypton-nothing is not there"), "{error}");
        assert!(processes.terminate("nothing").await.is_err(), "it does not run");
    }
}
