//! The origin as a process, called without a proxy.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::{SinkExt as _, StreamExt as _};
use http::Method;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use krypton_bench::origin::{Origin, body, now_ns};
use krypton_bench::procfs;
use krypton_e2e::client::{Body, Events, full, get, get_by, keeping_client, request, send};
use krypton_e2e::wait::eventually;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

const BENCH: &str = env!("CARGO_BIN_EXE_krypton-bench");

/// For a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(30);

async fn origin(args: &[&str]) -> Result<Origin> {
    Origin::start(Path::new(BENCH), args).await
}

fn client_of_http2() -> krypton_e2e::client::KeepingClient {
    Client::builder(TokioExecutor::new()).http2_only(true).build_http::<Body>()
}

/// What comes back for these bytes, until the other side closes.
async fn raw(origin: &Origin, bytes: &[u8]) -> Result<String> {
    let mut socket = TcpStream::connect(origin.addresses()[0]).await?;
    socket.write_all(bytes).await?;
    let mut text = String::new();
    timeout(SOON, socket.read_to_string(&mut text)).await??;
    Ok(text)
}

#[tokio::test]
async fn answers_have_the_size_that_was_asked_for() {
    let origin = origin(&["--threads", "2"]).await.unwrap();
    let (client, address) = (keeping_client(), origin.addresses()[0]);
    for size in [0, 1, 1024, 16_384, 16_385, 65_536, 3_000_000] {
        let answer = get_by(&client, address, &format!("/bytes/{size}")).await.unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, size));
        assert_eq!(body::first_wrong(&answer.body), None);
    }
    let post = request(Method::POST, address, "/any?bytes=2000").body(full(vec![b'x'; 1 << 20])).unwrap();
    let answer = send(&client, post).await.unwrap();
    assert_eq!((answer.body.len(), &answer.json()["received"]), (2000, &(1 << 20).into()));
    assert_eq!(get_by(&client, address, "/v1/agents/team-0/agent-0/bytes/1").await.unwrap().status, 404);
    assert_eq!(get_by(&client, address, "/bytes/x").await.unwrap().status, 400);
    assert_eq!(get_by(&client, address, "/echo?a=b").await.unwrap().json()["target"], "/echo?a=b");
}

#[tokio::test]
async fn who_polls_busily_does_not_sleep_and_answers() {
    let mut origin = origin(&["--busy-poll"]).await.unwrap();
    let pid = origin.process().pid();
    eventually("it uses CPU though nobody calls", SOON, async || {
        let used = procfs::usage(&[pid])?.cpu();
        ensure!(used >= Duration::from_millis(300), "{used:?}");
        Ok(())
    })
    .await
    .unwrap();
    let answer = get_by(&keeping_client(), origin.addresses()[0], "/bytes/10").await.unwrap();
    assert_eq!(answer.body.len(), 10);
}

#[tokio::test]
async fn chunked_bodies_and_the_next_request_are_told_apart() {
    let origin = origin(&[]).await.unwrap();
    let two = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n\
                GET /bytes/2 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let text = raw(&origin, two).await.unwrap();
    assert!(text.contains(r#"{"received":5,"#), "{text}");
    assert!(text.ends_with("content-length: 2\r\n\r\nAB"), "{text}");
    let text = raw(&origin, b"hello world\r\n\r\n").await.unwrap();
    assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
}

#[tokio::test]
async fn events_say_when_they_were_sent_in_both_protocols() {
    let origin = origin(&[]).await.unwrap();
    for client in [keeping_client(), client_of_http2()] {
        let target = "/events?interval_us=2000&count=5&pad=10";
        let before = now_ns();
        let get = request(Method::GET, origin.addresses()[0], target).body(full("")).unwrap();
        let mut events = Events::of(client.request(get).await.unwrap());
        let events = timeout(SOON, events.rest()).await.unwrap().unwrap();
        let events: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
        let times: Vec<_> = events.iter().map(|event| event["sent_ns"].as_u64().unwrap()).collect();
        assert!(times.is_sorted() && times[0] >= before && times[4] <= now_ns(), "{times:?}");
        assert!(times[4] - times[0] >= 6_000_000, "{times:?}");
        let sequences: Vec<_> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
        assert_eq!((sequences, events[0]["pad"].as_str().unwrap().len()), (vec![0, 1, 2, 3, 4], 10));
    }
}

#[tokio::test]
async fn a_held_stream_is_silent_and_open() {
    let origin = origin(&[]).await.unwrap();
    for client in [keeping_client(), client_of_http2()] {
        let get = request(Method::GET, origin.addresses()[0], "/hold").body(full("")).unwrap();
        let mut events = Events::of(client.request(get).await.unwrap());
        let first = timeout(SOON, events.next()).await.unwrap().unwrap();
        assert!(first.unwrap().starts_with(r#"{"seq":0,"#));
        assert!(timeout(Duration::from_millis(100), events.next()).await.is_err());
    }
}

#[tokio::test]
async fn large_bodies_pass_in_http2_both_ways() {
    let origin = origin(&[]).await.unwrap();
    let (client, address) = (client_of_http2(), origin.addresses()[0]);
    let answer = get_by(&client, address, "/bytes/3000000").await.unwrap();
    assert_eq!((answer.body.len(), body::first_wrong(&answer.body)), (3_000_000, None));
    let post = request(Method::POST, address, "/").body(full(vec![b'x'; 20 << 20])).unwrap();
    assert_eq!(send(&client, post).await.unwrap().json()["received"], 20 << 20);
    assert_eq!(get_by(&client, address, "/nothing").await.unwrap().status, 404);
}

#[tokio::test]
async fn a_websocket_sends_back_what_it_gets() {
    let origin = origin(&[]).await.unwrap();
    let url = format!("ws://{}/ws", origin.addresses()[0]);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
}

#[tokio::test]
async fn it_waits_and_stands_still_as_told() {
    let origin = origin(&["--stall-every", "400ms", "--stall-for", "300ms"]).await.unwrap();
    let (client, address) = (keeping_client(), origin.addresses()[0]);
    let began = Instant::now();
    get(address, "/bytes/1?delay_ms=50").await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(50));
    // One call after the other: one of them is on its way when it begins to stand still.
    loop {
        let called = Instant::now();
        get_by(&client, address, "/bytes/1").await.unwrap();
        if called.elapsed() >= Duration::from_millis(200) {
            break;
        }
        assert!(began.elapsed() < SOON, "it never stood still");
    }
}

#[tokio::test]
async fn it_ends_when_told_and_refuses_what_it_cannot_do() {
    let mut origin = origin(&["--listen", "127.0.0.1:0", "--listen", "127.0.0.2:0"]).await.unwrap();
    assert_eq!(origin.addresses().len(), 2);
    origin.process().terminate();
    assert!(origin.process().ended(SOON).await.unwrap().success());

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (args, sentence) in [
        (["--listen", address.as_str()], format!("--listen: cannot listen on {address}: ")),
        (["--cores", "1023"], "--cores: core 1023 is not one that may be used here: ".to_owned()),
    ] {
        let error = Origin::start(Path::new(BENCH), &args).await.unwrap_err();
        assert!(format!("{error:#}").contains(&sentence), "{error:#}");
    }
}

#[test]
fn it_ends_with_its_input_where_that_is_a_pipe() {
    let mut command = Command::new(BENCH);
    let mut child = command.arg("origin").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}
