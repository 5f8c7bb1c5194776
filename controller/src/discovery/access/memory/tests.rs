//! Tokens over time.

use super::*;
use crate::discovery::access::token::Token;

fn key(name: &str) -> TokenKey {
    let mut metadata = tonic::metadata::MetadataMap::new();
    metadata.insert("authorization", format!("Bearer {name}").parse().unwrap());
    Token::of(&metadata).unwrap().key()
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const HOUR: Option<Duration> = Some(Duration::from_hours(1));

#[test]
fn an_accepted_token_is_asked_about_again_after_ten_minutes() {
    let (mut memory, start) = (Memory::default(), Instant::now());
    assert_eq!(memory.look_up(&key("a"), start), None);
    assert_eq!(memory.settle(key("a"), Ok(Ok(())), HOUR, start), Verdict::Welcome);
    assert_eq!(memory.look_up(&key("a"), start + secs(599)), Some(Verdict::Welcome));
    assert_eq!(memory.look_up(&key("a"), start + secs(600)), None);
    assert_eq!(memory.look_up(&key("b"), start), None);
}

#[test]
fn a_token_that_ends_is_asked_about_at_its_end() {
    let (mut memory, start) = (Memory::default(), Instant::now());
    memory.settle(key("a"), Ok(Ok(())), Some(secs(60)), start);
    assert_eq!(memory.look_up(&key("a"), start + secs(59)), Some(Verdict::Welcome));
    assert_eq!(memory.look_up(&key("a"), start + secs(60)), None);
    let refused = memory.settle(key("a"), Ok(Err(Refusal::NotAccepted)), Some(secs(0)), start + secs(60));
    assert_eq!(refused, Verdict::Refused(Refusal::NotAccepted));
}

#[test]
fn while_nobody_answers_what_was_accepted_holds_to_its_end() {
    let (mut memory, start) = (Memory::default(), Instant::now());
    let unanswered = |memory: &mut Memory, name: &str, at: u64| {
        memory.settle(key(name), Err(Unanswered), None, start + secs(at))
    };
    memory.settle(key("a"), Ok(Ok(())), HOUR, start);
    assert_eq!(unanswered(&mut memory, "a", 3_599), Verdict::Welcome);
    assert_eq!(unanswered(&mut memory, "a", 3_600), Verdict::Unknown);
    assert_eq!(unanswered(&mut memory, "b", 1), Verdict::Unknown);
    // One that does not say when it ends holds for as long as it is not asked about.
    memory.settle(key("c"), Ok(Ok(())), None, start);
    assert_eq!(unanswered(&mut memory, "c", 599), Verdict::Welcome);
    assert_eq!(unanswered(&mut memory, "c", 600), Verdict::Unknown);
    // One that says it lives for ever is nothing else.
    memory.settle(key("d"), Ok(Ok(())), Some(Duration::MAX), start);
    assert_eq!(unanswered(&mut memory, "d", 600), Verdict::Unknown);
}

#[test]
fn an_outage_does_not_bring_back_what_was_refused() {
    let (mut memory, start) = (Memory::default(), Instant::now());
    memory.settle(key("a"), Ok(Ok(())), HOUR, start);
    // Its pod was deleted.
    memory.settle(key("a"), Ok(Err(Refusal::NotAccepted)), HOUR, start + secs(600));
    assert_eq!(memory.settle(key("a"), Err(Unanswered), HOUR, start + secs(700)), Verdict::Unknown);
}

#[test]
fn a_refused_token_is_asked_about_again_soon() {
    let (mut memory, start) = (Memory::default(), Instant::now());
    let why = Refusal::WrongAccount("system:serviceaccount:a:b".into());
    memory.settle(key("a"), Ok(Err(why.clone())), HOUR, start);
    assert_eq!(memory.look_up(&key("a"), start + secs(9)), Some(Verdict::Refused(why)));
    assert_eq!(memory.look_up(&key("a"), start + secs(10)), None);
    memory.settle(key("a"), Ok(Ok(())), HOUR, start + secs(10));
    assert_eq!(memory.look_up(&key("a"), start + secs(10)), Some(Verdict::Welcome));
}

#[test]
fn strangers_are_remembered_in_bounds_and_push_out_no_gateway() {
    let (mut memory, start) = (Memory::default(), Instant::now());
    memory.settle(key("gateway"), Ok(Ok(())), HOUR, start);
    for n in 0..CAPACITY + 10 {
        let at = start + Duration::from_millis(n as u64);
        memory.settle(key(&format!("stranger-{n}")), Ok(Err(Refusal::NotAccepted)), None, at);
    }
    assert_eq!(memory.refused.len(), CAPACITY);
    assert_eq!(memory.look_up(&key("gateway"), start), Some(Verdict::Welcome));
    assert_eq!(memory.look_up(&key("stranger-9"), start), None, "the oldest went");
    assert!(memory.look_up(&key("stranger-10"), start).is_some());
    // What has ended goes all at once.
    memory.settle(key("late"), Ok(Err(Refusal::NotAccepted)), None, start + secs(60));
    assert_eq!(memory.refused.len(), 1);
}
