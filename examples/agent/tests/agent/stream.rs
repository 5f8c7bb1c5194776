//! `/stream`.

use krypton_example_agent::Args;
use std::time::Duration;

use crate::client::{Client, data_of, frame, start, start_with, text};

const SAID: &str = "This is tester. You said: good morning";

#[tokio::test]
async fn an_answer_is_spoken_word_by_word() {
    let server = start().await;
    let client = Client::new(&server);
    let answer = client.post("/stream", "good morning").await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let answer = text(answer).await;
    assert!(answer.starts_with("id: 0\ndata: This\n\nid: 1\ndata: is\n\n"), "{answer}");
    assert!(data_of(&answer).join(" ").starts_with(SAID), "{answer}");

    let unasked = text(client.get("/stream").await).await;
    assert!(data_of(&unasked).join(" ").starts_with("Hello, this is tester,"), "{unasked}");
}

#[tokio::test]
async fn it_can_be_plain_text_of_a_known_length() {
    let server = start().await;
    let client = Client::new(&server);
    let answer = client.post("/stream?sse=0&length=1", "good morning").await;
    assert_eq!(answer.headers()["content-type"], "text/plain; charset=utf-8");
    let length = answer.headers()["content-length"].to_str().unwrap().to_owned();
    let answer = text(answer).await;
    assert!(answer.starts_with(SAID) && answer.len().to_string() == length, "{length} {answer}");
}

#[tokio::test]
async fn the_number_of_words_can_be_set() {
    let server = start().await;
    let client = Client::new(&server);
    let fewer = text(client.post("/stream?chunks=2", "x").await).await;
    assert_eq!(data_of(&fewer), ["This", "is"]);
    let more = data_of(&text(client.post("/stream?chunks=100", "x").await).await);
    let length = more.len();
    let again = more[1..].iter().position(|word| word == "This").expect("begun anew") + 1;
    assert_eq!((length, &more[again + 1]), (100, &more[1]));
}

#[tokio::test]
async fn words_leave_one_at_a_time_at_the_pace_of_the_instance_or_the_call() {
    let slow = Args { pace: Duration::from_hours(24), ..Args::local("slow") };
    let server = start_with(slow).await;
    let client = Client::new(&server);
    let mut answer = client.get("/stream?sse=0").await;
    assert_eq!(frame(&mut answer).await.unwrap().unwrap(), "Hello, ");

    let whole = text(client.get("/stream?sse=0&pace=0s").await).await;
    assert!(whole.ends_with("spoken. "), "{whole}");
}
