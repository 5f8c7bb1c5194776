//! The rules one by one; `simulation` lets several candidates meet.

mod simulation;

use super::*;

const ME: &str = "me";

fn at(ms: u64) -> Moment {
    Moment::new(Duration::from_millis(ms))
}

/// A Lease at `version`, of a holder whose claim is marked `stamp`.
fn mk_record(version: u32, holder: Option<&str>, stamp: i64) -> Record {
    let claim =
        Claim { holder: holder.map(str::to_owned), stamp: Some(stamp), transitions: 3, address: None };
    Record { version: version.to_string(), claim, duration: LEASE_DURATION }
}

/// The record that the API makes of `call`.
fn made(version: u32, call: &Call) -> Record {
    let (Call::Create(claim) | Call::Replace { claim, .. }) = call else { panic!("{call:?} writes nothing") };
    Record { version: version.to_string(), claim: claim.clone(), duration: LEASE_DURATION }
}

/// One candidate, driven by hand.
struct Driven {
    candidate: Candidate,
    wall: i64,
}

impl Driven {
    fn new() -> Self {
        Self { candidate: Candidate::new(ME.into(), "10.0.0.1:9090".into(), 1), wall: 1_000_000 }
    }

    fn call(&mut self, ms: u64) -> Call {
        match self.candidate.step(at(ms), self.wall) {
            Step::Call(call) => call,
            other => panic!("{other:?} at {ms} ms, not a call: {:?}", self.candidate),
        }
    }

    fn write(&mut self, ms: u64) -> Call {
        let call = self.call(ms);
        assert_ne!(call, Call::Read, "at {ms} ms");
        call
    }

    fn read(&mut self, ms: u64, answer: Answer) {
        assert_eq!(self.call(ms), Call::Read, "at {ms} ms");
        self.candidate.answered(at(ms), answer);
    }

    /// What it does once whatever pause there may be is over, and when.
    fn after_pause(&mut self, mut ms: u64) -> (u64, Call) {
        loop {
            match self.candidate.step(at(ms), self.wall) {
                Step::Call(call) => return (ms, call),
                Step::Wait(until) => ms = u64::try_from(until.since_start().as_millis()).unwrap() + 1,
                Step::End => panic!("it has ended"),
            }
        }
    }

    fn waits(&mut self, ms: u64) -> Moment {
        match self.candidate.step(at(ms), self.wall) {
            Step::Wait(until) => until,
            other => panic!("{other:?} at {ms} ms, not a wait"),
        }
    }

    fn leads(&self) -> bool {
        matches!(self.candidate.role(), Role::Leading { .. })
    }

    /// A leader whose claim was sent at 0.
    fn leading() -> Self {
        let mut driven = Self::new();
        driven.read(0, Answer::Absent);
        let call = driven.write(0);
        driven.candidate.answered(at(100), Answer::Lease(made(1, &call)));
        assert_eq!(driven.candidate.role(), Role::Leading { term: 1, claimed: at(0) });
        driven
    }
}

#[test]
fn the_first_start_of_all_creates_the_lease_at_once() {
    let leader = Driven::leading();
    assert_eq!(leader.candidate.holder(at(100)), Some((ME, Some("10.0.0.1:9090"))));
}

#[test]
fn a_leader_renews_after_2_s_on_the_version_that_it_wrote() {
    let mut leader = Driven::leading();
    assert_eq!(leader.waits(1999), at(2000));
    let Call::Replace { version, claim } = leader.write(2000) else { panic!("a renewal replaces") };
    assert_eq!((version.as_str(), claim.transitions), ("1", 1));
}

#[test]
fn a_leader_stops_7_s_after_its_last_good_claim_was_sent_whatever_is_under_way() {
    let mut leader = Driven::leading();
    let renewal = leader.write(2000);
    leader.candidate.answered(at(3900), Answer::Lease(made(2, &renewal)));
    leader.write(4000);
    assert_eq!(leader.waits(8999), at(9000), "7 s from 2000, not from the answer at 3900");
    assert!(leader.leads());
    leader.waits(9000);
    assert_eq!(leader.candidate.role(), Role::Ending(Why::NotRenewed));
}

