//! What processes and the machine have used, as the kernel counts it, and on which cores what runs.
//!
//! Owns the reading of `/proc` and the affinity of threads. Never judges: what is too much is said elsewhere.
//!
//! Flow: [`usage`] and [`machine`] before and after a measurement; [`Usage::since`] and [`between`] give what it took.
//! Parsing is pure and apart from reading ([`parse`]).

use std::fs;
use std::io;
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::result::Machine;

mod parse;

/// What processes have used since they began, and hold now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU in their own code.
    pub user: Duration,
    /// CPU in the kernel for them.
    pub system: Duration,
    /// Bytes of memory that is resident now.
    pub rss: u64,
    /// Files and sockets that are open now.
    pub fds: u64,
    /// How often their threads waited.
    pub voluntary: u64,
    /// How often a core was taken from their threads.
    pub involuntary: u64,
}

/// What the machine has done since it booted, and holds now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MachineUse {
    /// The cores, in the order of the kernel.
    pub cores: Vec<CoreTime>,
    /// Bytes of memory that the buffers of all TCP sockets take now.
    pub socket_memory: u64,
    /// Connections that the packet filter follows now; `None`: it follows none at all.
    pub conntrack: Option<u64>,
}

/// What one core has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CoreTime {
    /// Its number.
    pub core: usize,
    /// Time in which it had nothing to do. The kernel measures this. That in which it worked it samples by its tick,
    /// which is far off for a load that comes in step with it.
    pub idle: Duration,
    /// Time in which the hypervisor gave it to somebody else.
    pub steal: Duration,
}

/// What the machine did between two looks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MachineBetween {
    /// What each core did. Times here are differences.
    pub cores: Vec<CoreTime>,
    /// Connections that the packet filter followed at the second look.
    pub conntrack: Option<u64>,
}

/// The calling thread is on certain cores, and what it starts meanwhile stays there; it goes back when this is dropped.
/// It stays with the thread, so it is held across an await only where nothing else runs on that.
#[derive(Debug)]
pub struct Pinned {
    before: Option<CpuSet>,
    _of_this_thread: PhantomData<Rc<()>>,
}

/// What `pids` have used, summed up.
///
/// # Errors
/// One of them is not there, or is somebody else's.
pub fn usage(pids: &[u32]) -> io::Result<Usage> {
    pids.iter().try_fold(Usage::default(), |sum, pid| Ok(sum.plus(usage_of(*pid)?)))
}

fn usage_of(pid: u32) -> io::Result<Usage> {
    let folder = format!("/proc/{pid}");
    let read = |name: &str| fs::read_to_string(format!("{folder}/{name}"));
    let bad = |what: &'static str| move || io::Error::new(io::ErrorKind::InvalidData, what);
    let ticks = parse::stat(&read("stat")?).ok_or_else(bad("/proc/PID/stat"))?;
    let mut live = Duration::ZERO;
    let (mut voluntary, mut involuntary) = (0, 0);
    for task in fs::read_dir(format!("{folder}/task"))? {
        let task = task?.path();
        // A thread may end between the listing and this.
        let Ok(text) = fs::read_to_string(task.join("schedstat")) else { continue };
        live += parse::schedstat(&text).ok_or_else(bad("/proc/PID/task/TID/schedstat"))?;
        let Ok(text) = fs::read_to_string(task.join("status")) else { continue };
        voluntary += parse::field(&text, "voluntary_ctxt_switches:").unwrap_or(0);
        involuntary += parse::field(&text, "nonvoluntary_ctxt_switches:").unwrap_or(0);
    }
    let (user, system) = ticks.scaled_to(live);
    let rss = parse::field(&read("status")?, "VmRSS:").unwrap_or(0) * 1024;
    let fds = fs::read_dir(format!("{folder}/fd"))?.count() as u64;
    Ok(Usage { user, system, rss, fds, voluntary, involuntary })
}

/// The processes that `pid` has started and that run; not theirs in turn.
///
/// # Errors
/// `/proc` cannot be read.
pub fn children(pid: u32) -> io::Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if parse::stat(&stat).is_some_and(|stat| stat.parent == pid) {
            children.push(child);
        }
    }
    children.sort_unstable();
    Ok(children)
}

/// What the machine has done so far.
///
/// # Errors
/// `/proc` cannot be read.
pub fn machine() -> io::Result<MachineUse> {
    let cores = parse::cores(&fs::read_to_string("/proc/stat")?);
    let page = rustix::param::page_size() as u64;
    let pages = parse::tcp_pages(&fs::read_to_string("/proc/net/sockstat")?).unwrap_or(0);
    let count = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count");
    let conntrack = count.ok().and_then(|count| count.trim().parse().ok());
    Ok(MachineUse { cores, socket_memory: pages * page, conntrack })
}

