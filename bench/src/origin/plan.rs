//! What a request asks of the origin. Pure: a method and a target become a [`Plan`], and a plan the pieces of its answer.

use std::time::Duration;

/// The largest answer that may be asked for, in bytes.
pub const MAX_BYTES: usize = 256 << 20;

/// How large the answer to a POST is that does not say so.
pub const DEFAULT_JSON: usize = 1024;

/// The largest `pad` of an event, in bytes.
const MAX_PAD: usize = 1 << 20;

/// What to answer, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// How long to wait before the first byte.
    pub delay: Duration,
    /// What to answer then.
    pub answer: Answer,
}

/// What to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// So many bytes of [`super::body::pattern`].
    Bytes(usize),
    /// A JSON document of so many bytes that says how many came with the request.
    Json(usize),
    /// A stream of events.
    Events(Events),
    /// A stream with one event, and then silence.
    Hold,
    /// The request as it arrived: target and headers, as JSON.
    Echo,
    /// A WebSocket that sends back what it receives.
    WebSocket,
    /// There is nothing of that name.
    NotFound,
    /// A parameter is no number, or too large.
    BadRequest,
}

/// A stream of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Events {
    /// Between two of them. Timers go by milliseconds; what is below comes in bursts, one write each all the same.
    pub interval: Duration,
    /// How many; `None`: until the client leaves.
    pub count: Option<u64>,
    /// Bytes that each carries besides its number and time.
    pub pad: usize,
}

/// The parameters of a target, as far as anybody asks for them.
#[derive(Debug, Default)]
struct Parameters {
    bytes: Option<usize>,
    interval_us: Option<u64>,
    count: Option<u64>,
    pad: Option<usize>,
    delay_ms: Option<u64>,
}

/// A parameter that is no number.
struct NotANumber;

// === impl Plan ===

impl Plan {
    /// What `method` with this target (a path, with or without a query) asks for.
    #[must_use]
    pub fn of(method: &str, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let Ok(parameters) = Parameters::parse(query) else {
            return Self { delay: Duration::ZERO, answer: Answer::BadRequest };
        };
        let delay = Duration::from_millis(parameters.delay_ms.unwrap_or(0));
        Self { delay, answer: answer(method, path, &parameters) }
    }
}

fn answer(method: &str, path: &str, parameters: &Parameters) -> Answer {
    if method == "POST" {
        return sized(parameters.bytes.unwrap_or(DEFAULT_JSON), Answer::Json);
    }
    if let Some(bytes) = path.strip_prefix("/bytes/") {
        return bytes.parse().map_or(Answer::BadRequest, |bytes| sized(bytes, Answer::Bytes));
    }
    match path {
        "/events" => {
            let pad = parameters.pad.unwrap_or(0);
            let interval = Duration::from_micros(parameters.interval_us.unwrap_or(1_000_000));
            let count = parameters.count.filter(|count| *count > 0);
            if pad > MAX_PAD { Answer::BadRequest } else { Answer::Events(Events { interval, count, pad }) }
        }
        "/hold" => Answer::Hold,
        "/echo" => Answer::Echo,
        "/ws" => Answer::WebSocket,
        _ => Answer::NotFound,
    }
}

fn sized(bytes: usize, answer: impl Fn(usize) -> Answer) -> Answer {
    if bytes > MAX_BYTES { Answer::BadRequest } else { answer(bytes) }
}

// === impl Parameters ===

impl Parameters {
    /// Those of others are passed over.
    fn parse(query: &str) -> Result<Self, NotANumber> {
        let mut parameters = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "bytes" => parameters.bytes = Some(number(value)?),
                "interval_us" => parameters.interval_us = Some(number(value)?),
                "count" => parameters.count = Some(number(value)?),
                "pad" => parameters.pad = Some(number(value)?),
                "delay_ms" => parameters.delay_ms = Some(number(value)?),
                _ => {}
            }
        }
        Ok(parameters)
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, NotANumber> {
    text.parse().map_err(|_| NotANumber)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn plan(method: &str, target: &str, delay_ms: u64, answer: Answer) {
        let delay = Duration::from_millis(delay_ms);
        assert_eq!(Plan::of(method, target), Plan { delay, answer }, "{method} {target}");
    }

    #[test]
    fn a_target_says_what_is_answered() {
        plan("GET", "/bytes/1024", 0, Answer::Bytes(1024));
        plan("GET", "/bytes/0?delay_ms=20", 20, Answer::Bytes(0));
        plan("POST", "/anything/at/all", 0, Answer::Json(DEFAULT_JSON));
        plan("POST", "/?bytes=64&delay_ms=1&other=x", 1, Answer::Json(64));
        plan("GET", "/hold", 0, Answer::Hold);
        plan("GET", "/ws", 0, Answer::WebSocket);
        plan("GET", "/echo?a=b", 0, Answer::Echo);
        let every_second = Events { interval: Duration::from_secs(1), count: None, pad: 0 };
        plan("GET", "/events", 0, Answer::Events(every_second));
        plan("GET", "/events?count=0", 0, Answer::Events(every_second));
        let ten = Events { interval: Duration::from_micros(1500), count: Some(10), pad: 32 };
        plan("GET", "/events?interval_us=1500&count=10&pad=32", 0, Answer::Events(ten));
    }

    #[test]
    fn what_is_wrong_or_too_much_is_refused() {
        plan("GET", "/v1/agents/team-0/agent-0/bytes/1", 0, Answer::NotFound);
        plan("GET", "/bytes/", 0, Answer::BadRequest);
        plan("GET", "/bytes/-1", 0, Answer::BadRequest);
        plan("GET", "/bytes/1?delay_ms=soon", 0, Answer::BadRequest);
        plan("GET", &format!("/bytes/{}", MAX_BYTES + 1), 0, Answer::BadRequest);
        plan("POST", &format!("/?bytes={}", MAX_BYTES + 1), 0, Answer::BadRequest);
        plan("GET", &format!("/events?pad={}", MAX_PAD + 1), 0, Answer::BadRequest);
    }
}
