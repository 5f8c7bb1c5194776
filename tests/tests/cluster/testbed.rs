//! `krypton-testbed` as a person or CI runs it, with a state folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use krypton_e2e::process::{ProcessId, Program, Running};
use krypton_e2e::state::RunDir;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const TESTBED: &str = env!("CARGO_BIN_EXE_krypton-testbed");

/// A control plane starts meanwhile, on a machine that is busy with the other tests.
pub(crate) const START_DEADLINE: Duration = Duration::from_mins(3);
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A runner that neither sees nor sweeps what others hold.
pub(crate) struct Runner {
    pub(crate) process: Running,
    temporary: TempDir,
}

impl Runner {
    /// Runs `script` with a control plane; `flags` may ask for a node.
    pub(crate) fn start(flags: &[&str], script: &str) -> Self {
        let args: Vec<&str> =
            ["run"].iter().chain(flags).chain(&["--", "sh", "-c", script]).copied().collect();
        Self::start_with(&args)
    }

    pub(crate) fn start_with(args: &[&str]) -> Self {
        // Short: the paths of Unix sockets are.
        let temporary = tempfile::Builder::new().prefix("tb").tempdir_in("/tmp").unwrap();
        let process = testbed(args, temporary.path());
        Self { process, temporary }
    }

    /// Runs another command on the same state folder to its end, which must be a good one.
    pub(crate) async fn then(&self, args: &[&str]) {
        let mut next = testbed(args, self.temporary.path());
        assert!(next.ended(SOON).await.unwrap().success());
    }

    /// Waits until the command printed `line`.
    pub(crate) async fn printed(&mut self, line: &str) {
        let log = self.process.log();
        let what = format!("the command prints {line}");
        let probe = async || {
            ensure!(log.read()?.lines().any(|printed| printed == line), "not yet");
            Ok(())
        };
        self.process.until(&what, START_DEADLINE, probe).await.unwrap();
    }

    /// The folder of the runner, if it is there.
    pub(crate) fn folder(&self) -> Result<PathBuf> {
        let state = fs::read_dir(self.temporary.path())?.next().context("no state folder")??;
        let mut runs = fs::read_dir(state.path())?;
        Ok(runs.next().context("no run folder")??.path())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.pid()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // A standing cluster is meant to outlive us; a failed test is not.
        for process in self.folder().iter().flat_map(|folder| processes(folder)) {
            process.kill_group();
        }
    }
}

fn testbed(args: &[&str], temporary: &Path) -> Running {
    let program = Program::new("krypton-testbed", TESTBED).args(args).env("TMPDIR", temporary);
    program.start(RunDir::of_this_process().unwrap()).unwrap()
}

/// The processes that a run folder has on record.
pub(crate) fn processes(folder: &Path) -> Vec<ProcessId> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_prefix("process-")?.parse().ok()).collect()
}
