//! What this process may use of the machine.
//!
//! Owns: its limit of open files, the cores it runs on, and the CPU it has used. Never touches another process.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use rlimit::Resource;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::clock::{float, nanos, process_cpu_ns};

/// Descriptors that the program needs besides its connections: pipes, timers, epoll, the listing of /proc.
const BESIDES: u64 = 64;

/// CPU that this process has used since it began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    /// In programs.
    pub(super) user: Duration,
    /// In the kernel.
    pub(super) system: Duration,
    /// Time that its threads could have run and had no core.
    pub(super) waited: Duration,
}

/// Lets this process open `connections` connections: raises its soft limit where the hard one allows.
///
/// # Errors
/// When the hard limit is too low: names the flag and the command.
pub(super) fn allow_connections(connections: usize) -> anyhow::Result<()> {
    let need = connections as u64 + BESIDES;
    let (soft, hard) = Resource::NOFILE.get().context("cannot read the limit of open files")?;
    if soft >= need {
        return Ok(());
    }
    ensure!(
        hard >= need,
        "--connections {connections} needs {need} open files and this process may have {hard}: run `ulimit -n {need}` as root before, or ask for fewer"
    );
    Resource::NOFILE
        .set(need, hard)
        .with_context(|| format!("cannot raise the limit of open files to {need}"))
}

/// Keeps the calling thread, and those that it starts, on `cores`. None: no change.
///
/// # Errors
/// When this process may use none of them.
pub(super) fn pin(cores: &[usize]) -> anyhow::Result<()> {
    if cores.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for core in cores {
        ensure!(*core < CpuSet::MAX_CPU, "--cores: this machine has no core {core}");
        set.set(*core);
    }
    sched_setaffinity(None, &set).with_context(|| format!("--cores: this process may not use {cores:?}"))
}

/// What this process has used so far.
#[must_use]
pub(super) fn used() -> Used {
    let all = process_cpu_ns();
    let (user, system) = ticks().unwrap_or((1, 0));
    // The kernel counts the two kinds in ticks of 10 ms and their sum in nanoseconds.
    let share = float(user) / float((user + system).max(1));
    let user = Duration::from_nanos(all).mul_f64(share);
    Used {
        user,
        system: Duration::from_nanos(all).saturating_sub(user),
        waited: waited().unwrap_or_default(),
    }
}

/// Fields 14 and 15 of proc_pid_stat(5), counted from after the name, which may hold anything.
fn ticks() -> Option<(u64, u64)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// The second field of each thread's schedstat: nanoseconds on a run queue. `None` where the kernel keeps none.
fn waited() -> Option<Duration> {
    let mut sum = 0_u64;
    for task in std::fs::read_dir("/proc/self/task").ok()? {
        let Ok(text) = std::fs::read_to_string(task.ok()?.path().join("schedstat")) else { continue };
        sum += text.split_whitespace().nth(1)?.parse::<u64>().ok()?;
    }
    Some(Duration::from_nanos(sum))
}

// === impl Used ===

impl Used {
    /// What was used since `before`.
    #[must_use]
    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
            waited: self.waited.saturating_sub(before.waited),
        }
    }

    /// CPU as a share of `cores` cores during `wall`, in percent.
    #[must_use]
    pub(super) fn busy_percent(&self, wall: Duration, cores: usize) -> f64 {
        percent(self.user + self.system, wall, cores)
    }

    /// Time without a core as a share of `cores` cores during `wall`, in percent.
    #[must_use]
    pub(super) fn waited_percent(&self, wall: Duration, cores: usize) -> f64 {
        percent(self.waited, wall, cores)
    }
}

fn percent(part: Duration, wall: Duration, cores: usize) -> f64 {
    let whole = float(nanos(wall).max(1)) * float(cores.max(1) as u64);
    100.0 * float(nanos(part)) / whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_need_above_the_hard_limit_names_flag_and_command() {
        let error = format!("{:#}", allow_connections(usize::MAX / 2).unwrap_err());
        assert!(error.contains("--connections") && error.contains("ulimit -n"), "{error}");
        allow_connections(1).unwrap();
    }

    #[test]
    fn work_is_seen() {
        let before = used();
        let mut n = 0_u64;
        while used().since(&before).user + used().since(&before).system < Duration::from_millis(20) {
            n = std::hint::black_box(n + 1);
        }
        let used =
            Used { user: Duration::from_millis(500), system: Duration::from_millis(500), ..Used::default() };
        assert!((used.busy_percent(Duration::from_secs(1), 2) - 50.0).abs() < 1e-9);
    }

    #[test]
    fn a_core_that_is_not_there_is_refused() {
        assert!(format!("{:#}", pin(&[9999]).unwrap_err()).contains("--cores"));
        assert!(pin(&[1000]).is_err());
    }
}
