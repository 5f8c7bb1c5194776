//! The load generator beside servers whose behaviour is known.
//!
//! What is asserted holds on a busy machine too: times only have lower bounds, and counts are those of the server.

mod ends;
mod servers;

use std::process::{Output, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use krypton_bench::load::LoadReport;
use servers::{OK, Server};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

/// For anything that takes a moment on a machine with nothing else to do.
const SOON: Duration = Duration::from_secs(30);

fn command(line: &str, urls: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_krypton-bench"));
    command.arg("load").args(line.split_whitespace()).args(urls);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn output(line: &str, urls: &[String]) -> Result<Output> {
    Ok(command(line, urls).stdin(Stdio::null()).output().await?)
}

/// Runs `krypton-bench load LINE --json URLS`.
async fn load(line: &str, urls: &[String]) -> Result<LoadReport> {
    let output = output(&format!("{line} --json"), urls).await?;
    // Of what is held there is a line before.
    let stdout = String::from_utf8(output.stdout)?;
    let said = String::from_utf8_lossy(&output.stderr);
    let report: LoadReport =
        serde_json::from_str(stdout.lines().last().with_context(|| format!("no report: {said}"))?)?;
    // A script has to notice that nothing worked.
    assert_eq!(output.status.success(), report.has_answers(), "{said}");
    Ok(report)
}

/// What `krypton-bench load LINE URLS` says when it cannot.
async fn refusal(line: &str, url: &str) -> Result<String> {
    let output = output(line, &[url.to_owned()]).await?;
    ensure!(!output.status.success(), "it was not refused");
    Ok(String::from_utf8(output.stderr)?)
}

fn millis(report: &LoadReport, quantile: f64) -> f64 {
    report.latency_at(quantile).expect("something has ended") / 1000.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_loop_makes_exactly_its_calls() -> Result<()> {
    let server = Server::bytes(|_| OK).await?;
    let line = "requests --rate 200 --duration 2s --warm-up 500ms --connections 7 --threads 2";
    let report = load(line, &[server.url("/")]).await?;
    assert_eq!((report.completed, report.failed), (400, 0));
    assert_eq!(report.bytes, 5 * 400);
    assert_eq!(report.series.iter().map(|second| second.completed).sum::<u64>(), 400);
    assert_eq!(server.seen.requests.load(Relaxed), 500, "with those of the warm-up");
    assert_eq!(server.seen.connections.load(Relaxed), 7);
    assert!((report.seconds - 2.0).abs() < 1e-6);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_delay_is_in_every_latency() -> Result<()> {
    let server = Server::late(Duration::from_millis(20)).await?;
    for rate in ["", "--rate 50"] {
        let line = format!("requests --connections 4 --duration 1s --warm-up 0s {rate}");
        let report = load(&line, &[server.url("/")]).await?;
        assert!(millis(&report, 0.5) >= 20.0, "{report}");
        assert!(report.completed <= 200, "each connection has 50 times 20 ms: {report}");
        assert!(report.latency_us.is_sorted_by(|a, b| a.1 <= b.1));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_polls_busily_does_not_sleep_and_cannot_tell_its_limit() -> Result<()> {
    let server = Server::late(Duration::from_millis(20)).await?;
    for (flag, is_busy) in [("", false), ("--busy-poll", true)] {
        let line = format!("requests --connections 1 --duration 1s --warm-up 0s {flag}");
        let report = load(&line, &[server.url("/")]).await?;
        let used = report.generator;
        assert_eq!(used.busy_percent + used.waited_percent >= 80.0, is_busy, "{used:?}");
        assert!(!used.was_the_limit, "{used:?}");
        assert!(report.completed > 0, "{report}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_shows_in_an_open_loop_and_hides_in_a_closed_one() -> Result<()> {
    let server = Server::stalling(Duration::from_millis(300)).await?;
    let open = load("requests --rate 200 --connections 8 --duration 3s", &[server.url("/")]).await?;
    let closed = load("requests --connections 2 --duration 3s", &[server.url("/")]).await?;
    // In each second 60 of 200 calls are due while the server stalls, the first for 300 ms: 200 ms and more for 20 of
    // them. The first connection that is answered cannot make up for that.
    assert!(millis(&open, 0.9) >= 150.0, "{open}");
    assert!(millis(&open, 0.99) >= 200.0, "{open}");
    assert_eq!(open.completed + open.failed, 600);
    // Of the closed loop only those two calls that were on their way meet a stall: eight of some thousands. Not even a
    // machine that is too slow for a hundred in a second makes that a tenth.
    assert!(millis(&closed, 0.9) < 150.0, "{closed}");
    assert!(millis(&closed, 1.0) >= 200.0, "{closed}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_a_silent_server_swallows_are_not_left_out() -> Result<()> {
    let server = Server::http(|mut call| async move {
        // Answers the first, and then nothing any more.
        if call.number > 0 {
            call.stream.read_to_end(&mut Vec::new()).await?;
            return Ok(None);
        }
        call.send(OK).await?;
        Ok(Some(call.stream))
    })
    .await?;
    let line = "requests --rate 50 --connections 2 --duration 1s --warm-up 0s --timeout 400ms";
    let report = load(line, &[server.url("/")]).await?;
    assert_eq!((report.completed, report.failed), (1, 49), "{report}");
    assert!(report.failures["timeout"] >= 2 && report.failures.contains_key("unfinished"), "{report}");
    assert!(millis(&report, 0.5) >= 300.0, "they have waited: {report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_told_by_their_cause() -> Result<()> {
    let server = Server::http(|mut call| async move {
        let (answer, go_on): (&[u8], bool) = match call.number % 6 {
            0 => (OK, true),
            1 => (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno", true),
            2 => (b"", false),
            3 => (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", false),
            4 => (b"220 mail.example ESMTP\r\n\r\n", false),
            _ => (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", false),
        };
        call.send(answer).await?;
        Ok(go_on.then_some(call.stream))
    })
    .await?;
    let report = load("requests --connections 1 --duration 1s --warm-up 0s", &[server.url("/")]).await?;
    assert_eq!(
        report.failures.keys().collect::<Vec<_>>(),
        ["closed", "malformed", "short_body", "status_503"]
    );
    assert_eq!(report.failed, report.failures.values().sum::<u64>());
    // The last connection may have been made for a call that was not counted any more.
    let made = server.seen.connections.load(Relaxed);
    assert!((1..=2).contains(&(made - report.reconnects)), "{report}, {made} connections");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_are_sent_and_read_whole() -> Result<()> {
    let chunked: &[u8] =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n";
    let server = Server::bytes(move |_| chunked).await?;
    let line = "requests --connections 2 --duration 1s --warm-up 0s --body-bytes 1048576";
    let report = load(line, &[server.url("/")]).await?;
    assert!(report.completed > 0 && report.failed == 0, "{report}");
    assert_eq!(report.bytes, 11 * report.completed);
    let requests = server.seen.requests.load(Relaxed);
    assert_eq!(server.seen.body_bytes.load(Relaxed), requests * 1_048_576);
    assert!(requests - report.completed <= 2, "one of each connection was on its way at the end");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_before_the_end_of_an_upload_is_an_answer() -> Result<()> {
    let server = Server::start(|mut stream, _| async move {
        stream.write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n").await?;
        // Keeps the connection, reads nothing: whoever insists on sending all waits for ever.
        std::future::pending().await
    })
    .await?;
    let line = "requests --connections 1 --duration 1s --warm-up 0s --body-bytes 50000000";
    let report = load(line, &[server.url("/")]).await?;
    assert_eq!(report.failures.keys().collect::<Vec<_>>(), ["status_413"], "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mix_is_kept_to_and_patterns_are_spread() -> Result<()> {
    let server = Server::bytes(|_| OK).await?;
    let mut command = command("requests --connections 2 --rate 400 --duration 1s --warm-up 0s --json", &[]);
    command.args(["--mix", "1 GET /a", "--mix", "1 POST /b 100"]).arg(server.url("/{0..2}"));
    let output = command.stdin(Stdio::null()).output().await?;
    let report: LoadReport = serde_json::from_slice(&output.stdout)?;
    assert_eq!(report.completed, 400);
    let posts = server.seen.body_bytes.load(Relaxed) / 100;
    assert!((100..300).contains(&posts), "{posts} of 400");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gaps_duplicates_and_broken_streams_are_seen() -> Result<()> {
    let server = Server::http(|mut call| async move {
        let event = |seq| format!("id: {seq}\ndata: {{\"seq\":{seq},\"sent_ns\":1}}\n\n");
        let chunk = |events: String| format!("{:x}\r\n{events}\r\n", events.len());
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        match call.number {
            0 => {
                let events: String = [7, 8, 8, 11].map(event).concat();
                call.send(format!("{head}{}0\r\n\r\n", chunk(events)).as_bytes()).await?;
                Ok(Some(call.stream))
            }
            1 => {
                call.send(format!("{head}{}", chunk(event(1))).as_bytes()).await?;
                Ok(None)
            }
            _ => {
                call.send(head.as_bytes()).await?;
                call.stream.read_to_end(&mut Vec::new()).await?;
                Ok(None)
            }
        }
    })
    .await?;
    let report = load("sse --connections 1 --duration 2s --warm-up 0s", &[server.url("/events")]).await?;
    let sse = report.sse.context("it is about streams")?;
    assert_eq!((sse.events, sse.gaps, sse.duplicates, sse.unstamped), (5, 2, 1, 0), "{report}");
    assert_eq!(sse.coalesced, 3, "four came with one write");
    assert_eq!((sse.streams_opened, sse.streams_ended, sse.streams_broken), (3, 1, 1), "{report}");
    assert_eq!(report.failures.get("short_body"), Some(&1), "{report}");
    assert!(millis(&report, 0.5) > 1000.0, "the stamp is of the first nanosecond after boot");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_and_their_echoes_are_counted() -> Result<()> {
    let server = Server::echo(false).await?;
    let url = server.url("/ws").replace("http", "ws");
    let line = "websocket --connections 3 --rate 100 --duration 1s --warm-up 0s --body-bytes 64";
    let report = load(line, std::slice::from_ref(&url)).await?;
    assert_eq!((report.completed, report.failed, report.bytes), (100, 0, 6400), "{report}");
    let wrong = Server::echo(true).await?;
    let report = load("websocket --connections 1 --duration 1s --warm-up 0s", &[wrong.url("/")]).await?;
    assert!(report.failures["wrong_echo"] > 0 && report.reconnects > 0, "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_streams_share_connections() -> Result<()> {
    let server = Server::h2c(100_000).await?;
    let line = "requests --protocol h2c --connections 2 --streams-per-connection 5 --rate 100 --duration 1s --warm-up 0s --body-bytes 100000";
    let report = load(line, &[server.url("/")]).await?;
    assert_eq!((report.completed, report.failed, report.bytes), (100, 0, 10_000_000), "{report}");
    assert_eq!(server.seen.connections.load(Relaxed), 2);
    assert_eq!(server.seen.body_bytes.load(Relaxed), 10_000_000);
    let http1 = Server::bytes(|_| OK).await?;
    let report =
        load("requests --protocol h2c --connections 1 --duration 1s --warm-up 0s", &[http1.url("/")]).await?;
    assert!(report.completed == 0 && report.failed > 0 && !report.has_answers(), "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_is_said_in_a_sentence() -> Result<()> {
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let url = format!("http://{free}/");
    for kind in ["requests", "sse", "idle", "websocket"] {
        let error = refusal(kind, &url).await?;
        assert!(error.contains(&format!("nothing listens at {free}")), "{kind}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    assert!(refusal("requests", "http://192.0.2.1/").await?.contains("--allow-remote"));
    assert!(refusal("requests", "nonsense").await?.contains("is not a URL"));
    assert!(refusal("requests --protocol h3", &url).await?.contains("--protocol"));
    assert!(refusal("requests --source 192.0.2.1", &url).await?.contains("--source"));
    let program = env!("CARGO_BIN_EXE_krypton-bench");
    let script = format!("ulimit -n 100; exec {program} load requests --connections 5000 {url}");
    let limited = Command::new("sh").args(["-c", &script]).output().await?;
    let error = String::from_utf8(limited.stderr)?;
    assert!(error.contains("--connections 5000") && error.contains("ulimit -n"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_reads_a_table() -> Result<()> {
    let server = Server::bytes(|_| OK).await?;
    let output =
        output("requests --rate 50 --duration 1s --warm-up 0s --connections 2", &[server.url("/")]).await?;
    let text = String::from_utf8(output.stdout)?;
    for words in ["requests     50 in 1.0 s, 50.0/s", "failed       0", "p99.99", "generator"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(output.stderr.is_empty(), "no progress where nobody sees it");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_to_connect_from_are_used_in_turn() -> Result<()> {
    let (tell, mut told) = tokio::sync::mpsc::channel(8);
    let server = Server::start(move |stream, _| {
        let (tell, peer) = (tell.clone(), stream.peer_addr());
        async move {
            tell.send(peer?.ip().to_string()).await?;
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while stream.read_line(&mut line).await? > 0 {
                if line.trim_end().is_empty() {
                    stream.get_mut().write_all(OK).await?;
                }
                line.clear();
            }
            Ok(())
        }
    })
    .await?;
    let line = "requests --connections 4 --duration 1s --warm-up 0s --source 127.0.0.2,127.0.0.3";
    let report = load(line, &[server.url("/")]).await?;
    assert!(report.failed == 0 && report.completed > 0, "{report}");
    let mut from = Vec::new();
    told.recv_many(&mut from, 8).await;
    from.sort_unstable();
    assert_eq!(from, ["127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.3"]);
    Ok(())
}
