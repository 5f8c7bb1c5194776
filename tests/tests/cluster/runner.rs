//! `krypton-testbed run`: what it gives to the command, and that nothing stays behind however it ends.

use std::fs;

use anyhow::ensure;
use krypton_e2e::process::ProcessId;
use krypton_e2e::wait::eventually;
use rustix::process::Signal;

use crate::testbed::{Runner, SOON, START_DEADLINE, processes};

fn name(process: ProcessId) -> String {
    let id = process.to_string();
    let (pid, _) = id.split_once('-').unwrap();
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().trim().to_owned()
}

async fn all_gone(processes: &[ProcessId]) {
    eventually("all processes of the run are gone", SOON, async || {
        let left: Vec<_> = processes.iter().filter(|process| process.is_alive()).collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn the_command_gets_a_cluster_and_its_exit_code_is_passed_on() {
    let mut runner = Runner::start(
        &[],
        "test \"$KUBECONFIG\" = \"$KRYPTON_TESTBED\" && test -s \"$KUBECONFIG\" && test -x \"$KRYPTON_TESTBED_KUBECTL\" \
         && exit 7",
    );
    let status = runner.process.ended(START_DEADLINE).await.unwrap();
    assert_eq!(status.code(), Some(7));
    runner.folder().unwrap_err();
}

#[tokio::test]
async fn ctrl_c_leaves_nothing() {
    // A command that does not care and has a child of its own.
    let mut runner = Runner::start(&[], "trap '' INT TERM HUP; echo up; sleep 1000; sleep 1000");
    runner.printed("up").await;
    // The command runs before it is on record.
    let processes = eventually("the control plane's three and the command are on record", SOON, async || {
        let found = processes(&runner.folder()?);
        ensure!(found.len() == 4, "{found:?}");
        Ok(found)
    })
    .await
    .unwrap();
    runner.signal(Signal::INT);
    assert_eq!(runner.process.ended(SOON).await.unwrap().code(), Some(130));
    runner.folder().unwrap_err();
    all_gone(&processes).await;
}

#[tokio::test]
async fn a_command_is_asked_to_end_before_it_is_made_to() {
    let mut runner =
        Runner::start(&[], "trap 'sleep 0.2; echo cleared; exit' TERM; echo up; sleep 1000 & wait");
    runner.printed("up").await;
    runner.signal(Signal::TERM);
    assert_eq!(runner.process.ended(SOON).await.unwrap().code(), Some(130));
    let log = runner.process.log().read().unwrap();
    assert!(log.lines().any(|line| line == "cleared"), "{log}");
}

#[tokio::test]
async fn a_control_plane_that_breaks_ends_the_run_and_is_named() {
    let mut runner = Runner::start(&[], "echo up; sleep 1000");
    runner.printed("up").await;
    let folder = runner.folder().unwrap();
    processes(&folder).into_iter().find(|process| name(*process) == "etcd").unwrap().kill_group();
    assert_eq!(runner.process.ended(SOON).await.unwrap().code(), Some(1));
    let log = runner.process.log().read().unwrap();
    assert!(log.contains("etcd ended while the command was running"), "{log}");
    assert!(!folder.exists());
}

#[tokio::test]
async fn what_a_killed_runner_leaves_is_swept_by_the_next_start() {
    let mut runner = Runner::start(&[], "echo up; sleep 1000");
    runner.printed("up").await;
    let folder = runner.folder().unwrap();
    let processes = processes(&folder);
    runner.signal(Signal::KILL);
    runner.process.ended(SOON).await.unwrap();
    all_gone(&processes).await;
    assert!(folder.exists(), "nobody was there to delete it");

    runner.then(&["can", "cluster"]).await;
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_standing_cluster_outlives_its_starter_and_ends_when_told() {
    let mut runner = Runner::start_with(&["up"]);
    assert!(runner.process.ended(START_DEADLINE).await.unwrap().success());
    let folder = runner.folder().unwrap();
    let said = runner.process.log().read().unwrap();
    let export = format!("export KUBECONFIG={}/kubeconfig", folder.display());
    assert!(said.lines().any(|line| line == export), "{said}");
    let processes = processes(&folder);
    assert_eq!(processes.len(), 3);

    // Neither a sweep nor a second `up` touches it.
    runner.then(&["can", "cluster"]).await;
    runner.then(&["up"]).await;
    assert!(processes.iter().all(|process| process.is_alive()));

    runner.then(&["down"]).await;
    assert!(!processes.iter().any(|process| process.is_alive()));
    assert!(!folder.exists());
}
