//! What a synthetic stream says and when: from a query to messages. Pure: reads no clock.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;

/// `events`: ten minutes of one a second.
pub const EVENTS: RangeInclusive<u32> = 1..=600;
/// `interval`, milliseconds: below 10 the network would be measured, above a minute `silence` says it better.
pub const INTERVAL_MS: RangeInclusive<u32> = 10..=60_000;
/// `silence`, milliseconds: a quarter of an hour, above the read timeout of any ingress that is set with care.
pub const SILENCE_MS: RangeInclusive<u32> = 1..=900_000;
/// `events` where it is not given.
pub const DEFAULT_EVENTS: u32 = 10;
/// `interval` where it is not given.
pub const DEFAULT_INTERVAL_MS: u32 = 1_000;

/// Why a synthetic stream is not given. Each sentence names the parameter and what it may be; none holds a word of
/// the client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProbeProblem {
    /// Out of [`EVENTS`], or no number.
    #[error("events must be a whole number from {} to {}", EVENTS.start(), EVENTS.end())]
    Events,
    /// Out of [`INTERVAL_MS`], or no number.
    #[error("interval must be a whole number of milliseconds from {} to {}", INTERVAL_MS.start(), INTERVAL_MS.end())]
    Interval,
    /// Out of [`SILENCE_MS`], or no number.
    #[error("silence must be a whole number of milliseconds from {} to {}", SILENCE_MS.start(), SILENCE_MS.end())]
    Silence,
    /// No format that there is.
    #[error("format must be sse or ndjson")]
    Format,
    /// A silence is a stream of its own.
    #[error("silence cannot go together with events or interval")]
    Mixed,
    /// One parameter several times.
    #[error("each of events, interval, silence and format may be given once")]
    Repeated,
    /// A parameter that there is not.
    #[error(
        "the stream of the probe takes the parameters events, interval, silence and format, and no other"
    )]
    Unknown,
    /// The request has a body.
    #[error("the stream of the probe takes no request body")]
    Body,
}

/// How the messages are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::proxy) enum Format {
    /// `text/event-stream`, with the header that keeps nginx from buffering, as agents' event streams have it.
    #[default]
    Sse,
    /// `application/x-ndjson` without it, as agents' other streams are.
    Ndjson,
}

/// A stream that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) struct StreamPlan {
    pub(in crate::proxy) format: Format,
    pace: Pace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// So many events, one each interval.
    Steady { events: u32, interval: Duration },
    /// One event, silence, and what ends it.
    Silent(Duration),
}

/// One message of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) struct Message {
    /// When it is due, from the stream's begin.
    pub(in crate::proxy) at: Duration,
    says: Says,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Sequence(u32),
    EndOfSilence,
}

// === impl StreamPlan ===

impl StreamPlan {
    /// The stream that `query` asks for; it begins with its `?` where there is one.
    ///
    /// # Errors
    /// The first parameter that cannot be.
    pub(in crate::proxy) fn parse(query: &[u8]) -> Result<Self, ProbeProblem> {
        let (mut events, mut interval, mut silence, mut format) = (None, None, None, None);
        let query = query.strip_prefix(b"?").unwrap_or(query);
        for pair in query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            let (name, value) = (&pair[..end], pair.get(end + 1..).unwrap_or_default());
            let had_one = match name {
                b"events" => events.replace(number(value, &EVENTS).ok_or(ProbeProblem::Events)?).is_some(),
                b"interval" => {
                    interval.replace(number(value, &INTERVAL_MS).ok_or(ProbeProblem::Interval)?).is_some()
                }
                b"silence" => {
                    silence.replace(number(value, &SILENCE_MS).ok_or(ProbeProblem::Silence)?).is_some()
                }
                b"format" => format.replace(Format::parse(value).ok_or(ProbeProblem::Format)?).is_some(),
                _ => return Err(ProbeProblem::Unknown),
            };
            if had_one {
                return Err(ProbeProblem::Repeated);
            }
        }
        let pace = match silence {
            Some(_) if events.is_some() || interval.is_some() => return Err(ProbeProblem::Mixed),
            Some(silence) => Pace::Silent(millis(silence)),
            None => Pace::Steady {
                events: events.unwrap_or(DEFAULT_EVENTS),
                interval: millis(interval.unwrap_or(DEFAULT_INTERVAL_MS)),
            },
        };
        Ok(Self { format: format.unwrap_or_default(), pace })
    }

    /// All messages, in their order.
    pub(in crate::proxy) fn messages(self) -> impl Iterator<Item = Message> {
        let (count, step) = match self.pace {
            Pace::Steady { events, interval } => (events, interval),
            Pace::Silent(silence) => (2, silence),
        };
        (0..count).map(move |index| {
            let is_end_of_silence = matches!(self.pace, Pace::Silent(_)) && index > 0;
            let says = if is_end_of_silence { Says::EndOfSilence } else { Says::Sequence(index + 1) };
            Message { at: step * index, says }
        })
    }
}

// === impl Message ===