#[test]
fn a_standby_waits_for_the_whole_lease_by_its_own_clock() {
    let mut standby = Driven::new();
    // An hour old by the clock of the day, which says nothing.
    standby.read(5000, Answer::Lease(mk_record(7, Some("other"), -3_600_000_000)));
    for ms in [7000, 9000, 11000, 13000] {
        // Somebody touches the Lease: the version differs, the claim does not.
        let version = u32::try_from(ms).unwrap();
        standby.read(ms, Answer::Lease(mk_record(version, Some("other"), -3_600_000_000)));
    }
    assert_eq!(standby.waits(14999), at(15000));
    assert!(standby.candidate.holder(at(14999)).is_some());
    assert_eq!(standby.candidate.holder(at(15000)), None);
    let Call::Replace { version, claim } = standby.write(15000) else { panic!("it exists") };
    assert_eq!((version.as_str(), claim.transitions), ("13000", 4));
}

#[test]
fn a_renewal_begins_the_wait_anew() {
    let mut standby = Driven::new();
    standby.read(0, Answer::Lease(mk_record(1, Some("other"), 1)));
    for ms in [2000, 4000, 6000, 8000, 9900] {
        standby.candidate.rung();
        standby.read(ms, Answer::Lease(mk_record(2, Some("other"), i64::try_from(ms).unwrap())));
    }
    for ms in [11900, 13900, 15900, 17900] {
        standby.read(ms, Answer::Lease(mk_record(2, Some("other"), 9900)));
    }
    assert_eq!(standby.waits(19899), at(19900));
    standby.write(19900);
}

#[test]
fn a_longer_lease_of_another_is_waited_for() {
    let mut standby = Driven::new();
    let record = Record { duration: Duration::from_secs(15), ..mk_record(1, Some("other"), 1) };
    for ms in (0..15000).step_by(2000) {
        standby.read(ms, Answer::Lease(record.clone()));
    }
    assert_eq!(standby.waits(14999), at(15000));
    standby.write(15000);
}

#[test]
fn a_released_lease_is_taken_as_soon_as_the_bell_rings() {
    let mut standby = Driven::new();
    standby.read(0, Answer::Lease(mk_record(1, Some("other"), 1)));
    assert_eq!(standby.waits(300), at(2000));
    standby.candidate.rung();
    standby.read(300, Answer::Lease(mk_record(2, None, 2)));
    standby.write(300);
}

#[test]
fn a_bell_that_never_stops_costs_ten_reads_a_second_at_most() {
    let mut standby = Driven::new();
    let mut reads = 0;
    for ms in 0..1000 {
        standby.candidate.rung();
        if let Step::Call(call) = standby.candidate.step(at(ms), 0) {
            assert_eq!(call, Call::Read);
            standby.candidate.answered(at(ms), Answer::Lease(mk_record(1, Some("other"), 1)));
            reads += 1;
        }
    }
    assert_eq!(reads, 10);
}

#[test]
fn a_lost_answer_costs_nothing_and_counts_from_its_own_sending() {
    let mut leader = Driven::leading();
    let lost = leader.write(2000);
    leader.candidate.answered(at(4000), Answer::Failed);
    // Tried again as it is; the conflict says that the first was made.
    let (ms, again) = leader.after_pause(4000);
    assert_ne!(again, Call::Read);
    leader.candidate.answered(at(ms), Answer::Conflict);
    let (ms, read) = leader.after_pause(ms);
    assert_eq!(read, Call::Read);
    leader.candidate.answered(at(ms), Answer::Lease(made(2, &lost)));
    assert_eq!(leader.candidate.role(), Role::Leading { term: 1, claimed: at(2000) });
    let Call::Replace { version, .. } = leader.write(ms) else { panic!("it exists") };
    assert_eq!(version, "2");
}

