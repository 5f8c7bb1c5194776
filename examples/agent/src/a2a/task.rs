//! Tasks: an answer being spoken.
//!
//! A task needs no worker: what it has said follows from the clock, its script and the moment of its
//! cancellation. So it goes on when its client leaves, as A2A asks, and any number may listen.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, stream};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use uuid::Uuid;

use super::wire::Message;

/// Tasks remembered. Beyond, the oldest is forgotten: its listeners hear it out, and nobody finds it any more.
const MAX_TASKS: usize = 1000;

/// The tasks of one instance, in memory only.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_id: HashMap<String, Arc<Task>>,
    oldest_first: VecDeque<String>,
}

/// What is said, and when.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) words: Vec<String>,
    /// Before the first word.
    pub(super) delay: Duration,
    /// Between two words.
    pub(super) pace: Duration,
}

/// One answer to one message.
#[derive(Debug)]
pub(super) struct Task {
    id: String,
    context_id: String,
    message: Message,
    script: Script,
    started: Instant,
    /// When it was canceled, if ever. Written once.
    canceled: watch::Sender<Option<Instant>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Working,
    Completed,
    Canceled,
}

/// How far a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Progress {
    spoken: usize,
    state: State,
}

/// What a listener is told next.
#[derive(Debug, Clone, Copy)]
enum Next {
    Snapshot(Progress),
    /// The word with that index, or the end.
    Word(usize),
    Nothing,
}

// === impl Tasks ===

impl Tasks {
    pub(super) async fn get(&self, id: &str) -> Option<Arc<Task>> {
        self.known.lock().await.by_id.get(id).cloned()
    }

    pub(super) async fn insert(&self, task: Arc<Task>) {
        let mut known = self.known.lock().await;
        if known.oldest_first.len() == MAX_TASKS
            && let Some(oldest) = known.oldest_first.pop_front()
        {
            known.by_id.remove(&oldest);
        }
        known.oldest_first.push_back(task.id.clone());
        known.by_id.insert(task.id.clone(), task);
    }
}

// === impl Script ===

impl Script {
    /// When the word with that index is spoken, counted from the start.
    fn due(&self, word: usize) -> Duration {
        self.delay + self.pace.saturating_mul(u32::try_from(word).unwrap_or(u32::MAX))
    }

    /// How many words are spoken once `elapsed` has passed.
    fn spoken(&self, elapsed: Duration) -> usize {
        let Some(speaking) = elapsed.checked_sub(self.delay) else { return 0 };
        let words = speaking
            .as_nanos()
            .checked_div(self.pace.as_nanos())
            .map_or(usize::MAX, |paces| usize::try_from(paces).unwrap_or(usize::MAX).saturating_add(1));
        words.min(self.words.len())
    }
}

// === impl Task ===

impl Task {
    pub(super) fn new(mut message: Message, script: Script, started: Instant) -> Self {
        let id = Uuid::new_v4().to_string();
        let context_id = message.context_id.take().unwrap_or_else(|| Uuid::new_v4().to_string());
        message.task_id = Some(id.clone());
        message.context_id = Some(context_id.clone());
        Self { id, context_id, message, script, started, canceled: watch::Sender::new(None) }
    }

    /// Stops a task that still works; says whether it did.
    pub(super) fn cancel(&self, now: Instant) -> bool {
        self.canceled.send_if_modified(|canceled| {
            let working = canceled.is_none() && self.progress_until(now, None).state == State::Working;
            if working {
                *canceled = Some(now);
            }
            working
        })
    }

    /// Waits until the task has completed or was canceled.
    pub(super) async fn ended(&self) {
        self.until(self.script.words.len().saturating_sub(1)).await;
    }

    /// The task as `tasks/get` shows it; `history_length` limits the messages, latest first to stay.
    pub(super) fn view(&self, now: Instant, history_length: Option<usize>) -> Value {
        self.view_of(self.progress(now), history_length)
    }

    /// The task as it began, each word, and its end.
    pub(super) fn updates_from_start(self: Arc<Self>) -> impl Stream<Item = Value> + Send {
        self.updates(Next::Snapshot(Progress { spoken: 0, state: State::Working }))
    }

    /// The task as it is, each word from then on, and its end.
    pub(super) fn updates_from_now(self: Arc<Self>) -> impl Stream<Item = Value> + Send {
        let progress = self.progress(Instant::now());
        self.updates(Next::Snapshot(progress))
    }

    fn updates(self: Arc<Self>, first: Next) -> impl Stream<Item = Value> + Send {
        stream::unfold((self, first), async |(task, next)| {
            let (event, next) = match next {
                Next::Nothing => return None,
                Next::Snapshot(progress) => (task.view_of(progress, None), Next::Word(progress.spoken)),
                Next::Word(word) => {
                    task.until(word).await;
                    let progress = task.progress(Instant::now());
                    if word < progress.spoken {
                        (task.artifact_update(word), Next::Word(word + 1))
                    } else {
                        (task.status_update(progress.state), Next::Nothing)
                    }
                }
            };
            Some((event, (task, next)))
        })
    }

    /// Waits until that word is spoken, or the task has ended.
    async fn until(&self, word: usize) {
        if word >= self.script.words.len() {
            return;
        }
        let mut canceled = self.canceled.subscribe();
        tokio::select! {
            () = tokio::time::sleep_until(self.started + self.script.due(word)) => {}
            // The sender lives in the task that is borrowed here, so the channel cannot have closed.
            _ = canceled.wait_for(Option::is_some) => {}
        }
    }

    fn progress(&self, now: Instant) -> Progress {
        self.progress_until(now, *self.canceled.borrow())
    }

    fn progress_until(&self, now: Instant, canceled: Option<Instant>) -> Progress {
        let spoken = self.script.spoken(canceled.unwrap_or(now).saturating_duration_since(self.started));
        let state = match canceled {
            Some(_) => State::Canceled,
            None if spoken == self.script.words.len() => State::Completed,
            None => State::Working,
        };
        Progress { spoken, state }
    }

    fn view_of(&self, progress: Progress, history_length: Option<usize>) -> Value {
        let mut view = json!({
            "kind": "task",
            "id": self.id,
            "contextId": self.context_id,
            "status": { "state": progress.state },
        });
        if history_length != Some(0) {
            view["history"] = json!([self.message]);
        }
        if progress.spoken > 0 {
            view["artifacts"] = json!([artifact(&self.script.words[..progress.spoken].join(" "))]);
        }
        view
    }

    fn artifact_update(&self, word: usize) -> Value {
        let first = word == 0;
        let text = &self.script.words[word];
        json!({
            "kind": "artifact-update",
            "taskId": self.id,
            "contextId": self.context_id,
            "artifact": artifact(&if first { text.clone() } else { format!(" {text}") }),
            "append": !first,
            "lastChunk": word + 1 == self.script.words.len(),
        })
    }

    fn status_update(&self, state: State) -> Value {
        json!({
            "kind": "status-update",
            "taskId": self.id,
            "contextId": self.context_id,
            "status": { "state": state },
            "final": true,
        })
    }
}

/// The one artifact of a task; appended texts make the whole answer.
fn artifact(text: &str) -> Value {
    json!({ "artifactId": "answer", "parts": [{ "kind": "text", "text": text }] })
}

#[cfg(test)]
mod tests;
