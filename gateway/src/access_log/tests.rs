//! Each line is one JSON object whatever a client sends, and no call waits for the log.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use http::Method;
use proptest::prelude::*;
use tokio::sync::Semaphore;

use super::*;
use crate::proxy::error::Outcome;

/// Enough for the slowest machine; what is waited for comes at once.
const DEADLINE: Duration = Duration::from_secs(20);

fn mk_line(target: &[u8]) -> AccessLine<'_> {
    AccessLine {
        time: UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        request_id: "req-1",
        agent: None,
        method: &Method::POST,
        target,
        is_h2: false,
        client: Some("192.0.2.1:50000".parse().unwrap()),
        status: Some(200),
        outcome: Outcome::Ok,
        duration: Duration::from_micros(12_034),
        time_to_first_byte: Some(Duration::from_micros(900)),
        bytes_in: 10,
        bytes_out: 20,
        attempts: 1,
        endpoint: Some("[fd00::1]:8080".parse().unwrap()),
    }
}

fn path_of(target: &[u8]) -> String {
    let line: serde_json::Value = serde_json::from_slice(&mk_line(target).encode()).unwrap();
    line["path"].as_str().unwrap().to_owned()
}

/// Where lines go, readable by the test. Each write needs a permit.
#[derive(Clone)]
struct Sink {
    written: mpsc::Sender<Vec<u8>>,
    permits: Arc<Semaphore>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let permit = futures::executor::block_on(self.permits.acquire()).map_err(io::Error::other)?;
        permit.forget();
        self.written.blocking_send(bytes.to_vec()).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn mk_sink(permits: usize) -> (Sink, mpsc::Receiver<Vec<u8>>) {
    let (written, received) = mpsc::channel(QUEUE_LINES);
    (Sink { written, permits: Arc::new(Semaphore::new(permits)) }, received)
}

fn lines_of(received: &mut mpsc::Receiver<Vec<u8>>) -> usize {
    std::iter::from_fn(|| received.try_recv().ok()).flatten().filter(|byte| *byte == b'\n').count()
}

#[test]
fn a_line_holds_what_a_person_asks_for() {
    let key = "team/bot".parse().unwrap();
    let line = AccessLine { agent: Some(&key), ..mk_line(b"/v1/agents/team/bot/chat?token=secret") };
    assert_eq!(
        String::from_utf8(line.encode()).unwrap(),
        concat!(
            r#"{"time":"2023-11-14T22:13:20.123Z","request_id":"req-1","agent":"bot","namespace":"team","#,
            r#""method":"POST","path":"/v1/agents/team/bot/chat","protocol":"h1","client":"192.0.2.1:50000","#,
            r#""status":200,"outcome":"ok","duration_ms":12.034,"ttfb_ms":0.900,"bytes_in":10,"bytes_out":20,"#,
            r#""attempts":1,"endpoint":"[fd00::1]:8080"}"#,
            "\n"
        )
    );
}

#[test]
fn what_there_was_not_is_null() {
    let line = AccessLine {
        client: None,
        status: None,
        time_to_first_byte: None,
        endpoint: None,
        is_h2: true,
        ..mk_line(b"/")
    };
    let line: serde_json::Value = serde_json::from_slice(&line.encode()).unwrap();
    for key in ["agent", "namespace", "client", "status", "ttfb_ms", "endpoint"] {
        assert!(line[key].is_null(), "{key}");
    }
    assert_eq!(line["protocol"], "h2");
}

#[test]
fn numbers_and_addresses_are_spelled_as_elsewhere() {
    for us in [0, 1, 10, 999, 1_000, 1_001, 60_000_100] {
        let line = AccessLine { duration: Duration::from_micros(us), ..mk_line(b"/") }.encode();
        let want = format!(r#""duration_ms":{}.{:03},"#, us / 1000, us % 1000);
        assert!(String::from_utf8(line).unwrap().contains(&want), "{want}");
    }
    for address in ["0.0.0.0:0", "255.1.20.100:65535", "[::1]:80", "[fe80::1%3]:1"] {
        let address: std::net::SocketAddr = address.parse().unwrap();
        let line = AccessLine { client: Some(address), ..mk_line(b"/") }.encode();
        let want = format!(r#""client":"{address}""#);
        assert!(String::from_utf8(line).unwrap().contains(&want), "{want}");
    }
}

#[test]
fn a_method_of_nobody_is_not_logged() {
    let method = Method::from_bytes(b"SECRET-TOKEN").unwrap();
    let line = AccessLine { method: &method, ..mk_line(b"/") };
    let line: serde_json::Value = serde_json::from_slice(&line.encode()).unwrap();
    assert_eq!(line["method"], "OTHER");
}

#[test]
fn a_path_is_escaped_and_cut() {
    assert_eq!(path_of(b"/a%2Fb//;x#frag"), "/a%2Fb//;x");
    assert_eq!(path_of(b"/\xff\"\\\x1b[31m"), "/\\xff\"\\\u{1b}[31m");
    let raw = String::from_utf8(mk_line(b"/\x1b\n\x7f\xc2\x85\xe2\x80\xa8").encode()).unwrap();
    assert!(raw.contains(r#""path":"/\u001b\u000a\u007f\u0085\u2028""#), "{raw}");

    assert_eq!(path_of(&[b'a'; 600]).len(), 512);
    let within = ["/", &"é".repeat(300)].concat();
    assert_eq!(path_of(within.as_bytes()), within[..511], "not cut within a character");
    assert_eq!(path_of(&[0x80; 600]).len(), 512 * r"\x80".len(), "nor thrown off by what is none");
}

#[tokio::test]
async fn every_line_is_written_before_the_end() {
    let (sink, mut received) = mk_sink(Semaphore::MAX_PERMITS);
    let dropped = Counter::default();
    let log = AccessLog::to(sink, dropped.clone());
    let sender = log.sender();
    for _ in 0..1_000 {
        sender.log(&mk_line(b"/"));
    }
    assert!(log.close(DEADLINE).await);
    assert_eq!((lines_of(&mut received), dropped.get()), (1_000, 0));
    sender.log(&mk_line(b"/late"));
    assert_eq!(dropped.get(), 1);
}

#[tokio::test]
async fn lines_gather_between_writes() {
    const GATHERED: Duration = Duration::from_millis(50);
    let (sink, mut received) = mk_sink(Semaphore::MAX_PERMITS);
    let (queue, lines) = mpsc::channel(QUEUE_LINES);
    let failed = Counter::default();
    let began = std::time::Instant::now();
    let writing = std::thread::spawn(move || write_lines(lines, sink, &failed, GATHERED));
    // Slow enough that each line would find the writer waiting.
    let (count, pace) = (60, Duration::from_millis(5));
    for _ in 0..count {
        queue.send(Message::Line(mk_line(b"/").encode())).await.unwrap();
        tokio::time::sleep(pace).await;
    }
    drop(queue);
    writing.join().unwrap();
    let most = began.elapsed().as_millis() / GATHERED.as_millis() + 2;
    let pieces: Vec<_> = std::iter::from_fn(|| received.try_recv().ok()).collect();
    assert!(pieces.len() as u128 <= most, "{} writes in {:?}", pieces.len(), began.elapsed());
    assert_eq!(pieces.concat().split_inclusive(|byte| *byte == b'\n').count(), count);
}

#[tokio::test]
async fn a_reader_that_stops_costs_lines_and_no_time() {
    let (sink, mut received) = mk_sink(0);
    let (permits, dropped) = (Arc::clone(&sink.permits), Counter::default());
    let log = AccessLog::to(sink, dropped.clone());
    let sender = log.sender();
    let sent = 3 * QUEUE_LINES;
    for _ in 0..sent {
        sender.log(&mk_line(b"/"));
    }
    let lost = usize::try_from(dropped.get()).unwrap();
    let held = sent - lost;
    assert!((QUEUE_LINES..=QUEUE_LINES + BATCH_LINES).contains(&held), "{held}");

    permits.add_permits(Semaphore::MAX_PERMITS);
    assert!(log.close(DEADLINE).await);
    assert_eq!(lines_of(&mut received), held);
}

#[tokio::test]
async fn a_reader_that_never_reads_does_not_hold_up_the_end() {
    let (sink, _received) = mk_sink(0);
    let permits = Arc::clone(&sink.permits);
    let log = AccessLog::to(sink, Counter::default());
    log.sender().log(&mk_line(b"/"));
    assert!(!log.close(Duration::from_millis(1)).await);
    permits.close();
}

#[tokio::test]
async fn lines_that_cannot_be_written_are_counted() {
    let (sink, received) = mk_sink(Semaphore::MAX_PERMITS);
    drop(received);
    let dropped = Counter::default();
    let log = AccessLog::to(sink, dropped.clone());
    log.sender().log(&mk_line(b"/"));
    assert!(log.close(DEADLINE).await);
    assert!(dropped.get() >= 1);
}

#[test]
fn a_line_is_one_allocation() {
    let target = [b'a'; 100];
    let line = mk_line(&target);
    let info = allocation_counter::measure(|| drop(line.encode()));
    assert_eq!(info.count_total, 1);
}

proptest! {
    #[test]
    fn whatever_is_sent_is_one_line_of_json(target in prop::collection::vec(any::<u8>(), 0..700)) {
        let line = mk_line(&target).encode();
        prop_assert_eq!(line.iter().filter(|byte| byte.is_ascii_control()).count(), 1);
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&line).is_ok());
    }
}
