//! How a load ends: by its standard input, by the server, by a signal.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::{Context as _, Result, ensure};
use krypton_bench::load::LoadReport;
use krypton_e2e::wait::eventually;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Child;

use crate::servers::{OK, Server};
use crate::{SOON, command, load};

async fn line(child: &mut Child) -> Result<serde_json::Value> {
    let mut line = String::new();
    let out = child.stdout.as_mut().context("it is piped")?;
    // Read byte by byte: nothing of what follows may be lost.
    while !line.ends_with('\n') {
        line.push(char::from(tokio::time::timeout(SOON, out.read_u8()).await??));
    }
    Ok(serde_json::from_str(&line)?)
}

fn interrupt(child: &Child) -> Result<()> {
    let pid = i32::try_from(child.id().context("it runs")?)?;
    kill_process(Pid::from_raw(pid).context("a process has a number")?, Signal::INT)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_are_held_until_standard_input_says() -> Result<()> {
    let server = Server::http(|mut call| async move {
        // Every second one is a stream.
        let stream = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n:\n\r\n";
        call.send(if call.number % 2 == 0 { OK } else { stream.as_bytes() }).await?;
        Ok(Some(call.stream))
    })
    .await?;
    let mut child = command("idle --connections 300 --threads 2 --json", &[server.url("/hold")]).spawn()?;
    assert_eq!(line(&mut child).await?["open"], 300);
    assert_eq!(server.seen.open.load(Relaxed), 300);
    assert!(child.try_wait()?.is_none(), "it holds them");
    child.stdin.take().context("it is piped")?.write_all(b"\n").await?;
    let report: LoadReport = serde_json::from_value(line(&mut child).await?)?;
    assert_eq!((report.completed, report.failed), (300, 0), "{report}");
    let seen = Arc::clone(&server.seen);
    eventually("all are closed", SOON, async || {
        ensure!(seen.open.load(Relaxed) == 0);
        Ok(())
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_closed_while_it_is_held_is_a_failure() -> Result<()> {
    let server = Server::http(|mut call| async move {
        call.send(OK).await?;
        Ok((call.number < 3).then_some(call.stream))
    })
    .await?;
    let report = load("idle --connections 5 --duration 1s", &[server.url("/")]).await?;
    assert_eq!((report.completed, report.failures.get("closed")), (5, Some(&2)), "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_run_tells_what_there_is() -> Result<()> {
    let server = Server::bytes(|_| OK).await?;
    for rate in ["", "--rate 100"] {
        let flags = format!("requests --connections 2 --duration 50s --warm-up 0s --json --announce {rate}");
        let mut child = command(&flags, &[server.url("/")]).spawn()?;
        assert!(line(&mut child).await?["measuring"].is_u64());
        let before = server.seen.requests.load(Relaxed);
        eventually("it calls", SOON, async || {
            ensure!(server.seen.requests.load(Relaxed) > before + 10);
            Ok(())
        })
        .await?;
        interrupt(&child)?;
        assert!(line(&mut child).await?["measured"].is_u64());
        let report: LoadReport = serde_json::from_value(line(&mut child).await?)?;
        assert!(report.interrupted && report.seconds < 50.0, "{report}");
        assert!(report.completed > 0 && report.failed == 0, "{report}");
        assert!(child.wait().await?.success());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_interrupted_before_it_measures_has_nothing_to_tell() -> Result<()> {
    let server = Server::bytes(|_| OK).await?;
    let child = command("requests --connections 1 --warm-up 1m --json", &[server.url("/")]).spawn()?;
    eventually("it calls", SOON, async || {
        ensure!(server.seen.requests.load(Relaxed) > 0);
        Ok(())
    })
    .await?;
    interrupt(&child)?;
    let output = child.wait_with_output().await?;
    let said = String::from_utf8(output.stderr)?;
    assert!(!output.status.success() && output.stdout.is_empty(), "{:?}", output.stdout);
    assert!(said.contains("interrupted before the measurement began"), "{said}");
    Ok(())
}
