//! Start, drain and end.

use std::process::Stdio;
use std::time::Duration;

use axum::body::Body;
use futures::StreamExt as _;
use http::Method;
use krypton_example_agent::{Args, Drained, serve};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Client, bytes, connect, frame, get_request, start, start_with, within};
use crate::mcp;

#[tokio::test]
async fn a_taken_address_is_an_error() {
    let server = start().await;
    let taken = Args { listen: Some(server.address()), ..Args::local("second") };
    assert!(serve(taken).await.is_err());
}

/// As the program says it, also to who wants backtraces of panics.
#[tokio::test]
async fn a_taken_address_is_told_in_one_line() {
    let server = start().await;
    let taken = server.address().to_string();
    let run = Command::new(env!("CARGO_BIN_EXE_krypton-example-agent"))
        .args(["--listen", &taken])
        .env("RUST_BACKTRACE", "1")
        .kill_on_drop(true)
        .output();
    let output = within(run).await.unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), told.lines().count()), (Some(1), 1), "{told}");
    assert!(told.starts_with(&format!("krypton-example-agent: cannot listen on {taken}: ")), "{told}");
}

#[tokio::test]
async fn open_answers_end_well_and_nothing_new_is_taken() {
    let server = start().await;
    let (h1, h2) = (Client::new(&server), Client::h2c(&server));
    let mut answers =
        [h1.get("/x?chunks=20&size=3&pace=5ms").await, h2.get("/x?chunks=20&size=3&pace=5ms").await];
    for answer in &mut answers {
        frame(answer).await.unwrap().unwrap();
    }
    let address = server.address();
    let (drained, ()) = tokio::join!(within(server.shutdown()), async {
        for answer in answers {
            assert_eq!(bytes(answer).await.len(), 19 * 3, "whole");
        }
    });
    assert_eq!(drained, Drained { cut: 0 });
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens");
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_the_end() {
    let server = start().await;
    let client = Client::new(&server);
    bytes(client.get("/x").await).await;
    let silent = connect(&server).await;
    assert_eq!(within(server.shutdown()).await, Drained { cut: 0 });
    drop(silent);
}

#[tokio::test]
async fn streams_that_only_wait_are_ended() {
    let server = start().await;
    let client = Client::new(&server);
    let session = mcp::open_session(&client).await;
    let listen = client.request(Method::GET, "/mcp").header("accept", "text/event-stream");
    let standing = client.send(listen.header("mcp-session-id", &session).body(Body::empty()).unwrap()).await;
    let (mut socket, _) = client_async("ws://h/ws", connect(&server).await).await.unwrap();

    let goodbye = async {
        let goodbye = within(socket.next()).await;
        // Reading on sends the answer.
        within(socket.next()).await;
        goodbye
    };
    let (drained, _, bye) = tokio::join!(within(server.shutdown()), bytes(standing), goodbye);
    assert_eq!(drained, Drained { cut: 0 });
    let Some(Ok(Message::Close(Some(bye)))) = bye else { panic!("expected a goodbye") };
    assert_eq!(u16::from(bye.code), 1001);
}

#[tokio::test]
async fn a_tool_call_in_progress_gets_its_result() {
    let server = start().await;
    let client = Client::new(&server);
    let session = mcp::open_session(&client).await;
    let params = json!({
        "name": "slow_count", "arguments": { "to": 5, "paceMs": 10 }, "_meta": { "progressToken": "p" },
    });
    let mut answer = mcp::post(&client, Some(&session), &mcp::request("tools/call", &params)).await;
    let mut heard = frame(&mut answer).await.unwrap().unwrap().to_vec();
    let (drained, rest) = tokio::join!(within(server.shutdown()), bytes(answer));
    heard.extend(rest);
    assert!(String::from_utf8(heard).unwrap().contains("counted to 5"));
    assert_eq!(drained, Drained { cut: 0 });
}

#[tokio::test]
async fn what_outlasts_the_drain_timeout_is_cut() {
    let server = start_with(Args { drain_timeout: Duration::from_millis(50), ..Args::local("tester") }).await;
    let mut answer = Client::new(&server).get("/x?chunks=2&pace=24h").await;
    frame(&mut answer).await.unwrap().unwrap();
    assert_eq!(within(server.shutdown()).await, Drained { cut: 1 });
    assert!(frame(&mut answer).await.unwrap().is_err(), "cut, not ended");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let server = start_with(Args { max_connections: 1, ..Args::local("tester") }).await;
    let mut answer = Client::new(&server).get("/x?chunks=2&pace=24h").await;
    frame(&mut answer).await.unwrap().unwrap();

    let mut waiting = connect(&server).await;
    waiting.write_all(&get_request("/x")).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(100), waiting.readable()).await;
    assert!(early.is_err(), "answered beside the first");
    drop(answer);
    let mut heard = String::new();
    within(waiting.read_to_string(&mut heard)).await.unwrap();
    assert!(heard.starts_with("HTTP/1.1 200 "), "{heard}");
}

#[tokio::test]
async fn the_process_tells_its_address_and_drains_on_sigterm() {
    let mut process = Command::new(env!("CARGO_BIN_EXE_krypton-example-agent"))
        .args(["--listen", "127.0.0.1:0", "--name", "child"])
        .env_remove("PORT")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the binary starts");
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let line = within(lines.next_line()).await.unwrap().expect("a line");
    let address = line.strip_prefix("listening on ").expect("the line that tells the address").to_owned();

    let mut stream = within(tokio::net::TcpStream::connect(&address)).await.unwrap();
    stream.write_all(&get_request("/stream?sse=0&pace=10ms")).await.unwrap();
    let mut heard = vec![0; 1];
    within(stream.read_exact(&mut heard)).await.unwrap();
    let pid = process.id().expect("still running").to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());

    within(stream.read_to_end(&mut heard)).await.unwrap();
    let heard = String::from_utf8(heard).unwrap();
    assert!(heard.contains("child,") && heard.ends_with("0\r\n\r\n"), "{heard}");
    assert!(within(process.wait()).await.unwrap().success(), "exit 0");
}

#[tokio::test]
async fn a_second_signal_ends_the_process_at_once() {
    let mut process = Command::new(env!("CARGO_BIN_EXE_krypton-example-agent"))
        .args(["--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env("RUST_LOG", "info")
        .kill_on_drop(true)
        .spawn()
        .expect("the binary starts");
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let line = within(lines.next_line()).await.unwrap().expect("a line");
    let mut log = BufReader::new(process.stderr.take().unwrap()).lines();

    let mut stream = within(tokio::net::TcpStream::connect(line.rsplit(' ').next().unwrap())).await.unwrap();
    stream.write_all(&get_request("/x?chunks=2&pace=24h")).await.unwrap();
    within(stream.readable()).await.unwrap();
    let pid = process.id().expect("still running").to_string();
    for _ in 0..2 {
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        // The first one is seen before the second is sent: pending signals of one kind are one.
        while let Ok(Some(line)) = within(log.next_line()).await {
            if line.contains("Draining") {
                break;
            }
        }
    }
    assert!(within(process.wait()).await.unwrap().success());
}
