use super::*;

const MS: u64 = 1_000_000;

fn window(start_ns: u64, length_ns: u64) -> Window {
    let window = Window::unset();
    assert!(!window.holds(start_ns));
    window.set(start_ns, length_ns);
    window
}

fn recorder() -> Recorder {
    Recorder::new(window(1000 * MS, 2500 * MS), Arc::new(Live::default()))
}

fn call(due_ms: u64, end_ms: u64) -> Call {
    Call { due_ns: due_ms * MS, end_ns: end_ms * MS, bytes: 10 }
}

#[test]
fn only_the_window_counts() {
    let recorder = recorder();
    for at in [0, 999, 1000, 3499, 3500] {
        recorder.completed(at * MS, call(at, at + 5));
        recorder.failed(at * MS, call(at, at + 5), Failure::Reset);
    }
    let seen = recorder.seen();
    assert_eq!((seen.completed, seen.failed(), seen.bytes), (2, 2, 20));
    assert_eq!(seen.latency.len(), 2);
    assert_eq!(
        seen.seconds.iter().map(|second| (second.completed, second.failed)).collect::<Vec<_>>(),
        [(1, 1), (0, 0), (1, 1)]
    );
    assert_eq!(recorder.live.get(), (5, 5));
}

#[test]
fn calls_that_never_ended_are_failures_that_waited() {
    let recorder = recorder();
    recorder.completed(1000 * MS, call(1000, 1001));
    recorder.failed(1000 * MS, call(1000, 3000), Failure::Timeout);
    recorder.failed(1000 * MS, call(1000, 3000), Failure::Status(503));
    recorder.close(10);
    let seen = recorder.seen();
    assert_eq!(seen.failures[&Failure::Unfinished], 7);
    assert_eq!(seen.latency.len(), 9, "all but the 503");
    assert_eq!(seen.seconds.iter().map(|second| second.failed).sum::<u64>(), 9);
}

#[test]
fn what_ended_in_the_window_is_known_whenever_it_was_due() {
    let recorder = recorder();
    for (due, end) in [(900, 1100), (1000, 1001), (3400, 3499), (3400, 3600)] {
        recorder.completed(due * MS, call(due, end));
    }
    let seen = recorder.seen();
    assert_eq!((seen.completed, seen.ended), (3, 3));
    recorder.completed(3000 * MS, call(3000, 9000));
    let seen = recorder.seen();
    assert_eq!((seen.completed, seen.ended), (4, 3), "it was due in the window, and ended after it");
}

#[test]
fn threads_add_up() {
    let (a, b) = (recorder(), recorder());
    a.completed(1000 * MS, call(1000, 1001));
    b.completed(3000 * MS, call(1000, 3000));
    b.failed(3000 * MS, call(1000, 3000), Failure::Closed);
    b.streams(|streams| streams.gaps += 3);
    let mut both = a.seen();
    both.merge(&b.seen());
    assert_eq!((both.completed, both.failed(), both.streams.gaps, both.seconds.len()), (2, 1, 3, 3));
    assert!(both.latency.max() >= 1999 * MS);
}

#[test]
fn a_run_that_is_stopped_is_shorter() {
    let window = window(now_ns() - 1000 * MS, 100_000 * MS);
    window.end_now();
    assert!((1000 * MS..60_000 * MS).contains(&window.length_ns()));
    let over = self::window(5, 10);
    over.end_now();
    assert_eq!(over.end_ns(), 15);
}