/// What the machine did from `before` to `after`.
#[must_use]
pub fn between(before: &MachineUse, after: &MachineUse) -> MachineBetween {
    let cores = after.cores.iter().map(|after| {
        let before =
            before.cores.iter().find(|before| before.core == after.core).copied().unwrap_or_default();
        CoreTime {
            core: after.core,
            idle: after.idle.saturating_sub(before.idle),
            steal: after.steal.saturating_sub(before.steal),
        }
    });
    MachineBetween { cores: cores.collect(), conntrack: after.conntrack }
}

/// Where this runs.
#[must_use]
pub fn describe() -> Machine {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let line = |name| parse::line(&cpu, name).unwrap_or_default();
    let system = read("/etc/os-release");
    let system = system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or_default();
    Machine {
        cpu: line("model name").to_owned(),
        cores: allowed_cores().map_or(1, |cores| cores.len()),
        memory: parse::field(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0) * 1024,
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        system: system.trim_matches('"').to_owned(),
        // x86 processors tell it to everybody; other ones have a file where they know it.
        virtualized: line("flags").split(' ').any(|flag| flag == "hypervisor")
            || fs::exists("/sys/hypervisor/type").unwrap_or(false),
    }
}

/// The cores that the calling thread may use, rising.
///
/// # Errors
/// The kernel does not tell.
pub fn allowed_cores() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

/// Puts the calling thread, and what it starts from now on, on `cores`; where there are none, all stays as it is.
///
/// # Errors
/// A core is none of those that this thread may use.
pub fn pin(cores: &[usize]) -> anyhow::Result<()> {
    if cores.is_empty() {
        return Ok(());
    }
    let allowed = allowed_cores()?;
    let mut set = CpuSet::new();
    for core in cores {
        ensure!(
            allowed.contains(core),
            "core {core} is not one that may be used here: {}",
            allowed.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        );
        set.set(*core);
    }
    sched_setaffinity(None, &set).context("cannot choose the cores")
}

/// As [`pin`], for what is started until the guard is dropped. Children keep the cores of the thread that starts them.
///
/// # Errors
/// As [`pin`].
pub fn pin_children(cores: &[usize]) -> anyhow::Result<Pinned> {
    let before = if cores.is_empty() { None } else { Some(sched_getaffinity(None)?) };
    pin(cores)?;
    Ok(Pinned { before, _of_this_thread: PhantomData })
}

// === impl Usage ===

impl Usage {
    /// User and system.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        self.user + self.system
    }

    /// What was used since `before`; memory and open files stay as they are now.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
            voluntary: self.voluntary.saturating_sub(before.voluntary),
            involuntary: self.involuntary.saturating_sub(before.involuntary),
            ..self
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            user: self.user + other.user,
            system: self.system + other.system,
            rss: self.rss + other.rss,
            fds: self.fds + other.fds,
            voluntary: self.voluntary + other.voluntary,
            involuntary: self.involuntary + other.involuntary,
        }
    }
}

// === impl MachineBetween ===

impl MachineBetween {
    /// How much of `cores` others used than who used `own` of it, interrupts included, in percent of `time`, which lay
    /// between the two looks. The kernel tells it in steps of 10 ms.
    #[must_use]
    pub fn foreign_percent(&self, cores: &[usize], time: Duration, own: Duration) -> f64 {
        let known: Duration = self.of(cores).map(|core| core.idle + core.steal).sum();
        self.percent(cores, time, |all| all.saturating_sub(known + own))
    }

    /// How much of `cores` the hypervisor took in `time`, which lay between the two looks, in percent.
    #[must_use]
    pub fn steal_percent(&self, cores: &[usize], time: Duration) -> f64 {
        let steal = self.of(cores).map(|core| core.steal).sum();
        self.percent(cores, time, |_| steal)
    }

    /// The part of all the time of `cores` that `part` makes of it, in percent.
    fn percent(&self, cores: &[usize], time: Duration, part: impl FnOnce(Duration) -> Duration) -> f64 {
        let all: Duration = self.of(cores).map(|_| time).sum();
        if all.is_zero() { 0.0 } else { part(all).as_secs_f64() / all.as_secs_f64() * 100.0 }
    }

    fn of(&self, cores: &[usize]) -> impl Iterator<Item = &CoreTime> {
        self.cores.iter().filter(|time| cores.contains(&time.core))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // It was the thread's own before.
            sched_setaffinity(None, before).ok();
        }
    }
}

#[cfg(test)]
mod tests;
