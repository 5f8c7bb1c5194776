//! `/stream`: an answer spoken word by word, as a model's tokens would come.
//!
//! Any method. The body, where there is one, is what the agent is told; it is part of the answer. Server-sent
//! events unless `sse=0` asks for plain text.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};

use crate::answer::{self, Content};
use crate::echo::{ReceivedBody, bad_request, connection};
use crate::knobs::Knobs;
use crate::routes::Agent;

/// Words of an answer at most: together with the size of what an agent is told, the bound of what it holds.
const MAX_WORDS: usize = 4096;

pub(crate) async fn stream(State(agent): State<Arc<Agent>>, request: Request) -> Response {
    let knobs = match Knobs::parse(request.headers(), request.uri().query()) {
        Ok(knobs) => knobs,
        Err(bad) => return bad_request(&bad),
    };
    let (version, connection) = (request.version(), connection(&request));
    let body = match ReceivedBody::read(request.into_body(), knobs.read_pace).await {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    let words = reply(agent.name(), &body.text().unwrap_or_default());
    let content = Content::Words {
        count: knobs.chunks.unwrap_or(u32::try_from(words.len()).unwrap_or(u32::MAX)),
        words: words.into(),
        sse: knobs.sse.unwrap_or(true),
    };
    let knobs = Knobs { pace: knobs.pace.or(Some(agent.pace())), ..knobs };
    answer::respond(content, &knobs, connection, version).await
}

/// What the agent `name` answers to `text`, word by word.
pub(crate) fn reply(name: &str, text: &str) -> Vec<String> {
    let opening = match text.trim() {
        "" => format!("Hello, this is {name}, an example agent behind Krypton."),
        text => format!("This is {name}. You said: {text}"),
    };
    let closing =
        "Every word of this answer left the agent on its own and reached you the moment it was spoken.";
    [opening.as_str(), closing]
        .iter()
        .flat_map(|part| part.split_whitespace())
        .take(MAX_WORDS)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_holds_what_was_said_and_is_bounded() {
        assert_eq!(reply("a", " one  two\n")[..7].join(" "), "This is a. You said: one two");
        assert_eq!(reply("a", " ")[..4].join(" "), "Hello, this is a,");
        assert_eq!(reply("a", &"word ".repeat(10_000)).len(), MAX_WORDS);
    }
}
