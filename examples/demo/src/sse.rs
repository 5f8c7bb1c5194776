//! Server-sent events from the pieces of a body, however they were cut: pure.

use anyhow::ensure;

/// The largest event that is taken; the agents of the tour send less than a kilobyte.
const MAX_EVENT_BYTES: usize = 1 << 20;

/// Puts events together.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// The line that has not ended yet.
    line: Vec<u8>,
    /// The data lines of the event that has not ended yet.
    data: String,
}

// === impl Parser ===

impl Parser {
    /// Takes the next piece; gives the data of the events that are whole with it. Events without data and fields
    /// other than `data` are passed over. Lines end with LF or CRLF.
    ///
    /// # Errors
    /// An event is too large, or not UTF-8.
    pub(crate) fn push(&mut self, piece: &[u8]) -> anyhow::Result<Vec<String>> {
        let mut events = Vec::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            ensure!(self.line.len() + self.data.len() <= MAX_EVENT_BYTES, "an event above 1 MiB");
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                events.extend(self.take_line(std::str::from_utf8(&line)?.trim_end_matches(['\r', '\n'])));
            }
        }
        Ok(events)
    }

    fn take_line(&mut self, line: &str) -> Option<String> {
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            return (!data.is_empty()).then_some(data);
        }
        if let Some(data) = line.strip_prefix("data:") {
            if !self.data.is_empty() {
                self.data.push('\n');
            }
            self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str =
        ": hello\n\nid: 1\ndata: {\"a\":1}\n\nevent: x\r\ndata: é\r\ndata:two\r\n\r\ndata: cut";

    #[test]
    fn events_come_out_whole_however_the_body_was_cut() {
        for size in 1..BODY.len() {
            let mut parser = Parser::default();
            let pieces = BODY.as_bytes().chunks(size);
            let events: Vec<_> = pieces.flat_map(|piece| parser.push(piece).unwrap()).collect();
            assert_eq!(events, ["{\"a\":1}", "é\ntwo"], "in pieces of {size}");
        }
    }

    #[test]
    fn what_is_no_event_is_refused() {
        assert!(Parser::default().push(b"data: \xff\n").is_err());
        let mut parser = Parser::default();
        let endless = vec![b'x'; MAX_EVENT_BYTES];
        assert!(parser.push(&endless).is_ok());
        assert!(parser.push(b"x").is_err());
    }
}