#[test]
fn a_claim_that_arrives_when_its_time_is_up_does_not_make_a_leader() {
    let mut candidate = Driven::new();
    candidate.read(0, Answer::Absent);
    let call = candidate.write(0);
    // The process was stopped in between.
    candidate.candidate.answered(at(7000), Answer::Lease(made(1, &call)));
    assert!(!candidate.leads());
    // The Lease is its own all the same, so it claims it once more.
    let call = candidate.write(7000);
    candidate.candidate.answered(at(7001), Answer::Lease(made(2, &call)));
    assert_eq!(candidate.candidate.role(), Role::Leading { term: 2, claimed: at(7000) });
}

#[test]
fn a_leader_that_sees_another_holder_or_none_stops_at_once() {
    for holder in [Some("other"), None] {
        let mut leader = Driven::leading();
        leader.candidate.rung();
        leader.read(500, Answer::Lease(mk_record(2, holder, 5)));
        assert_eq!(leader.candidate.role(), Role::Ending(Why::Taken), "{holder:?}");
    }
}

#[test]
fn a_deleted_lease_is_put_back_by_its_leader() {
    let mut leader = Driven::leading();
    leader.candidate.rung();
    leader.read(500, Answer::Absent);
    assert!(leader.leads());
    let call = leader.write(500);
    assert!(matches!(&call, Call::Create(claim) if claim.transitions == 1), "{call:?}");
    leader.candidate.answered(at(501), Answer::Lease(made(9, &call)));
    assert_eq!(leader.candidate.role(), Role::Leading { term: 1, claimed: at(500) });
}

#[test]
fn the_next_term_has_another_number_even_if_the_lease_was_made_anew() {
    let mut leader = Driven::leading();
    leader.candidate.rung();
    let mut record = mk_record(2, Some("other"), 5);
    record.claim.transitions = 0;
    leader.read(500, Answer::Lease(record.clone()));
    leader.candidate.tasks_ended();
    record.claim.holder = None;
    leader.candidate.rung();
    leader.read(700, Answer::Lease(record));
    let call = leader.write(700);
    leader.candidate.answered(at(710), Answer::Lease(made(3, &call)));
    assert_eq!(leader.candidate.role(), Role::Leading { term: 2, claimed: at(700) });
}

#[test]
fn a_standby_leaves_a_deleted_lease_to_its_leader_for_10_s() {
    let mut standby = Driven::new();
    standby.read(0, Answer::Lease(mk_record(1, Some("other"), 1)));
    for ms in [2000, 4000, 6000, 8000, 10000] {
        standby.read(ms, Answer::Absent);
    }
    assert_eq!(standby.waits(11999), at(12000));
    assert!(matches!(standby.write(12000), Call::Create(_)));
}

#[test]
fn nothing_is_claimed_while_the_tasks_of_the_last_term_run() {
    let mut leader = Driven::leading();
    for ms in [7000, 9000, 11000, 20000] {
        if let Step::Call(call) = leader.candidate.step(at(ms), 0) {
            assert_eq!(call, Call::Read);
            leader.candidate.answered(at(ms), Answer::Lease(mk_record(1, Some(ME), 1_000_000)));
        }
    }
    leader.candidate.tasks_ended();
    let call = leader.write(20001);
    leader.candidate.answered(at(20001), Answer::Lease(made(2, &call)));
    let Role::Leading { term, .. } = leader.candidate.role() else { panic!("it leads again") };
    assert_ne!(term, 1);
}

#[test]
fn a_late_renewal_does_not_begin_an_ended_term_again() {
    let mut leader = Driven::leading();
    let renewal = leader.write(2000);
    leader.waits(7000);
    leader.candidate.tasks_ended();
    leader.candidate.answered(at(7001), Answer::Lease(made(2, &renewal)));
    assert_eq!(leader.candidate.role(), Role::Standby);
    leader.write(7001);
}

