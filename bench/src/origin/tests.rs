use super::*;

#[test]
fn all_stands_still_at_the_end_of_each_period() {
    let stalls = Stalls { every: Duration::from_secs(1), length: Duration::from_millis(300) };
    let left = |ms| stalls.left(Duration::from_millis(ms)).map(|left| left.as_millis());
    assert_eq!(
        [left(0), left(699), left(700), left(999), left(1000)],
        [None, None, Some(300), Some(1), None]
    );
    assert_eq!(left(5_800), Some(200));
}

#[tokio::test(start_paused = true)]
async fn streams_send_in_turn_and_leave_none_out() {
    let shared = Shared { began: Instant::now(), stalls: None, streams: AtomicU32::new(0) };
    let second = Duration::from_secs(1);
    let mut phases: Vec<_> = (0..10).map(|_| shared.pace(second).next() - Instant::now()).collect();
    phases.sort_unstable();
    let apart = phases.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).min().unwrap();
    assert!(phases[9] < second && apart > Duration::from_millis(40), "{phases:?}");
    let mut pace = shared.pace(second);
    let first = pace.next();
    assert_eq!(pace.next() - first, second);
}

#[test]
fn stalls_need_both_flags_and_a_pause_between_them() {
    let args = |every, length| Args {
        busy_poll: false,
        listen: Vec::new(),
        threads: 1,
        cores: Vec::new(),
        stall_every: Some(Duration::from_secs(every)),
        stall_for: Some(Duration::from_secs(length)),
    };
    assert!(args(2, 1).stalls().unwrap().is_some());
    assert!(args(1, 1).stalls().is_err());
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = format!("{:#}", listen(address).unwrap_err());
    assert!(error.starts_with(&format!("--listen: cannot listen on {address}: ")), "{error}");
}
