//! Child processes that cannot be left behind.
//!
//! Owns: starting a program under `setpriv --pdeathsig KILL` in a process group of its own, its log file, its record in
//! the state folder, and its end. Never signals a process that it did not start.
//!
//! Flow: [`Program`] says what to run; [`Program::start`] gives a [`Running`]; dropping that kills the whole group and
//! waits for it. The kernel kills the program when *the thread that started it* ends, so it must be started from the
//! main thread or from the test that uses it, never from a pool of blocking threads.

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Display, Formatter};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::state::{Record, Resource, RunDir};
use crate::wait::eventually;

/// How many lines of a program's log an error carries.
const LOG_TAIL_LINES: usize = 30;

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProcessId {
    pid: i32,
    /// In clock ticks after boot: field 22 of `/proc/<pid>/stat`, proc_pid_stat(5).
    start: u64,
}

/// When a program must end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lifetime {
    /// With the process that started it, however that ends.
    Tied,
    /// When somebody ends it: it has a session of its own and outlives the terminal.
    Detached,
}

/// What to run.
#[derive(Debug)]
pub struct Program {
    /// Names the log file and the program in errors.
    name: String,
    path: PathBuf,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    lifetime: Lifetime,
}

/// A program that was started; dropping it kills its process group and waits for the end.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    id: ProcessId,
    log: Log,
    /// `None` once the program was left to itself.
    record: Option<Record>,
}

/// What a program wrote so far.
#[derive(Clone, Debug)]
pub struct Log(PathBuf);

/// Text that does not name a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NotAProcessId;

struct Stat {
    state: char,
    group: i32,
    start: u64,
}

// === impl ProcessId ===

impl ProcessId {
    /// This very process.
    ///
    /// # Errors
    /// When `/proc` is not there.
    pub fn current() -> Result<Self> {
        Self::of(std::process::id()).context("cannot read /proc: is this Linux?")
    }

    /// `None` when there is none of that number.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let pid = i32::try_from(pid).ok()?;
        stat(pid).map(|stat| Self { pid, start: stat.start })
    }

    /// Whether it still runs; one that ended and was not yet waited for does not.
    pub fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.start == self.start && stat.state != 'Z')
    }

    /// Kills its process group. Does nothing when the number belongs to another process by now.
    pub fn kill_group(self) {
        self.signal_group(Signal::KILL);
    }

    fn signal_group(self, signal: Signal) {
        // An ended leader that was not waited for keeps its number, so its group can still be meant by it.
        let same = stat(self.pid).is_some_and(|stat| stat.start == self.start);
        if let Some(pid) = Pid::from_raw(self.pid).filter(|_| same) {
            kill_process_group(pid, signal).ok();
        }
    }
}

impl Display for ProcessId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.pid, self.start)
    }
}

impl FromStr for ProcessId {
    type Err = NotAProcessId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (pid, start) = text.split_once('-').ok_or(NotAProcessId)?;
        let pid = pid.parse().ok().filter(|pid| *pid > 1).ok_or(NotAProcessId)?;
        Ok(Self { pid, start: start.parse().map_err(|_| NotAProcessId)? })
    }
}

/// What we read of `/proc/<pid>/stat`, proc_pid_stat(5); `None` when there is no such process.
fn stat(pid: i32) -> Option<Stat> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program stands in brackets and may hold brackets and spaces itself.
    let after_name = stat.get(stat.rfind(')')? + 1..)?;
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    // The first of these is field 3 in the manual's count.
    let field = |number: usize| fields.get(number - 3).copied();
    Some(Stat {
        state: field(3)?.chars().next()?,
        group: field(5)?.parse().ok()?,
        start: field(22)?.parse().ok()?,
    })
}

/// Whether a process of that group runs; those that ended and were not waited for do not.
fn group_lives(group: i32) -> Result<bool> {
    let entries = fs::read_dir("/proc")?.flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(pids.any(|pid| stat(pid).is_some_and(|stat| stat.group == group && stat.state != 'Z')))
}

// === impl Program ===

