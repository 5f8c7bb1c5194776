//! `call --url`: what is printed, when, and the exit status. The probe of the front stands for an agent.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::front::{Front, Manners};

/// All of this takes milliseconds; this is for a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(30);

fn call(front: &Front, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-krypton"));
    command.args(["call", "--url", &format!("http://{}", front.address)]).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Exit status, standard output, standard error.
async fn run(front: &Front, args: &[&str]) -> (Option<i32>, String, String) {
    let output = timeout(SOON, call(front, args).output()).await.unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn events_are_shown_by_their_data_or_raw() {
    let front = Front::start(Manners::default()).await;
    let target = "_probe/stream?events=2&interval=10";
    let (status, shown, _) = run(&front, &[target]).await;
    assert_eq!(status, Some(0));
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines.len() == 2 && lines[1].starts_with("{\"sequence\":1,"), "{shown}");
    let (_, raw, _) = run(&front, &[target, "--raw"]).await;
    assert!(raw.starts_with("id: 0\ndata: {") && raw.ends_with("\n\n"), "{raw}");
}

/// The first event is read while the second is a minute away; then Ctrl-C.
#[tokio::test]
async fn an_answer_is_printed_as_it_comes_and_ctrl_c_ends_it() {
    let front = Front::start(Manners::default()).await;
    let mut child = call(&front, &["_probe/stream?events=2&interval=60000"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = timeout(SOON, lines.next_line()).await.unwrap().unwrap().unwrap();
    assert!(first.starts_with("{\"sequence\":0,"), "{first}");
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(timeout(SOON, child.wait()).await.unwrap().unwrap().code(), Some(130));
}

#[tokio::test]
async fn an_error_of_the_gateway_is_a_sentence() {
    let error = r#"{"error":"agent team/agent not found","code":"agent_not_found","requestId":"a1"}"#;
    let gateways = Manners { answers: Some((404, error)), as_gateway: true, ..Manners::default() };
    let front = Front::start(gateways).await;
    let (status, out, told) = run(&front, &["team/agent"]).await;
    assert_eq!((status, out.as_str()), (Some(1), ""));
    assert_eq!(told.trim(), "404 Not Found: agent team/agent not found (agent_not_found, request a1)");
}

#[tokio::test]
async fn an_error_of_the_agents_own_is_its_body() {
    let error = r#"{"error":"no such city","code":"bad_city","requestId":"7","city":"Osol"}"#;
    let front = Front::start(Manners { answers: Some((400, error)), ..Manners::default() }).await;
    let (status, out, told) = run(&front, &["team/agent"]).await;
    assert_eq!((status, out.trim(), told.trim()), (Some(1), error, "400 Bad Request"));
}

#[tokio::test]
async fn an_answer_that_is_cut_is_a_failure() {
    let cut = Some(Duration::from_millis(100));
    let front = Front::start(Manners { cuts_calls: cut, ..Manners::default() }).await;
    let (status, out, told) = run(&front, &["_probe/stream?events=2&interval=500"]).await;
    assert_eq!((status, out.lines().count()), (Some(1), 1));
    assert!(told.contains("the answer was cut"), "{told}");
}

#[tokio::test]
async fn data_is_posted() {
    let front = Front::start(Manners::default()).await;
    let (status, out, _) = run(&front, &["_probe/upload", "-d", "{\"a\":1}"]).await;
    assert_eq!((status, out.as_str()), (Some(0), "{\"bytes\":7}"));
}
