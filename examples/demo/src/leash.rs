//! How a program comes to die with the demo, whatever ends the demo.
//!
//! The kernel kills a process when the thread that started it ends, if the process itself has asked for that
//! (prctl(2), PR_SET_PDEATHSIG). So the demo starts itself, asks, and becomes the program: the wish outlives
//! execve(2).

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::Context as _;

/// Becomes `program`, to be killed when `parent` ends. Returns only if it ended before, or cannot.
///
/// # Errors
/// The program cannot be started.
pub fn exec(parent: i32, program: &[OsString]) -> anyhow::Result<ExitCode> {
    die_with_parent().context("asking to be killed with the demo")?;
    // It may have ended before it could be watched.
    if std::os::unix::process::parent_id() != parent.unsigned_abs() {
        return Ok(ExitCode::FAILURE);
    }
    let (name, arguments) = program.split_first().context("no program to start")?;
    let error = Command::new(name).args(arguments).exec();
    Err(error).with_context(|| format!("cannot start {}", name.display()))
}

#[cfg(target_os = "linux")]
fn die_with_parent() -> rustix::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
}

/// Elsewhere there is no such wish: a demo that is killed with SIGKILL leaves its programs running.
#[cfg(not(target_os = "linux"))]
fn die_with_parent() -> rustix::io::Result<()> {
    Ok(())
}