impl Program {
    /// A program at `path`, known to people as `name`.
    pub fn new(name: &str, path: impl Into<PathBuf>) -> Self {
        let name = name.to_owned();
        Self { name, path: path.into(), args: Vec::new(), envs: Vec::new(), lifetime: Lifetime::Tied }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(self, arg: impl AsRef<OsStr>) -> Self {
        self.args([arg])
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.envs.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Says when it must end; [`Lifetime::Tied`] unless told.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Starts it with its output going to a log file in `run`.
    ///
    /// # Errors
    /// When the program, or `setpriv` and `setsid` of util-linux, cannot be run.
    pub fn start(self, run: &RunDir) -> Result<Running> {
        let log = self.new_log(run.path())?;
        let file = File::options().append(true).open(&log.0)?;
        let output = (Stdio::from(file.try_clone()?), Stdio::from(file));
        self.spawn(run, log, output)
    }

    /// Starts it with this process's own output: for a command that a person watches.
    ///
    /// # Errors
    /// As [`Program::start`].
    pub fn start_in_the_open(self, run: &RunDir) -> Result<Running> {
        self.spawn(run, Log(PathBuf::new()), (Stdio::inherit(), Stdio::inherit()))
    }

    fn spawn(self, run: &RunDir, log: Log, (stdout, stderr): (Stdio, Stdio)) -> Result<Running> {
        let mut command = match self.lifetime {
            Lifetime::Tied => Command::new("setpriv"),
            Lifetime::Detached => Command::new("setsid"),
        };
        match self.lifetime {
            // The leader of a group cannot start a session: `setsid` would fork, and we would watch the wrong process.
            Lifetime::Detached => {}
            Lifetime::Tied => {
                command.args(["--pdeathsig", "KILL"]).process_group(0);
            }
        }
        let child = command
            .arg("--")
            .arg(&self.path)
            .args(&self.args)
            .envs(self.envs)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("cannot start {} ({}) by util-linux", self.name, self.path.display()))?;
        let id = ProcessId::of(child.id()).context("cannot read /proc")?;
        let record = Some(run.record(&Resource::Process(id))?);
        Ok(Running { name: self.name, child, id, log, record })
    }

    /// Several programs of one name may run in one run, and one may be started again: each start has its own log.
    fn new_log(&self, folder: &Path) -> Result<Log> {
        for number in 0.. {
            let path = folder.join(format!("{}-{number}.log", self.name));
            match File::create_new(&path) {
                Ok(_) => return Ok(Log(path)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| format!("cannot make {}", path.display())),
            }
        }
        bail!("no free name for a log of {}", self.name)
    }
}

// === impl Log ===

impl Log {
    /// All of it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self) -> Result<String> {
        let bytes = fs::read(&self.0).with_context(|| format!("cannot read {}", self.0.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The last lines of it, for an error to carry.
    pub fn tail(&self) -> String {
        let text = self.read().unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }
}

// === impl Running ===

impl Running {
    /// What it writes, standard output and error in the order written.
    pub fn log(&self) -> Log {
        self.log.clone()
    }

    /// The number of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, or `None` while it runs.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Probes until it succeeds, as long as the program runs.
    ///
    /// # Errors
    /// When the program ends first or the deadline passes; both carry the end of its log.
    pub async fn until<T>(
        &mut self,
        what: &str,
        within: Duration,
        mut probe: impl AsyncFnMut() -> Result<T>,
    ) -> Result<T> {
        let child = &mut self.child;
        let waited = eventually(what, within, async || match child.try_wait()? {
            Some(status) => Ok(Err(status)),
            None => probe().await.map(Ok),
        });
        let failed = match waited.await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(status)) => anyhow::anyhow!("it ended with {status} before this: {what}"),
            Err(error) => error,
        };
        Err(failed).with_context(|| format!("{} failed; the end of its log:\n{}", self.name, self.log.tail()))
    }

    /// Asks its process group to end (SIGTERM).
    pub fn terminate(&self) {
        self.id.signal_group(Signal::TERM);
    }

    /// Stops its process group where it stands (SIGSTOP): the process hangs, its sockets stay open.
    pub fn pause(&self) {
        self.id.signal_group(Signal::STOP);
    }

    /// Lets a paused group go on.
    pub fn resume(&self) {
        self.id.signal_group(Signal::CONT);
    }

    /// Waits until it ended by itself.
    ///
    /// # Errors
    /// When it still runs after `within`.
    pub async fn ended(&mut self, within: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        let child = &mut self.child;
        eventually(&what, within, async || child.try_wait()?.context("it still runs")).await
    }

    /// Kills its process group and waits for the end.
    pub fn kill(&mut self) {
        self.id.kill_group();
        // Killed processes end whatever they do, so this does not block.
        self.wait();
    }

    /// Blocks until it ended: for one that is about to.
    pub(crate) fn wait(&mut self) {
        self.child.wait().ok();
    }

    /// Kills its process group and waits until no process of it runs any more, grandchildren included.
    ///
    /// # Errors
    /// When one still runs after `within`.
    pub async fn end(mut self, within: Duration) -> Result<()> {
        self.kill();
        let what = format!("the end of all processes of {}", self.name);
        let group = self.id.pid;
        eventually(&what, within, async || {
            ensure!(!group_lives(group)?, "some still run");
            Ok(())
        })
        .await
    }

    /// Lets it run on after this process.
    pub fn leave_running(mut self) {
        if let Some(record) = self.record.take() {
            record.keep();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.record.is_none() {
            return;
        }
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- the end of the log of {}:\n{}\n---", self.name, self.log.tail());
        }
    }
}

#[cfg(test)]
mod tests;
