use futures::StreamExt as _;

use super::*;

const DELAY: Duration = Duration::from_secs(1);
const PACE: Duration = Duration::from_millis(100);

fn mk_task(words: &[&str], delay: Duration, pace: Duration) -> Arc<Task> {
    let message = json!({ "kind": "message", "messageId": "m", "role": "user", "parts": [{ "kind": "text", "text": "hi" }] });
    let script = Script { words: words.iter().map(|word| (*word).to_owned()).collect(), delay, pace };
    Arc::new(Task::new(serde_json::from_value(message).unwrap(), script, Instant::now()))
}

fn texts(events: &[Value]) -> String {
    events.iter().filter_map(|event| event["artifact"]["parts"][0]["text"].as_str()).collect()
}

#[test]
fn words_are_spoken_by_the_clock() {
    let script = Script { words: vec![String::new(); 3], delay: DELAY, pace: PACE };
    let spoken: Vec<_> = [0, 999, 1000, 1099, 1100, 1199, 1200, 99_999]
        .map(|ms| script.spoken(Duration::from_millis(ms)))
        .into();
    assert_eq!(spoken, [0, 0, 1, 1, 2, 2, 3, 3]);

    let at_once = Script { words: vec![String::new(); 3], delay: Duration::ZERO, pace: Duration::ZERO };
    assert_eq!(at_once.spoken(Duration::ZERO), 3);
}

#[tokio::test(start_paused = true)]
async fn a_listener_hears_the_whole_answer_and_its_end() {
    let task = mk_task(&["one", "two", "three"], DELAY, PACE);
    let events: Vec<_> = Arc::clone(&task).updates_from_start().collect().await;

    assert_eq!(events[0]["status"]["state"], "working");
    assert_eq!(texts(&events), "one two three");
    let flags: Vec<_> = events[1..4].iter().map(|event| (&event["append"], &event["lastChunk"])).collect();
    let (yes, no) = (&json!(true), &json!(false));
    assert_eq!(flags, [(no, no), (yes, no), (yes, yes)]);
    let end = events.last().unwrap();
    assert_eq!((&end["status"]["state"], &end["final"]), (&json!("completed"), yes));
    assert_eq!(events.len(), 5);
    assert_eq!(Instant::now() - task.started, DELAY + 2 * PACE);
}

#[tokio::test(start_paused = true)]
async fn a_late_listener_gets_what_was_said_and_then_the_rest() {
    let task = mk_task(&["one", "two", "three"], DELAY, PACE);
    tokio::time::advance(DELAY + PACE).await;
    let events: Vec<_> = Arc::clone(&task).updates_from_now().collect().await;
    assert_eq!(events[0]["artifacts"][0]["parts"][0]["text"], "one two");
    assert_eq!(texts(&events[1..]), " three");
}

#[tokio::test(start_paused = true)]
async fn cancelling_stops_the_words_and_tells_the_listener() {
    let task = mk_task(&["one", "two", "three"], DELAY, PACE);
    let mut updates = Arc::clone(&task).updates_from_now().boxed();
    updates.next().await.unwrap();
    assert_eq!(texts(&[updates.next().await.unwrap()]), "one");

    assert!(task.cancel(Instant::now()));
    let end = updates.next().await.unwrap();
    assert_eq!(end["status"]["state"], "canceled");
    assert!(updates.next().await.is_none());
    assert!(!task.cancel(Instant::now()), "canceled already");

    tokio::time::advance(DELAY).await;
    let view = task.view(Instant::now(), None);
    assert_eq!(view["artifacts"][0]["parts"][0]["text"], "one");
    task.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_completed_task_cannot_be_canceled() {
    let task = mk_task(&["one"], Duration::ZERO, Duration::ZERO);
    assert!(!task.cancel(Instant::now()));
    assert_eq!(task.view(Instant::now(), None)["status"]["state"], "completed");
}

#[tokio::test]
async fn the_oldest_task_is_forgotten() {
    let tasks = Tasks::default();
    let oldest = mk_task(&["a"], DELAY, PACE);
    tasks.insert(Arc::clone(&oldest)).await;
    let second = mk_task(&["a"], DELAY, PACE);
    tasks.insert(Arc::clone(&second)).await;
    for _ in 2..=MAX_TASKS {
        tasks.insert(mk_task(&["a"], DELAY, PACE)).await;
    }
    assert!(tasks.get(&oldest.id).await.is_none());
    assert!(tasks.get(&second.id).await.is_some());
    assert_eq!(tasks.known.lock().await.by_id.len(), MAX_TASKS);
}