#[test]
fn a_leader_that_shall_stop_releases_when_its_tasks_have_ended() {
    let mut leader = Driven::leading();
    leader.candidate.stop(at(500));
    assert_eq!(leader.candidate.role(), Role::Ending(Why::Stopping));
    leader.waits(600);
    leader.candidate.tasks_ended();
    let call = leader.write(700);
    assert!(matches!(&call, Call::Replace { version, claim } if version == "1" && claim.holder.is_none()));
    leader.candidate.answered(at(710), Answer::Lease(made(2, &call)));
    assert_eq!(leader.candidate.step(at(710), 0), Step::End);
}

#[test]
fn a_release_after_a_lost_answer_reads_first() {
    let mut leader = Driven::leading();
    let lost = leader.write(2000);
    leader.candidate.stop(at(2100));
    leader.candidate.tasks_ended();
    leader.candidate.answered(at(2200), Answer::Failed);
    let (ms, release) = leader.after_pause(2200);
    assert_ne!(release, Call::Read);
    leader.candidate.answered(at(ms), Answer::Conflict);
    let (ms, read) = leader.after_pause(ms);
    assert_eq!(read, Call::Read);
    leader.candidate.answered(at(ms), Answer::Lease(made(2, &lost)));
    assert!(!leader.leads(), "it shall stop");
    assert!(matches!(leader.write(ms), Call::Replace { claim, .. } if claim.holder.is_none()));
}

#[test]
fn who_cannot_release_gives_up_after_5_s() {
    let mut leader = Driven::leading();
    leader.candidate.stop(at(500));
    leader.candidate.tasks_ended();
    let mut ms = 500;
    while ms < 6600 {
        match leader.candidate.step(at(ms), 0) {
            Step::Call(_) => leader.candidate.answered(at(ms), Answer::Failed),
            Step::Wait(until) => ms = u64::try_from(until.since_start().as_millis()).unwrap() + 1,
            Step::End => break,
        }
    }
    assert!((5500..6600).contains(&ms), "{ms}");
}

#[test]
fn a_standby_that_shall_stop_stops_at_once() {
    for answer in [None, Some(mk_record(1, Some("other"), 1)), Some(mk_record(1, None, 1))] {
        let mut standby = Driven::new();
        if let Some(record) = answer {
            standby.read(0, Answer::Lease(record));
        }
        standby.candidate.stop(at(1));
        assert_eq!(standby.candidate.step(at(1), 0), Step::End);
    }
}

#[test]
fn claims_differ_even_if_the_clock_of_the_day_goes_back() {
    let mut leader = Driven::leading();
    let mut stamps = vec![leader.wall];
    for (round, wall) in [(1, 500), (2, 500), (3, -5), (4, 2_000_000)] {
        leader.wall = wall;
        let ms = round * 2000;
        let call = leader.write(ms);
        let record = made(u32::try_from(round).unwrap() + 1, &call);
        stamps.extend(record.claim.stamp);
        leader.candidate.answered(at(ms), Answer::Lease(record));
    }
    assert!(stamps.is_sorted_by(|a, b| a < b), "{stamps:?}");
}

#[test]
fn weird_numbers_of_others_do_no_harm() {
    for transitions in [i32::MAX, i32::MIN, -1, 0] {
        let mut standby = Driven::new();
        let mut record = mk_record(1, None, 1);
        record.claim = Claim { stamp: None, transitions, ..record.claim };
        standby.read(0, Answer::Lease(record));
        let call = standby.write(0);
        standby.candidate.answered(at(1), Answer::Lease(made(2, &call)));
        assert!(standby.leads(), "{transitions}");
    }
}

#[test]
fn failures_are_tried_again_in_time_but_not_in_a_hurry() {
    let mut leader = Driven::leading();
    let mut calls = 0;
    let mut ms = 2000;
    while leader.leads() {
        match leader.candidate.step(at(ms), 0) {
            Step::Call(_) => {
                calls += 1;
                leader.candidate.answered(at(ms), Answer::Failed);
            }
            Step::Wait(until) => ms = u64::try_from(until.since_start().as_millis()).unwrap() + 1,
            Step::End => panic!("it was not told to"),
        }
    }
    assert!((5..12).contains(&calls), "{calls} calls in 5 s");
}