impl Message {
    /// Its bytes at `unix_ms`, when the message before it was written `silence_ms` ago.
    pub(in crate::proxy) fn encode(self, format: Format, unix_ms: u128, silence_ms: u128) -> Bytes {
        let text = match (self.says, format) {
            (Says::Sequence(number), Format::Sse) => {
                format!("id: {number}\ndata: {{\"sequence\":{number},\"sentUnixMs\":{unix_ms}}}\n\n")
            }
            (Says::Sequence(number), Format::Ndjson) => {
                format!("{{\"sequence\":{number},\"sentUnixMs\":{unix_ms}}}\n")
            }
            (Says::EndOfSilence, Format::Sse) => format!("data: {{\"afterSilenceMs\":{silence_ms}}}\n\n"),
            (Says::EndOfSilence, Format::Ndjson) => format!("{{\"afterSilenceMs\":{silence_ms}}}\n"),
        };
        text.into()
    }
}

// === impl Format ===

impl Format {
    fn parse(value: &[u8]) -> Option<Self> {
        match value {
            b"sse" => Some(Self::Sse),
            b"ndjson" => Some(Self::Ndjson),
            _ => None,
        }
    }

    /// The `Content-Type` of an answer in it.
    pub(in crate::proxy) fn content_type(self) -> &'static str {
        match self {
            Self::Sse => "text/event-stream",
            Self::Ndjson => "application/x-ndjson",
        }
    }
}

/// Digits only: `parse` alone would take a sign.
fn number(value: &[u8], range: &RangeInclusive<u32>) -> Option<u32> {
    let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok().filter(|number| range.contains(number))
}

fn millis(count: u32) -> Duration {
    Duration::from_millis(count.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(query: &str) -> Vec<(u128, String)> {
        let plan = StreamPlan::parse(query.as_bytes()).unwrap();
        let text = |message: Message| {
            String::from_utf8(message.encode(plan.format, 1_700_000_000_000, 31).to_vec()).unwrap()
        };
        plan.messages().map(|message| (message.at.as_millis(), text(message))).collect()
    }

    #[test]
    fn events_come_one_each_interval() {
        let expected = |number| {
            format!("id: {number}\ndata: {{\"sequence\":{number},\"sentUnixMs\":1700000000000}}\n\n")
        };
        let steady = said("?events=3&interval=250");
        assert_eq!(steady, [(0, expected(1)), (250, expected(2)), (500, expected(3))]);
        let ordinary = said("");
        assert_eq!((ordinary.len(), ordinary[9].0), (10, 9000));
        assert_eq!(said("?"), ordinary);
    }

    #[test]
    fn a_silence_is_between_two_messages() {
        let silent = said("?silence=30&format=sse");
        assert_eq!((silent.len(), silent[0].0), (2, 0));
        assert!(silent[0].1.starts_with("id: 1\ndata: {\"sequence\":1,"), "{silent:?}");
        assert_eq!(silent[1], (30, "data: {\"afterSilenceMs\":31}\n\n".to_owned()));
    }

    #[test]
    fn ndjson_is_the_same_json_a_line() {
        for query in ["?events=2&interval=10", "?silence=5"] {
            let data = |(at, text): &(u128, String)| {
                let json =
                    text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or(text.trim_end());
                (*at, serde_json::from_str::<serde_json::Value>(json).unwrap())
            };
            let (sse, lines) = (said(query), said(&format!("{query}&format=ndjson")));
            assert_eq!(sse.iter().map(data).collect::<Vec<_>>(), lines.iter().map(data).collect::<Vec<_>>());
            assert!(lines.iter().all(|(_, line)| line.ends_with("}\n") && line.lines().count() == 1));
        }
    }

    #[test]
    fn the_ends_of_the_ranges_are_in_them() {
        for query in
            ["events=1", "events=600", "interval=10", "interval=60000", "silence=1", "silence=900000"]
        {
            assert!(StreamPlan::parse(query.as_bytes()).is_ok(), "{query}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (query, problem) in [
            ("?events=0", ProbeProblem::Events),
            ("?events=601", ProbeProblem::Events),
            ("?events=", ProbeProblem::Events),
            ("?events", ProbeProblem::Events),
            ("?events=+1", ProbeProblem::Events),
            ("?events=99999999999999999999", ProbeProblem::Events),
            ("?interval=9", ProbeProblem::Interval),
            ("?interval=60001", ProbeProblem::Interval),
            ("?interval=1s", ProbeProblem::Interval),
            ("?silence=0", ProbeProblem::Silence),
            ("?silence=900001", ProbeProblem::Silence),
            ("?silence=-1", ProbeProblem::Silence),
            ("?format=json", ProbeProblem::Format),
            ("?silence=10&events=2", ProbeProblem::Mixed),
            ("?interval=10&silence=10", ProbeProblem::Mixed),
            ("?events=1&events=1", ProbeProblem::Repeated),
            ("?accel=0", ProbeProblem::Unknown),
            ("?Events=1", ProbeProblem::Unknown),
        ] {
            assert_eq!(StreamPlan::parse(query.as_bytes()), Err(problem), "{query}");
        }
    }
}
