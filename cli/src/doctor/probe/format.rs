//! The two formats of the probe's streams, and the messages in each, taken apart as they come in.
//!
//! Pure. Bounded: more than [`MAX_LINE`] bytes without an end of line are dropped.

use serde::Deserialize;

use crate::sse::Events;

/// Most bytes of a line that are held; the gateway's have less than 100.
const MAX_LINE: usize = 64 * 1024;

/// How a stream is written. What stands in front may treat one otherwise than the other: the gateway puts
/// `X-Accel-Buffering: no` on events alone, as it does for agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Sse,
    Ndjson,
}

/// What a message says.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Said {
    #[serde(default)]
    pub(super) sent_unix_ms: u64,
    pub(super) after_silence_ms: Option<u64>,
}

/// Messages out of bytes.
#[derive(Debug)]
pub(super) enum Messages {
    Sse(Events),
    Ndjson(Vec<u8>),
}

// === impl Format ===

impl Format {
    /// As the probe's parameter has it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sse => "sse",
            Self::Ndjson => "ndjson",
        }
    }

    /// As `Accept` and `Content-Type` have it.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Sse => "text/event-stream",
            Self::Ndjson => "application/x-ndjson",
        }
    }

    /// A parser at the begin of a stream.
    pub(super) fn messages(self) -> Messages {
        match self {
            Self::Sse => Messages::Sse(Events::default()),
            Self::Ndjson => Messages::Ndjson(Vec::new()),
        }
    }
}

// === impl Messages ===

impl Messages {
    /// Every message that `bytes` complete; one that is not the gateway's says nothing.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Said> {
        let texts = match self {
            Self::Sse(events) => events.push(bytes),
            Self::Ndjson(line) => lines(line, bytes),
        };
        texts.iter().map(|text| serde_json::from_str(text).unwrap_or_default()).collect()
    }
}

fn lines(held: &mut Vec<u8>, bytes: &[u8]) -> Vec<String> {
    held.extend_from_slice(bytes);
    let Some(end) = held.iter().rposition(|byte| *byte == b'\n') else {
        if held.len() > MAX_LINE {
            held.clear();
        }
        return Vec::new();
    };
    let whole: Vec<u8> = held.drain(..=end).collect();
    let lines = whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| String::from_utf8_lossy(line).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sent(format: Format, parts: &[&[u8]]) -> Vec<u64> {
        let mut messages = format.messages();
        parts.iter().flat_map(|part| messages.push(part)).map(|said| said.sent_unix_ms).collect()
    }

    #[test]
    fn both_formats_say_the_same() {
        let sse =
            b"id: 1\ndata: {\"sequence\":1,\"sentUnixMs\":7}\n\ndata: {\"sequence\":2,\"sentUnixMs\":8}\n\n";
        let ndjson = b"{\"sequence\":1,\"sentUnixMs\":7}\n{\"sequence\":2,\"sentUnixMs\":8}\n";
        assert_eq!(sent(Format::Sse, &[sse]), [7, 8]);
        assert_eq!(sent(Format::Ndjson, &[ndjson]), [7, 8]);
        let last = Format::Ndjson.messages().push(b"{\"afterSilenceMs\":3}\n");
        assert_eq!(last[0].after_silence_ms, Some(3));
    }

    proptest! {
        #[test]
        fn lines_may_be_cut_anywhere(cuts in prop::collection::vec(0_usize..60, 0..6)) {
            let text = b"{\"sentUnixMs\":1}\n{\"sentUnixMs\":2}\n\n{\"sentUnixMs\":3}\n";
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let parts: Vec<&[u8]> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            prop_assert_eq!(sent(Format::Ndjson, &parts), [1, 2, 3]);
        }
    }

    #[test]
    fn an_endless_line_is_not_held() {
        let mut messages = Format::Ndjson.messages();
        for _ in 0..10 {
            messages.push(&vec![b'x'; MAX_LINE]);
        }
        let Messages::Ndjson(held) = &messages else { unreachable!("it was made so") };
        assert!(held.len() <= MAX_LINE);
    }
}
