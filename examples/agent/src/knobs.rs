//! Knobs: what a caller asks an answer to be like.
//!
//! Each is given in the query (`?delay=1s`) or as a header (`x-agent-delay: 1s`); the query wins over the header.
//! Parsed once per call; what comes out is within bounds. [`KNOBS`] is the one list: parsing walks it, and the
//! table in the README is tested against it. Other names in a query belong to the caller and are left alone.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

/// Longest time a knob may ask for. Long enough to outlast every timeout under test.
const MAX_TIME: Duration = Duration::from_hours(24);
/// Most chunks of one answer.
const MAX_CHUNKS: u32 = 10_000_000;
/// Largest chunk in bytes. Held once per answer, whatever the number of chunks.
const MAX_SIZE_BYTES: usize = 16 << 20;

const HEADER_PREFIX: &str = "x-agent-";

/// One knob, as it is told to people and as it is read.
#[derive(Debug, Clone, Copy)]
pub struct Knob {
    /// Name in the query; as a header, `x-agent-` stands before it.
    pub name: &'static str,
    /// The values it takes.
    pub takes: &'static str,
    /// What it does.
    pub does: &'static str,
    /// Stores a value; `None` when the value is not one of those it takes.
    set: fn(&mut Knobs, &str) -> Option<()>,
}

/// Every knob there is.
pub const KNOBS: &[Knob] = &[
    Knob {
        name: "delay",
        takes: "a time such as `250ms`",
        does: "wait before the first byte, after the request's body was read",
        set: |knobs, text| duration(text).map(|delay| knobs.delay = delay),
    },
    Knob {
        name: "chunks",
        takes: "0 to 10000000",
        does: "send that many chunks of filler instead of the report; default 1 with `size`, 10 with `sse`",
        set: |knobs, text| number(text).filter(|n| *n <= MAX_CHUNKS).map(|n| knobs.chunks = Some(n)),
    },
    Knob {
        name: "size",
        takes: "1 to 16777216",
        does: "bytes of a chunk, or of an event's padding with `sse`; default 64, and no padding",
        set: |knobs, text| {
            let bytes = number(text).and_then(|n| usize::try_from(n).ok());
            bytes.filter(|n| (1..=MAX_SIZE_BYTES).contains(n)).map(|n| knobs.size = Some(n))
        },
    },
    Knob {
        name: "pace",
        takes: "a time such as `250ms`",
        does: "wait between two chunks, events or words, and before an abort",
        set: |knobs, text| duration(text).map(|pace| knobs.pace = Some(pace)),
    },
    Knob {
        name: "status",
        takes: "200 to 599",
        does: "status of the answer",
        set: |knobs, text| {
            let code = number(text).and_then(|n| u16::try_from(n).ok()).filter(|n| (200..=599).contains(n));
            code.and_then(|n| StatusCode::from_u16(n).ok()).map(|status| knobs.status = status)
        },
    },
    Knob {
        name: "abort",
        takes: "`head`, or a number",
        does: "break the answer off: before its head, or after that many chunks (at the latest after the last)",
        set: |knobs, text| {
            let abort = match text {
                "head" => Some(Abort::BeforeHead),
                text => number(text).map(Abort::AfterChunks),
            };
            abort.map(|abort| knobs.abort = Some(abort))
        },
    },
    Knob {
        name: "cut",
        takes: "`close` or `reset`",
        does: "how an HTTP/1 connection ends at an abort; default `close`. HTTP/2 resets the stream",
        set: |knobs, text| {
            let reset = match text {
                "close" => Some(false),
                "reset" => Some(true),
                _ => None,
            };
            reset.map(|reset| knobs.reset = reset)
        },
    },
    Knob {
        name: "sse",
        takes: "`0` or `1`",
        does: "send server-sent events with a sequence number and the time of sending",
        set: |knobs, text| switch(text).map(|sse| knobs.sse = Some(sse)),
    },
    Knob {
        name: "length",
        takes: "`0` or `1`",
        does: "send a Content-Length; default `1` for the report, else `0`; not with events",
        set: |knobs, text| switch(text).map(|length| knobs.length = Some(length)),
    },
    Knob {
        name: "read-pace",
        takes: "a time such as `250ms`",
        does: "wait after each piece of the request's body that is read",
        set: |knobs, text| duration(text).map(|pace| knobs.read_pace = pace),
    },
];

