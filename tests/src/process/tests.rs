//! The promise that nothing outlives its owner, on real processes.

use std::os::unix::process::ExitStatusExt;

use super::*;

const SOON: Duration = Duration::from_secs(10);

fn shell(script: &str) -> Running {
    let run = RunDir::of_this_process().unwrap();
    Program::new("shell", "/bin/sh").args(["-c", script]).start(run).unwrap()
}

/// Starts a shell whose child prints its number, and waits for that.
async fn shell_with_child() -> (Running, ProcessId) {
    let mut shell = shell("sleep 1000 & echo $!; wait");
    let log = shell.log();
    let child = shell.until("the child's number", SOON, async || {
        let pid = log.read()?.trim().parse()?;
        ProcessId::of(pid).context("no such process")
    });
    let child = child.await.unwrap();
    (shell, child)
}

async fn gone(process: ProcessId) {
    let probe = async || {
        ensure!(!process.is_alive(), "it runs");
        Ok(())
    };
    eventually("the child's end", SOON, probe).await.unwrap();
}

#[test]
fn a_process_is_known_by_its_number_and_its_start() {
    let current = ProcessId::current().unwrap();
    assert!(current.is_alive());
    assert_eq!(current.to_string().parse(), Ok(current));
    let recycled = ProcessId { start: current.start + 1, ..current };
    assert!(!recycled.is_alive());
    // Were the start time not looked at, this would kill the test.
    recycled.kill_group();
}

#[test]
fn what_does_not_name_a_process_is_refused() {
    for text in ["", "1", "x-1", "1-1", "-5-1", "0-0", "5-x", "cluster"] {
        assert_eq!(text.parse::<ProcessId>(), Err(NotAProcessId), "{text}");
    }
}

#[tokio::test]
async fn dropping_ends_the_whole_group() {
    let (shell, child) = shell_with_child().await;
    let id = shell.id;
    drop(shell);
    assert!(!id.is_alive());
    gone(child).await;
}

#[tokio::test]
async fn ending_waits_for_the_whole_group() {
    let (shell, child) = shell_with_child().await;
    shell.end(SOON).await.unwrap();
    assert!(!child.is_alive());
}

#[tokio::test]
async fn a_program_that_ends_early_is_told_with_its_log() {
    let mut shell = shell("echo the reason >&2; exit 3");
    let waited = shell.until("a miracle", SOON, async || -> Result<()> { bail!("not yet") }).await;
    let error = format!("{:#}", waited.unwrap_err());
    assert!(error.contains("the reason") && error.contains("exit status: 3"), "{error}");
}

#[tokio::test]
async fn a_program_is_asked_to_end_by_sigterm() {
    let mut shell = shell("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done");
    let log = shell.log();
    let ready = async || log.read()?.strip_suffix("ready\n").map(drop).context("not yet");
    shell.until("ready", SOON, ready).await.unwrap();
    shell.terminate();
    assert_eq!(shell.ended(SOON).await.unwrap().code(), Some(7));
}

#[tokio::test]
async fn the_kernel_kills_it_when_its_starter_is_killed() {
    // A starter of its own: this test, started again as a process, would be too much. `setpriv` is what `Program` uses.
    let mut starter = shell("setpriv --pdeathsig KILL -- sleep 1000 & echo $!; wait");
    let log = starter.log();
    let child = starter.until("the child", SOON, async || {
        let id = ProcessId::of(log.read()?.trim().parse()?).context("no such process")?;
        let name = fs::read_to_string(format!("/proc/{}/comm", id.pid))?;
        ensure!(name.trim() == "sleep", "still {name}");
        Ok(id)
    });
    let child = child.await.unwrap();
    // The starter alone, not its group.
    rustix::process::kill_process(Pid::from_raw(starter.id.pid).unwrap(), Signal::KILL).unwrap();
    assert_eq!(starter.ended(SOON).await.unwrap().signal(), Some(9));
    gone(child).await;
}
