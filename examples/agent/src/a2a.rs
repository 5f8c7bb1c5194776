//! A2A 0.3 over JSON-RPC: `POST /` and `POST /a2a`, and the agent card.
//!
//! Flow of a call: body → `wire::Call` → one method → a result, or a stream of results for `message/stream` and
//! `tasks/resubscribe`. A task speaks its words on its own clock (`task`), whoever listens.
//!
//! The knobs `delay` and `pace` set that clock; the others have no meaning here.

mod card;
mod task;
mod wire;

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde_json::Value;
use tokio::time::Instant;

pub(crate) use self::card::card;
pub(crate) use self::task::Tasks;
use self::task::{Script, Task};
use self::wire::{Call, Error, SendParams, TaskParams};
use crate::echo::bad_request;
use crate::knobs::Knobs;
use crate::routes::Agent;
use crate::stream::reply;

/// Largest body of a call.
const MAX_BODY_BYTES: usize = 1 << 20;

/// What a method gives back.
enum Answer {
    One(Value),
    Stream(BoxStream<'static, Value>),
}

pub(crate) async fn call(State(agent): State<Arc<Agent>>, request: Request) -> Response {
    let knobs = match Knobs::parse(request.headers(), request.uri().query()) {
        Ok(knobs) => knobs,
        Err(bad) => return bad_request(&bad),
    };
    let call = match read(request.into_body()).await {
        Ok(call) => call,
        Err(error) => return Json(wire::failure(&Value::Null, &error)).into_response(),
    };
    match dispatch(&agent, &knobs, &call).await {
        Ok(Answer::One(result)) => Json(wire::success(&call.id, &result)).into_response(),
        Ok(Answer::Stream(updates)) => {
            let events =
                updates.map(move |result| Event::default().json_data(wire::success(&call.id, &result)));
            Sse::new(events).keep_alive(KeepAlive::default()).into_response()
        }
        Err(error) => Json(wire::failure(&call.id, &error)).into_response(),
    }
}

async fn read(body: Body) -> Result<Call, Error> {
    let body = axum::body::to_bytes(body, MAX_BODY_BYTES).await.map_err(|_| Error::InvalidRequest)?;
    Call::parse(&body)
}

async fn dispatch(agent: &Agent, knobs: &Knobs, call: &Call) -> Result<Answer, Error> {
    match call.method.as_str() {
        "message/send" => {
            let params: SendParams = call.params()?;
            let history = params.history_length();
            let blocking = params.is_blocking();
            let task = begin(agent, knobs, params).await?;
            if blocking {
                task.ended().await;
            }
            Ok(Answer::One(task.view(Instant::now(), history)))
        }
        "message/stream" => {
            let task = begin(agent, knobs, call.params()?).await?;
            Ok(Answer::Stream(task.updates_from_start().boxed()))
        }
        "tasks/get" => {
            let params: TaskParams = call.params()?;
            let task = agent.tasks().get(&params.id).await.ok_or(Error::TaskNotFound)?;
            Ok(Answer::One(task.view(Instant::now(), params.history_length)))
        }
        "tasks/cancel" => {
            let params: TaskParams = call.params()?;
            let task = agent.tasks().get(&params.id).await.ok_or(Error::TaskNotFound)?;
            if !task.cancel(Instant::now()) {
                return Err(Error::TaskNotCancelable);
            }
            Ok(Answer::One(task.view(Instant::now(), params.history_length)))
        }
        "tasks/resubscribe" => {
            let params: TaskParams = call.params()?;
            let task = agent.tasks().get(&params.id).await.ok_or(Error::TaskNotFound)?;
            Ok(Answer::Stream(task.updates_from_now().boxed()))
        }
        method if method.starts_with("tasks/pushNotificationConfig/") => {
            Err(Error::PushNotificationNotSupported)
        }
        "agent/getAuthenticatedExtendedCard" => Err(Error::ExtendedCardNotConfigured),
        _ => Err(Error::MethodNotFound),
    }
}

/// Starts the task that answers a message.
async fn begin(agent: &Agent, knobs: &Knobs, params: SendParams) -> Result<Arc<Task>, Error> {
    let message = params.message;
    if let Some(id) = &message.task_id {
        // A task here answers one message, so it never waits for another.
        let known = agent.tasks().get(id).await.is_some();
        return Err(if known { Error::UnsupportedOperation } else { Error::TaskNotFound });
    }
    let words = reply(agent.name(), &message.text().ok_or(Error::ContentTypeNotSupported)?);
    let script = Script { words, delay: knobs.delay, pace: knobs.pace.unwrap_or(agent.pace()) };
    let task = Arc::new(Task::new(message, script, Instant::now()));
    agent.tasks().insert(Arc::clone(&task)).await;
    Ok(task)
}