/// What one answer is to be like. Within bounds by construction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Knobs {
    pub(crate) delay: Duration,
    pub(crate) chunks: Option<u32>,
    pub(crate) size: Option<usize>,
    pub(crate) pace: Option<Duration>,
    pub(crate) status: StatusCode,
    pub(crate) abort: Option<Abort>,
    /// End an aborted HTTP/1 connection by a reset, not by a close.
    pub(crate) reset: bool,
    pub(crate) sse: Option<bool>,
    pub(crate) length: Option<bool>,
    pub(crate) read_pace: Duration,
}

/// Where an answer breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Abort {
    BeforeHead,
    AfterChunks(u32),
}

/// A knob that cannot be obeyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadKnob {
    #[error("{knob}: expected {takes}")]
    Value { knob: &'static str, takes: &'static str },
    #[error("{knob}: given more than once")]
    Repeated { knob: &'static str },
    #[error("{knob}: no such knob")]
    Unknown { knob: String },
    #[error("{knob}: the length of events is not known beforehand")]
    LengthOfEvents { knob: &'static str },
}

// === impl Knobs ===

impl Default for Knobs {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            chunks: None,
            size: None,
            pace: None,
            status: StatusCode::OK,
            abort: None,
            reset: false,
            sse: None,
            length: None,
            read_pace: Duration::ZERO,
        }
    }
}

impl Knobs {
    /// Reads the knobs of one call.
    ///
    /// # Errors
    /// A value out of bounds, a knob given twice in one place, or a header `x-agent-…` that is none.
    pub(crate) fn parse(headers: &HeaderMap, query: Option<&str>) -> Result<Self, BadKnob> {
        let mut knobs = Self::default();
        for name in headers.keys() {
            let Some(name) = name.as_str().strip_prefix(HEADER_PREFIX) else { continue };
            if !KNOBS.iter().any(|knob| knob.name == name) {
                return Err(BadKnob::Unknown { knob: format!("{HEADER_PREFIX}{name}") });
            }
        }
        let pairs: Vec<_> = query
            .unwrap_or_default()
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .collect();
        for knob in KNOBS {
            let header = headers.get_all(format!("{HEADER_PREFIX}{}", knob.name));
            // A value that is not text is none that any knob takes, and neither is the empty one.
            let header = header.iter().map(|value| value.to_str().unwrap_or_default());
            let query = pairs.iter().filter(|(name, _)| *name == knob.name).map(|(_, value)| *value);
            if let Some(value) = knob.only(query)?.or(knob.only(header)?) {
                let bad = BadKnob::Value { knob: knob.name, takes: knob.takes };
                (knob.set)(&mut knobs, value).ok_or(bad)?;
            }
        }
        Ok(knobs)
    }
}

// === impl Knob ===

impl Knob {
    fn only<'a>(&self, mut values: impl Iterator<Item = &'a str>) -> Result<Option<&'a str>, BadKnob> {
        let first = values.next();
        match values.next() {
            None => Ok(first),
            Some(_) => Err(BadKnob::Repeated { knob: self.name }),
        }
    }
}

// === impl BadKnob ===

impl BadKnob {
    /// The knob's name, as the caller wrote it.
    pub(crate) fn knob(&self) -> &str {
        match self {
            Self::Value { knob, .. } | Self::Repeated { knob } | Self::LengthOfEvents { knob } => knob,
            Self::Unknown { knob } => knob,
        }
    }
}

/// A time: a whole number and its unit, at most a day.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let amount: u64 = digits.parse().ok()?;
    let duration = match unit {
        "us" => Duration::from_micros(amount),
        "ms" => Duration::from_millis(amount),
        "s" => Duration::from_secs(amount),
        "m" => Duration::from_secs(amount.checked_mul(60)?),
        "h" => Duration::from_secs(amount.checked_mul(60 * 60)?),
        _ => return None,
    };
    (duration <= MAX_TIME).then_some(duration)
}

/// Digits only: the standard parser would take a `+` as well, which means a space in a query.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn switch(text: &str) -> Option<bool> {
    match text {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
